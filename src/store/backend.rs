//! The file under a redb database: redb's own backend, with early write-back of large pages.

use std::fs::File;
use std::io;
use std::ops::Bound;
use std::sync::Arc;

use redb::backends::FileBackend;
use redb::{BackendError, DatabaseError, StorageBackend};

#[cfg(test)]
use super::faults::Faults;
use super::offsets::Offsets;
use super::writeback;

/// Writes of at least this size are chunks; smaller ones are tree pages, which often change again soon.
const LARGE: usize = 256 << 10;

/// Forwards everything to redb's backend. That includes every lock method: a backend that keeps the defaults lets a
/// second process open a live database for writing.
#[derive(Debug)]
pub(super) struct Backend {
    inner: FileBackend,
    /// The same open file, for the write-back hint.
    file: File,
    /// Of a volume: who wants to know where chunks lie.
    offsets: Option<Arc<Offsets>>,
    #[cfg(test)]
    faults: Faults,
}

impl Backend {
    #[cfg(not(test))]
    pub(super) fn new(file: File, offsets: Option<Arc<Offsets>>) -> Result<Self, DatabaseError> {
        Ok(Self { file: file.try_clone()?, inner: FileBackend::new(file)?, offsets })
    }

    #[cfg(test)]
    pub(super) fn new(
        file: File,
        offsets: Option<Arc<Offsets>>,
        faults: Faults,
    ) -> Result<Self, DatabaseError> {
        Ok(Self { file: file.try_clone()?, inner: FileBackend::new(file)?, offsets, faults })
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.inner.read(offset, out)?;
        if let Some(offsets) = &self.offsets {
            offsets.saw(offset, out);
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        #[cfg(test)]
        self.faults.before_change()?;
        self.inner.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        #[cfg(test)]
        self.faults.before_sync()?;
        self.inner.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        #[cfg(test)]
        self.faults.before_write(&self.file, offset, data.len())?;
        self.inner.write(offset, data)?;
        if let Some(offsets) = &self.offsets {
            offsets.saw(offset, data);
        }
        if data.len() >= LARGE {
            writeback::begin(&self.file, offset, data.len());
        }
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.inner.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.query_lock_range(start, end)
    }
}
