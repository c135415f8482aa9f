//! The hubs: requests to them, redirects inside, and how they fail.
//!
//! One [`Client`] serves every fill. Each request begins at the hub's root, never at a signed URL: a redirect's
//! target is used once and forgotten, so an expired signature cannot be met twice. Redirects are followed here (at
//! most `max_redirects`), the caller's credential goes to the root's own origin only, and identity encoding is asked
//! for. A body is a [`FileBody`]: it stalls at most `stall_timeout`, decodes gzip that a hub sends unasked, and holds
//! the permit of its host until it ends.
//!
//! Every connection is made by a connector (`connect`), which puts each address before the egress rules first. While a
//! hub is down, requests without credentials go to its mirrors (`sites`).
//!
//! Remote Settings is a hub whose files lie at a place that it tells (`collect`).
//!
//! Whatever is sent to a hub's own origin passes its admission (`Client::at_hub`): a hub that is down is asked
//! nothing but a probe until it answers, and one that answered 429 is left alone for as long as it says.
//!
//! Requests have an urgency ([`Haste`]). What nobody waits for gets a part of the connections to a host, and pauses,
//! instead of failing, while a hub is left alone or says that little of its quota is left; whatever then becomes urgent
//! goes on at once.

mod admission;
mod ask;
mod body;
mod calm;
mod circuit;
mod client;
mod collect;
mod connect;
mod failure;
mod fit;
mod greet;
mod gzip;
mod haste;
mod holdoff;
mod hosts;
mod names;
mod parent;
mod pass;
mod probe;
mod quota;
mod redirect;
mod sites;
mod tls;
mod trouble;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use admission::Condition;
pub use ask::{Inquiry, Said};
pub use body::{FileBody, Interrupt};
pub use client::{Answer, Client, Want};
pub use collect::Collected;
pub use failure::{Failure, Refusal};
pub use fit::{Fitting, Unfit};
pub use greet::{Greeting, Heard};
pub use haste::Haste;
pub use parent::Parent;
pub use pass::PassBody;
pub use tls::BuildError;
pub use trouble::Trouble;

use crate::model::{Hub, Roots, Secret};
use crate::policy::Egress;
use crate::policy::rate::Timetable;

/// What an operator can set of the way upstream.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the hubs are.
    pub roots: Roots,
    /// Where connections may go.
    pub egress: Arc<Egress>,
    /// The proxy through which hubs are reached.
    pub parent: Option<Parent>,
    /// The operator's own credentials for hubs.
    pub credentials: BTreeMap<Hub, Secret>,
    /// PEM certificates to trust besides the system's.
    pub ca_bundle: Option<PathBuf>,
    /// Longest wait for a connection.
    pub connect_timeout: Duration,
    /// Longest wait for each response head.
    pub head_timeout: Duration,
    /// Longest silence within a body before it is given up and resumed.
    pub stall_timeout: Duration,
    /// How often in a row a file is asked for without progress before its fill fails.
    pub attempts: u32,
    /// Wait before the second try; doubled for each further one.
    pub backoff: Duration,
    /// Longest wait between tries, also when the hub's Retry-After asks for more.
    pub backoff_max: Duration,
    /// How long the new name of a repository is remembered.
    pub names_ttl: Duration,
    /// Redirects followed for one request.
    pub max_redirects: usize,
    /// Largest file that is fetched, in bytes.
    pub max_file_bytes: u64,
    /// Bodies read from one host at a time.
    pub max_connections_per_host: usize,
    /// How many percent of the connections to a host downloads in the background may have.
    pub background_share: u32,
    /// While a hub says that fewer percent of its quota are left, downloads in the background pause.
    pub quota_reserve: u32,
    /// Bytes a second from all hubs.
    pub rate: Timetable,
    /// Bytes a second of request bodies to hubs.
    pub upload_rate: Timetable,
    /// Failures in a row after which a hub counts as down.
    pub circuit_failures: u32,
    /// Wait before a hub that is down is probed; doubled for each further probe.
    pub probe_interval: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            roots: Roots::default(),
            egress: Arc::default(),
            parent: None,
            credentials: BTreeMap::new(),
            ca_bundle: None,
            connect_timeout: Duration::from_secs(10),
            head_timeout: Duration::from_secs(30),
            stall_timeout: Duration::from_secs(15),
            attempts: 6,
            backoff: Duration::from_millis(250),
            backoff_max: Duration::from_secs(10),
            names_ttl: Duration::from_secs(60),
            max_redirects: 8,
            max_file_bytes: 1 << 40,
            max_connections_per_host: 32,
            background_share: 50,
            quota_reserve: 25,
            rate: Timetable::default(),
            upload_rate: Timetable::default(),
            circuit_failures: 5,
            probe_interval: Duration::from_secs(2),
        }
    }
}

impl Settings {
    /// The wait before try number `tried + 1`: doubled each time, with up to a quarter of jitter, and at least what
    /// the hub asked for, up to `backoff_max`.
    pub fn wait(&self, tried: u32, asked: Option<Duration>) -> Duration {
        let doubled = self.backoff.saturating_mul(1 << tried.min(16));
        let jittered = doubled.mul_f64(1.0 + fastrand::f64() / 4.0);
        jittered.max(asked.unwrap_or_default()).min(self.backoff_max)
    }
}
