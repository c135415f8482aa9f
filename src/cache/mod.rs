//! One download with many readers, and one question to the hub with many who wait for the answer.
//!
//! [`Cache`] is what is here: held in the store, or known from what a hub said earlier. It has no way upstream.
//! [`Fetcher`] is that way: running fills and open questions. A process without a network has no `Fetcher`.
//!
//! # Who owns what
//! A **fill** is a task of its own; no client owns it. Clients hold [`Ticket`]s of its `Flight`
//! and, once they read, [`Follower`]s; dropping one tells the fill that a reader left, nothing more. The map of
//! flights holds each one from its first request until its end.
//!
//! # States of a fill
//! ```text
//! waiting for a place ── asking the hub ── arriving ── hashed and durable ── landed
//!                            │   ▲             │  ▲           │
//!                            │   └─ backoff ◄──┘  │           └─ wrong bytes, or the hub's file changed:
//!                            ▼                    └─────────────  mark, next attempt (bounded)
//!                          failed
//! ```
//! *Arriving* has one or more **lanes**, each an upstream request for a stretch of the file. A lane that is cut or
//! stalls is resumed from its last good byte; a reader that waits far ahead gets a lane of its own. A hub that is slow
//! over one connection is asked over several: the fill's **pace** is measured, and as long as more lanes bring more,
//! each fetches the next piece of the file, until the hub refuses one. Complete chunks
//! go to the store's writer and, in file order, to the hash. When the store cannot take them (no room), the fill
//! goes on without it: readers that are there are served from memory, at the pace of the slowest, and nothing is
//! kept.
//!
//! # Urgency
//! A fill that a client began is *awaited*. One that was announced, preloaded, left over, or that replaces what was
//! found damaged is in the *background*, until a client joins it: it gets a part of the places (`places`) and of
//! the connections to a host, and pauses while the hub wants to be left alone.
//!
//! # Failure cases
//! - The hub refuses, or cannot be reached, before a byte came: the fill fails with the hub's own answer.
//! - Cut, stall, expired signature, 5xx later on: the lane waits and asks again, through a fresh redirect, until it
//!   made no progress `attempts` times in a row.
//! - Another validator on a resume: the attempt is given up, its readers that sent a byte break.
//! - A wrong digest: likewise, after a mark is durable; the second time the fill fails.
//! - A panic: the `Landing` guard ends the flight for everybody.

mod arrival;
mod asker;
mod bring;
mod checks;
mod chunks;
mod entitled;
mod error;
mod fetcher;
mod fill;
mod flight;
mod follower;
mod hashing;
mod held;
mod imported;
mod lane;
mod notes;
mod offered;
mod pace;
mod places;
mod report;
mod schedule;
mod scrub;
mod settled;
mod survey;
mod take;
mod twins;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use moka::sync::Cache as Memory;

pub use bring::NotBrought;
pub use checks::Checked;
pub use entitled::Entitled;
pub use error::FillError;
pub use fetcher::Fetcher;
pub use flight::{Landed, Running, Settled, Ticket};
pub use follower::Follower;
pub use held::{Found, FoundDocument, View};
pub use imported::{Imported, ImportedFile};
pub use offered::{NotTaken, Offered, Source, examine};
pub use scrub::{ScrubSettings, Scrubber};
pub use survey::Survey;
pub use take::{Progress, expectation};

use crate::model::{Commit, EntryKey, Expectation, RefKey, Repo, Roots};
use crate::policy::{Entitlement, ModelPattern, ModelRules};
use crate::store::{RefRecord, Store};
use crate::upstream::Failure;
use entitled::Grants;
use settled::{Settled as Standpoint, Tree};

