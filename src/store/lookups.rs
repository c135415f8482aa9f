//! What reads the store: from memory, or with one short read transaction.

use std::collections::HashMap;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::{Arc, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::blob::{Blob, Home};
use super::error::StoreError;
use super::index::{self, reads};
use super::lent::LENT;
use super::memory::Place;
use super::open::Store;
use super::records::{BlobInfo, PartialRecord, RefRecord};
use super::selector::Selector;
use crate::model::{Entry, EntryKey, Hub, HubRoot, RefKey, Repo, Sha256, Timestamp};

/// How much there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Space on disk of all files of the store: blocks, because a redb file has holes.
    pub disk_bytes: u64,
    /// What they may take.
    #[serde(default)]
    pub limit_bytes: u64,
    /// Space that is free on their file system, the floor included.
    pub free_bytes: u64,
    /// Files that can be served.
    pub entries: u64,
    /// Different contents of those.
    pub blobs: u64,
    /// Fills that are under way or were interrupted.
    pub partials: u64,
    /// Answers of a hub's API.
    pub documents: u64,
    /// Volumes.
    pub volumes: u64,
}

/// Why the store can take nothing new.
#[derive(Clone, Debug)]
pub enum NotReady {
    /// The index or the file system cannot be read.
    Store(StoreError),
    /// The file system has less free than the store is to leave.
    NoSpace {
        /// Bytes that are free.
        free: u64,
        /// Bytes that must be.
        floor: u64,
    },
}

impl fmt::Display for NotReady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(_) => f.write_str("the store cannot be read"),
            Self::NoSpace { free, floor } => {
                write!(
                    f,
                    "the data directory's file system has {free} bytes free, below the floor of {floor}"
                )
            }
        }
    }
}

impl std::error::Error for NotReady {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Store(e) => Some(e),
            Self::NoSpace { .. } => None,
        }
    }
}

