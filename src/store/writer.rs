//! The thread that writes and removes the chunks of one volume.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::blob::Blob;
use super::chunks::{self, Chunk};
use super::error::StoreError;
use super::handle::Handle;
use super::offsets::LARGE;
use super::records::BlobId;
use super::reservation::Claim;
use super::settings::{BATCH_BYTES, REMOVE_CHUNKS, weight};
use super::volume::{Neighbours, Volume};

/// After a removal failed, nothing is removed for this long; after each further failure twice as long as before.
const PAUSE: Duration = Duration::from_secs(5);
/// But never longer than this.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// What the thread is told.
pub(super) enum Message {
    /// A chunk.
    Write(Write),
    /// A blob whose delete-intent is on disk.
    Remove(BlobId),
    /// Somebody let go of a blob.
    Wake,
    /// The end: what came before is still written.
    Close,
}

/// A chunk that waits to be written. It holds its blob, so that a removal cannot come in between.
pub(super) struct Write {
    pub blob: Blob,
    pub index: u32,
    pub segments: Vec<Bytes>,
    pub len: usize,
    pub reply: oneshot::Sender<Result<(), StoreError>>,
    pub claim: Option<Claim>,
    pub _permit: OwnedSemaphorePermit,
}

/// The thread's own state.
pub(super) struct Writer {
    number: u32,
    handle: Arc<Handle>,
    neighbours: Neighbours,
    receiver: Receiver<Message>,
    doomed: BTreeSet<BlobId>,
    /// Nothing is removed before this.
    rest_until: Instant,
    pause: Duration,
    open: bool,
}

impl Writer {
    pub(super) fn new(
        number: u32,
        handle: Arc<Handle>,
        neighbours: Neighbours,
        receiver: Receiver<Message>,
    ) -> Self {
        let (doomed, rest_until) = (BTreeSet::new(), Instant::now());
        Self { number, handle, neighbours, receiver, doomed, rest_until, pause: PAUSE, open: true }
    }

