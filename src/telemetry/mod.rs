//! Counters and their names, and what the log is to look like.
//!
//! Pure bookkeeping: whoever records a duration measures it, and nothing here opens a socket or asks a clock. The
//! labels come from closed sets ([`Hub`], [`Outcome`]), so no client can make the number of series grow.

pub mod audit;
mod limit;
pub mod log;

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry};

pub use limit::Limit;
use limit::Limited;

use self::audit::Queue;
use crate::model::{Hub, Outcome, WhyGone};

/// The media type of what [`Telemetry::render`] returns.
pub const METRICS_CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Requests by hub, then by outcome; the row behind the hubs counts requests that name none.
type Requests = Vec<[Counter; Outcome::ALL.len()]>;

/// Every counter of the program; a clone counts into the same ones.
#[derive(Clone, Debug)]
pub struct Telemetry {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    registry: Registry,
    requests: Requests,
    request_seconds: Histogram,
    served_bytes: PerHub,
    upstream_requests: PerHub,
    upstream_bytes: PerHub,
    upstream_withheld: PerHub,
    hub_down: PerHub<Gauge>,
    cache_bytes: Gauge,
    cache_limit_bytes: Gauge,
    evicted_files: [Counter; WhyGone::ALL.len()],
    evicted_bytes: [Counter; WhyGone::ALL.len()],
    inflight_fetches: Gauge,
    coalesced: Counter,
    verify_failures: Counter,
    fill_seconds: Histogram,
    xet_tokens: Counter,
    xet_hints: Counter,
    xet_tunnels: Counter,
    settings_polls: [Counter; 2],
    settings_bad_signatures: Counter,
    settings_announced: Counter,
    settings_superseded: Counter,
    limited: Limited,
    scrubbed_bytes: Counter,
    scrubbed_blobs: Counter,
    damaged_blobs: Counter,
    audit_lost: Counter,
    audit_unwritten: Counter,
    /// The audit log, where there is one.
    audit: OnceLock<Queue>,
}

