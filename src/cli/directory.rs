//! Directories of models that other programs have written: what they hold is taken in, and told as a lock pins it.

mod scan;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, ArgMatches};

use super::exit::{Exit, Failure, io_failure};
use super::transfer::{self, Watcher};
use super::{print, reach};
use crate::admin::control::{Brought, Command, Found, MAX_WANTED, Wanted};
use crate::cache::{self, Offered, Source};
use crate::config::Config;
use crate::model::{Digest, Hub, Openness, Standing};
use crate::policy::is_for_all;
use crate::transfer::ModelName;
use crate::transfer::layout::{Layout, repo_of_folder};
use crate::transfer::lock::{Lock, Locked, LockedFile, Origin};
pub use scan::{Hidden, Scan};
use scan::{Place, State};

/// The directory that somebody has named, without links.
pub fn real(given: &Path) -> Result<PathBuf, Failure> {
    fs::canonicalize(given).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Failure::new(Exit::NoInput, format!("there is no {}", given.display())),
        _ => unreadable(given, &error),
    })
}

/// Says that something cannot be read.
pub fn unreadable(path: &Path, error: &io::Error) -> Failure {
    io_failure(format_args!("{} cannot be read", path.display()), error)
}

/// How a directory is laid out.
pub fn layout(folder: &Path) -> Result<Layout, Failure> {
    let names = fs::read_dir(folder).map_err(|error| unreadable(folder, &error))?;
    let names: Vec<String> =
        names.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    Ok(Layout::of_directory(names.iter().map(String::as_str)))
}

/// Where the cache of Hugging Face clients is that a directory of theirs (`HF_HOME`) has; none if it is no such
/// directory.
pub fn cache_in(home: &Path) -> Result<Option<PathBuf>, Failure> {
    let hub = home.join("hub");
    let has_one = hub.is_dir() && layout(home)? == Layout::Folders && layout(&hub)? == Layout::HfCache;
    Ok(has_one.then_some(hub))
}

/// Refuses one model of a cache in place of the cache.
pub fn not_one_model(source: &Path) -> Result<(), Failure> {
    match source.file_name().and_then(|name| name.to_str()).and_then(repo_of_folder) {
        None => Ok(()),
        Some(_) => Err(Failure::new(
            Exit::Usage,
            format!(
                "{} is one model of a cache directory; name the directory that it is in",
                source.display()
            ),
        )),
    }
}

/// Reads which models a cache of Hugging Face clients has.
pub fn hf_cache(root: &Path) -> Result<Scan, Failure> {
    scan::hf_cache(root).map_err(|error| unreadable(root, &error))
}

/// Reads which models of this hub folders `ORG/MODEL/REVISION/PATH` have.
pub fn folders(root: &Path, hub: Hub, hidden: Hidden) -> Result<Scan, Failure> {
    scan::folders(root, hub, hidden).map_err(|error| unreadable(root, &error))
}

/// How an import is done.
#[derive(Clone, Copy)]
pub struct Manner {
    /// Files are only read, and nothing is held or written.
    pub is_dry: bool,
    /// Nothing is said but what went wrong.
    pub is_quiet: bool,
    /// No progress is shown.
    pub is_unwatched: bool,
    /// A lock file is written.
    pub is_pinned: bool,
    /// Who may read what is taken.
    pub access: Openness,
}

/// Says that everybody may read what is taken.
pub const SHAREABLE: &str = "shareable";

pub fn shareable_arg() -> Arg {
    Arg::new(SHAREABLE)
        .long(SHAREABLE)
        .action(ArgAction::SetTrue)
        .help(
            "Let everybody who may use this cache read what is taken of Hugging Face, whoever may at the hub",
        )
        .display_order(0)
}

/// Who may read what is taken, by the arguments of a command.
pub fn access(matches: &ArgMatches) -> Openness {
    if matches.get_flag(SHAREABLE) { Openness::Shared } else { Openness::Restricted }
}

/// An import of a directory.
pub struct Import<'a> {
    config: &'a Config,
    before: &'a Lock,
    manner: Manner,
    /// Why the hub is asked no more.
    unanswered: Option<String>,
    refused: usize,
}

impl<'a> Import<'a> {
    /// Of what this lock has before it.
    pub fn new(config: &'a Config, before: &'a Lock, manner: Manner) -> Self {
        Self { config, before, manner, unanswered: None, refused: 0 }
    }