/// Reads block for microseconds and may be called from async code.
impl Store {
    /// The entry at a key.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn entry(&self, key: &EntryKey) -> Result<Option<Arc<Entry>>, StoreError> {
        let inner = &self.0;
        inner.check_open()?;
        if let Some(entry) = inner.memory.entry(key) {
            return Ok(Some(entry));
        }
        let seen = inner.memory.changes(key);
        let entry = inner.index.run(|database| reads::entry(database, key))?.map(Arc::new);
        if let Some(entry) = &entry {
            inner.memory.remember_entry(seen, key, entry);
        }
        Ok(entry)
    }

    /// Shows the selected entries in the order of their keys. A long listing is many transactions, so what changes
    /// meanwhile may or may not be shown.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn entries(
        &self,
        select: &Selector,
        visit: &mut dyn FnMut(EntryKey, Entry, BlobInfo) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let mut from = Some(select.prefix());
        while let Some(at) = from {
            self.0.check_open()?;
            let page = self.0.index.run(|database| reads::page(database, select, &at))?;
            for (key, entry, mut info) in page.rows {
                if let Some(used) = self.0.uses.get().get(&entry.blob) {
                    info.last_used = info.last_used.max(used.last);
                }
                if visit(key, entry, info).is_break() {
                    return Ok(());
                }
            }
            from = page.next;
        }
        Ok(())
    }

    /// The paths of all entries of a repository at one revision, in the order of their keys.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn paths_at(
        &self,
        hub: Hub,
        root: &HubRoot,
        repo: &Repo,
        revision: &str,
    ) -> Result<Vec<String>, StoreError> {
        let mut paths = Vec::new();
        self.keys(index::ENTRIES, &prefix_at(hub, root, repo, revision), &mut |key| {
            paths.push(key.path);
            ControlFlow::Continue(())
        })?;
        Ok(paths)
    }

    /// Shows the keys of a table that begin with `prefix`, a page in each transaction.
    pub(super) fn keys(
        &self,
        of: reads::Bytes<'static>,
        prefix: &[u8],
        visit: &mut dyn FnMut(EntryKey) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let mut from = Some(prefix.to_vec());
        while let Some(at) = from {
            self.0.check_open()?;
            let (keys, next) = self.0.index.run(|database| reads::keys(database, of, prefix, &at))?;
            if keys.into_iter().try_for_each(&mut *visit).is_break() {
                return Ok(());
            }
            from = next;
        }
        Ok(())
    }

    /// What is known of the bytes with this digest.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn blob(&self, sha: &Sha256) -> Result<Option<BlobInfo>, StoreError> {
        self.0.check_open()?;
        let row = self.0.index.run(|database| reads::blob(database, sha))?;
        Ok(row.map(|row| {
            let used = self.0.uses.get().get(sha).copied().unwrap_or_default();
            BlobInfo { last_used: row.last_used.max(used.last), ..row.info() }
        }))
    }

    /// The digest of held bytes that were verified to have this git blob id.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn sha256_of_git(&self, oid: &[u8; 20]) -> Result<Option<Sha256>, StoreError> {
        self.0.check_open()?;
        self.0.index.run(|database| reads::sha256_of_git(database, oid))
    }

    /// What a branch or tag was last seen to name.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn reference(&self, key: &RefKey) -> Result<Option<RefRecord>, StoreError> {
        self.0.check_open()?;
        self.0.index.run(|database| reads::reference(database, key))
    }

    /// Shows what the branches and tags of the selected repositories were last seen to name, in the order of their
    /// keys; the revision and the path that a selector names are not looked at.
    ///
    /// # Errors
    /// If the index cannot be read, or a row is damaged.
    pub fn references(
        &self,
        select: &Selector,
        visit: &mut dyn FnMut(RefKey, RefRecord) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let prefix = select.prefix();
        let mut from = Some(prefix.clone());
        while let Some(at) = from {
            self.0.check_open()?;
            let (rows, next) = self.0.index.run(|database| reads::references(database, &prefix, &at))?;
            for (key, record) in rows.into_iter().filter(|(key, _)| select.matches_repo(key)) {
                let EntryKey { hub, root, repo, revision: name, .. } = key;
                if visit(RefKey { hub, root, repo, name }, record).is_break() {
                    return Ok(());
                }
            }
            from = next;
        }
        Ok(())
    }

    /// The partial fill of a key.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn partial(&self, key: &EntryKey) -> Result<Option<PartialRecord>, StoreError> {
        self.0.check_open()?;
        let row = self.0.index.run(|database| reads::partial(database, key))?;
        Ok(row.map(|row| row.record()))
    }

    /// How many bytes of a partial fill are on disk; zero of one that is not there. Reads a row for each chunk.
    ///
    /// # Errors
    /// If the index or the volume cannot be read.
    pub fn partial_bytes(&self, key: &EntryKey) -> Result<u64, StoreError> {
        self.0.check_open()?;
        let Some(row) = self.0.index.run(|database| reads::partial(database, key))? else { return Ok(0) };
        let chunks = self.0.volumes.get(row.volume)?.list(row.id)?;
        Ok(chunks.iter().map(|(_, length)| u64::from(*length)).sum())
    }

    /// All partial fills, those touched last first.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn partials(&self) -> Result<Vec<(EntryKey, PartialRecord)>, StoreError> {
        self.0.check_open()?;
        let rows = self.0.index.run(reads::partials)?;
        let mut all: Vec<_> = rows.into_iter().map(|(key, row)| (key, row.record())).collect();
        all.sort_by_key(|(_, record)| std::cmp::Reverse(record.touched_at));
        Ok(all)
    }

    /// Until when a mark stands on a key; `None` if none does at `now`.
    pub fn mark(&self, key: &EntryKey, now: Timestamp) -> Option<Timestamp> {
        let mut marks = self.marks();
        let until = marks.get(key).copied()?;
        if until > now {
            return Some(until);
        }
        marks.remove(key);
        None
    }

    /// A handle to the bytes with this digest, which keeps them from being removed.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn open_blob(&self, sha: &Sha256) -> Result<Option<Blob>, StoreError> {
        let inner = &self.0;
        inner.check_open()?;
        loop {
            let seen = inner.memory.removals();
            let place = match inner.memory.place(seen, sha) {
                Some(place) => place,
                None => {
                    let Some(row) = inner.index.run(|database| reads::blob(database, sha))? else {
                        return Ok(None);
                    };
                    let place = Place::from(&row);
                    inner.memory.remember_place(seen, sha, place);
                    place
                }
            };
            let home = match place.volume {
                LENT => Home::Lent(inner.lent.place(sha)?),
                number => match inner.volumes.get(number) {
                    Ok(volume) => Home::Volume(volume),
                    // It was emptied and removed meanwhile.
                    Err(_) if inner.memory.removals() != seen => continue,
                    Err(error) => return Err(error),
                },
            };
            let blob = inner.neighbours.leases.take(place.id, home, Some(place.size), None);
            // Something was removed meanwhile, perhaps this; then the handle came too late.
            if inner.memory.removals() == seen {
                return Ok(Some(blob));
            }
        }
    }

    /// How much there is. What cannot be found out is zero.
    pub fn usage(&self) -> Usage {
        let inner = &self.0;
        let counts = inner.check_open().and_then(|()| inner.index.run(reads::counts));
        let [entries, blobs, partials, documents] = counts.unwrap_or_default();
        let (disk_bytes, free_bytes) = (inner.disk.used().unwrap_or(0), inner.disk.free().unwrap_or(0));
        let (volumes, limit_bytes) = (inner.volumes.len() as u64, inner.budget.limit());
        Usage { disk_bytes, limit_bytes, free_bytes, entries, blobs, partials, documents, volumes }
    }

    /// Whether the store can be read and has room.
    ///
    /// # Errors
    /// Says what it lacks.
    pub fn ready(&self) -> Result<(), NotReady> {
        let inner = &self.0;
        inner.check_open().and_then(|()| inner.index.run(reads::counts)).map_err(NotReady::Store)?;
        let free = inner.disk.free().map_err(|e| NotReady::Store(e.into()))?;
        let floor = inner.disk.min_free();
        if free < floor { Err(NotReady::NoSpace { free, floor }) } else { Ok(()) }
    }

    pub(super) fn marks(&self) -> MutexGuard<'_, HashMap<EntryKey, Timestamp>> {
        self.0.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the keys of everything of a repository at one revision begin with.
pub(super) fn prefix_at(hub: Hub, root: &HubRoot, repo: &Repo, revision: &str) -> Vec<u8> {
    let (root, repo, revision) = (root.clone(), repo.clone(), revision.to_owned());
    EntryKey { hub, root, repo, revision, path: String::new() }.encode()
}
