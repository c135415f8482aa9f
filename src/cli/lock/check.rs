//! `hubcache lock check`: whether what is held is what is pinned.

use std::collections::HashSet;
use std::io::{self, Write};

use clap::ArgMatches;
use serde_json::json;

use super::super::exit::{Exit, Failure, output};
use super::super::flags::{self, Scope};
use super::super::holdings::{held, held_settings, selector};
use super::super::print::{self, ProgressLine};
use super::super::reach::{self, Event};
use super::super::transfer;
use crate::admin::control::{Command, Selector};
use crate::config::Config;
use crate::model::{Hub, LockedSettings, Resource};
use crate::transfer::ModelName;
use crate::transfer::lock::Locked;

pub const QUICK: &str = "quick";
/// How parts of Remote Settings are shown that only their own time had.
const PARTS: &str = "settings:locked/";

/// What differs, by files.
#[derive(Default)]
struct Found {
    checked: u64,
    missing: Vec<String>,
    differs: Vec<String>,
    damaged: Vec<String>,
}

pub fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let config = flags::load(matches, Scope::Store)?.config;
    let lock = super::read(super::path(matches))?;
    let quiet = transfer::is_quiet(matches) || matches.get_flag("json");
    let mut found = Found::default();
    for (name, locked) in &lock.models {
        compare(&config, name, locked, &mut found)?;
        if !matches.get_flag(QUICK) {
            read(&config, name, locked, quiet, &mut found)?;
        }
    }
    if let Some(settings) = &lock.settings {
        compare_settings(&config, settings, &mut found)?;
        if !matches.get_flag(QUICK) {
            read_settings(&config, settings, quiet, &mut found)?;
        }
    }
    let ok = found.missing.is_empty() && found.differs.is_empty() && found.damaged.is_empty();
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut write = || {
        let Found { checked, missing, differs, damaged } = &found;
        if matches.get_flag("json") {
            let object = json!({"ok": ok, "checked": checked, "missing": missing, "differs": differs, "damaged": damaged});
            writeln!(out, "{object:#}")?;
            return out.flush();
        }
        for (what, files) in [("missing", missing), ("differs", differs), ("damaged", damaged)] {
            files.iter().try_for_each(|file| writeln!(out, "{what}  {file}"))?;
        }
        if ok && !transfer::is_quiet(matches) {
            writeln!(out, "{} as pinned", print::count(*checked, "file"))?;
        }
        out.flush()
    };
    output(write())?;
    if ok { Ok(()) } else { Err(Failure::new(Exit::Data, remedy(&found))) }
}

fn remedy(found: &Found) -> String {
    match found.damaged.is_empty() && found.differs.is_empty() {
        true if found.missing.iter().any(|file| file.starts_with(PARTS)) => {
            "`hubcache preload --lock FILE` brings what is missing; of Remote Settings a server has only the present state, \
             which `hubcache preload --firefox --lock FILE` pins"
                .to_owned()
        }
        true => "`hubcache preload --lock FILE` brings what is missing".to_owned(),
        false => "`hubcache rm` takes away what is wrong, and `hubcache preload --lock FILE` brings it again"
            .to_owned(),
    }
}

/// What the index says.
fn compare(config: &Config, name: &ModelName, locked: &Locked, found: &mut Found) -> Result<(), Failure> {
    let held = held(config, name, locked.kept_at(name))?;
    for (path, file) in &locked.files {
        found.checked += 1;
        match held.get(path) {
            None => found.missing.push(format!("{name}/{path}")),
            Some(digests) if !digests.contains(&file.sha256) => found.differs.push(format!("{name}/{path}")),
            Some(_) => {}
        }
    }
    Ok(())
}

/// What the bytes are.
fn read(
    config: &Config,
    name: &ModelName,
    locked: &Locked,
    quiet: bool,
    found: &mut Found,
) -> Result<(), Failure> {
    let selector = selector(name, locked.kept_at(name));
    let line = ProgressLine::new("reading", quiet);
    reach::execute(config, Command::Verify { selector }, |event| match event {
        Event::Damaged(row, _) if locked.files.contains_key(&row.key.path) => {
            found.damaged.push(format!("{name}/{}", row.key.path));
        }
        Event::Progress(progress) => line.show(progress),
        _ => {}
    })?;
    Ok(())
}

/// What the index says of Remote Settings.
fn compare_settings(config: &Config, settings: &LockedSettings, found: &mut Found) -> Result<(), Failure> {
    let held = held_settings(config)?;
    for (file, size) in settings.files() {
        found.checked += 1;
        match held.get(&file).map(|row| &row.entry) {
            None => found.missing.push(file.to_string()),
            Some(entry)
                if (entry.size, entry.blob.to_string().as_str()) != (size, file.revision.as_str()) =>
            {
                found.differs.push(file.to_string());
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// What its bytes are.
fn read_settings(
    config: &Config,
    settings: &LockedSettings,
    quiet: bool,
    found: &mut Found,
) -> Result<(), Failure> {
    let pinned: HashSet<Resource> = settings.files().into_iter().map(|(file, _)| file).collect();
    let selector = Selector { hub: Some(Hub::Settings), ..Selector::default() };
    let line = ProgressLine::new("reading", quiet);
    reach::execute(config, Command::Verify { selector }, |event| match event {
        Event::Damaged(row, _) if pinned.contains(&row.key.resource()) => {
            found.damaged.push(row.key.resource().to_string());
        }
        Event::Progress(progress) => line.show(progress),
        _ => {}
    })?;
    Ok(())
}
