//! The way upstream: fills that run, and questions that are open.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};

use super::checks::{Checks, MAX_DOCUMENTS};
use super::flight::{Flight, Running, Ticket};
use super::twins::Twins;
use super::{Cache, FillError, Settings, fill};
use crate::model::{Document, EntryKey, Expectation, Outcome, Resource, Secret};
use crate::store::CHUNK;
use crate::telemetry::Telemetry;
use crate::upstream::Client;

/// How long a fill waits for a place among `max_fills`; clients give up after 10 s.
pub(super) const PLACE_WAIT: Duration = Duration::from_secs(8);
/// How long the stop of the program waits for fills to notice.
const STOP_WAIT: Duration = Duration::from_secs(5);
/// Most lanes, over all fills, that fills have beside their first because a hub is slow over one. Each holds a chunk in
/// memory that is not whole yet.
const MAX_EXTRA_LANES: usize = 32;

/// Brings what is not here.
pub struct Fetcher {
    pub(super) settings: Settings,
    pub(super) cache: Arc<Cache>,
    pub(super) upstream: Arc<Client>,
    pub(super) telemetry: Telemetry,
    pub(super) checks: Checks<Expectation>,
    pub(super) questions: Checks<Document>,
    pub(super) documents: Semaphore,
    pub(super) twins: Twins,
    flights: Mutex<HashMap<EntryKey, Arc<Flight>>>,
    pub(super) places: Arc<Semaphore>,
    /// One permit for each chunk of an unfinished file in memory.
    pub(super) window: Arc<Semaphore>,
    /// One permit for each lane that a fill has because a hub is slow over one.
    pub(super) extra_lanes: Arc<Semaphore>,
    pub(super) stopping: watch::Sender<bool>,
}

impl Fetcher {
    /// Fetches through `upstream` into `cache`.
    pub fn new(
        settings: Settings,
        cache: Arc<Cache>,
        upstream: Arc<Client>,
        telemetry: Telemetry,
    ) -> Arc<Self> {
        let chunks = usize::try_from(settings.window_bytes / CHUNK as u64).unwrap_or(usize::MAX);
        let window = chunks.clamp(4, Semaphore::MAX_PERMITS);
        // Half of the connections stay for the first lanes of other fills.
        let extra_lanes = (upstream.settings().max_connections_per_host / 2).min(MAX_EXTRA_LANES);
        Arc::new(Self {
            cache,
            upstream,
            telemetry,
            checks: Checks::default(),
            questions: Checks::default(),
            documents: Semaphore::new(MAX_DOCUMENTS),
            twins: Twins::new(settings.known_entries),
            flights: Mutex::default(),
            places: Arc::new(Semaphore::new(settings.max_fills)),
            window: Arc::new(Semaphore::new(window)),
            extra_lanes: Arc::new(Semaphore::new(extra_lanes)),
            stopping: watch::Sender::new(false),
            settings,
        })
    }

    /// What it fetches into.
    pub fn cache(&self) -> &Arc<Cache> {
        &self.cache
    }

    /// The hubs.
    pub fn upstream(&self) -> &Arc<Client> {
        &self.upstream
    }

    /// The size of files above which clients are told of their place in the Xet store.
    pub fn xet_above(&self) -> Option<u64> {
        self.settings.xet_above
    }

    /// Starts a fill of `resource`, or joins the one that runs. `asked` is the name under which the client asked,
    /// `part` what it asked for, from a byte up to but not including another, if that is not the whole file.
    ///
    /// # Errors
    /// [`FillError::Busy`] when too many already wait for this file, [`FillError::Barred`] when nobody is given it.
    pub fn follow(
        self: &Arc<Self>,
        resource: &Resource,
        asked: &Resource,
        part: Option<(u64, u64)>,
    ) -> Result<Ticket, FillError> {
        if let Some(barred) = self.settings.models.bar(resource.hub, &resource.repo, Some(&resource.path)) {
            return Err(FillError::Barred(barred));
        }
        let key = resource.key(self.cache.roots.root(resource.hub));
        let asked = asked.key(self.cache.roots.root(asked.hub));
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
        let id = flight.board(self.settings.max_followers, part).ok_or(FillError::Busy)?;
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
        let key = resource.key(self.cache.roots.root(resource.hub));
        let flight = Flight::new(key.clone(), false);
        let id = flight.board(1, None).ok_or(FillError::Busy)?;
        fill::spawn(Arc::clone(self), Arc::clone(&flight), resource.clone(), Some(credential));
        Ok(Ticket { flight, id, asked: key, outcome: Outcome::Private })
    }

    /// Takes up fills that an earlier run of the program left unfinished.
    pub fn resume_fills(self: &Arc<Self>) {
        let partials = match self.cache.store.partials() {
            Ok(partials) => partials,
            Err(error) => {
                tracing::warn!(%error, "unfinished files cannot be listed");
                return;
            }
        };
        for (key, _) in partials.into_iter().take(self.settings.max_fills) {
            let resource = key.resource();
            if *self.cache.roots.root(key.hub) != key.root {
                continue;
            }
            tracing::info!(file = %resource, "resuming an unfinished file");
            // Its ticket is dropped at once: the fill goes on as one that its last follower has left.
            if let Err(error) = self.follow(&resource, &resource, None) {
                tracing::warn!(file = %resource, %error, "an unfinished file is not resumed");
            }
        }
    }

    /// The fills that run, those that began first in front. Those of callers with credentials are not among them.
    pub fn running(&self) -> Vec<Running> {
        let flights: Vec<_> = self.flights().values().cloned().collect();
        let mut running: Vec<_> = flights.iter().filter_map(|flight| flight.running()).collect();
        running.sort_by(|a, b| (a.since, &a.key).cmp(&(b.since, &b.key)));
        running
    }

    /// Ends all fills; what they have stored is resumed at the next start.
    pub async fn stop(&self) {
        self.stopping.send_replace(true);
        let all = u32::try_from(self.settings.max_fills).unwrap_or(u32::MAX);
        if tokio::time::timeout(STOP_WAIT, self.places.acquire_many(all)).await.is_err() {
            tracing::warn!("some fills did not stop in time");
        }
    }

    pub(super) fn mark_for(&self) -> Duration {
        self.settings.mark_for
    }

    pub(super) fn flights(&self) -> MutexGuard<'_, HashMap<EntryKey, Arc<Flight>>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
