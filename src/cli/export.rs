//! `hubcache export`: what a lock file pins, for where there is no hubcache.

mod bundle;
mod content;
mod directory;
mod folder;
mod ids;
mod intake;
mod place;
mod writer;

use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, ArgGroup, ArgMatches};

use self::bundle::Wish;
use super::exit::{Exit, Failure};
use super::flags::{self, Scope};
use super::holdings::{Holdings, held, selector};
use super::ls::json_arg;
use super::{lock, print, transfer};
use crate::admin::control::Command;
use crate::config::Config;
use crate::policy::is_for_all;
use crate::transfer::ModelName;
use crate::transfer::lock::{Lock, Locked};
use directory::Kind;

const LONG_ABOUT: &str = "\
Write what a lock file pins for where there is no hubcache, or no network. It is all that the lock file pins and nothing \
else; when something is not held with these bytes, the command ends with 65 and a list before it has written anything.

--output writes a bundle: one file with everything, Remote Settings too, to be carried to a machine that imports it or \
serves it as it is. It is an image layout of the Open Container Initiative in a tar, so other programs and registries can \
carry it; one lock file makes the same bytes everywhere. --since leaves out what another lock file pins, for machines that \
have that already.

--hf-cache writes a directory as Hugging Face clients keep one. With HF_HUB_CACHE set to it and HF_HUB_OFFLINE=1 they load \
models of Hugging Face from there, at the branches and commits of the lock file. It may be a cache that is in use.

--tree writes models of the hub of Firefox as their bucket has them: ORG/MODEL/REVISION/PATH. A web server on it, or a \
bucket that it is copied to, can be named in browser.ml.modelHubRootUrl.

Every byte is hashed on its way; a file that is damaged is not written. A file that is there already with the right bytes is \
kept, so an export that was interrupted goes on; anything else in its place is replaced. Bytes that belong in several places \
are there once, where the file system can share them (XFS, Btrfs). No link in the directory is followed.";

const EXAMPLES: &str = "\
Examples:
  hubcache export --lock lab.lock -o lab.tar
  hubcache export --lock lab.lock -o delta.tar --since last-time.lock --sign key.pem
  hubcache export --lock hubcache.lock --hf-cache /mnt/disk/hub
  HF_HUB_CACHE=/mnt/disk/hub HF_HUB_OFFLINE=1 python train.py
  hubcache export --lock hubcache.lock --tree /srv/models";

const JSON_HELP: &str = "\
Print an object. Of a directory: directory, files (how many), of which written, kept, reflinked and copied; total_bytes, \
left_out, damaged. Of a bundle: bundle, bytes, resumed_bytes, models, files, left_out, signed_by, firefox_until";

const DESTINATION: &str = "destination";
const HF_CACHE: &str = "hf-cache";
const TREE: &str = "tree";
const OUTPUT: &str = "output";
const SINCE: &str = "since";
const SIGN: &str = "sign";
const SHAREABLE: &str = "shareable";

pub fn command() -> clap::Command {
    let file = |name: &'static str, value: &'static str, help: &'static str| {
        let file = Arg::new(name).long(name).value_name(value).help(help).display_order(0);
        file.value_parser(clap::value_parser!(PathBuf))
    };
    let dir = |name: &'static str, help: &'static str| file(name, "DIR", help);
    let shareable = Arg::new(SHAREABLE)
        .long(SHAREABLE)
        .action(ArgAction::SetTrue)
        .help("Write also what the hub gives to those alone who have access")
        .display_order(0);
    let command = clap::Command::new("export")
        .about("Write what a lock file pins for other tools")
        .long_about(LONG_ABOUT)
        .after_long_help(EXAMPLES)
        .arg(lock::arg())
        .arg(dir(HF_CACHE, "Write a cache directory of Hugging Face clients"))
        .arg(dir(TREE, "Write folders as the bucket of Firefox has them"))
        .arg(file(OUTPUT, "FILE", "Write a bundle").short('o').display_order(0))
        .arg(file(SINCE, "LOCK", "Leave out of the bundle what this lock file pins as well").requires(OUTPUT))
        .arg(file(SIGN, "KEY", "Sign the bundle with this private key (Ed25519, in PEM)").requires(OUTPUT))
        .group(ArgGroup::new(DESTINATION).args([OUTPUT, HF_CACHE, TREE]).required(true))
        .arg(shareable)
        .arg(transfer::quiet_arg())
        .arg(json_arg(JSON_HELP));
    flags::add(command, Scope::Store)
}

