//! The tables of `index.redb` and what is done to them, without threads or volumes.

mod access;
mod documents;
pub(super) mod evictions;
mod files;
mod fills;
pub(super) mod moves;
mod notes;
pub(super) mod queue;
pub(super) mod reads;
mod removals;
mod renewals;
pub(super) mod scrubs;

use redb::{
    Database, Durability, ReadableDatabase, ReadableTable, Table, TableDefinition, TableError,
    WriteTransaction,
};

use super::error::{Failure, StoreError};
use super::records::{BlobId, DeletionRow, Row, VolumeRow};
use crate::model::EntryKey;

/// Layout version and the next blob id.
pub(super) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// [`EntryKey`] → `Entry`.
pub(super) const ENTRIES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("entries");
/// SHA-256 → `BlobRow`.
const BLOBS: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("blobs");
/// Git blob id → SHA-256.
const GIT: TableDefinition<'_, &[u8; 20], &[u8; 32]> = TableDefinition::new("git");
/// [`EntryKey`] → the row of a `Document`.
pub(super) const DOCUMENTS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("documents");
/// `RefKey` → `RefRecord`.
const REFS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("refs");
/// [`EntryKey`] → `PartialRow`.
const PARTIALS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("partials");
/// [`EntryKey`] → `MarkRow`.
const MARKS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("marks");
/// Blob id → `DeletionRow`.
const DELETIONS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("deletions");
/// Blob id → `MoveRow`.
const MOVES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("moves");
/// Volume number → `VolumeRow`.
const VOLUMES: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("volumes");

/// [`EntryKey`] of a revision → `Decided`.
const REVISIONS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("revisions");
/// [`EntryKey`] of a revision, with the revision that takes its place as the path → `Renewal`.
const RENEWALS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("renewals");
/// Repository → `HoldRow`.
const HOLDS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("holds");
/// Blob id → `ScrubRow`.
const SCRUBS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("scrubs");
/// Number → `Happening`.
const HISTORY: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("history");

/// Keyed hash of credentials and path → `GrantRecord`.
const GRANTS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("grants");
/// Name → random bytes that were made with the index.
const KEYS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("keys");

/// The key of the layout version in [`META`].
pub(super) const LAYOUT: &str = "layout";
/// The only layout that this program knows.
pub(super) const LAYOUT_VERSION: u64 = 1;
/// The key in [`META`] of what all files may take on disk, as it was found at the first start.
const MAX_BYTES: &str = "max-bytes";
/// The key of the next blob id in [`META`].
const NEXT_BLOB: &str = "next-blob";
/// The name in [`KEYS`] of what credentials are hashed with.
const GRANT_KEY: &str = "grants";

type Rows<'t> = Table<'t, &'static [u8], &'static [u8]>;

/// All tables in one write transaction, and what the program must do once it is committed.
pub(super) struct Tables<'t> {
    meta: Table<'t, &'static str, u64>,
    entries: Rows<'t>,
    blobs: Table<'t, &'static [u8; 32], &'static [u8]>,
    git: Table<'t, &'static [u8; 20], &'static [u8; 32]>,
    refs: Rows<'t>,
    documents: Rows<'t>,
    partials: Rows<'t>,
    marks: Rows<'t>,
    deletions: Table<'t, u64, &'static [u8]>,
    moves: Table<'t, u64, &'static [u8]>,
    volumes: Table<'t, u32, &'static [u8]>,
    revisions: Rows<'t>,
    renewals: Rows<'t>,
    holds: Table<'t, &'static str, &'static [u8]>,
    history: Table<'t, u64, &'static [u8]>,
    grants: Rows<'t>,
    scrubs: Table<'t, u64, &'static [u8]>,
    pub(super) effects: Effects,
}

/// What follows from a committed transaction outside of the index.
#[derive(Debug, Default)]
pub(super) struct Effects {
    /// Entries and documents that were written or removed.
    pub changed: Vec<EntryKey>,
    /// How many of those say something else than before: being confirmed does not count.
    pub news: u64,
    /// Blobs that got a delete-intent, with their volumes.
    pub doomed: Vec<(BlobId, u32)>,
}

impl Effects {
    /// Notes an entry or a document that says something else than before, or is gone.
    fn report(&mut self, key: EntryKey) {
        self.changed.push(key);
        self.news += 1;
    }
}

impl<'t> Tables<'t> {
    /// Opens every table, and creates those that are missing.
    pub(super) fn open(txn: &'t WriteTransaction) -> Result<Self, Failure> {
        Ok(Self {
            meta: txn.open_table(META)?,
            entries: txn.open_table(ENTRIES)?,
            blobs: txn.open_table(BLOBS)?,
            git: txn.open_table(GIT)?,
            refs: txn.open_table(REFS)?,
            documents: txn.open_table(DOCUMENTS)?,
            partials: txn.open_table(PARTIALS)?,
            marks: txn.open_table(MARKS)?,
            deletions: txn.open_table(DELETIONS)?,
            moves: txn.open_table(MOVES)?,
            volumes: txn.open_table(VOLUMES)?,
            revisions: txn.open_table(REVISIONS)?,
            renewals: txn.open_table(RENEWALS)?,
            holds: txn.open_table(HOLDS)?,
            history: txn.open_table(HISTORY)?,
            grants: txn.open_table(GRANTS)?,
            scrubs: txn.open_table(SCRUBS)?,
            effects: Effects::default(),
        })
    }

