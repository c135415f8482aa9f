//! Places among the connections to each host.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Failure, Haste};
use crate::telemetry::{Limit, Telemetry};

/// Hosts whose connections are counted; a hub that redirects to ever new hosts makes the count start again.
const MAX_HOSTS: usize = 256;

/// The connections to all hosts.
pub(super) struct Hosts {
    most: usize,
    most_in_background: usize,
    wait: Duration,
    telemetry: Telemetry,
    hosts: Mutex<HashMap<String, Host>>,
}

#[derive(Clone)]
struct Host {
    all: Arc<Semaphore>,
    background: Arc<Semaphore>,
}

/// A place among them, until it is dropped.
pub(super) struct Place {
    _all: OwnedSemaphorePermit,
    _background: Option<OwnedSemaphorePermit>,
}

impl Hosts {
    /// So many to each host, of which the background may have some percent; whoever is in haste waits this long.
    pub(super) fn new(most: usize, percent: u32, wait: Duration, telemetry: Telemetry) -> Self {
        Self { most, most_in_background: share(most, percent), wait, telemetry, hosts: Mutex::default() }
    }

    /// A place among the connections to `host`. What nobody waits for waits for it as long as that takes.
    pub(super) async fn place(&self, host: &str, haste: &Haste) -> Result<Place, Failure> {
        let host = self.host(host);
        let background = match haste.is_awaited() {
            true => None,
            false => tokio::select! {
                biased;
                permit = self.acquire(&host.background, Limit::BackgroundConnections) => Some(permit),
                () = haste.until_awaited() => None,
            },
        };
        let limit = async {
            haste.until_awaited().await;
            tokio::time::sleep(self.wait).await;
        };
        tokio::select! {
            biased;
            all = self.acquire(&host.all, Limit::HubConnections) => Ok(Place { _all: all, _background: background }),
            () = limit => Err(Failure::Crowded),
        }
    }

    async fn acquire(&self, places: &Arc<Semaphore>, limit: Limit) -> OwnedSemaphorePermit {
        if let Ok(permit) = Arc::clone(places).try_acquire_owned() {
            return permit;
        }
        if self.telemetry.limited(limit, Instant::now()) {
            tracing::info!("{} ({}); further requests wait", limit.phrase(), limit.setting());
        }
        Arc::clone(places).acquire_owned().await.expect("the semaphore is never closed")
    }

    fn host(&self, host: &str) -> Host {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if hosts.len() >= MAX_HOSTS && !hosts.contains_key(host) {
            hosts.clear();
        }
        let places = |most| Arc::new(Semaphore::new(most));
        let fresh = || Host { all: places(self.most), background: places(self.most_in_background) };
        hosts.entry(host.to_owned()).or_insert_with(fresh).clone()
    }
}

/// So many percent of `most`, and one at least.
fn share(most: usize, percent: u32) -> usize {
    (most.saturating_mul(percent as usize) / 100).max(1)
}

#[cfg(test)]
mod tests {
    use tokio::sync::watch;

    use super::*;
    use crate::model::Urgency;

    #[tokio::test(start_paused = true)]
    async fn the_background_has_a_part_and_waits_and_what_becomes_urgent_has_all() {
        let hosts = Hosts::new(4, 50, Duration::from_secs(9), Telemetry::new("0"));
        let soon = Duration::from_secs(1);
        let (urgency, said) = watch::channel(Urgency::Background);
        let behind = Haste::of(said);
        let mut held = Vec::new();
        for _ in 0..2 {
            held.push(hosts.place("a", &behind).await.unwrap());
        }
        assert!(tokio::time::timeout(soon, hosts.place("a", &behind)).await.is_err(), "half are its own");
        held.push(hosts.place("a", &Haste::default()).await.unwrap());
        let waiting = async {
            tokio::task::yield_now().await;
            urgency.send_replace(Urgency::Awaited);
        };
        let (place, ()) = tokio::join!(hosts.place("a", &behind), waiting);
        held.push(place.unwrap());
        assert!(matches!(hosts.place("a", &Haste::default()).await, Err(Failure::Crowded)), "after its wait");
        assert!(hosts.place("b", &Haste::default()).await.is_ok(), "other hosts have their own");
        held.clear();
        assert!(hosts.place("a", &Haste::background()).await.is_ok());
    }

    #[test]
    fn a_share_is_never_nothing() {
        assert_eq!([share(32, 50), share(1, 50), share(10, 100), share(3, 1)], [16, 1, 10, 1]);
    }
}
