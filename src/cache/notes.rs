//! What is noted of what hubs say.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::StatusCode;

use super::Cache;
use super::held::same_version;
use super::settled::absence_key;
use crate::hub::api;
use crate::model::{
    Commit, Document, EntryKey, Expectation, Hub, Question, RefKey, Representation, Resource, Revision,
    Timestamp, Topic,
};
use crate::store::RefRecord;
use crate::upstream::{Failure, Refusal};

/// Most answers that are kept of one revision of one repository.
const MAX_DOCUMENTS_AT: usize = 10_000;

impl Cache {
    /// Notes what the hub said of `asked`.
    pub(super) async fn note(&self, asked: &Resource, said: &Arc<Expectation>) {
        let subject = match (&asked.revision, asked.hub, &said.representation.commit) {
            (Revision::Named(_), Hub::HuggingFace, Some(commit)) => {
                let key = asked.ref_key(self.roots.root(asked.hub));
                self.note_commit(key, commit.clone(), said.learned_at).await;
                asked.at(Revision::Commit(commit.clone()))
            }
            _ => asked.clone(),
        };
        self.note_confirmation(&subject, said).await;
        self.known.insert(self.key(&subject), Arc::clone(said));
    }

    /// Notes what a signed record says of the size of a file, which is compared with what comes.
    pub fn expect_size(&self, file: &Resource, size: u64) {
        let said = Expectation {
            representation: Representation { size: Some(size), ..Representation::default() },
            promises: file.own_promise().into_iter().collect(),
            validator: None,
            learned_at: Timestamp::now(),
            xet: None,
        };
        self.known.insert(self.key(file), Arc::new(said));
    }

    /// Notes what the hub said while a file was fetched.
    pub(super) fn note_fill(&self, subject: &Resource, said: &Arc<Expectation>) {
        self.known.insert(self.key(subject), Arc::clone(said));
    }

    pub(super) async fn note_commit(&self, key: RefKey, commit: Commit, at: Timestamp) {
        let stored = self.store.put_reference(&key, commit.clone(), at).await;
        let record = match stored {
            Ok(()) => self.store.reference(&key).ok().flatten(),
            Err(error) => {
                // Without room the new meaning stands in memory, with the older ones behind it.
                tracing::warn!(%error, revision = %key.name, "the meaning of a revision cannot be stored");
                let before = self.references.get(&key);
                let previous =
                    before.iter().flat_map(|r| [r.commit.clone()].into_iter().chain(r.previous.clone()));
                Some(RefRecord {
                    previous: previous.filter(|c| *c != commit).take(16).collect(),
                    commit,
                    checked_at: at,
                })
            }
        };
        if let Some(record) = record {
            self.references.insert(key, Arc::new(record));
        }
    }

    /// A mutable entry whose bytes are still the hub's is confirmed, so that it is fresh again.
    async fn note_confirmation(&self, subject: &Resource, said: &Expectation) {
        if subject.revision.is_immutable() {
            return;
        }
        if let Ok(Some(entry)) = self.entry(subject)
            && same_version(&entry, said)
            && let Err(error) = self.store.confirm(&self.key(subject), said.learned_at).await
        {
            tracing::warn!(%error, file = %subject, "that a file is unchanged cannot be stored");
        }
    }

    /// Notes that the hub, asked without credentials, gives no file. That a commit has none of this name is kept for
    /// good. Another absence is remembered for moments, and what depends on the caller not at all.
    pub(super) async fn note_refusal(&self, asked: &Resource, failure: &Failure) {
        let Some(refusal) = not_found(failure) else { return };
        let mut told = api::document(
            self.roots.root(asked.hub),
            refusal.status,
            &refusal.headers,
            refusal.body.clone(),
            Timestamp::now(),
        );
        if told.body.is_empty() {
            // Learned by HEAD; who asks by GET is told as much as the fields say.
            told.body = told.error_message.clone().unwrap_or_default().into();
            told.content_type = Some("text/plain; charset=utf-8".to_owned());
        }
        let commit = match &asked.revision {
            Revision::Commit(commit) => Some(commit.clone()),
            _ => told.commit.clone(),
        };
        match (asked.hub, commit) {
            (Hub::HuggingFace, Some(commit)) if api::is_entry_not_found(&refusal.headers) => {
                if !asked.revision.is_immutable() {
                    let key = asked.ref_key(self.roots.root(asked.hub));
                    self.note_commit(key, commit.clone(), told.learned_at).await;
                }
                let file = asked.at(Revision::Commit(commit.clone()));
                let key = absence_key(&file, self.roots.root(asked.hub));
                self.keep(&key, Document { commit: Some(commit), ..told }).await;
            }
            (Hub::HuggingFace, _) if !api::is_revision_not_found(&refusal.headers) => {}
            _ => self.remember(absence_key(asked, self.roots.root(asked.hub)), refusal),
        }
    }

