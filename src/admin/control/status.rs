//! What a running server tells of itself. The types are what `hubcache status --json` prints: numbers are in the unit
//! that their name ends with.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::context::{Context, Server};
use crate::cache::Running;
use crate::model::{AnsweredBy, Hub, HubRoot, Outcome, Timestamp};
use crate::proxy::AccessStatus;
use crate::store::Usage;
use crate::telemetry::Telemetry;
use crate::upstream;

/// A server, its hubs, its downloads and its disk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The version of the program.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// How long it has been running.
    pub uptime_seconds: u64,
    /// Where clients connect.
    pub listen: SocketAddr,
    /// Where clients connect that speak TLS to it.
    pub listen_tls: Option<SocketAddr>,
    /// Whether tunnels to hubs are intercepted.
    pub intercept: bool,
    /// Where operators connect.
    pub admin: SocketAddr,
    /// Whether it has no way to the hubs.
    pub offline: bool,
    /// Who may use it.
    pub access: AccessStatus,
    /// Each hub.
    pub hubs: Vec<HubStatus>,
    /// All hubs together, and the requests that named none.
    pub total: Traffic,
    /// Requests for tokens to read the Xet store, with which files are fetched past this server.
    pub xet_tokens: u64,
    /// What was read again of what is held.
    pub scrub: ScrubStatus,
    /// Downloads that run.
    pub fills: Vec<FillStatus>,
    /// What is held.
    pub data: Usage,
}

/// A hub.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HubStatus {
    /// Which one.
    pub hub: Hub,
    /// Where it is.
    pub root: HubRoot,
    /// How it stands with it.
    #[serde(flatten)]
    pub condition: Condition,
    /// What was asked of it.
    #[serde(flatten)]
    pub traffic: Traffic,
}

/// How it stands with a hub.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum Condition {
    /// It is asked when that is needed.
    Up,
    /// It is not asked, because it did not answer.
    Down {
        /// For how long.
        down_seconds: u64,
        /// How it failed last.
        last_failure: String,
    },
    /// It asked to be left alone.
    HeldOff {
        /// For how long yet.
        left_seconds: u64,
    },
    /// There is no way to it.
    Offline,
}

/// What clients asked and what it cost, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Traffic {
    /// Requests that have ended, of every kind.
    pub requests: u64,
    /// Those for files and API answers whose client stayed to the end.
    pub asked: u64,
    /// Those of them that were answered without the hub.
    pub answered_here: u64,
    /// The share of these; none where nothing was asked.
    pub hit_ratio: Option<f64>,
    /// Requests that were handed on to the hub.
    pub passed: u64,
    /// Body bytes that went out to clients.
    pub served_bytes: u64,
    /// Body bytes that came in from the hub.
    pub fetched_bytes: u64,
    /// By how much more was sent than fetched.
    pub saved_bytes: u64,
    /// The share of these in what was sent; none where nothing was.
    pub saved_ratio: Option<f64>,
}

/// What was read again in the background, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubStatus {
    /// Contents that were read to their end.
    pub read_blobs: u64,
    /// Bytes that were read.
    pub read_bytes: u64,
    /// Contents that were found damaged, and are not served any more.
    pub damaged_blobs: u64,
}

/// A download that runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FillStatus {
    /// The file, as a target of commands.
    pub file: String,
    /// Bytes of it that are here.
    pub arrived_bytes: u64,
    /// Its size, once known.
    pub size_bytes: Option<u64>,
    /// How many requests wait for it or read it.
    pub followers: u64,
    /// How long it has been running.
    pub running_seconds: u64,
}

/// What there is to tell of a server.
pub(super) fn of(context: &Context, server: &Server, now: Timestamp) -> Status {
    let telemetry = &server.telemetry;
    let hub = |hub: Hub| HubStatus {
        hub,
        root: context.cache.roots().root(hub).clone(),
        condition: condition(context, hub),
        traffic: Traffic::of(telemetry, &[Some(hub)]),
    };
    let running = context.fetcher.as_ref().map_or_else(Vec::new, |fetcher| fetcher.running());
    Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        uptime_seconds: server.started_at.age(now).as_secs(),
        listen: server.listen,
        listen_tls: server.listen_tls,
        intercept: server.intercept,
        admin: server.admin,
        offline: context.offline,
        access: server.keeper.status(),
        hubs: Hub::ALL
            .into_iter()
            .filter(|hub| *hub != Hub::Settings || context.mirror.is_some())
            .map(hub)
            .collect(),
        total: Traffic::of(telemetry, &[Hub::ALL.map(Some).as_slice(), &[None]].concat()),
        xet_tokens: telemetry.xet_tokens(),
        scrub: ScrubStatus::of(telemetry),
        fills: running.iter().map(|fill| FillStatus::of(fill, now)).collect(),
        data: context.cache.store().usage(),
    }
}

fn condition(context: &Context, hub: Hub) -> Condition {
    let Some(fetcher) = &context.fetcher else { return Condition::Offline };
    let conditions = fetcher.upstream().conditions();
    match conditions.into_iter().find(|(of, _)| *of == hub).map(|(_, condition)| condition) {
        Some(upstream::Condition::Down { lasting, last }) => {
            Condition::Down { down_seconds: lasting.as_secs(), last_failure: last.to_string() }
        }
        Some(upstream::Condition::HeldOff { left }) => Condition::HeldOff { left_seconds: left.as_secs() },
        Some(upstream::Condition::Answering) | None => Condition::Up,
    }
}

impl Traffic {
    fn of(telemetry: &Telemetry, hubs: &[Option<Hub>]) -> Self {
        let mut traffic = Self::default();
        for hub in hubs {
            for outcome in Outcome::ALL {
                traffic.count(outcome, telemetry.requests(*hub, outcome));
            }
            if let Some(hub) = hub {
                traffic.served_bytes += telemetry.served_bytes(*hub);
                traffic.fetched_bytes += telemetry.upstream_bytes(*hub);
            }
        }
        traffic.saved_bytes = traffic.served_bytes.saturating_sub(traffic.fetched_bytes);
        traffic.hit_ratio = ratio(traffic.answered_here, traffic.asked);
        traffic.saved_ratio = ratio(traffic.saved_bytes, traffic.served_bytes);
        traffic
    }

    fn count(&mut self, outcome: Outcome, requests: u64) {
        self.requests += requests;
        match outcome.answered_by() {
            AnsweredBy::Here => {
                self.asked += requests;
                self.answered_here += requests;
            }
            AnsweredBy::Hub => self.asked += requests,
            AnsweredBy::Nobody => {}
        }
        if outcome == Outcome::Passed {
            self.passed += requests;
        }
    }
}

fn ratio(part: u64, whole: u64) -> Option<f64> {
    // Exact up to 2^53, far beyond what is counted.
    (whole > 0).then(|| part as f64 / whole as f64)
}

impl ScrubStatus {
    fn of(telemetry: &Telemetry) -> Self {
        let [read_blobs, read_bytes, damaged_blobs] = telemetry.scrubs();
        Self { read_blobs, read_bytes, damaged_blobs }
    }
}

impl FillStatus {
    fn of(fill: &Running, now: Timestamp) -> Self {
        Self {
            file: fill.key.to_string(),
            arrived_bytes: fill.arrived_bytes,
            size_bytes: fill.size_bytes,
            followers: fill.followers,
            running_seconds: fill.since.age(now).as_secs(),
        }
    }
}
