//! What bounds requests and the bytes to clients: how many are under way, in all and for each client, and how fast.
//!
//! A request has its place until its body ends, not until its head is sent. Tunnels whose bytes pass unseen are
//! connections, and neither counted nor slowed down here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::model::ClientKey;
use crate::policy::rate::Timetable;
use crate::policy::{Crowd, Crowded, Spot};
use crate::telemetry::{Limit, Telemetry};
use crate::throttle::{Party, Sluice, Throttle};

/// What an operator can set of these limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoundSettings {
    /// Requests that are being answered at a time.
    pub max_requests: usize,
    /// The same for each client.
    pub max_requests_per_client: usize,
    /// Bytes a second to all clients.
    pub download_rate: Timetable,
    /// Bytes a second to each client.
    pub download_rate_per_client: Timetable,
}

impl Default for BoundSettings {
    fn default() -> Self {
        let (download_rate, download_rate_per_client) = Default::default();
        Self { max_requests: 16_384, max_requests_per_client: 1024, download_rate, download_rate_per_client }
    }
}

/// The limits of one process; a clone has the same.
#[derive(Clone)]
pub struct Bounds(Arc<Shared>);

struct Shared {
    requests: Crowd,
    downloads: Option<Throttle>,
    rate_per_client: Timetable,
    /// Of those who are being sent something.
    clients: Mutex<HashMap<ClientKey, Throttle>>,
    telemetry: Telemetry,
}

impl Bounds {
    /// Limits that count what they do.
    pub fn new(settings: &BoundSettings, telemetry: Telemetry) -> Self {
        Self(Arc::new(Shared {
            requests: Crowd::new(settings.max_requests, settings.max_requests_per_client),
            downloads: Throttle::new(&settings.download_rate, Limit::DownloadRate, &telemetry),
            rate_per_client: settings.download_rate_per_client.clone(),
            clients: Mutex::default(),
            telemetry,
        }))
    }

    /// Where it counts.
    pub(super) fn telemetry(&self) -> &Telemetry {
        &self.0.telemetry
    }

    /// A place for a request of `client`.
    ///
    /// # Errors
    /// The limit that has no room for it.
    pub(super) fn enter(&self, client: ClientKey) -> Result<Spot, Limit> {
        self.0.requests.enter(client).map_err(|crowded| {
            let limit = match crowded {
                Crowded::All => Limit::Requests,
                Crowded::Client => Limit::RequestsPerClient,
            };
            if self.0.telemetry.limited(limit, Instant::now()) {
                tracing::warn!(%client, "{} ({}); more are refused", limit.phrase(), limit.setting());
            }
            limit
        })
    }

    /// The way of bytes to `client`; none where nothing is slowed down.
    pub(super) fn sluice(&self, client: ClientKey) -> Option<Box<Sluice>> {
        let own = self.of_client(client);
        if own.is_none() && self.0.downloads.is_none() {
            return None;
        }
        let throttles = own.into_iter().chain(self.0.downloads.clone());
        Some(Box::new(Sluice::new(throttles.map(|throttle| (throttle, Party::Client(client))))))
    }

    fn of_client(&self, client: ClientKey) -> Option<Throttle> {
        let Shared { rate_per_client, telemetry, .. } = &*self.0;
        if !rate_per_client.limits() {
            return None;
        }
        // Each update is one insertion or removal.
        let mut clients = self.0.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(throttle) = clients.get(&client) {
            return Some(throttle.clone());
        }
        // Those who are sent nothing any more owe nothing that would be worth remembering.
        clients.retain(|_, throttle| !throttle.is_unshared());
        let throttle = Throttle::new(rate_per_client, Limit::DownloadRatePerClient, telemetry)?;
        clients.insert(client, throttle.clone());
        Some(throttle)
    }
}
