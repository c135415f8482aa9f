//! What changes the store: everything here waits for the disk and is on it when it returns.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::blob::{Blob, Home};
use super::error::{Failure, StoreError};
use super::index::{Tables, reads};
use super::open::Store;
use super::records::{PartialRecord, PartialRow};
use super::reservation::{Reservation, Want};
use super::selector::Selector;
use super::settings::{ENTRY, PAGE_ROWS, STEP, USES_MAX, weight_of};
use super::volumes::Refused;
use crate::model::{Commit, Entry, EntryKey, HubRoot, RefKey, Sha256, Timestamp};

/// Why an entry was not made.
#[derive(Clone, Debug)]
pub enum CommitError {
    /// The key is immutable and names other bytes already, here or at a root that counts as the same.
    Conflict {
        /// What the key names.
        held: Sha256,
        /// What it would have named.
        offered: Sha256,
    },
    /// The bytes are not held, or the partial fill was removed in the meantime.
    NoBlob,
    /// The store failed.
    Store(StoreError),
}

impl fmt::Display for CommitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Conflict { held, offered } => {
                write!(f, "an immutable revision holds {held} and cannot become {offered}")
            }
            Self::NoBlob => f.write_str("the bytes are not in the store"),
            Self::Store(_) => f.write_str("the entry could not be stored"),
        }
    }
}

impl std::error::Error for CommitError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Store(e) => Some(e),
            Self::Conflict { .. } | Self::NoBlob => None,
        }
    }
}

impl From<StoreError> for CommitError {
    fn from(e: StoreError) -> Self {
        Self::Store(e)
    }
}

/// What a removal took away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Entries.
    pub entries: u64,
    /// Partial fills.
    pub partials: u64,
    /// Answers of a hub's API.
    pub documents: u64,
    /// Blobs that no entry names any more.
    pub blobs: u64,
    /// The length of those blobs. Their room is free once nobody reads them.
    pub bytes: u64,
}

/// What was too old to keep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expired {
    /// Partial fills.
    pub partials: u64,
    /// Marks.
    pub marks: u64,
}

/// Room in a volume that is kept for one fill, until that begins or this is dropped.
pub struct Room(Reservation);

/// A resumed fill: what was known of it, where its bytes go, and the index and length of each chunk that is there.
pub type Resumed = (PartialRecord, Blob, Vec<(u32, u32)>);

impl Store {
    /// Gives a new fill a blob to write to. Its row is on disk before the first chunk can be written. An older
    /// partial fill of the same key is removed.
    ///
    /// # Errors
    /// [`StoreError::NoSpace`] when the expected size, or the first chunk, has no room.
    pub async fn begin_partial(&self, key: &EntryKey, record: PartialRecord) -> Result<Blob, StoreError> {
        let room = self.room(record.expectation.representation.size).await?;
        self.begin_in(room, key, record).await
    }

    /// Keeps room for a file of the expected size, or for the beginning of one whose size is not known. Waits for a
    /// volume that must be created, and at the bound for what has to go first.
    ///
    /// # Errors
    /// As [`Store::begin_partial`].
    pub async fn room(&self, size: Option<u64>) -> Result<Room, StoreError> {
        self.0.check_open()?;
        let want = match size {
            Some(size) => Want::blob(size),
            None => Want { bytes: 0, weight: STEP },
        };
        let reserved = self.reserve(want).await?;
        if reserved.volume().room()?.possible() < size.unwrap_or(0).max(1) {
            return Err(StoreError::NoSpace);
        }
        Ok(Room(reserved))
    }

