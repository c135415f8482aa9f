//! The tables of a volume and what is done to them, without threads.

use bytes::Bytes;
use redb::{
    AccessGuard, Database, Durability, ReadableDatabase, ReadableTable, TableDefinition, TableError,
    WriteTransaction,
};

use super::error::Failure;
use super::records::BlobId;

/// (blob id, chunk index) → the chunk's bytes.
const CHUNKS: TableDefinition<'_, (u64, u32), &[u8]> = TableDefinition::new("chunks");
/// (blob id, chunk index) → the chunk's length, so that a resumed fill learns what is here without reading it.
const LENGTHS: TableDefinition<'_, (u64, u32), u32> = TableDefinition::new("lengths");
/// Sums over the volume; only [`HELD`] so far.
const TOTALS: TableDefinition<'_, &str, u64> = TableDefinition::new("totals");
/// Bytes of all chunks.
const HELD: &str = "held";

/// Values below this share tree pages with others, which redb rewrites as their neighbours come and go.
const LENT: usize = 64 << 10;

/// A chunk to be written.
pub(super) struct Chunk<'a> {
    pub id: BlobId,
    pub index: u32,
    pub segments: &'a [Bytes],
    pub len: usize,
}

/// Bytes of all chunks in the volume.
pub(super) fn held(database: &Database) -> Result<u64, Failure> {
    match database.begin_read()?.open_table(TOTALS) {
        Ok(totals) => Ok(totals.get(HELD)?.map_or(0, |row| row.value())),
        Err(TableError::TableDoesNotExist(_)) => Ok(0),
        Err(e) => Err(e.into()),
    }
}

/// Reads one chunk.
///
/// The page of a large one is lent, not copied: the guard owns the page's memory but not the read transaction, so a
/// slow client that holds it pins no freed pages of the file. `OwnedAccessGuard` would hold the transaction. With
/// debug assertions redb objects to pages that are freed while a guard is alive, so there it is copied.
pub(super) fn read(database: &Database, id: BlobId, index: u32) -> Result<Option<Bytes>, Failure> {
    let table = match database.begin_read()?.open_table(CHUNKS) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(None),
        table => table?,
    };
    let guard: Option<AccessGuard<'static, &'static [u8]>> = table.get((id.0, index))?;
    Ok(guard.map(|guard| match guard.value() {
        value if value.len() < LENT || cfg!(debug_assertions) => Bytes::copy_from_slice(value),
        _ => Bytes::from_owner(Lent(guard)),
    }))
}

struct Lent(AccessGuard<'static, &'static [u8]>);

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        self.0.value()
    }
}

/// The index and length of every chunk of a blob.
pub(super) fn list(database: &Database, id: BlobId) -> Result<Vec<(u32, u32)>, Failure> {
    let table = match database.begin_read()?.open_table(LENGTHS) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        table => table?,
    };
    table
        .range((id.0, 0)..=(id.0, u32::MAX))?
        .map(|item| {
            let (key, len) = item?;
            Ok((key.value().1, len.value()))
        })
        .collect()
}

/// Writes chunks in one transaction; says what the volume holds then.
pub(super) fn write(database: &Database, batch: &[Chunk<'_>]) -> Result<u64, Failure> {
    let txn = begin(database)?;
    let mut chunks = txn.open_table(CHUNKS)?;
    let mut lengths = txn.open_table(LENGTHS)?;
    let mut totals = txn.open_table(TOTALS)?;
    let mut held = totals.get(HELD)?.map_or(0, |row| row.value());
    for chunk in batch {
        let key = (chunk.id.0, chunk.index);
        let mut page = chunks.insert_reserve(key, chunk.len)?;
        let mut rest = page.as_mut();
        for segment in chunk.segments {
            let (head, tail) = rest.split_at_mut(segment.len());
            head.copy_from_slice(segment);
            rest = tail;
        }
        drop(page);
        let len = u32::try_from(chunk.len).unwrap_or(u32::MAX);
        let replaced = lengths.insert(key, len)?.map_or(0, |row| row.value());
        held = (held + u64::from(len)).saturating_sub(u64::from(replaced));
    }
    totals.insert(HELD, held)?;
    drop((chunks, lengths, totals));
    txn.commit()?;
    Ok(held)
}

/// Removes up to `limit` chunks of some blobs in one transaction; says what the volume holds then, and which of the
/// blobs are gone.
pub(super) fn remove(
    database: &Database,
    ids: &[BlobId],
    limit: usize,
) -> Result<(u64, Vec<BlobId>), Failure> {
    let txn = begin(database)?;
    let mut chunks = txn.open_table(CHUNKS)?;
    let mut lengths = txn.open_table(LENGTHS)?;
    let mut totals = txn.open_table(TOTALS)?;
    let mut held = totals.get(HELD)?.map_or(0, |row| row.value());
    let (mut left, mut gone) = (limit, Vec::new());
    for id in ids {
        let doomed = lengths
            .range((id.0, 0)..=(id.0, u32::MAX))?
            .take(left)
            .map(|item| Ok(item?.0.value()))
            .collect::<Result<Vec<_>, Failure>>()?;
        for key in &doomed {
            chunks.remove(key)?;
            let len = lengths.remove(key)?.map_or(0, |row| row.value());
            held = held.saturating_sub(u64::from(len));
        }
        if doomed.len() == left {
            break;
        }
        left -= doomed.len();
        gone.push(*id);
    }
    totals.insert(HELD, held)?;
    drop((chunks, lengths, totals));
    txn.commit()?;
    Ok((held, gone))
}

/// Makes the pages that the last transaction freed usable: redb gives them out again only after one more.
pub(super) fn settle(database: &Database) -> Result<(), Failure> {
    let txn = begin(database)?;
    let mut totals = txn.open_table(TOTALS)?;
    let held = totals.get(HELD)?.map_or(0, |row| row.value());
    totals.insert(HELD, held)?;
    drop(totals);
    txn.commit()?;
    Ok(())
}

fn begin(database: &Database) -> Result<WriteTransaction, Failure> {
    let mut txn = database.begin_write()?;
    txn.set_durability(Durability::Immediate)?;
    txn.set_quick_repair(true);
    Ok(txn)
}
