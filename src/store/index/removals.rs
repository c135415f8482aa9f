//! Removals: what a selector takes out of all tables, a page at a time.

use redb::ReadableTable;

use super::{Rows, Tables, entry_key, reference_key};
use crate::model::{Entry, EntryKey};
use crate::store::error::{Failure, StoreError};
use crate::store::records::{PartialRow, Row};
use crate::store::selector::Selector;

/// One step of a removal.
#[derive(Debug, Default)]
pub(in crate::store) struct Step {
    pub entries: u64,
    pub partials: u64,
    pub documents: u64,
    pub blobs: u64,
    pub bytes: u64,
    /// Where the next step goes on; `None` at the end.
    pub next: Option<Vec<u8>>,
}

impl Tables<'_> {
    /// Removes what is selected among the next `limit` rows from `from` on, of entries, partial fills, documents and
    /// references each.
    pub(in crate::store) fn remove(
        &mut self,
        select: &Selector,
        from: &[u8],
        limit: usize,
    ) -> Result<Step, Failure> {
        let page = Page { prefix: &select.prefix(), from, limit };
        let entries = page.read(&self.entries, entry_key, |key| select.matches(key))?;
        let partials = page.read(&self.partials, entry_key, |key| select.matches(key))?;
        let documents = page.read(&self.documents, entry_key, |key| select.matches_document(key))?;
        let references = page.read(&self.refs, reference_key, |key| select.matches_reference(key))?;
        // The keys of all tables sort alike, so the step ends where the first of the pages ends, and the rows of the
        // others beyond that are left to the next step.
        let ends = [&entries, &partials, &documents, &references].map(|found| found.next.clone());
        let mut step = Step { next: ends.into_iter().flatten().min(), ..Step::default() };
        self.remove_entries(entries, &mut step)?;
        self.remove_partials(partials, &mut step)?;
        for (encoded, key) in documents.before(step.next.as_deref()) {
            // Unread, so that a damaged one can be removed.
            self.documents.remove(encoded.as_slice())?;
            self.effects.report(key);
            step.documents += 1;
        }
        for (encoded, _) in references.before(step.next.as_deref()) {
            self.refs.remove(encoded.as_slice())?;
        }
        Ok(step)
    }

    fn remove_entries(&mut self, found: Found, step: &mut Step) -> Result<(), Failure> {
        for (encoded, key) in found.before(step.next.as_deref()) {
            let old = self.entries.remove(encoded.as_slice())?;
            let Some(entry) = old.map(|row| Entry::decode(row.value())).transpose()? else { continue };
            self.effects.report(key);
            step.entries += 1;
            if let Some(size) = self.release(&entry.blob)? {
                step.blobs += 1;
                step.bytes += size;
            }
        }
        Ok(())
    }

    fn remove_partials(&mut self, found: Found, step: &mut Step) -> Result<(), Failure> {
        for (encoded, _) in found.before(step.next.as_deref()) {
            let old = self.partials.remove(encoded.as_slice())?;
            let Some(partial) = old.map(|row| PartialRow::decode(row.value())).transpose()? else { continue };
            self.doom(partial.id, partial.volume)?;
            step.partials += 1;
        }
        Ok(())
    }
}

/// Where a step looks.
struct Page<'a> {
    prefix: &'a [u8],
    from: &'a [u8],
    limit: usize,
}

/// What is selected in a page of one table, and where the next page begins.
struct Found {
    rows: Vec<(Vec<u8>, EntryKey)>,
    next: Option<Vec<u8>>,
}

impl Page<'_> {
    fn read(
        &self,
        table: &Rows<'_>,
        decode: impl Fn(&[u8]) -> Result<EntryKey, StoreError>,
        selected: impl Fn(&EntryKey) -> bool,
    ) -> Result<Found, Failure> {
        let mut rows = Vec::new();
        for (i, item) in table.range::<&[u8]>(self.from..)?.enumerate() {
            let (encoded, _) = item?;
            let encoded = encoded.value();
            if !encoded.starts_with(self.prefix) {
                break;
            }
            if i == self.limit {
                return Ok(Found { rows, next: Some(encoded.to_vec()) });
            }
            let key = decode(encoded)?;
            if selected(&key) {
                rows.push((encoded.to_vec(), key));
            }
        }
        Ok(Found { rows, next: None })
    }
}

impl Found {
    /// The rows before `next`; all of them when there is no next step.
    fn before(self, next: Option<&[u8]>) -> impl Iterator<Item = (Vec<u8>, EntryKey)> {
        self.rows
            .into_iter()
            .take_while(move |(encoded, _)| next.is_none_or(|next| encoded.as_slice() < next))
    }
}
