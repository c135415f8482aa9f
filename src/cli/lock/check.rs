//! `hubcache lock check`: whether what is held is what is pinned.

use std::io::{self, Write};

use clap::ArgMatches;
use serde_json::json;

use super::super::exit::{Exit, Failure, output};
use super::super::flags::{self, Scope};
use super::super::holdings::{held, selector};
use super::super::print::{self, ProgressLine};
use super::super::reach::{self, Event};
use super::super::transfer;
use crate::admin::control::Command;
use crate::config::Config;
use crate::transfer::ModelName;
use crate::transfer::lock::Locked;

pub const QUICK: &str = "quick";

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
    let mut found = Found::default();
    for (name, locked) in &lock.models {
        compare(&config, name, locked, &mut found)?;
        if !matches.get_flag(QUICK) {
            read(&config, name, locked, transfer::is_quiet(matches) || matches.get_flag("json"), &mut found)?;
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
