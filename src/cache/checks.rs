//! Questions to a hub: one for all who ask at once, going on after those who asked have given up.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::Fetcher;
use super::asker::Asker;
use crate::hub::{Kept, Misread, Stripper, api};
use crate::model::{Document, EntryKey, Expectation, Hub, Question, Resource, Revision, Timestamp, Topic};
use crate::store::DOCUMENT_MAX;
use crate::telemetry::Limit;
use crate::upstream::{Failure, Inquiry, Said};

type Answer<T> = Result<Arc<T>, Arc<Failure>>;

/// How a question went.
#[derive(Clone, Debug)]
pub enum Checked<T> {
    /// The hub answered, or could not be asked.
    Answered(Answer<T>),
    /// No answer within the budget; the question stays open.
    Late,
}

/// Questions that are open.
pub(super) struct Checks<T, K = EntryKey>(Mutex<HashMap<K, Open<T>>>);

type Open<T> = watch::Receiver<Option<Answer<T>>>;

impl<T, K> Default for Checks<T, K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T, K> Checks<T, K> {
    fn open(&self) -> MutexGuard<'_, HashMap<K, Open<T>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits `within` for the answer that `ask` gives to the question `key`, or that somebody else's asking of it gives.
pub(super) async fn shared<T, K, F>(
    fetcher: &Arc<Fetcher>,
    checks: fn(&Fetcher) -> &Checks<T, K>,
    key: K,
    within: Option<Duration>,
    ask: impl FnOnce(Arc<Fetcher>) -> F,
) -> Checked<T>
where
    T: Send + Sync + 'static,
    K: Clone + Eq + Hash + Send + Sync + 'static,
    F: Future<Output = Answer<T>> + Send + 'static,
{
    let mut answer = {
        let mut open = checks(fetcher).open();
        let full = open.len() >= fetcher.settings.max_questions;
        match open.entry(key.clone()) {
            Slot::Occupied(slot) => slot.get().clone(),
            Slot::Vacant(_) if full => {
                // What is held is served as if the hub were late.
                fetcher.met(Limit::Questions);
                return Checked::Late;
            }
            Slot::Vacant(slot) => {
                let (sender, receiver) = watch::channel(None);
                slot.insert(receiver.clone());
                let (fetcher, asking) = (Arc::clone(fetcher), ask(Arc::clone(fetcher)));
                tokio::spawn(async move {
                    let answer = asking.await;
                    checks(&fetcher).open().remove(&key);
                    sender.send_replace(Some(answer));
                });
                receiver
            }
        }
    };
    let answered = async {
        // An error means that the task is gone, which only a stopping runtime does.
        answer.wait_for(Option::is_some).await.ok().and_then(|a| a.clone())
    };
    let answered = match within {
        Some(limit) => tokio::time::timeout(limit, answered).await.ok().flatten(),
        None => answered.await,
    };
    answered.map_or(Checked::Late, Checked::Answered)
}

impl Fetcher {
    /// Asks the hub about `asked` without credentials (HEAD), and waits `within` for the answer. What it says is
    /// noted: the meaning of a branch, and what is to be expected of the file.
    pub async fn check(self: &Arc<Self>, asked: &Resource, within: Option<Duration>) -> Checked<Expectation> {
        let about = asked.clone();
        let ask = move |fetcher: Arc<Self>| async move { fetcher.inquire(&about).await };
        shared(self, |f| &f.checks, self.cache.key(asked), within, ask).await
    }

    async fn inquire(self: &Arc<Self>, asked: &Resource) -> Answer<Expectation> {
        let asker = self.asker(asked);
        match self.upstream.inquire(asked, asker.credential()).await {
            Ok(said) => {
                let said = Arc::new(said);
                self.cache.note(asked, &said).await;
                if let Asker::Anyone = asker {
                    self.cache.note_public(&at_commit(asked, &said), said.learned_at).await;
                }
                self.take_what_is_here(asked, &said);
                Ok(said)
            }
            Err(failure) => {
                tracing::debug!(file = %asked, error = %failure, "asking the hub failed");
                self.cache.note_refusal(asked, &failure).await;
                self.cache.note_withdrawal(asked, &failure).await;
                Err(Arc::new(failure))
            }
        }
    }

    /// Puts a question to the hub's API without credentials, and waits `within` for the answer, which is noted: for
    /// good at a commit, and with what it says that a branch means. That a commit has no such folder is an answer too.
    pub async fn ask(self: &Arc<Self>, asked: &Question, within: Option<Duration>) -> Checked<Document> {
        let question = asked.clone();
        let ask = move |fetcher: Arc<Self>| async move { fetcher.put(&question).await };
        let key = asked.key(self.cache.roots.root(Hub::HuggingFace));
        shared(self, |f| &f.questions, key, within, ask).await
    }

