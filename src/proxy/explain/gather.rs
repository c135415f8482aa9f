//! What is held and known for a request, as facts.

use std::sync::Arc;

use super::{Absence, Facts, Holding, Known, Meaning, Sight, Unfinished};
use crate::cache::{Fetcher, Found, FoundDocument};
use crate::model::{Document, Entry, EntryKey, Hub, Question, Resource, Revision, Timestamp};
use crate::policy::Ask;
use crate::store::StoreError;

impl Sight<'_> {
    pub(super) fn file_facts(
        &self,
        resource: &Resource,
        found: &Found,
        ask: Ask,
        now: Timestamp,
    ) -> Result<Facts, StoreError> {
        let root = self.cache.roots().root(resource.hub).clone();
        let meaning =
            |revision: &Revision| self.meaning(revision, &found.subject.revision, found.checked_at, ask, now);
        let holding = |entry: &Arc<Entry>| Holding::File(Box::new((**entry).clone()));
        let held = found.current.as_ref().map(holding);
        let restricted = match held {
            Some(_) => None,
            None => self.cache.entry_for_granted(&found.subject)?,
        };
        Ok(Facts {
            hub: resource.hub,
            repo: resource.repo.to_string(),
            name: resource.path.clone(),
            is_question: false,
            revision: Some(meaning(&resource.revision)),
            unfinished: if held.is_some() { None } else { self.unfinished(&found.subject.key(&root))? },
            held,
            older: found.older.as_ref().map(holding),
            restricted: restricted.as_ref().map(holding),
            known: found.known.as_ref().filter(|_| found.current.is_none()).map(|said| Known {
                size_bytes: said.representation.size,
                promises: said.promises.clone(),
                learned_at: said.learned_at,
            }),
            absent: found.absent.as_deref().map(absence),
            refused: found.refused.as_ref().map(ToString::to_string),
            root,
        })
    }

    pub(super) fn question_facts(
        &self,
        question: &Question,
        found: &FoundDocument,
        ask: Ask,
        now: Timestamp,
    ) -> Facts {
        let answer = |document: &Document| Holding::Answer {
            status: document.status,
            size_bytes: document.body.len() as u64,
            learned_at: document.learned_at,
        };
        let subject = found.subject.revision();
        let revision = question.revision().zip(subject);
        Facts {
            hub: Hub::HuggingFace,
            root: self.cache.roots().root(Hub::HuggingFace).clone(),
            repo: question.repo.to_string(),
            name: question.name(),
            restricted: None,
            is_question: true,
            revision: revision
                .map(|(named, subject)| self.meaning(named, subject, found.checked_at, ask, now)),
            held: found.current.as_deref().map(answer),
            older: found.older.as_deref().map(answer),
            unfinished: None,
            known: None,
            absent: None,
            refused: found.refused.as_ref().map(ToString::to_string),
        }
    }

    fn meaning(
        &self,
        named: &Revision,
        subject: &Revision,
        checked_at: Option<Timestamp>,
        ask: Ask,
        now: Timestamp,
    ) -> Meaning {
        let commit = match subject {
            Revision::Commit(commit) => Some(commit.clone()),
            Revision::Version(_) | Revision::Named(_) => None,
        };
        let trusted = ask.immutable || checked_at.is_some_and(|at| at.age(now) <= self.rules.ref_ttl);
        Meaning { name: named.as_str().to_owned(), immutable: ask.immutable, commit, checked_at, trusted }
    }

    fn unfinished(&self, key: &EntryKey) -> Result<Option<Unfinished>, StoreError> {
        let running = self.fetcher.map_or_else(Vec::new, Fetcher::running);
        if let Some(fill) = running.into_iter().find(|fill| fill.key == *key) {
            let (arrived_bytes, size_bytes) = (fill.arrived_bytes, fill.size_bytes);
            return Ok(Some(Unfinished { running: true, arrived_bytes, size_bytes, started_at: fill.since }));
        }
        let store = self.cache.store();
        let Some(record) = store.partial(key)? else { return Ok(None) };
        Ok(Some(Unfinished {
            running: false,
            arrived_bytes: store.partial_bytes(key)?,
            size_bytes: record.expectation.representation.size,
            started_at: record.started_at,
        }))
    }
}

fn absence(document: &Document) -> Absence {
    // What is concluded from a list was said at no time of its own.
    match document.learned_at {
        Timestamp(0) => Absence::NotListed,
        learned_at => Absence::Said { learned_at },
    }
}
