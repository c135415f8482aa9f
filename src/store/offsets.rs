//! Where in a volume's file the bytes of a chunk lie, so that they can be served from there.
//!
//! redb has no call for that, but it shows its pages to the file below it ([`super::backend`]). A page whose only
//! value is a chunk is recognized by its key and *noted*. What the file has at the noted place is compared with what
//! redb gives when the chunk is read or, in samples, with what has just been written; only then is the place *known*.
//!
//! A known place stays true for as long as the chunk exists. redb writes a value anew only when a page changes that
//! it shares with others, and it leaves pages with a single large value alone, whatever happens to their neighbours
//! (`is_single_large_value` in redb 4.6; a test here holds it to that). Chunks of whole blobs, and of others those that
//! are as long as a chunk can be, are never written again once they are on disk, and are removed only when nobody
//! holds the blob ([`super::blob`]). Volumes are never compacted.
//!
//! The same places tell which pages are free once a chunk is gone, so that their blocks are given back to the disk
//! ([`super::holes`]).

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use moka::sync::Cache;

use super::records::BlobId;
use super::settings::PAGE_HEAD;

/// Chunks of at least this size are served from the file; smaller ones may share their page with others.
pub(super) const LARGE: usize = 64 << 10;

/// Places that were seen and not compared yet.
const NOTED: u64 = 16 << 10;

/// Memory for known places, in bytes: eight for each chunk.
const KNOWN: u64 = 8 << 20;

/// The first byte of a page that holds values, in redb's file format 3.
const LEAF: u8 = 1;
/// Where the keys begin in a page with one value: behind the kind, the number of pairs and the end of the value.
const KEY: usize = 8;
/// Where the value begins: behind the key, a blob id and a chunk index.
const VALUE: usize = PAGE_HEAD;

/// Places in the files of all volumes.
pub(super) struct Offsets {
    noted: Cache<(BlobId, u32), u64>,
    /// Of whole blobs, with the number of their chunks.
    known: Cache<BlobId, (u32, Arc<Table>)>,
}

impl fmt::Debug for Offsets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Offsets").finish_non_exhaustive()
    }
}

impl Offsets {
    pub(super) fn new() -> Arc<Self> {
        let weigh =
            |_: &BlobId, (chunks, _): &(u32, Arc<Table>)| chunks.saturating_mul(8).saturating_add(128);
        let known = Cache::builder().max_capacity(KNOWN).weigher(weigh).build();
        // What was seen last is what is asked for next; how often it was seen says nothing.
        let lru = moka::policy::EvictionPolicy::lru();
        let noted = Cache::builder().max_capacity(NOTED).eviction_policy(lru).build();
        Arc::new(Self { noted, known })
    }

    /// redb reads or writes `page` at `offset`.
    pub(super) fn saw(&self, offset: u64, page: &[u8]) {
        let Some((id, index)) = chunk_of(page) else { return };
        let at = offset + VALUE as u64;
        if let Some((_, table)) = self.known.get(&id) {
            match table.get(index) {
                Some(known) if known == at => return,
                Some(_) => {
                    tracing::error!(
                        blob = id.0,
                        index,
                        "redb moved a chunk; it is no longer served from its file"
                    );
                    table.set(index, 0);
                }
                None => {}
            }
        }
        self.noted.insert((id, index), at);
    }

    /// Where a chunk was last seen, to be compared.
    pub(super) fn noted(&self, id: BlobId, index: u32) -> Option<u64> {
        self.noted.get(&(id, index))
    }

    /// The known places of a whole blob of so many chunks.
    pub(super) fn table(&self, id: BlobId, chunks: u32) -> Arc<Table> {
        self.known.get_with(id, || (chunks, Arc::default())).1
    }

    /// A blob is whole now: what is known of it outlasts those who hold it.
    pub(super) fn keep(&self, id: BlobId, chunks: u32, table: &Arc<Table>) {
        self.known.insert(id, (chunks, Arc::clone(table)));
    }

    /// The chunk is where it was noted to be. It stays noted, for when it is removed.
    pub(super) fn confirm(&self, table: &Table, index: u32, at: u64) {
        table.set(index, at);
    }

    /// Where the page of a chunk begins that was removed a moment ago, as far as that can be told: where it was seen
    /// last, or else where it is known to have been.
    pub(super) fn page_of(&self, id: BlobId, index: u32) -> Option<u64> {
        let known = || self.known.get(&id).and_then(|(_, table)| table.get(index));
        self.noted.remove(&(id, index)).or_else(known).map(|at| at - VALUE as u64)
    }

