//! `hubcache run`: runs a program against exactly the bytes that a lock file pins.

mod child;
mod environment;
mod record;

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use clap::builder::OsStringValueParser;
use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::json;

use super::exit::{Exit, Failure, io_failure};
use super::flags::{self, Scope};
use super::ls::json_arg;
use super::report::Report;
use super::scratch::Scratch;
use super::session::{self, Beyond, Session};
use super::{faults, lock, preload, print, transfer};
use crate::admin::control::{Lacking, Wish};
use crate::app::Spoiling;
use crate::config::Config;
use crate::faults::Rules;
use crate::transfer::lock::Lock;

const RECORD: &str = "record";
const PROXY: &str = "proxy";
const FAULTS: &str = "faults";
const REPORT: &str = "missing-report";
const COMMAND: &str = "command";
/// The lock file where none is named.
const DEFAULT: &str = "hubcache.lock";

const LONG_ABOUT: &str = "\
Run a program against exactly the bytes that a lock file pins, with no network: HF_ENDPOINT, MOZ_MODELS_HUB and \
HUBCACHE_URL lead it to a server of its own on a free port, which is frozen on the lock file. HF_HOME and HF_HUB_CACHE are \
an empty directory of this run, because a client with a warm cache asks for nothing; HF_TOKEN_PATH stays the user's own.

Signals and the exit code are passed through. What was asked for and is not pinned, or not held, is listed at the end \
on stderr, each with the command that helps.

With --record what is not pinned is fetched from the hub, kept, and added to the lock file afterwards, which need not \
exist before: run a test suite once so, review the file, and commit it.

With --faults answers go wrong on purpose, for tests of clients; each of them says so in X-Hubcache-Fault.

Several runs at once share one data directory. A server that runs on it serves them; without one a process is started \
that leaves with the last of them.";

const EXAMPLES: &str = "\
Examples:
  hubcache run --record -- pytest
  hubcache run --lock tests/hubcache.lock -- pytest -x
  hubcache run -- cargo test
  hubcache run --proxy -- node app.mjs

Exit codes: those of the program, 128 and the number of a signal that ended it, 127 where there is no such program; and \
before it has started 65 (no lock file, or not to be read), 66 (no such file), 75 (try again), 78 (the hubs are others than \
those of the process that owns the data directory).";

const JSON_HELP: &str = "\
Print the report at the end as one line of JSON on stderr: exit, missing (what, times, why, remedy), recorded (model, path)";

pub fn command() -> Command {
    let switch = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).action(ArgAction::SetTrue).help(help).display_order(0)
    };
    let file = |name: &'static str, help: &'static str| {
        let arg = Arg::new(name).long(name).value_name("FILE").value_parser(clap::value_parser!(PathBuf));
        arg.help(help).display_order(0)
    };
    let program = Arg::new(COMMAND)
        .value_name("COMMAND")
        .required(true)
        .num_args(1..)
        .trailing_var_arg(true)
        .allow_hyphen_values(true)
        .value_parser(OsStringValueParser::new())
        .help("The program and its arguments");
    let command = Command::new("run")
        .about("Run a program against exactly what a lock file pins")
        .long_about(LONG_ABOUT)
        .after_long_help(EXAMPLES)
        .arg(file(lock::LOCK, "The lock file").default_value(DEFAULT))
        .arg(switch(RECORD, "Fetch what is not pinned from the hub, and add it to the lock file"))
        .arg(switch(
            PROXY,
            "Set the variables of a proxy as well, and those of the certificates to trust, for programs that name the hub",
        ))
        .arg(
            file(FAULTS, "Make answers go wrong on purpose, as the rules of this file say")
                .conflicts_with_all([RECORD, PROXY]),
        )
        .arg(file(REPORT, "Write down what was asked for and missing, a line each: what, how often, why, what helps"))
        .arg(transfer::quiet_arg())
        .arg(json_arg(JSON_HELP))
        .arg(program);
    flags::add(command, Scope::Store)
}

