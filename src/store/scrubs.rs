//! Reading what is held again, and letting go of what turns out to be damaged.
//!
//! Bytes that are served out of the mapped file pass by redb's own checksums, and those are looked at only when a
//! database is repaired; a disk that loses a bit is noticed by hashing alone.
//!
//! # The end of a damaged blob
//! 1. Marks stand on all its names, so that no client joins right bytes to wrong ones.
//! 2. It is *condemned*: no handle to it reads anything any more, old or new, so bodies in the middle of it break.
//! 3. One transaction takes its entries and its row out of the index; what is kept in memory of them is outdated.
//! 4. Its chunks are removed when the last handle is gone, as of any blob.
//!
//! A crash before 3 leaves it as it was, to be found again. Where 3 fails it stays condemned as long as the process
//! lives.

use std::ops::ControlFlow;

use sha2::Digest as _;

use super::blob::Blob;
use super::error::StoreError;
use super::index::{Tables, scrubs};
use super::open::Store;
use super::records::BlobId;
use super::selector::Selector;
use super::settings::chunks_of;
use crate::model::{Entry, EntryKey, Sha256, Timestamp};

/// Blobs that are to be read again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// Digests and sizes, those first that were not read for longest.
    pub blobs: Vec<(Sha256, u64)>,
    /// Of the others, when the one was read that was not for longest.
    pub next: Option<Timestamp>,
}

/// A blob whose bytes were read again.
#[derive(Debug)]
pub enum Compared {
    /// They are what they were.
    Intact,
    /// They are not.
    Wrong(String),
    /// They cannot be read.
    Unread(StoreError),
    /// The blob was removed in the meantime.
    Gone,
}

impl Store {
    /// What was last hashed before `before`; at most so many blobs. Reads a row for each blob that is held.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn due_for_scrub(&self, before: Timestamp, most: usize) -> Result<Due, StoreError> {
        self.0.check_open()?;
        self.0.index.run(|database| scrubs::due(database, before, most))
    }

    /// Reads a blob and compares it with its name. After each piece `each` is told how long that was, and says whether
    /// to go on; `None` if not. Blocks.
    pub fn compare(
        &self,
        digest: &Sha256,
        size: u64,
        mut each: impl FnMut(u64) -> ControlFlow<()>,
    ) -> Option<Compared> {
        let blob = match self.open_blob(digest) {
            Ok(Some(blob)) => blob,
            Ok(None) => return Some(Compared::Gone),
            Err(error) => return Some(Compared::Unread(error)),
        };
        let mut hash = sha2::Sha256::new();
        let mut read = 0;
        for index in 0..chunks_of(size) {
            let bytes = match blob.read(index) {
                Ok(bytes) => bytes,
                Err(error) => return Some(of_error(&blob, index, error)),
            };
            hash.update(&bytes);
            read += bytes.len() as u64;
            if each(bytes.len() as u64).is_break() {
                return None;
            }
        }
        let found = Sha256(hash.finalize().into());
        Some(if read != size {
            Compared::Wrong(format!("{read} bytes"))
        } else if found != *digest {
            Compared::Wrong(format!("sha256 {found}"))
        } else {
            Compared::Intact
        })
    }

    /// Notes that a blob was hashed at `at` and found right. Written down some time later.
    pub fn scrubbed(&self, digest: &Sha256, at: Timestamp) {
        let digest = *digest;
        self.0.neighbours.index.change(move |tables| tables.scrubbed(&digest, at));
    }

    /// Lets go of a damaged blob; marks stand on its names until then. The entries that had its bytes.
    ///
    /// # Errors
    /// If the index cannot be written; nothing of the blob is read all the same.
    pub async fn condemn(
        &self,
        digest: &Sha256,
        marks_until: Timestamp,
    ) -> Result<Vec<(EntryKey, Entry)>, StoreError> {
        let Some(info) = self.blob(digest)? else { return Ok(Vec::new()) };
        let (store, of) = (self.clone(), *digest);
        let names = tokio::task::spawn_blocking(move || store.names_of(&of)).await;
        let names = names.map_err(|_| StoreError::Closed)??;
        self.mark_all(names.clone(), marks_until).await;
        self.0.neighbours.leases.condemn(info.id);
        let of = *digest;
        let change = move |tables: &mut Tables<'_>| tables.quarantine(&of).map(Ok::<_, StoreError>);
        let (id, gone): (Option<BlobId>, Vec<(EntryKey, Entry)>) = self.0.queue.change(change).await?;
        // A copy took its place meanwhile, of bytes that were damaged already.
        if let Some(id) = id.filter(|id| *id != info.id) {
            self.0.neighbours.leases.condemn(id);
        }
        let late = gone.iter().map(|(key, _)| key).filter(|key| !names.contains(key)).cloned().collect();
        self.mark_all(late, marks_until).await;
        Ok(gone)
    }

    async fn mark_all(&self, names: Vec<EntryKey>, until: Timestamp) {
        if names.is_empty() {
            return;
        }
        if let Err(error) = self.set_marks(names, until).await {
            tracing::warn!(%error, "marks against resuming what is damaged stand in memory only");
        }
    }

    fn names_of(&self, digest: &Sha256) -> Result<Vec<EntryKey>, StoreError> {
        let mut names = Vec::new();
        self.entries(&Selector::default(), &mut |key, entry, _| {
            if entry.blob == *digest {
                names.push(key);
            }
            ControlFlow::Continue(())
        })?;
        Ok(names)
    }
}

/// What a chunk that cannot be read says of its blob. A database that is damaged says nothing of what is in it.
fn of_error(blob: &Blob, index: u32, error: StoreError) -> Compared {
    match error {
        StoreError::Damaged(what) if blob.is_amiss(index) => Compared::Wrong(what),
        other => Compared::Unread(other),
    }
}
