//! Questions to the hub about a file: one for all who ask at once, going on after those who asked have given up.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::Cache;
use super::held::same_version;
use crate::model::{EntryKey, Expectation, Hub, Resource, Revision, Timestamp};
use crate::store::RefRecord;
use crate::upstream::Failure;

/// Questions that are open at a time; beyond it, what is held is served as if the hub were late.
const MAX_CHECKS: usize = 4096;

type Answer = Result<Arc<Expectation>, Arc<Failure>>;

/// How a question went.
#[derive(Clone, Debug)]
pub enum Checked {
    /// The hub answered, or could not be asked.
    Answered(Answer),
    /// No answer within the budget; the question stays open.
    Late,
}

#[derive(Default)]
pub(super) struct Checks(Mutex<HashMap<EntryKey, watch::Receiver<Option<Answer>>>>);

impl Checks {
    fn open(&self) -> MutexGuard<'_, HashMap<EntryKey, watch::Receiver<Option<Answer>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cache {
    /// Asks the hub about `asked` without credentials (HEAD), and waits `within` for the answer. What it says is
    /// noted: the meaning of a branch, and what is to be expected of the file.
    pub async fn check(self: &Arc<Self>, asked: &Resource, within: Option<Duration>) -> Checked {
        let Some(mut answer) = self.open_check(asked) else { return Checked::Late };
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

    fn open_check(self: &Arc<Self>, asked: &Resource) -> Option<watch::Receiver<Option<Answer>>> {
        let key = self.key(asked);
        let mut open = self.checks.open();
        let full = open.len() >= MAX_CHECKS;
        match open.entry(key.clone()) {
            Slot::Occupied(slot) => Some(slot.get().clone()),
            Slot::Vacant(_) if full => None,
            Slot::Vacant(slot) => {
                let (sender, receiver) = watch::channel(None);
                slot.insert(receiver.clone());
                let (cache, asked) = (Arc::clone(self), asked.clone());
                tokio::spawn(async move {
                    let answer = cache.ask(&asked).await;
                    cache.checks.open().remove(&key);
                    sender.send_replace(Some(answer));
                });
                Some(receiver)
            }
        }
    }

    async fn ask(&self, asked: &Resource) -> Answer {
        match self.upstream.inquire(asked, None).await {
            Ok(said) => {
                let said = Arc::new(said);
                self.note(asked, &said).await;
                Ok(said)
            }
            Err(failure) => {
                tracing::debug!(file = %asked, error = %failure, "asking the hub failed");
                Err(Arc::new(failure))
            }
        }
    }

    /// Notes what the hub said of `asked`.
    pub(super) async fn note(&self, asked: &Resource, said: &Arc<Expectation>) {
        let subject = match (&asked.revision, asked.hub, &said.representation.commit) {
            (Revision::Named(_), Hub::HuggingFace, Some(commit)) => {
                self.note_commit(asked, commit.clone(), said.learned_at).await;
                asked.at(Revision::Commit(commit.clone()))
            }
            _ => asked.clone(),
        };
        self.note_confirmation(&subject, said).await;
        self.known.insert(self.key(&subject), Arc::clone(said));
    }

    /// Notes what the hub said while a file was fetched.
    pub(super) fn note_fill(&self, subject: &Resource, said: &Arc<Expectation>) {
        self.known.insert(self.key(subject), Arc::clone(said));
    }

    async fn note_commit(&self, asked: &Resource, commit: crate::model::Commit, at: Timestamp) {
        let key = asked.ref_key(self.upstream.root(asked.hub));
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
}
