//! What an explanation says. The types go over the control socket; times are milliseconds there.

use serde::{Deserialize, Serialize};

use crate::model::{Commit, Entry, Hub, HubRoot, Promise, Timestamp};

/// What would be answered to a request, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// The method of the request.
    pub method: String,
    /// Its path as it would come to this server.
    pub path: String,
    /// What it addresses.
    pub target: Addressed,
    /// What would be done: at once, and further on if that is known.
    pub steps: Vec<Step>,
}

/// What a request addresses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Addressed {
    /// A file.
    File(Box<Facts>),
    /// A question to the API.
    Question(Box<Facts>),
    /// Something that is handed on.
    Passed {
        /// To this hub.
        hub: Hub,
        /// Which is here.
        root: HubRoot,
    },
    /// A browser's cross-origin question.
    Preflight,
    /// Something of this server's own.
    Own,
    /// Nothing that can be answered.
    Refused,
}

/// What is held and known for a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// The hub.
    pub hub: Hub,
    /// Where it is.
    pub root: HubRoot,
    /// The repository with the prefix of its kind.
    pub repo: String,
    /// The path of the file, or what is asked.
    pub name: String,
    /// Whether it is a question to the API, and no file.
    pub is_question: bool,
    /// The revision; some questions are about none.
    pub revision: Option<Meaning>,
    /// What is held at the revision's last known meaning.
    pub held: Option<Holding>,
    /// What is held at an earlier meaning, at which the revision stands while no hub can be asked.
    pub older: Option<Holding>,
    /// What is held for those alone whom the hub grants it.
    pub restricted: Option<Holding>,
    /// A download that is not finished.
    pub unfinished: Option<Unfinished>,
    /// What the hub said of a file that is not held.
    pub known: Option<Known>,
    /// That there is no such file.
    pub absent: Option<Absence>,
    /// How the hub refused it a moment ago.
    pub refused: Option<String>,
}

/// What a revision stands for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Meaning {
    /// As the request names it.
    pub name: String,
    /// Whether it can never stand for anything else.
    pub immutable: bool,
    /// The commit, as far as is known.
    pub commit: Option<Commit>,
    /// When the hub last said so; for what stands for nothing but itself, when it last confirmed the file.
    pub checked_at: Option<Timestamp>,
    /// Whether that is recent enough to be taken for granted.
    pub trusted: bool,
}

/// What is held.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Holding {
    /// A file.
    File(Box<Entry>),
    /// An answer of the API.
    Answer {
        /// 200, or 404 for what the hub says is not there.
        status: u16,
        /// Length of its body in bytes.
        size_bytes: u64,
        /// When the hub last said so.
        learned_at: Timestamp,
    },
}

/// A download that is not finished.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Unfinished {
    /// Whether it runs now.
    pub running: bool,
    /// Bytes that are here.
    pub arrived_bytes: u64,
    /// The size of the file, once known.
    pub size_bytes: Option<u64>,
    /// When it began.
    pub started_at: Timestamp,
}

/// What the hub said of a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Known {
    /// Its size.
    pub size_bytes: Option<u64>,
    /// What it must hash to.
    pub promises: Vec<Promise>,
    /// When the hub said so.
    pub learned_at: Timestamp,
}

/// That there is no such file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Absence {
    /// The hub said so.
    Said {
        /// Then.
        learned_at: Timestamp,
    },
    /// It is not in the list of all files of the commit.
    NotListed,
}

/// One thing that would be done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Under which condition; none for what would be done at once.
    pub when: Option<String>,
    /// What.
    pub action: Action,
    /// Why.
    pub why: String,
    /// The status of the answer, where that does not depend on more of the request.
    pub status: Option<u16>,
    /// The `Cache-Status` of the answer, where it is known.
    pub cache_status: Option<String>,
}

/// What would be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Serve what is held.
    Serve,
    /// Say that there is no such file.
    Absent,
    /// Hand on once more how the hub refused it.
    Repeat,
    /// Answer HEAD from what the hub said.
    Tell,
    /// Ask the hub, then see.
    Ask,
    /// Download.
    Download,
    /// Follow a download that runs.
    Follow,
    /// Fetch for this caller alone.
    Private,
    /// Hand the request to the hub.
    Pass,
    /// Answer a browser's cross-origin question.
    Preflight,
    /// Something of this server's own is sent.
    Own,
    /// Refuse.
    Refuse,
}
