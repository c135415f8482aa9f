//! All volumes: which one a new blob goes to, and how they share the page cache.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use super::disk::Disk;
use super::error::{StoreError, classify};
use super::handle::Handle;
use super::offsets::Offsets;
use super::settings::Shares;
use super::volume::{Neighbours, Reservation, Volume};

/// The volumes of a store.
pub(super) struct Volumes {
    disk: Arc<Disk>,
    max_bytes: u64,
    cache_bytes: usize,
    offsets: Arc<Offsets>,
    all: RwLock<BTreeMap<u32, Arc<Volume>>>,
    /// The volume that new blobs go to. Held while one is chosen, so that two do not take the same room.
    current: Mutex<Option<u32>>,
}

impl Volumes {
    /// Opens the volumes that the index names. One that cannot be opened is not the whole cache: its blobs fail to
    /// be read, and every attempt tries to open it again.
    pub(super) fn open(
        disk: Arc<Disk>,
        max_bytes: u64,
        cache_bytes: usize,
        numbers: &[u32],
    ) -> Result<Self, StoreError> {
        let shares = Shares::of(cache_bytes, numbers.len());
        let last = numbers.last().copied();
        let offsets = Offsets::new();
        let mut all = BTreeMap::new();
        for &number in numbers {
            let cache = if Some(number) == last { shares.writer } else { shares.reader };
            let path = disk.volume(number);
            let tell = || Some(Arc::clone(&offsets));
            let handle = Handle::open(disk.clone(), path.clone(), cache, false, tell()).unwrap_or_else(|e| {
                tracing::error!(volume = number, path = %path.display(), error = %e, "a volume cannot be opened");
                Handle::broken(disk.clone(), path, cache, tell())
            });
            all.insert(number, Arc::new(Volume::new(number, disk.clone(), handle, offsets.clone())?));
        }
        Ok(Self { disk, max_bytes, cache_bytes, offsets, all: RwLock::new(all), current: Mutex::new(last) })
    }

    pub(super) fn get(&self, number: u32) -> Result<Arc<Volume>, StoreError> {
        self.read().get(&number).cloned().ok_or_else(|| {
            StoreError::Damaged(format!("the index names volume {number}, which is not part of the store"))
        })
    }

    pub(super) fn len(&self) -> usize {
        self.read().len()
    }

    pub(super) fn all(&self) -> Vec<Arc<Volume>> {
        self.read().values().cloned().collect()
    }

    /// Keeps room for a blob of `bytes` in the current volume, if it has that.
    pub(super) fn choose(&self, bytes: u64) -> Option<Reservation> {
        // Whoever holds this for long is about to create a volume, and async callers do not wait for that here.
        let current = self.current.try_lock().ok()?;
        let volume = self.fitting(*current, bytes)?;
        let unchanged = Some(volume.number()) == *current;
        unchanged.then(|| Reservation::new(volume, bytes))
    }

    /// Keeps room for a blob of `bytes` in the current volume, or else in the first that has it, or in a new one.
    /// That volume becomes the current one. Blocks.
    pub(super) fn choose_or_create(&self, bytes: u64) -> Result<Reservation, StoreError> {
        let mut current = self.current();
        let volume = match self.fitting(*current, bytes) {
            Some(volume) => volume,
            None => self.create()?,
        };
        let reserved = Reservation::new(volume, bytes);
        *current = Some(reserved.volume().number());
        self.share_cache(reserved.volume().number());
        Ok(reserved)
    }

    /// Has the chunks of blobs removed whose delete-intents are on disk.
    pub(super) fn remove(&self, neighbours: &Neighbours, doomed: &[(super::BlobId, u32)]) {
        for (id, number) in doomed {
            match self.get(*number) {
                Ok(volume) => volume.remove(neighbours, *id),
                Err(e) => tracing::error!(blob = id.0, error = %e, "a blob cannot be removed"),
            }
        }
    }

    fn fitting(&self, current: Option<u32>, bytes: u64) -> Option<Arc<Volume>> {
        let all = self.read();
        // A blob larger than a volume gets an empty one.
        let fits = |v: &Arc<Volume>| {
            v.handle().is_open() && (v.load() == 0 || v.load().saturating_add(bytes) <= self.max_bytes)
        };
        let current = current.and_then(|number| all.get(&number)).filter(|v| fits(v));
        current.or_else(|| all.values().find(|v| fits(v))).cloned()
    }

    /// Creates the file first: the row that makes it part of the store is committed with the first fill, so a crash
    /// in between leaves an empty file, which the next attempt opens.
    fn create(&self) -> Result<Arc<Volume>, StoreError> {
        let number = self.read().last_key_value().map_or(1, |(number, _)| number + 1);
        let cache = Shares::of(self.cache_bytes, self.len() + 1).reader;
        let offsets = Some(self.offsets.clone());
        let handle = Handle::open(self.disk.clone(), self.disk.volume(number), cache, true, offsets)
            .map_err(|e| classify(e.into()).into_error())?;
        let volume = Arc::new(Volume::new(number, self.disk.clone(), handle, self.offsets.clone())?);
        self.all.write().unwrap_or_else(PoisonError::into_inner).insert(number, volume.clone());
        Ok(volume)
    }

    /// Gives the writer's share to one volume; the others shrink first, so that the budget holds in between.
    fn share_cache(&self, writer: u32) {
        let shares = Shares::of(self.cache_bytes, self.len());
        let (first, last): (Vec<_>, Vec<_>) = self.all().into_iter().partition(|v| v.number() != writer);
        for volume in first.into_iter().chain(last) {
            let share = if volume.number() == writer { shares.writer } else { shares.reader };
            if let Err(e) = volume.handle().set_cache(share) {
                tracing::error!(volume = volume.number(), error = %e, "a volume could not be opened again");
            }
        }
    }

    fn current(&self) -> MutexGuard<'_, Option<u32>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<u32, Arc<Volume>>> {
        self.all.read().unwrap_or_else(PoisonError::into_inner)
    }
}
