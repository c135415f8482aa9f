//! One download with many readers, and one question to the hub with many who wait for the answer.
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
//! stalls is resumed from its last good byte; a reader that waits far ahead gets a lane of its own. Complete chunks
//! go to the store's writer and, in file order, to the hash. When the store cannot take them (no room), the fill
//! goes on without it: readers that are there are served from memory, at the pace of the slowest, and nothing is
//! kept.
//!
//! # Failure cases
//! - The hub refuses, or cannot be reached, before a byte came: the fill fails with the hub's own answer.
//! - Cut, stall, expired signature, 5xx later on: the lane waits and asks again, through a fresh redirect, until it
//!   made no progress `attempts` times in a row.
//! - Another validator on a resume: the attempt is given up, its readers that sent a byte break.
//! - A wrong digest: likewise, after a mark is durable; the second time the fill fails.
//! - A panic: the `Landing` guard ends the flight for everybody.

mod arrival;
mod checks;
mod chunks;
mod error;
mod fill;
mod flight;
mod follower;
mod hashing;
mod held;
mod lane;
mod schedule;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use moka::sync::Cache as Memory;
use tokio::sync::{Semaphore, watch};

pub use checks::Checked;
pub use error::FillError;
pub use flight::{Landed, Settled, Ticket};
pub use follower::Follower;
pub use held::Found;

use crate::model::{EntryKey, Expectation, Outcome, RefKey, Resource, Secret};
use crate::store::{CHUNK, RefRecord, Store};
use crate::telemetry::Telemetry;
use crate::upstream::Client;
use checks::Checks;
use flight::Flight;

/// What an operator can set of fills.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Bytes of unfinished files in memory, over all fills.
    pub window_bytes: u64,
    /// Fills at a time.
    pub max_fills: usize,
    /// How many bytes a fill that nobody follows may still fetch; `None` for all.
    pub orphan_max_bytes: Option<u64>,
    /// How far ahead of a lane a reader may wait before it gets one of its own.
    pub far_ahead_bytes: u64,
    /// Upstream requests of one fill at a time.
    pub lanes: usize,
    /// Files that are not held of which the hub's word is remembered.
    pub known_entries: u64,
    /// Requests that wait for one fill.
    pub max_followers: usize,
    /// How long the mark against the resume trap stands.
    pub mark_for: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            window_bytes: 64 << 20,
            max_fills: 64,
            orphan_max_bytes: None,
            far_ahead_bytes: 8 << 20,
            lanes: 4,
            known_entries: 10_000,
            max_followers: 4096,
            mark_for: Duration::from_secs(600),
        }
    }
}

/// How long a fill waits for a place among `max_fills`; clients give up after 10 s.
const PLACE_WAIT: Duration = Duration::from_secs(8);
/// How long the stop of the program waits for fills to notice.
const STOP_WAIT: Duration = Duration::from_secs(5);

/// The cache: what is held, what is known, what is on its way.
pub struct Cache {
    settings: Settings,
    upstream: Arc<Client>,
    store: Store,
    telemetry: Telemetry,
    /// What the hub said of files that are not held.
    known: Memory<EntryKey, Arc<Expectation>>,
    /// The latest word on branches and tags, ahead of the store.
    references: Memory<RefKey, Arc<RefRecord>>,
    checks: Checks,
    flights: Mutex<HashMap<EntryKey, Arc<Flight>>>,
    places: Arc<Semaphore>,
    /// One permit for each chunk of an unfinished file in memory.
    window: Arc<Semaphore>,
    stopping: watch::Sender<bool>,
}

impl Cache {
    /// A cache over these hubs and this store.
    pub fn new(settings: Settings, upstream: Arc<Client>, store: Store, telemetry: Telemetry) -> Arc<Self> {
        let chunks = usize::try_from(settings.window_bytes / CHUNK as u64).unwrap_or(usize::MAX);
        let window = chunks.clamp(4, Semaphore::MAX_PERMITS);
        Arc::new(Self {
            upstream,
            store,
            telemetry,
            known: Memory::new(settings.known_entries),
            references: Memory::new(settings.known_entries),
            checks: Checks::default(),
            flights: Mutex::default(),
            places: Arc::new(Semaphore::new(settings.max_fills)),
            window: Arc::new(Semaphore::new(window)),
            stopping: watch::Sender::new(false),
            settings,
        })
    }

