//! `hubcache preload`: brings models here before anybody asks for them.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::{Value, json};

use super::exit::{Exit, Failure, output};
use super::flags::{self, Scope};
use super::holdings::{Holdings, held, selector};
use super::lock;
use super::ls::json_arg;
use super::print::{self, Table};
use super::reach;
use super::transfer::{self, Choice, Watcher};
use crate::admin::control::{self, Brought, Wanted};
use crate::config::Config;
use crate::model::{Digest, Sha256};
use crate::transfer::ModelName;
use crate::transfer::lock::Lock;

const LONG_ABOUT: &str = "\
Bring models here before anybody asks for them: those that are named, or everything that a lock file pins. What is held \
already is not fetched again, so an interrupted preload goes on where it stopped.

Revisions that a lock file pins are kept as `hubcache pin` keeps them, whatever is announced; `hubcache unpin` ends that.

With a server running on the data directory it is that which fetches; without one this command does.";

const EXAMPLES: &str = "\
Examples:
  hubcache preload hf:openai-community/gpt2 --include '*.json' --include model.safetensors
  hubcache preload moz:Mozilla/distilvit@v0.5.0 --dtype q8
  hubcache preload --lock hubcache.lock
  hubcache preload --plan --lock hubcache.lock";

const JSON_HELP: &str = "\
Print an object: files (each with model, path, size, sha256, held, and what went wrong), files_count, total_bytes, \
to_fetch_bytes, free_bytes, fits";

const MODELS: &str = "models";
const PLAN: &str = "plan";

pub fn command() -> Command {
    let models = Arg::new(MODELS)
        .value_name("MODEL")
        .action(ArgAction::Append)
        .required_unless_present(lock::LOCK)
        .help("Which models: hf:ID[@REVISION] or moz:ORG/MODEL[@REVISION]");
    let plan = Arg::new(PLAN)
        .long(PLAN)
        .action(ArgAction::SetTrue)
        .help("Only list the files, what is here already, and whether the rest fits; nothing is fetched")
        .display_order(0);
    let lock = Arg::new(lock::LOCK)
        .long(lock::LOCK)
        .value_name("FILE")
        .value_parser(clap::value_parser!(PathBuf))
        .help("Bring what this lock file pins")
        .display_order(0);
    let command = Command::new("preload")
        .about("Bring models here before anybody asks for them")
        .long_about(LONG_ABOUT)
        .after_long_help(format!("{}\n\n{EXAMPLES}", transfer::EXPLAINED))
        .arg(models)
        .arg(lock)
        .arg(plan)
        .args(transfer::choice_args())
        .arg(transfer::quiet_arg())
        .arg(json_arg(JSON_HELP));
    flags::add(command, Scope::Store)
}

/// A file that is to be here.
struct Planned {
    model: ModelName,
    wanted: Wanted,
    size: Option<u64>,
    held: bool,
    /// Whether it may be missing at the hub.
    is_optional: bool,
}

pub fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let config = flags::load(matches, Scope::Store)?.config;
    let quiet = transfer::is_quiet(matches);
    let say = |text: &str| {
        if !quiet {
            eprintln!("{text}");
        }
    };
    let mut plan = Vec::new();
    if let Some(path) = matches.get_one::<PathBuf>(lock::LOCK) {
        plan.extend(of_lock(&config, &lock::read(path)?)?);
    }
    let choice = Choice::of(matches)?;
    for text in matches.get_many::<String>(MODELS).into_iter().flatten() {
        plan.extend(of_hub(&config, &transfer::model(text)?, &choice, &say)?);
    }
    // Two names of one commit have the same files.
    let mut seen = BTreeSet::new();
    plan.retain(|Planned { model, wanted, .. }| {
        let name = (model.hub, model.repo.clone(), wanted.revision.clone(), wanted.path.clone());
        seen.insert(name)
    });
    let as_json = matches.get_flag("json");
    if matches.get_flag(PLAN) {
        return show(&config, &plan, as_json);
    }
    let files: Vec<Wanted> = plan.iter().map(|file| file.wanted.clone()).collect();
    let to_come =
        plan.iter().filter(|file| !file.held).filter_map(|file| file.size).fold(0, u64::saturating_add);
    let brought = transfer::bring(&config, &files, &mut Watcher::new(quiet || as_json, to_come))?;
    if let Some(path) = matches.get_one::<PathBuf>(lock::LOCK) {
        keep(&config, &lock::read(path)?)?;
    }
    report(&plan, &brought, as_json, quiet)
}