impl Telemetry {
    /// All counters at zero; `version` is what `hubcache_build_info` tells.
    pub fn new(version: &'static str) -> Self {
        let mut registry = Registry::with_prefix("hubcache");
        let requests = register_requests(&mut registry);
        let request_seconds = register(
            &mut registry,
            "request_duration_seconds",
            "Time from the head of a request to the end of its response",
            Histogram::new(REQUEST_BUCKETS_SECONDS),
        );
        let served_bytes = PerHub::register(&mut registry, "served_bytes", "Body bytes sent to clients");
        let upstream_requests = PerHub::register(
            &mut registry,
            "upstream_requests",
            "Requests sent to the hub, redirects included",
        );
        let upstream_bytes =
            PerHub::register(&mut registry, "upstream_bytes", "Body bytes received from the hub");
        let upstream_withheld = PerHub::register(
            &mut registry,
            "upstream_withheld",
            "Requests that the hub was not sent, because it is down or asked to be left alone",
        );
        let hub_down = PerHub::register(&mut registry, "hub_down", "1 while the hub counts as down, else 0");
        let cache_bytes = register(
            &mut registry,
            "cache_bytes",
            "Space that the data directory takes, in bytes of disk blocks",
            Gauge::default(),
        );
        let cache_limit_bytes = register(
            &mut registry,
            "cache_limit_bytes",
            "Space that the data directory may take, in bytes of disk blocks",
            Gauge::default(),
        );
        let evicted_files =
            register_evicted(&mut registry, "evicted_files", "Files that went for want of room");
        let evicted_bytes = register_evicted(
            &mut registry,
            "evicted_bytes",
            "What files that went for want of room took, in bytes of disk blocks",
        );
        let inflight_fetches =
            register(&mut registry, "inflight_fetches", "Fills that are running now", Gauge::default());
        let coalesced = register(
            &mut registry,
            "coalesced_requests",
            "Requests that followed a fill which another request began",
            Counter::default(),
        );
        let verify_failures = register(
            &mut registry,
            "verify_failures",
            "Downloads whose bytes were not what was promised",
            Counter::default(),
        );
        let fill_seconds = register(
            &mut registry,
            "fill_duration_seconds",
            "Time from the start of a fill to its end",
            Histogram::new(FILL_BUCKETS_SECONDS),
        );
        let xet_tokens = register(
            &mut registry,
            "xet_token_requests",
            "Requests for access to the Xet store, from where files come past this cache",
            Counter::default(),
        );
        let xet_hints = register(
            &mut registry,
            "xet_hints",
            "Times that clients were told of a large file's place in the Xet store",
            Counter::default(),
        );
        let xet_tunnels = register(
            &mut registry,
            "xet_tunnels",
            "Tunnels that clients opened to the Xet store, from where files come past this cache",
            Counter::default(),
        );
        let polls = Family::<[(&'static str, &'static str); 1], Counter>::default();
        let settings_polls =
            ["failed", "good"].map(|result| polls.get_or_create_owned(&[("result", result)]));
        registry.register("settings_polls", "Times that Remote Settings was asked what has changed", polls);
        let settings_bad_signatures = register(
            &mut registry,
            "settings_bad_signatures",
            "States of collections that were refused because no good signature is on them, or as a replay",
            Counter::default(),
        );
        let settings_announced = register(
            &mut registry,
            "settings_announced",
            "Revisions that signed collections have announced",
            Counter::default(),
        );
        let settings_superseded = register(
            &mut registry,
            "settings_superseded",
            "Revisions that an announced one has superseded",
            Counter::default(),
        );
        let limited = Limited::register(&mut registry);
        let scrubbed_bytes = register(
            &mut registry,
            "scrubbed_bytes",
            "Bytes of what is held that were read again and hashed in the background",
            Counter::default(),
        );
        let scrubbed_blobs = register(
            &mut registry,
            "scrubbed_blobs",
            "Contents of files that were read again to their end in the background",
            Counter::default(),
        );
        let damaged_blobs = register(
            &mut registry,
            "damaged_blobs",
            "Contents of files that were found damaged, and are not served any more",
            Counter::default(),
        );
        let audit_lost = register(
            &mut registry,
            "audit_lost",
            "Records of the audit log that found no room in its queue",
            Counter::default(),
        );
        let audit_unwritten = register(
            &mut registry,
            "audit_unwritten",
            "Records of the audit log that could not be written to its file",
            Counter::default(),
        );
        registry.register("build", "The version that is running", Info::new([("version", version)]));
        let shared = Shared {
            registry,
            requests,
            request_seconds,
            served_bytes,
            upstream_requests,
            upstream_bytes,
            upstream_withheld,
            hub_down,
            cache_bytes,
            cache_limit_bytes,
            evicted_files,
            evicted_bytes,
            inflight_fetches,
            coalesced,
            verify_failures,
            fill_seconds,
            xet_tokens,
            xet_hints,
            xet_tunnels,
            settings_polls,
            settings_bad_signatures,
            settings_announced,
            settings_superseded,
            limited,
            scrubbed_bytes,
            scrubbed_blobs,
            damaged_blobs,
            audit_lost,
            audit_unwritten,
            audit: OnceLock::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// A request ended as `outcome`, `took` after its head was read; `hub` is `None` where it named none.
    pub fn request_ended(&self, hub: Option<Hub>, outcome: Outcome, took: Duration) {
        self.shared.requests[row(hub)][outcome as usize].inc();
        self.shared.request_seconds.observe(took.as_secs_f64());
        if outcome == Outcome::Collapsed {
            self.shared.coalesced.inc();
        }
    }

    /// Body bytes of a file of `hub` went out to a client.
    pub fn served(&self, hub: Hub, size_bytes: u64) {
        self.shared.served_bytes.add(hub, size_bytes);
    }

    /// A request goes out to `hub`, or to where it redirected.
    pub fn upstream_request(&self, hub: Hub) {
        self.shared.upstream_requests.add(hub, 1);
    }

    /// A request was not sent to `hub`, because it is down or asked to be left alone.
    pub fn upstream_withheld(&self, hub: Hub) {
        self.shared.upstream_withheld.add(hub, 1);
    }

    /// Whether `hub` counts as down.
    pub fn set_hub_down(&self, hub: Hub, down: bool) {
        self.shared.hub_down.0[hub_index(hub)].set(i64::from(down));
    }

    /// Body bytes came in from `hub`, or from where it redirected.
    pub fn upstream_received(&self, hub: Hub, size_bytes: u64) {
        self.shared.upstream_bytes.add(hub, size_bytes);
    }

    /// A fill begins; it counts as running until the guard is dropped.
    #[must_use]
    pub fn fetch_started(&self) -> FetchRunning {
        self.shared.inflight_fetches.inc();
        FetchRunning(self.shared.inflight_fetches.clone())
    }

    /// A fill ended, well or badly, `took` after it began.
    pub fn fill_ended(&self, took: Duration) {
        self.shared.fill_seconds.observe(took.as_secs_f64());
    }

    /// Downloaded bytes were not what was promised.
    pub fn verify_failed(&self) {
        self.shared.verify_failures.inc();
    }

    /// A client asks for access to the Xet store.
    pub fn xet_token_requested(&self) {
        self.shared.xet_tokens.inc();
    }

    /// A client opened a tunnel to the Xet store.
    pub fn xet_tunnelled(&self) {
        self.shared.xet_tunnels.inc();
    }

    /// A client was told where `count` large files are in the Xet store.
    pub fn xet_hints_kept(&self, count: u64) {
        self.shared.xet_hints.inc_by(count);
    }

    /// Remote Settings was asked what has changed.
    pub fn settings_polled(&self, is_good: bool) {
        self.shared.settings_polls[usize::from(is_good)].inc();
    }

    /// A state of a collection was refused.
    pub fn settings_refused(&self) {
        self.shared.settings_bad_signatures.inc();
    }

    /// A revision was announced.
    pub fn settings_announced(&self) {
        self.shared.settings_announced.inc();
    }

    /// A revision was superseded.
    pub fn settings_superseded(&self) {
        self.shared.settings_superseded.inc();
    }

    /// A limit has bitten at `now`. Whether that is worth a line in the log: it is once a minute.
    pub fn limited(&self, limit: Limit, now: Instant) -> bool {
        self.shared.limited.count(limit, now)
    }

    /// Bytes of what is held were read again.
    pub fn scrubbed(&self, size_bytes: u64) {
        self.shared.scrubbed_bytes.inc_by(size_bytes);
    }

    /// Something that is held was read again to its end.
    pub fn scrubbed_one(&self) {
        self.shared.scrubbed_blobs.inc();
    }

    /// Something that is held was found damaged.
    pub fn found_damaged(&self) {
        self.shared.damaged_blobs.inc();
    }

    /// How many contents were read again, how many bytes these were, and how many contents were found damaged.
    pub fn scrubs(&self) -> [u64; 3] {
        let Shared { scrubbed_blobs, scrubbed_bytes, damaged_blobs, .. } = &*self.shared;
        [scrubbed_blobs, scrubbed_bytes, damaged_blobs].map(|counter| counter.get())
    }

    /// How much space the data directory takes, and may take.
    pub fn set_cache_bytes(&self, disk_bytes: u64, limit_bytes: u64) {
        self.shared.cache_bytes.set(i64::try_from(disk_bytes).unwrap_or(i64::MAX));
        self.shared.cache_limit_bytes.set(i64::try_from(limit_bytes).unwrap_or(i64::MAX));
    }

    /// How many files went so far for want of room, and what they took on disk.
    pub fn set_evicted(&self, why: WhyGone, files: u64, disk_bytes: u64) {
        let of = |counters: &[Counter], n| counters[why as usize].inner().store(n, Ordering::Relaxed);
        of(&self.shared.evicted_files, files);
        of(&self.shared.evicted_bytes, disk_bytes);
    }

    /// How many requests that concerned `hub`, or no hub, have ended as `outcome`.
    pub fn requests(&self, hub: Option<Hub>, outcome: Outcome) -> u64 {
        self.shared.requests[row(hub)][outcome as usize].get()
    }

    /// How many body bytes went out to clients.
    pub fn served_bytes(&self, hub: Hub) -> u64 {
        self.shared.served_bytes.get(hub)
    }

    /// How many body bytes came in.
    pub fn upstream_bytes(&self, hub: Hub) -> u64 {
        self.shared.upstream_bytes.get(hub)
    }

    /// How often a token of the Xet store was asked for.
    pub fn xet_tokens(&self) -> u64 {
        self.shared.xet_tokens.get()
    }

    /// Everything in the OpenMetrics text format.
    pub fn render(&self) -> String {
        let mut out = String::new();
        encode(&mut out, &self.shared.registry).expect("a String takes every write");
        out
    }
}

/// A fill that `hubcache_inflight_fetches` counts.
#[derive(Debug)]
pub struct FetchRunning(Gauge);

impl Drop for FetchRunning {
    fn drop(&mut self) {
        self.0.dec();
    }
}

// From a hit out of memory to a file of many gigabytes over a slow line.
const REQUEST_BUCKETS_SECONDS: [f64; 14] =
    [0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0, 300.0, 1800.0, 7200.0];
const FILL_BUCKETS_SECONDS: [f64; 10] = [0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0, 300.0, 1800.0, 7200.0];

/// One metric for each hub, resolved once so that counting takes no lock.
#[derive(Debug)]
struct PerHub<M = Counter>([M; Hub::ALL.len()]);

impl<M: Clone + Default> PerHub<M>
where
    Family<[(&'static str, &'static str); 1], M>: Metric,
{
    fn register(registry: &mut Registry, name: &str, help: &str) -> Self {
        let family = Family::<[(&'static str, &'static str); 1], M>::default();
        let metrics = Hub::ALL.map(|hub| family.get_or_create_owned(&[("hub", hub.name())]));
        registry.register(name, help, family);
        Self(metrics)
    }
}

impl PerHub {
    fn add(&self, hub: Hub, n: u64) {
        self.0[hub_index(hub)].inc_by(n);
    }

    fn get(&self, hub: Hub) -> u64 {
        self.0[hub_index(hub)].get()
    }
}

/// The row of [`Requests`] for a hub, or for none.
fn row(hub: Option<Hub>) -> usize {
    hub.map_or(Hub::ALL.len(), hub_index)
}

fn hub_index(hub: Hub) -> usize {
    match hub {
        Hub::Mozilla => 0,
        Hub::HuggingFace => 1,
        Hub::Settings => 2,
    }
}

fn register_requests(registry: &mut Registry) -> Requests {
    let family = Family::<[(&'static str, &'static str); 2], Counter>::default();
    let rows = Hub::ALL.iter().map(|hub| hub.name()).chain(["none"]);
    let requests = rows
        .map(|hub| {
            Outcome::ALL
                .map(|outcome| family.get_or_create_owned(&[("hub", hub), ("result", outcome.name())]))
        })
        .collect();
    registry.register("requests", "Requests by the hub they name and how they ended", family);
    requests
}

fn register_evicted(registry: &mut Registry, name: &str, help: &str) -> [Counter; WhyGone::ALL.len()] {
    let family = Family::<[(&'static str, &'static str); 1], Counter>::default();
    let counters = WhyGone::ALL.map(|why| family.get_or_create_owned(&[("reason", why.name())]));
    registry.register(name, help, family);
    counters
}

fn register<M: Metric + Clone>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M {
    registry.register(name, help, metric.clone());
    metric
}

#[cfg(test)]
mod tests;
