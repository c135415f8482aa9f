//! Which file is meant: hub, repository, revision and path.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Digest, Hub, HubRoot, Promise, Promiser, Sha256};

/// What a repository holds; Hugging Face keeps the three apart, Mozilla has models only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RepoKind {
    /// A model.
    Model,
    /// A data set, under `/datasets/`.
    Dataset,
    /// A space, under `/spaces/`.
    Space,
}

impl RepoKind {
    /// The path segment before the repository's id, with its slash; empty for models.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Model => "",
            Self::Dataset => "datasets/",
            Self::Space => "spaces/",
        }
    }

    /// One letter for keys.
    pub fn code(self) -> u8 {
        match self {
            Self::Model => b'm',
            Self::Dataset => b'd',
            Self::Space => b's',
        }
    }
}

/// A repository: `organization/model`, or a bare `model`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Repo {
    /// Model, data set or space.
    pub kind: RepoKind,
    /// One or two segments, decoded.
    pub id: String,
}

impl fmt::Display for Repo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.kind.prefix(), self.id)
    }
}

/// A git commit as Hugging Face names it: 40 lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Commit(Arc<str>);

impl Commit {
    /// Reads exactly 40 hexadecimal digits of either case.
    pub fn parse(text: &str) -> Option<Self> {
        let ok = text.len() == 40 && text.bytes().all(|b| b.is_ascii_hexdigit());
        ok.then(|| Self(text.to_ascii_lowercase().into()))
    }

    /// The 40 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Commit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A revision, and whether what it names can change.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Revision {
    /// A commit of Hugging Face: immutable.
    Commit(Commit),
    /// A version of the Mozilla hub, or the digest of an attachment: immutable.
    Version(String),
    /// A branch or tag of Hugging Face, or `main` and anything else on the Mozilla hub: mutable.
    Named(String),
}

impl Revision {
    /// Reads a decoded revision by the rules of `hub`.
    pub fn parse(hub: Hub, text: &str) -> Self {
        match hub {
            Hub::HuggingFace => {
                Commit::parse(text).map_or_else(|| Self::Named(text.to_owned()), Self::Commit)
            }
            Hub::Mozilla if is_mozilla_version(text) => Self::Version(text.to_owned()),
            Hub::Settings => Self::Version(text.to_owned()),
            Hub::Mozilla => Self::Named(text.to_owned()),
        }
    }

    /// The decoded text.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Commit(c) => c.as_str(),
            Self::Version(v) | Self::Named(v) => v,
        }
    }

    /// Whether what it names never changes.
    pub fn is_immutable(&self) -> bool {
        !matches!(self, Self::Named(_))
    }
}

/// Whether `text` is a revision that Firefox asks the Mozilla hub for: `main`, or `[v]N[.N[.N]]` and then
/// optionally `-` or `.` with `alpha`, `beta`, `pre`, `post` or `rc` and any digits.
pub fn is_firefox_revision(text: &str) -> bool {
    text == "main" || version_shape(text).is_some()
}

/// Whether `text` is a version in the form that Mozilla documents, and so immutable: at least `MAJOR.MINOR`, and
/// a number behind `alpha` and the like. What Firefox accepts beyond that (`v1`, `1.0-beta`) may move.
pub fn is_mozilla_version(text: &str) -> bool {
    version_shape(text).is_some_and(|(numbers, suffix)| {
        numbers >= 2 && suffix.is_none_or(|s| s.ends_with(|c: char| c.is_ascii_digit()))
    })
}

/// How many numbers a version has, and its suffix without the separator.
fn version_shape(text: &str) -> Option<(usize, Option<&str>)> {
    let text = text.strip_prefix('v').unwrap_or(text);
    let (numbers, suffix) = match text.find(|c: char| c.is_ascii_alphabetic()) {
        // The separator before the word belongs to the suffix.
        Some(at) if at > 0 && matches!(text.as_bytes()[at - 1], b'-' | b'.') => {
            (&text[..at - 1], Some(&text[at..]))
        }
        Some(_) => return None,
        None => (text, None),
    };
    let all_digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    let parts: Vec<&str> = numbers.split('.').collect();
    let words = ["alpha", "beta", "pre", "post", "rc"];
    let fits = parts.len() <= 3
        && parts.iter().all(|p| !p.is_empty() && all_digits(p))
        && suffix.is_none_or(|s| words.iter().any(|w| s.strip_prefix(w).is_some_and(all_digits)));
    fits.then_some((parts.len(), suffix))
}

/// One named file at a hub, at a revision.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Resource {
    /// The dialect.
    pub hub: Hub,
    /// The repository.
    pub repo: Repo,
    /// The revision, as the client named it or as it was resolved.
    pub revision: Revision,
    /// Decoded segments joined with `/`; never empty, never with `.`, `..` or empty segments.
    pub path: String,
}

impl Resource {
    /// The same path at another revision.
    #[must_use]
    pub fn at(&self, revision: Revision) -> Self {
        Self { revision, ..self.clone() }
    }

    /// The key of the entry when fetched from `root`.
    pub fn key(&self, root: &HubRoot) -> EntryKey {
        EntryKey {
            hub: self.hub,
            root: root.clone(),
            repo: self.repo.clone(),
            revision: self.revision.as_str().to_owned(),
            path: self.path.clone(),
        }
    }

