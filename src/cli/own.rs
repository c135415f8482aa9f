//! `hubcache own`: owns the data directory for the runs and commands that ask. It is started by them, not by people.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};

use clap::{ArgMatches, Command};

use super::exit::{Failure, io_failure};
use super::flags::{self, Scope};
use super::owner::{OWN, Started};
use crate::app;
use crate::config::Config;

/// Longest log that an owner goes on with, in bytes; a longer one begins anew.
const MAX_LOG: u64 = 4 << 20;

const LONG_ABOUT: &str = "\
Own the data directory for the runs and commands that ask, and leave when none has asked for a while. `hubcache run` \
starts it where no server runs; its log is owner.log in the data directory.";

pub fn command() -> Command {
    let command =
        Command::new(OWN).about("Own the data directory for others").long_about(LONG_ABOUT).hide(true);
    flags::add(command, Scope::All)
}

/// Tells whoever started it how that went, on standard output, and owns the directory.
pub fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let ended = own(matches);
    if let Err(failure) = &ended {
        say(&Started::Failed { error: failure.message().to_owned(), exit: failure.code() });
    }
    ended
}

fn own(matches: &ArgMatches) -> Result<(), Failure> {
    let config = flags::load(matches, Scope::All)?.config;
    // Signals of the terminal are for the program that runs, which outlives nobody but itself.
    let _ = rustix::process::setsid();
    log_to_file(&config);
    app::keep_memory();
    let _log = app::start_log(&config.log);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| io_failure("its threads cannot be started", &error))?;
    Ok(runtime.block_on(app::own(config, || say(&Started::Ready)))?)
}

/// Sends what is written to standard error to a file in the data directory. Where that cannot be, opening the store will
/// say why.
fn log_to_file(config: &Config) {
    let dir = &config.store.dir;
    let path = dir.join("owner.log");
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    let file = made.and_then(|()| OpenOptions::new().create(true).append(true).mode(0o600).open(&path));
    if let Ok(file) = file {
        if file.metadata().is_ok_and(|about| about.len() > MAX_LOG) {
            // Should that fail, it is only longer than it need be.
            let _ = file.set_len(0);
        }
        let _ = rustix::stdio::dup2_stderr(&file);
    }
}

fn say(word: &Started) {
    let line = serde_json::to_string(word).expect("texts and numbers are JSON");
    let mut stdout = io::stdout().lock();
    // Whoever started it may have left; others may come.
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}
