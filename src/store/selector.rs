//! Which entries and documents a listing or a removal is about.

use crate::model::{EntryKey, Hub, HubRoot};

/// What the question of a document about one file begins with; the file's path follows.
const ABOUT_FILE: &str = "resolve/";

/// Selects entries and documents; what is absent matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    /// The dialect.
    pub hub: Option<Hub>,
    /// Where it came from.
    pub root: Option<HubRoot>,
    /// The repository as `Repo` shows it: `organization/model`, `datasets/organization/name`.
    pub repo: Option<String>,
    /// The revision under which the entry is kept: a commit, a version, or a mutable name.
    pub revision: Option<String>,
    /// The path within the repository.
    pub path: Option<String>,
}

impl Selector {
    /// Whether an entry is selected.
    pub fn matches(&self, key: &EntryKey) -> bool {
        self.matches_repo(key)
            && self.revision.as_ref().is_none_or(|revision| *revision == key.revision)
            && self.path.as_ref().is_none_or(|path| *path == key.path)
    }

    /// Whether what is of this repository may be selected.
    pub(super) fn matches_repo(&self, key: &EntryKey) -> bool {
        self.hub.is_none_or(|hub| hub == key.hub)
            && self.root.as_ref().is_none_or(|root| *root == key.root)
            && self.repo.as_ref().is_none_or(|repo| {
                repo.strip_prefix(key.repo.kind.prefix()).is_some_and(|id| id == key.repo.id)
            })
    }

    /// Whether a document is selected. One that names a path is about that file: it selects of the documents only
    /// the one that says whether the file is there.
    pub fn matches_document(&self, key: &EntryKey) -> bool {
        match &self.path {
            None => self.matches(key),
            Some(path) => key.path.strip_prefix(ABOUT_FILE).is_some_and(|about| {
                // The key of the file itself.
                about == path && self.matches(&EntryKey { path: path.clone(), ..key.clone() })
            }),
        }
    }

    /// Whether a reference is selected, given as the key of an entry without a path at the revision of its name.
    pub(super) fn matches_reference(&self, key: &EntryKey) -> bool {
        self.revision.is_none() && self.path.is_none() && self.matches(key)
    }

    /// What the encoded key of every selected entry begins with. The hub's root comes second in the key and is never
    /// selected, so no more than the hub can be told in advance.
    pub(super) fn prefix(&self) -> Vec<u8> {
        self.hub.map_or_else(Vec::new, |hub| format!("{hub}\0").into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Repo, RepoKind};

    #[test]
    fn a_selector_with_a_path_selects_only_what_is_about_that_file() {
        let key = |path: &str| EntryKey {
            hub: Hub::HuggingFace,
            root: HubRoot::parse("https://huggingface.co").unwrap(),
            repo: Repo { kind: RepoKind::Model, id: "a/b".into() },
            revision: "main".into(),
            path: path.into(),
        };
        let all = Selector { repo: Some("a/b".into()), revision: Some("main".into()), ..Selector::default() };
        let file = Selector { path: Some("x/y.json".into()), ..all.clone() };
        let elsewhere = Selector { revision: Some("v1".into()), ..file.clone() };
        for (question, of_all, of_file) in [
            ("info", true, false),
            ("tree/x/y.json", true, false),
            ("x/y.json", true, false),
            ("resolve/x/y.json", true, true),
            ("resolve/y.json", true, false),
        ] {
            let found = [&all, &file, &elsewhere].map(|select| select.matches_document(&key(question)));
            assert_eq!(found, [of_all, of_file, false], "{question}");
        }
    }

    #[test]
    fn a_selector_compares_each_part_that_it_names() {
        let key = EntryKey {
            hub: Hub::HuggingFace,
            root: HubRoot::parse("https://huggingface.co").unwrap(),
            repo: Repo { kind: RepoKind::Dataset, id: "a/b".into() },
            revision: "main".into(),
            path: "x/y.json".into(),
        };
        let all = Selector::default();
        assert!(all.matches(&key));
        assert!(all.prefix().is_empty());
        let hub = Selector { hub: Some(Hub::HuggingFace), ..all.clone() };
        assert!(hub.matches(&key) && key.encode().starts_with(&hub.prefix()));
        assert!(!Selector { hub: Some(Hub::Mozilla), ..all.clone() }.matches(&key));
        for (repo, selected) in [("datasets/a/b", true), ("a/b", false), ("spaces/a/b", false)] {
            assert_eq!(Selector { repo: Some(repo.into()), ..all.clone() }.matches(&key), selected, "{repo}");
        }
        assert!(!Selector { revision: Some("v1".into()), ..all.clone() }.matches(&key));
        assert!(!Selector { path: Some("x".into()), ..all }.matches(&key));
    }
}
