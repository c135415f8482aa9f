//! Reads of the index: each one short transaction.

use std::collections::HashMap;

use redb::{
    Database, ReadOnlyTable, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition,
};

use super::{
    BLOBS, DELETIONS, DOCUMENTS, ENTRIES, GIT, GRANTS, HISTORY, HOLDS, MARKS, PARTIALS, REFS, RENEWALS,
    REVISIONS, VOLUMES, entry_key, reference_key,
};
use crate::model::{Decided, Document, Entry, EntryKey, Happening, RefKey, Renewal, Sha256, Timestamp};
use crate::store::access::GrantRecord;
use crate::store::error::{Failure, StoreError};
use crate::store::packed;
use crate::store::records::{
    BlobId, BlobInfo, BlobRow, DeletionRow, HoldRow, MarkRow, PartialRow, RefRecord, Row, sha,
};
use crate::store::selector::Selector;
use crate::store::settings::PAGE_ROWS;

/// A table whose keys and values are bytes.
pub(in crate::store) type Bytes<'t> = TableDefinition<'t, &'static [u8], &'static [u8]>;

fn table(db: &Database, of: Bytes<'_>) -> Result<ReadOnlyTable<&'static [u8], &'static [u8]>, Failure> {
    Ok(db.begin_read()?.open_table(of)?)
}

fn get<R: Row>(db: &Database, of: Bytes<'_>, key: &[u8]) -> Result<Option<R>, Failure> {
    Ok(table(db, of)?.get(key)?.map(|row| R::decode(row.value())).transpose()?)
}

pub(in crate::store) fn entry(db: &Database, key: &EntryKey) -> Result<Option<Entry>, Failure> {
    get(db, ENTRIES, &key.encode())
}

pub(in crate::store) fn grant(db: &Database, name: &[u8]) -> Result<Option<GrantRecord>, Failure> {
    get(db, GRANTS, name)
}

pub(in crate::store) fn partial(db: &Database, key: &EntryKey) -> Result<Option<PartialRow>, Failure> {
    get(db, PARTIALS, &key.encode())
}

pub(in crate::store) fn reference(db: &Database, key: &RefKey) -> Result<Option<RefRecord>, Failure> {
    get(db, REFS, &key.encode())
}

pub(in crate::store) fn document(db: &Database, key: &EntryKey) -> Result<Option<Document>, Failure> {
    let row = table(db, DOCUMENTS)?.get(key.encode().as_slice())?;
    Ok(row.map(|row| packed::unpack(row.value())).transpose()?)
}

pub(in crate::store) fn blob(db: &Database, digest: &Sha256) -> Result<Option<BlobRow>, Failure> {
    let table = db.begin_read()?.open_table(BLOBS)?;
    Ok(table.get(&digest.0)?.map(|row| BlobRow::decode(row.value())).transpose()?)
}

pub(in crate::store) fn sha256_of_git(db: &Database, oid: &[u8; 20]) -> Result<Option<Sha256>, Failure> {
    let table = db.begin_read()?.open_table(GIT)?;
    Ok(table.get(oid)?.map(|row| sha(row.value())))
}

/// A page of a listing.
pub(in crate::store) struct Page {
    pub rows: Vec<(EntryKey, Entry, BlobInfo)>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<Vec<u8>>,
}

/// The selected among the next rows from `from` on.
pub(in crate::store) fn page(db: &Database, select: &Selector, from: &[u8]) -> Result<Page, Failure> {
    let txn = db.begin_read()?;
    let (entries, blobs) = (txn.open_table(ENTRIES)?, txn.open_table(BLOBS)?);
    let prefix = select.prefix();
    let mut rows = Vec::new();
    for (i, item) in entries.range::<&[u8]>(from..)?.enumerate() {
        let (encoded, value) = item?;
        if !encoded.value().starts_with(&prefix) {
            break;
        }
        if i == PAGE_ROWS {
            return Ok(Page { rows, next: Some(encoded.value().to_vec()) });
        }
        let key = entry_key(encoded.value())?;
        if select.matches(&key) {
            let entry = Entry::decode(value.value())?;
            let Some(blob) = blobs.get(&entry.blob.0)? else {
                return Err(StoreError::Damaged(format!("{key} names bytes that are not held")).into());
            };
            let info = BlobRow::decode(blob.value())?.info();
            rows.push((key, entry, info));
        }
    }
    Ok(Page { rows, next: None })
}

/// Some rows, and where the next ones begin; `None` at the end.
type Paged<T> = (Vec<T>, Option<Vec<u8>>);

/// The next keys of a table from `from` on that begin with `prefix`, and where to go on.
pub(in crate::store) fn keys(
    db: &Database,
    of: Bytes<'_>,
    prefix: &[u8],
    from: &[u8],
) -> Result<Paged<EntryKey>, Failure> {
    let rows = table(db, of)?;
    let mut keys = Vec::new();
    for item in rows.range::<&[u8]>(from..)? {
        let (encoded, _) = item?;
        if !encoded.value().starts_with(prefix) {
            break;
        }
        if keys.len() == PAGE_ROWS {
            return Ok((keys, Some(encoded.value().to_vec())));
        }
        keys.push(entry_key(encoded.value())?);
    }
    Ok((keys, None))
}

