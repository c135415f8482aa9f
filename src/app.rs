//! Wiring: what is made of what, in which order it starts, and in which order it stops.
//!
//! Whatever is stopped has nothing behind it that still needs it: first the sockets of clients, then the fills that
//! their requests began, then the doors of operators, and the store last.

mod heap;
mod lines;
mod logs;
mod plain;
mod signals;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use heap::keep_memory;
pub use logs::{Log, start_log};
use signals::Signals;

use crate::admin::control::Context;
use crate::admin::{Door, control};
use crate::cache::{self, Cache, Fetcher};
use crate::config::Config;
use crate::listen::{self, Drained};
use crate::model::Timestamp;
use crate::proxy::Proxy;
use crate::store::{self, Store};
use crate::telemetry::Telemetry;
use crate::upstream;

/// What is told to whoever started the program once clients can connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Ready {
    event: &'static str,
    /// Where clients connect.
    pub listen: SocketAddr,
    /// Where operators connect.
    pub admin: SocketAddr,
    /// The process that serves.
    pub pid: u32,
}

/// Why the program did not start, or did not end well.
#[derive(Debug)]
pub enum Error {
    /// The data directory could not be opened.
    Open(store::OpenError),
    /// The hubs cannot be asked, because what their certificates are checked with cannot be read.
    Upstream(upstream::BuildError),
    /// An address could not be listened on.
    Bind {
        /// Its setting.
        setting: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Commands cannot be taken.
    Control(io::Error),
    /// Signals cannot be waited for.
    Signals(io::Error),
    /// A part that runs until the end failed.
    Task(tokio::task::JoinError),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(_) => write!(f, "the data directory cannot be used"),
            Self::Upstream(_) => write!(f, "connections to the hubs cannot be set up"),
            Self::Bind { setting, address, .. } => write!(f, "cannot listen on {address} ({setting})"),
            Self::Control(_) => write!(f, "the control socket cannot be made"),
            Self::Signals(_) => write!(f, "signals cannot be waited for"),
            Self::Task(_) => write!(f, "a task that should run until the end failed"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Open(e) => Some(e),
            Self::Upstream(e) => Some(e),
            Self::Bind { source: e, .. } | Self::Control(e) | Self::Signals(e) => Some(e),
            Self::Task(e) => Some(e),
        }
    }
}

/// Serves until a signal says stop; `ready` is called once, when clients can connect.
///
/// # Errors
/// When a part cannot start, or fails before the end.
pub async fn run(config: Config, ready: impl FnOnce(Ready)) -> Result<(), Error> {
    // Before anything that a signal should stop in good order.
    let mut signals = Signals::install().map_err(Error::Signals)?;
    raise_file_limit(config.listen.limits.max_connections);
    // First of all, because a second process is told who owns the directory rather than which port is taken.
    let store = open(config.store.clone()).await?;
    let mut service = match Service::start(config, store.clone()).await {
        Ok(service) => service,
        Err(error) => {
            store.close().await;
            return Err(error);
        }
    };
    ready(service.ready);
    let failed = tokio::select! {
        () = signals.stop() => None,
        ended = &mut service.clients => ended.err(),
    };
    signals.then_exit_at_once();
    service.stop(failed.is_none()).await;
    failed.map_or(Ok(()), |error| Err(Error::Task(error)))
}

/// Everything that runs.
struct Service {
    ready: Ready,
    store: Store,
    fetcher: Option<Arc<Fetcher>>,
    door: Arc<Door>,
    clients: JoinHandle<Drained>,
    stop_clients: watch::Sender<bool>,
    operators: JoinHandle<Drained>,
    stop_operators: watch::Sender<bool>,
    control: JoinHandle<()>,
    housekeeping: JoinHandle<()>,
}

// The operators' door serves answers that are complete in memory; a few collectors of metrics come at a time.
const OPERATOR_LIMITS: listen::Limits = listen::Limits {
    header_timeout: Duration::from_secs(10),
    idle_timeout: Duration::from_secs(120),
    write_timeout: Duration::from_secs(30),
    max_connections: 64,
};
const HOUSEKEEPING: Duration = Duration::from_secs(600);
const OPERATOR_DRAIN: Duration = Duration::from_secs(1);

