//! The operators' door: health and metrics over HTTP, and commands over a socket in the data directory.
//!
//! `GET /-/events` tells what happens to models as server-sent events, and `POST /api/v1/settings/sync` has Remote Settings
//! polled at once. A page of another origin may have neither.
//!
//! The HTTP side listens on an address of its own and answers only when the `Host` of a request is this machine's
//! loopback or was configured: a web page that has its own name resolved to 127.0.0.1 sends that name, and gets
//! nothing.

pub mod control;
mod host;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use tokio::sync::{Semaphore, broadcast};

pub use host::HostName;

use crate::body::Body;
use crate::model::{Happening, Timestamp};
use crate::policy::access::{About, Peer, Right, Who};
use crate::proxy::{Keeper, Mirror, Unknown, doer};
use crate::store::Store;
use crate::telemetry::audit::{Deed, Record};
use crate::telemetry::{METRICS_CONTENT_TYPE, Telemetry};

/// The settings of the operators' door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where it listens; port 0 lets the system choose.
    pub address: SocketAddr,
    /// Host names beside those of the loopback that it answers to.
    pub hosts: Vec<HostName>,
}

/// What the operators' door tells.
pub struct Door {
    store: Store,
    telemetry: Telemetry,
    hosts: Vec<HostName>,
    mirror: Option<Mirror>,
    /// Who may change something.
    keeper: Arc<Keeper>,
    /// One permit for each stream of events.
    listeners: Arc<Semaphore>,
    stopping: AtomicBool,
}

impl Door {
    /// A door that tells about `store`, `telemetry` and Remote Settings, to those who call it by its name or one of
    /// `hosts`.
    pub fn new(
        store: Store,
        telemetry: Telemetry,
        hosts: Vec<HostName>,
        mirror: Option<Mirror>,
        keeper: Arc<Keeper>,
    ) -> Self {
        let listeners = Arc::new(Semaphore::new(MAX_LISTENERS));
        Self { store, telemetry, hosts, mirror, keeper, listeners, stopping: AtomicBool::new(false) }
    }

    /// From now on `/readyz` says that this process takes no new clients.
    pub fn stopping(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Answers one request.
    pub async fn handle<B>(self: Arc<Self>, mut request: Request<B>, peer: Peer) -> Response<Body> {
        let known = self.keeper.receive_operator(request.headers_mut(), &peer, Timestamp::now());
        if !host::is_answered(&request, &self.hosts) {
            return text(StatusCode::MISDIRECTED_REQUEST, WRONG_HOST);
        }
        let path = request.uri().path();
        let allowed = if path == SYNC { "POST" } else { "GET, HEAD" };
        if !allowed.split(", ").any(|method| method == request.method().as_str()) {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, format!("only {allowed}\n"));
            response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
            return response;
        }
        match path {
            "/healthz" => text(StatusCode::OK, "ok\n"),
            "/readyz" => self.ready(),
            "/metrics" => self.metrics(),
            SYNC | EVENTS if !host::is_same_origin(&request, &self.hosts) => {
                text(StatusCode::FORBIDDEN, CROSS_ORIGIN)
            }
            SYNC => self.sync_for(known, peer).await,
            EVENTS => self.events(request.method() == Method::HEAD),
            _ => text(StatusCode::NOT_FOUND, INDEX),
        }
    }

    /// Whether requests can be served; a hub that is down is no reason not to serve what is held.
    fn ready(&self) -> Response<Body> {
        if self.stopping.load(Ordering::Relaxed) {
            return text(StatusCode::SERVICE_UNAVAILABLE, "stopping\n");
        }
        match self.store.ready() {
            Ok(()) => text(StatusCode::OK, "ready\n"),
            Err(reason) => {
                text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {}\n", control::chain(&reason)))
            }
        }
    }

    /// Has Remote Settings polled, and tells how it stands then.
    async fn sync(&self) -> Response<Body> {
        let Some(mirror) = &self.mirror else { return text(StatusCode::NOT_FOUND, NO_SETTINGS) };
        let Some(watcher) = &mirror.watcher else {
            return text(StatusCode::CONFLICT, "this server is offline, and asks nobody\n");
        };
        watcher.sync().await;
        match mirror.remote.status(true, Timestamp::now()) {
            Ok(status) => {
                let body = serde_json::to_vec(&status).expect("names and numbers are JSON");
                let mut response = text(StatusCode::OK, body);
                response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                response
            }
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{}\n", control::chain(&error))),
        }
    }

