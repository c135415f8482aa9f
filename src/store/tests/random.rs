//! Random operations against a model: the bound holds at every moment, space returns, and no byte is lost that nobody
//! gave up.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::OnceLock;

use super::*;
use crate::model::Pin;

const LIMIT: u64 = 24 << 20;
const REVISIONS: u64 = 8;
const PATHS: u64 = 6;
const CONTENTS: u64 = 80;

/// What the store must hold, or may have let go.
#[derive(Default)]
struct Model {
    /// Contents by revision and path.
    entries: BTreeMap<(u64, u64), u64>,
    pinned: BTreeSet<u64>,
    /// Readers, and what they read.
    readers: Vec<(Blob, u64)>,
    evicted: usize,
    refused: usize,
}

struct World {
    dir: TempDir,
    faults: Faults,
    store: Store,
    rng: fastrand::Rng,
    model: Model,
}

/// Bytes of a content; made once.
fn content(number: u64) -> Bytes {
    static MADE: OnceLock<Vec<Bytes>> = OnceLock::new();
    MADE.get_or_init(|| (0..CONTENTS).map(made).collect())[number as usize].clone()
}

/// Many small ones, and some of several chunks.
fn made(number: u64) -> Bytes {
    let len = match number % 10 {
        0 => 7,
        1 => 3_000,
        2 => 40_000,
        3 | 4 => 100_000,
        5 | 6 => 300_000,
        7 => CHUNK,
        8 => CHUNK + 1_500,
        _ => 2 * CHUNK + 70_000,
    };
    pattern(1_000 + number, len)
}

fn name((revision, path): (u64, u64)) -> EntryKey {
    key_at(&format!("r{revision}"), &format!("p{path}"))
}

impl World {
    fn new(seed: u64, has_holes: bool) -> Self {
        // Syncs cost nothing there, and blocks and holes are the same.
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let faults = Faults::default();
        if !has_holes {
            faults.forget_holes();
        }
        let store = Self::open(&dir, &faults);
        let (rng, model) = (fastrand::Rng::with_seed(seed), Model::default());
        Self { dir, faults, store, rng, model }
    }

    fn open(dir: &TempDir, faults: &Faults) -> Store {
        let settings = Settings {
            max_bytes: Some(LIMIT),
            volume_max_bytes: 5 << 20,
            rewrite_rate: u64::MAX,
            cache_bytes: 8 << 20,
            ..settings(dir)
        };
        Store::open_with(&settings, NOW, faults.clone()).unwrap()
    }

    async fn step(&mut self) {
        match self.rng.u8(0..100) {
            0..35 => self.fill().await,
            35..55 => self.read(),
            55..60 => self.begin_reading(),
            60..66 => self.end_reading(),
            66..72 => self.pin().await,
            72..80 => self.unpin().await,
            80..85 => self.evict().await,
            85..93 => self.purge().await,
            93..96 => self.leave_unfinished().await,
            96..99 => drop(self.allowed(self.store.rewrite().await)),
            _ if self.rng.u8(0..5) == 0 => self.reopen().await,
            _ => {}
        }
        let used = self.store.0.budget.used().unwrap();
        assert!(used <= LIMIT, "{used} bytes on disk");
    }

    fn some_key(&mut self) -> (u64, u64) {
        (self.rng.u64(0..REVISIONS), self.rng.u64(0..PATHS))
    }