    /// Runs until it is told to close. The volume is held weakly: it owns the way to this thread.
    pub(super) fn run(mut self, volume: &Weak<Volume>) {
        while self.open {
            let ready = !self.removable(1).is_empty();
            let first = match (self.receiver.try_recv(), ready) {
                (Ok(message), _) => Ok(message),
                (Err(_), true) => {
                    self.receiver.recv_timeout(self.rest_until.saturating_duration_since(Instant::now()))
                }
                (Err(_), false) => self.receiver.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match first {
                Ok(message) => {
                    let batch = self.collect(message, volume);
                    if !batch.is_empty() {
                        self.write(batch, volume);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {}
            }
            if self.open && Instant::now() >= self.rest_until {
                self.tidy(volume);
            }
        }
    }

    /// Removes some chunks of blobs that nobody holds. That takes the disk and the write lock from fills, so it rests
    /// as long as it works.
    fn tidy(&mut self, volume: &Weak<Volume>) {
        let ids = self.removable(REMOVE_CHUNKS);
        if ids.is_empty() {
            return;
        }
        let begun = Instant::now();
        match self.remove(&ids, volume) {
            Ok(()) => {
                self.pause = PAUSE;
                self.rest_until = Instant::now() + begun.elapsed();
            }
            Err(e) => {
                self.recover(&e);
                self.rest_until = Instant::now() + self.pause;
                self.pause = (self.pause * 2).min(LONGEST_PAUSE);
            }
        }
    }

    /// Takes what waits, up to one transaction's worth.
    fn collect(&mut self, first: Message, volume: &Weak<Volume>) -> Vec<Write> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        let mut next = Some(first);
        while let Some(message) = next {
            match message {
                Message::Write(write) => {
                    bytes += write.len;
                    batch.push(write);
                }
                Message::Remove(id) => {
                    // Counted before the leases are looked at, so that the last of them cannot end unheard.
                    if self.doomed.insert(id)
                        && let Some(volume) = volume.upgrade()
                    {
                        volume.doomed().fetch_add(1, Ordering::SeqCst);
                    }
                }
                Message::Wake => {}
                Message::Close => {
                    self.open = false;
                    break;
                }
            }
            next = if bytes < BATCH_BYTES { self.receiver.try_recv().ok() } else { None };
        }
        batch
    }

    /// Writes a batch and tells everybody; those for whom there is no room are told without bothering redb, and so are
    /// those whose chunk is there already: its bytes may be served from where they lie.
    fn write(&self, batch: Vec<Write>, volume: &Weak<Volume>) {
        let (there, batch): (Vec<_>, Vec<_>) = batch.into_iter().partition(|w| w.blob.has_whole(w.index));
        there.into_iter().for_each(|write| drop(write.reply.send(Ok(()))));
        let wanted = batch.iter().map(|write| write.len as u64).sum();
        let heavy = batch.iter().map(|write| weight(write.len)).sum();
        let is_small = batch.iter().all(|write| write.len < LARGE);
        let room = volume.upgrade().map(|volume| -> Result<_, StoreError> {
            Ok((self.room(&volume, wanted)?, volume.allowance(heavy, is_small)?))
        });
        let (room, allowance) = match room {
            Some(Ok((room, allowance))) => (room, Some(allowance)),
            Some(Err(e)) => return refuse(batch, &e),
            None => (u64::MAX, None),
        };
        let allowed = allowance.as_ref().map_or(u64::MAX, |allowance| allowance.bytes);
        let (mut taken, mut weighed) = (0, 0);
        let (fits, refused): (Vec<_>, Vec<_>) = batch.into_iter().partition(|write| {
            taken += write.len as u64;
            weighed += weight(write.len);
            taken <= room && weighed <= allowed
        });
        refuse(refused, &StoreError::NoSpace);
        if fits.is_empty() {
            return;
        }
        let batch: Vec<_> = fits
            .iter()
            .map(|w| Chunk { id: w.blob.id(), index: w.index, segments: &w.segments, len: w.len })
            .collect();
        match self.handle.run(|database| chunks::write(database, &batch)) {
            Ok(held) => {
                if let Some(volume) = volume.upgrade() {
                    volume.set_held(held);
                }
                for Write { blob, index, segments, len, reply, claim, _permit } in fits {
                    blob.stored(index, &segments, len);
                    drop(claim);
                    let _ = reply.send(Ok(()));
                }
            }
            Err(e) => {
                self.recover(&e);
                refuse(fits, &e);
            }
        }
    }

    /// Bytes that fit on the disk. Where that matters, redb is made to cut the holes off the end of the file first, which
    /// it does when it closes; else it would put chunks there while pages that have a place on the disk are free.
    fn room(&self, volume: &Volume, wanted: u64) -> Result<u64, StoreError> {
        let room = volume.room()?;
        if room.sure() >= wanted || room.possible() == room.sure() {
            return Ok(room.sure());
        }
        self.handle.recover()?;
        Ok(volume.room()?.sure())
    }

    /// Up to `most` doomed blobs that nobody holds.
    fn removable(&self, most: usize) -> Vec<BlobId> {
        let free = |id: &BlobId| !self.neighbours.leases.is_held(*id);
        self.doomed.iter().copied().filter(free).take(most).collect()
    }

    fn remove(&mut self, ids: &[BlobId], volume: &Weak<Volume>) -> Result<(), StoreError> {
        let volume = volume.upgrade();
        let removal = self.handle.run(|database| {
            let removal = chunks::remove(database, ids, REMOVE_CHUNKS)?;
            // While nobody can close the database, which would have redb write to the pages that are free now.
            if let Some(volume) = &volume {
                volume.punch(&removal.chunks);
            }
            Ok(removal)
        });
        let chunks::Removal { held, gone, .. } = removal?;
        if let Some(volume) = &volume {
            volume.set_held(held);
            gone.iter().for_each(|id| volume.offsets().forget(*id));
        }
        self.doomed.retain(|id| !gone.contains(id));
        if let Some(volume) = &volume {
            volume.doomed().fetch_sub(gone.len(), Ordering::SeqCst);
        }
        let done = self.removable(1).is_empty();
        let settled = if done { self.handle.run(chunks::settle) } else { Ok(()) };
        if !gone.is_empty() {
            self.neighbours.index.change(move |tables| gone.iter().try_for_each(|id| tables.removed(*id)));
        }
        self.neighbours.freed.notify_waiters();
        settled
    }

    /// redb cannot go on after a failed write; readers would be stopped too.
    fn recover(&self, cause: &StoreError) {
        if matches!(cause, StoreError::Closed) {
            return;
        }
        tracing::warn!(volume = self.number, error = %cause, "a write to a volume failed");
        if let Err(e) = self.handle.recover() {
            tracing::error!(volume = self.number, error = %e, "a volume could not be opened again");
        }
    }
}

fn refuse(batch: Vec<Write>, error: &StoreError) {
    for write in batch {
        let _ = write.reply.send(Err(error.clone()));
    }
}
