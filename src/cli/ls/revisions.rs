//! One line for each revision of a model.

use std::collections::BTreeMap;

use super::super::holdings::{Holdings, revision_of};
use super::super::print::{self, Table};
use super::{names, short};
use crate::admin::control::Row;
use crate::model::{EntryKey, Standing, Timestamp};

/// The state that goes without saying.
const CURRENT: &str = "current";

/// Files of one revision of one model, from one source.
#[derive(Default)]
struct Group {
    files: u64,
    size_bytes: u64,
    verified: u64,
    answers: u64,
    last_used: Timestamp,
    state: String,
}

/// The lines, and how many answers of the API are about no revision in them.
pub fn table(held: &Holdings, now: Timestamp) -> (Table, u64) {
    let mut groups: BTreeMap<EntryKey, Group> = BTreeMap::new();
    for row in &held.files {
        groups.entry(revision_of(&row.key)).or_default().add(row, now);
    }
    let mut beside = 0;
    for answer in &held.answers {
        match groups.get_mut(&revision_of(&answer.key)) {
            Some(group) => group.answers += 1,
            None => beside += 1,
        }
    }
    let mut head = vec!["MODEL", "REVISION", "REFS", "FILES", "SIZE", "STANDING", "ANSWERS", "LAST USE"];
    let has_other_roots = groups.keys().any(|key| !source(key).is_empty());
    head.extend(has_other_roots.then_some("FROM"));
    let has_states = groups.values().any(|group| group.state != CURRENT);
    head.extend(has_states.then_some("STATE"));
    let mut table = Table::new(&head, &[3, 4, 6]);
    for (key, group) in &groups {
        let mut cells = vec![
            format!("{}:{}", key.hub, key.repo),
            short(&key.revision).to_owned(),
            names(held, key),
            group.files.to_string(),
            print::size(group.size_bytes),
            group.standing(),
            group.answers.to_string(),
            print::ago(group.last_used, now),
        ];
        cells.extend(has_other_roots.then(|| source(key).to_owned()));
        cells.extend(has_states.then(|| group.state.clone()));
        table.row(cells);
    }
    (table, beside)
}

/// Where the files came from; where a hub is by default goes without saying.
fn source(key: &EntryKey) -> &str {
    if key.root.as_str() == key.hub.default_root() { "" } else { key.root.as_str() }
}

impl Group {
    fn add(&mut self, row: &Row, now: Timestamp) {
        self.files += 1;
        self.size_bytes += row.entry.size;
        self.verified += u64::from(row.entry.standing == Standing::Verified);
        self.last_used = self.last_used.max(row.last_used);
        self.state = row.decided.words(now);
    }

    fn standing(&self) -> String {
        match self.verified {
            0 => Standing::Recorded.as_str().to_owned(),
            n if n == self.files => Standing::Verified.as_str().to_owned(),
            n => format!("{n} of {} {}", self.files, Standing::Verified.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::control::Answer;
    use crate::cli::tests::{COMMIT, reference, row};

    #[test]
    fn a_line_is_a_revision_of_a_model() {
        let files = [
            ("acme/other", "main", "a", Standing::Recorded),
            ("acme/tiny", COMMIT, "a", Standing::Verified),
            ("acme/tiny", "main", "a", Standing::Verified),
            ("acme/tiny", "main", "b", Standing::Recorded),
        ];
        let files: Vec<_> = files.map(|(repo, at, path, standing)| row(repo, at, path, standing)).into();
        let names = ["main", "refs/pr/1"].map(|name| reference("acme/tiny", name)).into();
        let mut held = Holdings::of(files, names);
        for at in [COMMIT, COMMIT, "elsewhere"] {
            let key = row("acme/tiny", at, "info", Standing::Verified).key;
            held.answers.push(Answer { key, said: None });
        }
        let mut out = Vec::new();
        let (table, beside) = table(&held, Timestamp(3_600_000));
        table.write(&mut out).unwrap();
        let want = "\
MODEL                   REVISION      REFS             FILES     SIZE  STANDING         ANSWERS  LAST USE
huggingface:acme/other  main          -                    1  1.0 KiB  recorded               0  1 h ago
huggingface:acme/tiny   8fa5a4e2f9ec  main, refs/pr/1      1  1.0 KiB  verified               2  1 h ago
huggingface:acme/tiny   main          -                    2  2.0 KiB  1 of 2 verified        0  1 h ago
";
        assert_eq!(String::from_utf8(out).unwrap(), want);
        assert_eq!(beside, 1);
    }
}
