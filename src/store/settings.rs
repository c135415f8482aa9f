//! What an operator can say about the store, and the sizes that are not up to them.

use std::path::PathBuf;
use std::time::Duration;

/// Bytes in every chunk of a blob but the last.
///
/// redb rounds a value and its page header up to a power of two, so a value of exactly 1 MiB would take 2 MiB on
/// disk; the 64 bytes leave room for the header.
pub const CHUNK: usize = (1 << 20) - 64;

/// Blobs up to this size are kept whole in memory while they are in demand.
pub const SMALL: u64 = 64 << 10;

/// Bytes in the body of a [`Document`](crate::model::Document) at most.
pub const DOCUMENT_MAX: usize = 32 << 20;

/// Memory for documents that are in demand. One that takes all of it by itself is read from the index every time.
pub(super) const DOCUMENT_CACHE: u64 = 32 << 20;

/// Bytes of chunks that one volume transaction takes at most.
pub(super) const BATCH_BYTES: usize = 16 << 20;

/// Bytes of chunks that wait for one volume or are being written; whoever has more to write waits.
pub(super) const QUEUE_BYTES: usize = 32 << 20;

/// Index changes that wait or are being written; whoever has more to change waits.
pub(super) const QUEUE_CHANGES: usize = 1024;

/// Index changes that one transaction takes at most.
pub(super) const BATCH_CHANGES: usize = 256;

/// Chunks that one transaction removes at most: redb reads what it removes while it holds the write lock.
pub(super) const REMOVE_CHUNKS: usize = 64;

/// Rows that one transaction visits or removes at most, so that a long listing pins no freed pages.
pub(super) const PAGE_ROWS: usize = 512;

/// How long last uses stay in memory only.
pub(super) const USES_FLUSH: Duration = Duration::from_secs(60);

/// Uses of a blob that follow each other more closely than this count as one.
pub(super) const USE_GAP: Duration = Duration::from_secs(60);

/// Last uses in memory after which they are written early.
pub(super) const USES_MAX: usize = 16 << 10;

/// Lines of the history that are kept.
pub(super) const HISTORY_MAX: u64 = 20_000;

/// Grants that are kept; beyond them all are forgotten, and callers are asked for anew.
pub(super) const GRANTS_MAX: u64 = 100_000;
/// Blocks of a volume's file that are no chunks: the header, the first pages of its trees, what the last commits freed.
pub(super) const VOLUME_BASE: u64 = 512 << 10;

/// Blocks for the rows of a chunk and for what redb notes of its page: measured are 0.1 to 0.7 KiB.
const ROW: u64 = 768;

/// Below this, values share a page.
const SHARES_PAGE: usize = 1300;

/// The share of the bound that the index may grow by before chunks give way: one of so many, and [`INDEX_MARGIN`].
pub(super) const INDEX_SHARE: u64 = 256;

/// See [`INDEX_SHARE`].
pub(super) const INDEX_MARGIN: u64 = 1 << 20;

/// The share of the bound after which a volume takes no further blob: one of so many.
pub(super) const VOLUMES: u64 = 8;

/// But a volume has at least this, whatever the bound.
pub(super) const VOLUME_LEAST: u64 = 16 << 20;

/// Room that is kept at a time for a file of an unknown size, in bytes on disk.
pub(super) const STEP: u64 = 4 << 20;

/// When something has to go, at least this share of the bound does: one of so many. To choose is work for all blobs.
pub(super) const EVICT_SHARE: u64 = 64;

/// How long a fill waits for room to be made; clients give up after 10 s.
pub(super) const ROOM_WAIT: Duration = Duration::from_secs(5);

/// Bytes that the index keeps free for an entry of bytes that are held already.
pub(super) const ENTRY: usize = 2000;

/// Blobs and unfinished files that go in one transaction.
pub(super) const EVICT_ROWS: usize = 256;

/// A volume is rewritten when this share of its file is not needed: one of so many.
pub(super) const SPARSE: u64 = 2;

/// And at least so many bytes of it.
pub(super) const SPARSE_LEAST: u64 = 8 << 20;

/// Bytes on disk that a chunk of `len` bytes takes at most. redb gives a large value a page of its own, of a power of
/// two; small ones share pages.
pub(super) fn weight(len: usize) -> u64 {
    if len < SHARES_PAGE {
        return (len + len / 2 + 128) as u64 + ROW / 3;
    }
    let page = (len + PAGE_HEAD).next_power_of_two().max(4096) as u64;
    page + if len < (64 << 10) { ROW / 3 } else { ROW }
}

/// What redb writes before a value that has a page of its own.
pub(super) const PAGE_HEAD: usize = 20;

