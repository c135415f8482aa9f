//! Sessions: what a lock file pins, for one run of a program, out of the store that this process owns.
//!
//! **States.** *Asked for* over the control socket; *open*, with a listener of its own on a free port of the loopback;
//! *closing*, while responses that are under way end; *gone*. Whoever asked holds the session: when the connection of
//! the control socket ends, in whatever way, the session closes.
//!
//! **Who owns what.** A session has a proxy, a lock and a listener of its own; the store, what is cached and the way to
//! the hubs are the process's. It is given a way to the hubs only when it records.
//!
//! **What can fail.** Recording without a way to the hubs, more sessions than there is room for, and what can go wrong
//! with any listener; each is told to whoever asked.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::core::Core;
use super::interceptor;
use crate::admin::control::{Opened, Opening, Refused, SessionAsked, chain};
use crate::config::Config;
use crate::listen::{self, Intercept, Interceptor, Speaks};
use crate::policy::Egress;
use crate::proxy::{Forwarding, Freezing, Frozen, Mirror, Proxy};

/// Sessions at a time.
pub(super) const MAX_SESSIONS: usize = 64;
/// How long what is under way may take to end when a session closes.
const DRAIN: Duration = Duration::from_secs(2);
/// Requests for sessions that wait.
const WAITING: usize = 16;

/// What sessions are made of.
pub(super) struct Sessions {
    core: Core,
    /// The data directory.
    dir: PathBuf,
    egress: Arc<Egress>,
    limits: listen::Limits,
    intercept: Intercept,
}

impl Sessions {
    /// Those of a process with these settings.
    pub(super) fn of(config: &Config, core: Core, egress: &Arc<Egress>) -> Self {
        Self {
            core,
            // Commands that are told may be run from elsewhere.
            dir: std::path::absolute(&config.store.dir).unwrap_or_else(|_| config.store.dir.clone()),
            egress: Arc::clone(egress),
            limits: config.listen.limits,
            intercept: config.listen.intercept.clone(),
        }
    }

    /// Opens sessions from now on; they end when the task is aborted.
    pub(super) fn start(self) -> (mpsc::Sender<Opening>, tokio::task::JoinHandle<()>) {
        let (ask, asked) = mpsc::channel(WAITING);
        (ask, tokio::spawn(Arc::new(self).open_all(asked)))
    }

    async fn open_all(self: Arc<Self>, mut asked: mpsc::Receiver<Opening>) {
        let room = Arc::new(Semaphore::new(MAX_SESSIONS));
        let mut sessions = JoinSet::new();
        while let Some(opening) = asked.recv().await {
            while sessions.try_join_next().is_some() {}
            match Arc::clone(&room).try_acquire_owned() {
                Ok(place) => drop(sessions.spawn(Arc::clone(&self).session(opening, place))),
                Err(_) => opening.refuse(Refused::Full),
            }
        }
    }

    async fn session(self: Arc<Self>, opening: Opening, _place: OwnedSemaphorePermit) {
        let door = match self.door(&opening.asked).await {
            Ok(door) => door,
            Err(refused) => return opening.refuse(refused),
        };
        let SessionAsked { lock, file, records, .. } = opening.asked;
        let frozen = Frozen::new(lock, &file, &self.dir, Freezing::Run { records });
        let pinned = Arc::clone(&frozen);
        let _spared = self.core.cache.store().spare(move |key| pinned.pins(key));
        let proxy = self.proxy(Arc::clone(&frozen), records, door.speaks.is_some());
        let handler = move |request, peer, arrival| {
            let proxy = Arc::clone(&proxy);
            async move { proxy.handle(request, peer, arrival).await }
        };
        let (speaks, telemetry) = (Speaks::Plain(door.speaks), self.core.telemetry.clone());
        let service = listen::Service { handler, limits: self.limits, speaks, telemetry };
        let (close, closing) = oneshot::channel::<()>();
        let (tell, closed) = oneshot::channel();
        let Door { address, certificate, .. } = door;
        if opening.answer.send(Ok(Opened { address, certificate, frozen, close, closed })).is_err() {
            return;
        }
        let (stop, stopped) = watch::channel(false);
        let closing = async {
            // Whoever held it has said so, or is gone.
            let _ = closing.await;
            stop.send_replace(true);
        };
        tokio::join!(listen::serve(door.listener, service, DRAIN, stopped), closing);
        let _ = tell.send(());
    }

    async fn door(&self, asked: &SessionAsked) -> Result<Door, Refused> {
        if asked.records && self.core.fetcher.is_none() {
            return Err(Refused::Offline);
        }
        let failed = |error: &dyn std::error::Error| Refused::Failed(chain(error));
        let mut door = Door::open().await.map_err(|error| failed(&error))?;
        if asked.intercepts {
            door.speaks = Some(interceptor(&self.intercept).map_err(|error| failed(&error))?);
            let pem = fs::read_to_string(&self.intercept.files.certificate);
            door.certificate = Some(pem.map_err(|error| failed(&error))?);
        }
        Ok(door)
    }

    fn proxy(&self, frozen: Arc<Frozen>, records: bool, intercept: bool) -> Arc<Proxy> {
        let core = &self.core;
        let mirror = core.mirror.clone().map(|mirror| match records {
            true => mirror,
            false => Mirror { watcher: None, ..mirror },
        });
        let fetcher = core.fetcher.clone().filter(|_| records);
        // Whoever holds the session has the data directory; its listener is on this machine, for one program.
        let keeper = Arc::default();
        let forwarding = Forwarding { egress: Arc::clone(&self.egress), intercept, keeper };
        let (rules, cache, bounds) = (core.rules.clone(), Arc::clone(&core.cache), core.bounds.clone());
        Proxy::new(rules, forwarding, cache, fetcher, bounds, mirror, Some(frozen))
    }
}

/// Where the clients of a session connect.
struct Door {
    listener: TcpListener,
    address: SocketAddr,
    speaks: Option<Arc<Interceptor>>,
    /// The certificate that they have to trust, in PEM.
    certificate: Option<String>,
}

impl Door {
    async fn open() -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address, speaks: None, certificate: None })
    }
}