pub fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let config = flags::load(matches, Scope::Store)?.config;
    let path: &PathBuf = matches.get_one(lock::LOCK).expect("it has a default");
    let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
    let records = matches.get_flag(RECORD);
    let quiet = transfer::is_quiet(matches) || matches.get_flag("json");
    let text = text(&path, records)?;
    let pinned = lock::parse(&path, &text)?;
    let report = matches.get_one::<PathBuf>(REPORT).map(|path| Report::create(path)).transpose()?;
    let faults = matches
        .get_one::<PathBuf>(FAULTS)
        .map(|path| faults::rules(path).map(|rules| (path, rules)))
        .transpose()?;
    let wish = Wish { records, intercepts: matches.get_flag(PROXY), ..session::wish(&config, &path, text) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| io_failure("the run cannot be started", &error))?;
    let session = runtime.block_on(Session::open(&config, wish))?;
    if records {
        // Now that there is an owner who stays.
        preload::bring(&config, &pinned, quiet)?;
    }
    let exit = runtime.block_on(supervise(matches, &config, &session, faults))?;
    let after = runtime.block_on(session.end()).and_then(|beyond| {
        tell(matches, &path, &beyond, exit, report)?;
        if records { record::write(&config, &path, &beyond.noted, quiet) } else { Ok(()) }
    });
    match (exit, after) {
        (0, after) => after,
        (code, after) => {
            // The program's own failure is the one to look at first.
            if let Err(failure) = after {
                failure.report();
            }
            Err(Failure::new(Exit::Other(code), ""))
        }
    }
}

/// The lock file; where one is being recorded, it need not be there.
fn text(path: &Path, records: bool) -> Result<String, Failure> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound && records => Ok(Lock::default().print()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Failure::new(
            Exit::NoInput,
            format!("there is no {}; with --record this run writes it", path.display()),
        )),
        Err(error) => Err(io_failure(format_args!("{} cannot be read", path.display()), &error)),
    }
}

/// Runs the program while a session is open: as what it ended.
async fn supervise(
    matches: &ArgMatches,
    config: &Config,
    session: &Session,
    faults: Option<(&PathBuf, Rules)>,
) -> Result<u8, Failure> {
    let scratch = Scratch::new()?;
    let certificates =
        session.place.certificate.as_deref().map(|pem| scratch.certificates(pem)).transpose()?;
    let mut address = session.place.address;
    let mut spoiling = None;
    if let Some((path, rules)) = faults {
        let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let started = Spoiling::start(free, address, rules, config.listen.limits).await?;
        address = started.address;
        spoiling = Some((path, started));
    }
    let url = format!("http://{address}");
    let local = environment::Local { url, port: address.port(), home: scratch.home(), certificates };
    let changes = environment::changes(&local, &|name| std::env::var_os(name));
    let program: Vec<_> = matches.get_many(COMMAND).expect("clap requires it").cloned().collect();
    let exit = child::run(&program, &changes).await?;
    if let Some((path, spoiling)) = spoiling {
        faults::tell(path, &spoiling.stop().await);
    }
    Ok(exit)
}

/// Says what was asked for and not served.
fn tell(
    matches: &ArgMatches,
    path: &Path,
    beyond: &Beyond,
    exit: u8,
    report: Option<Report>,
) -> Result<(), Failure> {
    let Beyond { lacking, noted } = beyond;
    if let Some(report) = report {
        report.write(lacking)?;
    }
    if matches.get_flag("json") {
        let files = noted.iter().filter(|noted| noted.path.is_some());
        let recorded: Vec<_> = files.map(|noted| json!({"model": noted.model, "path": noted.path})).collect();
        eprintln!("{}", json!({"exit": exit, "missing": lacking, "recorded": recorded}));
    } else if !transfer::is_quiet(matches) && !lacking.is_empty() {
        let count = print::count(lacking.len() as u64, "thing");
        eprintln!("hubcache: {count} asked for and not served from {}:", path.display());
        for Lacking { what, times, why, remedy } in lacking {
            let often = if *times == 1 { String::new() } else { format!(" ({times} times)") };
            eprintln!("  {what} {why}{often}\n      {remedy} helps");
        }
    }
    Ok(())
}
