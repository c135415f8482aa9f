//! `hubcache settings`: what is held of Remote Settings, and what operators decide against it.

use std::io::{self, Write};

use clap::{ArgMatches, Command};
use serde_json::{Value, json};

use super::exit::{Exit, Failure, output};
use super::flags::{self, Scope};
use super::history;
use super::ls::json_arg;
use super::print::{self, Table};
use super::reach::{self, Event};
use crate::admin::control;
use crate::model::{EntryKey, Renewal, Task, Timestamp};
use crate::remote_settings::{CollectionStatus, SettingsStatus};

const ABOUT: &str = "Remote Settings: what Mozilla announces for Firefox";

const LONG_ABOUT: &str = "\
Mozilla publishes in signed collections which revision of which model each feature of Firefox uses. The server watches \
them, fetches a new revision before the first Firefox asks for it, lets go of what it replaces, and serves the collections \
to Firefoxes that reach nothing else.";

const SYNC: &str = "\
Ask the server of Remote Settings what has changed, at once, and tell how it stands then. With a server running on the \
data directory it is that which asks; without one this command does, and what is announced is fetched at the next start.

It ends with 75 when the server cannot be asked, and with 65 when a collection was refused.";

const STATUS: &str = "\
Tell how it stands with each collection that is watched: the moment that is held, when the server last said that it is \
the present one, how many records there are, whether its signature is good, and until when Firefox itself takes it. What was \
verified once stays good here after that.

Below are the jobs of announcements that are not done yet, and the models of which all revisions are kept.";

const STATUS_JSON: &str = "\
Print an object: server, roots, watching, polled_at, trouble, left_alone_until, collections (each with collection, \
signed, timestamp, records, verified_at, checked_at, firefox_until, trouble), others, renewals, holds";

const HOLD: &str = "\
Keep all revisions of a model: one that an announcement has superseded is taken back, and nothing of it is dropped. Files \
of announced revisions are still fetched. What Firefox asks for is for Mozilla to say.";

pub fn command() -> Command {
    let sub = |name: &'static str, about: &'static str, long: &'static str, examples: &'static str| {
        Command::new(name).about(about).long_about(long).after_long_help(format!("Examples:\n{examples}"))
    };
    let json = || json_arg("Print an array with an object for each line, as `hubcache history` does");
    let sync = sub("sync", "Ask what has changed, at once", SYNC, "  hubcache settings sync")
        .arg(json_arg(STATUS_JSON));
    let status = sub(
        "status",
        "Tell how it stands with each collection",
        STATUS,
        "  hubcache settings status\n  hubcache settings status --json | jq '.collections[] | {collection, signed}'",
    )
    .arg(json_arg(STATUS_JSON));
    let hold =
        sub("hold", "Keep all revisions of a model", HOLD, "  hubcache settings hold Mozilla/distilvit");
    let release = sub(
        "release",
        "No longer keep all revisions of a model",
        "Take a hold back. What was announced meanwhile is carried out.",
        "  hubcache settings release Mozilla/distilvit",
    );
    let model = || history::model_arg().required(true);
    let commands = [sync, status, hold.arg(model()).arg(json()), release.arg(model()).arg(json())];
    Command::new("settings")
        .about(ABOUT)
        .long_about(LONG_ABOUT)
        .after_long_help("Examples:\n  hubcache settings status\n  hubcache settings sync\n  hubcache settings hold acme/tiny")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands(commands.map(|command| flags::add(command, Scope::Store)))
}

pub fn run(matches: &ArgMatches) -> Result<(), Failure> {
    match matches.subcommand() {
        Some(("sync", m)) => sync(m),
        Some(("status", m)) => show(m, control::Command::Settings).map(drop),
        Some(("hold", m)) => decide(m, |model| control::Command::Hold { model }, "kept already"),
        Some(("release", m)) => decide(m, |model| control::Command::Release { model }, "not held"),
        _ => unreachable!("clap accepts the commands above and requires one"),
    }
}

fn sync(matches: &ArgMatches) -> Result<(), Failure> {
    let status = show(matches, control::Command::Sync)?;
    // It was shown.
    let refused = status.collections.iter().any(|one| one.trouble.is_some());
    match (status.trouble, refused) {
        (Some(_), _) => Err(Failure::new(Exit::TryAgain, "")),
        (None, true) => Err(Failure::new(Exit::Data, "")),
        (None, false) => Ok(()),
    }
}

