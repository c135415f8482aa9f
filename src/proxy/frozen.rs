//! Exactly what a lock file names, and nothing else.
//!
//! **What can be asked for.** A file is *pinned* and served; or the commit does not have it, which clients probe for and
//! are told with the hub's own 404; or it is *left out* of the lock; or nothing of its model is pinned. The last two, and
//! what is pinned and not held, are **lacks**: refused with the file's name and the command that would help, logged,
//! counted, and listed at the end. A branch in the lock means the locked commit, for files and for the API alike.
//!
//! **Who owns what.** [`Frozen`] holds the lock, the verdicts over blobs, and the lacks; one is made for a server. There
//! is no `Fetcher` here, by construction.
//!
//! **What can fail.** The bytes on the disk may have changed since they were stored. Every blob is therefore read and
//! hashed before the first byte of it is sent in this process, once for all who ask, in a task of its own: whoever
//! leaves meanwhile finds the verdict when they come again. HEAD, which clients send first, begins it. A blob that is not
//! what its name says is a lack; one that cannot be read is an error, and is tried again.
//!
//! Remote Settings is no model: what is held of it is mirrored as by any server without a network.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use http::StatusCode;
use serde_json::Value;
use sha2::{Digest as _, Sha256 as Hasher};
use tokio::sync::{Semaphore, watch};

use super::answer::document_reply;
use super::explain::{Action, Step};
use super::{Asked, Proxy, Reply, status};
use crate::cache::{Cache, View};
use crate::hub::api::{self, entry_not_found};
use crate::hub::pinned::{self, FileId, PinnedFile};
use crate::model::{
    Commit, Digest, Document, Entry, Hub, Outcome, Question, Repo, Resource, Revision, Sha256, Topic,
};
use crate::store::{Store, StoreError, chunks_of};
use crate::transfer::lock::{Lock, Locked, LockedFile, Origin};
use crate::transfer::{ModelName, Pinned, Pins, State, adding};

/// Lacks that are remembered for the list at the end.
const MAX_LACKS: usize = 10_000;
/// Longest name of a lack and longest remedy that are told, in bytes: both stand in header fields, and in memory.
const MAX_TOLD: usize = 1024;
/// Blobs that are read and hashed at a time.
const HASHED_AT_A_TIME: usize = 4;

/// A lock that is served, and what was asked for beyond it.
#[derive(Debug)]
pub struct Frozen {
    pins: Pins,
    /// The lock file, for commands that are told.
    lock: PathBuf,
    /// The data directory, for the same.
    data: PathBuf,
    verdicts: Arc<Mutex<HashMap<Sha256, watch::Receiver<Option<Verdict>>>>>,
    hashing: Arc<Semaphore>,
    lacks: Mutex<BTreeMap<String, (Lack, u64)>>,
}

/// What was found when a blob was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Its bytes are those of its name.
    Sound,
    /// They are others.
    Changed,
    /// They could not be read this time.
    Unreadable,
}

/// Something that was asked for and is not served.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Lack {
    what: String,
    why: &'static str,
    /// What would help.
    remedy: String,
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}; with this server stopped, {} helps", self.what, self.why, self.remedy)
    }
}

impl Lack {
    fn step(&self) -> Step {
        Step::ending(Action::Refuse, Outcome::Unpinned, self.to_string()).status(403)
    }
}

/// What is answered for a file.
enum Decision<'a> {
    Serve { name: &'a ModelName, locked: &'a Locked, entry: Arc<Entry> },
    Absent(&'a Commit),
    Refuse(Lack),
}

impl Frozen {
    /// Serves this lock, which was read from this file, over this data directory.
    pub fn new(lock: Lock, file: &Path, data: &Path) -> Arc<Self> {
        Arc::new(Self {
            pins: Pins::new(lock),
            lock: file.to_owned(),
            data: data.to_owned(),
            verdicts: Arc::default(),
            hashing: Arc::new(Semaphore::new(HASHED_AT_A_TIME)),
            lacks: Mutex::default(),
        })
    }

    /// Lists everything that was asked for and not served, a line each: what, how often, why, and what would help;
    /// with tabs between.
    ///
    /// # Errors
    /// When the list cannot be written.
    pub fn report(&self, out: &mut impl io::Write) -> io::Result<()> {
        for (lack, times) in self.lacks.lock().unwrap_or_else(PoisonError::into_inner).values() {
            let Lack { what, why, remedy } = lack;
            writeln!(out, "{what}\t{times}\t{why}\t{remedy}")?;
        }
        out.flush()
    }

