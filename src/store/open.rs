//! Opening and closing a store.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, RwLock, Weak};
use std::time::Duration;

use redb::{ReadableDatabase, TableError};
use tokio::sync::Notify;

use super::around::{Around, Uses};
use super::blob::Leases;
use super::budget::Budget;
use super::disk::{Disk, create_dir, network_file_system};
use super::error::{Failure, StoreError};
#[cfg(test)]
use super::faults::Faults;
use super::handle::Handle;
use super::index::queue::IndexQueue;
use super::index::{self, reads};
use super::lent::Lent;
use super::lock::Refused;
use super::memory::Memory;
use super::open_error::{OpenError, at_database, at_open};
use super::room::{Evicted, Keeps, TellEvicted};
use super::settings::{Settings, Shares};
use super::volume::Neighbours;
use super::volumes::Volumes;
use crate::model::{EntryKey, Timestamp};

/// The store of one data directory. Cheap to clone; see the [module's documentation](super).
#[derive(Clone)]
pub struct Store(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub disk: Arc<Disk>,
    pub budget: Arc<Budget>,
    /// Held by whoever has something go.
    pub making_room: tokio::sync::Mutex<()>,
    pub evicted: Evicted,
    pub tell_evicted: OnceLock<TellEvicted>,
    /// What never goes, beside what the index says.
    pub spared: RwLock<Vec<Weak<Keeps>>>,
    pub rewrite_rate: u64,
    pub index: Arc<Handle>,
    pub queue: IndexQueue,
    pub volumes: Arc<Volumes>,
    pub lent: Lent,
    pub neighbours: Neighbours,
    pub memory: Arc<Memory>,
    pub marks: Mutex<HashMap<EntryKey, Timestamp>>,
    pub uses: Arc<Uses>,
    pub partial_expiry: Duration,
    /// What callers' credentials are hashed with.
    pub grant_key: [u8; 32],
    pub closed: AtomicBool,
}

impl Store {
    /// Opens the store, and creates it if the directory is empty or missing. Blocks.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(settings: Settings, now: Timestamp) -> Result<Self, OpenError> {
        #[cfg(not(test))]
        let disk = Disk::new(settings.dir.clone(), settings.min_free_bytes);
        #[cfg(test)]
        let disk = Disk::new(settings.dir.clone(), settings.min_free_bytes, Faults::default());
        Self::open_on(disk, &settings, now)
    }

    #[cfg(test)]
    pub(super) fn open_with(settings: &Settings, now: Timestamp, faults: Faults) -> Result<Self, OpenError> {
        Self::open_on(Disk::new(settings.dir.clone(), settings.min_free_bytes, faults), settings, now)
    }

    fn open_on(disk: Disk, settings: &Settings, now: Timestamp) -> Result<Self, OpenError> {
        let dir = disk.dir().to_owned();
        match network_file_system(&dir) {
            Ok(None) => {}
            Ok(Some(kind)) => return Err(OpenError::NetworkFileSystem { kind, dir }),
            Err(e) => return Err(OpenError::Io { file: dir, source: e.into() }),
        }
        create_dir(&dir).map_err(|io| OpenError::Create { dir: dir.clone(), io })?;
        disk.lock().map_err(|e| match e {
            Refused::Owned(pid) => OpenError::Owned { pid, dir: dir.clone() },
            Refused::Io(e) => OpenError::Io { file: dir.join("lock"), source: e.into() },
        })?;
        let disk = Arc::new(disk);
        let (index, is_new) = open_index(&disk, settings)?;
        let index = Arc::new(index);
        let path = disk.index();
        let read = |e: StoreError| at_open(&path, e);
        let volumes = dir.join("volumes");
        create_dir(&volumes).map_err(|io| OpenError::Create { dir: volumes, io })?;
        let grant_key = index.run(index::grant_key).map_err(read)?;
        index.run(index::moves::abandon_moves).map_err(read)?;
        let numbers = index.run(reads::volumes).map_err(read)?;
        // Of an index that is new nobody knows whether another one was lost.
        if !is_new {
            remove_strays(&disk, &numbers);
        }
        let budget = Budget::new(disk.clone(), limit(&disk, &index, settings.max_bytes).map_err(read)?);
        let marks = index.run(|database| reads::marks(database, now)).map_err(read)?;
        let doomed = index.run(reads::deletions).map_err(read)?;
        let volumes = Volumes::open(
            disk.clone(),
            budget.clone(),
            settings.volume_max_bytes,
            settings.cache_bytes,
            &numbers,
        );
        let volumes = Arc::new(volumes.map_err(read)?);

        let memory = Arc::new(Memory::new(settings.small_cache_bytes));
        let leases = Leases::new(memory.clone());
        let (uses, freed) = (Arc::<Uses>::default(), Arc::<Notify>::default());
        let around = |notifier| Around {
            index: index.clone(),
            volumes: volumes.clone(),
            neighbours: Neighbours { leases: leases.clone(), index: notifier, freed: freed.clone() },
            memory: memory.clone(),
            uses: uses.clone(),
            reread: AtomicBool::new(false),
        };
        let queue = IndexQueue::start(index.clone(), around)
            .map_err(|e| OpenError::Io { file: path.clone(), source: e.into() })?;
        let neighbours = Neighbours { leases, index: queue.notifier(), freed };
        volumes.remove(&neighbours, &doomed);
        Ok(Self(Arc::new(Inner {
            disk,
            budget,
            making_room: tokio::sync::Mutex::default(),
            evicted: Evicted::default(),
            tell_evicted: OnceLock::new(),
            spared: RwLock::default(),
            rewrite_rate: settings.rewrite_rate,
            index,
            queue,
            volumes,
            lent: Lent::default(),
            neighbours,
            memory,
            marks: Mutex::new(marks),
            uses,
            partial_expiry: settings.partial_expiry,
            grant_key,
            closed: AtomicBool::new(false),
        })))
    }

    /// Writes what waits, ends the writers and closes all files. Every later call fails with
    /// [`StoreError::Closed`]. What is still being read from memory stays readable.
    pub async fn close(&self) {
        let inner = self.0.clone();
        // Threads are joined and files synced.
        let _ = tokio::task::spawn_blocking(move || inner.close()).await;
    }
}

