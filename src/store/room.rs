//! Making room: what goes when the bound is reached, or when an operator says so.
//!
//! Whoever needs room and finds none has something go first. One at a time does that, and takes what it has made
//! before others do. What is to go is chosen from one look at the index ([`crate::policy::evict`]); nothing goes if
//! all that can go would not be enough. The index forgets files and blobs in transactions that look again whether
//! somebody has begun to read or pinned them; then their volumes remove the chunks, and give the blocks back to the
//! disk. After [`ROOM_WAIT`] whoever waits is told that there is no room, while what was begun goes on.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::budget::Taken;
use super::error::StoreError;
use super::index::evictions::{self, Candidates, Gone, Subject, Victim};
use super::index::reads;
use super::open::Store;
use super::records::BlobId;
use super::reservation::{Claim, Reservation, Want};
use super::settings::{EVICT_ROWS, EVICT_SHARE, ROOM_WAIT, STEP, weight, weight_of};
use super::volumes::Refused;
use crate::model::{EntryKey, Sha256, Timestamp};
use crate::policy::evict::{Candidate, MOST_USES, Rank, Reason, evict};

/// How often room is made for one fill, when others were faster.
const ROUNDS: usize = 4;
/// How often it is looked whether what was removed has left the disk, beside every time that something has.
const POLL: Duration = Duration::from_millis(50);

/// A removal that gets no further for so long is no longer waited for.
const STUCK: Duration = Duration::from_secs(30);

/// Files that are named of one content.
pub const MOST_FILES: usize = 100;

/// Something that goes, or would.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Going {
    /// Why.
    pub reason: Reason,
    /// The files that have the bytes, up to [`MOST_FILES`] of them; of an unfinished one that.
    pub files: Vec<EntryKey>,
    /// How many there are.
    pub count: u64,
    /// Bytes of it.
    pub size_bytes: u64,
    /// Bytes on disk that it takes at most.
    pub disk_bytes: u64,
}

impl From<Victim> for Going {
    fn from(victim: Victim) -> Self {
        let Victim { reason, mut keys, size, weight, subject: _ } = victim;
        let count = keys.len() as u64;
        keys.truncate(MOST_FILES);
        Self { reason, files: keys, count, size_bytes: size, disk_bytes: weight }
    }
}

/// What an operator had go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Files.
    pub entries: u64,
    /// Bytes on disk that they took at most.
    pub bytes: u64,
    /// Bytes on disk that all files take now.
    pub used_bytes: u64,
}

/// Told of each file that went for want of room.
pub(super) type TellEvicted = Box<dyn Fn(&WentAway<'_>) + Send + Sync>;

/// A file that went for want of room.
#[derive(Clone, Copy, Debug)]
pub struct WentAway<'a> {
    /// Its name.
    pub key: &'a EntryKey,
    /// Its bytes; none of one that was not whole.
    pub blob: Option<Sha256>,
    /// How many bytes of it were here.
    pub size_bytes: u64,
    /// Why it was chosen.
    pub reason: Reason,
}

impl Victim {
    fn tell(&self, tell: &TellEvicted) {
        let blob = match &self.subject {
            Subject::Blob(sha) => Some(*sha),
            Subject::Partial(_) => None,
        };
        for key in &self.keys {
            tell(&WentAway { key, blob, size_bytes: self.size, reason: self.reason });
        }
    }
}

/// Whether a file never goes.
pub(super) type Keeps = Box<dyn Fn(&EntryKey) -> bool + Send + Sync>;