/// Where to.
enum Destination<'a> {
    Directory(Kind, &'a Path),
    Bundle(Wish<'a>),
}

impl<'a> Destination<'a> {
    fn of(matches: &'a ArgMatches) -> Self {
        let dir = |name: &str| matches.get_one::<PathBuf>(name).map(PathBuf::as_path);
        match (dir(HF_CACHE), dir(TREE), dir(OUTPUT)) {
            (Some(dir), ..) => Self::Directory(Kind::HfCache, dir),
            (_, Some(dir), _) => Self::Directory(Kind::Tree, dir),
            (.., Some(path)) => Self::Bundle(Wish { path, since: dir(SINCE), sign: dir(SIGN) }),
            (None, None, None) => unreachable!("clap requires one of the destinations"),
        }
    }
}

/// What is exported, and how that is told.
struct Export<'a> {
    config: &'a Config,
    lock_file: &'a Path,
    lock: Lock,
    is_quiet: bool,
    as_json: bool,
}

impl Export<'_> {
    fn say(&self, text: &str) {
        if !self.is_quiet {
            eprintln!("{text}");
        }
    }
}

pub fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let config = flags::load(matches, Scope::Store)?.config;
    let lock_file = lock::path(matches);
    let export = Export {
        config: &config,
        lock_file,
        lock: lock::read(lock_file)?,
        is_quiet: transfer::is_quiet(matches),
        as_json: matches.get_flag("json"),
    };
    if !matches.get_flag(SHAREABLE) {
        refuse_restricted(&export)?;
    }
    match Destination::of(matches) {
        Destination::Directory(kind, dir) => directory::run(&export, kind, dir),
        Destination::Bundle(wish) => bundle::run(&export, &wish),
    }
}

/// The files of these models that are not held with the bytes that the lock pins.
fn lacking<'a>(
    config: &Config,
    models: impl Iterator<Item = (&'a ModelName, &'a Locked)>,
) -> Result<Vec<String>, Failure> {
    let mut missing = Vec::new();
    for (name, locked) in models {
        let held = held(config, name, locked.kept_at(name))?;
        let lacks = |path: &str, sha256| held.get(path).is_none_or(|digests| !digests.contains(sha256));
        let lacking = locked.files.iter().filter(|(path, file)| lacks(path, &file.sha256));
        missing.extend(lacking.map(|(path, _)| format!("{name}/{path}")));
    }
    Ok(missing)
}

/// Fails with a list of what not everybody may read at the hub, if something is pinned that is so: whoever has what is
/// written reads it.
fn refuse_restricted(export: &Export<'_>) -> Result<(), Failure> {
    let mut restricted = Vec::new();
    for (name, locked) in &export.lock.models {
        let selector = selector(name, locked.kept_at(name));
        let held = Holdings::read(export.config, Command::Ls { selector })?;
        let closed = held.files.iter().filter(|row| !is_for_all(name.hub, row.entry.access));
        let pinned = closed
            .filter(|row| locked.files.get(&row.key.path).is_some_and(|file| file.sha256 == row.entry.blob));
        restricted.extend(pinned.map(|row| format!("{name}/{}", row.key.path)));
    }
    if restricted.is_empty() {
        return Ok(());
    }
    let why = format!(
        "of {} is not known that everybody may read them at the hub; nothing was written:\n  {}\n\
         --shareable says that whoever gets what is written may",
        print::count(restricted.len() as u64, "file"),
        restricted.join("\n  ")
    );
    Err(Failure::new(Exit::NoPermission, why))
}

/// Fails with a list of what is missing, if something is.
fn refuse_missing(export: &Export<'_>, missing: &[String]) -> Result<(), Failure> {
    if missing.is_empty() {
        return Ok(());
    }
    let (count, lock_file) = (print::count(missing.len() as u64, "file"), export.lock_file.display());
    let why = format!(
        "{count} not held as {lock_file} pins them; nothing was written:\n  {}\n\
         `hubcache preload --lock {lock_file}` brings them",
        missing.join("\n  ")
    );
    Err(Failure::new(Exit::Data, why))
}