fn show(matches: &ArgMatches, command: control::Command) -> Result<SettingsStatus, Failure> {
    let config = flags::load(matches, Scope::Store)?.config;
    let mut told = None;
    reach::execute(&config, command, |event| {
        if let Event::Settings(status) = event {
            told = Some(*status);
        }
    })?;
    let nothing = || {
        Failure::new(
            Exit::NoInput,
            "nothing is held of Remote Settings; `hubcache settings sync` asks for it",
        )
    };
    let status = told.ok_or_else(nothing)?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    let written = match matches.get_flag("json") {
        true => writeln!(out, "{:#}", object(&status)),
        false => write(&mut out, &status, Timestamp::now()),
    };
    output(written.and_then(|()| out.flush()))?;
    Ok(status)
}

fn decide(
    matches: &ArgMatches,
    command: impl FnOnce(String) -> control::Command,
    otherwise: &str,
) -> Result<(), Failure> {
    let model = history::model(matches)?.unwrap_or_default();
    let config = flags::load(matches, Scope::Store)?.config;
    let mut happenings = Vec::new();
    reach::execute(&config, command(model.clone()), |event| {
        if let Event::Happened(happening) = event {
            happenings.push(happening);
        }
    })?;
    if happenings.is_empty() {
        return Err(Failure::new(Exit::NoInput, format!("{model} is {otherwise}")));
    }
    history::write(matches.get_flag("json"), &happenings)
}

/// The status as scripts get it: with times as RFC 3339 has them.
fn object(status: &SettingsStatus) -> Value {
    let time = |t: Option<Timestamp>| t.map(print::rfc3339);
    let renewals = status.renewals.iter().map(|(key, renewal)| {
        json!({
            "hub": key.hub,
            "model": key.repo.to_string(),
            "revision": key.revision,
            "task": renewal.task,
            "reason": renewal.reason,
            "tried": renewal.tried,
            "due_at": Some(renewal.due_at).filter(|at| at.0 < u64::MAX).map(print::rfc3339),
            "trouble": renewal.trouble,
        })
    });
    let holds = status.holds.iter().map(|(model, at)| json!({"model": model, "since": print::rfc3339(*at)}));
    json!({
        "server": status.server,
        "roots": status.roots,
        "watching": status.watching,
        "polled_at": time(status.polled_at),
        "trouble": status.trouble,
        "left_alone_until": time(status.left_alone_until),
        "collections": status.collections.iter().map(collection).collect::<Vec<_>>(),
        "others": status.others,
        "renewals": renewals.collect::<Vec<_>>(),
        "holds": holds.collect::<Vec<_>>(),
    })
}

/// A collection as scripts get it.
pub fn collection(one: &CollectionStatus) -> Value {
    let time = |t: Option<Timestamp>| t.map(print::rfc3339);
    json!({
        "collection": one.collection,
        "signed": one.signed,
        "timestamp": one.timestamp,
        "records": one.records,
        "verified_at": time(one.verified_at),
        "checked_at": time(one.checked_at),
        "firefox_until": time(one.firefox_until),
        "trouble": one.trouble,
    })
}

fn write(out: &mut impl Write, status: &SettingsStatus, now: Timestamp) -> io::Result<()> {
    let mut line = |name: &str, value: &str| writeln!(out, "{name:<11}  {value}");
    let way = if status.watching { "watched" } else { "not asked" };
    line("server", &format!("{}, {way}", status.server))?;
    if let Some(at) = status.polled_at {
        line("answered", &format!("{} ({})", print::rfc3339(at), print::ago(at, now)))?;
    }
    if let Some(until) = status.left_alone_until {
        line("left alone", &format!("until {}", print::rfc3339(until)))?;
    }
    if let Some(trouble) = &status.trouble {
        line("trouble", trouble)?;
    }
    if status.others > 0 {
        line("beside", &print::count(status.others, "collection that clients asked for"))?;
    }
    writeln!(out)?;
    table(&status.collections, now).write(out)?;
    for one in &status.collections {
        if let Some(trouble) = &one.trouble {
            writeln!(out, "{}: {trouble}", one.collection)?;
        }
    }
    for (key, renewal) in &status.renewals {
        writeln!(out, "{}", job(key, renewal, now))?;
    }
    for (model, since) in &status.holds {
        writeln!(out, "{model}: all revisions are kept, since {}", print::rfc3339(*since))?;
    }
    Ok(())
}