/// Some files do not go, for as long as this lives.
pub struct Spared(#[expect(dead_code, reason = "it is held")] Arc<Keeps>);

/// What went so far, by reason.
#[derive(Debug, Default)]
pub(super) struct Evicted {
    entries: [AtomicU64; Reason::ALL.len()],
    bytes: [AtomicU64; Reason::ALL.len()],
}

/// What is to go, and what was passed over.
struct Chosen {
    victims: Vec<Victim>,
    moved: Vec<(Sha256, Rank)>,
    bytes: u64,
}

impl Store {
    /// Room in a volume; usually without blocking, but a new volume is created on a thread for that, and where the
    /// bound is reached something goes first.
    pub(super) async fn reserve(&self, want: Want) -> Result<Reservation, StoreError> {
        if let Some(reserved) = self.0.volumes.choose(want) {
            return Ok(reserved);
        }
        match self.try_reserve(want).await? {
            Ok(reserved) => Ok(reserved),
            Err(_) => self.within_wait(self.make_and_reserve(want)).await,
        }
    }

    async fn make_and_reserve(&self, want: Want) -> Result<Reservation, StoreError> {
        let _alone = self.0.making_room.lock().await;
        for _ in 0..ROUNDS {
            match self.try_reserve(want).await? {
                Ok(reserved) => return Ok(reserved),
                Err(missing) => self.make_room(missing).await?,
            }
        }
        Err(StoreError::NoSpace)
    }

    /// How much is missing otherwise.
    async fn try_reserve(&self, want: Want) -> Result<Result<Reservation, u64>, StoreError> {
        let volumes = self.0.volumes.clone();
        let reserved = tokio::task::spawn_blocking(move || volumes.choose_or_create(want)).await;
        missing(reserved.map_err(|_| StoreError::Closed)?)
    }

    /// Keeps `weight` more for a fill that runs, and has something go first where that is needed.
    pub(super) async fn extend(&self, reserved: &Reservation, weight: u64) -> Result<(), StoreError> {
        if missing(self.0.volumes.extend(reserved, weight))?.is_ok() {
            return Ok(());
        }
        self.within_wait(async {
            let _alone = self.0.making_room.lock().await;
            for _ in 0..ROUNDS {
                match missing(self.0.volumes.extend(reserved, weight))? {
                    Ok(()) => return Ok(()),
                    Err(missing) => self.make_room(missing).await?,
                }
            }
            Err(StoreError::NoSpace)
        })
        .await
    }

    /// Room for a chunk out of what is kept for its fill. A file of an unknown size has room kept step by step.
    pub(super) async fn claim(&self, reserved: &Reservation, len: usize) -> Result<Claim, StoreError> {
        loop {
            if let Some(claim) = reserved.claim(len) {
                return Ok(claim);
            }
            let lacks = reserved.lacks(len);
            if self.extend(reserved, lacks.max(STEP)).await.is_err() {
                self.extend(reserved, lacks).await?;
            }
        }
    }

    /// Lets a transaction of the index add a row of `bytes`, and has something go first where that is needed. What is
    /// returned is held until it is over.
    pub(super) async fn afford(&self, bytes: usize) -> Result<Taken, StoreError> {
        let wanted = weight(bytes);
        let take = || -> Result<Result<Taken, u64>, StoreError> {
            let taken = self.0.budget.take(wanted)?;
            let missing = wanted - taken.bytes;
            Ok(if missing == 0 { Ok(taken) } else { Err(missing) })
        };
        if let Ok(taken) = take()? {
            return Ok(taken);
        }
        self.within_wait(async {
            let _alone = self.0.making_room.lock().await;
            for _ in 0..ROUNDS {
                match take()? {
                    Ok(taken) => return Ok(taken),
                    Err(missing) => self.make_room(missing).await?,
                }
            }
            Err(StoreError::NoSpace)
        })
        .await
    }

    async fn within_wait<T>(
        &self,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        tokio::time::timeout(ROOM_WAIT, work).await.unwrap_or(Err(StoreError::NoSpace))
    }

    /// Has `missing` bytes on disk go, and some more so that the next one need not look again; nothing if that cannot
    /// be had.
    async fn make_room(&self, missing: u64) -> Result<(), StoreError> {
        let need = missing.max(self.0.budget.limit() / EVICT_SHARE);
        let chosen = self.choose(need, Timestamp::now()).await?;
        if chosen.bytes < missing {
            return Err(StoreError::NoSpace);
        }
        let gone = self.carried_out(chosen, Timestamp::now()).await?;
        self.wait_for(&gone).await?;
        self.remove_empty().await
    }

    /// What would go, in that order, so that all files take no more than `to` bytes, or than the bound.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub async fn would_go(&self, to: Option<u64>, now: Timestamp) -> Result<Vec<Going>, StoreError> {
        let chosen = self.choose(self.excess(to)?, now).await?;
        Ok(chosen.victims.into_iter().map(Going::from).collect())
    }

    /// Has files go until all files take no more than `to` bytes, or than the bound, or nothing more can go. Tells
    /// `each` what goes. Waits until it has left the disk.
    ///
    /// # Errors
    /// If the index cannot be read or written.
    pub async fn prune(
        &self,
        to: Option<u64>,
        now: Timestamp,
        mut each: impl FnMut(Going),
    ) -> Result<Pruned, StoreError> {
        let _alone = self.0.making_room.lock().await;
        let mut pruned = Pruned::default();
        for _ in 0..ROUNDS {
            let excess = self.excess(to)?;
            let chosen = if excess == 0 { None } else { Some(self.choose(excess, now).await?) };
            let Some(chosen) = chosen.filter(|chosen| !chosen.victims.is_empty()) else { break };
            chosen.victims.iter().cloned().map(Going::from).for_each(&mut each);
            let gone = self.carried_out(chosen, now).await?;
            pruned.entries += gone.by_reason.values().map(|(files, _)| files).sum::<u64>();
            pruned.bytes += gone.by_reason.values().map(|(_, bytes)| bytes).sum::<u64>();
            self.wait_for(&gone).await?;
            self.remove_empty().await?;
        }
        pruned.used_bytes = self.0.budget.used()?;
        Ok(pruned)
    }

    /// What is done every so often: files go that are too many because the bound is another than before, or because
    /// the index has grown, and volumes are emptied of which much is not needed. Whether all files are within the
    /// bound then.
    ///
    /// # Errors
    /// If something cannot be read or written.
    pub async fn tend(&self, now: Timestamp) -> Result<bool, StoreError> {
        if self.excess(None)? > 0 {
            self.prune(None, now, |_| {}).await?;
        }
        match self.rewrite().await {
            // It is tried again when there is room.
            Ok(_) | Err(StoreError::NoSpace) => {}
            Err(error) => return Err(error),
        }
        Ok(self.0.budget.used()? <= self.0.budget.limit())
    }

    /// How much more all files take than they should.
    fn excess(&self, to: Option<u64>) -> Result<u64, StoreError> {
        self.0.check_open()?;
        let most = to.map_or(self.0.budget.for_chunks(), |to| to.min(self.0.budget.for_chunks()));
        Ok(self.0.volumes.projected()?.saturating_sub(most))
    }

    /// What went since the start, by reason: files, and bytes on disk.
    pub fn evicted(&self) -> [(Reason, u64, u64); Reason::ALL.len()] {
        let evicted = &self.0.evicted;
        Reason::ALL.map(|reason| {
            let [entries, bytes] = [&evicted.entries, &evicted.bytes];
            let of = |counts: &[AtomicU64]| counts[reason as usize].load(Ordering::Relaxed);
            (reason, of(entries), of(bytes))
        })
    }

    /// Has `tell` told of each file that goes for want of room from now on. Whoever came first is told.
    pub fn on_evicted(&self, tell: impl Fn(&WentAway<'_>) + Send + Sync + 'static) {
        let _ = self.0.tell_evicted.set(Box::new(tell));
    }

    /// Lets nothing go for which `keeps` says so, until what is returned is dropped.
    pub fn spare(&self, keeps: impl Fn(&EntryKey) -> bool + Send + Sync + 'static) -> Spared {
        let mut spared = self.0.spared.write().unwrap_or_else(PoisonError::into_inner);
        let keeps: Arc<Keeps> = Arc::new(Box::new(keeps));
        spared.retain(|keeps| keeps.strong_count() > 0);
        spared.push(Arc::downgrade(&keeps));
        Spared(keeps)
    }

    async fn choose(&self, need: u64, now: Timestamp) -> Result<Chosen, StoreError> {
        let store = self.clone();
        let chosen = tokio::task::spawn_blocking(move || store.choose_now(need, now)).await;
        chosen.map_err(|_| StoreError::Closed)?
    }

    fn choose_now(&self, need: u64, now: Timestamp) -> Result<Chosen, StoreError> {
        let inner = &self.0;
        inner.check_open()?;
        let leases = &inner.neighbours.leases;
        let spared: Vec<_> = {
            let all = inner.spared.read().unwrap_or_else(PoisonError::into_inner);
            all.iter().filter_map(Weak::upgrade).collect()
        };
        let spared = |key: &EntryKey| spared.iter().any(|keeps| keeps(key));
        let in_use = |id| leases.is_held(id);
        let mut found = inner.index.run(|database| evictions::candidates(database, now, &in_use, &spared))?;
        self.add_what_is_known(&mut found);
        let eviction = evict(&found.rules, need, now.0);
        let blob = |at: usize| match &found.subjects[at].subject {
            Subject::Blob(sha) => Some(*sha),
            Subject::Partial(_) => None,
        };
        let blobs: HashSet<_> = eviction.victims.iter().filter_map(|(at, _)| blob(*at)).collect();
        let mut files = inner.index.run(|database| evictions::files_of(database, &blobs))?;
        let victim = |(at, reason): &(usize, Reason)| {
            let (subject, size) = (found.subjects[*at].subject.clone(), found.subjects[*at].size);
            let keys = match &subject {
                Subject::Blob(sha) => files.remove(sha).unwrap_or_default(),
                Subject::Partial(key) => vec![key.clone()],
            };
            Victim { subject, reason: *reason, keys, size, weight: found.rules[*at].bytes }
        };
        let victims = eviction.victims.iter().map(victim).collect();
        let moved = eviction.moved.iter().filter_map(|(at, rank)| Some((blob(*at)?, *rank)));
        Ok(Chosen { victims, moved: moved.collect(), bytes: eviction.bytes })
    }

    /// Uses that are not written down yet, and how much there is of unfinished files.
    fn add_what_is_known(&self, found: &mut Candidates) {
        let uses = self.0.uses.get();
        for (subject, rule) in found.subjects.iter_mut().zip(&mut found.rules) {
            match &subject.subject {
                Subject::Blob(sha) => {
                    let times = uses.get(sha).map_or(0, |seen| seen.times);
                    let rank = &mut rule.rank;
                    rank.uses = rank.uses.saturating_add(times).min(MOST_USES);
                }
                Subject::Partial(_) => {
                    let volume = self.0.volumes.get(subject.volume);
                    let chunks = volume.and_then(|volume| volume.list(subject.id)).unwrap_or_default();
                    subject.size = chunks.iter().map(|(_, len)| u64::from(*len)).sum();
                    *rule = Candidate { bytes: weight_of(subject.size), ..*rule };
                }
            }
        }
    }

    /// In a task of its own: whoever waits may give up, and what went is told and counted all the same.
    async fn carried_out(&self, chosen: Chosen, now: Timestamp) -> Result<Gone, StoreError> {
        let store = self.clone();
        let carried = tokio::spawn(async move { store.carry_out(chosen, now).await });
        carried.await.map_err(|_| StoreError::Closed)?
    }

    async fn carry_out(&self, chosen: Chosen, now: Timestamp) -> Result<Gone, StoreError> {
        let mut all = Gone::default();
        let moved = chosen.moved;
        if !moved.is_empty() {
            self.0.queue.change::<_, StoreError>(move |tables| tables.pass(&moved).map(Ok)).await?;
        }
        for victims in chosen.victims.chunks(EVICT_ROWS) {
            let (victims, leases) = (victims.to_vec(), self.0.neighbours.leases.clone());
            let gone = self.0.queue.change::<_, StoreError>(move |tables| {
                tables.evict(&victims, now, &|id| leases.is_held(id)).map(Ok)
            });
            let gone = gone.await?;
            all.blobs.extend(gone.blobs);
            if let Some(tell) = self.0.tell_evicted.get() {
                gone.went.iter().for_each(|victim| victim.tell(tell));
            }
            for (reason, (files, bytes)) in gone.by_reason {
                self.0.evicted.entries[reason as usize].fetch_add(files, Ordering::Relaxed);
                self.0.evicted.bytes[reason as usize].fetch_add(bytes, Ordering::Relaxed);
                let sum = all.by_reason.entry(reason).or_default();
                *sum = (sum.0 + files, sum.1 + bytes);
                tracing::info!(
                    reason = reason.name(),
                    files,
                    disk_bytes = bytes,
                    "files went for want of room"
                );
            }
        }
        Ok(all)
    }

    /// Waits until these have left the disk, or none has for long.
    async fn wait_for(&self, gone: &Gone) -> Result<(), StoreError> {
        let gone: HashSet<BlobId> = gone.blobs.iter().copied().collect();
        let (mut before, mut since) = (usize::MAX, tokio::time::Instant::now());
        loop {
            let freed = self.0.neighbours.freed.notified();
            let left = self.0.index.run(reads::deletions)?;
            let left = left.iter().filter(|(id, _)| gone.contains(id)).count();
            if left < before {
                (before, since) = (left, tokio::time::Instant::now());
            }
            if left == 0 || since.elapsed() >= STUCK {
                return Ok(());
            }
            let _ = tokio::time::timeout(POLL, freed).await;
        }
    }
}

fn missing<T>(kept: Result<T, Refused>) -> Result<Result<T, u64>, StoreError> {
    match kept {
        Ok(kept) => Ok(Ok(kept)),
        Err(Refused::Full(missing)) => Ok(Err(missing)),
        Err(Refused::Store(error)) => Err(error),
    }
}
