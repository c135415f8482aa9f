//! Who may read what: the word on entries, and what callers were granted.
//!
//! A *grant* says that the hub accepted a caller's credentials for a path. It is kept under a keyed hash of these, so that
//! nothing on disk tells who may read what to somebody who has the disk and no credentials to try; the key is 32 random
//! bytes of the index, made with it.

use serde::{Deserialize, Serialize};

use super::error::StoreError;
use super::index::{self, reads};
use super::open::Store;
use super::records::Row;
use crate::model::{Commit, EntryKey, Openness, Timestamp};

/// Most revisions of which a grant says what they stood for.
const MAX_MEANINGS: usize = 8;

/// What the hub said to one caller of one path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantRecord {
    /// When it last accepted the caller's credentials.
    pub at: Timestamp,
    /// For which commits branches and tags stood, the newest first.
    pub meanings: Vec<(String, Commit)>,
}

impl GrantRecord {
    /// Notes for what a revision stands.
    pub fn learn(&mut self, revision: &str, commit: Commit) {
        self.meanings.retain(|(name, _)| name != revision);
        self.meanings.insert(0, (revision.to_owned(), commit));
        self.meanings.truncate(MAX_MEANINGS);
    }

    /// For what a revision stood.
    pub fn meaning(&self, revision: &str) -> Option<&Commit> {
        self.meanings.iter().find(|(name, _)| name == revision).map(|(_, commit)| commit)
    }
}

impl Row for GrantRecord {
    const NAME: &'static str = "grant";
}

impl Store {
    /// Sets who may read an entry; one that is gone is no error. What the operator has shared stays so.
    ///
    /// # Errors
    /// If the index cannot be written.
    pub async fn set_access(&self, key: &EntryKey, access: Openness) -> Result<(), StoreError> {
        self.0.check_open()?;
        let key = key.clone();
        self.0.queue.change(move |tables| tables.set_access(&key, access).map(Ok)).await
    }

    /// Makes the public entries of a repository restricted, or those of one path in it at all revisions. How many.
    ///
    /// # Errors
    /// If the index cannot be read or written; a part may be done.
    pub async fn withdraw(&self, of: &EntryKey, path: Option<&str>) -> Result<u64, StoreError> {
        self.0.check_open()?;
        let (store, of) = (self.clone(), of.clone());
        let path = path.map(str::to_owned);
        let listed = tokio::task::spawn_blocking(move || {
            let mut keys = Vec::new();
            store.keys(index::ENTRIES, &prefix_of(&of), &mut |key| {
                if path.as_ref().is_none_or(|path| *path == key.path) {
                    keys.push(key);
                }
                std::ops::ControlFlow::Continue(())
            })?;
            Ok::<_, StoreError>(keys)
        });
        let mut withdrawn = 0;
        let keys = listed.await.map_err(|_| StoreError::Closed)??;
        for keys in keys.chunks(super::settings::PAGE_ROWS) {
            let keys = keys.to_vec();
            let change = move |tables: &mut index::Tables<'_>| tables.withdraw(&keys).map(Ok);
            withdrawn += self.0.queue.change::<u64, StoreError>(change).await?;
        }
        Ok(withdrawn)
    }

    /// The key under which credentials are hashed.
    pub fn grant_key(&self) -> [u8; 32] {
        self.0.grant_key
    }

    /// What was granted under a name that [`Store::put_grant`] was given.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn grant(&self, name: &[u8]) -> Result<Option<GrantRecord>, StoreError> {
        self.0.check_open()?;
        self.0.index.run(|database| reads::grant(database, name))
    }

    /// Notes a grant, over the one of the same name.
    ///
    /// # Errors
    /// If the index cannot be written.
    pub async fn put_grant(&self, name: Vec<u8>, grant: GrantRecord) -> Result<(), StoreError> {
        self.0.check_open()?;
        let row = grant.encode();
        self.0.queue.change(move |tables| tables.put_grant(&name, &row).map(Ok)).await
    }

    /// Forgets the grants that were given before, and all if there are very many. How many.
    ///
    /// # Errors
    /// If the index cannot be written.
    pub async fn expire_grants(&self, before: Timestamp) -> Result<u64, StoreError> {
        self.0.check_open()?;
        self.0.queue.change(move |tables| tables.expire_grants(before).map(Ok)).await
    }
}

/// What the keys of everything of a repository begin with.
fn prefix_of(of: &EntryKey) -> Vec<u8> {
    let mut prefix = EntryKey { revision: String::new(), path: String::new(), ..of.clone() }.encode();
    // The separator between revision and path.
    prefix.pop();
    prefix
}
