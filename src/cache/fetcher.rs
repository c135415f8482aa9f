//! The way upstream: fills that run, and questions that are open.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, watch};

use super::asker::{Asker, Whose};
use super::checks::Checks;
use super::entitled::CallerId;
use super::flight::{Flight, Running, Ticket};
use super::places::Places;
use super::twins::Twins;
use super::{Cache, FillError, Settings, fill};
use crate::model::{Document, EntryKey, Expectation, Outcome, Resource, Secret, Urgency};
use crate::store::CHUNK;
use crate::telemetry::{Limit, Telemetry};
use crate::upstream::Client;

/// How long the stop of the program waits for fills to notice.
const STOP_WAIT: Duration = Duration::from_secs(5);
/// Most lanes, over all fills, that fills have beside their first because a hub is slow over one. Each holds a chunk in
/// memory that is not whole yet.
const MAX_EXTRA_LANES: usize = 32;

/// The fills that run. What a caller's own credentials open is joined by callers alone who have shown theirs.
pub(super) type Flights = HashMap<(Whose, EntryKey), Arc<Flight>>;

/// Brings what is not here.
pub struct Fetcher {
    pub(super) settings: Settings,
    pub(super) cache: Arc<Cache>,
    pub(super) upstream: Arc<Client>,
    pub(super) telemetry: Telemetry,
    pub(super) checks: Checks<Expectation>,
    pub(super) questions: Checks<Document>,
    /// Questions whether a caller may read a file.
    pub(super) entitling: Checks<Expectation, (CallerId, EntryKey)>,
    pub(super) documents: Semaphore,
    pub(super) twins: Twins,
    flights: Mutex<Flights>,
    pub(super) places: Arc<Places>,
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
        let places_telemetry = telemetry.clone();
        Arc::new(Self {
            cache,
            upstream,
            telemetry,
            checks: Checks::default(),
            questions: Checks::default(),
            entitling: Checks::default(),
            documents: Semaphore::new(settings.max_answers),
            twins: Twins::new(settings.known_entries),
            flights: Mutex::default(),
            places: Places::new(settings.max_fills, settings.background_share, places_telemetry),
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
        self.follow_as(Urgency::Awaited, resource, asked, part)
    }

    /// As [`Fetcher::follow`], for somebody with this urgency.
    pub(super) fn follow_as(
        self: &Arc<Self>,
        urgency: Urgency,
        resource: &Resource,
        asked: &Resource,
        part: Option<(u64, u64)>,
    ) -> Result<Ticket, FillError> {
        self.join(urgency, resource, asked, part, self.asker(resource))
    }

    /// As [`Fetcher::follow`] for a caller to whom the hub grants the file: with its credential, and joined by such callers
    /// alone. What the hub `said` of it to that caller may be held already.
    ///
    /// # Errors
    /// As [`Fetcher::follow`].
    pub fn follow_granted(
        self: &Arc<Self>,
        resource: &Resource,
        asked: &Resource,
        part: Option<(u64, u64)>,
        credential: Secret,
        said: Option<Arc<Expectation>>,
    ) -> Result<Ticket, FillError> {
        let asker = Asker::Caller(credential, said);
        let mut ticket = self.join(Urgency::Awaited, resource, asked, part, asker)?;
        ticket.outcome = Outcome::Granted;
        Ok(ticket)
    }

    fn join(
        self: &Arc<Self>,
        urgency: Urgency,
        resource: &Resource,
        asked: &Resource,
        part: Option<(u64, u64)>,
        asker: Asker,
    ) -> Result<Ticket, FillError> {
        if let Some(barred) = self.settings.models.bar(resource.hub, &resource.repo, Some(&resource.path)) {
            return Err(FillError::Barred(barred));
        }
        let key = resource.key(self.cache.roots.root(resource.hub));
        let asked = asked.key(self.cache.roots.root(asked.hub));
        let place = (asker.whose(), key.clone());
        let mut flights = self.flights();
        // One that ended waits only for its removal; one that no longer keeps its bytes cannot be joined.
        let joinable = flights.get(&place).filter(|f| {
            let state = f.look();
            let is_theirs = asker.is_for_everybody() && self.cache.is_withdrawn_since(resource, f.since);
            state.end.is_none() && state.keeps && !is_theirs
        });
        let (flight, outcome) = match joinable {
            Some(flight) => (Arc::clone(flight), Outcome::Collapsed),
            None => {
                let flight = Flight::new(key, urgency);
                flights.insert(place, Arc::clone(&flight));
                (flight, Outcome::Miss)
            }
        };
        // Boarded before the fill begins, so that it is never without a follower at first.
        let id = flight.board(self.settings.max_followers, part);
        let id = id.ok_or_else(|| self.busy(Limit::Followers))?;
        flight.hasten(urgency);
        if outcome == Outcome::Miss {
            fill::spawn(Arc::clone(self), Arc::clone(&flight), resource.clone(), asker);
        }
        drop(flights);
        Ok(Ticket { flight, id, asked, outcome })
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
        for (key, partial) in partials.into_iter().take(self.settings.max_fills) {
            let resource = key.resource();
            // What needs a caller's credentials goes on when such a caller comes.
            if *self.cache.roots.root(key.hub) != key.root || partial.restricted {
                continue;
            }
            tracing::info!(file = %resource, "resuming an unfinished file");
            // Its ticket is dropped at once: the fill goes on as one that its last follower has left.
            if let Err(error) = self.follow_as(Urgency::Background, &resource, &resource, None) {
                tracing::warn!(file = %resource, %error, "an unfinished file is not resumed");
            }
        }
    }

    /// The fills that run, those that began first in front.
    pub fn running(&self) -> Vec<Running> {
        let flights: Vec<_> = self.flights().values().cloned().collect();
        let mut running: Vec<_> = flights.iter().filter_map(|flight| flight.running()).collect();
        running.sort_by(|a, b| (a.since, &a.key).cmp(&(b.since, &b.key)));
        running
    }

    /// Ends all fills; what they have stored is resumed at the next start.
    pub async fn stop(&self) {
        self.stopping.send_replace(true);
        if tokio::time::timeout(STOP_WAIT, self.places.all_free()).await.is_err() {
            tracing::warn!("some fills did not stop in time");
        }
    }

    fn busy(&self, limit: Limit) -> FillError {
        self.met(limit);
        FillError::Busy(limit)
    }

    /// Something of this met its limit.
    pub(super) fn met(&self, limit: Limit) {
        if self.telemetry.limited(limit, Instant::now()) {
            tracing::warn!("{} ({})", limit.phrase(), limit.setting());
        }
    }

    pub(super) fn mark_for(&self) -> Duration {
        self.settings.mark_for
    }

    pub(super) fn flights(&self) -> MutexGuard<'_, Flights> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