    async fn put(&self, asked: &Question) -> Answer<Document> {
        let _place = match self.documents.try_acquire() {
            Ok(place) => Ok(place),
            Err(_) => {
                self.met(Limit::Answers);
                // It cannot be closed, as it lives as long as its owner.
                self.documents.acquire().await
            }
        };
        let held = self.comparable(asked);
        let inquiry = Inquiry {
            path_and_query: api::question_path(&Question {
                repo: self.upstream.name_of(Hub::HuggingFace, &asked.repo),
                ..asked.clone()
            }),
            body: api::question_body(asked),
            credential: self.credential(Hub::HuggingFace, &asked.repo),
            validator: held.as_ref().and_then(|(_, document)| document.validator.clone()),
        };
        let said = self.upstream.ask(Hub::HuggingFace, &inquiry, DOCUMENT_MAX).await;
        let root = self.cache.roots.root(Hub::HuggingFace);
        let now = Timestamp::now();
        match (said, held) {
            (Ok(Said::Unchanged), Some((question, document))) => {
                self.cache.note_unchanged(asked, &question, now).await;
                Ok(Arc::new(Document { learned_at: now, ..Document::clone(&document) }))
            }
            (Ok(Said::Unchanged), None) => Err(Arc::new(Failure::Misread(Misread::NoHops))),
            (Ok(Said::Answer { headers, body }), _) => {
                self.telemetry.upstream_received(Hub::HuggingFace, body.len() as u64);
                let body = self.made_fit(asked, &body).map_err(Arc::new)?;
                let document = api::document(root, http::StatusCode::OK, &headers, body.into(), now);
                self.cache.note_document(asked, &document).await;
                Ok(Arc::new(document))
            }
            (Err(failure), _) => self.refused(asked, failure, now).await,
        }
    }

    /// What is held that the hub may say is still so, and what was asked for it.
    fn comparable(&self, asked: &Question) -> Option<(Question, Arc<Document>)> {
        let question = match asked.revision() {
            Some(Revision::Named(_)) => {
                let key = asked.ref_key(self.cache.roots.root(Hub::HuggingFace))?;
                let record = self.cache.reference(&key).ok().flatten()?;
                asked.at(Revision::Commit(record.commit.clone()))
            }
            _ => asked.clone(),
        };
        let document = self.cache.document(&question).ok().flatten()?;
        (document.status == 200).then_some((question, document))
    }

    async fn refused(&self, asked: &Question, failure: Failure, now: Timestamp) -> Answer<Document> {
        tracing::debug!(question = %asked, error = %failure, "the hub gave no answer");
        let at_commit = matches!(asked.revision(), Some(Revision::Commit(_)));
        if let Failure::Refused(refusal) = &failure
            && refusal.at_hub
            && refusal.status == http::StatusCode::NOT_FOUND
            && at_commit
            && matches!(asked.topic, Topic::Tree { .. })
            && api::is_entry_not_found(&refusal.headers)
        {
            let root = self.cache.roots.root(Hub::HuggingFace);
            let body = refusal.body.clone();
            let document = api::document(root, refusal.status, &refusal.headers, body, now);
            self.cache.note_document(asked, &document).await;
            return Ok(Arc::new(document));
        }
        self.cache.note_refused_question(asked, &failure);
        Err(Arc::new(failure))
    }

    /// The body as it may be served: without what would draw clients to the Xet store.
    fn made_fit(&self, asked: &Question, body: &[u8]) -> Result<Vec<u8>, Failure> {
        let mut stripper = Stripper::new(self.settings.xet_above);
        let mut fit = Vec::with_capacity(body.len());
        let read = stripper.push(body, &mut fit).and_then(|()| stripper.finish());
        let Kept(count) = read.map_err(|error| Failure::Misread(Misread::NotJson(error)))?;
        if count > 0 {
            self.telemetry.xet_hints_kept(count);
            tracing::info!(question = %asked, count, "large files are listed with their place in the Xet store");
        }
        Ok(fit)
    }
}

/// The file at the commit for which the hub says that its branch stands.
fn at_commit(asked: &Resource, said: &Expectation) -> Resource {
    match (&asked.revision, &said.representation.commit) {
        (Revision::Named(_), Some(commit)) => asked.at(Revision::Commit(commit.clone())),
        _ => asked.clone(),
    }
}