    /// The store behind it.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The hubs behind it.
    pub fn upstream(&self) -> &Arc<Client> {
        &self.upstream
    }

    /// Starts a fill of `resource`, or joins the one that runs. `asked` is the name under which the client asked.
    ///
    /// # Errors
    /// [`FillError::Busy`] when too many already wait for this file.
    pub fn follow(self: &Arc<Self>, resource: &Resource, asked: &Resource) -> Result<Ticket, FillError> {
        let key = resource.key(self.upstream.root(resource.hub));
        let asked = asked.key(self.upstream.root(asked.hub));
        let mut flights = self.flights();
        // One that ended waits only for its removal; one that no longer keeps its bytes cannot be joined.
        let joinable = flights.get(&key).filter(|f| {
            let state = f.look();
            state.end.is_none() && state.keeps
        });
        let (flight, outcome) = match joinable {
            Some(flight) => (Arc::clone(flight), Outcome::Collapsed),
            None => {
                let flight = Flight::new(key.clone(), true);
                flights.insert(key, Arc::clone(&flight));
                (flight, Outcome::Miss)
            }
        };
        // Boarded before the fill begins, so that it is never without a follower at first.
        let id = flight.board(self.settings.max_followers).ok_or(FillError::Busy)?;
        if outcome == Outcome::Miss {
            fill::spawn(Arc::clone(self), Arc::clone(&flight), resource.clone(), None);
        }
        drop(flights);
        Ok(Ticket { flight, id, asked, outcome })
    }

    /// Fetches `resource` for one caller alone, with that caller's credential; kept nowhere, joined by nobody.
    ///
    /// # Errors
    /// None at present; the ticket tells how it goes.
    pub fn fetch_privately(
        self: &Arc<Self>,
        resource: &Resource,
        credential: Secret,
    ) -> Result<Ticket, FillError> {
        let key = resource.key(self.upstream.root(resource.hub));
        let flight = Flight::new(key.clone(), false);
        let id = flight.board(1).ok_or(FillError::Busy)?;
        fill::spawn(Arc::clone(self), Arc::clone(&flight), resource.clone(), Some(credential));
        Ok(Ticket { flight, id, asked: key, outcome: Outcome::Private })
    }

    /// Takes up fills that an earlier run of the program left unfinished.
    pub fn resume_fills(self: &Arc<Self>) {
        let partials = match self.store.partials() {
            Ok(partials) => partials,
            Err(error) => {
                tracing::warn!(%error, "unfinished files cannot be listed");
                return;
            }
        };
        for (key, _) in partials.into_iter().take(self.settings.max_fills) {
            let resource = key.resource();
            if *self.upstream.root(key.hub) != key.root {
                continue;
            }
            tracing::info!(file = %resource, "resuming an unfinished file");
            // Its ticket is dropped at once: the fill goes on as one that its last follower has left.
            if let Err(error) = self.follow(&resource, &resource) {
                tracing::warn!(file = %resource, %error, "an unfinished file is not resumed");
            }
        }
    }

    /// Ends all fills; what they have stored is resumed at the next start.
    pub async fn stop(&self) {
        self.stopping.send_replace(true);
        let all = u32::try_from(self.settings.max_fills).unwrap_or(u32::MAX);
        if tokio::time::timeout(STOP_WAIT, self.places.acquire_many(all)).await.is_err() {
            tracing::warn!("some fills did not stop in time");
        }
    }

    fn mark_for(&self) -> Duration {
        self.settings.mark_for
    }

    fn flights(&self) -> std::sync::MutexGuard<'_, HashMap<EntryKey, Arc<Flight>>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