    /// The key of the revision when asked at `root`.
    pub fn ref_key(&self, root: &HubRoot) -> RefKey {
        RefKey {
            hub: self.hub,
            root: root.clone(),
            repo: self.repo.clone(),
            name: self.revision.as_str().to_owned(),
        }
    }
}

impl Resource {
    /// The digest that the revision itself is, where it is one.
    pub fn own_promise(&self) -> Option<Promise> {
        let digest = match (self.hub, &self.revision) {
            (Hub::Settings, Revision::Version(digits)) => Sha256::parse(digits)?,
            _ => return None,
        };
        Some(Promise { digest: Digest::Sha256(digest), by: Promiser::Record })
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}@{}/{}", self.hub, self.repo, self.revision.as_str(), self.path)
    }
}

/// The key of an entry, a partial fill or a mark.
///
/// The root is part of it, so that a file fetched from a test hub is never served as the real hub's.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EntryKey {
    /// The dialect.
    pub hub: Hub,
    /// Where it was fetched from.
    pub root: HubRoot,
    /// The repository.
    pub repo: Repo,
    /// A commit or version where there is one, else the mutable revision's name.
    pub revision: String,
    /// The decoded path.
    pub path: String,
}

impl EntryKey {
    /// Bytes that sort by hub, root, repository, revision, path; no part can contain NUL.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + self.repo.id.len() + self.path.len());
        let kind = [self.repo.kind.code()];
        let parts: [&[u8]; 6] = [
            self.hub.name().as_bytes(),
            self.root.as_str().as_bytes(),
            &kind,
            self.repo.id.as_bytes(),
            self.revision.as_bytes(),
            self.path.as_bytes(),
        ];
        for (i, part) in parts.iter().enumerate() {
            if i > 0 {
                out.push(0);
            }
            out.extend_from_slice(part);
        }
        out
    }

    /// The inverse of [`EntryKey::encode`]; `None` for bytes that it never makes.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let mut parts = text.split('\0');
        let hub = parts.next()?.parse().ok()?;
        let root = HubRoot(parts.next()?.into());
        let kind = match parts.next()? {
            "m" => RepoKind::Model,
            "d" => RepoKind::Dataset,
            "s" => RepoKind::Space,
            _ => return None,
        };
        let repo = Repo { kind, id: parts.next()?.to_owned() };
        let revision = parts.next()?.to_owned();
        let path = parts.next()?.to_owned();
        parts.next().is_none().then_some(Self { hub, root, repo, revision, path })
    }

    /// The key of the revision itself: without a path.
    #[must_use]
    pub fn of_revision(&self) -> Self {
        Self { path: String::new(), ..self.clone() }
    }

    /// Whether what the key names can never change.
    pub fn is_immutable(&self) -> bool {
        Revision::parse(self.hub, &self.revision).is_immutable()
    }

    /// The resource that the key names.
    pub fn resource(&self) -> Resource {
        Resource {
            hub: self.hub,
            repo: self.repo.clone(),
            revision: Revision::parse(self.hub, &self.revision),
            path: self.path.clone(),
        }
    }
}

impl fmt::Display for EntryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}@{}/{}", self.hub, self.repo, self.revision, self.path)
    }
}

/// The key of a mutable revision of one repository.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RefKey {
    /// The dialect.
    pub hub: Hub,
    /// Where it was asked.
    pub root: HubRoot,
    /// The repository.
    pub repo: Repo,
    /// The branch or tag.
    pub name: String,
}

impl RefKey {
    /// Bytes for the index; no part can contain NUL.
    pub fn encode(&self) -> Vec<u8> {
        let kind = char::from(self.repo.kind.code());
        format!("{}\0{}\0{kind}\0{}\0{}", self.hub, self.root, self.repo.id, self.name).into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revisions_are_those_that_firefox_accepts() {
        let versions =
            ["1.0", "v1.0", "v2.3.4", "1.2.1", "1.0.0-beta1", "1.0.0.alpha2", "1.0.0.rc1", "1.0-post12"];
        for v in versions {
            assert!(is_firefox_revision(v) && is_mozilla_version(v), "{v}");
        }
        for v in ["main", "1", "v1", "1-pre", "1.0-rc", "1.0.beta"] {
            assert!(is_firefox_revision(v) && !is_mozilla_version(v), "{v} is routed but may move");
        }
        let bad = [
            "",
            "v",
            "master",
            "1.",
            "1..2",
            "1.2.3.4",
            "v1.0-",
            "1.0beta1",
            "1.0-gamma1",
            "..",
            "é1",
            "1-é",
        ];
        for v in bad {
            assert!(!is_firefox_revision(v), "{v}");
        }
    }

    #[test]
    fn a_key_decodes_to_what_was_encoded() {
        let key = EntryKey {
            hub: Hub::HuggingFace,
            root: HubRoot::parse("HTTPS://HuggingFace.co:443/").unwrap(),
            repo: Repo { kind: RepoKind::Dataset, id: "acme/tiny".into() },
            revision: "refs/pr/1".into(),
            path: "odd names/a b#c+d%é.txt".into(),
        };
        assert_eq!(key.root.as_str(), "https://huggingface.co");
        assert_eq!(EntryKey::decode(&key.encode()), Some(key));
        assert_eq!(EntryKey::decode(b"junk"), None);
    }
}
