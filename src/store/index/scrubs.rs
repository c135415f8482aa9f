//! When blobs were last read and hashed, and what is done with those that are damaged.

use std::collections::BinaryHeap;

use redb::{Database, ReadableDatabase, ReadableTable};

use super::{BLOBS, SCRUBS, Tables, entry_key};
use crate::model::{Entry, EntryKey, Sha256, Timestamp};
use crate::store::error::Failure;
use crate::store::lent::LENT;
use crate::store::records::{BlobId, BlobRow, Row, ScrubRow, sha};
use crate::store::scrubs::Due;

/// Where the bytes were, and the entries that had them.
pub(in crate::store) type Quarantined = (Option<BlobId>, Vec<(EntryKey, Entry)>);

impl Tables<'_> {
    /// Notes that a blob was hashed and found right. One that is gone is skipped.
    pub(in crate::store) fn scrubbed(&mut self, blob: &Sha256, at: Timestamp) -> Result<(), Failure> {
        let row = self.blobs.get(&blob.0)?.map(|row| BlobRow::decode(row.value())).transpose()?;
        match row {
            Some(row) => self.hashed(row.id, at),
            None => Ok(()),
        }
    }

    pub(super) fn hashed(&mut self, id: BlobId, at: Timestamp) -> Result<(), Failure> {
        self.scrubs.insert(id.0, ScrubRow { at }.encode().as_slice())?;
        Ok(())
    }

    /// Takes every entry that has these bytes, and the bytes, out of the index. There is no way from bytes to their
    /// names, so all entries are looked at; that takes a second for a million of them, and damage is rare.
    pub(in crate::store) fn quarantine(&mut self, blob: &Sha256) -> Result<Quarantined, Failure> {
        let row = self.blobs.get(&blob.0)?.map(|row| BlobRow::decode(row.value())).transpose()?;
        let mut gone = Vec::new();
        for item in self.entries.iter()? {
            let (encoded, value) = item?;
            // An unreadable one names nothing that could be served.
            let Ok(entry) = Entry::decode(value.value()) else { continue };
            if entry.blob == *blob {
                gone.push((entry_key(encoded.value())?, entry));
            }
        }
        for (key, _) in &gone {
            self.entries.remove(key.encode().as_slice())?;
            self.effects.report(key.clone());
            self.release(blob)?;
        }
        // Where the count of references was wrong.
        while self.release(blob)?.is_none() && self.blobs.get(&blob.0)?.is_some() {}
        Ok((row.map(|row| row.id), gone))
    }
}

/// The blobs that were last hashed before `before`, those that were not for longest first, and at most so many.
pub(in crate::store) fn due(db: &Database, before: Timestamp, most: usize) -> Result<Due, Failure> {
    let txn = db.begin_read()?;
    let (blobs, scrubs) = (txn.open_table(BLOBS)?, txn.open_table(SCRUBS)?);
    let (mut oldest, mut next) = (BinaryHeap::new(), None::<Timestamp>);
    for item in blobs.iter()? {
        let (digest, value) = item?;
        // One that cannot be read must not keep all others from being read again.
        let Ok(row) = BlobRow::decode(value.value()) else { continue };
        if row.volume == LENT {
            continue;
        }
        // One that an earlier program stored has no row.
        let hashed = scrubs.get(row.id.0)?.map(|row| ScrubRow::decode(row.value())).transpose()?;
        let at = hashed.map_or(Timestamp::default(), |row| row.at);
        if at >= before {
            next = Some(next.map_or(at, |next| next.min(at)));
            continue;
        }
        oldest.push((at, sha(digest.value()), row.size));
        if oldest.len() > most {
            oldest.pop();
            // There are more than these.
            next = Some(Timestamp::default());
        }
    }
    let blobs = oldest.into_sorted_vec().into_iter().map(|(_, digest, size)| (digest, size)).collect();
    Ok(Due { blobs, next })
}
