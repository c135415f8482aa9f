//! `hubcache verify`: read every byte again.

use std::io::{self, Write};

use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::json;

use super::exit::{Exit, Failure, output};
use super::flags::{self, Scope};
use super::ls::json_arg;
use super::print::{self, ProgressLine};
use super::reach::{self, Event};
use super::target;
use crate::admin::control;

const LONG_ABOUT: &str = "\
Read every byte that is held again and compare its SHA-256 with what it was when it was stored. Damaged files are \
listed, and the exit code is 65 then; `hubcache rm` removes them, and the next client fetches them again.

The server goes on serving meanwhile.";

const EXAMPLES: &str = "\
Examples:
  hubcache verify
  hubcache verify --quiet openai-community/gpt2 || echo damaged
  hubcache verify --json | jq '.damaged[].path'";

pub fn command() -> Command {
    let quiet = Arg::new("quiet")
        .long("quiet")
        .short('q')
        .action(ArgAction::SetTrue)
        .help("Say nothing unless something is damaged")
        .display_order(0);
    let command = Command::new("verify")
        .about("Read every byte again and compare")
        .long_about(LONG_ABOUT)
        .after_long_help(format!("{}\n\n{EXAMPLES}", target::EXPLAINED))
        .arg(target::arg())
        .arg(quiet)
        .arg(json_arg(
            "Print an object: files, blobs, bytes, and the damaged files, each with what was found",
        ));
    flags::add(command, Scope::Store)
}

pub fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let selector = target::given(matches)?;
    let config = flags::load(matches, Scope::Store)?.config;
    let quiet = matches.get_flag("quiet");
    let progress = ProgressLine::new("verifying", quiet);
    let mut damaged = Vec::new();
    let done = reach::execute(&config, control::Command::Verify { selector }, |event| match event {
        Event::Damaged(row, found) => damaged.push((row, found)),
        Event::Progress(p) => progress.show(p),
        _ => {}
    })?;
    drop(progress);
    let mut out = io::BufWriter::new(io::stdout().lock());
    let written = if matches.get_flag("json") {
        let damaged = damaged.iter().map(|(row, found)| {
            let mut object = print::json(row);
            object["found"] = json!(found);
            object
        });
        let damaged: Vec<_> = damaged.collect();
        let object =
            json!({"files": done.entries, "blobs": done.blobs, "bytes": done.bytes, "damaged": damaged});
        writeln!(out, "{object}")
    } else {
        let mut list = || {
            for (row, found) in &damaged {
                writeln!(out, "damaged: {}: expected sha256 {}, found {found}", row.key, row.entry.blob)?;
            }
            if !quiet {
                let (files, size) = (print::count(done.entries, "file"), print::size(done.bytes));
                writeln!(out, "{files}, {size}, {} damaged", done.damaged)?;
            }
            Ok(())
        };
        list()
    };
    output(written.and_then(|()| out.flush()))?;
    if done.damaged > 0 {
        let files = print::count(done.damaged, "file");
        return Err(Failure::new(Exit::Data, format!("{files} damaged; `hubcache rm TARGET` removes them")));
    }
    Ok(())
}
