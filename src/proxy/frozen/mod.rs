//! Exactly what a lock file names, and nothing else.
//!
//! **What can be asked for.** A file is *pinned* and served; or the commit does not have it, which clients probe for and
//! are told with the hub's own 404; or it is *left out* of the lock; or nothing of its model is pinned. The last two, and
//! what is pinned and not held, are **lacks**: refused with the file's name and the command that would help, logged,
//! counted, and listed at the end. A branch in the lock means the locked commit, for files and for the API alike.
//!
//! **Recording.** Where a lock is being written, what lies beyond it is asked of the hub instead, at the commit that the
//! lock has for the model, or that the first answer named; and noted, so that it can be added. What is pinned comes from
//! the store all the same, and what is pinned and not held stays a lack: the hub could have other bytes by now.
//!
//! **Who owns what.** [`Frozen`] holds the lock, the verdicts over blobs, the lacks and what was recorded; one is made for
//! a server, or for a session of one. Without recording there is no `Fetcher` here, by construction.
//!
//! **What can fail.** The bytes on the disk may have changed since they were stored. Every blob is therefore read and
//! hashed when it is first asked for in this process, once for all who ask, in a task of its own: whoever leaves
//! meanwhile finds the verdict when they come again. HEAD, which clients send first, begins it. Until the verdict a body
//! is delivered like that of a fill: as it is read with the last byte withheld, or not at all where delivery is
//! `verified`; a small file, and a range that has an end, waits. A blob that is not what its name says is a lack, and
//! breaks the bodies that were under way; one that cannot be read is an error, and is tried again.
//!
//! Remote Settings is no model: what is held of it is mirrored as by any server without a network.

mod lacks;
mod question;
mod recorder;
mod verdicts;

use std::path::Path;
use std::sync::Arc;

use http::header;

use self::lacks::{Lacks, Remedies};
use self::recorder::Recorder;
use self::verdicts::{Verdict, Verdicts};
use super::answer::document_reply;
use super::explain::{Action, Step};
use super::{Asked, Proxy, Reply, status};
use crate::body::Body;
use crate::cache::{Cache, Fetcher, View};
use crate::hub::api::entry_not_found;
use crate::model::{Commit, Entry, EntryKey, Hub, Outcome, Question, Resource, Revision, Timestamp, Topic};
use crate::policy::Delivery;
use crate::request::{Range, client_is_firefox};
use crate::store::{SMALL, StoreError};
use crate::transfer::lock::{Lock, Locked, LockedFile};
use crate::transfer::{ModelName, Pinned, Pins, Recorded};

pub use self::lacks::Lack;
pub(in crate::proxy) use self::verdicts::Pending;

/// For whom a lock is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freezing {
    /// For the clients of a server that asks no hub.
    Server,
    /// For those of a server of a bundle, in which the lock is.
    Bundle,
    /// For one run of a program, in a process that owns the data directory.
    Run {
        /// Whether what lies beyond the lock is asked of the hub, and noted.
        records: bool,
    },
}

/// A lock that is served, and what was asked for beyond it.
#[derive(Debug)]
pub struct Frozen {
    pins: Pins,
    remedies: Remedies,
    verdicts: Verdicts,
    lacks: Lacks,
    recorder: Option<Recorder>,
    is_run: bool,
}

/// What is answered for a file.
enum Decision<'a> {
    Serve {
        name: &'a ModelName,
        locked: &'a Locked,
        entry: Arc<Entry>,
    },
    Absent(&'a Commit),
    /// It is not pinned, whether anything of its model is or not.
    Beyond {
        name: ModelName,
        commit: Option<&'a Commit>,
        lack: Lack,
    },
    Refuse(Lack),
}

impl Frozen {
    /// Serves this lock, which was read from this file (a bundle has it in it), over this data directory.
    pub fn new(lock: Lock, file: &Path, data: &Path, freezing: Freezing) -> Arc<Self> {
        Arc::new(Self {
            pins: Pins::new(lock),
            remedies: Remedies::new(file, data, freezing),
            verdicts: Verdicts::new(),
            lacks: Lacks::default(),
            is_run: matches!(freezing, Freezing::Run { .. }),
            recorder: (freezing == Freezing::Run { records: true }).then(Recorder::default),
        })
    }

    /// Whether the lock pins a file that is held under this key.
    pub fn pins(&self, key: &EntryKey) -> bool {
        matches!(self.pins.file(&key.resource()), Pinned::File { .. })
    }

    /// What was asked for and not served, with how often.
    pub fn lacking(&self) -> Vec<(Lack, u64)> {
        self.lacks.all()
    }

    /// What was asked for beyond the lock and is at the hub.
    pub fn recorded(&self) -> Vec<Recorded> {
        self.recorder.as_ref().map_or_else(Vec::new, Recorder::all)
    }

    /// Notes a lack, and answers.
    fn refuse(&self, mut lack: Lack) -> Reply {
        self.lacks.note(&mut lack);
        let Lack { what, why, remedy, .. } = &lack;
        tracing::warn!(what, why, remedy, "something was asked for beyond the lock");
        status::not_pinned(&lack.to_string())
    }

    /// What is held of a file, if that is what is pinned. A run serves one program of somebody who has the data directory;
    /// to others what not everybody may read is as if it were not held.
    fn held(
        &self,
        cache: &Cache,
        resource: &Resource,
        name: &ModelName,
        locked: &Locked,
        file: &LockedFile,
    ) -> Result<Option<Arc<Entry>>, StoreError> {
        let at = resource.at(Revision::parse(resource.hub, locked.kept_at(name)));
        let found = cache.look_up(&at, View::Alone)?;
        let restricted = if self.is_run { cache.entry_for_granted(&at)? } else { None };
        let mut held = found.current.into_iter().chain(found.older).chain(restricted);
        Ok(held.find(|entry| entry.blob == file.sha256))
    }

