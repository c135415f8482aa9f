//! `hubcache lock diff`, and how changes of a lock are shown.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::Path;

use clap::ArgMatches;
use serde_json::{Value, json};

use super::super::exit::{Exit, Failure, output};
use super::super::flags::{self, Scope};
use super::super::print;
use super::super::transfer::{self, Choice};
use super::resolve;
use crate::config::Config;
use crate::model::Timestamp;
use crate::transfer::lock::{
    Change, Difference, Lock, Locked, LockedFile, Piece, PinnedPiece, changes, differences,
};
use crate::transfer::{ModelName, Selection};

pub const BEFORE: &str = "before";
pub const AFTER: &str = "after";

pub fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let config = flags::load(matches, Scope::Store)?.config;
    let text = |name: &str| matches.get_one::<String>(name).expect("clap requires it").as_str();
    let quiet = transfer::is_quiet(matches);
    let (before, after) = (text(BEFORE), text(AFTER));
    let (before, after) = match (named(before)?, named(after)?) {
        (None, None) => (super::read(Path::new(before))?, super::read(Path::new(after))?),
        (Some(before), Some(after)) => {
            // Two revisions of one model are compared as two states of it.
            let under =
                |lock: Locked| Lock { models: BTreeMap::from([(after.clone(), lock)]), ..Lock::default() };
            let choice = Choice::these(Selection::default(), Vec::new());
            let state =
                |config: &Config, name: &ModelName| resolve::resolve(config, name, None, &choice, quiet);
            (under(state(&config, &before)?), under(state(&config, &after)?))
        }
        _ => {
            let why = "two lock files are compared, or two models, and not one with the other";
            return Err(Failure::new(Exit::Usage, why));
        }
    };
    show(&before, &after, matches.get_flag("json"), false)
}

/// The model that a text names; none if it is the name of a file.
fn named(text: &str) -> Result<Option<ModelName>, Failure> {
    let is_model = ["hf:", "moz:", "huggingface:", "mozilla:"].iter().any(|hub| text.starts_with(hub));
    if is_model { transfer::model(text).map(Some) } else { Ok(None) }
}

/// Shows in what two locks differ.
pub fn show(before: &Lock, after: &Lock, as_json: bool, quiet: bool) -> Result<(), Failure> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let written = match (as_json, quiet) {
        (true, _) => writeln!(out, "{:#}", object(before, after)),
        (false, true) => Ok(()),
        (false, false) => write(&mut out, before, after),
    };
    output(written.and_then(|()| out.flush()))
}

fn names<'a>(before: &'a Lock, after: &'a Lock) -> BTreeSet<&'a ModelName> {
    before.models.keys().chain(after.models.keys()).collect()
}

/// The same for people.
pub fn write(out: &mut impl Write, before: &Lock, after: &Lock) -> io::Result<()> {
    let empty = Locked::default();
    let mut any = false;
    for name in names(before, after) {
        let (old, new) = (before.models.get(name), after.models.get(name));
        if old == new {
            continue;
        }
        any = true;
        writeln!(out, "{name}{}", moved(old, new))?;
        for (path, change) in changes(old.unwrap_or(&empty), new.unwrap_or(&empty)) {
            match change {
                Change::Added(file) => writeln!(out, "  + {path}  {}", described(&file))?,
                Change::Removed(file) => writeln!(out, "  - {path}  {}", described(&file))?,
                Change::Changed(old, new) => {
                    writeln!(out, "  ~ {path}  {} -> {}", described(&old), described(&new))?;
                }
            }
        }
    }
    any |= write_settings(out, before, after)?;
    if any { Ok(()) } else { writeln!(out, "nothing has changed") }
}

