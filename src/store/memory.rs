//! What is kept in memory of the index, of documents and of small blobs.
//!
//! A reader may look a row up, be overtaken by a change, and only then remember what it saw. So everything remembered
//! carries the number of changes that were known before the look-up, and counts only while that is the present
//! number. The number rises after the commit and before anybody is told of it.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use moka::sync::Cache;

use super::records::{BlobId, BlobRow};
use super::settings::DOCUMENT_CACHE;
use crate::model::{Document, Entry, EntryKey, Sha256};

/// Groups of keys that are outdated together.
const SHARDS: usize = 256;

/// A number of changes, as known at some time.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen(u64);

/// Where the bytes of a digest are.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub id: BlobId,
    pub volume: u32,
    pub size: u64,
}

impl From<&BlobRow> for Place {
    fn from(row: &BlobRow) -> Self {
        Self { id: row.id, volume: row.volume, size: row.size }
    }
}

/// The caches: one budget, and [`DOCUMENT_CACHE`] for documents.
pub(super) struct Memory {
    entries: Cache<EntryKey, (Seen, Arc<Entry>)>,
    places: Cache<Sha256, (Seen, Place)>,
    small: Cache<BlobId, Bytes>,
    documents: Cache<EntryKey, (Seen, Arc<Document>)>,
    changes: Box<[AtomicU64]>,
    removals: AtomicU64,
    news: AtomicU64,
    hasher: RandomState,
}

impl Memory {
    /// Divides `budget` bytes: an eighth for places, an eighth for entries, the rest for small blobs.
    pub(super) fn new(budget: u64) -> Self {
        let entries = Cache::builder()
            .max_capacity(budget / 8)
            .weigher(|key: &EntryKey, (_, entry): &(Seen, Arc<Entry>)| entry_weight(key, entry))
            .build();
        let places = Cache::builder().max_capacity(budget / 8).weigher(|_, _| 160).build();
        let small = Cache::builder()
            .max_capacity(budget - budget / 4)
            .weigher(|_, bytes: &Bytes| u32::try_from(bytes.len() + 128).unwrap_or(u32::MAX))
            .build();
        let documents = Cache::builder()
            .max_capacity(DOCUMENT_CACHE)
            .weigher(|key: &EntryKey, (_, document): &(Seen, Arc<Document>)| document_weight(key, document))
            .build();
        let changes = (0..SHARDS).map(|_| AtomicU64::new(0)).collect();
        let [removals, news] = [0, 0].map(AtomicU64::new);
        Self { entries, places, small, documents, changes, removals, news, hasher: RandomState::new() }
    }

    /// To be taken before an entry or a document is looked up.
    pub(super) fn changes(&self, key: &EntryKey) -> Seen {
        Seen(self.shard(key).load(Ordering::SeqCst))
    }

    /// To be taken before a blob is looked up.
    pub(super) fn removals(&self) -> Seen {
        Seen(self.removals.load(Ordering::SeqCst))
    }

    pub(super) fn entry(&self, key: &EntryKey) -> Option<Arc<Entry>> {
        let now = self.changes(key);
        self.entries.get(key).filter(|(seen, _)| *seen == now).map(|(_, entry)| entry)
    }

    pub(super) fn remember_entry(&self, seen: Seen, key: &EntryKey, entry: &Arc<Entry>) {
        self.entries.insert(key.clone(), (seen, entry.clone()));
    }

    pub(super) fn document(&self, key: &EntryKey) -> Option<Arc<Document>> {
        let now = self.changes(key);
        self.documents.get(key).filter(|(seen, _)| *seen == now).map(|(_, document)| document)
    }

    pub(super) fn remember_document(&self, seen: Seen, key: &EntryKey, document: &Arc<Document>) {
        self.documents.insert(key.clone(), (seen, document.clone()));
    }

    /// How many entries and documents were written or removed so far.
    pub(super) fn news(&self) -> u64 {
        self.news.load(Ordering::SeqCst)
    }

    /// Counts `news` more of them.
    pub(super) fn add_news(&self, news: u64) {
        self.news.fetch_add(news, Ordering::SeqCst);
    }

    pub(super) fn place(&self, seen: Seen, sha: &Sha256) -> Option<Place> {
        self.places.get(sha).filter(|(then, _)| *then == seen).map(|(_, place)| place)
    }

    pub(super) fn remember_place(&self, seen: Seen, sha: &Sha256, place: Place) {
        self.places.insert(*sha, (seen, place));
    }

    /// The bytes of a blob: they never change, and its id is never used again.
    pub(super) fn small(&self, id: BlobId) -> Option<Bytes> {
        self.small.get(&id)
    }

    pub(super) fn remember_small(&self, id: BlobId, bytes: Bytes) {
        self.small.insert(id, bytes);
    }

    /// Outdates what is remembered of these entries and documents.
    pub(super) fn changed(&self, keys: &[EntryKey]) {
        for key in keys {
            self.shard(key).fetch_add(1, Ordering::SeqCst);
            // Not for the truth, which is in the number, but for the room: a document can be large.
            self.documents.invalidate(key);
        }
    }

    /// Outdates all places, and forgets the bytes of the blobs that are to be removed.
    pub(super) fn removed(&self, blobs: &[(BlobId, u32)]) {
        if !blobs.is_empty() {
            self.removals.fetch_add(1, Ordering::SeqCst);
        }
        for (id, _) in blobs {
            self.small.invalidate(id);
        }
    }

    fn shard(&self, key: &EntryKey) -> &AtomicU64 {
        let hash = self.hasher.hash_one(key);
        &self.changes[usize::try_from(hash % SHARDS as u64).unwrap_or(0)]
    }
}

fn entry_weight(key: &EntryKey, entry: &Entry) -> u32 {
    let text = |s: &Option<String>| s.as_ref().map_or(0, String::len);
    let r = &entry.representation;
    let heap = key.repo.id.len()
        + key.revision.len()
        + key.path.len()
        + text(&r.etag)
        + text(&r.content_type)
        + text(&r.last_modified)
        + text(&entry.validator)
        + entry.promises.len() * 40;
    u32::try_from(heap + 512).unwrap_or(u32::MAX)
}

fn document_weight(key: &EntryKey, document: &Document) -> u32 {
    // The fields but the body are short: what a hub sends in a header is bounded where it is read.
    let heap = key.repo.id.len() + key.revision.len() + key.path.len() + document.body.len();
    u32::try_from(heap + 512).unwrap_or(u32::MAX)
}
