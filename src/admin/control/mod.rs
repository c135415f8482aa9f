//! Commands to the process that owns the data directory.
//!
//! One process owns a data directory, and every other one asks it over a Unix socket: one line of JSON with a
//! [`Command`], then lines of JSON with a [`Reply`] each, of which the last is `{"done":..}` or
//! `{"error":..,"exit":..}`. Behind a [`Reply::Chunk`] come as many bytes as it says. Where nobody owns the directory, the command line opens the store and calls
//! [`execute()`] itself; only a server can say what [`Command::Status`] asks.

mod client;
mod context;
mod execute;
mod line;
mod place;
mod server;
mod session;
mod status;

use std::path::PathBuf;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub use client::{Connection, connect};
pub use context::{Context, Server};
pub use execute::execute;
pub use place::{Bound, bind, located};
pub use server::serve;
pub use session::{Lacking, Noted, Opened, Opening, Place, Refused, SessionAsked, Wish};
pub use status::{Condition, FillStatus, HubStatus, Status, Traffic};

use crate::cache::Imported;
use crate::model::{
    Commit, Decided, Digest, Entry, EntryKey, Happening, Hub, LockedAttachment, LockedSettings, Needed,
    Promise, RefKey, Repo, Sha256, Timestamp,
};
use crate::proxy::explain::Explanation;
use crate::remote_settings::{SettingsStatus, Taken};
use crate::store;

/// Something that operators ask of a store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Command {
    /// Tell what is held.
    Ls {
        /// Of what.
        selector: Selector,
    },
    /// Tell what is held, for a closer look.
    Show {
        /// Of what.
        selector: Selector,
    },
    /// Remove what is held.
    Rm {
        /// What.
        selector: Selector,
        /// Only tell what would be removed.
        dry_run: bool,
    },
    /// Read every byte again and compare.
    Verify {
        /// Of what.
        selector: Selector,
    },
    /// Tell what the server does.
    Status,
    /// Ask Remote Settings what has changed, and tell how it stands then.
    Sync,
    /// Tell how it stands with Remote Settings.
    Settings,
    /// Tell what Firefox needs: what the verified collections name of models, and what is held of the collections.
    Needs {
        /// Whether that state is kept, whatever is announced later, as a lock pins it.
        keep: bool,
    },
    /// Keep all revisions of a model.
    Hold {
        /// The model, with the prefix of its kind.
        model: String,
    },
    /// No longer keep all revisions of a model.
    Release {
        /// The model, with the prefix of its kind.
        model: String,
    },
    /// Tell what happened to a model, or to all.
    History {
        /// The model, with the prefix of its kind.
        model: Option<String>,
    },
    /// Keep revisions whatever is announced.
    Pin {
        /// Of what.
        selector: Selector,
    },
    /// No longer.
    Unpin {
        /// Of what.
        selector: Selector,
    },
    /// Tell for what a revision of Hugging Face stands, and which files that has.
    Survey {
        /// The repository.
        repo: Repo,
        /// The revision.
        revision: String,
    },
    /// Bring files here that are not held, and tell what they are.
    Bring {
        /// Which files.
        files: Vec<Wanted>,
    },
    /// Hold files that lie on this machine's disk, and tell what they are. No hub is asked. Whoever owns the data
    /// directory reads them, and only its owner can reach the socket.
    Take {
        /// Which files.
        files: Vec<Found>,
    },
    /// Note what a client of Hugging Face, or a lock file, has noted of a commit.
    Learn {
        /// The repository.
        repo: Repo,
        /// The commit.
        commit: Commit,
        /// Which branches and tags stood for it, and when.
        names: Vec<(String, Timestamp)>,
        /// Files that it does not have.
        absent: Vec<String>,
        /// What came with an import of it.
        imported: Option<Box<Imported>>,
    },
    /// Tell what a small file that is held says.
    Read {
        /// Which file.
        file: Wanted,
    },
    /// Take over what is pinned of Remote Settings, of which all parts are held.
    Adopt {
        /// What that is.
        settings: Box<LockedSettings>,
    },
    /// Send the bytes of blobs, one behind the other.
    Blobs {
        /// Which ones.
        blobs: Vec<Sha256>,
        /// Where in the first of them to begin.
        from: u64,
    },
    /// Serve what a lock file pins, for as long as the connection is held.
    Session {
        /// What is to be served, and how.
        wish: Wish,
    },
    /// Tell what would be answered to a request, and why. Nothing is fetched.
    Explain {
        /// Which request.
        request: Request,
    },
}

