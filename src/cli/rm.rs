//! `hubcache rm`: remove what is held.

use std::io::{self, Write};

use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::json;

use super::exit::{Exit, Failure, output};
use super::flags::{self, Scope};
use super::ls::json_arg;
use super::reach::{self, Event};
use super::{print, target};
use crate::admin::control;

const LONG_ABOUT: &str = "\
Remove files from the data directory. Responses that are being sent go on to their end; who asks later gets the file \
from the hub again. Bytes that another file shares stay.";

const EXAMPLES: &str = "\
Examples:
  hubcache rm --dry-run openai-community/gpt2
  hubcache rm openai-community/gpt2
  hubcache rm acme/tiny@v1.0
  hubcache rm --all";

pub fn command() -> Command {
    let dry_run = Arg::new("dry-run")
        .long("dry-run")
        .short('n')
        .action(ArgAction::SetTrue)
        .help("Only list what would be removed")
        .display_order(0);
    let all = Arg::new("all")
        .long("all")
        .action(ArgAction::SetTrue)
        .conflicts_with("target")
        .help("Remove everything")
        .display_order(0);
    let command = Command::new("rm")
        .about("Remove what is held")
        .long_about(LONG_ABOUT)
        .after_long_help(format!("{}\n\n{EXAMPLES}", target::EXPLAINED))
        .arg(target::arg().required_unless_present("all"))
        .arg(all)
        .arg(dry_run)
        .arg(json_arg(
            "Print an object: dry_run, files, partials, documents, blobs, bytes, and with --dry-run the entries",
        ));
    flags::add(command, Scope::Store)
}

pub fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let selector = target::given(matches)?;
    let config = flags::load(matches, Scope::Store)?.config;
    let dry_run = matches.get_flag("dry-run");
    let mut rows = Vec::new();
    let done = reach::execute(&config, control::Command::Rm { selector, dry_run }, |event| {
        if let Event::Entry(row) = event {
            rows.push(row);
        }
    })?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    let as_json = matches.get_flag("json");
    if as_json {
        let mut object = json!({
            "dry_run": dry_run,
            "files": done.entries,
            "partials": done.partials,
            "documents": done.documents,
            "blobs": done.blobs,
            "bytes": done.bytes,
        });
        if dry_run {
            object["entries"] = rows.iter().map(print::json).collect();
        }
        output(writeln!(out, "{object}").and_then(|()| out.flush()))?;
    }
    if done.entries + done.partials + done.documents == 0 && !matches.get_flag("all") {
        return Err(Failure::new(Exit::NoInput, format!("nothing is held of {}", target::text(matches))));
    }
    if as_json {
        return Ok(());
    }
    let mut list = || {
        for row in &rows {
            writeln!(out, "{}", row.key)?;
        }
        let (verb, free) = if dry_run { ("would remove", "free") } else { ("removed", "freed") };
        let mut files = print::count(done.entries, "file");
        if done.partials > 0 {
            files = format!("{files}, {}", print::count(done.partials, "unfinished download"));
        }
        if done.documents > 0 {
            files = format!("{files}, {}", print::count(done.documents, "API answer"));
        }
        writeln!(out, "{verb} {files} and {free} {}", print::size(done.bytes))?;
        out.flush()
    };
    output(list())
}
