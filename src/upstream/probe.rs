//! Asking a hub that is down whether it answers again.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request, Uri};
use http_body_util::{BodyExt as _, Empty};

use super::Client;
use super::admission::Admission;
use super::circuit::{Circuit, Event};
use super::client::{Connections, request_headers};
use crate::model::Hub;
use crate::telemetry::Telemetry;

/// Longest pause between two probes, where `probe_interval` is not longer; it bounds how long a hub that has come back
/// goes unnoticed.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// Probes one hub until it answers.
pub(super) struct Probe {
    pool: Connections,
    /// The hub's root, with a slash; nothing is probed where that is no URI.
    uri: Option<Uri>,
    interval: Duration,
    head_timeout: Duration,
    hub: Hub,
    telemetry: Telemetry,
}

impl Probe {
    pub(super) fn new(client: &Client, hub: Hub) -> Self {
        Self {
            pool: client.pool(hub).clone(),
            uri: format!("{}/", client.root(hub)).parse().ok(),
            interval: client.settings.probe_interval,
            head_timeout: client.settings.head_timeout,
            hub,
            telemetry: client.telemetry.clone(),
        }
    }

    /// Runs until the circuit that opened at `since` closes, or its client is gone.
    pub(super) fn spawn(self, admission: &Arc<Admission>, since: Instant) {
        let mut circuit = admission.watch();
        // Not held, so that the end of the client is the end of the watch.
        let admission = Arc::downgrade(admission);
        tokio::spawn(async move {
            let over = circuit.wait_for(|c: &Circuit| c.open_since() != Some(since));
            tokio::select! {
                _ = over => {}
                () = self.run(admission) => {}
            }
        });
    }

    async fn run(self, admission: Weak<Admission>) {
        let Some(uri) = &self.uri else { return };
        for tried in 0.. {
            let pause = pause(self.interval, tried).mul_f64(1.0 + fastrand::f64() / 4.0);
            tokio::time::sleep(pause).await;
            let event = self.ask(uri).await;
            let Some(admission) = admission.upgrade() else { return };
            if let Some(event) = event {
                admission.note(event);
                return;
            }
        }
    }

    /// HEAD of the hub's root: any answer below 500 will do.
    async fn ask(&self, uri: &Uri) -> Option<Event> {
        let mut request = Request::new(Empty::<Bytes>::new().map_err(|never| match never {}).boxed_unsync());
        *request.method_mut() = Method::HEAD;
        *request.uri_mut() = uri.clone();
        *request.headers_mut() = request_headers(None);
        self.telemetry.upstream_request(self.hub);
        match tokio::time::timeout(self.head_timeout, self.pool.request(request)).await {
            Ok(Ok(answer)) if !answer.status().is_server_error() => Some(Event::Answered),
            _ => None,
        }
    }
}

/// The pause before a probe, when so many were in vain.
fn pause(interval: Duration, tried: u32) -> Duration {
    interval.saturating_mul(1 << tried.min(16)).min(MAX_PAUSE.max(interval))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_bound_and_are_never_shorter_than_was_set() {
        let seconds = |s, tried| pause(Duration::from_secs(s), tried).as_secs();
        assert_eq!([0, 1, 2, 3, 4, 5, 999].map(|tried| seconds(2, tried)), [2, 4, 8, 16, 30, 30, 30]);
        assert_eq!([0, 1, 999].map(|tried| seconds(600, tried)), [600, 600, 600]);
    }
}