    /// How many different things were asked for and not served.
    pub fn lacking(&self) -> usize {
        self.lacks.lock().unwrap_or_else(PoisonError::into_inner).len()
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

    /// Notes a lack, and answers.
    fn refuse(&self, mut lack: Lack) -> Reply {
        let end = (0..=MAX_TOLD).rev().find(|at| lack.what.is_char_boundary(*at)).unwrap_or_default();
        lack.what.truncate(end);
        let Lack { what, why, remedy } = &lack;
        tracing::warn!(what, why, remedy, "something was asked for beyond the lock");
        let reply = status::not_pinned(&lack.to_string());
        let mut lacks = self.lacks.lock().unwrap_or_else(PoisonError::into_inner);
        let room = lacks.len() < MAX_LACKS;
        match lacks.get_mut(what) {
            Some((_, times)) => *times += 1,
            None if room => drop(lacks.insert(what.clone(), (lack, 1))),
            None => {}
        }
        reply
    }

    /// What is answered for a file.
    fn decide(&self, cache: &Cache, resource: &Resource) -> Result<Decision<'_>, StoreError> {
        Ok(match self.pins.file(resource) {
            Pinned::File { name, locked, file } => match held_as_pinned(cache, resource, name, locked, file)?
            {
                Some(entry) => Decision::Serve { name, locked, entry },
                None => Decision::Refuse(self.not_held(name, &resource.path)),
            },
            Pinned::Absent(commit) => Decision::Absent(commit),
            Pinned::LeftOut(name, locked) => {
                Decision::Refuse(self.left_out(name, Some(locked), &resource.path))
            }
            Pinned::Unknown => {
                let (hub, repo) = (resource.hub, resource.repo.clone());
                let name = ModelName { hub, repo, revision: resource.revision.as_str().to_owned() };
                Decision::Refuse(self.left_out(&name, None, &resource.path))
            }
        })
    }

    /// The same in words, for a file.
    pub(super) fn file_step(&self, cache: &Cache, resource: &Resource) -> Result<Step, StoreError> {
        Ok(match self.decide(cache, resource)? {
            Decision::Serve { name, .. } => {
                let why =
                    format!("the lock file pins it as a file of {name}, and it is held with these bytes");
                Step::ending(Action::Serve, Outcome::Hit, why)
            }
            Decision::Absent(commit) => {
                let why = format!("by the lock file, commit {} has no such file", commit.as_str());
                Step::ending(Action::Absent, Outcome::Absent, why).status(404)
            }
            Decision::Refuse(lack) => lack.step(),
        })
    }

    /// The same in words, for a question to the API.
    pub(super) fn question_step(&self, question: &Question) -> Step {
        let revision = question.revision().map(Revision::as_str);
        let is_known = match revision {
            Some(revision) => self.pins.state(&question.repo, revision).is_some(),
            None => !self.pins.of(Hub::HuggingFace, &question.repo).is_empty(),
        };
        match is_known && !matches!(question.topic, Topic::Commits(_)) {
            true => Step::ending(Action::Serve, Outcome::Hit, "the lock file says it".to_owned()),
            false => self.unknown(question, is_known).step(),
        }
    }

    fn left_out(&self, name: &ModelName, locked: Option<&Locked>, path: &str) -> Lack {
        let arguments = [vec!["lock".to_owned()], adding(name, locked, path)].concat();
        let why = match locked {
            Some(_) => "is left out of the lock file",
            None => "is of a model that the lock file does not have",
        };
        Lack { what: format!("{name}/{path}"), why, remedy: self.command(&arguments) }
    }

    /// A question about a model of which nothing is pinned, or one that the lock cannot answer.
    fn unknown(&self, question: &Question, is_locked: bool) -> Lack {
        let revision = question.revision().map_or("main", Revision::as_str).to_owned();
        let name = ModelName { hub: Hub::HuggingFace, repo: question.repo.clone(), revision };
        let what = format!("{name} {}", question.name());
        if is_locked {
            let remedy = "asking a server that is not frozen".to_owned();
            return Lack { what, why: "cannot be told from the lock file", remedy };
        }
        let remedy = self.command(&["lock".to_owned(), "add".to_owned(), name.argument()]);
        Lack { what, why: "is of a model that the lock file does not have", remedy }
    }

