//! `hubcache import`: what was written elsewhere is held here, without a download.

mod bundle;

use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, ArgGroup, ArgMatches, Command};

use self::bundle::Wish;
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

FILE is a bundle that `hubcache export` has written. All of it is looked at before anything changes: every byte is held against \
its digest, what is signed of Remote Settings against its roots at the time at which it was verified, and the whole against a \
signature if --verify-key is given. Models are pinned as by `hubcache preload --lock`. A delta needs what it builds on.

--hf-cache reads a cache directory of Hugging Face clients (HF_HUB_CACHE, or HF_HOME). Each blob is held against the digest \
that is its name, and branches and tags are known here as they are there. The hub is asked which other files a commit has, \
and for nothing else; it need not answer. Nothing there tells who may read the files: to everybody they are served once the \
hub gives them without credentials, and with --shareable at once.

--tree reads models of the hub of Firefox from folders ORG/MODEL/REVISION/PATH, as their bucket has them. Nobody has promised \
what these files are, so they are held as they are.

A damaged file is named and not taken; the others are, and the command ends with 65 then. An import that was interrupted goes \
on where it stopped. With --lock it is pinned as well, as `hubcache lock import` does.";

const EXAMPLES: &str = "\
Examples:
  hubcache import lab.tar --lock lab.lock
  hubcache import lab.tar --verify-key key.pub.pem
  hubcache import --hf-cache ~/.cache/huggingface/hub
  hubcache import --tree /mnt/disk/models --lock hubcache.lock
  hubcache import --hf-cache /mnt/disk/hub --dry-run";

const JSON_HELP: &str = "\
Print an object. Of a directory: the models that were taken, each with to, and its files. Of a bundle: bundle, models, taken, \
taken_bytes, held, signed_by, signature_verified, collections, firefox_until";

const FILE: &str = "file";
const VERIFY_KEY: &str = "verify-key";
const REPACKED: &str = "repacked";
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
    let repacked = Arg::new(REPACKED)
        .long(REPACKED)
        .action(ArgAction::SetTrue)
        .requires(FILE)
        .help("Take a bundle that another program has packed anew, with an index of its own")
        .display_order(0);
    let command = Command::new("import")
        .about("Hold what was written elsewhere, without a download")
        .long_about(LONG_ABOUT)
        .after_long_help(EXAMPLES)
        .arg(Arg::new(FILE).value_name("FILE").value_parser(clap::value_parser!(PathBuf)).help("A bundle"))
        .arg(
            path(
                VERIFY_KEY,
                "KEY",
                "Take the bundle only if this public key has signed it (Ed25519, in PEM)",
            )
            .requires(FILE),
        )
        .arg(repacked)
        .arg(path(HF_CACHE, "DIR", "Read a cache directory of Hugging Face clients"))
        .arg(path(TREE, "DIR", "Read folders as the bucket of Firefox has them"))
        .group(ArgGroup::new(SOURCE).args([FILE, HF_CACHE, TREE]).required(true))
        .arg(directory::shareable_arg().conflicts_with(FILE))
        .arg(path(lock::LOCK, "FILE", "Pin what was taken in this lock file as well"))
        .arg(dry_run)
        .arg(transfer::quiet_arg())
        .arg(json_arg(JSON_HELP));
    flags::add(command, Scope::Store)
}

/// From where.
enum Source<'a> {
    HfCache(&'a Path),
    Tree(&'a Path),
    Bundle(&'a Path),
}

impl<'a> Source<'a> {
    fn of(matches: &'a ArgMatches) -> Self {
        let dir = |name: &str| matches.get_one::<PathBuf>(name).map(PathBuf::as_path);
        match (dir(HF_CACHE), dir(TREE), dir(FILE)) {
            (Some(dir), ..) => Self::HfCache(dir),
            (_, Some(dir), _) => Self::Tree(dir),
            (.., Some(file)) => Self::Bundle(file),
            (None, None, None) => unreachable!("clap requires one of the sources"),
        }
    }
}

pub fn run(matches: &ArgMatches) -> Result<(), Failure> {
    match Source::of(matches) {
        Source::Bundle(path) => of_bundle(matches, path),
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

fn of_bundle(matches: &ArgMatches, path: &Path) -> Result<(), Failure> {
    let config = flags::load(matches, Scope::Store)?.config;
    let file = |name: &str| matches.get_one::<PathBuf>(name).map(PathBuf::as_path);
    let wish = Wish {
        path,
        verify_key: file(VERIFY_KEY),
        lock_file: file(lock::LOCK),
        is_repacked: matches.get_flag(REPACKED),
        is_dry: matches.get_flag(DRY_RUN),
        is_quiet: transfer::is_quiet(matches),
        as_json: matches.get_flag("json"),
    };
    bundle::run(&config, &wish)
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
        access: directory::access(matches),
    };
    let file = lock_file.filter(|_| !manner.is_dry);
    Import::new(&config, &before, manner)
        .directory(scan, |after| lock::replace(file, &before, after, as_json, is_quiet))
}
