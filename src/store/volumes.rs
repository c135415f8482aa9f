//! All volumes: which one a new blob goes to, and how they share the page cache.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use super::budget::Budget;
use super::disk::Disk;
use super::error::{StoreError, classify};
use super::handle::Handle;
use super::offsets::Offsets;
use super::reservation::{Reservation, Want};
use super::settings::{Shares, VOLUME_BASE, VOLUME_LEAST, VOLUMES};
use super::volume::{Neighbours, Volume};

/// The volumes of a store.
pub(super) struct Volumes {
    disk: Arc<Disk>,
    budget: Arc<Budget>,
    max_bytes: u64,
    cache_bytes: usize,
    offsets: Arc<Offsets>,
    all: RwLock<BTreeMap<u32, Arc<Volume>>>,
    /// The volume that new blobs go to. Held while one is chosen, so that two do not take the same room.
    current: Mutex<Option<u32>>,
}

/// Why no room was kept.
#[derive(Debug)]
pub(super) enum Refused {
    /// That many more bytes must be free under the bound.
    Full(u64),
    /// A volume could not be created.
    Store(StoreError),
}

impl Volumes {
    /// Opens the volumes that the index names. One that cannot be opened is not the whole cache: its blobs fail to
    /// be read, and every attempt tries to open it again.
    pub(super) fn open(
        disk: Arc<Disk>,
        budget: Arc<Budget>,
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
            let volume = Volume::new(number, disk.clone(), handle, offsets.clone(), budget.clone())?;
            all.insert(number, Arc::new(volume));
        }
        Ok(Self {
            disk,
            budget,
            max_bytes,
            cache_bytes,
            offsets,
            all: RwLock::new(all),
            current: Mutex::new(last),
        })
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

    /// Keeps room for a blob in the current volume, if it has that.
    pub(super) fn choose(&self, want: Want) -> Option<Reservation> {
        // Whoever holds this for long is about to create a volume, and async callers do not wait for that here.
        let current = self.current.try_lock().ok()?;
        let volume = self.read().get(&(*current)?).filter(|volume| self.takes(volume, want)).cloned()?;
        (volume.growth_for(want) <= self.left().ok()?).then(|| Reservation::new(volume, want))
    }

    /// Keeps room for a blob in the current volume, or else in the first that has it, or in a new one. That volume
    /// becomes the current one. Blocks.
    pub(super) fn choose_or_create(&self, want: Want) -> Result<Reservation, Refused> {
        let mut current = self.current();
        let left = self.left().map_err(Refused::Store)?;
        let mut missing = u64::MAX;
        let mut affordable = |more: u64| {
            missing = missing.min(more.saturating_sub(left));
            more <= left
        };
        let fitting = self.fitting(*current, want);
        let found = fitting.into_iter().find(|volume| affordable(volume.growth_for(want)));
        let volume = match found {
            Some(volume) => volume,
            // What is there must not be kept from being read because there is no volume to write to.
            None if affordable(want.weight.saturating_add(VOLUME_BASE)) || want.weight == 0 => {
                self.create().map_err(Refused::Store)?
            }
            None => return Err(Refused::Full(missing)),
        };
        let reserved = Reservation::new(volume, want);
        *current = Some(reserved.volume().number());
        self.share_cache(reserved.volume().number());
        Ok(reserved)
    }

    /// Keeps `weight` more for a fill that runs.
    pub(super) fn extend(&self, reserved: &Reservation, weight: u64) -> Result<(), Refused> {
        // So that two do not take the same room.
        let _current = self.current();
        let left = self.left().map_err(Refused::Store)?;
        let more = Want { bytes: 0, weight };
        match reserved.volume().growth_for(more).saturating_sub(left) {
            0 => {
                reserved.extend(weight);
                Ok(())
            }
            missing => Err(Refused::Full(missing)),
        }
    }

    /// Bytes on disk that nobody has taken or wants, under what chunks may take; zero when there are too many.
    fn left(&self) -> Result<u64, StoreError> {
        Ok(self.budget.for_chunks().saturating_sub(self.projected()?))
    }

    /// What all files will take when everything is written for which room is kept.
    pub(super) fn projected(&self) -> Result<u64, StoreError> {
        let coming: u64 = self.read().values().map(|volume| volume.growth()).sum();
        Ok(self.budget.used()?.saturating_add(coming))
    }

    /// Takes a volume out of the store that is empty and retiring: from now on nobody finds it.
    pub(super) fn forget(&self, number: u32) {
        let mut current = self.current();
        if *current == Some(number) {
            *current = None;
        }
        self.all.write().unwrap_or_else(PoisonError::into_inner).remove(&number);
    }

    /// Whether new blobs go to this volume first.
    pub(super) fn is_current(&self, number: u32) -> bool {
        *self.current() == Some(number)
    }

    /// Lets a volume take no further blob, unless somebody is about to write to it.
    pub(super) fn retire(&self, volume: &Volume) -> bool {
        let _current = self.current();
        let idle = !volume.is_reserved() && !volume.is_retiring();
        if idle {
            volume.set_retiring(true);
        }
        idle
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

    /// Volumes that can take a blob, the current one first.
    fn fitting(&self, current: Option<u32>, want: Want) -> Vec<Arc<Volume>> {
        let all = self.read();
        let mut fitting: Vec<_> = all.values().filter(|volume| self.takes(volume, want)).cloned().collect();
        fitting.sort_by_key(|volume| Some(volume.number()) != current);
        fitting
    }

    /// Whether a blob may go to a volume. One that is larger than a volume gets an empty one.
    fn takes(&self, volume: &Volume, want: Want) -> bool {
        let share = (self.budget.limit() / VOLUMES).max(VOLUME_LEAST);
        let is_empty = volume.load() == 0 && volume.heavy() == 0;
        let has_room = volume.load().saturating_add(want.bytes) <= self.max_bytes
            && volume.heavy().saturating_add(want.weight) <= share;
        volume.handle().is_open() && !volume.is_retiring() && (is_empty || has_room)
    }

    /// Creates the file first: the row that makes it part of the store is committed with the first fill, so a crash
    /// in between leaves an empty file, which the next start removes.
    fn create(&self) -> Result<Arc<Volume>, StoreError> {
        let known = self.read().last_key_value().map(|(number, _)| *number);
        // A file that nobody names is not taken up, whatever is in it.
        let number = known.max(self.disk.volumes().into_iter().max()).map_or(1, |number| number + 1);
        let cache = Shares::of(self.cache_bytes, self.len() + 1).reader;
        let offsets = Some(self.offsets.clone());
        let handle = Handle::open(self.disk.clone(), self.disk.volume(number), cache, true, offsets)
            .map_err(|e| classify(e.into()).into_error())?;
        let (disk, offsets) = (self.disk.clone(), self.offsets.clone());
        let volume = Arc::new(Volume::new(number, disk, handle, offsets, self.budget.clone())?);
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
