//! Where a branch stands while no hub can be asked.

use std::collections::BTreeSet;

/// What is here of one commit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holding {
    /// Files that are held.
    pub paths: BTreeSet<String>,
    /// The hub's word on what the commit is, is held.
    pub info: bool,
    /// A list of files is held.
    pub tree: bool,
}

impl Holding {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Which of the commits that a branch named, the newest first, it stands at: the newest that can stand in for the one
/// before it, so that a branch which moved while hardly anything of its new commit was fetched stays usable. Whoever
/// asks for the branch, whatever for, is answered from this one.
///
/// A commit stands in for another when whatever is held of the other is held of it too, or `is_absent` there. Commits
/// of which nothing is held are no measure.
pub fn settle(commits: &[Holding], is_absent: impl Fn(usize, &str) -> bool) -> usize {
    let stands_in = |newer: usize, older: &Holding| {
        let here = &commits[newer];
        older.paths.iter().all(|path| here.paths.contains(path) || is_absent(newer, path))
            && (here.info || !older.info)
            && (here.tree || !older.tree)
    };
    let before = |at: usize| commits[at + 1..].iter().find(|holding| !holding.is_empty());
    (0..commits.len()).find(|at| before(*at).is_none_or(|older| stands_in(*at, older))).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(paths: &[&str]) -> Holding {
        Holding { paths: paths.iter().map(|p| (*p).to_owned()).collect(), ..Holding::default() }
    }

    fn stands(commits: &[Holding]) -> usize {
        settle(commits, |at, path| at == 0 && path == "dropped")
    }

    #[test]
    fn a_branch_moves_on_when_nothing_is_missing_any_more() {
        let before = files(&["a", "b"]);
        assert_eq!(stands(&[files(&["a"]), before.clone()]), 1);
        assert_eq!(stands(&[files(&["a", "b", "new"]), before.clone()]), 0);
        assert_eq!(stands(&[files(&["a"]), files(&["a", "dropped"])]), 0);
        assert_eq!(stands(&[before]), 0);
        assert_eq!(stands(&[files(&[])]), 0);
    }

    #[test]
    fn commits_of_which_nothing_was_fetched_are_passed_over() {
        let (nothing, all) = (files(&[]), files(&["a", "b"]));
        assert_eq!(stands(&[nothing.clone(), nothing.clone(), all.clone()]), 2);
        assert_eq!(stands(&[files(&["a"]), nothing.clone(), all.clone()]), 2);
        assert_eq!(stands(&[nothing.clone(), nothing]), 0);
        assert_eq!(stands(&[files(&["a"]), all.clone(), files(&["a", "b", "c"])]), 2);
        assert_eq!(stands(&[all.clone(), files(&["a"]), files(&["a", "b", "c"])]), 0);
    }

    #[test]
    fn what_the_hub_said_of_a_commit_counts_like_its_files() {
        let whole = Holding { info: true, tree: true, ..files(&["a"]) };
        assert_eq!(stands(&[Holding { info: true, ..files(&[]) }, whole.clone()]), 1);
        assert_eq!(stands(&[Holding { info: true, ..files(&["a"]) }, whole.clone()]), 1);
        assert_eq!(stands(&[whole.clone(), whole]), 0);
    }
}