/// Whether there is anything to say of Remote Settings.
fn write_settings(out: &mut impl Write, before: &Lock, after: &Lock) -> io::Result<bool> {
    let differences = differences(before.settings.as_ref(), after.settings.as_ref());
    if differences.is_empty() {
        return Ok(false);
    }
    let server = |lock: &Lock| lock.settings.as_ref().map(|settings| settings.server.to_string());
    match (server(before), server(after)) {
        (Some(old), Some(new)) if old != new => writeln!(out, "settings:{old} -> {new}")?,
        (None, Some(new)) => writeln!(out, "settings:{new}  new")?,
        (Some(old), None) => writeln!(out, "settings:{old}  removed")?,
        (server, _) => writeln!(out, "settings:{}", server.unwrap_or_default())?,
    }
    for (piece, old, new) in &differences {
        match (old, new) {
            (None, Some(new)) => writeln!(out, "  + {piece}  {}", piece_described(new))?,
            (Some(old), None) => writeln!(out, "  - {piece}  {}", piece_described(old))?,
            (Some(old), Some(new)) => {
                writeln!(out, "  ~ {piece}  {} -> {}", piece_described(old), piece_described(new))?;
            }
            (None, None) => {}
        }
    }
    Ok(true)
}

fn piece_described(piece: &PinnedPiece) -> String {
    let digest = &piece.part.sha256.to_string()[..12];
    match piece.timestamp {
        Some(at) => format!("{} {digest}", print::rfc3339(Timestamp(at))),
        None => format!("{} {digest}", print::size(piece.part.size)),
    }
}

fn moved(old: Option<&Locked>, new: Option<&Locked>) -> String {
    let commit =
        |locked: Option<&Locked>| locked.and_then(|l| l.commit.as_ref()).map(|c| c.as_str()[..12].to_owned());
    match (old, new) {
        (None, _) => commit(new).map(|c| format!("  new, at {c}")).unwrap_or_else(|| "  new".to_owned()),
        (_, None) => "  removed".to_owned(),
        _ => match (commit(old), commit(new)) {
            (Some(old), Some(new)) if old != new => format!("  {old} -> {new}"),
            _ => String::new(),
        },
    }
}

fn described(file: &LockedFile) -> String {
    format!("{} {} ({})", print::size(file.size), &file.sha256.to_string()[..12], file.from.name())
}

/// The same for scripts.
pub fn object(before: &Lock, after: &Lock) -> Value {
    let empty = Locked::default();
    let changed =
        names(before, after).into_iter().filter(|name| before.models.get(name) != after.models.get(name));
    let models = changed.map(|name| {
        let (old, new) = (before.models.get(name), after.models.get(name));
        let file =
            |file: &LockedFile| json!({"size": file.size, "sha256": file.sha256, "from": file.from.name()});
        let files = changes(old.unwrap_or(&empty), new.unwrap_or(&empty));
        let files = files.into_iter().map(|(path, change)| match change {
            Change::Added(new) => json!({"path": path, "change": "added", "after": file(&new)}),
            Change::Removed(old) => json!({"path": path, "change": "removed", "before": file(&old)}),
            Change::Changed(old, new) => {
                json!({"path": path, "change": "changed", "before": file(&old), "after": file(&new)})
            }
        });
        json!({
            "model": name.to_string(),
            "from": old.and_then(|l| l.commit.as_ref()),
            "to": new.and_then(|l| l.commit.as_ref()),
            "files": files.collect::<Vec<_>>(),
        })
    });
    let settings = differences(before.settings.as_ref(), after.settings.as_ref());
    let settings: Vec<Value> = settings.into_iter().map(difference).collect();
    json!({"models": models.collect::<Vec<_>>(), "settings": settings})
}

fn difference((piece, before, after): Difference) -> Value {
    let kind = match &piece {
        Piece::Root => "root",
        Piece::Startup => "startup",
        Piece::Snapshot(_) => "snapshot",
        Piece::Chain(_) => "chain",
        Piece::Attachment(_) => "attachment",
    };
    let name = match piece {
        Piece::Root | Piece::Startup => None,
        Piece::Snapshot(collection) => Some(collection.to_string()),
        Piece::Chain(name) | Piece::Attachment(name) => Some(name),
    };
    let change = match (before, after) {
        (None, _) => "added",
        (_, None) => "removed",
        _ => "changed",
    };
    let pinned = |piece: Option<PinnedPiece>| {
        let told = |PinnedPiece { timestamp, part }| json!({"timestamp": timestamp, "size": part.size, "sha256": part.sha256});
        piece.map(told)
    };
    json!({"kind": kind, "name": name, "change": change, "before": pinned(before), "after": pinned(after)})
}
