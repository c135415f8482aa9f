//! Room that is kept: of a volume for a fill, and of that for each chunk.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::offsets::LARGE;
use super::settings::{weight, weight_of};
use super::volume::Volume;

/// What running fills still expect to write to a volume.
#[derive(Debug, Default)]
pub(super) struct Expected {
    bytes: AtomicU64,
    weight: AtomicU64,
}

impl Expected {
    /// Bytes, as far as known.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// What they will take on disk at most.
    pub(super) fn weight(&self) -> u64 {
        self.weight.load(Ordering::Relaxed)
    }
}

/// For what room is wanted.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Want {
    /// Bytes, as far as known.
    pub bytes: u64,
    /// What they take on disk at most.
    pub weight: u64,
}

impl Want {
    /// A blob of so many bytes.
    pub(super) fn blob(bytes: u64) -> Self {
        // Not nothing, so that the volume is seen to be wanted.
        Self { bytes, weight: weight_of(bytes).max(1) }
    }

    /// Whether its chunks share pages with others.
    pub(super) fn is_small(self) -> bool {
        self.bytes > 0 && self.bytes < LARGE as u64
    }
}

/// Room that a volume keeps for one fill.
pub(super) struct Reservation {
    volume: Arc<Volume>,
    bytes: AtomicU64,
    weight: AtomicU64,
}

impl Reservation {
    pub(super) fn new(volume: Arc<Volume>, want: Want) -> Self {
        volume.expected().bytes.fetch_add(want.bytes, Ordering::Relaxed);
        volume.expected().weight.fetch_add(want.weight, Ordering::Relaxed);
        Self { volume, bytes: AtomicU64::new(want.bytes), weight: AtomicU64::new(want.weight) }
    }

    pub(super) fn volume(&self) -> &Arc<Volume> {
        &self.volume
    }

    /// Room for a chunk of `len` bytes, out of what is kept; `None` if that is not enough.
    pub(super) fn claim(&self, len: usize) -> Option<Claim> {
        let weight = weight(len);
        let take = |left: u64| left.checked_sub(weight);
        self.weight.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).ok()?;
        Some(Claim { volume: self.volume.clone(), weight })
    }

    /// How much more must be kept, so that a chunk of `len` bytes can be claimed.
    pub(super) fn lacks(&self, len: usize) -> u64 {
        weight(len).saturating_sub(self.weight.load(Ordering::Relaxed))
    }

    /// Keeps more.
    pub(super) fn extend(&self, weight: u64) {
        self.volume.expected().weight.fetch_add(weight, Ordering::Relaxed);
        self.weight.fetch_add(weight, Ordering::Relaxed);
    }

    /// Gives back up to `bytes` of it.
    pub(super) fn release(&self, bytes: u64) {
        let before = self
            .bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| Some(left.saturating_sub(bytes)));
        let released = before.unwrap_or(0).min(bytes);
        self.volume.expected().bytes.fetch_sub(released, Ordering::Relaxed);
    }

    /// Gives back all of it.
    pub(super) fn end(&self) {
        self.release(u64::MAX);
        let left = self.weight.swap(0, Ordering::Relaxed);
        self.volume.expected().weight.fetch_sub(left, Ordering::Relaxed);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.end();
    }
}

/// Room for one chunk, until it is written, or is not.
pub(super) struct Claim {
    volume: Arc<Volume>,
    weight: u64,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.volume.expected().weight.fetch_sub(self.weight, Ordering::Relaxed);
    }
}
