//! `hubcache preload`: brings models here before anybody asks for them.

mod announced;
mod firefox;
mod needs;
mod outcome;
mod pinning;
mod plan;

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::json;

use super::exit::{Exit, Failure};
use super::flags::{self, Scope};
use super::holdings::{Holdings, held_settings, selector};
use super::lock;
use super::ls::json_arg;
use super::pin;
use super::reach;
use super::transfer::{self, Choice, Watcher};
use crate::admin::control::{self, Selector, Wanted};
use crate::config::Config;
use crate::model::{Decided, Hub, LockedSettings, Resource};
use crate::transfer::lock::Lock;
use plan::Planned;

const LONG_ABOUT: &str = "\
Bring models here before anybody asks for them: those that are named, everything that a lock file pins, or with --firefox \
what the AI of Firefox needs. What is held already is not fetched again, so an interrupted preload goes on where it stopped.

Revisions that a lock file pins are kept as `hubcache pin` keeps them, whatever is announced; `hubcache unpin` ends that.

With --firefox these are the models, tokenizers and processors that the signed collection ml-inference-options of Remote \
Settings names, at the announced revisions and with the weights that their records name; and of Remote Settings the \
collections that are watched, the files attached to them (the runtime among them), the chains of their signatures, and the \
bundle that a new Firefox begins with. Where its server cannot be asked, what is held of it is taken. --feature narrows the \
models.

With --firefox and --lock the lock file is written: it need not exist before. Models that are announced no longer are \
taken out of it and those that people have named stay; models on the command line are pinned as by `hubcache lock add`; the \
features that it has already are brought with those of --feature. The state of Remote Settings that it pins is kept here, \
whatever is announced later.

With a server running on the data directory it is that which fetches; without one this command does.";

const EXAMPLES: &str = "\
Examples:
  hubcache preload hf:openai-community/gpt2 --include '*.json' --include model.safetensors
  hubcache preload moz:Mozilla/distilvit@v0.5.0 --dtype q8
  hubcache preload --lock hubcache.lock
  hubcache preload --plan --lock hubcache.lock
  hubcache preload --firefox --plan
  hubcache preload --firefox --feature pdfjs-alt-text
  hubcache preload --firefox --lock lab.lock hf:openai-community/gpt2

It ends with 65 where files are not what is pinned, or parts of Remote Settings are pinned that are not here and that no \
server has any more; 66 where there is nothing of a name; 69 where Remote Settings is off, or offline with nothing held of \
it; 75 where something could not be had now.";

const JSON_HELP: &str = "\
Print an object: files (each with model, path, size, sha256, held, and what went wrong), files_count, total_bytes, \
to_fetch_bytes, free_bytes, fits; with --firefox also collections, and with --lock what changed in it, as `hubcache lock add` \
does";

const MODELS: &str = "models";
const PLAN: &str = "plan";
const FIREFOX: &str = "firefox";
const FEATURE: &str = "feature";

pub fn command() -> Command {
    let models = Arg::new(MODELS)
        .value_name("MODEL")
        .action(ArgAction::Append)
        .required_unless_present_any([lock::LOCK, FIREFOX])
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
        .help("Bring what this lock file pins; with --firefox, pin in it what is brought")
        .display_order(0);
    let firefox = Arg::new(FIREFOX)
        .long(FIREFOX)
        .action(ArgAction::SetTrue)
        .help("Bring what the AI of Firefox needs")
        .display_order(0);
    let feature = Arg::new(FEATURE)
        .long(FEATURE)
        .value_name("NAME")
        .action(ArgAction::Append)
        .requires(FIREFOX)
        .help("Only models for this feature of Firefox, or for this task")
        .display_order(0);
    let command = Command::new("preload")
        .about("Bring models here before anybody asks for them")
        .long_about(LONG_ABOUT)
        .after_long_help(format!("{}\n\n{EXAMPLES}", transfer::EXPLAINED))
        .arg(models)
        .args([firefox, feature, lock, plan])
        .args(transfer::choice_args())
        .arg(transfer::quiet_arg())
        .arg(json_arg(JSON_HELP));
    flags::add(command, Scope::Store)
}