/// A file that is to be brought here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// The hub.
    pub hub: Hub,
    /// The repository.
    pub repo: Repo,
    /// The revision at which it is kept: a commit, a version, or a mutable name of the Mozilla hub.
    pub revision: String,
    /// The path.
    pub path: String,
    /// What its bytes must be.
    pub sha256: Option<Sha256>,
}

/// Longest file that [`Command::Read`] tells, in bytes, so that it fits on a line.
pub const MAX_READ: u64 = 128 << 10;

/// Most files of one [`Command::Bring`], so that it fits on a line.
pub const MAX_WANTED: usize = 1000;

/// Most blobs of one [`Command::Blobs`].
pub const MAX_BLOBS: usize = 1000;

/// A file on this machine's disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Found {
    /// As what it is to be held.
    pub file: Wanted,
    /// Where it lies: an absolute path without links. None where its bytes are held already, under another name.
    pub at: Option<PathBuf>,
    /// Where in that it begins, and how long it is, if it is not all of it.
    pub stretch: Option<(u64, u64)>,
    /// What its bytes must hash to, by the word of whoever put it there.
    pub promises: Vec<Promise>,
    /// Since when it lies there.
    pub since: Timestamp,
}

/// Most files of one [`Command::Take`], of which each has two paths.
pub const MAX_FOUND: usize = 200;

/// A file that a hub lists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// The path.
    pub path: String,
    /// Its length in bytes.
    pub size: Option<u64>,
    /// What it hashes to: SHA-256 of large files, the git blob id of others.
    pub digest: Option<Digest>,
    /// Whether it is held already, and as what.
    pub held: Option<Sha256>,
}

/// How far a file is that is brought here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moving {
    /// Which of the files, counted from 0.
    pub at: usize,
    /// Bytes of it that are here.
    pub arrived_bytes: u64,
    /// Its length, once known.
    pub size_bytes: Option<u64>,
}

/// What became of a file that was to be brought here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Brought {
    /// Which of the files, counted from 0.
    pub at: usize,
    /// The file, if it is here.
    pub entry: Option<Entry>,
    /// Whether it was here before.
    pub was_held: bool,
    /// Whether its hub has no such file.
    pub is_missing: bool,
    /// Why it is not here, if it is not.
    pub trouble: Option<String>,
}

/// A request that a client might send.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Its method.
    pub method: String,
    /// Its URL here or at a hub, or only the path.
    pub url: String,
    /// Names and values of its header fields. Of credentials only the name is looked at, so the value stays behind.
    pub headers: Vec<(String, String)>,
}

/// Which files are meant; what is absent is not asked about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Selector {
    /// The hub.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hub: Option<Hub>,
    /// The repository with the prefix of its kind: `datasets/acme/tiny`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repo: Option<String>,
    /// The revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// The file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

impl From<Selector> for store::Selector {
    fn from(s: Selector) -> Self {
        Self { hub: s.hub, root: None, repo: s.repo, revision: s.revision, path: s.path }
    }
}

