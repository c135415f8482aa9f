//! Wiring: what is made of what, in which order it starts, and in which order it stops.
//!
//! Whatever is stopped has nothing behind it that still needs it: first the sockets of clients, then the fills that
//! their requests began, then the doors of operators, and the store last.

mod audit;
mod core;
mod error;
mod heap;
mod house;
mod lent;
mod lines;
mod logs;
mod owner;
mod plain;
mod reload;
mod sessions;
mod signals;
mod spoiling;
pub mod tokens;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use self::audit::Audit;
use self::core::Core;
use self::reload::{Calls, Reload};
use self::sessions::Sessions;
use self::signals::Signals;
pub use error::Error;
pub use heap::keep_memory;
pub use lent::Lent;
pub use logs::{Log, start_log};
pub use owner::own;
pub use spoiling::{Spoiling, stopped};

use crate::admin::control::Context;
use crate::admin::{Door, control};
use crate::cache::{Fetcher, Scrubber};
use crate::config::Config;
use crate::listen::{self, Drained, Given, Interceptor, Speaks, authority};
use crate::model::Timestamp;
use crate::policy::Asker;
use crate::policy::access::Book;
use crate::proxy::{Forwarding, Frozen, Handled, Keeper, Proxy};
use crate::store::{self, Spared, Store};
use crate::upstream;

/// What is told to whoever started the program once clients can connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Ready {
    event: &'static str,
    /// Where clients connect.
    pub listen: SocketAddr,
    /// Where clients connect that speak TLS to this server itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen_tls: Option<SocketAddr>,
    /// Where operators connect; a server of faults has no door for them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admin: Option<SocketAddr>,
    /// The process that serves.
    pub pid: u32,
}

impl Ready {
    /// Of this process, which has but one listener.
    pub fn at(listen: SocketAddr) -> Self {
        Self { event: "ready", listen, listen_tls: None, admin: None, pid: std::process::id() }
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        [self.listen].into_iter().chain(self.admin).chain(self.listen_tls).collect()
    }
}

/// Serves until a signal says stop; `ready` is called once, when clients can connect. Where a lock is given, nothing
/// else is served; and what is `lent` is served from where it lies.
///
/// # Errors
/// When a part cannot start, or fails before the end.
pub async fn run(
    config: Config,
    frozen: Option<Arc<Frozen>>,
    lent: Option<Lent>,
    ready: impl FnOnce(Ready),
) -> Result<(), Error> {
    // Before anything that a signal should stop in good order.
    let mut signals = Signals::install().map_err(Error::Signals)?;
    let calls = Calls::install().map_err(Error::Signals)?;
    raise_file_limit(config.listen.limits.max_connections);
    // First of all, because a second process is told who owns the directory rather than which port is taken.
    let store = open_in_time(config.store.clone()).await?;
    let mut service = match Service::start(config, frozen, lent, store.clone(), calls).await {
        Ok(service) => service,
        Err(error) => {
            store.close().await;
            return Err(error);
        }
    };
    ready(service.ready);
    let failed = tokio::select! {
        () = signals.stop() => None,
        Some(ended) = service.clients.join_next() => ended.err(),
    };
    signals.then_exit_at_once();
    service.stop().await;
    failed.map_or(Ok(()), |error| Err(Error::Task(error)))
}

/// Everything that runs.
struct Service {
    ready: Ready,
    store: Store,
    fetcher: Option<Arc<Fetcher>>,
    door: Arc<Door>,
    clients: JoinSet<Drained>,
    stop_clients: watch::Sender<bool>,
    operators: JoinHandle<Drained>,
    stop_operators: watch::Sender<bool>,
    control: JoinHandle<()>,
    sessions: JoinHandle<()>,
    housekeeping: JoinHandle<()>,
    scrubbing: JoinHandle<()>,
    reloading: JoinHandle<()>,
    watching: Vec<JoinHandle<()>>,
    audit: Option<Audit>,
    /// What a lock pins that is served.
    _spared: Option<Spared>,
}

// The operators' door serves answers that are complete in memory, and a few streams of events; a few collectors of
// metrics come at a time.
const OPERATOR_LIMITS: listen::Limits = listen::Limits {
    header_timeout: Duration::from_secs(10),
    idle_timeout: Duration::from_secs(120),
    write_timeout: Duration::from_secs(30),
    max_connections: 64,
    max_per_client: 64,
};
/// How long a server waits for whoever owns the directory: a command, or an owner that was started for one.
const OWNER_PATIENCE: Duration = Duration::from_secs(2);
const OWNER_POLL: Duration = Duration::from_millis(50);
const OPERATOR_DRAIN: Duration = Duration::from_secs(1);

