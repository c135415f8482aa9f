//! One verified copy of every file, on disk: the store, and the format of what it writes.
//!
//! The store keeps *blobs* (bytes, named by their SHA-256), *entries* (which blob a file of a hub is, and what
//! clients are told of it) and *documents* (what a hub's API said). It knows nothing of hubs, policy or HTTP beyond the nouns of [`crate::model`]. What is
//! read from it was durable before it was named; what it acknowledged survives the loss of power.
//!
//! # Files
//!
//! | in the data directory (0700) | what it is (0600) |
//! |---|---|
//! | `lock` | locked by the one process that owns the directory; holds its process id, for error messages only |
//! | `index.redb` | the index: which files there are and where their bytes lie. Small; consistent on its own |
//! | `volumes/blobs-0001.redb` ... | volumes: the bytes, in chunks. Each takes new blobs until it holds `volume_max_bytes`, or an eighth of the bound |
//!
//! All are redb databases but the first. A blob lies in one volume. Several volumes mean that one damaged file is not
//! the whole cache, that terabytes do not hang on one list of free pages, and that space can be given back by removing one. A
//! blob that is larger than a volume gets one of its own. A network file system is refused, because
//! locks and syncs cannot be relied on there.
//!
//! # Layout 1
//!
//! The index's table `meta` names the layout. An unknown one is refused before anything is written.
//!
//! | table of the index | key | value |
//! |---|---|---|
//! | `meta` | `layout`, `next-blob`, `max-bytes` | numbers: the layout; the blob id that is given out next; the bound that was found at the first start |
//! | `entries` | hub, root, kind, repository, revision and path, joined by NUL | [`Entry`](crate::model::Entry) |
//! | `blobs` | SHA-256 | blob id, volume, size, how many entries name it, last use, git blob id if one was verified, where it stands among what can go |
//! | `git` | git blob id | SHA-256 of the same bytes |
//! | `refs` | hub, root, kind, repository and name, joined by NUL | the commit, when it was checked, up to 16 earlier commits |
//! | `documents` | as `entries`, with the question as the path | [`Document`](crate::model::Document), and its body behind it |
//! | `partials` | as `entries` | blob id, volume, expectation, when the fill began and last made progress |
//! | `marks` | as `entries` | until when the file must not be resumed by a client |
//! | `deletions` | blob id | the volume that still holds chunks of a blob that is gone |
//! | `moves` | blob id | the volume to which a blob is being copied under this id |
//! | `revisions` | as `entries`, without a path | [`Decided`](crate::model::Decided): pinned, superseded |
//! | `renewals` | as `entries`, with the revision that comes as the path | [`Renewal`](crate::model::Renewal): a job of an announcement |
//! | `holds` | the repository with the prefix of its kind | since when all its revisions are kept |
//! | `history` | number | [`Happening`](crate::model::Happening); the last 20,000 are kept |
//! | `grants` | keyed hash of credentials, and a path | [`GrantRecord`]: when the hub accepted them for it |
//! | `keys` | name | random bytes: what credentials are hashed with |
//! | `scrubs` | blob id | when its bytes were last read and found right; a blob without a row was not since it was stored |
//! | `volumes` | number | nothing yet; the row makes the file part of the store |
//!
//! | table of a volume | key | value |
//! |---|---|---|
//! | `chunks` | blob id and chunk index | [`CHUNK`] bytes, fewer in the last chunk of a blob |
//! | `lengths` | blob id and chunk index | the chunk's length, so that a fill is resumed without reading its bytes |
//! | `totals` | `held`, `weight`, `weighed` | the sum of all lengths; what all chunks take on disk at most; the sum of which that was said |
//!
//! Values other than numbers, keys and chunks are a version byte and the fields in postcard. The version is 1, but 2 for rows of
//! `blobs`, `revisions`, `entries` and `partials` (which tell since then who may read them), of which those of version 1 are
//! read too. A row of an
//! unknown version is damage to that row alone. The body of a document, of [`DOCUMENT_MAX`] bytes at most, lies behind
//! the fields, as a zlib stream where that makes it smaller. An index that lacks `documents`, `grants`, `scrubs`, `moves` or a
//! table from
//! `revisions` to `history` is of an earlier program, and gets them when it is opened. To change what a row says, give it a new version and a migration; a
//! test holds the bytes of version 1 fast. Blob ids are never used twice.
//!
//! # In which order things reach the disk
//!
//! Every transaction commits with `Durability::Immediate` and quick repair, so that it is on disk when it is
//! acknowledged and opening after a crash takes milliseconds.
//!
//! 1. *Begin*: the index gives out a blob id and writes the partial row. Only then may chunks be written.
//! 2. *Write*: the volume writes chunks, many fills in one transaction, and acknowledges each.
//! 3. *Commit*: when all chunks are acknowledged, one index transaction turns the partial row into a blob row and an
//!    entry. If the same bytes are held already it adds a reference to those and dooms the new ones.
//! 4. *Doom*: the index transaction that takes the last reference away moves the blob to `deletions`.
//! 5. *Remove*: when nobody reads the blob any more its volume removes the chunks, at most 64 in a transaction, and then
//!    the index removes the row.
//!
//! A crash between 1 and 3 leaves a partial row, and the volume says how far the fill came; a crash between 4 and 5
//! leaves a row of `deletions`, and the next start goes on. So every chunk on disk is named by the index at any moment,
//! as a blob, as a partial fill or as a deletion, and a start scans no volume. A volume's file is created before the row
//! that names it; an empty file without a row is taken up by the next attempt.
//!
//! # Who owns what
//!
//! One thread writes the index and one each volume that is written to; changes and chunks that wait together are
//! committed together. Queues are bounded: 1024 changes, and 32 MiB of chunks for each volume. The index thread never
//! waits for a volume, only the other way round. Readers use short transactions of their own and wait for nobody.
//!
//! A [`Blob`] is a lease: while one is alive, chunks of that blob are not removed. A chunk that is handed out is memory
//! of its own, or a slice of the mapped file (`mapping`) together with a lease. It never holds a transaction, so a slow
//! client keeps no page from being used again but those of its own file.
//!
//! `cache_bytes` is one budget for the pages that redb keeps of the index and all volumes, and most of it goes to the
//! volume that new blobs are written to; when another volume takes that place both are reopened, which takes
//! milliseconds. `small_cache_bytes` is for entries and whole small blobs. Documents in demand have 32 MiB beside that.
//!
//! A store can also hold entries whose bytes lie in a bundle ([`Store::lend`]): it has an index then, and no volumes.
//!
//! # The bound
//!
//! `max_bytes` bounds what all files of the directory take on disk, in blocks. It is kept in two places (`budget`): room is
//! kept before a fill begins, and looked for again before every transaction that adds chunks or documents. What a blob takes
//! is known beforehand (`settings`): redb gives a chunk a page of a power of two, and notes 0.1 to 0.7 KiB beside it.
//! Measured, whole chunks take 1.0006 (in 4 GiB) to 1.0018 (in 64 MiB) times their bytes, and the last chunk of a blob up to
//! twice its own. A volume has 512 KiB beside that, and the index a margin of 1 MiB and a 256th of the bound.
//!
//! Where no room is left something goes (`room`, [`crate::policy::evict`]). Its blocks return at once (`holes`), or when its
//! volume is removed or rewritten (`rewrite`, which also says what a crash leaves).
//!
//! # A full disk
//!
//! Before a batch is written the volume compares it with the room on the disk above `min_free_bytes` and in the free
//! pages of its own file, and chunks without room fail with [`StoreError::NoSpace`], as does a document that would
//! take of the floor. The rest of the index may use the floor, so that files can be removed from a full disk and what
//! branches name is noted. If the disk refuses all the same, redb allows nothing more on that
//! database; it is reopened at once, what was acknowledged is there, and readers do not notice.

