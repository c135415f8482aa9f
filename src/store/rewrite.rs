//! Volumes that leave the store: empty ones are removed, and sparse ones emptied first, while reads go on.
//!
//! A volume is *sparse* when much of its file is not needed: many small files went that shared pages, or the file
//! system cannot give blocks of a file back ([`super::holes`]). Its blobs are copied to other volumes, chunk by chunk
//! and no faster than the operator allows. A copy begins as a row of `moves`, and when it is on the disk one
//! transaction gives the blob its new place and dooms the old chunks, which stay for as long as somebody reads them.
//! Unfinished files are left where they are; the volume goes after they have.
//!
//! A volume that is *empty* leaves in this order: nothing new goes to it (`retiring`), the index forgets it in a
//! transaction that looks whether something in it is named, its writer ends and its file is closed, and the file is
//! removed.
//!
//! What a crash leaves:
//!
//! | after | on disk | the next start |
//! |---|---|---|
//! | the row of `moves` | nothing, or some chunks of the copy | dooms the copy |
//! | the copy is whole | both, and the blob is the old one | dooms the copy |
//! | the blob has its new place | both, and the blob is the new one | removes the old chunks, which are doomed |
//! | the index has forgotten a volume | a file that nobody names | removes the file |

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::blob::{Blob, Home};
use super::error::StoreError;
use super::index::{Tables, reads};
use super::open::Store;
use super::records::{BlobId, BlobRow};
use super::reservation::Want;
use super::settings::{SPARSE, SPARSE_LEAST, VOLUME_BASE, chunks_of};
use super::volume::Volume;
use crate::model::Sha256;

/// What became of a sparse volume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rewritten {
    /// Its number.
    pub volume: u32,
    /// Blobs that have left it.
    pub blobs: u64,
    /// Bytes of those.
    pub bytes: u64,
}

/// What became of a blob that was to have another place.
enum Copied {
    Moved,
    /// It was removed, or moved by somebody else.
    Gone,
    /// It cannot be read, or there is no room for it.
    Stays(StoreError),
}

impl Store {
    /// Empties the sparsest volume, if one is sparse, and removes volumes that are empty.
    ///
    /// # Errors
    /// [`StoreError::NoSpace`] where there is no room for a copy; else if something cannot be read or written. What
    /// was not copied stays where it is.
    pub async fn rewrite(&self) -> Result<Option<Rewritten>, StoreError> {
        self.0.check_open()?;
        self.remove_empty().await?;
        let mut failed = None;
        for volume in self.sparse() {
            if !self.0.volumes.retire(&volume) {
                continue;
            }
            let emptied = self.empty(&volume).await;
            // What is left in it may get company again.
            volume.set_retiring(false);
            let rewritten = match emptied {
                Ok(rewritten) => rewritten,
                // Others may be rewritten all the same.
                Err(error) => {
                    tracing::debug!(%error, volume = volume.number(), "a sparse volume was not emptied");
                    failed = Some(error);
                    continue;
                }
            };
            // One in which there are only unfinished files must not keep others from being rewritten.
            if rewritten.blobs > 0 {
                self.remove_empty().await?;
                return Ok(Some(rewritten));
            }
        }
        failed.map_or(Ok(None), Err)
    }

    /// Volumes of which much is not needed, the sparsest first.
    fn sparse(&self) -> Vec<Arc<Volume>> {
        let waste = |volume: &Arc<Volume>| {
            let blocks = volume.blocks();
            let waste = blocks.saturating_sub(volume.weight().saturating_add(VOLUME_BASE));
            (waste >= SPARSE_LEAST && waste >= blocks / SPARSE).then_some(waste)
        };
        let all = self.0.volumes.all();
        let mut sparse: Vec<_> = all.into_iter().filter_map(|v| Some((waste(&v)?, v))).collect();
        sparse.sort_by_key(|(waste, _)| std::cmp::Reverse(*waste));
        sparse.into_iter().map(|(_, volume)| volume).collect()
    }

    async fn empty(&self, volume: &Arc<Volume>) -> Result<Rewritten, StoreError> {
        let number = volume.number();
        let blobs = self.0.index.run(|database| reads::blobs_in(database, number))?;
        let mut done = Rewritten { volume: number, ..Rewritten::default() };
        let mut pace = Pace::new(self.0.rewrite_rate);
        let mut failed = None;
        for (sha, row) in blobs {
            match self.copy(&sha, &row, &mut pace).await? {
                Copied::Moved => (done.blobs, done.bytes) = (done.blobs + 1, done.bytes + row.size),
                Copied::Gone => {}
                // The others need not stay for that.
                Copied::Stays(error) => failed = Some(error),
            }
        }
        match failed {
            Some(error) if done.blobs == 0 => Err(error),
            _ => Ok(done),
        }
    }

