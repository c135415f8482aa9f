//! `hubcache export`: what a lock file pins, for where there is no hubcache.

mod content;
mod directory;
mod folder;
mod intake;
mod place;
mod writer;

use std::path::{Path, PathBuf};

use clap::{Arg, ArgGroup, ArgMatches, Command};

use super::exit::{Exit, Failure};
use super::flags::{self, Scope};
use super::holdings::held;
use super::ls::json_arg;
use super::{lock, print, transfer};
use crate::config::Config;
use crate::transfer::ModelName;
use crate::transfer::lock::Lock;
use directory::Kind;

const LONG_ABOUT: &str = "\
Write what a lock file pins for where there is no hubcache, or no network. It is all that the lock file pins and nothing \
else; when something is not held with these bytes, the command ends with 65 and a list before it has written anything.

--hf-cache writes a directory as Hugging Face clients keep one. With HF_HUB_CACHE set to it and HF_HUB_OFFLINE=1 they load \
models of Hugging Face from there, at the branches and commits of the lock file. It may be a cache that is in use.

--tree writes models of the hub of Firefox as their bucket has them: ORG/MODEL/REVISION/PATH. A web server on it, or a \
bucket that it is copied to, can be named in browser.ml.modelHubRootUrl.

Every byte is hashed on its way; a file that is damaged is not written. A file that is there already with the right bytes is \
kept, so an export that was interrupted goes on; anything else in its place is replaced. Bytes that belong in several places \
are there once, where the file system can share them (XFS, Btrfs). No link in the directory is followed.";

const EXAMPLES: &str = "\
Examples:
  hubcache export --lock hubcache.lock --hf-cache /mnt/disk/hub
  HF_HUB_CACHE=/mnt/disk/hub HF_HUB_OFFLINE=1 python train.py
  hubcache export --lock hubcache.lock --tree /srv/models";

const JSON_HELP: &str = "\
Print an object: directory, files (how many), of which written, kept, reflinked and copied; total_bytes, left_out, damaged";

const DESTINATION: &str = "destination";
const HF_CACHE: &str = "hf-cache";
const TREE: &str = "tree";

pub fn command() -> Command {
    let dir = |name: &'static str, help: &'static str| {
        let dir = Arg::new(name).long(name).value_name("DIR").help(help).display_order(0);
        dir.value_parser(clap::value_parser!(PathBuf))
    };
    let command = Command::new("export")
        .about("Write what a lock file pins for other tools")
        .long_about(LONG_ABOUT)
        .after_long_help(EXAMPLES)
        .arg(lock::arg())
        .arg(dir(HF_CACHE, "Write a cache directory of Hugging Face clients"))
        .arg(dir(TREE, "Write folders as the bucket of Firefox has them"))
        .group(ArgGroup::new(DESTINATION).args([HF_CACHE, TREE]).required(true))
        .arg(transfer::quiet_arg())
        .arg(json_arg(JSON_HELP));
    flags::add(command, Scope::Store)
}

/// Where to.
enum Destination<'a> {
    Directory(Kind, &'a Path),
}

impl<'a> Destination<'a> {
    fn of(matches: &'a ArgMatches) -> Self {
        let dir = |name: &str| matches.get_one::<PathBuf>(name).map(PathBuf::as_path);
        match (dir(HF_CACHE), dir(TREE)) {
            (Some(dir), _) => Self::Directory(Kind::HfCache, dir),
            (_, Some(dir)) => Self::Directory(Kind::Tree, dir),
            (None, None) => unreachable!("clap requires one of the destinations"),
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
    match Destination::of(matches) {
        Destination::Directory(kind, dir) => directory::run(&export, kind, dir),
    }
}

/// Fails with a list of the files of these models that are not held with the bytes that the lock pins.
fn missing(export: &Export<'_>, models: &[ModelName]) -> Result<(), Failure> {
    let mut missing = Vec::new();
    for name in models {
        let Some(locked) = export.lock.models.get(name) else { continue };
        let held = held(export.config, name, locked.kept_at(name))?;
        let lacks = |path: &str, sha256| held.get(path).is_none_or(|digests| !digests.contains(sha256));
        let lacking = locked.files.iter().filter(|(path, file)| lacks(path, &file.sha256));
        missing.extend(lacking.map(|(path, _)| format!("{name}/{path}")));
    }
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