/// Brings what a lock pins and is not here, and keeps its revisions whatever is announced.
pub fn bring(config: &Config, lock: &Lock, quiet: bool) -> Result<(), Failure> {
    let mut plan = of_lock(config, lock)?;
    plan.retain(|file| !file.held);
    let files: Vec<Wanted> = plan.iter().map(|file| file.wanted.clone()).collect();
    let to_come = plan.iter().filter_map(|file| file.size).fold(0, u64::saturating_add);
    let brought = transfer::bring(config, &files, &mut Watcher::new(quiet, to_come))?;
    keep(config, lock)?;
    troubles(&plan, &brought)
}

/// What a lock file pins.
fn of_lock(config: &Config, lock: &Lock) -> Result<Vec<Planned>, Failure> {
    let mut plan = Vec::new();
    for (model, locked) in &lock.models {
        let revision = locked.kept_at(model);
        let held = held(config, model, revision)?;
        for (path, file) in &locked.files {
            let wanted = wanted(model, revision, path, Some(file.sha256));
            let held = held.get(path).is_some_and(|digests| digests.contains(&file.sha256));
            plan.push(Planned {
                model: model.clone(),
                wanted,
                size: Some(file.size),
                held,
                is_optional: false,
            });
        }
    }
    Ok(plan)
}

/// Pins the revisions of a lock that are not pinned yet.
fn keep(config: &Config, lock: &Lock) -> Result<(), Failure> {
    for (model, locked) in &lock.models {
        let selector = selector(model, locked.kept_at(model));
        let held = Holdings::read(config, control::Command::Ls { selector: selector.clone() })?;
        if held.files.iter().any(|row| row.decided.pinned_at.is_none()) {
            reach::execute(config, control::Command::Pin { selector }, |_| {})?;
        }
    }
    Ok(())
}

/// What a hub has of a model.
fn of_hub(
    config: &Config,
    model: &ModelName,
    choice: &Choice,
    say: &dyn Fn(&str),
) -> Result<Vec<Planned>, Failure> {
    let survey = transfer::survey(config, model, choice, say)?;
    let revision = survey.commit.as_ref().map_or(model.revision.as_str(), |commit| commit.as_str());
    let held = held(config, model, revision)?;
    let chosen = survey.files.into_iter().filter(|file| choice.has(&file.path));
    let planned = chosen.map(|file| {
        let sha256 = match file.digest {
            Some(Digest::Sha256(sha256)) => Some(sha256),
            _ => None,
        };
        Planned {
            model: model.clone(),
            held: held.contains_key(&file.path) && model.revision().is_immutable() || file.held.is_some(),
            wanted: wanted(model, revision, &file.path, sha256),
            size: file.size,
            is_optional: !survey.is_complete,
        }
    });
    Ok(planned.collect())
}

fn wanted(model: &ModelName, revision: &str, path: &str, sha256: Option<Sha256>) -> Wanted {
    Wanted {
        hub: model.hub,
        repo: model.repo.clone(),
        revision: revision.to_owned(),
        path: path.to_owned(),
        sha256,
    }
}

/// Shows what would be done.
fn show(config: &Config, plan: &[Planned], as_json: bool) -> Result<(), Failure> {
    let total: u64 = plan.iter().filter_map(|file| file.size).fold(0, u64::saturating_add);
    let to_fetch: u64 =
        plan.iter().filter(|file| !file.held).filter_map(|file| file.size).fold(0, u64::saturating_add);
    let free = free_bytes(config);
    let fits = free.is_none_or(|free| to_fetch <= free);
    let unknown = plan.iter().filter(|file| !file.held && file.size.is_none()).count();
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut write = || {
        if as_json {
            let files: Vec<Value> = plan.iter().map(|file| object(file, file.held)).collect();
            let summary = json!({
                "files": files,
                "files_count": plan.len(),
                "total_bytes": total,
                "to_fetch_bytes": to_fetch,
                "free_bytes": free,
                "fits": fits,
            });
            writeln!(out, "{summary:#}")?;
            return out.flush();
        }
        let mut table = Table::new(&["FILE", "SIZE", "HERE"], &[1]);
        let mut above = None;
        for file in plan {
            if above != Some(&file.model) {
                table.heading(file.model.to_string());
                above = Some(&file.model);
            }
            let size = file.size.map_or_else(|| "?".to_owned(), print::size);
            let here = if file.held { "yes" } else { "no" };
            table.row(vec![format!("  {}", file.wanted.path), size, here.to_owned()]);
        }
        table.write(&mut out)?;
        let of_unknown =
            if unknown == 0 { String::new() } else { format!(", and {unknown} of unknown size") };
        let room = match free {
            Some(free) if fits => format!("; {} are free", print::size(free)),
            Some(free) => format!("; only {} are free", print::size(free)),
            None => String::new(),
        };
        let (count, size) = (print::count(plan.len() as u64, "file"), print::size(total));
        writeln!(out, "{count}, {size}; {} to fetch{of_unknown}{room}", print::size(to_fetch))?;
        out.flush()
    };
    output(write())?;
    match fits {
        true => Ok(()),
        false => Err(Failure::new(Exit::Io, "it does not fit on the disk of the data directory")),
    }
}

