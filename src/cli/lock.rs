//! `hubcache lock`: the file that pins every byte of the models that a project uses.

mod check;
pub mod diff;
mod import;
pub mod resolve;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, ArgMatches, Command};

use super::exit::{Exit, Failure, io_failure};
use super::flags::{self, Scope};
use super::ls::json_arg;
use super::transfer::{self, Choice};
use crate::transfer::ModelName;
use crate::transfer::lock::Lock;

/// The name of the argument with the file.
pub const LOCK: &str = "lock";
/// Its name where none is given.
const DEFAULT: &str = "hubcache.lock";
const MODELS: &str = "models";
const DRY_RUN: &str = "dry-run";

const LONG_ABOUT: &str = "\
A lock file pins every byte of the models that a project uses: for each model the commit for which its revision stood, \
and for each file its size, its SHA-256 and from where that is known. It is sorted and has a line for each file, so it can \
be reviewed in a pull request. `hubcache preload --lock FILE` brings here what it pins, and `hubcache preload --firefox \
--lock FILE` pins what the AI of Firefox needs, signed collections of Remote Settings among it.";

const ADD: &str = "\
Pin models. Large files of Hugging Face are pinned by the digest that the hub gives, without fetching them; small ones, \
and all of the hub of Firefox, are fetched and kept. Of a model that is in the file already the files are chosen anew, at \
the commit that it has there; `hubcache lock update` moves that.";

const UPDATE: &str = "\
Ask the hubs for what the revisions stand now, and pin that. What has moved is shown before the file is written; of a \
model that has not, no byte changes. Files are chosen by the patterns that the file has.";

const CHECK: &str = "\
Compare what is held with the lock file: whether each file is here, with the bytes that are pinned, and each part of Remote \
Settings. Every byte is read, unless --quick is given. It ends with 65 when something is missing or differs, and lists it.";

const DIFF: &str = "\
Compare two lock files, or two revisions of models: which files were added, removed or changed.";

pub fn command() -> Command {
    let sub = |name: &'static str, about: &'static str, long: &'static str, examples: &'static str| {
        let command = Command::new(name).about(about).long_about(long);
        command.after_long_help(format!("{}\n\nExamples:\n{examples}", transfer::EXPLAINED))
    };
    let models = || {
        Arg::new(MODELS)
            .value_name("MODEL")
            .action(ArgAction::Append)
            .help("Which models: hf:ID[@REVISION] or moz:ORG/MODEL[@REVISION]")
    };
    let dry_run = || {
        Arg::new(DRY_RUN)
            .long(DRY_RUN)
            .short('n')
            .action(ArgAction::SetTrue)
            .help("Only show what would change")
            .display_order(0)
    };
    let changes =
        || json_arg("Print an object with what changed: models (from, to, and their files), settings");
    let add = sub("add", "Pin models", ADD, "  hubcache lock add hf:acme/tiny@main --include '*.json'\n  hubcache lock add moz:acme/tiny@v1.0 --dtype q8")
        .arg(models().required(true))
        .args(transfer::choice_args())
        .args([dry_run(), changes()]);
    let update = sub(
        "update",
        "Pin what the revisions stand for now",
        UPDATE,
        "  hubcache lock update\n  hubcache lock update --dry-run hf:acme/tiny",
    )
    .arg(models())
    .args([dry_run(), changes()]);
    let remove = sub(
        "remove",
        "No longer pin models",
        "Take models out of the file; what is held stays.",
        "  hubcache lock remove hf:acme/tiny@main",
    )
    .arg(models().required(true))
    .arg(changes());
    let check = sub(
        "check",
        "Compare what is held with the file",
        CHECK,
        "  hubcache lock check\n  hubcache lock check --quick --lock tests/hubcache.lock",
    )
    .arg(
        Arg::new(check::QUICK)
            .long(check::QUICK)
            .action(ArgAction::SetTrue)
            .help("Compare what the index says, and read no files")
            .display_order(0),
    )
    .arg(json_arg("Print an object: ok, checked, missing, differs, damaged"));
    let diff = sub(
        "diff",
        "Compare two lock files or revisions",
        DIFF,
        "  hubcache lock diff old.lock new.lock\n  hubcache lock diff hf:acme/tiny@v1 hf:acme/tiny@main",
    )
    .arg(Arg::new(diff::BEFORE).value_name("BEFORE").required(true).help("A lock file, or a MODEL"))
    .arg(Arg::new(diff::AFTER).value_name("AFTER").required(true).help("A lock file, or a MODEL"))
    .arg(changes());
    let import = sub("import", import::ABOUT, import::LONG_ABOUT, import::EXAMPLES)
        .args(import::args())
        .args([dry_run(), changes()]);
    let with_lock =
        |command: Command| flags::add(command.arg(arg()).arg(transfer::quiet_arg()), Scope::Store);
    let diff = flags::add(diff.arg(transfer::quiet_arg()), Scope::Store);
    Command::new(LOCK)
        .about("The file that pins every byte of models")
        .long_about(LONG_ABOUT)
        .after_long_help(
            "Examples:\n  hubcache lock add hf:acme/tiny\n  hubcache lock update\n  hubcache lock check",
        )
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands([add, update, import, remove, check].map(with_lock))
        .subcommand(diff)
}

/// The argument with the file.
pub fn arg() -> Arg {
    Arg::new(LOCK)
        .long(LOCK)
        .value_name("FILE")
        .value_parser(clap::value_parser!(PathBuf))
        .default_value(DEFAULT)
        .help("The lock file")
        .display_order(0)
}

