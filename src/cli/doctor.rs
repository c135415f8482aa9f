//! `hubcache doctor`: whether all is well on this machine, and what helps where it is not.
//!
//! It works in two halves. *Looking* (`look`) gathers what is there, each look bounded and most of them at once; it
//! changes nothing, starts nobody, and asks the process that owns the data directory rather than opening that. *Judging*
//! (the modules beside it) makes checks of what was found, and is pure. A look depends on no judgement; the only order is
//! that whoever owns the directory is asked first, because that says where the server listens.

mod announced;
mod answers;
mod check;
mod clients;
mod environment;
mod examine;
mod holds;
mod look;
mod machine;
mod policies;
mod server;
mod trust;
mod upstream;

use std::io::{self, Write};

use clap::{ArgMatches, Command};
use serde_json::json;

use super::exit::{Exit, Failure, output};
use super::flags::{self, Scope};
use super::ls::json_arg;
use super::{print, setup, transfer};
use check::{Check, Verdict, count};

/// Its name.
pub const NAME: &str = "doctor";

const LONG_ABOUT: &str = "\
Tell whether all is well on this machine, and for each thing that is not, what helps. Nothing is changed, nothing is \
started, and each look takes 5 seconds at most.

Each check is good, warns, fails, or is skipped, with why. In this order:
  settings: they can be read, and do not contradict the environment
  data-directory: it is private, on a local disk, there or can be made; who has it open
  disk: what is free above store.min_free
  clock: it agrees with that of the hubs; 60 s off warns, 5 min fails
  port-listen, port-listen-tls, port-admin: free, or the running server listens there
  server, tunnel, ready: it answers where clients reach it, and takes them
  upstream-HUB: each hub, and Remote Settings, is reached as the server reaches it
  certificate-authority, certificate-tls: they can be used, and for how long
  certificate-system, certificate-VARIABLE, certificate-firefox: who trusts the authority
  head-latency, xet-leak, redirect-leak: what a client gets for a file that is held
  remote-settings, collection-NAME: what is held, and until when Firefox takes it
  client-firefox, client-huggingface-hub, client-transformersjs: how those that are found
    reach this server now, started from here

Run it as the user and in the environment of the client that does not work, or of the server. It ends with 69 when a check \
fails; warnings are told and end with 0.";

const EXAMPLES: &str = "\
Examples:
  hubcache doctor
  hubcache doctor --quiet                 # only what warns or fails
  hubcache doctor --intercept             # as a server that is started so would be
  hubcache doctor --at cache.example.org:8470
  hubcache doctor --json | jq -r '.checks[] | select(.verdict == \"fails\") | .name'
  HF_ENDPOINT=http://127.0.0.1:8470 hubcache doctor";

pub fn command() -> Command {
    let command = Command::new(NAME)
        .about("Tell whether all is well on this machine, and what helps")
        .long_about(LONG_ABOUT)
        .after_long_help(EXAMPLES)
        .arg(setup::at_arg("Where clients reach this server [default: where it listens]"))
        .arg(transfer::quiet_arg().help("Leave out what is good or was skipped"))
        .arg(json_arg("Print an object: ok, checks (each with name, verdict, found, fix)"));
    flags::add(command, Scope::All)
}

pub fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let at = setup::said_at(matches)?;
    let checks = match flags::load(matches, Scope::All) {
        Ok(loaded) => examine::examine(loaded, at)?,
        Err(failure) => examine::unread(failure.message()),
    };
    let (fails, warns) = (count(&checks, Verdict::Fails), count(&checks, Verdict::Warns));
    let mut out = io::BufWriter::new(io::stdout().lock());
    output(match matches.get_flag("json") {
        true => writeln!(out, "{:#}", json!({"ok": fails == 0, "checks": checks})).and_then(|()| out.flush()),
        false => write(&mut out, &checks, transfer::is_quiet(matches)).and_then(|()| out.flush()),
    })?;
    let warned = format!("{} with a warning", print::count(warns, "check"));
    match (fails, warns) {
        (0, 0) => Ok(()),
        (0, _) => {
            eprintln!("hubcache: nothing fails; {warned}");
            Ok(())
        }
        _ => {
            Err(Failure::new(Exit::Unavailable, format!("{} failed; {warned}", print::count(fails, "check"))))
        }
    }
}

fn write(out: &mut dyn Write, checks: &[Check], is_quiet: bool) -> io::Result<()> {
    let shown = |check: &&Check| !is_quiet || check.verdict > Verdict::Good;
    for Check { name, verdict, found, fix } in checks.iter().filter(shown) {
        writeln!(out, "{:<7}  {name}: {found}", verdict.name())?;
        for line in fix.iter().flat_map(|fix| fix.lines()) {
            writeln!(out, "         {line}")?;
        }
    }
    Ok(())
}
