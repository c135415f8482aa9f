//! `hubcache prune`: have files go until the data directory takes no more than it may.

use std::io::{self, Write};

use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::{Value, json};

use super::exit::{Failure, output};
use super::flags::{self, Scope};
use super::ls::json_arg;
use super::print::{self, Table};
use super::reach::{self, Event};
use crate::admin::control::{self, Space};
use crate::model::quantity;
use crate::store::Going;

pub const NAME: &str = "prune";

const LONG_ABOUT: &str = "\
Have files go that were used least, until the data directory takes no more than store.max_size, or than --to says. A server \
does that by itself when it needs room.

What goes, in this order: files of revisions that others have superseded; files that were not used again after they \
came, and downloads that nobody goes on with; files that were used often, and not lately. What is pinned (`hubcache pin`), \
what a lock pins that is served, models of which all revisions are kept (`hubcache settings hold`), and what is being \
read stays. SIZE is what a file takes on disk.

It works while the server runs (it asks the server) and while it does not (it opens the data directory).";

const EXAMPLES: &str = "\
Examples:
  hubcache prune --plan --to 100GiB
  hubcache prune --to 100GiB
  hubcache prune --plan --to 0 --json | jq -r '.going[] | \"\\(.reason) \\(.files[0].path)\"'";

const PLAN: &str = "plan";
const TO: &str = "to";

const JSON_HELP: &str = "\
Print an object: plan, files, disk_bytes, used_bytes, limit_bytes, and going: of each content reason (superseded, \
unfinished, once or stale), count (of its files), files (the first 100: hub, root, repo, kind, revision, path), size_bytes, \
disk_bytes";

pub fn command() -> Command {
    let plan = Arg::new(PLAN)
        .long(PLAN)
        .action(ArgAction::SetTrue)
        .help("Only tell what would go, in that order, and why")
        .display_order(0);
    let to = Arg::new(TO)
        .long(TO)
        .value_name("SIZE")
        .value_parser(size)
        .help("What the data directory may take on disk afterwards [default: store.max_size]")
        .display_order(0);
    let command = Command::new(NAME)
        .about("Have files go that were used least")
        .long_about(LONG_ABOUT)
        .after_long_help(EXAMPLES)
        .arg(plan)
        .arg(to)
        .arg(json_arg(JSON_HELP));
    flags::add(command, Scope::Store)
}

fn size(text: &str) -> Result<u64, String> {
    quantity::size(text).map_err(|bad| format!("{bad}; expected {}", quantity::SIZE_EXPECTED))
}

pub fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let (is_plan, to) = (matches.get_flag(PLAN), matches.get_one::<u64>(TO).copied());
    let config = flags::load(matches, Scope::Store)?.config;
    let mut going = Vec::new();
    // Where nothing was ever stored, nothing is said of it.
    let mut space = Space { used_bytes: 0, limit_bytes: 0 };
    let done = reach::execute(&config, control::Command::Prune { to, plan: is_plan }, |event| match event {
        Event::Going(one) => going.push(one),
        Event::Space(said) => space = said,
        _ => {}
    })?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    let written = if matches.get_flag("json") {
        let object = json!({
            "plan": is_plan,
            "files": done.entries,
            "disk_bytes": done.bytes,
            "used_bytes": space.used_bytes,
            "limit_bytes": space.limit_bytes,
            "going": going.iter().map(object).collect::<Vec<_>>(),
        });
        writeln!(out, "{object}")
    } else {
        let files = print::count(done.entries, "file");
        let (verb, free) = if is_plan { ("would remove", "free") } else { ("removed", "freed") };
        let (bytes, used) = (print::size(done.bytes), print::size(space.used_bytes));
        let of = print::size(space.limit_bytes);
        let listed = if going.is_empty() { Ok(()) } else { table(&going).write(&mut out) };
        listed.and_then(|()| writeln!(out, "{verb} {files} and {free} {bytes}; {used} of {of} are used"))
    };
    output(written.and_then(|()| out.flush()))
}

fn object(going: &Going) -> Value {
    let file = |key: &crate::model::EntryKey| {
        json!({
            "hub": key.hub,
            "root": key.root,
            "repo": key.repo.id,
            "kind": key.repo.kind,
            "revision": key.revision,
            "path": key.path,
        })
    };
    json!({
        "reason": going.reason.name(),
        "count": going.count,
        "files": going.files.iter().map(file).collect::<Vec<_>>(),
        "size_bytes": going.size_bytes,
        "disk_bytes": going.disk_bytes,
    })
}

fn table(all: &[Going]) -> Table {
    let mut table = Table::new(&["REASON", "SIZE", "FILE"], &[1]);
    for Going { reason, files, count, disk_bytes, .. } in all {
        let file = files.first().map(ToString::to_string).unwrap_or_default();
        let more = match count {
            0 | 1 => String::new(),
            n => format!(" and {} with the same bytes", n - 1),
        };
        table.row(vec![reason.words().to_owned(), print::size(*disk_bytes), format!("{file}{more}")]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::tests::row;
    use crate::model::{Standing, WhyGone};

    #[test]
    fn a_line_says_what_goes_and_why() {
        let key = |path: &str| row("acme/tiny", "v1", path, Standing::Verified).key;
        let files = vec![key("a"), key("b")];
        let shared = Going { reason: WhyGone::Once, files, count: 2, size_bytes: 1_000, disk_bytes: 4 << 10 };
        let mut out = Vec::new();
        table(&[shared]).write(&mut out).unwrap();
        let want = "\
REASON             SIZE  FILE
not used again  4.0 KiB  huggingface:acme/tiny@v1/a and 1 with the same bytes
";
        assert_eq!(String::from_utf8(out).unwrap(), want);
    }
}