    fn say(&self, text: &str) {
        if !self.manner.is_quiet {
            eprintln!("{text}");
        }
    }

    /// Tells of something that cannot be taken.
    fn refuse(&mut self, text: &str) {
        eprintln!("hubcache: {text}; not taken");
        self.refused += 1;
    }

    /// Takes in what was found, and hands to `conclude` what a lock has then. What was not taken is a failure all the
    /// same.
    pub fn directory(
        mut self,
        scan: Scan,
        conclude: impl FnOnce(&Lock) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        scan.skipped.iter().for_each(|skipped| self.say(&format!("{skipped}; skipped")));
        scan.refused.iter().for_each(|refused| self.refuse(refused));
        if scan.states.is_empty() && self.refused == 0 {
            let why = "there are no models in it; the same command with --help tells what it may be";
            return Err(Failure::new(Exit::NoInput, why));
        }
        let lists: Vec<Option<BTreeSet<String>>> =
            scan.states.iter().map(|state| self.list_of(state)).collect();
        let mut states = scan.states;
        for (state, list) in states.iter_mut().zip(&lists) {
            self.drop_unlisted(state, list.as_ref());
        }
        let taken = if self.manner.is_dry { self.examined(&states) } else { self.taken(&states)? };
        let mut after = self.before.clone();
        for ((state, list), files) in states.iter().zip(lists).zip(taken) {
            if files.is_empty() {
                continue;
            }
            for name in &state.names {
                after.models.insert(name.clone(), self.locked(name, state, &files, list.as_ref()));
            }
            self.tell_unlisted(state, list.is_some());
        }
        conclude(&after)?;
        match self.refused {
            0 => Ok(()),
            count => {
                Err(Failure::new(Exit::Data, format!("{} not taken", print::count(count as u64, "file"))))
            }
        }
    }

    /// All files of the commit, as the lock file or the hub has them. A dry run asks nobody, since what a hub says is
    /// kept.
    fn list_of(&mut self, state: &State) -> Option<BTreeSet<String>> {
        let commit = state.commit.as_ref()?;
        let known = self.before.models.iter().find_map(|(name, locked)| {
            let is_same = name.hub == Hub::HuggingFace
                && name.repo == state.names[0].repo
                && locked.commit.as_ref() == Some(commit);
            let left_out = locked.left_out.as_ref().filter(|_| is_same)?;
            Some(locked.files.keys().chain(left_out).cloned().collect())
        });
        if known.is_some() || self.manner.is_dry || self.unanswered.is_some() {
            return known;
        }
        let name = ModelName { revision: commit.as_str().to_owned(), ..state.names[0].clone() };
        match transfer::listed(self.config, &name) {
            Ok(found) => Some(found.files.into_iter().map(|file| file.path).collect()),
            Err(failure) => {
                // A hub that does not have the one may have the next.
                self.unanswered = (!failure.is_of_the_name()).then(|| failure.message().to_owned());
                None
            }
        }
    }

    /// What the hub does not list is no file of the commit.
    fn drop_unlisted(&mut self, state: &mut State, list: Option<&BTreeSet<String>>) {
        let Some(list) = list else { return };
        let (listed, unlisted) =
            std::mem::take(&mut state.files).into_iter().partition(|(path, _)| list.contains(path));
        state.files = listed;
        for (path, place) in unlisted as BTreeMap<String, Place> {
            let why = "by the hub's list the commit has no such file";
            self.refuse(&format!("{}/{path} ({}): {why}", state.names[0], place.at.display()));
        }
    }

    /// Has the owner of the data directory take the files, and note what the client knew.
    fn taken(&mut self, states: &[State]) -> Result<Vec<Vec<(String, LockedFile)>>, Failure> {
        let access = self.manner.access;
        let found: Vec<Found> = states.iter().flat_map(|state| found(state, access)).collect();
        let total = states.iter().flat_map(|s| s.files.values()).map(|place| place.size).sum();
        let mut watcher = Watcher::new(self.manner.is_unwatched, total).saying("taken");
        let mut brought = transfer::take(self.config, &found, &mut watcher)?.into_iter();
        let mut all = Vec::new();
        let mut restricted = 0;
        for state in states {
            let mut files = Vec::new();
            for ((path, place), brought) in state.files.iter().zip(brought.by_ref()) {
                match brought {
                    Brought { entry: Some(entry), trouble: None, .. } => {
                        restricted += u64::from(!is_for_all(state.names[0].hub, entry.access));
                        files.push((path.clone(), LockedFile::of(&entry)));
                    }
                    Brought { trouble, .. } => {
                        self.refuse_file(state, path, place, &trouble.unwrap_or_default())
                    }
                }
            }
            self.learn(state)?;
            all.push(files);
        }
        if restricted > 0 {
            self.say(&format!(
                "{}: nothing in a directory tells who may read them. They are served once the hub gives them without \
                 credentials, and without a hub to nobody; --shareable lets everybody read them",
                print::count(restricted, "file")
            ));
        }
        Ok(all)
    }

