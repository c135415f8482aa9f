//! What is held and known for a request.

use std::sync::Arc;

use super::Cache;
use super::settled::absence_key;
use crate::model::{
    Document, Entry, EntryKey, Expectation, Hub, Openness, Question, RefKey, Resource, Revision, Timestamp,
    Topic,
};
use crate::policy::Held;
use crate::store::{RefRecord, StoreError};
use crate::upstream::Failure;

/// How a branch is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// As what the hub said last that it means.
    Latest,
    /// As the commit at which it stands while no hub can be asked: the same for whatever is asked of it.
    Alone,
}

/// The answer to a look-up.
#[derive(Clone, Debug)]
pub struct Found {
    /// What the request means now: a branch resolved to its commit, else the resource itself.
    pub subject: Resource,
    /// When the hub last said what the revision means.
    pub checked_at: Option<Timestamp>,
    /// The file at the revision's last known meaning.
    pub current: Option<Arc<Entry>>,
    /// The file at the meaning that the revision has while no hub can be asked, where that is another.
    pub older: Option<Arc<Entry>>,
    /// What the hub said of the subject.
    pub known: Option<Arc<Expectation>>,
    /// That the subject is not there.
    pub absent: Option<Arc<Document>>,
    /// How the hub refused the file a moment ago.
    pub refused: Option<Arc<Failure>>,
}

impl Found {
    fn nothing(subject: Resource) -> Self {
        let (current, older, known, absent, refused) = (None, None, None, None, None);
        Self { subject, checked_at: None, current, older, known, absent, refused }
    }

    /// The same as plain facts for policy.
    pub fn facts(&self) -> Held {
        Held {
            checked_at: self.checked_at,
            current: self.current.is_some(),
            older: self.older.is_some(),
            known: self.known.is_some(),
            absent: self.absent.is_some(),
            refused: self.refused.is_some(),
        }
    }
}

/// The same for a question to the API.
#[derive(Clone, Debug)]
pub struct FoundDocument {
    /// The question, its branch resolved to a commit.
    pub subject: Question,
    /// When the hub last said what the revision means, and all that the answer says.
    pub checked_at: Option<Timestamp>,
    /// When the hub last said what the revision means.
    pub meaning_at: Option<Timestamp>,
    /// The answer at the revision's last known meaning.
    pub current: Option<Arc<Document>>,
    /// The answer at the meaning that the revision has while no hub can be asked, where that is another; and what an
    /// import knows, where no hub has answered.
    pub older: Option<Arc<Document>>,
    /// How the hub refused the answer a moment ago.
    pub refused: Option<Arc<Failure>>,
}

impl FoundDocument {
    fn nothing(subject: Question) -> Self {
        let (current, older, refused) = (None, None, None);
        Self { subject, checked_at: None, meaning_at: None, current, older, refused }
    }

    /// The same as plain facts for policy.
    pub fn facts(&self) -> Held {
        Held {
            checked_at: self.checked_at,
            current: self.current.is_some(),
            older: self.older.is_some(),
            refused: self.refused.is_some(),
            ..Held::default()
        }
    }
}

