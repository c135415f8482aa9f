//! What was asked for beyond a lock, and what a lock needs so that it has it.

use std::collections::{BTreeMap, BTreeSet};

use super::lock::{Lock, Locked};
use super::{ModelName, Selection};
use crate::model::{Commit, Hub, Repo, Revision};

/// Something that was asked for beyond the lock, and came from the hub.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Recorded {
    /// The model, at the revision that was asked for.
    pub model: ModelName,
    /// The commit for which that stood; the Mozilla hub has none.
    pub commit: Option<Commit>,
    /// The file; none where only the revision was asked for.
    pub path: Option<String>,
}

/// What one model of a lock has to pin beside what it pins already.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addition {
    /// At which commit.
    pub commit: Option<Commit>,
    /// Which files.
    pub paths: BTreeSet<String>,
}

/// What has to be added to a lock for everything that was recorded.
///
/// Clients ask for a branch, are told its commit, and ask for files there: the files are added under the name of the
/// branch, and a commit becomes a model of its own only where no other name stands for it.
pub fn additions(lock: &Lock, recorded: &[Recorded]) -> BTreeMap<ModelName, Addition> {
    type Place = (Hub, Repo, Result<Commit, String>);
    let place = |model: &ModelName, commit: Option<&Commit>| -> Place {
        let at = commit.cloned().ok_or_else(|| model.revision.clone());
        (model.hub, model.repo.clone(), at)
    };
    let mut names: BTreeMap<Place, BTreeSet<ModelName>> = BTreeMap::new();
    let mut paths: BTreeMap<Place, BTreeSet<String>> = BTreeMap::new();
    for (name, locked) in &lock.models {
        names.entry(place(name, locked.commit.as_ref())).or_default().insert(name.clone());
    }
    for Recorded { model, commit, path } in recorded {
        let place = place(model, commit.as_ref());
        paths.entry(place.clone()).or_default().extend(path.clone());
        names.entry(place).or_default().insert(model.clone());
    }
    let mut added = BTreeMap::new();
    for (place, paths) in paths.into_iter().filter(|(_, paths)| !paths.is_empty()) {
        let all = names.remove(&place).unwrap_or_default();
        let is_commit = |name: &ModelName| matches!(name.revision(), Revision::Commit(_));
        let has_other = all.iter().any(|name| !is_commit(name));
        let is_meant = |name: &ModelName| lock.models.contains_key(name) || !is_commit(name) || !has_other;
        for name in all.into_iter().filter(is_meant) {
            added.insert(name, Addition { commit: place.2.clone().ok(), paths: paths.clone() });
        }
    }
    added
}

/// The patterns of a model to which files are added: those that include, and those that exclude.
pub fn widened(locked: Option<&Locked>, paths: &BTreeSet<String>) -> (Vec<String>, Vec<String>) {
    let fits = |patterns: &[String], path: &str| {
        Selection::new(patterns.to_vec(), Vec::new()).is_ok_and(|selection| selection.has(path))
    };
    let (mut include, exclude) =
        locked.map_or_else(Default::default, |locked| (locked.include.clone(), locked.exclude.clone()));
    let is_all = locked.is_some() && include.is_empty();
    let new = paths.iter().filter(|path| !is_all && (include.is_empty() || !fits(&include, path)));
    let new: Vec<String> = new.map(|path| globset::escape(path)).collect();
    include.extend(new);
    // A pattern that excludes a file has to go.
    let stays = |pattern: &String| !paths.iter().any(|path| fits(std::slice::from_ref(pattern), path));
    (include, exclude.into_iter().filter(stays).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commit(digit: char) -> Commit {
        Commit::parse(&digit.to_string().repeat(40)).unwrap()
    }

    fn recorded(model: &str, commit: Option<Commit>, path: &str) -> Recorded {
        let path = Some(path.to_owned()).filter(|path| !path.is_empty());
        Recorded { model: model.parse().unwrap(), commit, path }
    }

    fn told(added: &BTreeMap<ModelName, Addition>) -> Vec<String> {
        let one = |(name, addition): (&ModelName, &Addition)| {
            let paths: Vec<&str> = addition.paths.iter().map(String::as_str).collect();
            format!("{name} {}", paths.join(","))
        };
        added.iter().map(one).collect()
    }

    #[test]
    fn files_at_a_commit_belong_to_the_name_that_stands_for_it() {
        let at = "hf:acme/tiny@".to_owned() + &"a".repeat(40);
        let all = [
            recorded("hf:acme/tiny@main", Some(commit('a')), ""),
            recorded(&at, Some(commit('a')), "config.json"),
            recorded("hf:acme/tiny@main", Some(commit('a')), "vocab.txt"),
            recorded("moz:acme/small@v1.0", None, "config.json"),
        ];
        let added = additions(&Lock::default(), &all);
        assert_eq!(
            told(&added),
            ["moz:acme/small@v1.0 config.json", "hf:acme/tiny@main config.json,vocab.txt"]
        );
        assert_eq!(added[&"hf:acme/tiny@main".parse().unwrap()].commit, Some(commit('a')));
        // Alone, the commit is the name.
        assert_eq!(told(&additions(&Lock::default(), &all[1..2])), [format!("{at} config.json")]);
        // A revision that was only asked for, and of which no file was wanted, needs none.
        assert_eq!(told(&additions(&Lock::default(), &all[..1])), Vec::<String>::new());
    }

    #[test]
    fn what_the_lock_has_already_gets_the_files_too() {
        let locked = Locked { commit: Some(commit('a')), ..Locked::default() };
        let lock = Lock {
            models: BTreeMap::from([("hf:acme/tiny@v1".parse().unwrap(), locked)]),
            ..Lock::default()
        };
        let at = "hf:acme/tiny@".to_owned() + &"a".repeat(40);
        let added = additions(
            &lock,
            &[recorded(&at, Some(commit('a')), "x"), recorded("hf:acme/tiny", Some(commit('b')), "y")],
        );
        assert_eq!(told(&added), ["hf:acme/tiny@main y", "hf:acme/tiny@v1 x"]);
    }

    #[test]
    fn patterns_grow_by_what_they_do_not_fit() {
        let paths = |all: &[&str]| all.iter().map(|p| (*p).to_owned()).collect::<BTreeSet<_>>();
        let own = |all: &[&str]| all.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>();
        assert_eq!(widened(None, &paths(&["a[1].json", "b"])), (own(&["a[[]1[]].json", "b"]), Vec::new()));
        let mut locked =
            Locked { include: own(&["*.json"]), exclude: own(&["*.bin", "*.md"]), ..Locked::default() };
        assert_eq!(
            widened(Some(&locked), &paths(&["c.json", "b.bin"])),
            (own(&["*.json", "b.bin"]), own(&["*.md"]))
        );
        locked.include.clear();
        assert_eq!(widened(Some(&locked), &paths(&["b.bin"])), (Vec::new(), own(&["*.md"])));
    }
}