mod access;
mod around;
mod backend;
mod blob;
mod budget;
mod chunks;
mod disk;
mod documents;
mod error;
#[cfg(test)]
mod faults;
mod handle;
mod holes;
mod index;
mod lent;
mod lock;
mod look;
mod lookups;
mod mapping;
mod memory;
mod offsets;
mod open;
mod open_error;
mod packed;
mod records;
mod renewals;
mod reservation;
mod rewrite;
mod room;
mod scrubs;
mod selector;
mod settings;
#[cfg(test)]
mod tests;
mod volume;
mod volumes;
mod writeback;
mod writer;
mod writes;

pub use access::GrantRecord;
pub use blob::Blob;
pub use error::StoreError;
pub use look::Look;
pub use lookups::{NotReady, Usage};
pub use open::Store;
pub use open_error::OpenError;
pub use records::{BlobId, BlobInfo, PartialRecord, RefRecord};
pub use renewals::Decision;
pub use rewrite::Rewritten;
pub use room::{Going, MOST_FILES, Pruned, Spared, WentAway};
pub use scrubs::{Compared, Due};
pub use selector::Selector;
pub use settings::{CHUNK, DOCUMENT_MAX, SMALL, Settings, chunks_of};
pub use writes::{CommitError, Expired, Removed, Resumed, Room};
