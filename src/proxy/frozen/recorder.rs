//! What was asked for beyond a lock and came from the hub, so that it can be added to the lock.
//!
//! A revision is asked of the hub once; afterwards it means the same commit until the end, as it will in the lock.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};

use http::HeaderMap;

use crate::model::{Commit, Hub, Repo, Revision};
use crate::transfer::{ModelName, Recorded};

/// Files that are remembered; beyond them a suite asks for more than a lock file should list.
const MAX_RECORDED: usize = 100_000;
/// The field in which answers about Hugging Face's repositories name their commit.
const COMMIT: &str = "x-repo-commit";

#[derive(Debug, Default)]
pub(super) struct Recorder(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    commits: HashMap<(Repo, String), Commit>,
    files: BTreeSet<Recorded>,
}

impl Recorder {
    /// The commit for which a revision stands since it was first asked for.
    pub(super) fn commit(&self, repo: &Repo, revision: &str) -> Option<Commit> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.commits.get(&(repo.clone(), revision.to_owned())).cloned()
    }

    /// Notes for what a revision stood in an answer.
    pub(super) fn stands(&self, repo: &Repo, revision: &Revision, answer: &HeaderMap) {
        let (Revision::Named(name), Some(commit)) = (revision, commit_in(answer)) else { return };
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.commits.len() < MAX_RECORDED {
            state.commits.entry((repo.clone(), name.clone())).or_insert(commit);
        }
    }

    /// Notes a file that the hub has.
    pub(super) fn has(&self, model: ModelName, path: &str, answer: &HeaderMap) {
        let file = Recorded { model, commit: commit_in(answer), path: Some(path.to_owned()) };
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.files.len() < MAX_RECORDED {
            state.files.insert(file);
        }
    }

    /// Every file, and every revision that was asked for.
    pub(super) fn all(&self) -> Vec<Recorded> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = state.files.clone();
        all.extend(state.commits.iter().map(|((repo, revision), commit)| {
            let (repo, revision) = (repo.clone(), revision.clone());
            let model = ModelName { hub: Hub::HuggingFace, repo, revision };
            Recorded { model, commit: Some(commit.clone()), path: None }
        }));
        all.into_iter().collect()
    }
}

fn commit_in(answer: &HeaderMap) -> Option<Commit> {
    Commit::parse(answer.get(COMMIT)?.to_str().ok()?)
}