/// The next references from `from` on that begin with `prefix`, each under the key of an entry without a path at the
/// revision of its name, and where to go on.
pub(in crate::store) fn references(
    db: &Database,
    prefix: &[u8],
    from: &[u8],
) -> Result<Paged<(EntryKey, RefRecord)>, Failure> {
    let rows = table(db, REFS)?;
    let mut found = Vec::new();
    for item in rows.range::<&[u8]>(from..)? {
        let (encoded, value) = item?;
        if !encoded.value().starts_with(prefix) {
            break;
        }
        if found.len() == PAGE_ROWS {
            return Ok((found, Some(encoded.value().to_vec())));
        }
        found.push((reference_key(encoded.value())?, RefRecord::decode(value.value())?));
    }
    Ok((found, None))
}

/// Every blob in a volume.
pub(in crate::store) fn blobs_in(db: &Database, volume: u32) -> Result<Vec<(Sha256, BlobRow)>, Failure> {
    let mut found = Vec::new();
    for item in db.begin_read()?.open_table(BLOBS)?.iter()? {
        let (sha, value) = item?;
        let row = BlobRow::decode(value.value())?;
        if row.volume == volume {
            found.push((Sha256(*sha.value()), row));
        }
    }
    Ok(found)
}

/// Every partial fill.
pub(in crate::store) fn partials(db: &Database) -> Result<Vec<(EntryKey, PartialRow)>, Failure> {
    all(db, PARTIALS)
}

/// Every mark that still stands.
pub(in crate::store) fn marks(
    db: &Database,
    now: Timestamp,
) -> Result<HashMap<EntryKey, Timestamp>, Failure> {
    let rows = table(db, MARKS)?;
    let mut marks = HashMap::new();
    for item in rows.iter()? {
        let (key, value) = item?;
        let until = MarkRow::decode(value.value())?.until;
        if until > now {
            marks.insert(entry_key(key.value())?, until);
        }
    }
    Ok(marks)
}

/// Every blob whose chunks are still to be removed.
pub(in crate::store) fn deletions(db: &Database) -> Result<Vec<(BlobId, u32)>, Failure> {
    let rows = db.begin_read()?.open_table(DELETIONS)?;
    rows.iter()?
        .map(|item| {
            let (id, value) = item?;
            Ok((BlobId(id.value()), DeletionRow::decode(value.value())?.volume))
        })
        .collect()
}

/// The numbers of all volumes.
pub(in crate::store) fn volumes(db: &Database) -> Result<Vec<u32>, Failure> {
    let rows = db.begin_read()?.open_table(VOLUMES)?;
    rows.iter()?.map(|item| Ok(item?.0.value())).collect()
}

pub(in crate::store) fn decided(db: &Database, key: &EntryKey) -> Result<Decided, Failure> {
    Ok(get(db, REVISIONS, &key.encode())?.unwrap_or_default())
}

/// Every row of a table.
fn all<R: Row>(db: &Database, of: Bytes<'_>) -> Result<Vec<(EntryKey, R)>, Failure> {
    let rows = table(db, of)?;
    rows.iter()?
        .map(|item| {
            let (key, value) = item?;
            Ok((entry_key(key.value())?, R::decode(value.value())?))
        })
        .collect()
}

pub(in crate::store) fn all_decided(db: &Database) -> Result<Vec<(EntryKey, Decided)>, Failure> {
    all(db, REVISIONS)
}

pub(in crate::store) fn renewals(db: &Database) -> Result<Vec<(EntryKey, Renewal)>, Failure> {
    all(db, RENEWALS)
}

pub(in crate::store) fn holds(db: &Database) -> Result<Vec<(String, Timestamp)>, Failure> {
    let rows = db.begin_read()?.open_table(HOLDS)?;
    rows.iter()?
        .map(|item| {
            let (repo, value) = item?;
            Ok((repo.value().to_owned(), HoldRow::decode(value.value())?.since))
        })
        .collect()
}

pub(in crate::store) fn history(db: &Database, repo: Option<&str>) -> Result<Vec<Happening>, Failure> {
    let rows = db.begin_read()?.open_table(HISTORY)?;
    let mut found = Vec::new();
    for item in rows.iter()? {
        let happening = Happening::decode(item?.1.value())?;
        if repo.is_none_or(|repo| repo == happening.model) {
            found.push(happening);
        }
    }
    Ok(found)
}

/// How many entries, blobs, partial fills and documents there are.
pub(in crate::store) fn counts(db: &Database) -> Result<[u64; 4], Failure> {
    let txn = db.begin_read()?;
    let blobs = txn.open_table(BLOBS)?.len()?;
    let [entries, partials, documents] = [ENTRIES, PARTIALS, DOCUMENTS].map(|of| txn.open_table(of));
    Ok([entries?.len()?, blobs, partials?.len()?, documents?.len()?])
}
