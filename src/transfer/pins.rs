//! What a lock says of what is asked for.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::lock::{Lock, Locked, LockedFile};
use super::{ModelName, widened};
use crate::model::{Commit, Hub, Repo, Resource};

/// A lock, ready to be asked by repository.
#[derive(Debug)]
pub struct Pins(HashMap<(Hub, Repo), Vec<(ModelName, Locked)>>);

/// What a lock says of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pinned<'a> {
    /// It is pinned.
    File {
        /// The model of which it is one.
        name: &'a ModelName,
        /// Everything that is pinned of that.
        locked: &'a Locked,
        /// Its bytes.
        file: &'a LockedFile,
    },
    /// The commit does not have it.
    Absent(&'a Commit),
    /// The commit has it, or may have it, and it is not pinned.
    LeftOut(&'a ModelName, &'a Locked),
    /// Nothing of this model is pinned at this revision.
    Unknown,
}

/// A model as it is pinned, whatever it was asked for as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State<'a> {
    /// One of the names under which it is pinned.
    pub name: &'a ModelName,
    /// The commit.
    pub commit: &'a Commit,
    /// What is pinned of that commit.
    pub files: BTreeMap<&'a str, &'a LockedFile>,
    /// What the commit has beside.
    pub left_out: BTreeSet<&'a str>,
    /// Whether that is all: whether there is a list of what the commit has.
    pub is_whole: bool,
}

impl Pins {
    /// Puts the models of a lock where they are found.
    pub fn new(lock: Lock) -> Self {
        let mut models: HashMap<_, Vec<_>> = HashMap::new();
        for (name, locked) in lock.models {
            models.entry((name.hub, name.repo.clone())).or_default().push((name, locked));
        }
        Self(models)
    }

    /// Everything that is pinned of a repository.
    pub fn of(&self, hub: Hub, repo: &Repo) -> &[(ModelName, Locked)] {
        self.0.get(&(hub, repo.clone())).map_or(&[], Vec::as_slice)
    }

    /// What is pinned of a repository at a revision, which may be the commit or what was asked for.
    fn at<'a>(&'a self, hub: Hub, repo: &Repo, revision: &str) -> Vec<&'a (ModelName, Locked)> {
        let all = self.of(hub, repo);
        let named = all.iter().find(|(name, _)| name.revision == revision);
        let kept_at = named.map_or(revision, |(name, locked)| locked.kept_at(name));
        all.iter().filter(|(name, locked)| locked.kept_at(name) == kept_at).collect()
    }

    /// What is said of a file.
    pub fn file(&self, asked: &Resource) -> Pinned<'_> {
        let models = self.at(asked.hub, &asked.repo, asked.revision.as_str());
        let pinned = models.iter().find_map(|(name, locked)| {
            let file = locked.files.get(&asked.path)?;
            Some(Pinned::File { name, locked, file })
        });
        let left_out = models.iter().find_map(|(name, locked)| {
            let is_absent = locked.left_out.as_ref().is_some_and(|paths| !paths.contains(&asked.path))
                || locked.absent.contains(&asked.path);
            (!is_absent).then_some(Pinned::LeftOut(name, locked))
        });
        let absent = models.iter().find_map(|(_, locked)| locked.commit.as_ref()).map(Pinned::Absent);
        pinned.or(left_out).or(absent).unwrap_or(Pinned::Unknown)
    }

    /// What is pinned of a repository of Hugging Face at a revision.
    pub fn state(&self, repo: &Repo, revision: &str) -> Option<State<'_>> {
        let models = self.at(Hub::HuggingFace, repo, revision);
        let (name, first) = models.first()?;
        let mut state = State {
            name,
            commit: first.commit.as_ref()?,
            files: BTreeMap::new(),
            left_out: BTreeSet::new(),
            is_whole: models.iter().any(|(_, locked)| locked.left_out.is_some()),
        };
        for (_, locked) in &models {
            state.files.extend(locked.files.iter().map(|(path, file)| (path.as_str(), file)));
            state.left_out.extend(locked.left_out.iter().flatten().map(String::as_str));
        }
        // What one name leaves out another may pin.
        state.left_out.retain(|path| !state.files.contains_key(path));
        Some(state)
    }
}

