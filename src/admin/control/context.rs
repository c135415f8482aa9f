//! What commands work on.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::Opening;
use crate::cache::{Cache, Fetcher};
use crate::model::Timestamp;
use crate::policy::Rules;
use crate::proxy::{Frozen, Keeper, Mirror};
use crate::telemetry::Telemetry;
use crate::telemetry::audit::Record;

/// What commands work on: always the store, and what a server knows beside it.
#[derive(Clone)]
pub struct Context {
    /// What is held and known.
    pub cache: Arc<Cache>,
    /// By which rules requests are answered.
    pub rules: Rules,
    /// Whether they are answered without any hub.
    pub offline: bool,
    /// The way to the hubs, if there is one.
    pub fetcher: Option<Arc<Fetcher>>,
    /// Remote Settings, unless it is off.
    pub mirror: Option<Mirror>,
    /// Opens sessions; none where a command has opened the store itself.
    pub sessions: Option<mpsc::Sender<Opening>>,
    /// The server that runs; none where a command has opened the store itself.
    pub server: Option<Arc<Server>>,
}

impl Context {
    /// Adds a record to the audit log of the server that runs, if one does and has one.
    pub(super) fn audit(&self, record: impl FnOnce() -> Record) {
        if let Some(server) = &self.server {
            server.telemetry.audit(record);
        }
    }
}

/// A server that runs.
pub struct Server {
    /// When it began.
    pub started_at: Timestamp,
    /// Where clients connect.
    pub listen: SocketAddr,
    /// Where clients connect that speak TLS to it.
    pub listen_tls: Option<SocketAddr>,
    /// Whether tunnels to hubs are intercepted.
    pub intercept: bool,
    /// Where operators connect.
    pub admin: SocketAddr,
    /// The lock that alone is served, if one is.
    pub frozen: Option<Arc<Frozen>>,
    /// What was counted.
    pub telemetry: Telemetry,
    /// Who may do what.
    pub keeper: Arc<Keeper>,
}
