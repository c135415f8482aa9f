//! What announcements make of revisions: what is to be fetched, what was replaced, and what became of it.

use serde::{Deserialize, Serialize};

use super::{Hub, Timestamp};

/// What is done when another revision of a model is announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnAnnounce {
    /// The same files of the new revision are fetched; then the old one is superseded.
    Prefetch,
    /// The same, and the old one is dropped after a while.
    Evict,
    /// The old one is superseded, and nothing is fetched.
    Mark,
    /// Nothing.
    Ignore,
}

/// That another revision took the place of this one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Superseded {
    /// The revision that did.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// When this one is dropped, if it is.
    pub drop_at: Option<Timestamp>,
    /// Under which server and roots that was announced; under others it is not acted upon.
    pub under: String,
}

/// That somebody keeps a revision: it is never dropped by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// Since when.
    pub at: Timestamp,
    /// Who keeps it; empty where nobody said.
    pub owner: String,
    /// What for; empty where nobody said.
    pub reason: String,
    /// When it ends, if it does by itself.
    pub until: Option<Timestamp>,
}

impl Pin {
    /// One that lasts, of nobody in particular.
    pub fn lasting(at: Timestamp, reason: &str) -> Self {
        Self { at, owner: String::new(), reason: reason.to_owned(), until: None }
    }

    /// Whether it is one still.
    pub fn stands(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| until > now)
    }
}

/// What was decided of a revision.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decided {
    /// Who keeps it, as it was said; [`Decided::pin`] tells whether that is so still.
    pub pinned: Option<Pin>,
    /// Whether another took its place.
    pub superseded: Option<Superseded>,
}

impl Decided {
    /// The pin that stands on it.
    pub fn pin(&self, now: Timestamp) -> Option<&Pin> {
        self.pinned.as_ref().filter(|pin| pin.stands(now))
    }

    /// `current` or `superseded`; either may be pinned.
    pub fn state(&self) -> &'static str {
        if self.superseded.is_some() { "superseded" } else { "current" }
    }

    /// The same for people, with whether it is pinned.
    pub fn words(&self, now: Timestamp) -> String {
        let pinned = if self.pin(now).is_some() { ", pinned" } else { "" };
        format!("{}{pinned}", self.state())
    }
}

/// A job that an announcement has begun, about one revision of one repository. It is durable, and repeated until it is
/// done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renewal {
    /// What is to be done.
    pub task: Task,
    /// The collection and the record that asked for it.
    pub reason: String,
    /// Under which server and roots it was announced; under others it is not acted upon.
    pub under: String,
    /// When it began.
    pub begun_at: Timestamp,
    /// How often it was tried.
    pub tried: u32,
    /// When it is tried next.
    pub due_at: Timestamp,
    /// Why it is not done yet.
    pub trouble: Option<String>,
}

/// What a [`Renewal`] does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Task {
    /// Another revision takes the place of this one.
    Replace {
        /// The other.
        to: String,
        /// How.
        how: OnAnnounce,
    },
    /// The hub is asked whether the files are still the same.
    Revalidate,
}

/// One line of the history of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Happening {
    /// When.
    pub at: Timestamp,
    /// What happened.
    pub event: Event,
    /// The model, with the prefix of its kind; of [`Event::Synced`] the collection.
    pub model: String,
    /// At which hub, if at one.
    pub hub: Option<Hub>,
    /// Which revision.
    pub revision: Option<String>,
    /// The revision that comes in its place, or came.
    pub to: Option<String>,
    /// More about it, for people.
    pub detail: String,
}

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// A collection has a new state. Told to who listens, and not kept.
    Synced,
    /// A record names another revision than before.
    Announced,
    /// Files of the new revision were fetched.
    Fetched,
    /// The new revision does not have a file that the old one had.
    Missing,
    /// Nothing of the new revision is there yet, or the hub cannot be asked.
    Delayed,
    /// The old revision was superseded.
    Superseded,
    /// It was not, or is no longer.
    Kept,
    /// Its files were dropped.
    Dropped,
    /// The hub was asked whether the files are still the same.
    Revalidated,
    /// An operator keeps all revisions.
    Held,
    /// An operator no longer does.
    Released,
    /// An operator keeps this revision.
    Pinned,
    /// An operator no longer does.
    Unpinned,
    /// The deny list matches it.
    Blocked,
    /// The deny list no longer matches it.
    Opened,
    /// A file of it was found damaged, and is not served any more.
    Damaged,
    /// Files of it went because there was no room.
    Evicted,
}

impl Event {
    /// The name in logs, JSON and events.
    pub fn name(self) -> &'static str {
        match self {
            Self::Synced => "synced",
            Self::Announced => "announced",
            Self::Fetched => "fetched",
            Self::Missing => "missing",
            Self::Delayed => "delayed",
            Self::Superseded => "superseded",
            Self::Kept => "kept",
            Self::Dropped => "dropped",
            Self::Revalidated => "revalidated",
            Self::Held => "held",
            Self::Released => "released",
            Self::Pinned => "pinned",
            Self::Unpinned => "unpinned",
            Self::Blocked => "blocked",
            Self::Opened => "opened",
            Self::Damaged => "damaged",
            Self::Evicted => "evicted",
        }
    }
}
