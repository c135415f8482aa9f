//! What an import knows of a commit: which files came, and which others there are.
//!
//! It came with a lock file, and so from the hub's own list. While a hub can be asked, that answers questions to its API,
//! as it has more to say; what is known here answers when there is none. What follows from a list of all files holds
//! always.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Cache;
use crate::hub::api::{Listed, entry_not_found};
use crate::hub::pinned::{self, FileId};
use crate::model::{
    Commit, Digest, Document, EntryKey, Hub, HubRoot, Question, Repo, Revision, Sha256, Timestamp, Topic,
};
use crate::store::StoreError;

/// As what it is kept; no question has this name.
const NAME: &str = "imported";

/// What came with an import of a commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Imported {
    /// The files.
    pub files: Vec<ImportedFile>,
    /// All other files of the commit; none where that is not known.
    pub left_out: Option<BTreeSet<String>>,
}

/// A file that came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportedFile {
    /// The path.
    pub path: String,
    /// Its length in bytes.
    pub size: u64,
    /// Its SHA-256, if the hub has it in its large-file storage.
    pub lfs: Option<Sha256>,
    /// Its git blob id, if it has it in git and that is known.
    pub git: Option<String>,
}

impl Imported {
    /// All files of the commit, if they are known, as the hub would list them.
    pub(super) fn all(&self) -> Option<HashMap<String, Listed>> {
        let left_out = self.left_out.as_ref()?;
        let listed = |path: &String, size: Option<u64>, digest: Option<Digest>| {
            (path.clone(), Listed { path: path.clone(), size, digest })
        };
        let here = self.files.iter().map(|file| {
            let git = || file.git.as_deref().and_then(Digest::git_sha1);
            listed(&file.path, Some(file.size), file.lfs.map(Digest::Sha256).or_else(git))
        });
        Some(here.chain(left_out.iter().map(|path| listed(path, None, None))).collect())
    }

    /// The answer to a question about the commit, as far as this has one.
    fn answer(&self, question: &Question, commit: &Commit) -> Option<Document> {
        let files: Vec<pinned::PinnedFile<'_>> = self.files.iter().map(ImportedFile::listed).collect();
        let has = |name: &str| question.parameters.iter().any(|(n, v)| n == name && v == "true");
        let body = match &question.topic {
            Topic::Info(_) => pinned::info(&question.repo, commit, &files, has("blobs")),
            Topic::Tree { path, .. } => match pinned::tree(&files, path, has("recursive")) {
                Some(tree) => tree,
                None => {
                    let left_out = self.left_out.as_ref()?;
                    let is_there = left_out.iter().any(|file| file == path || pinned::is_below(file, path));
                    return (!is_there).then(|| entry_not_found(commit));
                }
            },
            Topic::Paths { paths, .. } => pinned::paths(&files, paths),
            Topic::Refs | Topic::Commits(_) => return None,
        };
        Some(pinned::document(Some(commit), &body))
    }
}

impl ImportedFile {
    fn listed(&self) -> pinned::PinnedFile<'_> {
        let id = self.lfs.map_or_else(|| FileId::Git(self.git.clone()), FileId::Lfs);
        pinned::PinnedFile { path: &self.path, size: self.size, id }
    }
}

impl Cache {
    /// Notes what came with an import of a commit.
    pub async fn note_imported(&self, repo: &Repo, commit: &Commit, imported: &Imported) {
        let body = serde_json::to_vec(imported).expect("texts and numbers are JSON");
        let document =
            Document { status: 200, learned_at: Timestamp::now(), body: body.into(), ..Document::default() };
        self.keep(&key(repo, commit, self.roots.root(Hub::HuggingFace)), document).await;
    }

    /// What came with an import of a commit.
    pub(super) fn imported(&self, repo: &Repo, commit: &Commit) -> Result<Option<Imported>, StoreError> {
        for root in self.roots_of(Hub::HuggingFace) {
            if let Some(document) = self.store.document(&key(repo, commit, root))? {
                return Ok(serde_json::from_slice(&document.body).ok());
            }
        }
        Ok(None)
    }

    /// What an import answers to a question about a commit.
    pub(super) fn answer_of_import(&self, question: &Question) -> Result<Option<Arc<Document>>, StoreError> {
        let Some(Revision::Commit(commit)) = question.revision() else { return Ok(None) };
        let imported = self.imported(&question.repo, commit)?;
        Ok(imported.and_then(|imported| imported.answer(question, commit)).map(Arc::new))
    }
}

fn key(repo: &Repo, commit: &Commit, root: &HubRoot) -> EntryKey {
    EntryKey {
        hub: Hub::HuggingFace,
        root: root.clone(),
        repo: repo.clone(),
        revision: commit.as_str().to_owned(),
        path: NAME.to_owned(),
    }
}
