//! Where a branch stands while no hub can be asked, and what is known of whole commits.

use std::collections::HashMap;
use std::sync::Arc;

use http::{Method, Uri};

use super::Cache;
use crate::hub::api::{self, Listed};
use crate::model::{
    Commit, Document, Hub, HubRoot, Promise, Promiser, Question, RefKey, Repo, Resource, Revision, Topic,
};
use crate::policy::{Holding, settle};
use crate::request::{Named, Target, classify};
use crate::store::{RefRecord, StoreError};

/// Most pages of a tree that are read; the hub lists 1,000 files on one.
pub(super) const MAX_PAGES: usize = 2_000;

/// All files of a commit, as the hub listed them.
pub(super) struct Tree(HashMap<String, Listed>);

impl Tree {
    /// What the hub lists under `path`.
    pub(super) fn file(&self, path: &str) -> Option<&Listed> {
        self.0.get(path)
    }

    /// Whether something lies below `path`, or it is a file.
    fn has(&self, path: &str) -> bool {
        let below = |file: &String| file.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'));
        self.0.contains_key(path) || self.0.keys().any(below)
    }

    /// How much memory it takes, roughly, in bytes.
    pub(super) fn weight(&self) -> u32 {
        u32::try_from(self.0.keys().map(|path| 2 * path.len() + 120).sum::<usize>()).unwrap_or(u32::MAX)
    }
}

/// Where a branch was found to stand, and when that was so.
pub(super) struct Settled {
    changes: u64,
    newest: Commit,
    commit: Commit,
}

impl Cache {
    /// The commit at which the branch stands while no hub can be asked.
    pub(super) fn settled(&self, key: &RefKey, record: &RefRecord) -> Result<Commit, StoreError> {
        if record.previous.is_empty() {
            return Ok(record.commit.clone());
        }
        let changes = self.store.changes();
        if let Some(known) = self.settled.get(key)
            && known.changes == changes
            && known.newest == record.commit
        {
            return Ok(known.commit.clone());
        }
        let commits: Vec<&Commit> = [&record.commit].into_iter().chain(&record.previous).collect();
        let held = commits.iter().map(|c| self.holding(&key.repo, c)).collect::<Result<Vec<_>, _>>()?;
        let is_absent = |at: usize, path: &str| {
            let revision = Revision::Commit(commits[at].clone());
            let file =
                Resource { hub: Hub::HuggingFace, repo: key.repo.clone(), revision, path: path.to_owned() };
            self.absence(&file).is_ok_and(|absent| absent.is_some())
        };
        let commit = commits[settle(&held, is_absent)].clone();
        let settled = Settled { changes, newest: record.commit.clone(), commit: commit.clone() };
        self.settled.insert(key.clone(), Arc::new(settled));
        Ok(commit)
    }

    fn holding(&self, repo: &Repo, commit: &Commit) -> Result<Holding, StoreError> {
        let mut holding = Holding::default();
        for root in self.roots_of(Hub::HuggingFace) {
            holding.paths.extend(self.store.paths_at(Hub::HuggingFace, root, repo, commit.as_str())?);
            for key in self.store.document_keys_at(Hub::HuggingFace, root, repo, commit.as_str())? {
                let topic = key.path.split(['?', '/']).next().unwrap_or_default();
                holding.info |= topic == "info";
                holding.tree |= topic == "tree";
            }
        }
        Ok(holding)
    }

    /// The hub's root and those that count as the same.
    pub(super) fn roots_of(&self, hub: Hub) -> impl Iterator<Item = &HubRoot> {
        [self.roots.root(hub)].into_iter().chain(self.roots.equivalents(hub))
    }

    /// The hub's word that a file is not there, or the same concluded from the list of all files of its commit.
    pub(super) fn absence(&self, file: &Resource) -> Result<Option<Arc<Document>>, StoreError> {
        let (Hub::HuggingFace, Revision::Commit(commit)) = (file.hub, &file.revision) else {
            return Ok(None);
        };
        for root in self.roots_of(Hub::HuggingFace) {
            if let Some(said) = self.store.document(&absence_key(file, root))? {
                return Ok(Some(said));
            }
        }
        let tree = self.tree(&file.repo, commit)?;
        Ok(tree
            .filter(|tree| tree.file(&file.path).is_none())
            .map(|_| Arc::new(api::entry_not_found(commit))))
    }

