//! `hubcache ls`: what is held.

mod files;
mod revisions;

use std::io::{self, Write};

use clap::{Arg, ArgAction, ArgMatches, Command};

use super::exit::{Failure, output};
use super::flags::{self, Scope};
use super::holdings::Holdings;
use super::{print, target};
use crate::admin::control::{self, Selector};
use crate::model::{Commit, EntryKey, Timestamp};

const LONG_ABOUT: &str = "\
List the models that are held, one line for each revision: which branches and tags stand for it as far as is known, \
how many files, how large, whether all of them were verified against a digest that the hub had promised, how many \
answers of the hub's API are held, and when a file was last sent to a client. A column STATE is there once an announcement \
has superseded a revision, or one is pinned.

With --files, or when the TARGET names a revision or a path, one line for each file.

It works while the server runs (it asks the server) and while it does not (it opens the data directory).";

const EXAMPLES: &str = "\
Examples:
  hubcache ls
  hubcache ls openai-community/gpt2
  hubcache ls --files openai-community/gpt2
  hubcache ls huggingface:

  The largest files, for a script
    hubcache ls --json | jq -r 'sort_by(-.size)[:10][] | \"\\(.size) \\(.repo) \\(.path)\"'";

const JSON_HELP: &str = "\
Print an array with an object for each file: hub, root, repo, kind, revision, refs, path, size, sha256, class, dtype, standing, \
state (current or superseded), pinned, pinned_at, pinned_by, pinned_for, pinned_until, superseded_by, superseded_at, drop_at, promises, etag, commit, content_type, stored_at, checked_at, last_used";

/// The flag that all commands on the data directory have.
pub fn json_arg(help: &'static str) -> Arg {
    Arg::new("json").long("json").action(ArgAction::SetTrue).help(help).display_order(0)
}

pub fn command() -> Command {
    let files = Arg::new("files")
        .long("files")
        .action(ArgAction::SetTrue)
        .help("List every file: path, size, the beginning of its SHA-256, standing, last use")
        .display_order(0);
    let command = Command::new("ls")
        .about("List what is held")
        .long_about(LONG_ABOUT)
        .after_long_help(format!("{}\n\n{EXAMPLES}", target::EXPLAINED))
        .arg(target::arg())
        .arg(files)
        .arg(json_arg(JSON_HELP));
    flags::add(command, Scope::Store)
}

pub fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let selector = target::given(matches)?;
    let config = flags::load(matches, Scope::Store)?.config;
    let each_file = matches.get_flag("files") || names_files(&selector);
    let held = Holdings::read(&config, control::Command::Ls { selector })?;
    if matches.get_flag("json") {
        return print_json(&held);
    }
    let now = Timestamp::now();
    let (table, beside) =
        if each_file { (files::table(&held, now), 0) } else { revisions::table(&held, now) };
    let mut out = io::BufWriter::new(io::stdout().lock());
    let write = |out: &mut dyn Write| {
        table.write(out)?;
        for (count, what) in
            [(beside, "API answer about no revision above"), (held.partials, "unfinished download")]
        {
            if count > 0 {
                writeln!(out, "and {}", print::count(count, what))?;
            }
        }
        out.flush()
    };
    output(write(&mut out))
}

fn names_files(selector: &Selector) -> bool {
    selector.revision.is_some() || selector.path.is_some()
}

/// Prints files as one array.
pub fn print_json(held: &Holdings) -> Result<(), Failure> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let files = held.files.iter().map(|row| {
        let mut file = print::json(row);
        file["refs"] = held.names(&row.key).into();
        file
    });
    output(print::write_json_array(&mut out, files).and_then(|()| out.flush()))
}

/// The branches and tags that stand for a revision, in one cell.
fn names(held: &Holdings, key: &EntryKey) -> String {
    let names = held.names(key).join(", ");
    if names.is_empty() { "-".to_owned() } else { names }
}

/// Commits are told apart by their first digits.
pub fn short(revision: &str) -> &str {
    match Commit::parse(revision) {
        Some(_) => &revision[..12],
        None => revision,
    }
}
