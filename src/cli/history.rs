//! `hubcache history`: what happened to a model.

use std::io::{self, Write};

use clap::{Arg, ArgMatches, Command};
use serde_json::{Value, json};

use super::exit::{Exit, Failure, output};
use super::flags::{self, Scope};
use super::ls::json_arg;
use super::print::{self, Table};
use super::reach::{self, Event};
use super::target;
use crate::admin::control;
use crate::model::Happening;

const LONG_ABOUT: &str = "\
Tell what happened to a model, or to all, the oldest first: which revision was announced in the place of which, what was \
fetched of it, what was missing, what was superseded, kept or dropped and why, what operators decided, and which files were found damaged.

It works while the server runs (it asks the server) and while it does not (it opens the data directory).";

const EXAMPLES: &str = "\
Examples:
  hubcache history Mozilla/distilvit
  hubcache history
  hubcache history --json | jq -r 'map(select(.event == \"superseded\"))[] | \"\\(.model) \\(.revision) \\(.to)\"'";

const MODEL: &str = "model";

/// The argument that names a model.
pub fn model_arg() -> Arg {
    Arg::new(MODEL).value_name("MODEL").help("Which model: ORG/MODEL")
}

/// The model that was given.
///
/// # Errors
/// When it is none.
pub fn model(matches: &ArgMatches) -> Result<Option<String>, Failure> {
    let Some(text) = matches.get_one::<String>(MODEL) else { return Ok(None) };
    let selector = target::parsed(text)?;
    match (selector.repo, selector.revision, selector.path) {
        (Some(repo), None, None) => Ok(Some(repo)),
        _ => Err(Failure::new(Exit::Usage, format!("{text:?} is no model; expected ORG/MODEL"))),
    }
}

pub fn command() -> Command {
    let command = Command::new("history")
        .about("Tell what happened to a model")
        .long_about(LONG_ABOUT)
        .after_long_help(EXAMPLES)
        .arg(model_arg())
        .arg(json_arg(
            "Print an array with an object for each line: at, event, model, hub, revision, to, detail",
        ));
    flags::add(command, Scope::Store)
}

pub fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let model = model(matches)?;
    let config = flags::load(matches, Scope::Store)?.config;
    let mut happenings = Vec::new();
    reach::execute(&config, control::Command::History { model: model.clone() }, |event| {
        if let Event::Happened(happening) = event {
            happenings.push(happening);
        }
    })?;
    write(matches.get_flag("json"), &happenings)?;
    match model {
        Some(model) if happenings.is_empty() => {
            Err(Failure::new(Exit::NoInput, format!("nothing has happened to {model}")))
        }
        _ => Ok(()),
    }
}

/// Writes lines of the history.
pub fn write(as_json: bool, happenings: &[Happening]) -> Result<(), Failure> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let written = match as_json {
        true => print::write_json_array(&mut out, happenings.iter().map(object)),
        false => table(happenings).write(&mut out),
    };
    output(written.and_then(|()| out.flush()))
}

fn object(happening: &Happening) -> Value {
    let mut object = json!(happening);
    object["at"] = print::rfc3339(happening.at).into();
    object
}

fn table(happenings: &[Happening]) -> Table {
    let mut table = Table::new(&["WHEN", "EVENT", "MODEL", "REVISION", "DETAIL"], &[]);
    for Happening { at, event, model, hub, revision, to, detail } in happenings {
        let model = hub.map_or_else(|| model.clone(), |hub| format!("{hub}:{model}"));
        let revision = match (revision, to) {
            (Some(revision), Some(to)) => format!("{revision} -> {to}"),
            (Some(one), None) | (None, Some(one)) => one.clone(),
            (None, None) => "-".to_owned(),
        };
        table.row(vec![print::rfc3339(*at), event.name().to_owned(), model, revision, detail.clone()]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Event, Hub, Timestamp};

    #[test]
    fn a_line_says_what_became_of_which_revision() {
        let happening = |event, hub, to: Option<&str>| Happening {
            at: Timestamp(0),
            event,
            model: "acme/tiny".into(),
            hub,
            revision: Some("v1.0".into()),
            to: to.map(str::to_owned),
            detail: "why".into(),
        };
        let lines = [
            happening(Event::Announced, None, Some("v2.0")),
            happening(Event::Dropped, Some(Hub::Mozilla), None),
        ];
        let mut out = Vec::new();
        table(&lines).write(&mut out).unwrap();
        let want = "\
WHEN                  EVENT      MODEL              REVISION      DETAIL
1970-01-01T00:00:00Z  announced  acme/tiny          v1.0 -> v2.0  why
1970-01-01T00:00:00Z  dropped    mozilla:acme/tiny  v1.0          why
";
        assert_eq!(String::from_utf8(out).unwrap(), want);
    }
}
