//! What is remembered of branches and tags, and the marks on resources that must not be resumed.

use super::{Tables, row};
use crate::model::{Commit, EntryKey, RefKey, Timestamp};
use crate::store::error::Failure;
use crate::store::records::{MarkRow, PREVIOUS_COMMITS, RefRecord, Row};

impl Tables<'_> {
    /// Remembers the commit that a branch or tag names now, and those it named before.
    pub(in crate::store) fn put_reference(
        &mut self,
        key: &RefKey,
        commit: &Commit,
        at: Timestamp,
    ) -> Result<(), Failure> {
        let encoded = key.encode();
        let previous = match row::<RefRecord>(&self.refs, &encoded)? {
            None => Vec::new(),
            Some(old) if old.commit == *commit => old.previous,
            Some(old) => {
                // A branch that went back is not remembered twice.
                let earlier = old.previous.into_iter().filter(|c| c != commit && *c != old.commit);
                std::iter::once(old.commit.clone()).chain(earlier).take(PREVIOUS_COMMITS).collect()
            }
        };
        let new = RefRecord { commit: commit.clone(), checked_at: at, previous }.encode();
        self.refs.insert(encoded.as_slice(), new.as_slice())?;
        Ok(())
    }

    /// Lets marks stand until `until`.
    pub(in crate::store) fn set_marks(&mut self, keys: &[EntryKey], until: Timestamp) -> Result<(), Failure> {
        for key in keys {
            self.marks.insert(key.encode().as_slice(), MarkRow { until }.encode().as_slice())?;
        }
        Ok(())
    }
}
