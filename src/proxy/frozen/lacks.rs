//! What was asked for and is not served.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::Freezing;
use crate::model::{Hub, Outcome, Question, Revision};
use crate::proxy::explain::{Action, Step};
use crate::transfer::lock::Locked;
use crate::transfer::{ModelName, adding};

/// Lacks that are remembered for the list at the end.
const MAX_LACKS: usize = 10_000;
/// Longest name of a lack and longest remedy that are told, in bytes: both stand in header fields, and in memory.
const MAX_TOLD: usize = 1024;

/// Something that was asked for and is not served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lack {
    /// Which file, or which question about a model.
    pub what: String,
    /// Why it is not served.
    pub why: &'static str,
    /// What would help.
    pub remedy: String,
    /// Whether the server has to be stopped for that, because it asks no hub and owns the data directory.
    pub stop_first: bool,
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = if self.stop_first { "with this server stopped, " } else { "" };
        write!(f, "{} {}; {first}{} helps", self.what, self.why, self.remedy)
    }
}

impl Lack {
    pub(super) fn step(&self) -> Step {
        Step::ending(Action::Refuse, Outcome::Unpinned, self.to_string()).status(403)
    }
}

/// All lacks, with how often each was met.
#[derive(Debug, Default)]
pub(super) struct Lacks(Mutex<BTreeMap<String, (Lack, u64)>>);

impl Lacks {
    /// Notes one, and shortens what is too long to be told.
    pub(super) fn note(&self, lack: &mut Lack) {
        let end = (0..=MAX_TOLD).rev().find(|at| lack.what.is_char_boundary(*at)).unwrap_or_default();
        lack.what.truncate(end);
        let mut lacks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = lacks.len() < MAX_LACKS;
        match lacks.get_mut(&lack.what) {
            Some((_, times)) => *times += 1,
            None if room => drop(lacks.insert(lack.what.clone(), (lack.clone(), 1))),
            None => {}
        }
    }

    /// All of them, by name.
    pub(super) fn all(&self) -> Vec<(Lack, u64)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

/// What the commands that would help are told, and how they are worded.
#[derive(Debug)]
pub(super) struct Remedies {
    /// The lock file.
    lock: PathBuf,
    /// The data directory.
    data: PathBuf,
    /// Whether the owner of the data directory asks no hub, and has to be stopped first.
    stop_first: bool,
    /// Whether the lock is in a bundle, which is as it is.
    is_bundle: bool,
}

impl Remedies {
    pub(super) fn new(lock: &Path, data: &Path, freezing: Freezing) -> Self {
        let (stop_first, is_bundle) = (freezing == Freezing::Server, freezing == Freezing::Bundle);
        Self { lock: lock.to_owned(), data: data.to_owned(), stop_first, is_bundle }
    }

    /// A file that the lock does not pin.
    pub(super) fn left_out(&self, name: &ModelName, locked: Option<&Locked>, path: &str) -> Lack {
        let arguments = [vec!["lock".to_owned()], adding(name, locked, path)].concat();
        let why = match locked {
            Some(_) => "is left out of the lock file",
            None => "is of a model that the lock file does not have",
        };
        self.lack(format!("{name}/{path}"), why, self.command(&arguments))
    }

    /// A question about a model of which nothing is pinned, or one that the lock cannot answer.
    pub(super) fn unknown(&self, question: &Question, is_locked: bool) -> Lack {
        let revision = question.revision().map_or("main", Revision::as_str).to_owned();
        let name = ModelName { hub: Hub::HuggingFace, repo: question.repo.clone(), revision };
        let what = format!("{name} {}", question.name());
        if is_locked {
            let remedy = "asking a server that is not frozen".to_owned();
            return Lack { what, why: "cannot be told from the lock file", remedy, stop_first: false };
        }
        let command = self.command(&["lock".to_owned(), "add".to_owned(), name.argument()]);
        self.lack(what, "is of a model that the lock file does not have", command)
    }

    /// A file that is pinned, and not held as it is pinned.
    pub(super) fn not_held(&self, name: &ModelName, path: &str) -> Lack {
        let command = self.command(&["preload".to_owned()]);
        self.lack(format!("{name}/{path}"), "is pinned, but not held with these bytes", command)
    }

    /// A file whose bytes have changed on the disk.
    pub(super) fn damaged(&self, name: &ModelName, locked: &Locked, path: &str) -> Lack {
        let preload = self.command(&["preload".to_owned()]);
        let (hub, repo, revision) = (name.hub, &name.repo, locked.kept_at(name));
        let target = quoted(&format!("{hub}:{repo}@{revision}/{path}"));
        let remedy = format!(
            "`hubcache verify` lists all files with these bytes; `hubcache rm {target}` for each, and then {preload},"
        );
        self.lack(format!("{name}/{path}"), "has other bytes on the disk than those stored", remedy)
    }

    /// A file that the hub gives only to a caller with credentials, while what is asked for is recorded.
    pub(super) fn private(&self, name: &ModelName, path: &str) -> Lack {
        let remedy = "fetching it from the hub without this server".to_owned();
        let why = "is given only to those who have access, and so cannot be kept for a lock file";
        Lack { what: format!("{name}/{path}"), why, remedy, stop_first: false }
    }

    fn lack(&self, what: String, why: &'static str, remedy: String) -> Lack {
        if self.is_bundle {
            let bundle = self.lock.file_name().unwrap_or_default().to_string_lossy();
            let remedy = format!("a new {bundle} from a lock file that pins it, by `hubcache export`,");
            return Lack { what, why, remedy, stop_first: false };
        }
        Lack { what, why, remedy, stop_first: self.stop_first }
    }

    /// A command with this lock file and data directory, as a shell reads it.
    fn command(&self, arguments: &[String]) -> String {
        let (lock, data) = (self.lock.to_string_lossy(), self.data.to_string_lossy());
        let words = arguments.iter().map(String::as_str).chain(["--lock", &lock, "--data", &data]);
        let command = words.map(quoted).collect::<Vec<_>>().join(" ");
        match command.len() <= MAX_TOLD {
            true => format!("`hubcache {command}`"),
            false => "`hubcache lock add`".to_owned(),
        }
    }
}

/// A word as a shell reads it.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%".contains(c);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}