    /// Gives a blob another place. An error is one of the index: then nothing more can be done.
    async fn copy(&self, sha: &Sha256, row: &BlobRow, pace: &mut Pace) -> Result<Copied, StoreError> {
        let old = match self.open_blob(sha) {
            Ok(Some(blob)) if blob.id() == row.id => blob,
            Ok(_) => return Ok(Copied::Gone),
            Err(damaged @ StoreError::Damaged(_)) => return Ok(Copied::Stays(damaged)),
            Err(error) => return Err(error),
        };
        let copy = match self.begin_copy(row.size).await {
            Err(StoreError::NoSpace) => return Ok(Copied::Stays(StoreError::NoSpace)),
            begun => begun?,
        };
        let id = copy.id();
        let written = self.write_copy(&old, &copy, row.size, pace).await;
        let (sha, from) = (*sha, row.id);
        let changed: Result<bool, StoreError> = match written {
            Ok(()) => self.0.queue.change(move |tables| tables.end_move(&sha, from, id).map(Ok)).await,
            Err(error) => {
                let abandon = move |tables: &mut Tables<'_>| tables.abandon_move(id).map(Ok);
                self.0.queue.change::<(), StoreError>(abandon).await?;
                return Ok(Copied::Stays(error));
            }
        };
        copy.complete(row.size);
        Ok(if changed? { Copied::Moved } else { Copied::Gone })
    }

    async fn begin_copy(&self, size: u64) -> Result<Blob, StoreError> {
        // Nothing goes for the sake of a copy.
        let volumes = self.0.volumes.clone();
        let reserved = tokio::task::spawn_blocking(move || volumes.choose_or_create(Want::blob(size))).await;
        let reserved = reserved.map_err(|_| StoreError::Closed)?.map_err(|refused| match refused {
            super::volumes::Refused::Full(_) => StoreError::NoSpace,
            super::volumes::Refused::Store(error) => error,
        })?;
        let (reserved, leases) = (Arc::new(reserved), self.0.neighbours.leases.clone());
        let volume = reserved.volume().clone();
        let begin = move |tables: &mut Tables<'_>| {
            let id: BlobId = tables.begin_move(volume.number())?;
            Ok(Ok(leases.take(id, Home::Volume(volume.clone()), None, Some(reserved.clone()))))
        };
        self.0.queue.change::<_, StoreError>(begin).await
    }

    async fn write_copy(
        &self,
        old: &Blob,
        copy: &Blob,
        size: u64,
        pace: &mut Pace,
    ) -> Result<(), StoreError> {
        for index in 0..chunks_of(size) {
            let from = old.clone();
            let read = tokio::task::spawn_blocking(move || from.read(index)).await;
            let bytes = read.map_err(|_| StoreError::Closed)??;
            pace.wait(bytes.len() as u64).await;
            let written = self.write_chunk(copy, index, vec![bytes]).await?;
            written.await.map_err(|_| StoreError::Closed)??;
        }
        Ok(())
    }

    /// Removes volumes that hold nothing, but for the one that the next blob goes to if its file is small.
    pub(super) async fn remove_empty(&self) -> Result<(), StoreError> {
        for volume in self.0.volumes.all() {
            let is_empty = || volume.held_bytes() == 0 && volume.handle().is_open();
            let is_small = volume.blocks() <= 2 * VOLUME_BASE && self.0.volumes.is_current(volume.number());
            if !is_empty() || is_small || !self.0.volumes.retire(&volume) {
                continue;
            }
            // In a task of its own: whoever waits may give up, and half of it must not be left.
            let store = self.clone();
            let removed = tokio::spawn(async move {
                let removed = store.remove_volume(&volume).await;
                volume.set_retiring(false);
                removed
            });
            removed.await.map_err(|_| StoreError::Closed)??;
        }
        Ok(())
    }

    async fn remove_volume(&self, volume: &Arc<Volume>) -> Result<(), StoreError> {
        let number = volume.number();
        let dropped =
            self.0.queue.change::<_, StoreError>(move |tables| tables.drop_volume(number).map(Ok)).await?;
        if !dropped {
            return Ok(());
        }
        self.0.volumes.forget(number);
        let (volume, disk) = (volume.clone(), self.0.disk.clone());
        let closed = tokio::task::spawn_blocking(move || {
            if let Some(thread) = volume.begin_close() {
                let _ = thread.join();
            }
            volume.handle().close();
            disk.remove_volume(number)
        });
        closed.await.map_err(|_| StoreError::Closed)??;
        tracing::info!(volume = number, "an empty volume was removed");
        Ok(())
    }
}

/// Lets no more bytes through than the rate allows.
struct Pace {
    rate: u64,
    due: Instant,
}

impl Pace {
    fn new(rate: u64) -> Self {
        Self { rate: rate.max(1), due: Instant::now() }
    }

    /// Waits until `bytes` more may be read and written.
    async fn wait(&mut self, bytes: u64) {
        tokio::time::sleep_until(self.due).await;
        let takes = Duration::from_secs_f64(bytes as f64 / self.rate as f64);
        self.due = self.due.max(Instant::now()) + takes;
    }
}
