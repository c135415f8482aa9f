//! The tables of a volume and what is done to them, without threads.

use bytes::Bytes;
use redb::{
    AccessGuard, Database, Durability, ReadableDatabase, ReadableTable, Table, TableDefinition, TableError,
    WriteTransaction,
};

use super::error::Failure;
use super::records::BlobId;
use super::settings::weight;

/// (blob id, chunk index) → the chunk's bytes.
const CHUNKS: TableDefinition<'_, (u64, u32), &[u8]> = TableDefinition::new("chunks");
/// (blob id, chunk index) → the chunk's length, so that a resumed fill learns what is here without reading it.
const LENGTHS: TableDefinition<'_, (u64, u32), u32> = TableDefinition::new("lengths");
/// Sums over the volume.
const TOTALS: TableDefinition<'_, &str, u64> = TableDefinition::new("totals");
/// Bytes of all chunks.
const HELD: &str = "held";
/// What all chunks take on disk at most.
const WEIGHT: &str = "weight";
/// What [`HELD`] was when [`WEIGHT`] was written: an earlier program, which knows no weight, changes only the first.
const WEIGHED: &str = "weighed";

/// Values below this share tree pages with others, which redb rewrites as their neighbours come and go.
const LENT: usize = 64 << 10;

/// A chunk to be written.
pub(super) struct Chunk<'a> {
    pub id: BlobId,
    pub index: u32,
    pub segments: &'a [Bytes],
    pub len: usize,
}

/// What a volume holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    /// Bytes of all chunks.
    pub bytes: u64,
    /// What these take on disk at most.
    pub weight: u64,
}

impl Held {
    fn add(&mut self, len: usize) {
        self.bytes += len as u64;
        self.weight += weight(len);
    }

    fn remove(&mut self, len: u32) {
        self.bytes = self.bytes.saturating_sub(u64::from(len));
        self.weight = self.weight.saturating_sub(weight(len as usize));
    }

    /// `None` where no weight was written for what is held.
    fn read(totals: &impl ReadableTable<&'static str, u64>) -> Result<(u64, Option<Self>), Failure> {
        let get = |key| -> Result<_, Failure> { Ok(totals.get(key)?.map(|row| row.value())) };
        let bytes = get(HELD)?.unwrap_or(0);
        let weight = get(WEIGHT)?.filter(|_| bytes > 0).unwrap_or(0);
        let is_weighed = bytes == 0 || get(WEIGHED)? == Some(bytes);
        Ok((bytes, is_weighed.then_some(Self { bytes, weight })))
    }

    /// As [`Held::read`]; what was not weighed is weighed row by row.
    fn of(
        totals: &impl ReadableTable<&'static str, u64>,
        lengths: &impl ReadableTable<(u64, u32), u32>,
    ) -> Result<Self, Failure> {
        if let (_, Some(held)) = Self::read(totals)? {
            return Ok(held);
        }
        let mut held = Self::default();
        for item in lengths.iter()? {
            held.add(item?.1.value() as usize);
        }
        Ok(held)
    }

    fn write(self, totals: &mut Table<'_, &'static str, u64>) -> Result<(), Failure> {
        for (key, value) in [(HELD, self.bytes), (WEIGHT, self.weight), (WEIGHED, self.bytes)] {
            totals.insert(key, value)?;
        }
        Ok(())
    }
}

/// What the volume holds.
pub(super) fn held(database: &Database) -> Result<Held, Failure> {
    let txn = database.begin_read()?;
    match txn.open_table(TOTALS) {
        Ok(totals) => Held::of(&totals, &txn.open_table(LENGTHS)?),
        Err(TableError::TableDoesNotExist(_)) => Ok(Held::default()),
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
pub(super) fn write(database: &Database, batch: &[Chunk<'_>]) -> Result<Held, Failure> {
    let txn = begin(database)?;
    let mut chunks = txn.open_table(CHUNKS)?;
    let mut lengths = txn.open_table(LENGTHS)?;
    let mut totals = txn.open_table(TOTALS)?;
    let mut held = Held::of(&totals, &lengths)?;
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
        held.add(chunk.len);
        if let Some(replaced) = lengths.insert(key, len)? {
            held.remove(replaced.value());
        }
    }
    held.write(&mut totals)?;
    drop((chunks, lengths, totals));
    txn.commit()?;
    Ok(held)
}

/// What a removal has done.
pub(super) struct Removal {
    /// What the volume holds then.
    pub held: Held,
    /// Blobs that are gone.
    pub gone: Vec<BlobId>,
    /// Blob, index and length of every chunk that was removed.
    pub chunks: Vec<(BlobId, u32, u32)>,
}

/// Removes up to `limit` chunks of some blobs in one transaction.
pub(super) fn remove(database: &Database, ids: &[BlobId], limit: usize) -> Result<Removal, Failure> {
    let txn = begin(database)?;
    let mut chunks = txn.open_table(CHUNKS)?;
    let mut lengths = txn.open_table(LENGTHS)?;
    let mut totals = txn.open_table(TOTALS)?;
    let mut held = Held::of(&totals, &lengths)?;
    let (mut left, mut gone, mut removed) = (limit, Vec::new(), Vec::new());
    for id in ids {
        let doomed = lengths
            .range((id.0, 0)..=(id.0, u32::MAX))?
            .take(left)
            .map(|item| Ok(item?.0.value()))
            .collect::<Result<Vec<_>, Failure>>()?;
        for key in &doomed {
            chunks.remove(key)?;
            let len = lengths.remove(key)?.map_or(0, |row| row.value());
            held.remove(len);
            removed.push((*id, key.1, len));
        }
        if doomed.len() == left {
            break;
        }
        left -= doomed.len();
        gone.push(*id);
    }
    held.write(&mut totals)?;
    drop((chunks, lengths, totals));
    txn.commit()?;
    Ok(Removal { held, gone, chunks: removed })
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

/// Leaves a volume as a program does that knows no weight.
#[cfg(test)]
pub(super) fn forget_weight(database: &Database, held: u64) -> Result<(), Failure> {
    let txn = begin(database)?;
    let mut totals = txn.open_table(TOTALS)?;
    totals.insert(HELD, held)?;
    totals.remove(WEIGHT)?;
    totals.remove(WEIGHED)?;
    drop(totals);
    Ok(txn.commit()?)
}

fn begin(database: &Database) -> Result<WriteTransaction, Failure> {
    let mut txn = database.begin_write()?;
    txn.set_durability(Durability::Immediate)?;
    txn.set_quick_repair(true);
    Ok(txn)
}
