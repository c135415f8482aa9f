//! May a hub be asked now. Everything that is sent to a hub's own origin passes here, and what becomes of it counts.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use http::{HeaderMap, Response, StatusCode, header};
use tokio::sync::watch;

use super::circuit::{Circuit, Event};
use super::holdoff::{HoldOff, Kind};
use super::probe::Probe;
use super::quota::Quota;
use super::sites::Site;
use super::trouble::Trouble;
use super::{Client, Failure};
use crate::model::Hub;
use crate::telemetry::Telemetry;

/// How it stands with a hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// It is asked.
    Answering,
    /// It is down, and asked nothing until it answers a probe.
    Down {
        /// For how long.
        lasting: Duration,
        /// How the last request failed.
        last: Arc<str>,
    },
    /// It answered 429, and is asked only with callers' own credentials.
    HeldOff {
        /// For how long yet.
        left: Duration,
    },
}

/// What is about to be sent to a hub's own origin.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asking {
    pub(super) site: Site,
    kind: Kind,
    credentialed: bool,
}

impl Asking {
    /// A request for a file.
    pub(super) fn file(site: Site, credentialed: bool) -> Self {
        Self { site, kind: Kind::Files, credentialed }
    }

    /// A request with these fields for a path below the hub's root.
    pub(super) fn path(site: Site, path_and_query: &str, headers: &HeaderMap) -> Self {
        let credentialed =
            headers.contains_key(header::AUTHORIZATION) || headers.contains_key(header::COOKIE);
        Self { site, kind: Kind::of(path_and_query), credentialed }
    }
}

impl Client {
    /// Whether a hub is down, so that nothing but a probe is sent to it, and no mirror is there to be asked.
    pub fn is_down(&self, hub: Hub) -> bool {
        let has_mirror = || self.sites.for_request(hub, false, Instant::now()).len() > 1;
        self.is_closed(Site::root(hub)) && !has_mirror()
    }

    /// Whether nothing but a probe is sent to a site.
    pub(super) fn is_closed(&self, site: Site) -> bool {
        site.mirror.is_none() && self.admissions[&site.hub].circuit.borrow().open_since().is_some()
    }

    /// How a request to a hub would fail that is not answering: at once if it is down, else by its silence.
    pub fn why_down(&self, hub: Hub) -> Failure {
        match &*self.admissions[&hub].circuit.borrow() {
            Circuit::Open { last, .. } => {
                self.telemetry.upstream_withheld(hub);
                Failure::Down { last: Arc::clone(last) }
            }
            Circuit::Closed { .. } => Failure::TimedOut,
        }
    }

    /// How it stands with each hub.
    pub fn conditions(&self) -> Vec<(Hub, Condition)> {
        let now = Instant::now();
        self.admissions.iter().map(|(hub, admission)| (*hub, admission.condition(now))).collect()
    }

    /// While a hub is down: waits until it answers, but no longer than the request took that found it down. Whoever
    /// asks repeatedly is as patient then as if each time the hub had been asked.
    pub async fn until_up(&self, hub: Hub) {
        let mut circuit = self.admissions[&hub].circuit.subscribe();
        let took = match &*circuit.borrow() {
            Circuit::Closed { .. } => return,
            Circuit::Open { took, .. } => *took,
        };
        // Whether it answers or not, the next request finds out.
        let _ = tokio::time::timeout(took, circuit.wait_for(|c| c.open_since().is_none())).await;
    }

    /// Sends what is asked of a hub's own origin, unless the hub is down or asked to be left alone. `sent` is not
    /// begun before that is known.
    pub(super) async fn at_hub<B>(
        &self,
        asking: Asking,
        sent: impl Future<Output = Result<Response<B>, Failure>>,
    ) -> Result<Response<B>, Failure> {
        self.admit(asking)?;
        if asking.site.mirror.is_some() {
            return sent.await;
        }
        let hub = asking.site.hub;
        let admission = &self.admissions[&hub];
        let began = Instant::now();
        let result = sent.await;
        if let Ok(response) = &result {
            admission.hear(asking, response);
        }
        if let Some(event) = event(&result, began)
            && let Some(since) = admission.note(event)
        {
            Probe::new(self, hub).spawn(admission, since);
        }
        result
    }

    /// Why a request would not be sent now.
    pub(super) fn admit(&self, asking: Asking) -> Result<(), Failure> {
        let Site { hub, mirror: None } = asking.site else { return Ok(()) };
        let admitted = self.admissions[&hub].admit(asking, Instant::now());
        if admitted.is_err() {
            self.telemetry.upstream_withheld(hub);
        }
        admitted
    }
}

/// What is remembered of one hub. A task that probes it ends with it.
pub(super) struct Admission {
    hub: Hub,
    failures: u32,
    /// Its receivers are told when it opens and closes.
    circuit: watch::Sender<Circuit>,
    /// By [`Kind`].
    held_off: Mutex<[Option<HoldOff>; Kind::COUNT]>,
    /// By [`Kind`]: what is left of its quota.
    quotas: Mutex<[Option<Quota>; Kind::COUNT]>,
    telemetry: Telemetry,
}