impl Cache {
    /// Looks up what is held for `asked` and may be given to everybody. Takes microseconds.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn look_up(&self, asked: &Resource, view: View) -> Result<Found, StoreError> {
        let mut found = match (&asked.revision, asked.hub) {
            (Revision::Named(_), Hub::HuggingFace) => self.look_up_branch(asked, view)?,
            (Revision::Named(_), Hub::Mozilla) => self.look_up_mutable(asked)?,
            _ => {
                let current = self.entry_for_all(asked)?;
                let known = if current.is_none() { self.known(asked) } else { None };
                Found { current, known, ..Found::nothing(asked.clone()) }
            }
        };
        if found.current.is_none() {
            found.absent = self.absence(&found.subject)?;
            found.refused = self.refused(&absence_key(asked, self.roots.root(asked.hub)));
        }
        Ok(found)
    }

    fn look_up_branch(&self, asked: &Resource, view: View) -> Result<Found, StoreError> {
        let key = asked.ref_key(self.roots.root(asked.hub));
        let Some(record) = self.reference(&key)? else { return Ok(Found::nothing(asked.clone())) };
        let latest = asked.at(Revision::Commit(record.commit.clone()));
        let checked_at = Some(record.checked_at);
        if view == View::Latest {
            let current = self.entry_for_all(&latest)?;
            // Where the branch stands is much to ask, and leads to nothing for a file that no commit has.
            if current.is_some() || !self.is_held_earlier(asked, &record)? {
                let known = self.known(&latest).filter(|_| current.is_none());
                return Ok(Found { checked_at, current, known, ..Found::nothing(latest) });
            }
        }
        let settled = self.settled(&key, &record)?;
        let stands = asked.at(Revision::Commit(settled.clone()));
        let entry = self.entry_for_all(&stands)?;
        let (current, older) = if settled == record.commit { (entry, None) } else { (None, entry) };
        let subject = if view == View::Latest { latest } else { stands };
        let known = self.known(&subject);
        Ok(Found { checked_at, current, older, known, ..Found::nothing(subject) })
    }

    fn is_held_earlier(&self, asked: &Resource, record: &RefRecord) -> Result<bool, StoreError> {
        for commit in &record.previous {
            if self.entry_for_all(&asked.at(Revision::Commit(commit.clone())))?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// A mutable revision that stands for nothing but itself: what the hub said last decides whether the entry is
    /// still current.
    fn look_up_mutable(&self, asked: &Resource) -> Result<Found, StoreError> {
        let entry = self.entry(asked)?;
        let known = self.known(asked);
        let nothing = Found::nothing(asked.clone());
        let Some(entry) = entry else {
            let checked_at = known.as_ref().map(|k| k.learned_at);
            return Ok(Found { checked_at, known, ..nothing });
        };
        let newer = known.filter(|k| k.learned_at > entry.checked_at);
        Ok(match newer {
            Some(k) if !same_version(&entry, &k) => {
                Found { checked_at: Some(k.learned_at), older: Some(entry), known: Some(k), ..nothing }
            }
            other => {
                let checked_at = Some(other.map_or(entry.checked_at, |k| k.learned_at));
                Found { checked_at, current: Some(entry), ..nothing }
            }
        })
    }

    /// Looks up what is held for a question to the API.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn look_up_document(&self, asked: &Question, view: View) -> Result<FoundDocument, StoreError> {
        let mut found = match asked.revision() {
            Some(Revision::Named(_)) => self.document_at_branch(asked, view)?,
            Some(_) => FoundDocument {
                current: self.document_or_absence(asked, asked)?,
                ..FoundDocument::nothing(asked.clone())
            },
            None => {
                let current = self.document(asked)?;
                let checked_at = current.as_ref().map(|d| d.learned_at);
                FoundDocument { checked_at, current, ..FoundDocument::nothing(asked.clone()) }
            }
        };
        if found.current.is_none() {
            if found.older.is_none() {
                found.older = self.answer_of_import(&found.subject)?;
            }
            found.refused = self.refused(&asked.key(self.roots.root(Hub::HuggingFace)));
        }
        Ok(found)
    }

    fn document_at_branch(&self, asked: &Question, view: View) -> Result<FoundDocument, StoreError> {
        let nothing = FoundDocument::nothing(asked.clone());
        let Some(key) = asked.ref_key(self.roots.root(Hub::HuggingFace)) else { return Ok(nothing) };
        let Some(record) = self.reference(&key)? else { return Ok(nothing) };
        let meaning_at = Some(record.checked_at);
        let latest = asked.at(Revision::Commit(record.commit.clone()));
        let mut current = match view {
            View::Latest => self.document_or_absence(&latest, asked)?,
            View::Alone => None,
        };
        let (mut subject, mut older) = (latest, None);
        if current.is_none() {
            let settled = self.settled(&key, &record)?;
            let stands = asked.at(Revision::Commit(settled.clone()));
            let document = self.document_or_absence(&stands, asked)?;
            (current, older) = if settled == record.commit { (document, None) } else { (None, document) };
            subject = if view == View::Alone { stands } else { subject };
        }
        // Beside the commit the answer says how often it was downloaded and the like, which moves on.
        let said_at =
            current.as_ref().filter(|_| matches!(asked.topic, Topic::Info(_))).map(|d| d.learned_at);
        let checked_at = meaning_at.min(said_at.or(meaning_at));
        Ok(FoundDocument { subject, checked_at, meaning_at, current, older, refused: None })
    }

    fn document_or_absence(
        &self,
        question: &Question,
        asked: &Question,
    ) -> Result<Option<Arc<Document>>, StoreError> {
        match self.document(question)? {
            Some(document) => Ok(Some(document)),
            None => self.absent_folder(question, asked),
        }
    }

    /// The answer to `question` under the hub's root, or under one declared equivalent.
    pub(super) fn document(&self, question: &Question) -> Result<Option<Arc<Document>>, StoreError> {
        for root in self.roots_of(Hub::HuggingFace) {
            if let Some(document) = self.store.document(&question.key(root))? {
                return Ok(Some(document));
            }
        }
        Ok(None)
    }

    /// The entry of `resource` under the hub's root, or under one declared equivalent.
    pub(super) fn entry(&self, resource: &Resource) -> Result<Option<Arc<Entry>>, StoreError> {
        for root in self.roots_of(resource.hub) {
            if let Some(entry) = self.store.entry(&resource.key(root))? {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }

    pub(super) fn key(&self, resource: &Resource) -> EntryKey {
        resource.key(self.roots.root(resource.hub))
    }

    /// What the hub said of `resource`, if that is remembered. That everybody may know it holds no longer than that
    /// everybody may read what is held.
    pub(super) fn known(&self, resource: &Resource) -> Option<Arc<Expectation>> {
        let known = self.known.get(&self.key(resource))?;
        let access = Openness::Public { confirmed_at: known.learned_at };
        let is_due = self.entitlement().is_due(resource.hub, access, Timestamp::now());
        (!is_due && !self.is_withdrawn_since(resource, known.learned_at)).then_some(known)
    }

    fn refused(&self, key: &EntryKey) -> Option<Arc<Failure>> {
        self.refusals.get(key)
    }

    pub(super) fn reference(&self, key: &RefKey) -> Result<Option<Arc<RefRecord>>, StoreError> {
        if let Some(record) = self.references.get(key) {
            return Ok(Some(record));
        }
        let record = self.store.reference(key)?.map(Arc::new);
        if let Some(record) = &record {
            self.references.insert(key.clone(), Arc::clone(record));
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
