//! `hubcache import`: what was written elsewhere is held here, without a download.

use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, ArgGroup, ArgMatches, Command};

use super::directory::{self, Hidden, Import, Manner, Scan};
use super::exit::Failure;
use super::flags::{self, Scope};
use super::ls::json_arg;
use super::{lock, transfer};
use crate::model::Hub;
use crate::transfer::lock::Lock;

const LONG_ABOUT: &str = "\
Hold what was written elsewhere, without a download: by `hubcache export`, or by other programs. Every byte is read and \
hashed here.

--hf-cache reads a cache directory of Hugging Face clients (HF_HUB_CACHE, or HF_HOME). Each blob is held against the digest \
that is its name, and branches and tags are known here as they are there. The hub is asked which other files a commit has, \
and for nothing else; it need not answer.

--tree reads models of the hub of Firefox from folders ORG/MODEL/REVISION/PATH, as their bucket has them. Nobody has promised \
what these files are, so they are held as they are.

A damaged file is named and not taken; the others are, and the command ends with 65 then. An import that was interrupted goes \
on where it stopped. With --lock it is pinned as well, as `hubcache lock import` does.";

const EXAMPLES: &str = "\
Examples:
  hubcache import --hf-cache ~/.cache/huggingface/hub
  hubcache import --tree /mnt/disk/models --lock hubcache.lock
  hubcache import --hf-cache /mnt/disk/hub --dry-run";

const SOURCE: &str = "source";
const HF_CACHE: &str = "hf-cache";
const TREE: &str = "tree";
const DRY_RUN: &str = "dry-run";

pub fn command() -> Command {
    let path = |name: &'static str, value: &'static str, help: &'static str| {
        let path = Arg::new(name).long(name).value_name(value).help(help).display_order(0);
        path.value_parser(clap::value_parser!(PathBuf))
    };
    let dry_run = Arg::new(DRY_RUN)
        .long(DRY_RUN)
        .short('n')
        .action(ArgAction::SetTrue)
        .help("Only read everything, and show what would be held")
        .display_order(0);
    let command = Command::new("import")
        .about("Hold what was written elsewhere, without a download")
        .long_about(LONG_ABOUT)
        .after_long_help(EXAMPLES)
        .arg(path(HF_CACHE, "DIR", "Read a cache directory of Hugging Face clients"))
        .arg(path(TREE, "DIR", "Read folders as the bucket of Firefox has them"))
        .group(ArgGroup::new(SOURCE).args([HF_CACHE, TREE]).required(true))
        .arg(path(lock::LOCK, "FILE", "Pin what was taken in this lock file as well"))
        .arg(dry_run)
        .arg(transfer::quiet_arg())
        .arg(json_arg("Print an object with the models that were taken: to, and their files"));
    flags::add(command, Scope::Store)
}

/// From where.
enum Source<'a> {
    HfCache(&'a Path),
    Tree(&'a Path),
}

impl<'a> Source<'a> {
    fn of(matches: &'a ArgMatches) -> Self {
        let dir = |name: &str| matches.get_one::<PathBuf>(name).map(PathBuf::as_path);
        match (dir(HF_CACHE), dir(TREE)) {
            (Some(dir), _) => Self::HfCache(dir),
            (_, Some(dir)) => Self::Tree(dir),
            (None, None) => unreachable!("clap requires one of the sources"),
        }
    }
}

pub fn run(matches: &ArgMatches) -> Result<(), Failure> {
    match Source::of(matches) {
        Source::HfCache(dir) => {
            let dir = directory::real(dir)?;
            let root = match directory::cache_in(&dir)? {
                Some(cache) => cache,
                None => directory::not_one_model(&dir).map(|()| dir)?,
            };
            of_directory(matches, directory::hf_cache(&root)?)
        }
        // A file whose name begins with a point is one of the model, as it is in an export.
        Source::Tree(dir) => {
            of_directory(matches, directory::folders(&directory::real(dir)?, Hub::Mozilla, Hidden::Taken)?)
        }
    }
}

fn of_directory(matches: &ArgMatches, scan: Scan) -> Result<(), Failure> {
    let config = flags::load(matches, Scope::Store)?.config;
    let lock_file = matches.get_one::<PathBuf>(lock::LOCK).map(PathBuf::as_path);
    let before = lock_file.map_or_else(|| Ok(Lock::default()), lock::read_if_there)?;
    let (is_quiet, as_json) = (transfer::is_quiet(matches), matches.get_flag("json"));
    let manner = Manner {
        is_dry: matches.get_flag(DRY_RUN),
        is_quiet,
        is_unwatched: is_quiet || as_json,
        is_pinned: lock_file.is_some(),
    };
    let file = lock_file.filter(|_| !manner.is_dry);
    Import::new(&config, &before, manner)
        .directory(scan, |after| lock::replace(file, &before, after, as_json, is_quiet))
}
