//! Both ends of the wire for `benches/side_by_side`: clients, origins, and the store by itself.
//!
//! Every command prints JSON. `cargo bench` runs this without a command, and gets the help.

mod bucket;
mod content;
mod http;
mod idle;
mod load;
mod origin;
mod store;

use std::error::Error;
use std::fs::File;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use hubcache::model::HubRoot;

use content::{Content, hex};
use http::Place;
use load::Check;

type Failed = Box<dyn Error>;

/// What one write gives to a file that is made.
const MADE_WRITE: usize = 1 << 20;

fn main() -> ExitCode {
    let mut command = command();
    let matches = command.clone().get_matches();
    let done = match matches.subcommand() {
        Some(("make", m)) => make(m),
        Some(("load", m)) => loads(m),
        Some(("origin", m)) => origin(m),
        Some(("idle", m)) => idle(m),
        Some(("entries", m)) => entries(m),
        Some(("store-write", m)) => store_write(m),
        _ => command.print_help().map_err(Into::into),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("wire: {e}");
            ExitCode::FAILURE
        }
    }
}

fn command() -> Command {
    // cargo gives this to every bench.
    let bench = Arg::new("bench").long("bench").action(ArgAction::SetTrue).hide(true);
    Command::new("wire")
        .about("Both ends of the wire for benches/side_by_side")
        .arg(bench)
        .subcommand(make_command())
        .subcommand(load_command())
        .subcommand(origin_command())
        .subcommand(idle_command())
        .subcommand(entries_command())
        .subcommand(store_write_command())
}

fn make_command() -> Command {
    let command = Command::new("make").about("Write one of the files to the disk, and tell its digest");
    command.arg(positional("FILE")).args(content_args())
}

fn load_command() -> Command {
    Command::new("load")
        .about("Download a file with many clients at the same time, and compare what comes")
        .arg(positional("URL"))
        .args(content_args())
        .arg(number("clients", "1", "How many clients"))
        .arg(number("stagger", "0", "Milliseconds between the starts of two clients"))
        .arg(number(
            "ranges",
            "0",
            "Closed ranges that each client fetches at the same time; 0: the whole file",
        ))
        .arg(
            text("check", "sample", "What is compared: length, sample or all")
                .value_parser(["length", "sample", "all"]),
        )
        .arg(number("slow", "0", "How many of the clients are slow until the others have ended"))
        .arg(number("rate", "5000000", "Bytes a second that a slow client takes"))
        .arg(number("timeout", "600", "Seconds after which everything has ended"))
}

fn origin_command() -> Command {
    Command::new("origin")
        .about("Serve the files as a far, slow or failing hub would")
        .arg(text("listen", "127.0.0.1:0", "Where to listen"))
        .arg(number("files", "1", "How many files there are"))
        .arg(number("size", "0", "Bytes in each").required(true))
        .arg(number("round-trip", "0", "Milliseconds before a connection is heard, and before each head"))
        .arg(optional("rate-connection", "Bytes a second on one connection"))
        .arg(optional("rate-total", "Bytes a second in all"))
        .arg(optional("die-at", "Cut all connections when this byte of a file is first sent"))
        .arg(Arg::new("no-ranges").long("no-ranges").action(ArgAction::SetTrue).help("Ignore Range"))
}

fn idle_command() -> Command {
    Command::new("idle")
        .about("Open connections, ask once on each, and hold them until standard input ends")
        .arg(positional("URL"))
        .arg(number("connections", "1", "How many"))
}

fn entries_command() -> Command {
    Command::new("entries")
        .about("Make a data directory with many entries")
        .arg(positional("DIR"))
        .arg(text("root", "", "The hub that they are of").required(true))
        .arg(number("count", "1", "How many entries"))
        .args(content_args())
}

fn store_write_command() -> Command {
    let command =
        Command::new("store-write").about("Write a file through the store, and a plain one beside it");
    command.arg(positional("DIR")).args(content_args())
}

fn positional(name: &'static str) -> Arg {
    Arg::new(name).required(true)
}

fn text(name: &'static str, default: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).default_value(default).help(help)
}

fn number(name: &'static str, default: &'static str, help: &'static str) -> Arg {
    text(name, default, help).value_parser(value_parser!(u64))
}

fn optional(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_parser(value_parser!(u64)).help(help)
}

fn content_args() -> [Arg; 2] {
    [number("content", "0", "Which of the files it is"), number("size", "0", "Its bytes").required(true)]
}

fn given(matches: &ArgMatches, name: &str) -> u64 {
    *matches.get_one(name).expect("it has a default, or is required")
}

fn count(matches: &ArgMatches, name: &str) -> Result<u32, Failed> {
    u32::try_from(given(matches, name)).map_err(|_| format!("--{name} is too large").into())
}

fn word<'a>(matches: &'a ArgMatches, name: &str) -> &'a str {
    matches.get_one::<String>(name).expect("it has a default, or is required")
}

fn content(matches: &ArgMatches) -> Content {
    Content { number: given(matches, "content"), size: given(matches, "size") }
}

fn make(matches: &ArgMatches) -> Result<(), Failed> {
    let content = content(matches);
    content.write_to(&mut File::create(word(matches, "FILE"))?, MADE_WRITE)?;
    println!("{}", serde_json::json!({"sha256": hex(&content.sha256())}));
    Ok(())
}

fn loads(matches: &ArgMatches) -> Result<(), Failed> {
    let check = match word(matches, "check") {
        "all" => Check::All,
        "length" => Check::Length,
        _ => Check::Sample,
    };
    let plan = load::Plan {
        place: Place::parse(word(matches, "URL"))?,
        content: content(matches),
        clients: count(matches, "clients")?,
        stagger: Duration::from_millis(given(matches, "stagger")),
        ranges: count(matches, "ranges")?,
        check,
        slow: count(matches, "slow")?,
        rate: given(matches, "rate").max(1),
        timeout: Duration::from_secs(given(matches, "timeout")),
    };
    println!("{}", load::run(&plan));
    Ok(())
}

fn origin(matches: &ArgMatches) -> Result<(), Failed> {
    let optional = |name| matches.get_one::<u64>(name).copied();
    origin::run(origin::Shape {
        listen: word(matches, "listen").to_owned(),
        files: given(matches, "files"),
        size: given(matches, "size"),
        round_trip: Duration::from_millis(given(matches, "round-trip")),
        rate_connection: optional("rate-connection"),
        rate_total: optional("rate-total"),
        die_at: optional("die-at"),
        ranges: !matches.get_flag("no-ranges"),
    })?;
    Ok(())
}

fn idle(matches: &ArgMatches) -> Result<(), Failed> {
    idle::run(&Place::parse(word(matches, "URL"))?, count(matches, "connections")?)?;
    Ok(())
}

fn entries(matches: &ArgMatches) -> Result<(), Failed> {
    let root = HubRoot::parse(word(matches, "root"))?;
    let dir = Path::new(word(matches, "DIR"));
    let made = store::entries(dir, &root, given(matches, "count"), content(matches));
    println!("{}", runtime()?.block_on(made)?);
    Ok(())
}

fn store_write(matches: &ArgMatches) -> Result<(), Failed> {
    let written = store::write(Path::new(word(matches, "DIR")), content(matches));
    println!("{}", runtime()?.block_on(written)?);
    Ok(())
}

fn runtime() -> Result<tokio::runtime::Runtime, std::io::Error> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}