    /// Notes the answer to a question, and what it says a branch means. At a commit it is kept for good; of what was
    /// asked about a branch only an answer that names the commit is.
    pub(super) async fn note_document(&self, asked: &Question, document: &Document) {
        let root = self.roots.root(Hub::HuggingFace);
        let subject = match (&asked.topic, asked.revision()) {
            (Topic::Info(_), Some(Revision::Named(_))) => {
                let Some(commit) = api::commit_of(document) else { return };
                if let Some(key) = asked.ref_key(root) {
                    self.note_commit(key, commit.clone(), document.learned_at).await;
                }
                asked.at(Revision::Commit(commit))
            }
            (_, Some(Revision::Commit(_)) | None) => asked.clone(),
            _ => return,
        };
        self.keep(&subject.key(root), document.clone()).await;
    }

    /// Notes that the hub says of a question what it said before, at the same commit.
    pub(super) async fn note_unchanged(&self, asked: &Question, held: &Question, at: Timestamp) {
        let root = self.roots.root(Hub::HuggingFace);
        if let (Some(Revision::Named(_)), Some(Revision::Commit(commit)), Some(key)) =
            (asked.revision(), held.revision(), asked.ref_key(root))
        {
            self.note_commit(key, commit.clone(), at).await;
        }
        if let Err(error) = self.store.confirm_document(&held.key(root), at).await {
            tracing::warn!(%error, question = %held, "that an answer is unchanged cannot be stored");
        }
    }

    /// Notes that the hub, asked without credentials, has no answer for a moment.
    pub(super) fn note_refused_question(&self, asked: &Question, failure: &Failure) {
        if let Some(refusal) = not_found(failure).filter(|r| api::is_revision_not_found(&r.headers)) {
            self.remember(asked.key(self.roots.root(Hub::HuggingFace)), refusal);
        }
    }

    fn remember(&self, key: EntryKey, refusal: &Refusal) {
        self.refusals.insert(key, Arc::new(Failure::Refused(Box::new(refusal.clone()))));
    }

    pub(super) async fn keep(&self, key: &EntryKey, document: Document) {
        if !self.has_room_for(key) {
            tracing::debug!(repo = %key.repo, question = %key.path, "too many answers of one commit to keep another");
            return;
        }
        if let Err(error) = self.store.put_document(key, document).await {
            tracing::warn!(%error, repo = %key.repo, question = %key.path, "an answer of the hub cannot be stored");
        }
    }
}

impl Cache {
    /// Clients choose file names and lists of paths, and so could have any number of answers kept.
    fn has_room_for(&self, key: &EntryKey) -> bool {
        let at = (key.repo.clone(), key.revision.clone());
        let count = self.counts.get_with(at, || {
            let keys = self.store.document_keys_at(key.hub, &key.root, &key.repo, &key.revision);
            Arc::new(AtomicUsize::new(keys.map_or(0, |keys| keys.len())))
        });
        // One that is replaced counts twice, until the count is forgotten.
        count.fetch_add(1, Ordering::Relaxed) < MAX_DOCUMENTS_AT
            || matches!(self.store.document(key), Ok(Some(_)))
    }
}

/// The hub's own 404.
fn not_found(failure: &Failure) -> Option<&Refusal> {
    match failure {
        Failure::Refused(refusal) if refusal.at_hub && refusal.status == StatusCode::NOT_FOUND => {
            Some(refusal)
        }
        _ => None,
    }
}
