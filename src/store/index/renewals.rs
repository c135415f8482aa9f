//! What was decided of revisions, the jobs that announcements have begun, and what became of them.

use redb::ReadableTable;

use super::{Tables, row};
use crate::model::{Decided, EntryKey, Happening, Renewal, Timestamp};
use crate::store::error::Failure;
use crate::store::records::{HoldRow, Row};
use crate::store::renewals::Decision;
use crate::store::settings::HISTORY_MAX;

impl Tables<'_> {
    /// Writes one decision down.
    pub(in crate::store) fn decide(
        &mut self,
        decision: &Decision,
        document: Option<&[u8]>,
    ) -> Result<(), Failure> {
        match decision {
            Decision::Document(key, _) => match document {
                Some(row) => self.put_document(key, row),
                None => Ok(()),
            },
            Decision::Supersede(key, superseded) => {
                self.of_revision(key, |decided| decided.superseded = Some(superseded.clone()))
            }
            Decision::Reinstate(key) => self.of_revision(key, |decided| decided.superseded = None),
            Decision::Pin(key, pin) => self.of_revision(key, |decided| decided.pinned = pin.clone()),
            Decision::Renew(key, renewal) => self.put_renewal(key, Some(renewal)),
            Decision::Renewed(key) => self.put_renewal(key, None),
            Decision::Hold(repo, since) => self.hold(repo, *since),
            Decision::Note(happening) => self.note(happening),
        }
    }

    fn of_revision(&mut self, key: &EntryKey, change: impl FnOnce(&mut Decided)) -> Result<(), Failure> {
        let key = key.of_revision().encode();
        let mut decided = row::<Decided>(&self.revisions, &key)?.unwrap_or_default();
        change(&mut decided);
        if decided == Decided::default() {
            self.revisions.remove(key.as_slice())?;
        } else {
            self.revisions.insert(key.as_slice(), decided.encode().as_slice())?;
        }
        Ok(())
    }

    fn put_renewal(&mut self, key: &EntryKey, renewal: Option<&Renewal>) -> Result<(), Failure> {
        let key = key.encode();
        match renewal {
            Some(renewal) => drop(self.renewals.insert(key.as_slice(), renewal.encode().as_slice())?),
            None => drop(self.renewals.remove(key.as_slice())?),
        }
        Ok(())
    }

    fn hold(&mut self, repo: &str, since: Option<Timestamp>) -> Result<(), Failure> {
        match since {
            Some(since) => drop(self.holds.insert(repo, HoldRow { since }.encode().as_slice())?),
            None => drop(self.holds.remove(repo)?),
        }
        Ok(())
    }

    /// Adds a line to the history, and takes the oldest away when there are too many.
    pub(super) fn note(&mut self, happening: &Happening) -> Result<(), Failure> {
        let first = self.history.first()?.map(|(number, _)| number.value());
        let last = self.history.last()?.map(|(number, _)| number.value());
        let next = last.map_or(0, |last| last + 1);
        self.history.insert(next, happening.encode().as_slice())?;
        let first = first.unwrap_or(next);
        if next - first >= HISTORY_MAX {
            self.history.remove(first)?;
        }
        Ok(())
    }
}