impl Service {
    async fn start(
        config: Config,
        frozen: Option<Arc<Frozen>>,
        lent: Option<Lent>,
        store: Store,
        calls: Calls,
    ) -> Result<Self, Error> {
        let delivered = match lent {
            Some(lent) => lent.index(&store, &config.upstream.roots).await?,
            None => None,
        };
        let offline = config.offline || frozen.is_some();
        let Config { listen, admin, upstream: mut hubs, .. } = config.clone();
        let doors = Doors::open(&listen, &admin).await?;
        let ready = doors.ready;
        let interceptor = listen.intercept.enabled.then(|| interceptor(&listen.intercept)).transpose()?;
        let keeper = Arc::new(keeper(&config)?);
        let forwarding = Forwarding {
            egress: Arc::new(config.egress.clone().listening_at(ready.addresses())),
            intercept: interceptor.is_some(),
            keeper: Arc::clone(&keeper),
        };
        hubs.egress = Arc::clone(&forwarding.egress);
        refuse_own_parent(&hubs).await?;
        if forwarding.egress.is_open() {
            tracing::warn!(
                "egress.mode is open: whoever may use this server can have it connect to any public host on ports 80 and \
                 443"
            );
        }

        if offline {
            tracing::info!("offline: no hub is asked");
        }
        let core = Core::new(&config, hubs, store.clone(), !offline)?;
        let audit = config.audit.as_ref().map(|path| {
            Audit::start(path, &core.telemetry).map_err(|error| Error::Audit(path.clone(), error))
        });
        let audit = audit.transpose()?;
        if let Some(audit) = &audit {
            audit.watch(&store);
        }
        if let Some(settings) = delivered {
            lent::take_over(settings, &core, &store).await?;
        }
        if let Some(fetcher) = &core.fetcher {
            fetcher.resume_fills();
        }
        let (open_session, sessions) = Sessions::of(&config, core.clone(), &forwarding.egress).start();
        let server = Arc::new(control::Server {
            started_at: Timestamp::now(),
            listen: ready.listen,
            listen_tls: ready.listen_tls,
            intercept: forwarding.intercept,
            admin: doors.door,
            frozen: frozen.clone(),
            telemetry: core.telemetry.clone(),
            keeper: Arc::clone(&keeper),
        });
        let context = core.context(offline, Some(server), Some(open_session));
        let Core { telemetry, bounds, cache, fetcher, mirror, rules } = core;
        let watcher = mirror.as_ref().and_then(|mirror| mirror.watcher.clone());
        let reload = Reload {
            keeper: Arc::clone(&keeper),
            tokens: config.access.tokens.clone().filter(|_| !keeper.is_open()),
            given: doors.tls.as_ref().map(|(_, given)| Arc::clone(given)),
            telemetry: telemetry.clone(),
        };
        let reloading = tokio::spawn(reload.run(calls));
        let remote = mirror.as_ref().map(|mirror| Arc::clone(&mirror.remote));
        let locked = frozen.clone();
        let door = Door::new(store.clone(), telemetry.clone(), admin.hosts, mirror.clone(), keeper);
        let door = Arc::new(door);
        let proxy =
            Proxy::new(rules, forwarding, Arc::clone(&cache), fetcher.clone(), bounds, mirror, frozen);
        let scrubber = Scrubber::new(config.scrub.clone(), cache, fetcher.clone(), telemetry.clone());

        let bound = control::bind(&config.store.dir, &runtime_dirs()).map_err(Error::Control)?;
        let control = tokio::spawn(control::serve(bound, context, None));
        let grants_for = config.cache.entitlement.last_known_for;
        let housekeeping = tokio::spawn(house::keep(store.clone(), remote, grants_for));
        let scrubbing = tokio::spawn(scrubber.run());
        let pinned = |frozen: &Arc<Frozen>| {
            let frozen = Arc::clone(frozen);
            store.spare(move |key| frozen.pins(key))
        };
        let spared = locked.as_ref().map(pinned);
        let watching = watcher.map_or_else(Vec::new, |watcher| {
            vec![
                tokio::spawn(Arc::clone(&watcher).run()),
                tokio::spawn(Arc::clone(&watcher).fetch()),
                tokio::spawn(watcher.renew()),
            ]
        });
        let (stop_clients, stop) = watch::channel(false);
        let mut clients = JoinSet::new();
        let plain = (doors.plain, Speaks::Plain(interceptor));
        let tls = doors.tls.map(|(listener, given)| (listener, Speaks::Tls(given)));
        for (listener, speaks) in [plain].into_iter().chain(tls) {
            let proxy = Arc::clone(&proxy);
            let handler = move |request, peer, arrival| {
                let proxy = Arc::clone(&proxy);
                async move { proxy.handle(request, peer, arrival).await }
            };
            let telemetry = telemetry.clone();
            let service = listen::Service { handler, limits: listen.limits, speaks, telemetry };
            clients.spawn(listen::serve(listener, service, listen.drain, stop.clone()));
        }
        let (stop_operators, stop) = watch::channel(false);
        let operators = tokio::spawn({
            let door = Arc::clone(&door);
            let handler = move |request, peer, _arrival| {
                let door = Arc::clone(&door);
                async move { Handled::from(door.handle(request, peer).await) }
            };
            let speaks = Speaks::Plain(None);
            let service = listen::Service { handler, limits: OPERATOR_LIMITS, speaks, telemetry };
            listen::serve(doors.operators, service, OPERATOR_DRAIN, stop)
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
            sessions,
            housekeeping,
            scrubbing,
            reloading,
            watching,
            audit,
            _spared: spared,
        })
    }