    /// That a folder is not there, concluded from the list of all files of its commit; said as the hub says it of the
    /// revision that was `asked` about.
    pub(super) fn absent_folder(
        &self,
        question: &Question,
        asked: &Question,
    ) -> Result<Option<Arc<Document>>, StoreError> {
        let Topic::Tree { revision: Revision::Commit(commit), path } = &question.topic else {
            return Ok(None);
        };
        if path.is_empty() {
            return Ok(None);
        }
        let tree = self.tree(&question.repo, commit)?;
        let name = asked.revision().map(Revision::as_str).unwrap_or_default();
        let said = || no_folder(commit, &format!("{path} does not exist on \"{name}\""));
        Ok(tree.filter(|tree| !tree.has(path)).map(|_| Arc::new(said())))
    }

    /// What the list of all files of its commit says that a file hashes to.
    pub(super) fn listed(&self, file: &Resource) -> Option<Promise> {
        let (Hub::HuggingFace, Revision::Commit(commit)) = (file.hub, &file.revision) else { return None };
        // A list that cannot be read promises nothing.
        let tree = self.tree(&file.repo, commit).ok().flatten()?;
        let digest = tree.file(&file.path)?.digest?;
        Some(Promise { digest, by: Promiser::Tree })
    }

    /// The list of all files of a commit, if every page of it is held, or it came with an import.
    pub(super) fn tree(&self, repo: &Repo, commit: &Commit) -> Result<Option<Arc<Tree>>, StoreError> {
        let key = (repo.clone(), commit.clone());
        if let Some(tree) = self.trees.get(&key) {
            return Ok(Some(tree));
        }
        for expand in [false, true] {
            if let Some(files) = self.pages(repo, commit, expand)? {
                let tree = Arc::new(Tree(files));
                self.trees.insert(key, Arc::clone(&tree));
                return Ok(Some(tree));
            }
        }
        let imported = self.imported(repo, commit)?.and_then(|imported| imported.all());
        let tree = imported.map(|files| Arc::new(Tree(files)));
        if let Some(tree) = &tree {
            self.trees.insert(key, Arc::clone(tree));
        }
        Ok(tree)
    }

    fn pages(
        &self,
        repo: &Repo,
        commit: &Commit,
        expand: bool,
    ) -> Result<Option<HashMap<String, Listed>>, StoreError> {
        let yes = |name: &str| (name.to_owned(), "true".to_owned());
        let parameters = expand.then(|| yes("expand")).into_iter().chain([yes("recursive")]).collect();
        let revision = Revision::Commit(commit.clone());
        let topic = Topic::Tree { revision: revision.clone(), path: String::new() };
        let mut question = Question { repo: repo.clone(), topic, parameters };
        let mut files = HashMap::new();
        for _ in 0..MAX_PAGES {
            let Some(page) = self.document(&question)? else { return Ok(None) };
            let Some(listed) = api::listed(&page).filter(|_| page.status == 200) else { return Ok(None) };
            files.extend(listed.into_iter().map(|file| (file.path.clone(), file)));
            let Some(next) = &page.next else { return Ok(Some(files)) };
            match next_page(next, &revision) {
                Some(next) => question = next,
                None => return Ok(None),
            }
        }
        Ok(None)
    }
}

/// The question whose answer follows a page that names `next`, at the same revision.
pub(super) fn next_page(next: &str, revision: &Revision) -> Option<Question> {
    let uri: Uri = next.parse().ok()?;
    match classify(&Method::GET, &uri, &Named::Hub(Hub::HuggingFace)).ok()? {
        Target::Question(next) => Some(next.at(revision.clone())),
        _ => None,
    }
}

/// Under which key it is kept that there is no such file.
pub(super) fn absence_key(file: &Resource, root: &HubRoot) -> crate::model::EntryKey {
    let key = file.key(root);
    crate::model::EntryKey { path: format!("resolve/{}", key.path), ..key }
}

fn no_folder(commit: &Commit, message: &str) -> Document {
    Document {
        content_type: Some("application/json; charset=utf-8".to_owned()),
        error_message: Some(message.to_owned()),
        body: serde_json::json!({ "error": message }).to_string().into(),
        ..api::entry_not_found(commit)
    }
}