    /// [`Store::begin_partial`] in room that is kept already.
    ///
    /// # Errors
    /// If the index cannot be written.
    pub async fn begin_in(
        &self,
        room: Room,
        key: &EntryKey,
        record: PartialRecord,
    ) -> Result<Blob, StoreError> {
        let inner = &self.0;
        inner.check_open()?;
        let reserved = Arc::new(room.0);
        let volume = reserved.volume().clone();
        let (key, leases) = (key.clone(), inner.neighbours.leases.clone());
        let begin = move |tables: &mut Tables<'_>| -> Result<Result<Blob, StoreError>, Failure> {
            let id = tables.begin_partial(&key, volume.number(), record.clone())?;
            // The handle is there before anybody can learn of the blob and remove it.
            Ok(Ok(leases.take(id, Home::Volume(volume.clone()), None, Some(reserved.clone()))))
        };
        inner.queue.change(begin).await
    }

    /// Finds the partial fill of an earlier run, with a handle to what it wrote.
    ///
    /// # Errors
    /// If the index or the volume cannot be read.
    pub async fn resume_partial(&self, key: &EntryKey) -> Result<Option<Resumed>, StoreError> {
        let (store, key) = (self.clone(), key.clone());
        let resumed = tokio::task::spawn_blocking(move || store.resume(&key)).await;
        let resumed = resumed.map_err(|_| StoreError::Closed)??;
        if let Some((record, blob, chunks)) = &resumed {
            let held: u64 = chunks.iter().map(|(_, len)| u64::from(*len)).sum();
            let missing = record.expectation.representation.size.unwrap_or(0).saturating_sub(held);
            // Without room for all of it, as much is stored as there is.
            if let Some(reserved) = blob.reserved().filter(|_| missing > 0) {
                match self.extend(reserved, weight_of(missing)).await {
                    Ok(()) | Err(StoreError::NoSpace) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(resumed)
    }

    fn resume(&self, key: &EntryKey) -> Result<Option<Resumed>, StoreError> {
        let inner = &self.0;
        inner.check_open()?;
        loop {
            let seen = inner.memory.removals();
            let Some(row) = inner.index.run(|database| reads::partial(database, key))? else {
                return Ok(None);
            };
            let PartialRow { id, volume, .. } = row;
            let volume = inner.volumes.get(volume)?;
            let chunks = volume.list(id)?;
            let held: u64 = chunks.iter().map(|(_, len)| u64::from(*len)).sum();
            let missing = row.expectation.representation.size.unwrap_or(0).saturating_sub(held);
            let reserved = Arc::new(Reservation::new(volume.clone(), Want { bytes: missing, weight: 0 }));
            let blob = inner.neighbours.leases.take(id, Home::Volume(volume), None, Some(reserved));
            if inner.memory.removals() == seen {
                blob.resume(&chunks);
                return Ok(Some((row.record(), blob, chunks)));
            }
        }
    }

    /// Changes what is recorded of a running fill.
    ///
    /// # Errors
    /// [`StoreError::Gone`] if it was removed in the meantime.
    pub async fn update_partial(&self, key: &EntryKey, record: PartialRecord) -> Result<(), StoreError> {
        self.0.check_open()?;
        let key = key.clone();
        self.0.queue.change(move |tables| tables.update_partial(&key, record.clone())).await
    }

    /// Removes a partial fill; the chunks go once nobody holds the blob. One that is gone already is no error.
    ///
    /// # Errors
    /// If the index cannot be written.
    pub async fn discard_partial(&self, key: &EntryKey) -> Result<(), StoreError> {
        self.0.check_open()?;
        let key = key.clone();
        self.0.queue.change(move |tables| tables.discard_partial(&key).map(Ok)).await
    }

    /// Queues one chunk of a partial blob, made of `data` in order. Waits while too much is queued. The receiver
    /// fires when the chunk is on disk; one that is dropped means that the store was closed or its writer ended.
    ///
    /// Every chunk but the last of a whole blob has [`super::CHUNK`] bytes. A shorter one may be written and replaced
    /// later by a longer one that begins with it; one of [`super::CHUNK`] bytes stays as it is.
    ///
    /// # Errors
    /// If nothing was queued: the store is closed or has no room, or the chunk is empty or too long.
    pub async fn write_chunk(
        &self,
        blob: &Blob,
        index: u32,
        data: Vec<Bytes>,
    ) -> Result<oneshot::Receiver<Result<(), StoreError>>, StoreError> {
        self.0.check_open()?;
        let volume = blob.volume().ok_or(StoreError::Misuse("what is lent is not written"))?;
        let len = data.iter().map(Bytes::len).sum();
        let claim = match blob.reserved() {
            Some(reserved) => Some(self.claim(reserved, len).await?),
            None => None,
        };
        volume.write(&self.0.neighbours, blob, index, data, claim).await
    }

    /// Turns a partial fill, all of whose chunks are on disk and verified, into an entry, in one transaction. If the
    /// same bytes are held already, the entry shares those and the new chunks are removed.
    ///
    /// # Errors
    /// See [`CommitError`]. After a conflict the partial fill is still there.
    pub async fn commit(
        &self,
        key: &EntryKey,
        blob: &Blob,
        entry: Entry,
        equivalents: &[HubRoot],
    ) -> Result<Arc<Entry>, CommitError> {
        let inner = &self.0;
        inner.check_open()?;
        let size = entry.size;
        if blob.size().is_some() {
            return Err(StoreError::Misuse("a blob is committed once").into());
        }
        if !blob.holds(size) {
            return Err(StoreError::Misuse("a blob is committed when all its chunks are on disk").into());
        }
        let (id, key, equivalents) = (blob.id(), key.clone(), equivalents.to_vec());
        let committed =
            inner.queue.change(move |tables| tables.commit(&key, id, &entry, &equivalents)).await?;
        blob.complete(size);
        Ok(committed)
    }

    /// Outdates what was worked out by what is outside of the store and has changed, as a change of the store would.
    pub fn outdate_answers(&self) {
        self.0.memory.add_news(1);
    }

    /// Makes an entry for bytes that are held already.
    ///
    /// # Errors
    /// See [`CommitError`].
    pub async fn link(
        &self,
        key: &EntryKey,
        entry: Entry,
        equivalents: &[HubRoot],
    ) -> Result<Arc<Entry>, CommitError> {
        self.0.check_open()?;
        let _taken = self.afford(ENTRY).await?;
        let (key, equivalents) = (key.clone(), equivalents.to_vec());
        self.0.queue.change(move |tables| tables.link(&key, &entry, &equivalents)).await
    }

    /// Notes that the hub confirmed an entry at `at`. The entry as it is now; `None` if it is gone.
    ///
    /// # Errors
    /// If the index cannot be written.
    pub async fn confirm(&self, key: &EntryKey, at: Timestamp) -> Result<Option<Arc<Entry>>, StoreError> {
        self.0.check_open()?;
        let key = key.clone();
        self.0.queue.change(move |tables| tables.confirm(&key, at).map(Ok)).await
    }

    /// Notes which commit a branch or tag names; the one before is remembered.
    ///
    /// # Errors
    /// If the index cannot be written.
    pub async fn put_reference(&self, key: &RefKey, commit: Commit, at: Timestamp) -> Result<(), StoreError> {
        self.0.check_open()?;
        let key = key.clone();
        self.0.queue.change(move |tables| tables.put_reference(&key, &commit, at).map(Ok)).await
    }

    /// Lets marks stand on these keys until `until`. They stand in memory when this returns; the future that it
    /// returns puts them on disk.
    ///
    /// # Errors
    /// The future's: if they do not stand on disk, and so not after a restart.
    pub fn set_marks(
        &self,
        keys: Vec<EntryKey>,
        until: Timestamp,
    ) -> impl Future<Output = Result<(), StoreError>> + Send + use<> {
        self.marks().extend(keys.iter().map(|key| (key.clone(), until)));
        let store = self.clone();
        async move {
            store.0.check_open()?;
            store.0.queue.change(move |tables| tables.set_marks(&keys, until).map(Ok)).await
        }
    }

    /// Removes entries, partial fills and documents, and the blobs that no entry names then. Where neither a revision
    /// nor a path is named, what branches and tags name is forgotten too. A large removal is many transactions.
    ///
    /// # Errors
    /// If the index cannot be written; a part may have been removed.
    pub async fn remove(&self, select: &Selector) -> Result<Removed, StoreError> {
        self.0.check_open()?;
        let mut removed = Removed::default();
        let mut from = select.prefix();
        loop {
            let select = select.clone();
            let step = self
                .0
                .queue
                .change::<_, StoreError>(move |tables| tables.remove(&select, &from, PAGE_ROWS).map(Ok))
                .await?;
            removed.entries += step.entries;
            removed.partials += step.partials;
            removed.documents += step.documents;
            removed.blobs += step.blobs;
            removed.bytes += step.bytes;
            match step.next {
                Some(next) => from = next,
                None => return Ok(removed),
            }
        }
    }

    /// Notes that a blob was used. Written down some time later.
    pub fn used(&self, sha: &Sha256, now: Timestamp) {
        let full = {
            let mut uses = self.0.uses.get();
            uses.entry(*sha).or_default().again(now);
            uses.len() >= USES_MAX
        };
        if full && let Some(change) = self.0.uses.flush() {
            self.0.neighbours.index.change(change);
        }
    }

    /// Removes partial fills that nobody holds and nobody touched for long, and marks that no longer stand.
    ///
    /// # Errors
    /// If the index cannot be written.
    pub async fn expire(&self, now: Timestamp) -> Result<Expired, StoreError> {
        self.0.check_open()?;
        self.marks().retain(|_, until| *until > now);
        let expiry = u64::try_from(self.0.partial_expiry.as_millis()).unwrap_or(u64::MAX);
        let before = Timestamp(now.0.saturating_sub(expiry));
        let leases = self.0.neighbours.leases.clone();
        let (partials, marks) = self
            .0
            .queue
            .change::<_, StoreError>(move |tables| {
                tables.expire(before, now, &|id| leases.is_held(id)).map(Ok)
            })
            .await?;
        Ok(Expired { partials, marks })
    }

    /// Creates the first volume, so that the first fill need not wait for it. Blocks.
    ///
    /// # Errors
    /// If it cannot be created.
    pub fn prepare(&self) -> Result<(), StoreError> {
        self.0.check_open()?;
        match self.0.volumes.choose_or_create(Want::default()) {
            Ok(_) | Err(Refused::Full(_)) => Ok(()),
            Err(Refused::Store(error)) => Err(error),
        }
    }
}