    fn allowed<T>(&self, result: Result<T, StoreError>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(StoreError::NoSpace) => None,
            Err(e) => panic!("{e:?}"),
        }
    }

    async fn fill(&mut self) {
        let (at, number) = (self.some_key(), self.rng.u64(0..CONTENTS));
        let (bytes, key) = (content(number), name(at));
        let size = self.rng.bool().then_some(bytes.len() as u64);
        let filled = async {
            let blob = self.store.begin_partial(&key, partial(size)).await?;
            write(&self.store, &blob, &bytes).await?;
            match self.store.commit(&key, &blob, entry(&bytes), &[]).await {
                Ok(_) => Ok(()),
                Err(CommitError::Store(e)) => Err(e),
                Err(e) => panic!("{e:?}"),
            }
        };
        match filled.await {
            Ok(()) => drop(self.model.entries.insert(at, number)),
            Err(StoreError::NoSpace) => {
                self.model.refused += 1;
                self.store.discard_partial(&key).await.unwrap();
            }
            Err(e) => panic!("{e:?}"),
        }
        self.reconcile();
    }

    /// Whatever the store let go must have been free to go; everything else must be there.
    fn reconcile(&mut self) {
        let mut held = BTreeMap::new();
        let visit = &mut |key: EntryKey, entry: Entry, _| {
            held.insert((key.revision, key.path), entry.blob);
            ControlFlow::Continue(())
        };
        self.store.entries(&Selector::default(), visit).unwrap();
        let Model { entries, pinned, evicted, .. } = &mut self.model;
        let pinned: BTreeSet<u64> =
            entries.iter().filter(|(at, _)| pinned.contains(&at.0)).map(|(_, number)| *number).collect();
        entries.retain(|at, number| {
            let key = name(*at);
            let is_held = held.remove(&(key.revision, key.path));
            if is_held.is_none() {
                assert!(!pinned.contains(number), "{at:?} is pinned, or shares bytes with what is");
                *evicted += 1;
            }
            is_held.is_some()
        });
        assert!(held.is_empty(), "nobody stored {held:?}");
    }

    fn read(&mut self) {
        let at = self.some_key();
        let Some(number) = self.model.entries.get(&at) else { return };
        let bytes = content(*number);
        assert!(read(&self.store, &name(at)).unwrap() == bytes, "{at:?}");
        let uses = self.rng.u64(0..1_000_000);
        self.store.used(&digest(&bytes), Timestamp(NOW.0 + uses * 1_000));
    }

    fn begin_reading(&mut self) {
        let at = self.some_key();
        if let Some(number) = self.model.entries.get(&at).filter(|_| self.model.readers.len() < 3) {
            let blob = self.store.open_blob(&digest(&content(*number))).unwrap().unwrap();
            self.model.readers.push((blob, *number));
        }
    }

    fn end_reading(&mut self) {
        if let Some((blob, number)) = self.model.readers.pop() {
            let bytes = content(number);
            assert!(read_blob(&blob, bytes.len() as u64).unwrap() == bytes, "while {number} was read");
        }
    }

    async fn pin(&mut self) {
        let revision = self.rng.u64(0..REVISIONS);
        if self.model.pinned.len() < 2 && self.model.pinned.insert(revision) {
            let pin = Some(Pin::lasting(NOW, "a test"));
            self.store.decide(vec![Decision::Pin(name((revision, 0)), pin)]).await.unwrap();
        }
    }

    async fn unpin(&mut self) {
        if let Some(revision) = self.model.pinned.pop_first() {
            self.store.decide(vec![Decision::Pin(name((revision, 0)), None)]).await.unwrap();
        }
    }

    async fn evict(&mut self) {
        let to = self.rng.u64(LIMIT / 4..LIMIT);
        self.store.prune(Some(to), Timestamp::now(), drop).await.unwrap();
        self.reconcile();
    }

    async fn purge(&mut self) {
        let at = self.some_key();
        let EntryKey { revision, path, .. } = name(at);
        let select = Selector { revision: Some(revision), path: Some(path), ..Selector::default() };
        self.store.remove(&select).await.unwrap();
        self.model.entries.remove(&at);
        self.reconcile();
    }

    async fn leave_unfinished(&mut self) {
        let bytes = content(7);
        let key = key_at("unfinished", &self.rng.u8(0..3).to_string());
        let begun = self.store.begin_partial(&key, partial(Some(bytes.len() as u64))).await;
        if let Some(blob) = self.allowed(begun) {
            let _ = self.allowed(write(&self.store, &blob, &bytes.slice(..CHUNK)).await);
        }
        self.reconcile();
    }

    async fn reopen(&mut self) {
        self.model.readers.clear();
        self.store.close().await;
        self.store = Self::open(&self.dir, &self.faults);
        self.reconcile();
    }

    /// Everything goes, and so does its space.
    async fn end(mut self) {
        while !self.model.readers.is_empty() {
            self.end_reading();
        }
        for at in self.model.entries.keys().copied().collect::<Vec<_>>() {
            assert!(read(&self.store, &name(at)).unwrap() == content(self.model.entries[&at]), "{at:?}");
        }
        self.store.remove(&Selector::default()).await.unwrap();
        removed_but(&self.store, 0).await;
        self.store.rewrite().await.unwrap();
        let usage = self.store.usage();
        assert!(usage.volumes <= 1 && usage.disk_bytes < 5 << 20, "{usage:?}");
        assert_eq!(held(&self.store), 0);
        let Model { evicted, refused, .. } = self.model;
        assert!(evicted > 100 && refused < 1_000, "{evicted} were evicted, {refused} refused");
    }
}

async fn run(steps: usize, seed: u64, has_holes: bool) {
    let mut world = World::new(seed, has_holes);
    for _ in 0..steps {
        world.step().await;
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_operations_keep_to_the_bound_and_lose_nothing() {
    run(10_000, 1, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_where_files_have_no_holes() {
    run(1_500, 2, false).await;
}