/// Bytes on disk that a blob of `size` bytes takes at most.
pub(super) fn weight_of(size: u64) -> u64 {
    let whole = size / CHUNK as u64;
    let tail = usize::try_from(size % CHUNK as u64).unwrap_or(CHUNK);
    let tail = if tail == 0 { 0 } else { weight(tail) };
    whole.saturating_mul(weight(CHUNK)).saturating_add(tail)
}

/// The number of a volume's chunks for a blob of `size` bytes.
pub fn chunks_of(size: u64) -> u32 {
    u32::try_from(size.div_ceil(CHUNK as u64)).unwrap_or(u32::MAX)
}

/// Bytes of chunk `index` in a blob of `size` bytes; zero past the end.
pub(super) fn chunk_len(size: u64, index: u32) -> usize {
    let left = size.saturating_sub(u64::from(index) * CHUNK as u64);
    usize::try_from(left).unwrap_or(CHUNK).min(CHUNK)
}

/// What the store is told at start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The data directory; created with mode 0700 if it is missing.
    pub dir: PathBuf,
    /// What all files of the directory may take on disk together; `None` for 80 % of what was free when it was made.
    pub max_bytes: Option<u64>,
    /// How fast volumes are rewritten, in bytes a second.
    pub rewrite_rate: u64,
    /// A volume that holds this much takes no new blobs.
    pub volume_max_bytes: u64,
    /// Memory that redb may use for pages: one budget over the index and all volumes.
    pub cache_bytes: usize,
    /// Memory for whole small blobs and hot index rows.
    pub small_cache_bytes: u64,
    /// Partial fills that nobody touched for this long are removed.
    pub partial_expiry: Duration,
    /// Space on the file system that chunks never take, so that the index can always be written.
    pub min_free_bytes: u64,
}

impl Settings {
    /// The defaults, in `dir`.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            max_bytes: None,
            rewrite_rate: 32 << 20,
            volume_max_bytes: 64 << 30,
            cache_bytes: 64 << 20,
            small_cache_bytes: 64 << 20,
            partial_expiry: Duration::from_secs(7 * 24 * 3600),
            min_free_bytes: 64 << 20,
        }
    }
}

/// How the page cache budget is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shares {
    /// For the index.
    pub index: usize,
    /// For the volume that new blobs go to.
    pub writer: usize,
    /// For each other volume.
    pub reader: usize,
}

impl Shares {
    /// Divides `budget` between the index and `volumes` volumes.
    ///
    /// The volume being written wants twice its batch, because redb gives half of a cache to dirty pages and reads
    /// the rest back for their checksums. Readers fare well with next to nothing: the kernel caches the file. Their
    /// share is a power of two, so that it changes (which reopens the volume) only when their number doubles.
    pub fn of(budget: usize, volumes: usize) -> Self {
        let index = (budget / 8).min(8 << 20);
        let rest = budget - index;
        let others = volumes.saturating_sub(1);
        if others == 0 {
            return Self { index, writer: rest, reader: 0 };
        }
        let writer = (2 * BATCH_BYTES).min(rest / 3 * 2);
        let share = (rest - writer) / others;
        let reader = if share == 0 { 0 } else { 1 << share.ilog2() };
        Self { index, writer, reader }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_caches_of_any_number_of_volumes_stay_within_the_budget() {
        for budget in [0, 4096, 1 << 20, 64 << 20, 1 << 30] {
            for volumes in 0..200 {
                let s = Shares::of(budget, volumes);
                assert!(s.index + s.writer + s.reader * volumes.saturating_sub(1) <= budget);
            }
        }
        assert_eq!(Shares::of(64 << 20, 2).writer, 32 << 20);
    }

    #[test]
    fn what_a_blob_takes_on_disk_is_never_less_than_what_it_has() {
        assert_eq!(weight(CHUNK), (1 << 20) + 768, "a chunk fits its page");
        assert!(weight(CHUNK + 64) > 2 << 20);
        for size in [0, 1, 100, 1_299, 1_300, 4_000, 4_090, 70_000, 600_000, CHUNK as u64, 5 << 30] {
            assert!(weight_of(size) >= size, "{size}");
        }
        assert_eq!(weight_of(3 * CHUNK as u64 + 5_000), 3 * weight(CHUNK) + 8_192 + 256);
        assert!(weight_of(u64::MAX) > 1 << 60);
    }

    #[test]
    fn chunk_lengths_add_up_to_the_size() {
        let chunk = CHUNK as u64;
        for size in [0, 1, chunk - 1, chunk, chunk + 1, 3 * chunk, 5 * chunk + 7] {
            let sum: u64 = (0..chunks_of(size)).map(|i| chunk_len(size, i) as u64).sum();
            assert_eq!(sum, size);
            assert_eq!(chunk_len(size, chunks_of(size)), 0);
        }
    }
}