    /// What is answered for a file.
    fn decide(&self, cache: &Cache, resource: &Resource) -> Result<Decision<'_>, StoreError> {
        let path = &resource.path;
        Ok(match self.pins.file(resource) {
            Pinned::File { name, locked, file } => match self.held(cache, resource, name, locked, file)? {
                Some(entry) => Decision::Serve { name, locked, entry },
                None => Decision::Refuse(self.remedies.not_held(name, path)),
            },
            Pinned::Absent(commit) => Decision::Absent(commit),
            Pinned::LeftOut(name, locked) => Decision::Beyond {
                name: name.clone(),
                commit: locked.commit.as_ref(),
                lack: self.remedies.left_out(name, Some(locked), path),
            },
            Pinned::Unknown => {
                let (hub, repo) = (resource.hub, resource.repo.clone());
                let name = ModelName { hub, repo, revision: resource.revision.as_str().to_owned() };
                let lack = self.remedies.left_out(&name, None, path);
                Decision::Beyond { name, commit: None, lack }
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
            Decision::Beyond { lack, .. } | Decision::Refuse(lack) => lack.step(),
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
            false => self.remedies.unknown(question, is_known).step(),
        }
    }
}

impl Proxy {
    /// Answers for a file.
    pub(super) async fn frozen_file(&self, frozen: &Frozen, resource: &Resource, asked: &Asked<'_>) -> Reply {
        let (name, locked, entry) = match frozen.decide(&self.cache, resource) {
            Ok(Decision::Serve { name, locked, entry }) => (name, locked, entry),
            Ok(Decision::Absent(commit)) => {
                return document_reply(asked, &entry_not_found(commit), Outcome::Absent);
            }
            Ok(Decision::Beyond { name, commit, lack }) => {
                return match (&frozen.recorder, &self.fetcher) {
                    (Some(recorder), Some(fetcher)) => {
                        let at = beyond(recorder, resource, commit);
                        self.recorded_file(frozen, recorder, (fetcher, name), (resource, &at), asked).await
                    }
                    _ => frozen.refuse(lack),
                };
            }
            Ok(Decision::Refuse(lack)) => return frozen.refuse(lack),
            Err(error) => return status::of_store(&error),
        };
        let mut verdict = frozen.verdicts.judge(self.cache.store(), &entry);
        if asked.head_only {
            return self.serve(resource, asked, &entry, Outcome::Hit).await;
        }
        match self.verdict_before(&mut verdict, resource, asked, &entry).await {
            None => self.serve_under(resource, asked, &entry, Outcome::Hit, Some(verdict)).await,
            Some(Verdict::Sound) => self.serve(resource, asked, &entry, Outcome::Hit).await,
            Some(Verdict::Changed) => frozen.refuse(frozen.remedies.damaged(name, locked, &resource.path)),
            Some(Verdict::Unreadable) => status::of_store(&StoreError::Gone),
        }
    }

    /// The verdict, if it has to be there before the first byte is sent.
    async fn verdict_before(
        &self,
        verdict: &mut Pending,
        resource: &Resource,
        asked: &Asked<'_>,
        entry: &Entry,
    ) -> Option<Verdict> {
        let headers = &asked.parts.headers;
        let has_end =
            headers.contains_key(header::RANGE) && !matches!(Range::of(headers), Some(Range::From(_)));
        if entry.size <= SMALL || has_end {
            return Some(verdict.wait().await);
        }
        match self.rules.delivery(resource.hub, client_is_firefox(headers)) {
            Delivery::Verified => tokio::time::timeout(self.rules.hold, verdict.wait()).await.ok(),
            Delivery::Stream => verdict.now(),
        }
    }

    /// A blob from `start` to its end, of which the last byte waits for the verdict.
    pub(super) fn withheld(&self, entry: &Entry, start: u64, verdict: Pending) -> Result<Body, StoreError> {
        let store = self.cache.store();
        let Some(blob) = store.open_blob(&entry.blob)? else { return Err(StoreError::Gone) };
        store.used(&entry.blob, Timestamp::now());
        let body = verdicts::withholding(blob, start, entry.size, verdict);
        Ok(Body::stream(body, Some(entry.size.saturating_sub(start))))
    }

    /// Answers for a file beyond the lock as any server with a hub would, and notes that it was asked for.
    async fn recorded_file(
        &self,
        frozen: &Frozen,
        recorder: &Recorder,
        (fetcher, model): (&Arc<Fetcher>, ModelName),
        (resource, at): (&Resource, &Resource),
        asked: &Asked<'_>,
    ) -> Reply {
        let reply = self.planned(fetcher, at, asked).await;
        let (status, headers) = (reply.response.status(), reply.response.headers());
        recorder.stands(&resource.repo, &resource.revision, headers);
        let needs_caller = matches!(reply.outcome, Outcome::Granted | Outcome::Entitled | Outcome::Private);
        if needs_caller && status.is_success() {
            return frozen.refuse(frozen.remedies.private(&model, &resource.path));
        }
        if status.is_success() || status == http::StatusCode::NOT_MODIFIED {
            recorder.has(model, &resource.path, headers);
        }
        reply
    }
}

/// Where the hub is asked for a file beyond the lock.
fn beyond(recorder: &Recorder, resource: &Resource, locked: Option<&Commit>) -> Resource {
    let stands = || recorder.commit(&resource.repo, resource.revision.as_str());
    match locked.cloned().or_else(stands) {
        Some(commit) => resource.at(Revision::Commit(commit)),
        None => resource.clone(),
    }
}