    /// A blob id that was never given out before.
    fn allocate(&mut self) -> Result<BlobId, Failure> {
        let id = self.meta.get(NEXT_BLOB)?.map_or(1, |row| row.value());
        self.meta.insert(NEXT_BLOB, id + 1)?;
        Ok(BlobId(id))
    }

    /// Records that the chunks of a blob are to be removed. This comes before any of them is.
    fn doom(&mut self, id: BlobId, volume: u32) -> Result<(), Failure> {
        self.deletions.insert(id.0, DeletionRow { volume }.encode().as_slice())?;
        self.scrubs.remove(id.0)?;
        self.effects.doomed.push((id, volume));
        Ok(())
    }

    /// Forgets a blob whose last chunk is gone.
    pub(super) fn removed(&mut self, id: BlobId) -> Result<(), Failure> {
        self.deletions.remove(id.0)?;
        Ok(())
    }

    /// Makes a volume part of the store.
    fn add_volume(&mut self, number: u32) -> Result<(), Failure> {
        if self.volumes.get(number)?.is_none() {
            self.volumes.insert(number, VolumeRow {}.encode().as_slice())?;
        }
        Ok(())
    }
}

/// Begins a transaction as all of the store's are: on disk when `commit` returns, and quick to recover from.
pub(super) fn begin(database: &Database) -> Result<WriteTransaction, Failure> {
    let mut txn = database.begin_write()?;
    txn.set_durability(Durability::Immediate)?;
    txn.set_quick_repair(true);
    Ok(txn)
}

/// Creates the tables and the layout row of a new index.
pub(super) fn initialize(database: &Database) -> Result<(), Failure> {
    let txn = begin(database)?;
    let mut tables = Tables::open(&txn)?;
    tables.meta.insert(LAYOUT, LAYOUT_VERSION)?;
    drop(tables);
    txn.commit()?;
    Ok(())
}

/// Creates the tables that an index of an earlier program lacks.
pub(super) fn complete(database: &Database) -> Result<(), Failure> {
    let read = database.begin_read()?;
    // One of those that came together is enough to look for.
    let opened = [DOCUMENTS, GRANTS].into_iter().try_for_each(|of| read.open_table(of).map(drop));
    let opened = opened.and_then(|()| read.open_table(HISTORY).map(drop));
    let opened = opened.and_then(|()| read.open_table(SCRUBS).map(drop));
    let opened = opened.and_then(|()| read.open_table(MOVES).map(drop));
    drop(read);
    match opened {
        Err(TableError::TableDoesNotExist(_)) => {
            let txn = begin(database)?;
            drop(Tables::open(&txn)?);
            Ok(txn.commit()?)
        }
        opened => Ok(opened?),
    }
}

/// What credentials are hashed with; made where there is none yet.
pub(super) fn grant_key(database: &Database) -> Result<[u8; 32], Failure> {
    let held = match database.begin_read()?.open_table(KEYS) {
        Ok(keys) => keys.get(GRANT_KEY)?.and_then(|row| row.value().try_into().ok()),
        Err(TableError::TableDoesNotExist(_)) => None,
        Err(e) => return Err(e.into()),
    };
    if let Some(key) = held {
        return Ok(key);
    }
    let mut key = [0; 32];
    aws_lc_rs::rand::fill(&mut key)
        .map_err(|_| StoreError::from(std::io::Error::other("no random bytes")))?;
    let txn = begin(database)?;
    txn.open_table(KEYS)?.insert(GRANT_KEY, key.as_slice())?;
    txn.commit()?;
    Ok(key)
}

/// What all files may take on disk, as it was found at the first start; `found` is written down where nothing was yet.
pub(super) fn max_bytes(database: &Database, found: u64) -> Result<u64, Failure> {
    let meta = database.begin_read()?.open_table(META)?;
    if let Some(row) = meta.get(MAX_BYTES)? {
        return Ok(row.value());
    }
    let txn = begin(database)?;
    txn.open_table(META)?.insert(MAX_BYTES, found)?;
    txn.commit()?;
    Ok(found)
}

/// The key of a row that this program wrote.
fn entry_key(bytes: &[u8]) -> Result<EntryKey, StoreError> {
    EntryKey::decode(bytes).ok_or_else(|| StoreError::Damaged("the key of a row is unreadable".into()))
}

/// The key of a reference, as that of an entry without a path at the revision of its name.
fn reference_key(bytes: &[u8]) -> Result<EntryKey, StoreError> {
    entry_key(&[bytes, b"\0"].concat())
}

/// Reads one row.
fn row<R: Row>(
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    key: &[u8],
) -> Result<Option<R>, Failure> {
    Ok(table.get(key)?.map(|row| R::decode(row.value())).transpose()?)
}
