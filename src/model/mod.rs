//! The nouns: plain values that every other module speaks of, without I/O and without a clock.
//!
//! Each word is used in one sense only; the glossary stands in the crate's own documentation.

mod client;
mod collection;
mod digest;
mod document;
mod entry;
mod gone;
mod hub;
mod locked;
mod needed;
mod openness;
mod outcome;
mod place;
pub mod quantity;
mod question;
mod renewal;
mod representation;
mod resource;
mod roots;
mod secret;
mod time;
mod urgency;
mod via;

pub use client::ClientKey;
pub use collection::{Attachment, Collection, Records, Snapshot};
pub use digest::{Digest, Sha256, hex};
pub use document::Document;
pub use entry::{Entry, Standing};
pub use gone::WhyGone;
pub use hub::{Hub, HubRoot, SettingsPart, known_hosts};
pub use locked::{LockedAttachment, LockedPart, LockedSettings, LockedSnapshot, is_of_locked};
pub use needed::{Needed, Role, Use};
pub use openness::Openness;
pub use outcome::{AnsweredBy, Outcome};
pub use place::{BadPlace, Host, Place};
pub use question::{Question, Topic};
pub use renewal::{Decided, Event, Happening, OnAnnounce, Pin, Renewal, Superseded, Task};
pub use representation::{Expectation, Promise, Promiser, Representation, XetHints};
pub use resource::{
    Commit, EntryKey, RefKey, Repo, RepoKind, Resource, Revision, is_firefox_revision, is_mozilla_version,
};
pub use roots::Roots;
pub use secret::Secret;
pub use time::{Timestamp, lasting};
pub use urgency::Urgency;
pub use via::{via, was_here};