impl Service {
    async fn start(config: Config, store: Store) -> Result<Self, Error> {
        let Config { offline, listen, admin, store: settings, upstream, cache, policy, log: _ } = config;
        let client_listener = bind("listen.address", listen.address).await?;
        let operator_listener = bind("admin.address", admin.address).await?;
        let ready = Ready {
            event: "ready",
            listen: local_address("listen.address", &client_listener, listen.address)?,
            admin: local_address("admin.address", &operator_listener, admin.address)?,
            pid: std::process::id(),
        };

        let telemetry = Telemetry::new(env!("CARGO_PKG_VERSION"));
        let held = Cache::new(&cache, upstream.roots.clone(), store.clone());
        let fetcher = match offline {
            true => {
                tracing::info!("offline: no hub is asked");
                None
            }
            false => Some(fetcher(cache, Arc::clone(&held), upstream, &telemetry)?),
        };
        let server = control::Server {
            started_at: Timestamp::now(),
            listen: ready.listen,
            admin: ready.admin,
            fetcher: fetcher.clone(),
            telemetry: telemetry.clone(),
        };
        let (cache, rules, server) = (Arc::clone(&held), policy.clone(), Some(Arc::new(server)));
        let context = Context { cache, rules, offline, server };
        let proxy = Proxy::new(policy, held, fetcher.clone(), telemetry.clone());
        let door = Arc::new(Door::new(store.clone(), telemetry, admin.hosts));

        let bound = control::bind(&settings.dir, &runtime_dirs()).map_err(Error::Control)?;
        let control = tokio::spawn(control::serve(bound, context));
        let housekeeping = tokio::spawn(keep_house(store.clone()));
        let (stop_clients, stop) = watch::channel(false);
        let handler = move |request, _peer| {
            let proxy = Arc::clone(&proxy);
            async move { proxy.handle(request).await }
        };
        let clients =
            tokio::spawn(listen::serve(client_listener, listen.limits, listen.drain, handler, stop));
        let (stop_operators, stop) = watch::channel(false);
        let operators = tokio::spawn({
            let door = Arc::clone(&door);
            let handler = move |request, _peer| Arc::clone(&door).handle(request);
            listen::serve(operator_listener, OPERATOR_LIMITS, OPERATOR_DRAIN, handler, stop)
        });
        Ok(Self {
            ready,
            store,
            fetcher,
            door,
            clients,
            stop_clients,
            operators,
            stop_operators,
            control,
            housekeeping,
        })
    }

    /// Stops everything; `clients_run` says whether the task that serves clients is still to be waited for.
    async fn stop(self, clients_run: bool) {
        self.door.stopping();
        self.stop_clients.send_replace(true);
        if clients_run {
            match self.clients.await {
                Ok(Drained { cut: 0 }) => tracing::info!("all responses were finished"),
                Ok(Drained { cut }) => {
                    tracing::warn!(cut, "responses were cut because the time to drain was up")
                }
                Err(error) => tracing::error!(%error, "serving clients failed"),
            }
        }
        if let Some(fetcher) = self.fetcher {
            fetcher.stop().await;
        }
        self.housekeeping.abort();
        self.control.abort();
        // It ends by being aborted, which is an error only to those who did not ask for it.
        let _ = self.control.await;
        self.stop_operators.send_replace(true);
        let _ = self.operators.await;
        self.store.close().await;
        tracing::info!("stopped");
    }
}

/// The way to the hubs, on which unfinished files go on at once.
fn fetcher(
    settings: cache::Settings,
    held: Arc<Cache>,
    hubs: upstream::Settings,
    telemetry: &Telemetry,
) -> Result<Arc<Fetcher>, Error> {
    let client = upstream::Client::new(hubs, telemetry.clone()).map_err(Error::Upstream)?;
    let fetcher = Fetcher::new(settings, held, Arc::new(client), telemetry.clone());
    fetcher.resume_fills();
    Ok(fetcher)
}

/// Lets go of what has expired, now and every so often.
async fn keep_house(store: Store) {
    let mut every = tokio::time::interval(HOUSEKEEPING);
    loop {
        every.tick().await;
        match store.expire(Timestamp::now()).await {
            Ok(expired) if expired.partials > 0 => {
                tracing::info!(partials = expired.partials, "unfinished files have expired");
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "what has expired cannot be removed"),
        }
    }
}

async fn bind(setting: &'static str, address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|source| Error::Bind { setting, address, source })
}

fn local_address(
    setting: &'static str,
    listener: &TcpListener,
    address: SocketAddr,
) -> Result<SocketAddr, Error> {
    listener.local_addr().map_err(|source| Error::Bind { setting, address, source })
}

/// Opens the store off the runtime's threads, because it reads and may repair files.
async fn open(settings: store::Settings) -> Result<Store, Error> {
    let opened = tokio::task::spawn_blocking(move || {
        let store = Store::open(settings, Timestamp::now())?;
        if let Err(error) = store.prepare() {
            tracing::warn!(%error, "the data directory can be read, but not written");
        }
        Ok(store)
    });
    opened.await.map_err(Error::Task)?.map_err(Error::Open)
}

/// Where a control socket goes whose path in the data directory would be too long.
fn runtime_dirs() -> Vec<PathBuf> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    runtime.into_iter().chain([std::env::temp_dir(), PathBuf::from("/tmp")]).collect()
}

/// Asks for as many open files as the connections and the files of the store can need.
fn raise_file_limit(max_connections: usize) {
    // A connection of a client may have one to a hub behind it.
    let wanted = u64::try_from(max_connections).unwrap_or(u64::MAX).saturating_mul(2).saturating_add(1024);
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= wanted) {
        return;
    }
    let possible = maximum.map_or(wanted, |maximum| maximum.min(wanted));
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: Some(possible), maximum }) {
        tracing::warn!(%error, wanted, "the limit of open files stays as it is");
    } else if possible < wanted {
        tracing::info!(possible, wanted, "fewer files can be open than listen.max_connections may need");
    }
}
