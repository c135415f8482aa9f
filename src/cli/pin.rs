//! `hubcache pin` and `hubcache unpin`: revisions that nothing drops by itself.

use clap::{ArgMatches, Command};

use super::exit::{Exit, Failure};
use super::flags::{self, Scope};
use super::ls::json_arg;
use super::reach::{self, Event};
use super::{history, target};
use crate::admin::control;

pub const PIN: &str = "pin";
pub const UNPIN: &str = "unpin";

const LONG_ABOUT: &str = "\
Pin revisions of models, so that no announcement has them dropped; `unpin` takes that back. What the deny list of Remote \
Settings matches is blocked while it is pinned, and kept.

It works while the server runs (it asks the server) and while it does not (it opens the data directory).";

pub fn command(name: &'static str) -> Command {
    let about = if name == PIN { "Keep revisions whatever is announced" } else { "No longer keep revisions" };
    let examples =
        format!("Examples:\n  hubcache {name} acme/tiny@v1.0\n  hubcache {name} mozilla:acme/tiny");
    let command = Command::new(name)
        .about(about)
        .long_about(LONG_ABOUT)
        .after_long_help(format!("{}\n\n{examples}", target::EXPLAINED))
        .arg(target::arg().required(true))
        .arg(json_arg("Print an array with an object for each revision, as `hubcache history` does"));
    flags::add(command, Scope::Store)
}

pub fn run(name: &str, matches: &ArgMatches) -> Result<(), Failure> {
    let selector = target::given(matches)?;
    let config = flags::load(matches, Scope::Store)?.config;
    let command = match name {
        PIN => control::Command::Pin { selector },
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
