//! `hubcache config`: look at the settings.

use std::io::{self, Write};

use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::{Value, json};

use super::exit::{Failure, output};
use super::flags::{self, Scope};
use super::print;
use crate::config::{Chosen, Key, Raw, Values};

const LONG_ABOUT: &str = "\
Look at the settings. They are read in layers, and what is read later wins: defaults, /etc/hubcache/config.toml, \
/etc/hubcache/conf.d/*.toml, $XDG_CONFIG_HOME/hubcache/config.toml, --config FILE, the environment, flags.";

const CHECK_LONG_ABOUT: &str = "\
Read all settings and list everything that is wrong with them, with file and line; the exit code is 78 then. Nothing \
is started.";

const SHOW_LONG_ABOUT: &str = "\
Print all settings as they are in force, in the form of a settings file. With --origin each is followed by where it \
came from.";

const EXAMPLES: &str = "\
Examples:
  hubcache config check
  hubcache config check --config ./new.toml && sudo cp new.toml /etc/hubcache/config.toml
  hubcache config show --origin
  hubcache config show > config.toml
  hubcache config show --json | jq '.[\"cache.ref_ttl\"].value'";

pub fn command() -> Command {
    let origin = Arg::new("origin")
        .long("origin")
        .action(ArgAction::SetTrue)
        .help("Tell where each value came from")
        .display_order(0);
    let json = Arg::new("json")
        .long("json")
        .action(ArgAction::SetTrue)
        .help("Print an object with value and origin of each key")
        .display_order(0);
    let check = Command::new("check")
        .about("List what is wrong with the settings")
        .long_about(CHECK_LONG_ABOUT)
        .after_long_help(EXAMPLES);
    let show = Command::new("show")
        .about("Print the settings in force")
        .long_about(SHOW_LONG_ABOUT)
        .after_long_help(EXAMPLES)
        .arg(origin)
        .arg(json);
    Command::new("config")
        .about("Look at the settings")
        .long_about(LONG_ABOUT)
        .after_long_help(EXAMPLES)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands([flags::add(check, Scope::All), flags::add(show, Scope::All)])
}

pub fn run(matches: &ArgMatches) -> Result<(), Failure> {
    match matches.subcommand() {
        Some(("check", m)) => check(m),
        Some(("show", m)) => show(m),
        _ => unreachable!("clap accepts the commands above and requires one"),
    }
}

fn check(matches: &ArgMatches) -> Result<(), Failure> {
    let loaded = flags::load(matches, Scope::All)?;
    let mut out = io::stdout().lock();
    let mut list = || {
        for file in &loaded.files {
            writeln!(out, "read {}", file.display())?;
        }
        let files = u64::try_from(loaded.files.len()).unwrap_or(u64::MAX);
        writeln!(out, "the settings are right ({})", print::count(files, "file"))
    };
    output(list())
}

fn show(matches: &ArgMatches) -> Result<(), Failure> {
    let values = flags::load(matches, Scope::All)?.values;
    let mut out = io::BufWriter::new(io::stdout().lock());
    let written = if matches.get_flag("json") {
        let object: serde_json::Map<_, _> =
            values.iter().map(|(key, chosen)| (key.id.to_owned(), as_json(key, chosen))).collect();
        writeln!(out, "{:#}", Value::Object(object))
    } else {
        write_toml(&mut out, &values, matches.get_flag("origin"))
    };
    output(written.and_then(|()| out.flush()))
}

fn as_json(key: &Key, chosen: &Chosen) -> Value {
    let value = match &chosen.raw {
        Raw::Text(text) | Raw::Other(text) => json!(text),
        Raw::Integer(n) => json!(n),
        Raw::Boolean(b) => json!(b),
        Raw::List(items) => json!(items),
    };
    json!({"value": value, "origin": chosen.origin.to_string(), "variable": key.variable(), "flag": format!("--{}", key.flag())})
}

fn write_toml(out: &mut impl Write, values: &Values, with_origin: bool) -> io::Result<()> {
    let mut section = "";
    for (key, chosen) in values.iter() {
        if key.section != section {
            let gap = if section.is_empty() { "" } else { "\n" };
            writeln!(out, "{gap}[{}]", key.section)?;
            section = key.section;
        }
        let line = format!("{} = {}", key.name, chosen.raw.toml());
        match with_origin {
            true => writeln!(out, "{line:<44} # {}", chosen.origin)?,
            false => writeln!(out, "{line}")?,
        }
    }
    Ok(())
}
