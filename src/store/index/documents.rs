//! Documents: what a hub's API said.

use redb::ReadableTable;

use super::Tables;
use crate::model::{EntryKey, Timestamp};
use crate::store::error::Failure;
use crate::store::packed;

impl Tables<'_> {
    /// Writes the row of a document, over the one that was there.
    pub(in crate::store) fn put_document(&mut self, key: &EntryKey, row: &[u8]) -> Result<(), Failure> {
        self.documents.insert(key.encode().as_slice(), row)?;
        self.effects.report(key.clone());
        Ok(())
    }

    /// Sets when the hub last said what a document says. Whether there is one.
    pub(in crate::store) fn confirm_document(
        &mut self,
        key: &EntryKey,
        at: Timestamp,
    ) -> Result<bool, Failure> {
        let encoded = key.encode();
        let row = self.documents.get(encoded.as_slice())?;
        let Some(row) = row.map(|row| packed::learned(row.value(), at)).transpose()? else {
            return Ok(false);
        };
        self.documents.insert(encoded.as_slice(), row.as_slice())?;
        self.effects.changed.push(key.clone());
        Ok(true)
    }
}