impl Admission {
    /// A hub of which nothing is known; it is down after so many failures in a row.
    pub(super) fn new(hub: Hub, failures: u32, telemetry: Telemetry) -> Self {
        let (held_off, quotas) = (Mutex::default(), Mutex::default());
        Self { hub, failures, circuit: watch::Sender::default(), held_off, quotas, telemetry }
    }

    /// Tells when the circuit opens and closes.
    pub(super) fn watch(&self) -> watch::Receiver<Circuit> {
        self.circuit.subscribe()
    }

    /// Takes in what became of a request. Since when the hub is down, if this is what made it so.
    pub(super) fn note(&self, event: Event) -> Option<Instant> {
        let mut opened = None;
        self.circuit.send_if_modified(|circuit| {
            let now = Instant::now();
            let before = circuit.open_since();
            *circuit = std::mem::take(circuit).after(event, now, self.failures);
            match (before, &*circuit) {
                (None, Circuit::Open { since, last, .. }) => {
                    tracing::warn!(hub = %self.hub, %last, "the hub is down; it is probed until it answers");
                    opened = Some(*since);
                }
                (Some(since), Circuit::Closed { .. }) => {
                    let down_s = now.saturating_duration_since(since).as_secs_f32();
                    tracing::info!(hub = %self.hub, down_s, "the hub answers again");
                }
                _ => return false,
            }
            // Inside, so that the gauge ends as the circuit does.
            self.telemetry.set_hub_down(self.hub, opened.is_some());
            true
        });
        opened
    }

    fn admit(&self, asking: Asking, now: Instant) -> Result<(), Failure> {
        if let Circuit::Open { last, .. } = &*self.circuit.borrow() {
            return Err(Failure::Down { last: Arc::clone(last) });
        }
        if asking.credentialed {
            return Ok(());
        }
        match self.held_off()[asking.kind as usize].as_ref().and_then(|held| held.refusal(now)) {
            Some(refusal) => Err(Failure::Refused(Box::new(refusal))),
            None => Ok(()),
        }
    }

    /// Until when those who are in no haste leave the hub alone.
    pub(super) fn busy_until(&self, kind: Kind, reserve: u32, now: Instant) -> Option<Instant> {
        let left = self.held_off()[kind as usize].as_ref().and_then(|held| held.left(now));
        let scarce = self.quotas()[kind as usize].and_then(|quota| quota.scarce_until(reserve, now));
        left.map(|left| now + left).max(scarce)
    }

    /// Keeps what a hub says of its quota, and what a 429 says, to everybody: in answers to requests without
    /// credentials.
    fn hear<B>(&self, asking: Asking, response: &Response<B>) {
        if asking.credentialed {
            return;
        }
        let now = Instant::now();
        if let Some(quota) = Quota::of(response.headers(), now) {
            self.quotas()[asking.kind as usize] = Some(quota);
        }
        if response.status() != StatusCode::TOO_MANY_REQUESTS {
            return;
        }
        let heard = HoldOff::new(response.headers(), now, SystemTime::now());
        let held = &mut self.held_off()[asking.kind as usize];
        // Answers overtake each other; the longest wait contains the others.
        if held.as_ref().and_then(|held| held.left(now)) < heard.left(now) {
            let left_s = heard.left(now).unwrap_or_default().as_secs_f32();
            tracing::warn!(hub = %self.hub, kind = ?asking.kind, left_s, "the hub asks to be left alone");
            *held = Some(heard);
        }
    }

    fn condition(&self, now: Instant) -> Condition {
        if let Circuit::Open { since, last, .. } = &*self.circuit.borrow() {
            let lasting = now.saturating_duration_since(*since);
            return Condition::Down { lasting, last: Arc::clone(last) };
        }
        let left = self.held_off().iter().flatten().filter_map(|held| held.left(now)).max();
        left.map_or(Condition::Answering, |left| Condition::HeldOff { left })
    }

    fn quotas(&self) -> MutexGuard<'_, [Option<Quota>; Kind::COUNT]> {
        // Each update is a single assignment.
        self.quotas.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn held_off(&self) -> MutexGuard<'_, [Option<HoldOff>; Kind::COUNT]> {
        self.held_off.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a hub says with this status that it is out of order.
pub(super) fn is_out_of_order(status: StatusCode) -> bool {
    matches!(status.as_u16(), 500 | 502 | 503 | 504)
}

/// What a request says of the hub; nothing where the fault lies elsewhere.
fn event<B>(result: &Result<Response<B>, Failure>, began: Instant) -> Option<Event> {
    let failure = match result {
        Ok(response) if is_out_of_order(response.status()) => {
            let phrase = format!("the hub answered {}", response.status());
            return Some(Event::Failed { began, timed_out: false, phrase: phrase.into() });
        }
        Ok(_) => return Some(Event::Answered),
        Err(failure) => failure,
    };
    let timed_out = match (failure, failure.trouble()) {
        (Failure::TimedOut, _) | (_, Some(Trouble::ConnectionTimeout)) => true,
        (_, Some(Trouble::Caller)) => return None,
        (_, Some(_)) => false,
        _ => return None,
    };
    Some(Event::Failed { began, timed_out, phrase: failure.to_string().into() })
}