    /// A blob is gone, and its id is never used again.
    pub(super) fn forget(&self, id: BlobId) {
        self.known.invalidate(&id);
    }
}

/// The known places of one blob, as far as one is known; zero, where a file has its header, stands for none.
#[derive(Default)]
pub(super) struct Table(RwLock<Vec<u64>>);

impl Table {
    pub(super) fn get(&self, index: u32) -> Option<u64> {
        let places = self.0.read().unwrap_or_else(PoisonError::into_inner);
        places.get(index as usize).copied().filter(|at| *at > 0)
    }

    /// `index` is that of a chunk that exists.
    fn set(&self, index: u32, at: u64) {
        let mut places = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let index = index as usize;
        if places.len() <= index {
            places.resize(index + 1, 0);
        }
        places[index] = at;
    }
}

/// What a page begins with whose only value is that chunk; four bytes with the end of the value are left out.
pub(super) fn is_page_of(head: &[u8; PAGE_HEAD], id: BlobId, index: u32) -> bool {
    head[0] == LEAF
        && head[2..4] == [1, 0]
        && head[KEY..KEY + 8] == id.0.to_le_bytes()
        && head[KEY + 8..] == index.to_le_bytes()
}

/// The chunk that is the only value of a page.
fn chunk_of(page: &[u8]) -> Option<(BlobId, u32)> {
    if page.len() < LARGE || page[0] != LEAF || page[2..4] != [1, 0] {
        return None;
    }
    let id = u64::from_le_bytes(page[KEY..KEY + 8].try_into().ok()?);
    let index = u32::from_le_bytes(page[KEY + 8..VALUE].try_into().ok()?);
    Some((BlobId(id), index))
}

#[cfg(test)]
mod tests {
    use std::collections::btree_map::{BTreeMap, Entry};

    use redb::{Database, ReadableDatabase, TableDefinition};

    use super::*;

    const CHUNKS: TableDefinition<'_, (u64, u32), &[u8]> = TableDefinition::new("chunks");

    /// The whole rests on this: while neighbours come and go, a large value stays where it is.
    #[test]
    fn redb_leaves_large_values_where_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let database = Database::create(&path).unwrap();
        let mut rng = fastrand::Rng::with_seed(7);
        let mut held = BTreeMap::new();
        let mut places = BTreeMap::new();
        for round in 0..60u64 {
            let txn = database.begin_write().unwrap();
            let mut table = txn.open_table(CHUNKS).unwrap();
            for _ in 0..rng.usize(1..12) {
                let key = (rng.u64(0..20), rng.u32(0..8));
                if rng.u8(0..3) == 0 {
                    table.remove(key).unwrap();
                    held.remove(&key);
                    places.remove(&key);
                } else if let Entry::Vacant(free) = held.entry(key) {
                    let large = rng.bool();
                    let len = if large { rng.usize(LARGE..4 * LARGE) } else { rng.usize(1..3000) };
                    let mut value = vec![0; len];
                    rng.fill(&mut value);
                    table.insert(key, value.as_slice()).unwrap();
                    free.insert(value);
                }
            }
            drop(table);
            txn.commit().unwrap();
            let file = std::fs::read(&path).unwrap();
            let table = database.begin_read().unwrap().open_table(CHUNKS).unwrap();
            for (key, value) in held.iter().filter(|(_, value)| value.len() >= LARGE) {
                assert_eq!(table.get(key).unwrap().unwrap().value(), value);
                let at = *places.entry(*key).or_insert_with(|| place(&file, *key, value).unwrap_or(0));
                if at > 0 {
                    assert!(file[at..at + value.len()] == **value, "{key:?} was moved in round {round}");
                }
            }
        }
        let found = places.values().filter(|at| **at > 0).count();
        assert!(found * 10 > places.len() * 8, "{found} of {} were recognized", places.len());
    }

    /// Where the only value of a page is that of `key`.
    fn place(file: &[u8], key: (u64, u32), value: &[u8]) -> Option<usize> {
        (0..file.len()).step_by(4096).find_map(|offset| {
            let rest = &file[offset..];
            let is_there = chunk_of(rest) == Some((BlobId(key.0), key.1));
            (is_there && rest[VALUE..].starts_with(value)).then_some(offset + VALUE)
        })
    }
}