pub fn run(matches: &ArgMatches) -> Result<(), Failure> {
    match matches.subcommand() {
        Some(("add", m)) => add(m),
        Some(("update", m)) => update(m),
        Some(("import", m)) => import::run(m),
        Some(("remove", m)) => remove(m),
        Some(("check", m)) => check::run(m),
        Some(("diff", m)) => diff::run(m),
        _ => unreachable!("clap accepts the commands above and requires one"),
    }
}

/// Reads a lock file.
pub fn read(path: &Path) -> Result<Lock, Failure> {
    parse(path, &text(path)?)
}

/// The text of a lock file.
pub fn text(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Failure::new(
            Exit::NoInput,
            format!(
                "there is no {}; `hubcache lock add MODEL --lock {}` makes one",
                path.display(),
                path.display()
            ),
        ),
        _ => io_failure(format_args!("{} cannot be read", path.display()), &error),
    })
}

/// What the text of a lock file says.
pub fn parse(path: &Path, text: &str) -> Result<Lock, Failure> {
    Lock::parse(text)
        .map_err(|why| Failure::new(Exit::Data, format!("{} is no lock file: {why}", path.display())))
}

/// The file that is meant.
pub fn path(matches: &ArgMatches) -> &Path {
    matches.get_one::<PathBuf>(LOCK).map_or(Path::new(DEFAULT), PathBuf::as_path)
}

fn models(matches: &ArgMatches) -> Result<Vec<ModelName>, Failure> {
    matches.get_many::<String>(MODELS).into_iter().flatten().map(|text| transfer::model(text)).collect()
}

/// Writes by renaming, so that nobody reads half a file.
pub fn write(path: &Path, lock: &Lock) -> Result<(), Failure> {
    let fail = |error: io::Error| io_failure(format_args!("{} cannot be written", path.display()), &error);
    let text = lock.print();
    // What a hub calls its files may be what no lock file can have.
    match Lock::parse(&text) {
        Ok(read) if read == *lock => {}
        Ok(_) => {
            return Err(Failure::new(
                Exit::Data,
                "the lock file would not say what is meant; nothing was written",
            ));
        }
        Err(why) => {
            return Err(Failure::new(
                Exit::Data,
                format!("{why}; that cannot be pinned, and nothing was written"),
            ));
        }
    }
    let mut half = path.as_os_str().to_owned();
    half.push(format!(".{}.new", std::process::id()));
    let written = fs::write(&half, text).and_then(|()| fs::rename(&half, path));
    written.map_err(|error| {
        // Half a file is no use to anybody; if it cannot be removed either, the error says enough.
        let _ = fs::remove_file(&half);
        fail(error)
    })
}

/// Shows what changes between two locks, and writes the second unless that was not wanted.
fn conclude(matches: &ArgMatches, before: &Lock, after: &Lock) -> Result<(), Failure> {
    let only_shown = matches.try_get_one::<bool>(DRY_RUN).ok().flatten().copied().unwrap_or(false);
    let file = Some(path(matches)).filter(|_| !only_shown);
    replace(file, before, after, matches.get_flag("json"), transfer::is_quiet(matches))
}

/// Shows what changes between two locks, and writes the second to `file` if there is one.
pub fn replace(
    file: Option<&Path>,
    before: &Lock,
    after: &Lock,
    as_json: bool,
    is_quiet: bool,
) -> Result<(), Failure> {
    diff::show(before, after, as_json, is_quiet)?;
    match file {
        Some(file) if before != after || !file.exists() => write(file, after),
        _ => Ok(()),
    }
}

/// Reads a lock file that need not be there.
pub fn read_if_there(file: &Path) -> Result<Lock, Failure> {
    if file.exists() { read(file) } else { Ok(Lock::default()) }
}

fn add(matches: &ArgMatches) -> Result<(), Failure> {
    let config = flags::load(matches, Scope::Store)?.config;
    let before = read_if_there(path(matches))?;
    let choice = Choice::of(matches)?;
    let mut after = before.clone();
    for name in models(matches)? {
        let commit = before.models.get(&name).and_then(|locked| locked.commit.as_ref());
        let locked = resolve::resolve(&config, &name, commit, &choice, transfer::is_quiet(matches))?;
        after.models.insert(name, locked);
    }
    conclude(matches, &before, &after)
}

fn update(matches: &ArgMatches) -> Result<(), Failure> {
    let config = flags::load(matches, Scope::Store)?.config;
    let before = read(path(matches))?;
    let mut names = models(matches)?;
    if names.is_empty() {
        names = before.models.keys().cloned().collect();
    }
    let mut after = before.clone();
    for name in names {
        let Some(locked) = before.models.get(&name) else { return Err(not_in(&name, matches)) };
        let locked = resolve::update(&config, &name, locked, transfer::is_quiet(matches))?;
        after.models.insert(name, locked);
    }
    conclude(matches, &before, &after)
}

fn remove(matches: &ArgMatches) -> Result<(), Failure> {
    let before = read(path(matches))?;
    let mut after = before.clone();
    for name in models(matches)? {
        if after.models.remove(&name).is_none() {
            return Err(not_in(&name, matches));
        }
    }
    conclude(matches, &before, &after)
}

fn not_in(name: &ModelName, matches: &ArgMatches) -> Failure {
    Failure::new(Exit::NoInput, format!("{name} is not in {}", path(matches).display()))
}