    /// Stops everything.
    async fn stop(mut self) {
        self.door.stopping();
        self.stop_clients.send_replace(true);
        while let Some(ended) = self.clients.join_next().await {
            match ended {
                Ok(Drained { cut: 0 }) => tracing::info!("all responses were finished"),
                Ok(Drained { cut }) => {
                    tracing::warn!(cut, "responses were cut because the time to drain was up")
                }
                Err(error) => tracing::error!(%error, "serving clients failed"),
            }
        }
        // What they have begun is written down, and goes on at the next start.
        for task in self.watching {
            stop(task).await;
        }
        stop(self.sessions).await;
        stop(self.scrubbing).await;
        if let Some(fetcher) = self.fetcher {
            fetcher.stop().await;
        }
        self.housekeeping.abort();
        self.reloading.abort();
        stop(self.control).await;
        self.stop_operators.send_replace(true);
        let _ = self.operators.await;
        self.store.close().await;
        if let Some(audit) = self.audit {
            // Nobody else waits any more.
            let _ = tokio::task::spawn_blocking(|| audit.stop()).await;
        }
        tracing::info!("stopped");
    }
}

/// Everything that is listened on.
struct Doors {
    ready: Ready,
    /// Where operators connect.
    door: SocketAddr,
    plain: TcpListener,
    tls: Option<(TcpListener, Arc<Given>)>,
    operators: TcpListener,
}

impl Doors {
    async fn open(listen: &listen::Settings, admin: &crate::admin::Settings) -> Result<Self, Error> {
        let plain = bind("listen.address", listen.address).await?;
        let operators = bind("admin.address", admin.address).await?;
        let mut ready = Ready::at(local_address("listen.address", &plain, listen.address)?);
        let door = local_address("admin.address", &operators, admin.address)?;
        ready.admin = Some(door);
        let tls = match &listen.tls {
            Some(tls) => {
                let given = Given::open(tls.clone()).map_err(Error::Certificate)?;
                let listener = bind("listen.tls_address", tls.address).await?;
                ready.listen_tls = Some(local_address("listen.tls_address", &listener, tls.address)?);
                Some((listener, Arc::new(given)))
            }
            None => None,
        };
        Ok(Self { ready, door, plain, tls, operators })
    }
}

/// Who knows who may do what.
fn keeper(config: &Config) -> Result<Keeper, Error> {
    let settings = config.access.keeper.clone();
    let book = match &config.access.tokens {
        Some(path) if settings.access.is_open() => {
            tracing::warn!(file = %path.display(), access = settings.access.name(), "tokens and rules are not looked at: listen.access asks nobody");
            Book::default()
        }
        Some(path) => tokens::read(path).map_err(Error::Tokens)?.1,
        None => Book::default(),
    };
    Ok(Keeper::new(settings, book))
}

/// What intercepts tunnels to hubs; an authority of our own is made where there is none.
fn interceptor(settings: &listen::Intercept) -> Result<Arc<Interceptor>, Error> {
    if settings.is_own && !settings.files.exist() {
        authority::create(&settings.files, &[], SystemTime::now()).map_err(Error::Certificate)?;
        tracing::info!(
            certificate = %settings.files.certificate.display(),
            "a certificate authority was made; clients must trust it: `hubcache ca export` prints it"
        );
    }
    Interceptor::new(&settings.files).map(Arc::new).map_err(Error::Certificate)
}

/// A parent proxy that is this server would lead every request back here.
async fn refuse_own_parent(settings: &upstream::Settings) -> Result<(), Error> {
    let Some(parent) = &settings.parent else { return Ok(()) };
    let found = tokio::net::lookup_host(parent.place.to_string()).await;
    // One that has no address now may have one later; then every connection is checked as well.
    for addr in found.into_iter().flatten() {
        let is_local = std::net::UdpSocket::bind((addr.ip(), 0)).is_ok();
        if let Err(denial) = settings.egress.address(Asker::Parent, &parent.place, addr.ip(), is_local) {
            return Err(Error::OwnParent(denial));
        }
    }
    Ok(())
}

/// What a command works with that has opened the store itself, and asks nobody.
///
/// # Errors
/// As at the start of a server.
pub fn alone(config: &Config, store: &Store) -> Result<Context, Error> {
    let core = Core::new(config, config.upstream.clone(), store.clone(), false)?;
    Ok(core.context(config.offline, None, None))
}

/// Ends a task that would run until the end.
async fn stop(task: JoinHandle<()>) {
    task.abort();
    // Being aborted is an error only to those who did not ask for it.
    let _ = task.await;
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

/// Opens the store once whoever has it is gone, if that is soon.
async fn open_in_time(settings: store::Settings) -> Result<Store, Error> {
    let began = tokio::time::Instant::now();
    loop {
        match open(settings.clone()).await {
            Err(Error::Open(store::OpenError::Owned { .. })) if began.elapsed() < OWNER_PATIENCE => {
                tokio::time::sleep(OWNER_POLL).await;
            }
            opened => return opened,
        }
    }
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