fn object(file: &Planned, held: bool) -> Value {
    json!({
        "model": file.model.to_string(),
        "path": file.wanted.path,
        "size": file.size,
        "sha256": file.wanted.sha256,
        "held": held,
    })
}

/// What may be stored on the disk of the data directory; none where the system does not tell.
fn free_bytes(config: &Config) -> Option<u64> {
    let dir = config.store.dir.ancestors().find(|dir| dir.exists())?;
    let disk = rustix::fs::statvfs(dir).ok()?;
    Some((disk.f_bavail * disk.f_frsize).saturating_sub(config.store.min_free_bytes))
}

/// Tells what was done, and ends as the worst of it says.
fn report(plan: &[Planned], brought: &[Brought], as_json: bool, quiet: bool) -> Result<(), Failure> {
    let is_excused = |at: usize| brought[at].is_missing && plan[at].is_optional;
    let sizes = |was_held: bool| -> (u64, u64) {
        let of = brought.iter().filter(|file| file.trouble.is_none() && file.was_held == was_held);
        of.filter_map(|file| file.entry.as_ref())
            .fold((0, 0), |(n, bytes), entry| (n + 1, bytes + entry.size))
    };
    let ((fetched, fetched_bytes), (held, held_bytes)) = (sizes(false), sizes(true));
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut write = || {
        if as_json {
            let files = brought.iter().filter(|file| !is_excused(file.at)).map(|file| {
                let mut object = object(&plan[file.at], file.was_held);
                if let Some(entry) = &file.entry {
                    object["size"] = entry.size.into();
                    object["sha256"] = json!(entry.blob);
                }
                object["trouble"] = json!(file.trouble);
                object
            });
            let summary = json!({
                "files": files.collect::<Vec<_>>(),
                "fetched": fetched,
                "fetched_bytes": fetched_bytes,
                "held": held,
                "held_bytes": held_bytes,
            });
            writeln!(out, "{summary:#}")?;
        } else if !quiet {
            let (new, old) = (print::count(fetched, "file"), print::count(held, "file"));
            let (new_size, old_size) = (print::size(fetched_bytes), print::size(held_bytes));
            writeln!(out, "fetched {new}, {new_size}; {old}, {old_size}, were held already")?;
        }
        out.flush()
    };
    output(write())?;
    troubles(plan, brought)
}

/// Fails as the worst of what went wrong says.
fn troubles(plan: &[Planned], brought: &[Brought]) -> Result<(), Failure> {
    let is_excused = |at: usize| brought[at].is_missing && plan[at].is_optional;
    let troubles: Vec<usize> =
        (0..brought.len()).filter(|at| brought[*at].trouble.is_some() && !is_excused(*at)).collect();
    if troubles.is_empty() {
        return Ok(());
    }
    let lines = troubles.iter().map(|at| {
        let trouble = brought[*at].trouble.as_deref().unwrap_or_default();
        format!("{}/{}: {trouble}", plan[*at].model, plan[*at].wanted.path)
    });
    let exit = match troubles.as_slice() {
        all if all.iter().any(|at| brought[*at].entry.is_some()) => Exit::Data,
        all if all.iter().all(|at| brought[*at].is_missing) => Exit::NoInput,
        _ => Exit::TryAgain,
    };
    Err(Failure::new(exit, lines.collect::<Vec<_>>().join("\n")))
}
