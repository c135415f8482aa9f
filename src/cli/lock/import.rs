//! `hubcache lock import`: pins and takes in what other programs have downloaded.

use std::fs;
use std::path::{Path, PathBuf};

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgMatches};

use super::super::directory::{self, Hidden, Import, Manner, unreadable};
use super::super::exit::{Exit, Failure};
use super::super::flags::{self, Scope};
use super::super::transfer::{self, Choice};
use super::{DRY_RUN, conclude, path, read_if_there, resolve};
use crate::config::Config;
use crate::model::Hub;
use crate::transfer::layout::Layout;
use crate::transfer::lock::Lock;
use crate::transfer::{Selection, hermeto};

pub const ABOUT: &str = "Pin and take in what other programs have downloaded";

pub const LONG_ABOUT: &str = "\
Pin the models of a SOURCE, and hold their files here without downloading them. SOURCE is one of these:
  hf-cache  a cache directory of Hugging Face clients (HF_HUB_CACHE, or HF_HOME). Each blob is held against the digest that \
is its name, and branches and tags are known here as they are there
  folders   a directory with ORG/MODEL/REVISION/PATH, as Firefox keeps models for its tests. Nobody has promised what these \
files are, so they are pinned as they are
  hermeto   a huggingface.lock.yaml. It holds no files: each entry is pinned as by `hubcache lock add hf:ID@COMMIT`

Of a cache directory nobody can tell which other files a commit has. The hub is asked for that list, and for nothing else; \
without the hub the lock file says only what is known, and `hubcache lock add` completes it later.

A damaged file is named and not taken, and so is one that no lock file can name; the others are. It ends with 65 then. An \
import that was interrupted goes on where it stopped.";

pub const EXAMPLES: &str = "\
  hubcache lock import ~/.cache/huggingface/hub
  hubcache lock import --as moz \"$MOZ_FETCHES_DIR/onnx-models\"
  hubcache lock import huggingface.lock.yaml";

const SOURCE: &str = "source";
const LAYOUT: &str = "layout";
const AS: &str = "as";
/// Longest lock file of hermeto that is read, in bytes.
const MAX_TEXT: u64 = 1 << 20;

pub fn args() -> [Arg; 4] {
    let source = Arg::new(SOURCE)
        .value_name("SOURCE")
        .required(true)
        .value_parser(clap::value_parser!(PathBuf))
        .help("A directory with models, or a huggingface.lock.yaml");
    let layout = Arg::new(LAYOUT)
        .long(LAYOUT)
        .value_name("LAYOUT")
        .value_parser(PossibleValuesParser::new(Layout::ALL.map(Layout::name)))
        .help("What SOURCE is, where that is not to be told from what is in it")
        .display_order(0);
    let hub = Arg::new(AS)
        .long(AS)
        .value_name("HUB")
        .value_parser(["moz", "hf"])
        .default_value("moz")
        .help("Of which hub the models in folders are; hf takes commits as revisions only")
        .display_order(0);
    [source, layout, hub, directory::shareable_arg()]
}

pub fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let config = flags::load(matches, Scope::Store)?.config;
    let before = read_if_there(path(matches))?;
    let given = matches.get_one::<PathBuf>(SOURCE).expect("clap requires it");
    let scan = match layout(matches, directory::real(given)?)? {
        (Layout::Hermeto, file) => return of_hermeto(matches, &config, &before, &file),
        (Layout::HfCache, root) => directory::hf_cache(&root)?,
        (Layout::Folders, root) => {
            let is_hf = matches.get_one::<String>(AS).is_some_and(|hub| hub == "hf");
            let hub = if is_hf { Hub::HuggingFace } else { Hub::Mozilla };
            directory::folders(&root, hub, Hidden::Skipped)?
        }
    };
    let is_quiet = transfer::is_quiet(matches);
    let manner = Manner {
        is_dry: matches.get_flag(DRY_RUN),
        is_quiet,
        is_unwatched: is_quiet || matches.get_flag("json"),
        is_pinned: true,
        access: directory::access(matches),
    };
    Import::new(&config, &before, manner).directory(scan, |after| conclude(matches, &before, after))
}

/// What the source is, and where that begins: in a directory of Hugging Face the cache is a folder of it.
fn layout(matches: &ArgMatches, source: PathBuf) -> Result<(Layout, PathBuf), Failure> {
    let said = matches.get_one::<String>(LAYOUT);
    let said = said.and_then(|said| Layout::ALL.into_iter().find(|layout| layout.name() == said));
    if source.is_file() {
        return match said {
            None | Some(Layout::Hermeto) => Ok((Layout::Hermeto, source)),
            Some(_) => Err(Failure::new(Exit::Usage, format!("{} is no directory", source.display()))),
        };
    }
    if said == Some(Layout::Hermeto) {
        let why = format!("{} is a directory, and no huggingface.lock.yaml", source.display());
        return Err(Failure::new(Exit::Usage, why));
    }
    if said != Some(Layout::Folders)
        && let Some(cache) = directory::cache_in(&source)?
    {
        return Ok((Layout::HfCache, cache));
    }
    match said {
        Some(said) => Ok((said, source)),
        None => {
            directory::not_one_model(&source)?;
            Ok((directory::layout(&source)?, source))
        }
    }
}

fn of_hermeto(matches: &ArgMatches, config: &Config, before: &Lock, file: &Path) -> Result<(), Failure> {
    let size = fs::metadata(file).map_err(|error| unreadable(file, &error))?.len();
    let no = |why: &str| Failure::new(Exit::Data, format!("{} is no lock of hermeto: {why}", file.display()));
    if size > MAX_TEXT {
        return Err(no("it is too long"));
    }
    let text = fs::read_to_string(file).map_err(|error| unreadable(file, &error))?;
    let models = hermeto::read(&text).map_err(|why| no(&why.to_string()))?;
    let mut after = before.clone();
    for (name, hermeto::Pinned { commit, include }) in models {
        let selection = Selection::new(include, Vec::new()).map_err(|why| no(&format!("{name}: {why}")))?;
        let choice = Choice::these(selection, Vec::new());
        let locked = resolve::resolve(config, &name, Some(&commit), &choice, transfer::is_quiet(matches))?;
        after.models.insert(name, locked);
    }
    conclude(matches, before, &after)
}
