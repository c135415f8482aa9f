//! What the index thread does in the rest of the store, before and after its transactions.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::error::Failure;
use super::handle::Handle;
use super::index::{Effects, Tables, reads};
use super::memory::Memory;
use super::settings::USE_GAP;
use super::volume::Neighbours;
use super::volumes::Volumes;
use crate::model::{Sha256, Timestamp};

/// Uses of a blob that are not written down yet.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Use {
    /// When it was used last.
    pub last: Timestamp,
    /// How often, in the sense of [`USE_GAP`].
    pub times: u8,
}

impl Use {
    /// Counts one more. Requests that follow each other closely are one: a client fetches a file in many parts.
    pub(super) fn again(&mut self, now: Timestamp) {
        let is_new = self.times == 0 || self.last.age(now) >= USE_GAP;
        self.times = self.times.saturating_add(u8::from(is_new));
        self.last = self.last.max(now);
    }
}

/// Uses that are not written down yet.
#[derive(Default)]
pub(super) struct Uses(Mutex<HashMap<Sha256, Use>>);

impl Uses {
    pub(super) fn get(&self) -> MutexGuard<'_, HashMap<Sha256, Use>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The change that writes them down, if there is anything to write.
    pub(super) fn flush(&self) -> Option<impl FnMut(&mut Tables<'_>) -> Result<(), Failure> + Send + use<>> {
        let uses: Vec<_> = self.get().drain().collect();
        (!uses.is_empty()).then_some(move |tables: &mut Tables<'_>| tables.used(&uses))
    }
}

/// What the index thread does in the rest of the store.
pub(super) struct Around {
    pub index: Arc<Handle>,
    pub volumes: Arc<Volumes>,
    pub neighbours: Neighbours,
    pub memory: Arc<Memory>,
    pub uses: Arc<Uses>,
    /// Whether delete-intents may be on disk that no volume was told of.
    pub reread: AtomicBool,
}

impl Around {
    /// The transaction is on disk; whoever waits for it has not been told yet.
    pub(super) fn committed(&self, effects: Effects) {
        self.memory.changed(&effects.changed);
        self.memory.add_news(effects.news);
        // Places are outdated before a volume looks whether anybody holds the blob: whoever took a handle on the
        // strength of an outdated place either sees that, or is seen by the volume.
        self.memory.removed(&effects.doomed);
        self.volumes.remove(&self.neighbours, &effects.doomed);
        if self.reread.load(Ordering::Relaxed) {
            self.reread();
        }
        // Whoever waits for a removal looks at the index.
        self.neighbours.freed.notify_waiters();
    }

    /// The transaction failed, and nobody knows how much of it reached the disk.
    pub(super) fn uncertain(&self, effects: Effects) {
        self.memory.changed(&effects.changed);
        self.memory.add_news(effects.news);
        self.memory.removed(&effects.doomed);
        // A delete-intent that is not on disk must not be acted on, and one that is must not be forgotten.
        if !effects.doomed.is_empty() {
            self.reread();
        }
    }

    fn reread(&self) {
        let doomed = self.index.run(reads::deletions);
        self.reread.store(doomed.is_err(), Ordering::Relaxed);
        if let Ok(doomed) = doomed {
            self.volumes.remove(&self.neighbours, &doomed);
        }
    }
}
