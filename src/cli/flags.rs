//! Flags that are made of the table of settings.

use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser, ValueParser};
use clap::{Arg, ArgAction, ArgMatches, Command};

use super::exit::Failure;
use crate::config::{self, FlagValue, KEYS, Key, Loaded, Raw, Sources};

/// Sections of settings that a command has flags for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Every section.
    All,
    /// What concerns the data directory and the hubs.
    Store,
    /// What concerns the certificate authority.
    Authority,
    /// What clients have to be told of the server.
    Clients,
    /// Where tokens are.
    Tokens,
}

impl Scope {
    fn has(self, key: &Key) -> bool {
        match self {
            Self::All => true,
            Self::Store => {
                key.section == "store" || key.section == "settings" || key.section.starts_with("hub.")
            }
            Self::Authority => key.id == "store.dir" || key.section == "intercept",
            Self::Tokens => key.id == "access.tokens",
            Self::Clients => {
                Self::Authority.has(key) || ["listen.address", "listen.access"].contains(&key.id)
            }
        }
    }
}

const CONFIG: &str = "config";
const HUB: &str = "hub";
// Beside those with a name of their own: what is shown without asking for everything.
const SHOWN: [&str; 1] = ["log.format"];

/// Gives `command` a flag for every setting in `scope`.
pub fn add(command: Command, scope: Scope) -> Command {
    let config = Arg::new(CONFIG)
        .long("config")
        .value_name("FILE")
        .value_parser(clap::value_parser!(PathBuf))
        .help("A settings file that is read after those of the system and the user")
        .display_order(1);
    let hub = Arg::new(HUB)
        .long("hub")
        .value_name("NAME=URL")
        .action(ArgAction::Append)
        .help("Where a hub is: mozilla=URL or huggingface=URL; can be given for each")
        .display_order(2);
    let hub = matches!(scope, Scope::All | Scope::Store).then_some(hub);
    let settings = KEYS.iter().filter(|key| scope.has(key)).map(flag);
    command.arg(config).args(hub).args(settings).args_override_self(true)
}

/// Reads the settings in all layers, these flags being the last.
///
/// # Errors
/// Everything that is wrong with them.
pub fn load(matches: &ArgMatches, scope: Scope) -> Result<Loaded, Failure> {
    let explicit = matches.get_one::<PathBuf>(CONFIG).cloned();
    let sources = Sources::of_process(explicit, given(matches, scope));
    Ok(config::load(&sources)?)
}

/// The name of a setting's flag, without dashes: the short one where there is one.
fn long(key: &Key) -> String {
    key.alias.map_or_else(|| key.flag(), str::to_owned)
}

fn flag(key: &'static Key) -> Arg {
    let help = key.help.split('\n').map(str::trim).collect::<Vec<_>>().join(" ");
    let help = help.trim();
    let default = match key.default {
        "" => String::new(),
        text => format!("default: {text}; "),
    };
    let variable = key.short_variable().unwrap_or_else(|| key.variable());
    let mut arg = Arg::new(key.id)
        .long(long(key))
        .value_name(key.placeholder)
        .value_parser(text())
        .action(if key.is_list { ArgAction::Append } else { ArgAction::Set })
        .help(format!("{} [{default}{variable}]", help.trim_end_matches('.')))
        .help_heading(format!("Settings of [{}]", key.section));
    if key.alias.is_some() || SHOWN.contains(&key.id) {
        arg = arg.help_heading(None).help(format!("{} [{default}{variable}]", first_sentence(help)));
        arg = arg.long_help(format!("{} [{default}{variable}]", help.trim_end_matches('.')));
    } else {
        arg = arg.hide_short_help(true);
    }
    if key.alias.is_some() {
        arg = arg.visible_alias(key.flag());
    }
    if key.is_switch {
        arg = arg.num_args(0..=1).require_equals(true).default_missing_value("true");
    }
    arg
}

fn first_sentence(help: &str) -> &str {
    help.split(". ").next().unwrap_or(help).trim_end_matches('.')
}

/// Values that are no UTF-8 keep their place in the list of mistakes instead of ending the parser.
fn text() -> ValueParser {
    OsStringValueParser::new().map(|value| value.to_string_lossy().into_owned()).into()
}

/// What was given, in the order of the command line.
fn given(matches: &ArgMatches, scope: Scope) -> Vec<FlagValue> {
    let mut found: Vec<(usize, FlagValue)> = Vec::new();
    for key in KEYS.iter().filter(|key| scope.has(key)) {
        let values: Vec<String> = matches.get_many(key.id).into_iter().flatten().cloned().collect();
        let place = matches.indices_of(key.id).into_iter().flatten().last();
        let raw = match values.as_slice() {
            [one] => Raw::Text(one.clone()),
            _ => Raw::List(values),
        };
        found.extend(place.map(|place| (place, FlagValue::new(format!("--{}", long(key)), key.id, raw))));
    }
    if let Ok(Some(hubs)) = matches.try_get_many::<String>(HUB) {
        let places = matches.indices_of(HUB).into_iter().flatten();
        found.extend(places.zip(hubs.map(|text| FlagValue::hub(text))));
    }
    found.sort_by_key(|(place, _)| *place);
    found.into_iter().map(|(_, flag)| flag).collect()
}