pub fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let config = flags::load(matches, Scope::Store)?.config;
    if matches.get_flag(FIREFOX) {
        return firefox::run(matches, &config);
    }
    let quiet = transfer::is_quiet(matches);
    let say = |text: &str| {
        if !quiet {
            eprintln!("{text}");
        }
    };
    let path = matches.get_one::<PathBuf>(lock::LOCK);
    let lock = path.map(|path| lock::read(path)).transpose()?.unwrap_or_default();
    let mut plan = plan::of_lock(&config, &lock)?;
    let mut lacking = Vec::new();
    if let Some(settings) = &lock.settings {
        let (attachments, parts) = plan::of_settings(&config, settings)?;
        plan.extend(attachments);
        lacking.extend(parts);
    }
    let choice = Choice::of(matches)?;
    for text in matches.get_many::<String>(MODELS).into_iter().flatten() {
        plan.extend(plan::of_hub(&config, &transfer::model(text)?, &choice, &say)?);
    }
    plan::once(&mut plan);
    let as_json = matches.get_flag("json");
    if matches.get_flag(PLAN) {
        plan::show(&config, &plan, None, as_json)?;
        return not_here(&lacking);
    }
    let brought = transfer::bring(&config, &files(&plan), &mut watcher(quiet || as_json, &plan))?;
    keep(&config, &lock)?;
    outcome::report(&plan, &brought, json!({}), as_json, quiet)?;
    outcome::conclude(&outcome::troubles(&plan, &brought)).and_then(|()| not_here(&lacking))
}

/// Brings the models that a lock pins and that are not here, and keeps its revisions whatever is announced.
pub fn bring(config: &Config, lock: &Lock, quiet: bool) -> Result<(), Failure> {
    let mut plan = plan::of_lock(config, lock)?;
    plan.retain(|file| !file.held);
    let brought = transfer::bring(config, &files(&plan), &mut watcher(quiet, &plan))?;
    keep(config, lock)?;
    outcome::conclude(&outcome::troubles(&plan, &brought))
}

fn files(plan: &[Planned]) -> Vec<Wanted> {
    plan.iter().map(|file| file.wanted.clone()).collect()
}

fn watcher(quiet: bool, plan: &[Planned]) -> Watcher {
    Watcher::new(quiet, plan::to_come(plan))
}

/// Whether a revision is pinned for good.
fn is_locked(decided: &Decided) -> bool {
    decided.pinned.as_ref().is_some_and(|pin| pin.until.is_none())
}

/// Pins the revisions of a lock that are not pinned yet.
pub fn keep(config: &Config, lock: &Lock) -> Result<(), Failure> {
    for (model, locked) in &lock.models {
        let selector = selector(model, locked.kept_at(model));
        let held = Holdings::read(config, control::Command::Ls { selector: selector.clone() })?;
        if held.files.iter().any(|row| !is_locked(&row.decided)) {
            reach::execute(config, pin::locked(selector), |_| {})?;
        }
    }
    lock.settings.as_ref().map_or(Ok(()), |settings| keep_settings(config, settings))
}

fn keep_settings(config: &Config, settings: &LockedSettings) -> Result<(), Failure> {
    let held = held_settings(config)?;
    for (file, _) in settings.files() {
        if held.get(&file).is_some_and(|row| !is_locked(&row.decided)) {
            let (repo, revision) = (Some(file.repo.to_string()), Some(file.revision.as_str().to_owned()));
            let selector = Selector { hub: Some(Hub::Settings), repo, revision, path: None };
            reach::execute(config, pin::locked(selector), |_| {})?;
        }
    }
    Ok(())
}

/// Fails where parts of Remote Settings are pinned that are not here.
fn not_here(parts: &[Resource]) -> Result<(), Failure> {
    if parts.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> = parts.iter().map(|part| format!("{part} is not here")).collect();
    let remedy = "A server has only the present state of Remote Settings: \
        `hubcache preload --firefox --lock FILE` pins that, or `hubcache import` brings the pinned one";
    Err(Failure::new(Exit::Data, format!("{}\n{remedy}", lines.join("\n"))))
}
