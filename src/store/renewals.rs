//! What was decided of revisions, and the jobs of announcements: all that belongs together is written in one
//! transaction, so that after a crash either everything of it is there or nothing.

use super::error::StoreError;
use super::index::reads;
use super::open::Store;
use super::packed;
use crate::model::{Decided, Document, EntryKey, Happening, Pin, Renewal, Superseded, Timestamp};

/// One thing that is written down.
#[derive(Clone, Debug)]
pub enum Decision {
    /// This is what the hub says.
    Document(EntryKey, Document),
    /// Another revision took the place of this one.
    Supersede(EntryKey, Superseded),
    /// None did.
    Reinstate(EntryKey),
    /// The revision is pinned so, or no longer.
    Pin(EntryKey, Option<Pin>),
    /// A job is to be done, or has got this far.
    Renew(EntryKey, Renewal),
    /// A job is done.
    Renewed(EntryKey),
    /// All revisions of a repository are kept since then, or no longer.
    Hold(String, Option<Timestamp>),
    /// A line of the history.
    Note(Happening),
}

impl Store {
    /// Writes all of these down in one transaction, in this order.
    ///
    /// # Errors
    /// As [`Store::put_document`] where there are documents; else if the index cannot be written. Then nothing of it is
    /// there.
    pub async fn decide(&self, decisions: Vec<Decision>) -> Result<(), StoreError> {
        self.0.check_open()?;
        let packed = tokio::task::spawn_blocking(move || {
            let pack = |decision: Decision| match &decision {
                Decision::Document(_, document) => Ok((Some(packed::pack(document.clone())?), decision)),
                _ => Ok((None, decision)),
            };
            decisions.into_iter().map(pack).collect::<Result<Vec<_>, StoreError>>()
        });
        let decisions = packed.await.map_err(|_| StoreError::Closed)??;
        let rows: u64 =
            decisions.iter().filter_map(|(row, _)| row.as_ref()).map(|row| row.len() as u64).sum();
        if rows > 0 && self.0.disk.free()? < self.0.disk.min_free().saturating_add(rows) {
            return Err(StoreError::NoSpace);
        }
        // What operators decide needs next to nothing, and may be what makes room.
        let _taken = match usize::try_from(rows) {
            Ok(0) | Err(_) => None,
            Ok(rows) => Some(self.afford(rows).await?),
        };
        let change = move |tables: &mut super::index::Tables<'_>| {
            decisions.iter().try_for_each(|(row, decision)| tables.decide(decision, row.as_deref())).map(Ok)
        };
        self.0.queue.change(change).await
    }

    /// What was decided of one revision.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn decided(&self, key: &EntryKey) -> Result<Decided, StoreError> {
        self.0.check_open()?;
        self.0.index.run(|database| reads::decided(database, &key.of_revision()))
    }

    /// Every revision of which something was decided.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn all_decided(&self) -> Result<Vec<(EntryKey, Decided)>, StoreError> {
        self.0.check_open()?;
        self.0.index.run(reads::all_decided)
    }

    /// Every job that is not done. The path of its key is the revision that takes the place of the key's, if there is
    /// one.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn renewals(&self) -> Result<Vec<(EntryKey, Renewal)>, StoreError> {
        self.0.check_open()?;
        self.0.index.run(reads::renewals)
    }

    /// The repositories of which all revisions are kept, and since when.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn holds(&self) -> Result<Vec<(String, Timestamp)>, StoreError> {
        self.0.check_open()?;
        self.0.index.run(reads::holds)
    }

    /// What happened to a repository, or to all, the oldest first.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn history(&self, repo: Option<&str>) -> Result<Vec<Happening>, StoreError> {
        self.0.check_open()?;
        self.0.index.run(|database| reads::history(database, repo))
    }
}
