//! `hubcache ls`: what is held.

use std::collections::BTreeMap;
use std::io::{self, Write};

use clap::{Arg, ArgAction, ArgMatches, Command};

use super::exit::{Failure, output};
use super::flags::{self, Scope};
use super::print::{self, Table};
use super::reach::{self, Event};
use super::target;
use crate::admin::control::{self, Row};
use crate::model::{EntryKey, Standing, Timestamp};
use crate::store;

const LONG_ABOUT: &str = "\
List the models that are held, one line for each revision: how many files, how large, whether all of them were \
verified against a digest that the hub had promised, and when a file was last sent to a client.

It works while the server runs (it asks the server) and while it does not (it opens the data directory).";

const EXAMPLES: &str = "\
Examples:
  hubcache ls
  hubcache ls openai-community/gpt2
  hubcache ls huggingface:

  The largest files, for a script
    hubcache ls --json | jq -r 'sort_by(-.size)[:10][] | \"\\(.size) \\(.repo) \\(.path)\"'";

const JSON_HELP: &str = "\
Print an array with an object for each file: hub, root, repo, kind, revision, path, size, sha256, standing, promises, \
etag, commit, content_type, stored_at, checked_at, last_used";

/// The flag that all commands on the data directory have.
pub fn json_arg(help: &'static str) -> Arg {
    Arg::new("json").long("json").action(ArgAction::SetTrue).help(help).display_order(0)
}

pub fn command() -> Command {
    let command = Command::new("ls")
        .about("List what is held")
        .long_about(LONG_ABOUT)
        .after_long_help(format!("{}\n\n{EXAMPLES}", target::EXPLAINED))
        .arg(target::arg())
        .arg(json_arg(JSON_HELP));
    flags::add(command, Scope::Store)
}

pub fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let selector = target::given(matches)?;
    let settings = flags::load(matches, Scope::Store)?.config.store;
    if matches.get_flag("json") {
        let rows = rows(&settings, control::Command::Ls { selector })?;
        return print_json(&rows);
    }
    let mut groups = Groups::default();
    let done = reach::execute(&settings, control::Command::Ls { selector }, |event| {
        if let Event::Entry(row) = event {
            groups.add(row);
        }
    })?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    let write = |out: &mut dyn Write| {
        groups.table(Timestamp::now()).write(out)?;
        if done.partials > 0 {
            writeln!(out, "and {}", print::count(done.partials, "unfinished download"))?;
        }
        out.flush()
    };
    output(write(&mut out))
}

/// The files that a command tells about.
pub fn rows(settings: &store::Settings, command: control::Command) -> Result<Vec<Row>, Failure> {
    let mut rows = Vec::new();
    reach::execute(settings, command, |event| {
        if let Event::Entry(row) = event {
            rows.push(row);
        }
    })?;
    Ok(rows)
}

/// Prints files as one array.
pub fn print_json(rows: &[Row]) -> Result<(), Failure> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    output(print::write_json_array(&mut out, rows.iter().map(print::json)).and_then(|()| out.flush()))
}

/// Files of one revision of one model, from one source.
#[derive(Default)]
struct Groups(BTreeMap<(String, String, String), Group>);

struct Group {
    files: u64,
    size_bytes: u64,
    verified: u64,
    last_used: Timestamp,
}

impl Groups {
    fn add(&mut self, row: Row) {
        let EntryKey { hub, root, repo, revision, .. } = row.key;
        // Where a hub is by default goes without saying.
        let root = if root.as_str() == hub.default_root() { String::new() } else { root.to_string() };
        let name = (format!("{hub}:{repo}"), revision, root);
        let new = Group { files: 0, size_bytes: 0, verified: 0, last_used: row.last_used };
        let group = self.0.entry(name).or_insert(new);
        group.files += 1;
        group.size_bytes += row.entry.size;
        group.verified += u64::from(row.entry.standing == Standing::Verified);
        group.last_used = group.last_used.max(row.last_used);
    }

    fn table(&self, now: Timestamp) -> Table {
        let mut head = vec!["MODEL", "REVISION", "FILES", "SIZE", "STANDING", "LAST USE"];
        let has_other_roots = self.0.keys().any(|(.., root)| !root.is_empty());
        head.extend(has_other_roots.then_some("FROM"));
        let mut table = Table::new(&head, &[2, 3]);
        for ((model, revision, root), group) in &self.0 {
            let mut cells = vec![
                model.clone(),
                short(revision).to_owned(),
                group.files.to_string(),
                print::size(group.size_bytes),
                group.standing(),
                print::ago(group.last_used, now),
            ];
            cells.extend(has_other_roots.then(|| root.clone()));
            table.row(cells);
        }
        table
    }
}

impl Group {
    fn standing(&self) -> String {
        match self.verified {
            0 => Standing::Recorded.as_str().to_owned(),
            n if n == self.files => Standing::Verified.as_str().to_owned(),
            n => format!("{n} of {} {}", self.files, Standing::Verified.as_str()),
        }
    }
}

/// Commits are told apart by their first digits.
fn short(revision: &str) -> &str {
    match crate::model::Commit::parse(revision) {
        Some(_) => &revision[..12],
        None => revision,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::tests::row;

    #[test]
    fn a_line_is_a_revision_of_a_model() {
        let mut groups = Groups::default();
        for (repo, revision, path, standing) in [
            ("acme/tiny", "main", "a", Standing::Verified),
            ("acme/tiny", "main", "b", Standing::Recorded),
            ("acme/tiny", "8fa5a4e2f9ec3c1dbc6d35b9d81b8a0ce9f4b2a1", "a", Standing::Verified),
            ("acme/other", "main", "a", Standing::Recorded),
        ] {
            groups.add(row(repo, revision, path, standing));
        }
        let mut out = Vec::new();
        groups.table(Timestamp(3_600_000)).write(&mut out).unwrap();
        let want = "\
MODEL                   REVISION      FILES     SIZE  STANDING         LAST USE
huggingface:acme/other  main              1  1.0 KiB  recorded         1 h ago
huggingface:acme/tiny   8fa5a4e2f9ec      1  1.0 KiB  verified         1 h ago
huggingface:acme/tiny   main              2  2.0 KiB  1 of 2 verified  1 h ago
";
        assert_eq!(String::from_utf8(out).unwrap(), want);
    }
}