/// What an operator can set of fills.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Bytes of unfinished files in memory, over all fills.
    pub window_bytes: u64,
    /// Fills at a time.
    pub max_fills: usize,
    /// How many percent of them may run in the background.
    pub background_share: u32,
    /// Questions to hubs that are open at a time.
    pub max_questions: usize,
    /// Answers of a hub's API that are read at a time, each into memory.
    pub max_answers: usize,
    /// How many bytes a fill that nobody follows may still fetch; `None` for all.
    pub orphan_max_bytes: Option<u64>,
    /// How far ahead of a lane a reader may wait before it gets one of its own.
    pub far_ahead_bytes: u64,
    /// Upstream requests of one fill at a time, for readers that wait far ahead.
    pub lanes: usize,
    /// The same where the hub is slow over one connection.
    pub lanes_far: usize,
    /// Files that are not held of which the hub's word is remembered.
    pub known_entries: u64,
    /// Requests that wait for one fill.
    pub max_followers: usize,
    /// How long it is remembered that a hub does not have a file, where that may change.
    pub negative_ttl: Duration,
    /// How long the mark against the resume trap stands.
    pub mark_for: Duration,
    /// The size of files above which clients are told of their place in the Xet store; `None` for no file.
    pub xet_above: Option<u64>,
    /// Whom files are given that not everybody may read.
    pub entitlement: Entitlement,
    /// Repositories that the operator lets everybody read who may use this cache.
    pub shared: Vec<ModelPattern>,
    /// Which models and files are not fetched, for whomever.
    pub models: Arc<ModelRules>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            window_bytes: 64 << 20,
            max_fills: 64,
            background_share: 50,
            max_questions: 4096,
            max_answers: 8,
            orphan_max_bytes: None,
            far_ahead_bytes: 8 << 20,
            lanes: 8,
            lanes_far: 16,
            known_entries: 10_000,
            max_followers: 4096,
            negative_ttl: Duration::from_secs(10),
            mark_for: Duration::from_secs(600),
            xet_above: Some(50_000_000_000),
            entitlement: Entitlement::default(),
            shared: Vec::new(),
            models: Arc::default(),
        }
    }
}

/// What is held and what is known.
pub struct Cache {
    store: Store,
    /// How long marks stand.
    mark_for: Duration,
    roots: Roots,
    /// What the hub said of files that are not held.
    known: Memory<EntryKey, Arc<Expectation>>,
    /// The latest word on branches and tags, ahead of the store.
    references: Memory<RefKey, Arc<RefRecord>>,
    /// What a hub did not have a moment ago, whoever asks.
    refusals: Memory<EntryKey, Arc<Failure>>,
    /// Where branches stand while no hub can be asked.
    settled: Memory<RefKey, Arc<Standpoint>>,
    /// How many answers are kept of a revision, roughly.
    counts: Memory<(Repo, String), Arc<AtomicUsize>>,
    /// What callers were granted.
    grants: Grants,
    /// Lists of all files of a commit.
    trees: Memory<(Repo, Commit), Arc<Tree>>,
}

/// How long a count of answers is good enough.
const COUNTED: Duration = Duration::from_secs(3600);
/// Memory for lists of files, in bytes.
const TREES: u64 = 32 << 20;

impl Cache {
    /// A cache over this store, of what came from these roots.
    pub fn new(settings: &Settings, roots: Roots, store: Store) -> Arc<Self> {
        let known = settings.known_entries;
        let weigh = |_: &(Repo, Commit), tree: &Arc<Tree>| tree.weight();
        Arc::new(Self {
            mark_for: settings.mark_for,
            roots,
            known: Memory::new(known),
            references: Memory::new(known),
            refusals: Memory::builder().max_capacity(known).time_to_live(settings.negative_ttl).build(),
            settled: Memory::new(known),
            counts: Memory::builder().max_capacity(known).time_to_live(COUNTED).build(),
            grants: Grants::new(settings, store.grant_key()),
            trees: Memory::builder().max_capacity(TREES).weigher(weigh).build(),
            store,
        })
    }

    /// The store behind it.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Where the hubs are.
    pub fn roots(&self) -> &Roots {
        &self.roots
    }
}
