//! What is answered over the control socket.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Lacking, Noted, Place, Status};
use crate::model::{
    Commit, Decided, Digest, Entry, EntryKey, Happening, LockedAttachment, LockedSettings, Needed, RefKey,
    Sha256, Timestamp,
};
use crate::proxy::explain::Explanation;
use crate::remote_settings::{SettingsStatus, Taken};
use crate::store::Going;

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
    /// Something that goes for want of room, or would.
    Going {
        /// That.
        going: Going,
    },
    /// How full the data directory is at the end.
    Space {
        /// That.
        space: Space,
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

/// How full a data directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Space {
    /// Bytes on disk that all its files take.
    pub used_bytes: u64,
    /// What they may take.
    pub limit_bytes: u64,
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
    pub(in crate::admin) const USAGE: u8 = 64;
    /// What was given is damaged, or is not what it should be.
    pub(in crate::admin) const DATA: u8 = 65;
    /// There is nothing of that name.
    pub(in crate::admin) const NO_INPUT: u8 = 66;
    /// Nobody is there who could say.
    pub(in crate::admin) const UNAVAILABLE: u8 = 69;
    /// The store could not be read or written.
    pub(in crate::admin) const IO: u8 = 74;
    /// Another attempt may succeed.
    pub(in crate::admin) const TRY_AGAIN: u8 = 75;
    /// The settings of the two ends do not fit.
    pub(in crate::admin) const CONFIG: u8 = 78;

    pub(in crate::admin) fn io(context: &str, error: &dyn std::error::Error) -> Self {
        Self { error: format!("{context}: {}", chain(error)), exit: Self::IO }
    }
}

/// An error and its causes on one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |e| e.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

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
