//! Who may read entries, and what callers were granted.

use redb::{ReadableTable, ReadableTableMetadata};

use super::{Tables, row};
use crate::model::{Entry, EntryKey, Openness, Timestamp};
use crate::store::access::GrantRecord;
use crate::store::error::Failure;
use crate::store::records::Row;
use crate::store::settings::GRANTS_MAX;

impl Tables<'_> {
    /// Sets who may read an entry, unless the operator has shared it.
    pub(in crate::store) fn set_access(&mut self, key: &EntryKey, access: Openness) -> Result<(), Failure> {
        let encoded = key.encode();
        let Some(mut entry) = row::<Entry>(&self.entries, &encoded)? else { return Ok(()) };
        if entry.access == Openness::Shared || entry.access == access {
            return Ok(());
        }
        let is_news = entry.access.as_str() != access.as_str();
        entry.access = access;
        self.entries.insert(encoded.as_slice(), entry.encode().as_slice())?;
        match is_news {
            true => self.effects.report(key.clone()),
            false => self.effects.changed.push(key.clone()),
        }
        Ok(())
    }

    /// Makes those of these entries restricted that are public. How many.
    pub(in crate::store) fn withdraw(&mut self, keys: &[EntryKey]) -> Result<u64, Failure> {
        let mut withdrawn = 0;
        for key in keys {
            let access = row::<Entry>(&self.entries, &key.encode())?.map(|entry| entry.access);
            if matches!(access, Some(Openness::Public { .. })) {
                self.set_access(key, Openness::Restricted)?;
                withdrawn += 1;
            }
        }
        Ok(withdrawn)
    }

    /// Writes the row of a grant, over the one that was there.
    pub(in crate::store) fn put_grant(&mut self, name: &[u8], grant: &[u8]) -> Result<(), Failure> {
        self.grants.insert(name, grant)?;
        Ok(())
    }

    /// Removes the grants that were given before, and all of them if they are more than there may be. How many.
    pub(in crate::store) fn expire_grants(&mut self, before: Timestamp) -> Result<u64, Failure> {
        let too_many = self.grants.len()? > GRANTS_MAX;
        let mut over = Vec::new();
        for item in self.grants.iter()? {
            let (name, value) = item?;
            // One that cannot be read grants nothing.
            let is_over = GrantRecord::decode(value.value()).map_or(true, |grant| grant.at < before);
            if too_many || is_over {
                over.push(name.value().to_vec());
            }
        }
        for name in &over {
            self.grants.remove(name.as_slice())?;
        }
        Ok(over.len() as u64)
    }
}