/// A line for each collection.
pub fn table(collections: &[CollectionStatus], now: Timestamp) -> Table {
    let head = ["COLLECTION", "RECORDS", "OF", "CHECKED", "SIGNATURE", "FIREFOX TAKES IT UNTIL"];
    let mut table = Table::new(&head, &[1]);
    for one in collections {
        let time = |t: Option<Timestamp>| t.map_or_else(|| "-".to_owned(), print::rfc3339);
        table.row(vec![
            one.collection.to_string(),
            one.records.to_string(),
            time(one.timestamp.map(Timestamp)),
            one.checked_at.map_or_else(|| "-".to_owned(), |at| print::ago(at, now)),
            one.signed.name().to_owned(),
            time(one.firefox_until),
        ]);
    }
    table
}

fn job(key: &EntryKey, renewal: &Renewal, now: Timestamp) -> String {
    let what = match &renewal.task {
        Task::Replace { to, .. } => format!("{}:{} {} -> {to}", key.hub, key.repo, key.revision),
        Task::Revalidate => format!("{}:{} {}, to be compared with the hub", key.hub, key.repo, key.revision),
    };
    let why = renewal.trouble.as_ref().map(|trouble| format!("; {trouble}")).unwrap_or_default();
    let when = match renewal.due_at {
        Timestamp(u64::MAX) => "waits".to_owned(),
        at if at <= now => "due".to_owned(),
        at => format!("again at {}", print::rfc3339(at)),
    };
    format!("{what}: {when}, tried {}{why}", print::count(u64::from(renewal.tried), "time"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Hub, HubRoot, OnAnnounce, Repo, RepoKind};
    use crate::remote_settings::Signed;

    #[test]
    fn the_status_is_a_table_with_the_jobs_below() {
        let key = EntryKey {
            hub: Hub::Mozilla,
            root: HubRoot::parse("https://model-hub.mozilla.org").unwrap(),
            repo: Repo { kind: RepoKind::Model, id: "acme/tiny".into() },
            revision: "v1.0".into(),
            path: "v2.0".into(),
        };
        let renewal = Renewal {
            task: Task::Replace { to: "v2.0".into(), how: OnAnnounce::Prefetch },
            reason: "main/x/r".into(),
            under: String::new(),
            begun_at: Timestamp(0),
            tried: 1,
            due_at: Timestamp(3_600_000),
            trouble: Some("nothing is there".into()),
        };
        let one = |name: &str, signed, timestamp| CollectionStatus {
            collection: name.parse().unwrap(),
            signed,
            timestamp,
            records: 3,
            verified_at: timestamp.map(Timestamp),
            checked_at: timestamp.map(Timestamp),
            firefox_until: timestamp.map(Timestamp),
            trouble: None,
        };
        let status = SettingsStatus {
            server: HubRoot::parse("https://settings.example.org/v1").unwrap(),
            roots: vec![],
            watching: true,
            polled_at: Some(Timestamp(0)),
            trouble: None,
            left_alone_until: None,
            collections: vec![one("x", Signed::Good, Some(0)), one("long-name", Signed::Missing, None)],
            others: 0,
            renewals: vec![(key, renewal)],
            holds: vec![("acme/b".into(), Timestamp(0))],
        };
        let mut out = Vec::new();
        write(&mut out, &status, Timestamp(0)).unwrap();
        let want = "\
server       https://settings.example.org/v1, watched
answered     1970-01-01T00:00:00Z (just now)

COLLECTION      RECORDS  OF                    CHECKED   SIGNATURE  FIREFOX TAKES IT UNTIL
main/x                3  1970-01-01T00:00:00Z  just now  good       1970-01-01T00:00:00Z
main/long-name        3  -                     -         missing    -
mozilla:acme/tiny v1.0 -> v2.0: again at 1970-01-01T01:00:00Z, tried 1 time; nothing is there
acme/b: all revisions are kept, since 1970-01-01T00:00:00Z
";
        assert_eq!(String::from_utf8(out).unwrap(), want);
        let object = object(&status);
        assert_eq!(object["renewals"][0]["due_at"], "1970-01-01T01:00:00Z");
        assert_eq!(object["collections"][0]["signed"], "good");
    }
}
