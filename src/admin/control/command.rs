//! What is asked over the control socket.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Wish;
use crate::cache::Imported;
use crate::model::{Commit, Hub, LockedSettings, Openness, Promise, Repo, Sha256, Timestamp};
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
    /// Keep revisions whatever is announced, and whatever else needs room.
    Pin {
        /// Of what.
        selector: Selector,
        /// Who keeps them; empty where nobody says.
        #[serde(default)]
        owner: String,
        /// What for; empty where nobody says.
        #[serde(default)]
        reason: String,
        /// For how long, in milliseconds; for good where nobody says.
        #[serde(default)]
        lasting_ms: Option<u64>,
    },
    /// No longer.
    Unpin {
        /// Of what.
        selector: Selector,
    },
    /// Have files go until the data directory takes no more than it may, or tell which.
    Prune {
        /// Bytes on disk that it may take; without it: what the settings say.
        to: Option<u64>,
        /// Only tell what would go.
        plan: bool,
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
    /// Who may read it, by the word of whoever brings it.
    pub access: Openness,
}

/// Most files of one [`Command::Take`], of which each has two paths.
pub const MAX_FOUND: usize = 200;

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