/// One line of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Reply {
    /// A file that is held.
    Entry {
        /// The file.
        entry: Row,
    },
    /// A branch or tag of a repository of which something is selected.
    Reference {
        /// Which one.
        reference: Reference,
    },
    /// An answer of a hub's API that is held.
    Answer {
        /// Which one.
        answer: Answer,
    },
    /// How far a long command has come.
    Progress {
        /// How far.
        progress: Progress,
    },
    /// A file whose bytes are not what they were.
    Damaged {
        /// The file.
        damaged: Row,
        /// What was found instead.
        found: String,
    },
    /// What the server does.
    Status {
        /// That.
        status: Box<Status>,
    },
    /// How it stands with Remote Settings.
    Settings {
        /// That.
        settings: Box<SettingsStatus>,
    },
    /// A repository at a revision that Firefox needs.
    Needed {
        /// That.
        needed: Needed,
    },
    /// What is held of Remote Settings, as a lock pins it, but for its attachments.
    Locked {
        /// That.
        locked: Box<LockedSettings>,
    },
    /// An attachment that goes with it.
    Attached {
        /// Where it is.
        location: String,
        /// What it is.
        attached: LockedAttachment,
    },
    /// Something that happened.
    Happened {
        /// That.
        happening: Happening,
    },
    /// For what a revision stands.
    Resolved {
        /// The commit.
        resolved: Commit,
    },
    /// A file that a hub lists.
    Listed {
        /// Which.
        listed: Listed,
    },
    /// How far a file is.
    Moving {
        /// Which and how far.
        moving: Moving,
    },
    /// What became of a file that was to be brought.
    Brought {
        /// That.
        brought: Box<Brought>,
    },
    /// What a small file says.
    Text {
        /// That.
        text: String,
    },
    /// What became of a collection that was imported.
    Taken {
        /// That.
        taken: Taken,
    },
    /// Bytes of a blob, which come behind this line.
    Chunk {
        /// How many.
        chunk_bytes: usize,
        /// They.
        #[serde(skip)]
        bytes: Bytes,
    },
    /// What would be answered to a request.
    Explained {
        /// That.
        explanation: Box<Explanation>,
    },
    /// A session is open.
    Session {
        /// Where its clients connect.
        session: Place,
    },
    /// Something that a session was asked for and did not serve.
    Lacking {
        /// That.
        lacking: Lacking,
    },
    /// Something that a session was asked for beyond its lock, and had from the hub.
    Noted {
        /// That.
        noted: Noted,
    },
    /// The end.
    Done {
        /// What was done.
        done: Summary,
    },
    /// The end, before it was reached.
    Failed(Failure),
}

/// A file that is held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Which file.
    pub key: EntryKey,
    /// Its index record.
    pub entry: Entry,
    /// When its bytes were last sent to a client.
    pub last_used: Timestamp,
    /// What was decided of its revision.
    #[serde(default)]
    pub decided: Decided,
}

/// What a branch or tag stands for, as its hub said last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    /// Which branch or tag.
    pub key: RefKey,
    /// The commit.
    pub commit: Commit,
    /// When the hub said so.
    pub checked_at: Timestamp,
}

/// An answer of a hub's API that is held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The revision that it is about, and as the path what was asked.
    pub key: EntryKey,
    /// More about it, for a closer look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub said: Option<Said>,
}

/// What an answer is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// 200, or 404 for what the hub says is not there.
    pub status: u16,
    /// Length of its body in bytes.
    pub size_bytes: u64,
    /// When the hub said so last.
    pub learned_at: Timestamp,
}

/// How many bytes of how many were looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// So far.
    pub done_bytes: u64,
    /// In all.
    pub total_bytes: u64,
}

/// What a command did, or told about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Files.
    pub entries: u64,
    /// Files whose download is not finished.
    pub partials: u64,
    /// Answers of a hub's API; an earlier program does not tell.
    #[serde(default)]
    pub documents: u64,
    /// Distinct contents of files.
    pub blobs: u64,
    /// Bytes of those.
    pub bytes: u64,
    /// Files among them whose bytes are wrong.
    pub damaged: u64,
}

/// Why a command was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// For people.
    pub error: String,
    /// For scripts, from `sysexits.h`.
    pub exit: u8,
}

impl Failure {
    /// The command was not understood; also when the two ends are of different versions.
    const USAGE: u8 = 64;
    /// What was given is damaged, or is not what it should be.
    const DATA: u8 = 65;
    /// There is nothing of that name.
    const NO_INPUT: u8 = 66;
    /// Nobody is there who could say.
    const UNAVAILABLE: u8 = 69;
    /// The store could not be read or written.
    const IO: u8 = 74;
    /// Another attempt may succeed.
    const TRY_AGAIN: u8 = 75;
    /// The settings of the two ends do not fit.
    const CONFIG: u8 = 78;

    fn io(context: &str, error: &dyn std::error::Error) -> Self {
        Self { error: format!("{context}: {}", chain(error)), exit: Self::IO }
    }
}

/// An error and its causes on one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |e| e.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// A blob whose bytes were read again.
#[derive(Debug)]
enum Checked {
    /// They are what they were.
    Intact,
    /// They are not, or cannot be read.
    Wrong(String),
    /// The blob was removed in the meantime.
    Gone,
}

/// A blob to look at.
#[derive(Clone, Copy, Debug)]
struct Suspect {
    digest: Sha256,
    size_bytes: u64,
}

#[cfg(test)]
pub(super) mod tests;
