//! The command line: one file a command.
//!
//! A command reads its arguments, has the settings read, does its work and prints; what goes wrong becomes a
//! `Failure` with an exit code from `sysexits.h`. Results go to stdout, everything else to stderr.

mod bundle;
mod ca;
mod check_model;
mod config;
mod directory;
mod doctor;
mod exit;
mod explain;
mod export;
mod faults;
mod flags;
mod history;
mod holdings;
mod import;
mod lock;
mod ls;
mod own;
mod owner;
mod pin;
mod preload;
mod print;
mod prune;
mod reach;
mod report;
mod rm;
mod run;
mod scratch;
mod serve;
mod session;
mod settings;
mod setup;
mod show;
mod status;
mod target;
mod token;
mod transfer;
mod verify;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{ArgMatches, Command};

use exit::{Exit, Failure};

const ABOUT: &str = "A caching proxy for machine-learning model hubs";

const LONG_ABOUT: &str = "\
A caching proxy for machine-learning model hubs: every model file is downloaded once, verified, kept, and served \
while it still arrives to as many clients as ask for it.

Clients need no plug-in: they name this server where they would name the hub, or use it as their proxy.";

const EXAMPLES: &str = "\
Start it, and point a client at it:
  hubcache serve
  HF_ENDPOINT=http://127.0.0.1:8470 hf download openai-community/gpt2 config.json
  curl -O http://127.0.0.1:8470/openai-community/gpt2/resolve/main/config.json

As a proxy, so that clients go on naming the hubs (a stock Firefox among them):
  hubcache serve --intercept
  hubcache setup firefox

See what it does:
  hubcache status
  hubcache explain https://huggingface.co/openai-community/gpt2/resolve/main/config.json

Find out why something does not work, and what helps:
  hubcache doctor

Look at what it holds, while it runs or not:
  hubcache ls
  hubcache show openai-community/gpt2
  hubcache verify

Keep what matters when room is needed, and see what would go:
  hubcache pin acme/tiny --owner search-team --for 30d
  hubcache prune --plan --to 100GiB

Bring models here, and pin every byte of them:
  hubcache lock add hf:acme/tiny
  hubcache preload --lock hubcache.lock

Carry them to where there is no network, or no hubcache:
  hubcache export --lock hubcache.lock --hf-cache /mnt/disk/hub
  hubcache import --hf-cache ~/.cache/huggingface/hub

Run a test suite against exactly these bytes, with no network:
  hubcache run --lock hubcache.lock -- pytest

See what Mozilla announces for Firefox, and what became of it:
  hubcache settings status
  hubcache history Mozilla/distilvit

Every setting is a line of a file, an environment variable and a flag:
  hubcache serve --cache-ref-ttl 5m
  HUBCACHE_CACHE__REF_TTL=5m hubcache serve
  hubcache config show --origin

Exit codes: 0 done, 64 wrong usage, 65 damaged data, 66 nothing of that name, 69 unavailable,
70 a mistake of the program, 73 cannot be created, 74 input or output failed, 75 try again,
77 not permitted, 78 wrong settings.";

/// Runs the program with its arguments, of which the first is its name.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let matches = match command().try_get_matches_from(args) {
        Ok(matches) => matches,
        Err(error) => {
            // Help and versions are asked for and go to stdout; a closed stdout is nobody's mistake.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage.into() } else { ExitCode::SUCCESS };
        }
    };
    match dispatch(&matches) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn command() -> Command {
    Command::new("hubcache")
        .version(env!("CARGO_PKG_VERSION"))
        .about(ABOUT)
        .long_about(LONG_ABOUT)
        .after_help("`hubcache COMMAND --help` explains a command and shows examples.")
        .after_long_help(EXAMPLES)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .args_override_self(true)
        .max_term_width(100)
        .subcommands([
            serve::command(),
            ls::command(),
            show::command(),
            status::command(),
            explain::command(),
            rm::command(),
            verify::command(),
            preload::command(),
            lock::command(),
            export::command(),
            import::command(),
            check_model::command(),
            doctor::command(),
            run::command(),
            settings::command(),
            history::command(),
            pin::command(pin::PIN),
            pin::command(pin::UNPIN),
            prune::command(),
            token::command(),
            ca::command(),
            setup::command(),
            config::command(),
            own::command(),
        ])
}

fn dispatch(matches: &ArgMatches) -> Result<(), Failure> {
    match matches.subcommand() {
        Some(("serve", m)) => serve::run(m),
        Some(("run", m)) => run::run(m),
        Some(("ls", m)) => ls::run(m),
        Some(("show", m)) => show::run(m),
        Some(("status", m)) => status::run(m),
        Some(("explain", m)) => explain::run(m),
        Some(("rm", m)) => rm::run(m),
        Some(("verify", m)) => verify::run(m),
        Some(("preload", m)) => preload::run(m),
        Some((lock::LOCK, m)) => lock::run(m),
        Some(("export", m)) => export::run(m),
        Some(("import", m)) => import::run(m),
        Some((check_model::NAME, m)) => check_model::run(m),
        Some((doctor::NAME, m)) => doctor::run(m),
        Some(("settings", m)) => settings::run(m),
        Some(("history", m)) => history::run(m),
        Some((pin::PIN, m)) => pin::run(pin::PIN, m),
        Some((pin::UNPIN, m)) => pin::run(pin::UNPIN, m),
        Some((prune::NAME, m)) => prune::run(m),
        Some((token::TOKEN, m)) => token::run(m),
        Some(("ca", m)) => ca::run(m),
        Some(("setup", m)) => setup::run(m),
        Some(("config", m)) => config::run(m),
        Some((owner::OWN, m)) => own::run(m),
        _ => unreachable!("clap accepts the commands above and requires one"),
    }
}

#[cfg(test)]
mod tests;
