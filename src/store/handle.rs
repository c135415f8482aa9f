//! A redb database that is opened anew when redb refuses to go on.
//!
//! redb latches the first I/O error of a database: from then on it refuses everything, also reads, until it is
//! reopened. A disk that was full for a moment must not end the service, so whoever meets the latch reopens the
//! database and tries once more. What was committed is there again; what was not, its writer was told.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use redb::{Database, DatabaseError};

use super::disk::Disk;
use super::error::{Failure, StoreError, classify};
use super::offsets::Offsets;

/// One database file, shared by its writer and all readers.
pub(super) struct Handle {
    slot: RwLock<Slot>,
    path: PathBuf,
    cache: AtomicUsize,
    /// Of a volume: who wants to know where chunks lie.
    offsets: Option<Arc<Offsets>>,
    /// Dropped last: with its last user goes the lock on the directory.
    disk: Arc<Disk>,
}

struct Slot {
    database: Option<Database>,
    /// Counts the openings, so that of several who met the latch only the first reopens.
    generation: u64,
    closed: bool,
}

impl Handle {
    /// Opens the database, and creates it if `create`.
    pub(super) fn open(
        disk: Arc<Disk>,
        path: PathBuf,
        cache: usize,
        create: bool,
        offsets: Option<Arc<Offsets>>,
    ) -> Result<Self, DatabaseError> {
        let database = disk.open(&path, cache, create, offsets.clone())?;
        Ok(Self::with(disk, path, cache, offsets, Some(database)))
    }

    /// A handle to a database that could not be opened: every use tries again.
    pub(super) fn broken(
        disk: Arc<Disk>,
        path: PathBuf,
        cache: usize,
        offsets: Option<Arc<Offsets>>,
    ) -> Self {
        Self::with(disk, path, cache, offsets, None)
    }

    fn with(
        disk: Arc<Disk>,
        path: PathBuf,
        cache: usize,
        offsets: Option<Arc<Offsets>>,
        database: Option<Database>,
    ) -> Self {
        let slot = RwLock::new(Slot { database, generation: 0, closed: false });
        Self { disk, path, cache: AtomicUsize::new(cache), offsets, slot }
    }

    pub(super) fn path(&self) -> &PathBuf {
        &self.path
    }

    pub(super) fn is_open(&self) -> bool {
        self.read().database.is_some()
    }

    /// Runs `f` on the database; once more on a new opening when redb had latched an earlier error.
    ///
    /// `f` must leave nothing alive that keeps the database open, and must not use this handle. A panic in it (redb
    /// panics on some damage) becomes an error.
    pub(super) fn run<R>(&self, mut f: impl FnMut(&Database) -> Result<R, Failure>) -> Result<R, StoreError> {
        let mut retried = false;
        loop {
            let slot = self.read();
            if slot.closed {
                return Err(StoreError::Closed);
            }
            let generation = slot.generation;
            let result = match &slot.database {
                Some(database) => catch_unwind(AssertUnwindSafe(|| f(database))).unwrap_or_else(|_| {
                    Err(StoreError::Damaged(format!("redb panicked over {}", self.path.display())).into())
                }),
                None => Err(Failure::Latched),
            };
            drop(slot);
            match result {
                Ok(value) => return Ok(value),
                Err(Failure::Failed(e)) => return Err(e),
                Err(Failure::Latched) if retried => {
                    return Err(StoreError::Io(Arc::new(redb::Error::PreviousIo)));
                }
                Err(Failure::Latched) => {
                    retried = true;
                    self.reopen(generation)?;
                }
            }
        }
    }

    /// Closes and opens the database after a failed write, which redb cannot continue from.
    pub(super) fn recover(&self) -> Result<(), StoreError> {
        let generation = self.read().generation;
        self.reopen(generation)
    }

    /// Changes the size of the page cache, which redb fixes when it opens.
    pub(super) fn set_cache(&self, bytes: usize) -> Result<(), StoreError> {
        if self.cache.swap(bytes, Ordering::Relaxed) == bytes {
            return Ok(());
        }
        self.recover()
    }

    fn reopen(&self, seen: u64) -> Result<(), StoreError> {
        let mut slot = self.write();
        if slot.closed {
            return Err(StoreError::Closed);
        }
        if slot.generation != seen && slot.database.is_some() {
            return Ok(());
        }
        close(slot.database.take());
        slot.generation += 1;
        let opened = catch_unwind(AssertUnwindSafe(|| {
            let cache = self.cache.load(Ordering::Relaxed);
            self.disk.open(&self.path, cache, false, self.offsets.clone())
        }));
        match opened {
            Ok(Ok(database)) => slot.database = Some(database),
            Ok(Err(e)) => return Err(classify(e.into()).into_error()),
            Err(_) => {
                return Err(StoreError::Damaged(format!("redb panicked over {}", self.path.display())));
            }
        }
        Ok(())
    }

    /// Closes the database for good.
    pub(super) fn close(&self) {
        let mut slot = self.write();
        slot.closed = true;
        close(slot.database.take());
    }

    // Nothing is left half-changed by a panic under this lock: `f` runs under `catch_unwind`.
    fn read(&self) -> RwLockReadGuard<'_, Slot> {
        self.slot.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Slot> {
        self.slot.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn close(database: Option<Database>) {
    // A database with a latched error reports it again here, and one whose writer panicked may panic.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(database)));
}
