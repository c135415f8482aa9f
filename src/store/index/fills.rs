//! Partial fills: which blob id and volume a running download writes to.

use redb::ReadableTable;

use super::{Tables, row};
use crate::model::{EntryKey, Timestamp};
use crate::store::error::{Failure, StoreError};
use crate::store::records::{BlobId, MarkRow, PartialRecord, PartialRow, Row};

/// A change that may find its partial fill gone.
type Outcome<T> = Result<Result<T, StoreError>, Failure>;

impl Tables<'_> {
    /// Gives out a blob id for a new partial fill in `volume`, and dooms the older one of the same key.
    pub(in crate::store) fn begin_partial(
        &mut self,
        key: &EntryKey,
        volume: u32,
        record: PartialRecord,
    ) -> Result<BlobId, Failure> {
        let encoded = key.encode();
        let old = row::<PartialRow>(&self.partials, &encoded)?;
        self.add_volume(volume)?;
        let id = self.allocate()?;
        let new = PartialRow::new(id, volume, record).encode();
        self.partials.insert(encoded.as_slice(), new.as_slice())?;
        if let Some(old) = old {
            self.doom(old.id, old.volume)?;
        }
        Ok(id)
    }

    /// Changes what is recorded of a partial fill.
    pub(in crate::store) fn update_partial(&mut self, key: &EntryKey, record: PartialRecord) -> Outcome<()> {
        let encoded = key.encode();
        let Some(PartialRow { id, volume, .. }) = row(&self.partials, &encoded)? else {
            return Ok(Err(StoreError::Gone));
        };
        let new = PartialRow::new(id, volume, record).encode();
        self.partials.insert(encoded.as_slice(), new.as_slice())?;
        Ok(Ok(()))
    }

    /// Dooms a partial fill; one that is gone already is no error.
    pub(in crate::store) fn discard_partial(&mut self, key: &EntryKey) -> Result<(), Failure> {
        let encoded = key.encode();
        if let Some(PartialRow { id, volume, .. }) = row(&self.partials, &encoded)? {
            self.partials.remove(encoded.as_slice())?;
            self.doom(id, volume)?;
        }
        Ok(())
    }

    /// Dooms the partial fills that were last touched before `before` and are not `in_use`, and removes marks that
    /// no longer stand at `now`. Says how many of each.
    pub(in crate::store) fn expire(
        &mut self,
        before: Timestamp,
        now: Timestamp,
        in_use: &dyn Fn(BlobId) -> bool,
    ) -> Result<(u64, u64), Failure> {
        let mut old = Vec::new();
        for item in self.partials.iter()? {
            let (key, value) = item?;
            let partial = PartialRow::decode(value.value())?;
            if partial.touched_at < before && !in_use(partial.id) {
                old.push((key.value().to_vec(), partial));
            }
        }
        for (key, partial) in &old {
            self.partials.remove(key.as_slice())?;
            self.doom(partial.id, partial.volume)?;
        }
        let mut over = Vec::new();
        for item in self.marks.iter()? {
            let (key, value) = item?;
            if MarkRow::decode(value.value())?.until <= now {
                over.push(key.value().to_vec());
            }
        }
        for key in &over {
            self.marks.remove(key.as_slice())?;
        }
        Ok((old.len() as u64, over.len() as u64))
    }
}