impl Inner {
    pub(super) fn check_open(&self) -> Result<(), StoreError> {
        if self.closed.load(Ordering::Acquire) { Err(StoreError::Closed) } else { Ok(()) }
    }

    fn close(&self) {
        if self.closed.swap(true, Ordering::AcqRel) {
            return;
        }
        // Volumes first: their last removals still report to the index.
        let volumes = self.volumes.all();
        let threads: Vec<_> = volumes.iter().filter_map(|volume| volume.begin_close()).collect();
        for thread in threads {
            let _ = thread.join();
        }
        self.queue.close();
        for volume in volumes {
            volume.handle().close();
        }
        self.index.close();
        self.disk.unlock();
    }
}

impl Drop for Inner {
    /// A store that was not closed ends its threads without waiting for them. What was acknowledged is on disk.
    fn drop(&mut self) {
        if !self.closed.load(Ordering::Acquire) {
            for volume in self.volumes.all() {
                drop(volume.begin_close());
            }
            self.queue.begin_close();
        }
    }
}

/// What all files may take: what the operator says, or else 80 % of what was free at the first start.
fn limit(disk: &Disk, index: &Handle, said: Option<u64>) -> Result<u64, StoreError> {
    if let Some(said) = said {
        return Ok(said);
    }
    let found = disk.used()?.saturating_add(disk.free()? / 5 * 4);
    match index.run(|database| index::max_bytes(database, found)) {
        // On a full disk it is found anew the next time.
        Err(StoreError::NoSpace) => Ok(found),
        limit => limit,
    }
}

/// Removes files of volumes that the index does not name: of one that was created and never used, and of one that was
/// forgotten and then not removed.
fn remove_strays(disk: &Disk, numbers: &[u32]) {
    for number in disk.volumes().into_iter().filter(|number| !numbers.contains(number)) {
        if let Err(error) = disk.remove_volume(number) {
            tracing::warn!(volume = number, %error, "a volume that is not used any more cannot be removed");
        }
    }
}

/// Opens or creates the index, unless another layout is found in it; whether it was created.
fn open_index(disk: &Arc<Disk>, settings: &Settings) -> Result<(Handle, bool), OpenError> {
    let path = disk.index();
    let io = |e: io::Error| OpenError::Io { file: path.clone(), source: e.into() };
    let held = match fs::metadata(&path) {
        Ok(meta) => meta.len() > 0,
        Err(e) if e.kind() == io::ErrorKind::NotFound => false,
        Err(e) => return Err(io(e)),
    };
    // Looked at before anything is written. After a crash only opening for writing can repair the file; then the
    // layout is looked at below, and nothing but redb's own bookkeeping has changed.
    if held && let Ok(index) = disk.peek(&path) {
        let layout = layout(&index).map_err(|e| at_open(&path, e.into_error()))?;
        check_layout(disk.dir(), layout)?;
    }
    let cache = Shares::of(settings.cache_bytes, 1).index;
    let handle = Handle::open(disk.clone(), path.clone(), cache, true, None)
        .map_err(|e| at_database(disk.dir(), &path, e))?;
    match handle.run(layout).map_err(|e| at_open(&path, e))? {
        None => {
            handle.run(index::initialize).map_err(|e| at_open(&path, e))?;
            Ok((handle, true))
        }
        found => {
            check_layout(disk.dir(), found)?;
            handle.run(index::complete).map_err(|e| at_open(&path, e))?;
            Ok((handle, false))
        }
    }
}

fn check_layout(dir: &Path, found: Option<u64>) -> Result<(), OpenError> {
    match found {
        None | Some(index::LAYOUT_VERSION) => Ok(()),
        Some(found) => {
            Err(OpenError::Layout { found, supported: index::LAYOUT_VERSION, dir: dir.to_owned() })
        }
    }
}

/// The layout that an index names; `None` in one that was created and never written.
fn layout(index: &impl ReadableDatabase) -> Result<Option<u64>, Failure> {
    let txn = index.begin_read()?;
    match txn.open_table(index::META) {
        Ok(meta) => match meta.get(index::LAYOUT)? {
            Some(row) => Ok(Some(row.value())),
            None => Err(StoreError::Damaged("the index names no layout".into()).into()),
        },
        Err(TableError::TableDoesNotExist(_)) if txn.list_tables()?.next().is_none() => Ok(None),
        Err(e) => Err(e.into()),
    }
}
