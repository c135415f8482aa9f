//! `hubcache pin` and `hubcache unpin`: revisions that nothing drops by itself.

use std::time::Duration;

use clap::{Arg, ArgMatches, Command};

use super::exit::{Exit, Failure};
use super::flags::{self, Scope};
use super::ls::json_arg;
use super::reach::{self, Event};
use super::{history, target};
use crate::admin::control;
use crate::model::quantity::{self, BadQuantity};
use crate::remote_settings::LOCKED;

pub const PIN: &str = "pin";
pub const UNPIN: &str = "unpin";

const OWNER: &str = "owner";
const REASON: &str = "reason";
const FOR: &str = "for";
const MORE: &str = "hubcache pin acme/tiny@v1.0 --owner search-team --reason 'release 12' --for 30d";

const LONG_ABOUT: &str = "\
Pin revisions of models, so that no announcement has them dropped and nothing of them goes when room is needed; `unpin` \
takes that back. What the deny list of Remote Settings matches is blocked while it is pinned, and kept.

A pin says who keeps the revision, what for, and for how long: `ls --json`, `show` and `history` tell. After its time it \
is no pin any more. A revision that is pinned already is pinned anew.

It works while the server runs (it asks the server) and while it does not (it opens the data directory).";

pub fn command(name: &'static str) -> Command {
    let about = match name {
        PIN => "Keep revisions, whatever is announced and whatever needs room",
        _ => "No longer keep revisions",
    };
    let mut examples =
        format!("Examples:\n  hubcache {name} acme/tiny@v1.0\n  hubcache {name} mozilla:acme/tiny");
    if name == PIN {
        examples.push_str(&format!("\n  {MORE}"));
    }
    let mut command = Command::new(name)
        .about(about)
        .long_about(LONG_ABOUT)
        .after_long_help(format!("{}\n\n{examples}", target::EXPLAINED))
        .arg(target::arg().required(true))
        .arg(json_arg("Print an array with an object for each revision, as `hubcache history` does"));
    if name == PIN {
        command = command.args([
            word(OWNER, "NAME", "Who keeps them; without it: the user who runs this"),
            word(REASON, "TEXT", "What for"),
            word(FOR, "DURATION", "For how long: 12h, 30d; without it: for good").value_parser(duration),
        ]);
    }
    flags::add(command, Scope::Store)
}

/// The command that pins what a lock names.
pub fn locked(selector: control::Selector) -> control::Command {
    let (owner, reason) = (user().unwrap_or_default(), LOCKED.to_owned());
    control::Command::Pin { selector, owner, reason, lasting_ms: None }
}

fn word(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value).help(help).display_order(0)
}

fn duration(text: &str) -> Result<Duration, String> {
    let refused = |hint: Option<String>| match hint {
        Some(hint) => format!("expected {}; {hint}", quantity::DURATION_EXPECTED),
        None => format!("expected {}", quantity::DURATION_EXPECTED),
    };
    quantity::duration(text).map_err(|BadQuantity(hint)| refused(hint))
}

/// The name of whoever runs this, as the shell has it.
fn user() -> Option<String> {
    let said = ["USER", "LOGNAME"].into_iter().find_map(|name| std::env::var(name).ok());
    said.filter(|name| !name.is_empty())
}

pub fn run(name: &str, matches: &ArgMatches) -> Result<(), Failure> {
    let selector = target::given(matches)?;
    let config = flags::load(matches, Scope::Store)?.config;
    let command = match name {
        PIN => {
            let text = |name: &str| matches.get_one::<String>(name).cloned();
            let lasting = matches.get_one::<Duration>(FOR);
            control::Command::Pin {
                selector,
                owner: text(OWNER).or_else(user).unwrap_or_default(),
                reason: text(REASON).unwrap_or_default(),
                lasting_ms: lasting.map(|d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX)),
            }
        }
        _ => control::Command::Unpin { selector },
    };
    let mut happenings = Vec::new();
    reach::execute(&config, command, |event| {
        if let Event::Happened(happening) = event {
            happenings.push(happening);
        }
    })?;
    if happenings.is_empty() {
        let what = if name == PIN { "held" } else { "pinned" };
        return Err(Failure::new(Exit::NoInput, format!("nothing is {what} of {}", target::text(matches))));
    }
    history::write(matches.get_flag("json"), &happenings)
}