    fn refuse_file(&mut self, state: &State, path: &str, place: &Place, why: &str) {
        self.refuse(&format!("{}/{path} ({}): {why}", state.names[0], place.at.display()));
    }

    fn learn(&self, state: &State) -> Result<(), Failure> {
        let Some(commit) = &state.commit else { return Ok(()) };
        let mut names = state.references.clone();
        let mut absent = state.absent.chunks(MAX_WANTED);
        while !names.is_empty() || absent.len() > 0 {
            let command = Command::Learn {
                repo: state.names[0].repo.clone(),
                commit: commit.clone(),
                names: std::mem::take(&mut names),
                absent: absent.next().unwrap_or_default().to_vec(),
                imported: None,
            };
            reach::execute(self.config, command, |_| {})?;
        }
        Ok(())
    }

    /// Reads the files here, and takes none.
    fn examined(&mut self, states: &[State]) -> Vec<Vec<(String, LockedFile)>> {
        let mut all = Vec::new();
        for state in states {
            let mut files = Vec::new();
            for (path, place) in &state.files {
                let source = Source::File(place.at.clone());
                let promises = place.promise.into_iter().collect();
                let found = Offered {
                    source,
                    promises,
                    sha256: None,
                    since: place.since,
                    access: self.manner.access,
                };
                match cache::examine(path, &found) {
                    Ok((digests, standing)) => {
                        let promise = place.promise.filter(|_| standing == Standing::Verified);
                        let is_sha256 = promise.is_some_and(|p| matches!(p.digest, Digest::Sha256(_)));
                        let from = Origin::of(promise.map(|promise| promise.by), is_sha256);
                        let file = LockedFile { size: digests.length, sha256: digests.sha256, from };
                        files.push((path.clone(), file));
                    }
                    Err(why) => self.refuse_file(state, path, place, &why.to_string()),
                }
            }
            all.push(files);
        }
        all
    }

    fn locked(
        &self,
        name: &ModelName,
        state: &State,
        files: &[(String, LockedFile)],
        list: Option<&BTreeSet<String>>,
    ) -> Locked {
        let mut locked = Locked {
            commit: state.commit.clone(),
            files: files.iter().cloned().collect(),
            ..Locked::default()
        };
        match list {
            Some(list) => {
                let rest = list.iter().filter(|path| !locked.files.contains_key(*path));
                locked.left_out = Some(rest.cloned().collect());
            }
            None => {
                let before = self.before.models.get(name).filter(|before| before.commit == state.commit);
                let before = before.into_iter().flat_map(|before| &before.absent);
                let absent = state.absent.iter().chain(before);
                locked.absent = absent.filter(|path| !locked.files.contains_key(*path)).cloned().collect();
            }
        }
        locked
    }

    fn tell_unlisted(&self, state: &State, is_listed: bool) {
        let Manner { is_dry, is_pinned, .. } = self.manner;
        if is_listed || state.commit.is_none() || is_dry || !is_pinned {
            return;
        }
        let name = &state.names[0];
        let why = self.unanswered.as_ref().map_or_else(String::new, |why| format!(" ({why})"));
        self.say(&format!(
            "{name}: which other files the commit has is not known{why}; a frozen server refuses those, where clients \
             may expect a 404. `hubcache lock add {}` completes it when the hub can be asked",
            name.argument()
        ));
    }
}

fn found(state: &State, access: Openness) -> impl Iterator<Item = Found> + '_ {
    let name = &state.names[0];
    let revision = state.commit.as_ref().map_or(name.revision.as_str(), |commit| commit.as_str());
    state.files.iter().map(move |(path, place)| Found {
        file: Wanted {
            hub: name.hub,
            repo: name.repo.clone(),
            revision: revision.to_owned(),
            path: path.clone(),
            sha256: None,
        },
        at: Some(place.at.clone()),
        stretch: None,
        promises: place.promise.into_iter().collect(),
        since: place.since,
        access,
    })
}