    /// The same for whoever may have this server fetch by itself.
    async fn sync_for(&self, known: Result<Who, Unknown>, peer: Peer) -> Response<Body> {
        let allowed =
            known.as_ref().map(|who| self.keeper.may(who, Right::Preload, About::Common, Timestamp::now()));
        let (deed, response) = match allowed {
            Err(_) => (Deed::Refused, no_token()),
            Ok(Err(refusal)) => (Deed::Refused, text(StatusCode::FORBIDDEN, format!("{refusal}\n"))),
            Ok(Ok(())) => (Deed::Changed, self.sync().await),
        };
        self.telemetry.audit(|| Record {
            deed,
            who: known.ok().as_ref().and_then(doer),
            from: Some(peer.addr),
            method: Some(Method::POST.to_string()),
            path: Some(SYNC.to_owned()),
            status: Some(response.status().as_u16()),
            ..Record::changed(Timestamp::now(), "sync", "Remote Settings, to be asked at once")
        });
        response
    }

    /// What happens from now on, an event each.
    fn events(&self, is_head: bool) -> Response<Body> {
        let Some(mirror) = &self.mirror else { return text(StatusCode::NOT_FOUND, NO_SETTINGS) };
        let mut response = text(StatusCode::OK, Bytes::new());
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        if !is_head {
            let Ok(permit) = Arc::clone(&self.listeners).try_acquire_owned() else {
                return text(StatusCode::SERVICE_UNAVAILABLE, "too many listen already\n");
            };
            let happenings = mirror.remote.subscribe();
            let lines = stream::once(async { Ok(Bytes::from_static(b": what happens from now on\n\n")) });
            let told = stream::unfold((happenings, permit), |(mut happenings, permit)| async move {
                next_event(&mut happenings).await.map(|event| (Ok(event), (happenings, permit)))
            });
            *response.body_mut() = Body::stream(Box::pin(stream::StreamExt::chain(lines, told)), None);
        }
        response
    }

    fn metrics(&self) -> Response<Body> {
        let usage = self.store.usage();
        self.telemetry.set_cache_bytes(usage.disk_bytes, usage.limit_bytes);
        for (why, files, disk_bytes) in self.store.evicted() {
            self.telemetry.set_evicted(why, files, disk_bytes);
        }
        let mut response = text(StatusCode::OK, self.telemetry.render());
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(METRICS_CONTENT_TYPE));
        response
    }
}

/// Has Remote Settings polled.
const SYNC: &str = "/api/v1/settings/sync";
/// Streams of events at a time; the door has room for others beside them.
const MAX_LISTENERS: usize = 16;
/// Tells what happens.
const EVENTS: &str = "/-/events";
/// How often whoever listens is told that nothing has happened, so that a dead connection is noticed.
const STILL_HERE: Duration = Duration::from_secs(15);

/// The next thing to tell; none at the end of the program.
async fn next_event(happenings: &mut broadcast::Receiver<Happening>) -> Option<Bytes> {
    match tokio::time::timeout(STILL_HERE, happenings.recv()).await {
        Err(_) => Some(Bytes::from_static(b": still here\n\n")),
        Ok(Ok(happening)) => Some(event(&happening)),
        // Whoever reads slowly is told that something is missing.
        Ok(Err(broadcast::error::RecvError::Lagged(count))) => {
            Some(format!("event: missed\ndata: {{\"count\":{count}}}\n\n").into())
        }
        Ok(Err(broadcast::error::RecvError::Closed)) => None,
    }
}

/// A happening as a server-sent event; JSON has no line breaks.
fn event(happening: &Happening) -> Bytes {
    let data = serde_json::to_string(happening).expect("names and numbers are JSON");
    format!("event: {}\ndata: {data}\n\n", happening.event.name()).into()
}

const INDEX: &str = "\
here are /healthz, /readyz, /metrics, /-/events (server-sent events), and by POST /api/v1/settings/sync
";

const NO_SETTINGS: &str = "Remote Settings is off here (settings.server)\n";

const NO_TOKEN: &str = "\
a token of this server is needed, in Authorization: Bearer, with the right to preload or to admin;
`hubcache token add NAME --may admin` makes one
";

const CROSS_ORIGIN: &str = "a page of another origin may not ask for this\n";

const WRONG_HOST: &str = "\
this is the operators' door of hubcache; it answers only to localhost, a loopback address,
or a name that is listed in the setting admin.hosts
";

fn no_token() -> Response<Body> {
    let mut response = text(StatusCode::UNAUTHORIZED, NO_TOKEN);
    let challenge = HeaderValue::from_static("Bearer realm=\"hubcache\"");
    response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    response
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::full(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests;
