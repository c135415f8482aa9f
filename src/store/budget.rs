//! How much of the disk the store may have, and who is about to take of it.
//!
//! The bound is one of blocks of all files of the data directory, the index included: lengths say little, because
//! redb's files have holes and a sparse tail. It is kept in two places. Who wants to begin something asks
//! [`Volumes`](super::volumes::Volumes) for room, which counts what others are still going to write
//! ([`Reservation`](super::reservation::Reservation)) and leaves a margin to the index. And every transaction that
//! adds chunks or documents takes of the budget what it may add at most before it is written, which counts what lies
//! on the disk now.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::disk::Disk;
use super::settings::{INDEX_MARGIN, INDEX_SHARE};

/// The bound, and what running transactions may add.
#[derive(Debug)]
pub(super) struct Budget {
    disk: Arc<Disk>,
    limit: u64,
    writing: AtomicU64,
}

impl Budget {
    pub(super) fn new(disk: Arc<Disk>, limit: u64) -> Arc<Self> {
        Arc::new(Self { disk, limit, writing: AtomicU64::new(0) })
    }

    /// What all files may take.
    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    /// What chunks may take of it, all other files included.
    pub(super) fn for_chunks(&self) -> u64 {
        self.limit.saturating_sub(INDEX_MARGIN + self.limit / INDEX_SHARE)
    }

    /// What all files take.
    pub(super) fn used(&self) -> io::Result<u64> {
        self.disk.used()
    }

    /// Lets a transaction add up to `bytes` of `wanted`; says how many.
    pub(super) fn take(self: &Arc<Self>, wanted: u64) -> io::Result<Taken> {
        // Noted before the disk is looked at, so that of two neither overlooks the other.
        let before = self.writing.fetch_add(wanted, Ordering::SeqCst);
        let mut taken = Taken { budget: Arc::clone(self), noted: wanted, bytes: 0 };
        let left = self.limit.saturating_sub(self.used()?.saturating_add(before));
        taken.bytes = wanted.min(left);
        Ok(taken)
    }
}

/// What a transaction may add, until it is over.
#[derive(Debug)]
pub(super) struct Taken {
    budget: Arc<Budget>,
    noted: u64,
    /// How many bytes.
    pub(super) bytes: u64,
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.budget.writing.fetch_sub(self.noted, Ordering::SeqCst);
    }
}
