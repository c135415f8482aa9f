//! What the API of Hugging Face is asked about a repository.

use std::fmt;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest as _, Sha256};

use super::{EntryKey, Hub, HubRoot, RefKey, Repo, Revision, hex};

/// A question whose answer can be kept: it names everything that the answer depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Question {
    /// About which repository.
    pub repo: Repo,
    /// What is asked.
    pub topic: Topic,
    /// Parameters in one spelling: sorted, without those that say what goes without saying.
    pub parameters: Vec<(String, String)>,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Topic {
    /// What the repository is at a revision, and which commit that stands for.
    Info(Revision),
    /// Which files and folders there are.
    Tree {
        /// At this revision.
        revision: Revision,
        /// Below this folder; empty for all of the repository.
        path: String,
    },
    /// The same of some paths only.
    Paths {
        /// At this revision.
        revision: Revision,
        /// Files and folders in the order in which they were asked for.
        paths: Vec<String>,
        /// With the last commit of each.
        expand: bool,
    },
    /// Which branches and tags there are.
    Refs,
    /// Which commits a revision has behind it.
    Commits(Revision),
}

impl Question {
    /// The plain question of what a repository is at a revision, whose answer names the commit.
    pub fn info(repo: Repo, revision: Revision) -> Self {
        Self { repo, topic: Topic::Info(revision), parameters: Vec::new() }
    }

    /// The revision that it is about; `None` for the list of them.
    pub fn revision(&self) -> Option<&Revision> {
        match &self.topic {
            Topic::Info(revision) | Topic::Commits(revision) => Some(revision),
            Topic::Tree { revision, .. } | Topic::Paths { revision, .. } => Some(revision),
            Topic::Refs => None,
        }
    }

    /// The same about another revision.
    #[must_use]
    pub fn at(&self, to: Revision) -> Self {
        let mut other = self.clone();
        match &mut other.topic {
            Topic::Info(revision) | Topic::Commits(revision) => *revision = to,
            Topic::Tree { revision, .. } | Topic::Paths { revision, .. } => *revision = to,
            Topic::Refs => {}
        }
        other
    }

    /// The key of the answer when asked at `root`.
    pub fn key(&self, root: &HubRoot) -> EntryKey {
        EntryKey {
            hub: Hub::HuggingFace,
            root: root.clone(),
            repo: self.repo.clone(),
            revision: self.revision().map(|r| r.as_str().to_owned()).unwrap_or_default(),
            path: self.name(),
        }
    }

    /// The key of the revision when asked at `root`.
    pub fn ref_key(&self, root: &HubRoot) -> Option<RefKey> {
        let name = self.revision()?.as_str().to_owned();
        Some(RefKey { hub: Hub::HuggingFace, root: root.clone(), repo: self.repo.clone(), name })
    }

    /// What is asked, as text: `info?blobs=true`, `tree/onnx?recursive=true`.
    pub fn name(&self) -> String {
        let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let mut parameters = self.parameters.clone();
        let mut name = match &self.topic {
            Topic::Info(_) => "info".to_owned(),
            Topic::Tree { path, .. } if path.is_empty() => "tree".to_owned(),
            Topic::Tree { path, .. } => format!("tree/{path}"),
            Topic::Paths { paths, expand, .. } => {
                parameters.extend(expand.then(|| ("expand".to_owned(), "true".to_owned())));
                // A list of thousands would be too long for a key; no path can contain NUL.
                format!("paths/{}", hex(&Sha256::digest(paths.join("\0").as_bytes())))
            }
            Topic::Refs => "refs".to_owned(),
            Topic::Commits(_) => "commits".to_owned(),
        };
        for (at, (key, value)) in parameters.iter().enumerate() {
            name.push(if at == 0 { '?' } else { '&' });
            name.push_str(&format!("{}={}", encode(key), encode(value)));
        }
        name
    }
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.revision().map(|r| format!("@{}", r.as_str())).unwrap_or_default();
        write!(f, "{}:{}{at} {}", Hub::HuggingFace, self.repo, self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::RepoKind;

    #[test]
    fn a_name_tells_apart_what_is_answered_apart() {
        let repo = Repo { kind: RepoKind::Model, id: "acme/tiny".into() };
        let main = Revision::Named("main".into());
        let topic = |paths: &[&str], expand| Topic::Paths {
            revision: main.clone(),
            paths: paths.iter().map(|p| (*p).to_owned()).collect(),
            expand,
        };
        let tree = |path: &str| Topic::Tree { revision: main.clone(), path: path.into() };
        let topics = [
            Topic::Info(main.clone()),
            tree(""),
            tree("a"),
            tree("a/b"),
            topic(&["a", "b"], false),
            topic(&["a b"], false),
            topic(&["a", "b"], true),
            Topic::Refs,
            Topic::Commits(main.clone()),
        ];
        let mut names = Vec::new();
        for topic in topics {
            for parameters in [vec![], vec![("cursor".to_owned(), "a&limit=1".to_owned())]] {
                names.push(Question { repo: repo.clone(), topic: topic.clone(), parameters }.name());
            }
        }
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count, "{names:?}");
        assert!(names.contains(&"tree/a?cursor=a%26limit%3D1".to_owned()), "{names:?}");
    }
}
