//! What is held and known for a request.

use std::sync::Arc;

use super::Cache;
use crate::model::{Entry, EntryKey, Expectation, Hub, Resource, Revision, Timestamp};
use crate::policy::Held;
use crate::store::{RefRecord, StoreError};

/// The answer to a look-up.
#[derive(Clone, Debug)]
pub struct Found {
    /// What the request means now: a branch resolved to its commit, else the resource itself.
    pub subject: Resource,
    /// When the hub last said what the revision means.
    pub checked_at: Option<Timestamp>,
    /// The file at the revision's last known meaning.
    pub current: Option<Arc<Entry>>,
    /// The file at an earlier meaning.
    pub older: Option<Arc<Entry>>,
    /// What the hub said of the subject.
    pub known: Option<Arc<Expectation>>,
}

impl Found {
    /// The same as plain facts for policy.
    pub fn facts(&self) -> Held {
        Held {
            checked_at: self.checked_at,
            current: self.current.is_some(),
            older: self.older.is_some(),
            known: self.known.is_some(),
        }
    }
}

impl Cache {
    /// Looks up what is held for `asked`. Takes microseconds.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn look_up(&self, asked: &Resource) -> Result<Found, StoreError> {
        match (&asked.revision, asked.hub) {
            (Revision::Named(_), Hub::HuggingFace) => self.look_up_branch(asked),
            (Revision::Named(_), Hub::Mozilla) => self.look_up_mutable(asked),
            _ => Ok(Found {
                current: self.entry(asked)?,
                known: self.known(asked),
                subject: asked.clone(),
                checked_at: None,
                older: None,
            }),
        }
    }

    fn look_up_branch(&self, asked: &Resource) -> Result<Found, StoreError> {
        let Some(record) = self.reference(asked)? else {
            let subject = asked.clone();
            return Ok(Found { subject, checked_at: None, current: None, older: None, known: None });
        };
        let subject = asked.at(Revision::Commit(record.commit.clone()));
        let current = self.entry(&subject)?;
        let mut older = None;
        if current.is_none() {
            for commit in &record.previous {
                older = self.entry(&asked.at(Revision::Commit(commit.clone())))?;
                if older.is_some() {
                    break;
                }
            }
        }
        let known = self.known(&subject);
        Ok(Found { subject, checked_at: Some(record.checked_at), current, older, known })
    }

    /// A mutable revision that stands for nothing but itself: what the hub said last decides whether the entry is
    /// still current.
    fn look_up_mutable(&self, asked: &Resource) -> Result<Found, StoreError> {
        let entry = self.entry(asked)?;
        let known = self.known(asked);
        let subject = asked.clone();
        let Some(entry) = entry else {
            let checked_at = known.as_ref().map(|k| k.learned_at);
            return Ok(Found { subject, checked_at, current: None, older: None, known });
        };
        let newer = known.filter(|k| k.learned_at > entry.checked_at);
        Ok(match newer {
            Some(k) if !same_version(&entry, &k) => {
                let checked_at = Some(k.learned_at);
                Found { subject, checked_at, current: None, older: Some(entry), known: Some(k) }
            }
            other => {
                let checked_at = Some(other.map_or(entry.checked_at, |k| k.learned_at));
                Found { subject, checked_at, current: Some(entry), older: None, known: None }
            }
        })
    }

    /// The entry of `resource` under the hub's root, or under one declared equivalent.
    pub(super) fn entry(&self, resource: &Resource) -> Result<Option<Arc<Entry>>, StoreError> {
        if let Some(entry) = self.store.entry(&self.key(resource))? {
            return Ok(Some(entry));
        }
        for root in self.upstream.equivalents(resource.hub) {
            if let Some(entry) = self.store.entry(&resource.key(root))? {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }

    pub(super) fn key(&self, resource: &Resource) -> EntryKey {
        resource.key(self.upstream.root(resource.hub))
    }

    /// What the hub said of `resource`, if that is remembered.
    pub(super) fn known(&self, resource: &Resource) -> Option<Arc<Expectation>> {
        self.known.get(&self.key(resource))
    }

    fn reference(&self, asked: &Resource) -> Result<Option<Arc<RefRecord>>, StoreError> {
        let key = asked.ref_key(self.upstream.root(asked.hub));
        if let Some(record) = self.references.get(&key) {
            return Ok(Some(record));
        }
        let record = self.store.reference(&key)?.map(Arc::new);
        if let Some(record) = &record {
            self.references.insert(key, Arc::clone(record));
        }
        Ok(record)
    }
}

/// Whether what the hub says describes the bytes of an entry.
pub(super) fn same_version(entry: &Entry, said: &Expectation) -> bool {
    let (held, said) = (&entry.representation, &said.representation);
    match (&entry.validator, &said.etag) {
        (Some(a), Some(b)) => a.trim_start_matches("W/") == b.trim_start_matches("W/"),
        (None, None) => held.last_modified == said.last_modified && said.size.is_none_or(|s| s == entry.size),
        _ => false,
    }
}