    fn not_held(&self, name: &ModelName, path: &str) -> Lack {
        let remedy = self.command(&["preload".to_owned()]);
        Lack { what: format!("{name}/{path}"), why: "is pinned, but not held with these bytes", remedy }
    }

    fn damaged(&self, name: &ModelName, locked: &Locked, path: &str) -> Lack {
        let preload = self.command(&["preload".to_owned()]);
        let (hub, repo, revision) = (name.hub, &name.repo, locked.kept_at(name));
        let target = quoted(&format!("{hub}:{repo}@{revision}/{path}"));
        let remedy = format!(
            "`hubcache verify` lists all files with these bytes; `hubcache rm {target}` for each, and then {preload},"
        );
        let why = "has other bytes on the disk than those stored";
        Lack { what: format!("{name}/{path}"), why, remedy }
    }

    /// Begins to read and hash a blob, unless that was done or is under way.
    fn judge(&self, store: &Store, entry: &Entry) -> watch::Receiver<Option<Verdict>> {
        let mut verdicts = self.verdicts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(verdict) = verdicts.get(&entry.blob) {
            return verdict.clone();
        }
        let (tell, verdict) = watch::channel(None);
        verdicts.insert(entry.blob, verdict.clone());
        let (all, hashing, store) = (Arc::clone(&self.verdicts), Arc::clone(&self.hashing), store.clone());
        let (digest, size) = (entry.blob, entry.size);
        tokio::spawn(async move {
            let _turn = hashing.acquire().await;
            let read = tokio::task::spawn_blocking(move || hash(&store, &digest, size)).await;
            let found = match read {
                Ok(Ok(Some(found))) if found == digest => Verdict::Sound,
                Ok(Ok(Some(_))) => Verdict::Changed,
                Ok(Ok(None)) | Err(_) => Verdict::Unreadable,
                Ok(Err(StoreError::Damaged(why))) => {
                    tracing::error!(why, blob = %digest, "a blob is damaged");
                    Verdict::Changed
                }
                Ok(Err(error)) => {
                    tracing::error!(%error, blob = %digest, "a blob cannot be read");
                    Verdict::Unreadable
                }
            };
            if found == Verdict::Unreadable {
                all.lock().unwrap_or_else(PoisonError::into_inner).remove(&digest);
            }
            tell.send_replace(Some(found));
        });
        verdict
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

/// The SHA-256 of what the disk has; none if it has no such blob.
fn hash(store: &Store, digest: &Sha256, size: u64) -> Result<Option<Sha256>, StoreError> {
    let Some(blob) = store.open_blob(digest)? else { return Ok(None) };
    let mut hash = Hasher::new();
    for index in 0..chunks_of(size) {
        hash.update(&blob.read(index)?);
    }
    Ok(Some(Sha256(hash.finalize().into())))
}

impl Proxy {
    /// Answers for a file.
    pub(super) async fn frozen_file(&self, frozen: &Frozen, resource: &Resource, asked: &Asked<'_>) -> Reply {
        let (name, locked, entry) = match frozen.decide(&self.cache, resource) {
            Ok(Decision::Serve { name, locked, entry }) => (name, locked, entry),
            Ok(Decision::Absent(commit)) => {
                return document_reply(asked, &entry_not_found(commit), Outcome::Absent);
            }
            Ok(Decision::Refuse(lack)) => return frozen.refuse(lack),
            Err(error) => return status::of_store(&error),
        };
        let mut verdict = frozen.judge(self.cache.store(), &entry);
        if !asked.head_only {
            // It ends without a verdict only when this process does.
            let found = verdict.wait_for(Option::is_some).await.map_or(None, |found| *found);
            match found {
                Some(Verdict::Sound) => {}
                Some(Verdict::Changed) => {
                    return frozen.refuse(frozen.damaged(name, locked, &resource.path));
                }
                Some(Verdict::Unreadable) | None => return status::of_store(&StoreError::Gone),
            }
        }
        self.serve(resource, asked, &entry, Outcome::Hit).await
    }

    /// Answers a question to the API from the lock.
    pub(super) fn frozen_question(&self, frozen: &Frozen, question: &Question, asked: &Asked<'_>) -> Reply {
        let repo = &question.repo;
        let Some(revision) = question.revision() else {
            let models = frozen.pins.of(Hub::HuggingFace, repo);
            let pinned = models
                .iter()
                .filter_map(|(name, locked)| Some((name.revision.as_str(), locked.commit.as_ref()?)));
            return match models.is_empty() {
                true => frozen.refuse(frozen.unknown(question, false)),
                false => told(asked, None, &pinned::refs(pinned)),
            };
        };
        let Some(state) = frozen.pins.state(repo, revision.as_str()) else {
            return frozen.refuse(frozen.unknown(question, false));
        };
        let lacks = |path: &str| {
            let locked = frozen.pins.of(Hub::HuggingFace, repo).iter().find(|(name, _)| name == state.name);
            frozen.refuse(frozen.left_out(state.name, locked.map(|(_, locked)| locked), path))
        };
        let left_out_at = |folder: &str| {
            let hidden = |path: &&&str| **path == folder || pinned::is_below(path, folder);
            state.left_out.iter().find(hidden).copied()
        };
        let files = self.listed(repo, &state);
        let has = |name: &str| question.parameters.iter().any(|(n, v)| n == name && v == "true");
        let answer = match &question.topic {
            Topic::Info(_) => pinned::info(repo, state.commit, &files, has("blobs")),
            Topic::Tree { path, .. } => match pinned::tree(&files, path, has("recursive")) {
                Some(tree) => tree,
                None => {
                    return match left_out_at(path) {
                        Some(left_out) => lacks(left_out),
                        None => document_reply(asked, &entry_not_found(state.commit), Outcome::Absent),
                    };
                }
            },
            Topic::Paths { paths, .. } => {
                // Absent and left out must not look the same.
                let is_told =
                    |path: &str| files.iter().any(|f| f.path == path || pinned::is_below(f.path, path));
                let hidden = paths.iter().filter(|path| !is_told(path));
                if let Some(left_out) = hidden.filter_map(|path| left_out_at(path)).next() {
                    return lacks(left_out);
                }
                pinned::paths(&files, paths)
            }
            Topic::Commits(_) | Topic::Refs => return frozen.refuse(frozen.unknown(question, true)),
        };
        told(asked, Some(&state), &answer)
    }

    /// The files of a model as its tree lists them.
    fn listed<'a>(&self, repo: &Repo, state: &State<'a>) -> Vec<PinnedFile<'a>> {
        let at = Revision::Commit(state.commit.clone());
        let git_id = |path: &str| {
            let (hub, revision) = (Hub::HuggingFace, at.clone());
            let resource = Resource { hub, repo: repo.clone(), revision, path: path.to_owned() };
            let entry = self.cache.look_up(&resource, View::Alone).ok()?.current?;
            entry.promises.iter().find_map(|promise| match promise.digest {
                Digest::GitSha1(_) => Some(promise.digest.value()),
                _ => None,
            })
        };
        let listed = state.files.iter().map(|(path, file)| PinnedFile {
            path,
            size: file.size,
            id: match file.from {
                Origin::Lfs => FileId::Lfs(file.sha256),
                _ => FileId::Git(git_id(path)),
            },
        });
        listed.collect()
    }
}

/// What is held of a file, if that is what is pinned.
fn held_as_pinned(
    cache: &Cache,
    resource: &Resource,
    name: &ModelName,
    locked: &Locked,
    file: &LockedFile,
) -> Result<Option<Arc<Entry>>, StoreError> {
    let at = resource.at(Revision::parse(resource.hub, locked.kept_at(name)));
    let found = cache.look_up(&at, View::Alone)?;
    let mut held = found.current.into_iter().chain(found.older);
    Ok(held.find(|entry| entry.blob == file.sha256))
}

/// An answer of the API as the lock has it.
fn told(asked: &Asked<'_>, state: Option<&State<'_>>, body: &Value) -> Reply {
    let body = body.to_string();
    let document = Document {
        status: StatusCode::OK.as_u16(),
        content_type: Some("application/json; charset=utf-8".to_owned()),
        commit: state.map(|state| state.commit.clone()),
        etag: api::etag(body.as_bytes()),
        body: body.into(),
        ..Document::default()
    };
    document_reply(asked, &document, Outcome::Hit)
}