/// The arguments of `hubcache lock` that pin one more file of a model, with everything that is pinned of it already.
pub fn adding(name: &ModelName, locked: Option<&Locked>, path: &str) -> Vec<String> {
    let mut arguments = vec!["add".to_owned(), name.argument()];
    let mut add = |flag: &str, value: &str| arguments.extend([flag.to_owned(), value.to_owned()]);
    match locked {
        Some(locked) if name.hub == Hub::Mozilla => {
            locked.files.keys().for_each(|held| add("--file", held));
            add("--file", path);
        }
        None if name.hub == Hub::Mozilla => add("--file", path),
        Some(locked) => {
            let (include, exclude) = widened(Some(locked), &BTreeSet::from([path.to_owned()]));
            include.iter().for_each(|pattern| add("--include", pattern));
            exclude.iter().for_each(|pattern| add("--exclude", pattern));
        }
        None => {}
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Revision, Sha256};
    use crate::transfer::lock::Origin;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    fn name(text: &str) -> ModelName {
        text.parse().unwrap()
    }

    fn locked(hub: Hub, files: &[&str], left_out: &[&str]) -> Locked {
        let own = |paths: &[&str]| paths.iter().map(|p| (*p).to_owned()).collect();
        let file = LockedFile { size: 1, sha256: Sha256([0; 32]), from: Origin::Lfs };
        Locked {
            commit: (hub == Hub::HuggingFace).then(|| Commit::parse(COMMIT).unwrap()),
            files: files.iter().map(|p| ((*p).to_owned(), file)).collect(),
            left_out: (hub == Hub::HuggingFace).then(|| own(left_out)),
            ..Locked::default()
        }
    }

    fn pins() -> Pins {
        Pins::new(Lock {
            models: BTreeMap::from([
                (name("hf:acme/tiny"), locked(Hub::HuggingFace, &["a"], &["b", "c"])),
                (name("hf:acme/tiny@v1"), locked(Hub::HuggingFace, &["b"], &["a", "c"])),
                (name("moz:acme/tiny@v1.0"), locked(Hub::Mozilla, &["a"], &[])),
            ]),
            ..Lock::default()
        })
    }

    fn said(model: &str, path: &str) -> &'static str {
        let ModelName { hub, repo, revision } = name(model);
        let revision = Revision::parse(hub, &revision);
        match pins().file(&Resource { hub, repo, revision, path: path.to_owned() }) {
            Pinned::File { .. } => "pinned",
            Pinned::Absent(_) => "absent",
            Pinned::LeftOut(..) => "left out",
            Pinned::Unknown => "unknown",
        }
    }

    #[test]
    fn a_file_is_pinned_or_absent_or_left_out() {
        for (model, path, want) in [
            ("hf:acme/tiny", "a", "pinned"),
            // Both names stand for the same commit, and so what one pins the other has.
            ("hf:acme/tiny", "b", "pinned"),
            ("hf:acme/tiny", "c", "left out"),
            ("hf:acme/tiny", "d", "absent"),
            ("hf:acme/tiny@v2", "a", "unknown"),
            ("hf:acme/other", "a", "unknown"),
            ("moz:acme/tiny@v1.0", "a", "pinned"),
            // This hub has no list, so nobody knows.
            ("moz:acme/tiny@v1.0", "b", "left out"),
            ("moz:acme/tiny@v2.0", "a", "unknown"),
        ] {
            assert_eq!(said(model, path), want, "{model}/{path}");
        }
        assert_eq!(said(&format!("hf:acme/tiny@{COMMIT}"), "a"), "pinned");
        let pins = pins();
        let state = pins.state(&name("hf:acme/tiny").repo, "v1").unwrap();
        assert_eq!(state.files.keys().copied().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(state.left_out.into_iter().collect::<Vec<_>>(), ["c"]);
    }

    #[test]
    fn without_a_list_only_what_the_hub_was_asked_for_is_absent() {
        let mut unlisted = locked(Hub::HuggingFace, &["a"], &[]);
        unlisted.left_out = None;
        unlisted.absent = BTreeSet::from(["d".to_owned()]);
        let pins =
            Pins::new(Lock { models: BTreeMap::from([(name("hf:acme/tiny"), unlisted)]), ..Lock::default() });
        let said = |path: &str| {
            let ModelName { hub, repo, revision } = name("hf:acme/tiny");
            let revision = Revision::parse(hub, &revision);
            matches!(pins.file(&Resource { hub, repo, revision, path: path.to_owned() }), Pinned::Absent(_))
        };
        assert!(said("d") && !said("c"));
    }

    #[test]
    fn one_more_file_is_added_to_what_is_pinned() {
        let model = name("hf:acme/tiny@refs%2Fpr%2F1");
        let mut before = locked(Hub::HuggingFace, &["a.json"], &["b.bin"]);
        assert_eq!(adding(&model, None, "b.bin").join(" "), "add hf:acme/tiny@refs%2Fpr%2F1");
        before.include = vec!["*.json".to_owned()];
        before.exclude = vec!["*.bin".to_owned(), "*.md".to_owned()];
        assert_eq!(
            adding(&model, Some(&before), "b.bin").join(" "),
            "add hf:acme/tiny@refs%2Fpr%2F1 --include *.json --include b.bin --exclude *.md"
        );
        let before = locked(Hub::Mozilla, &["a"], &[]);
        let model = name("moz:acme/tiny@v1.0");
        assert_eq!(adding(&model, Some(&before), "b").join(" "), "add moz:acme/tiny@v1.0 --file a --file b");
    }
}
