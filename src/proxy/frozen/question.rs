//! Questions to the API, answered from the lock.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use super::recorder::Recorder;
use super::{Frozen, View};
use crate::cache::Fetcher;
use crate::hub::api::entry_not_found;
use crate::hub::pinned::{self, FileId, PinnedFile};
use crate::model::{Digest, Hub, Outcome, Question, Repo, Resource, Revision, Topic};
use crate::proxy::answer::document_reply;
use crate::proxy::{Asked, Proxy, Reply};
use crate::transfer::State;
use crate::transfer::lock::Origin;

impl Proxy {
    /// Answers a question to the API from the lock; what that does not know is asked of the hub if it is recorded.
    pub(in crate::proxy) async fn frozen_question(
        &self,
        frozen: &Frozen,
        question: &Question,
        asked: &Asked<'_>,
        sent: Bytes,
    ) -> Reply {
        match (&frozen.recorder, &self.fetcher) {
            (Some(recorder), Some(fetcher)) if !is_settled(frozen, question) => {
                self.recorded_question(frozen, recorder, fetcher, question, asked, sent).await
            }
            _ => self.locked_question(frozen, question, asked),
        }
    }

    /// Asks the hub, at the commit that is locked or that was named before.
    async fn recorded_question(
        &self,
        frozen: &Frozen,
        recorder: &Recorder,
        fetcher: &Arc<Fetcher>,
        question: &Question,
        asked: &Asked<'_>,
        sent: Bytes,
    ) -> Reply {
        let (repo, revision) = (&question.repo, question.revision());
        let commit = revision.and_then(|revision| {
            let locked = frozen.pins.state(repo, revision.as_str()).map(|state| state.commit.clone());
            locked.or_else(|| recorder.commit(repo, revision.as_str()))
        });
        let at = commit.map_or_else(|| question.clone(), |commit| question.at(Revision::Commit(commit)));
        let reply = self.answered(fetcher, &at, asked, sent).await;
        if let Some(revision) = revision {
            recorder.stands(repo, revision, reply.response.headers());
        }
        reply
    }

    fn locked_question(&self, frozen: &Frozen, question: &Question, asked: &Asked<'_>) -> Reply {
        let repo = &question.repo;
        let Some(revision) = question.revision() else {
            let models = frozen.pins.of(Hub::HuggingFace, repo);
            let pinned = models
                .iter()
                .filter_map(|(name, locked)| Some((name.revision.as_str(), locked.commit.as_ref()?)));
            return match models.is_empty() {
                true => frozen.refuse(frozen.remedies.unknown(question, false)),
                false => told(asked, None, &pinned::refs(pinned)),
            };
        };
        let Some(state) = frozen.pins.state(repo, revision.as_str()) else {
            return frozen.refuse(frozen.remedies.unknown(question, false));
        };
        let lacks = |path: &str| {
            let locked = frozen.pins.of(Hub::HuggingFace, repo).iter().find(|(name, _)| name == state.name);
            frozen.refuse(frozen.remedies.left_out(state.name, locked.map(|(_, locked)| locked), path))
        };
        let left_out_at = |folder: &str| {
            let hidden = |path: &&&str| **path == folder || pinned::is_below(path, folder);
            state.left_out.iter().find(hidden).copied()
        };
        let files = self.listed(repo, &state);
        let has = |name: &str| question.parameters.iter().any(|(n, v)| n == name && v == "true");
        let answer = match &question.topic {
            Topic::Info(_) => pinned::info(repo, state.commit, &files, has("blobs")),
            Topic::Tree { path, .. } => match pinned::tree(&files, path, has("recursive")) {
                Some(tree) => tree,
                None => {
                    return match left_out_at(path) {
                        Some(left_out) => lacks(left_out),
                        None => document_reply(asked, &entry_not_found(state.commit), Outcome::Absent),
                    };
                }
            },
            Topic::Paths { paths, .. } => {
                // Absent and left out must not look the same.
                let is_told =
                    |path: &str| files.iter().any(|f| f.path == path || pinned::is_below(f.path, path));
                let hidden = paths.iter().filter(|path| !is_told(path));
                if let Some(left_out) = hidden.filter_map(|path| left_out_at(path)).next() {
                    return lacks(left_out);
                }
                pinned::paths(&files, paths)
            }
            Topic::Commits(_) | Topic::Refs => return frozen.refuse(frozen.remedies.unknown(question, true)),
        };
        told(asked, Some(&state), &answer)
    }

    /// The files of a model as its tree lists them.
    fn listed<'a>(&self, repo: &Repo, state: &State<'a>) -> Vec<PinnedFile<'a>> {
        let at = Revision::Commit(state.commit.clone());
        let git_id = |path: &str| {
            let (hub, revision) = (Hub::HuggingFace, at.clone());
            let resource = Resource { hub, repo: repo.clone(), revision, path: path.to_owned() };
            let entry = self.cache.look_up(&resource, View::Alone).ok()?.current?;
            entry.promises.iter().find_map(|promise| match promise.digest {
                Digest::GitSha1(_) => Some(promise.digest.value()),
                _ => None,
            })
        };
        let listed = state.files.iter().map(|(path, file)| PinnedFile {
            path,
            size: file.size,
            id: match file.from {
                Origin::Lfs => FileId::Lfs(file.sha256),
                _ => FileId::Git(git_id(path)),
            },
        });
        listed.collect()
    }
}

/// Whether the lock knows all that there is to know about what is asked.
fn is_settled(frozen: &Frozen, question: &Question) -> bool {
    match question.revision() {
        Some(revision) => frozen
            .pins
            .state(&question.repo, revision.as_str())
            .is_some_and(|state| state.is_whole && state.left_out.is_empty()),
        None => !frozen.pins.of(Hub::HuggingFace, &question.repo).is_empty(),
    }
}

/// An answer of the API as the lock has it.
fn told(asked: &Asked<'_>, state: Option<&State<'_>>, body: &Value) -> Reply {
    let document = pinned::document(state.map(|state| state.commit), body);
    document_reply(asked, &document, Outcome::Hit)
}
