//! The request path.
//!
//! [`Proxy::handle`] is all of it: whom does it name, what does it ask there, look up, plan, then serve, ask, fill, pass
//! through or refuse. Each request ends with exactly one [`Outcome`], which is its log line, its metric and its `Cache-Status`; a body that
//! ends badly after a good head is `broken` or `client-gone`.

mod answer;
mod api;
mod audit;
mod bounds;
pub mod explain;
mod file;
mod forward;
mod frozen;
mod hot;
mod keeper;
mod offline;
mod pac;
mod permit;
mod private;
mod settings;
mod status;
mod upload;

use std::net::SocketAddr;
use std::sync::{Arc, Once};
use std::time::Instant;

use bytes::Bytes;
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use hyper::body::Incoming;

use crate::body::{Body, BodyEnd};
use crate::cache::{Cache, Fetcher, View};
use crate::hub::api::question_path;
use crate::hub::file_path;
use crate::model::{Entry, Hub, Outcome, Resource, Timestamp, was_here};
use crate::policy::{Check, Denied, Peer, Rules, Spot, Who};
use crate::request::{
    Arrival, Named, Reject, SeenAs, Target, classify, client_is_firefox, is_preflight, is_xet_read_token,
    named,
};
use crate::telemetry::Telemetry;
use crate::upstream::Fitting;
pub use audit::doer;
pub use bounds::{BoundSettings, Bounds};
pub use forward::{Forwarding, Passage, XET_HOSTS};
pub use frozen::{Freezing, Frozen, Lack};
use hot::Hot;
pub use keeper::{AccessStatus, Keeper, KeeperSettings, OWN_FIELD, Unknown};
pub use settings::Mirror;

/// Serves clients.
pub struct Proxy {
    rules: Rules,
    cache: Arc<Cache>,
    /// The way to the hubs; offline there is none.
    fetcher: Option<Arc<Fetcher>>,
    telemetry: Telemetry,
    bounds: Bounds,
    forwarding: Forwarding,
    /// Remote Settings, if it is mirrored.
    mirror: Option<Mirror>,
    /// The lock that alone is served, if one is.
    frozen: Option<Arc<Frozen>>,
    /// Says that tunnels to hubs pass uncached.
    uncached_said: Once,
    hot: Hot,
}

/// What becomes of a request: a response, and of CONNECT what the connection is for afterwards.
pub struct Handled<B = Body> {
    /// The response.
    pub response: Response<B>,
    /// What follows on the same connection.
    pub passage: Option<Passage>,
}

impl<B> From<Response<B>> for Handled<B> {
    fn from(response: Response<B>) -> Self {
        Self { response, passage: None }
    }
}

/// A response and how it is called.
struct Reply {
    response: Response<Body>,
    outcome: Outcome,
}

/// What was decided about a request.
struct Decided {
    reply: Reply,
    hub: Option<Hub>,
    passage: Option<Passage>,
    /// What it asked for, where there is an audit log.
    what: Option<audit::What>,
}

impl From<Reply> for Decided {
    fn from(reply: Reply) -> Self {
        Self { reply, hub: None, passage: None, what: None }
    }
}

/// What the end of a request tells of its beginning.
struct Ending {
    method: Method,
    uri: Uri,
    began: Instant,
    /// Who made it, if that is known.
    who: Option<Who>,
    from: SocketAddr,
    /// What it asked for, where there is an audit log.
    what: Option<audit::What>,
    /// Its place among those that are answered at a time; it is held until the body ends.
    spot: Option<Spot>,
}

/// How a request came and whom it named, kept with its head.
#[derive(Clone, Default)]
struct Visit {
    arrival: Arrival,
    at_hub: bool,
    /// How many changes the store had seen before anything was looked at.
    seen: u64,
}

impl Proxy {
    /// A proxy by these rules over this cache; without a fetcher it is offline, and with a lock nothing else is served.
    pub fn new(
        rules: Rules,
        forwarding: Forwarding,
        cache: Arc<Cache>,
        fetcher: Option<Arc<Fetcher>>,
        bounds: Bounds,
        mirror: Option<Mirror>,
        frozen: Option<Arc<Frozen>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            rules,
            cache,
            fetcher,
            telemetry: bounds.telemetry().clone(),
            bounds,
            forwarding,
            mirror,
            frozen,
            uncached_said: Once::new(),
            hot: Hot::new(),
        })
    }

    /// Answers one request.
    pub async fn handle(
        self: &Arc<Self>,
        request: Request<Incoming>,
        peer: Peer,
        arrival: Arrival,
    ) -> Handled {
        let began = Instant::now();
        let (mut head, body) = request.into_parts();
        let (method, uri) = (head.method.clone(), head.uri.clone());
        let ending =
            |who: Option<Who>, spot| Ending { method, uri, began, who, from: peer.addr, what: None, spot };
        let spot = match self.bounds.enter(peer.client()) {
            Ok(spot) => spot,
            Err(limit) => return self.finish(status::limited(limit), None, ending(None, None)).into(),
        };
        let who = match self.receive(&mut head, &peer, &arrival) {
            Ok(who) => who,
            Err(why) => {
                let reply = permit::unknown(why, SeenAs::of(&head, &arrival), self.forwarding.keeper.field());
                let reply = upload::turned_away(reply, &head, body).await;
                return self.finish(reply, None, ending(None, Some(spot))).into();
            }
        };
        let named = named(&head, &arrival);
        let ready = match &named {
            Ok(named) if self.is_plain() => self.ready(&head, named),
            _ => None,
        };
        let decided = match ready {
            Some((reply, hub)) => Decided { hub: Some(hub), ..Decided::from(reply) },
            // On the heap: it is large, and the future of a request is copied before it runs.
            None => Box::pin(self.decide(head, body, named, arrival, &who)).await,
        };
        let Decided { reply, hub, passage, what } = decided;
        let ending = Ending { what, ..ending(Some(who), Some(spot)) };
        Handled { response: self.finish(reply, hub, ending), passage }
    }

    /// Who makes a request; this server's credential is no part of it any more.
    fn receive(&self, head: &mut Parts, peer: &Peer, arrival: &Arrival) -> Result<Who, Unknown> {
        let is_for_all = permit::is_for_all(head, arrival);
        let known = self.forwarding.keeper.receive(head, arrival, peer, Timestamp::now());
        known.or_else(|why| if is_for_all { Ok(Who::of(peer)) } else { Err(why) })
    }

    /// Whether everybody may have everything, and nobody wants to know who had it: then a request need not be understood
    /// where its answer is ready.
    fn is_plain(&self) -> bool {
        self.forwarding.keeper.is_open() && !self.telemetry.audits()
    }

    /// The answer that is ready for a request, if one is.
    fn ready(&self, head: &Parts, named: &Named) -> Option<(Reply, Hub)> {
        let used = |file: &Resource, entry: &Entry| {
            if let Some(fetcher) = &self.fetcher {
                fetcher.recheck(file, entry);
            }
        };
        self.hot.answer(head, named, self.cache.store(), used, Timestamp::now(), self.telemetry.audits())
    }

    /// Finds out what a request asks, and answers it.
    async fn decide(
        &self,
        mut head: Parts,
        body: Incoming,
        named: Result<Named, Reject>,
        arrival: Arrival,
        who: &Who,
    ) -> Decided {
        let at_hub = named.as_ref().is_ok_and(|named| named.hub().is_some());
        let seen = self.cache.store().changes();
        let target =
            named.as_ref().map_err(Clone::clone).and_then(|named| classify(&head.method, &head.uri, named));
        let hub = target.as_ref().ok().and_then(Target::hub);
        let what = self.telemetry.audits().then(|| audit::What::of(target.as_ref().ok()));
        let answered = |reply| Decided { reply, hub, passage: None, what };
        let is_for_all = permit::is_for_all(&head, &arrival);
        head.extensions.insert(Visit { arrival, at_hub, seen });
        let refused =
            target.as_ref().ok().filter(|_| !is_for_all).and_then(|target| self.refused_to(who, target));
        if let Some(reply) = refused {
            return answered(upload::turned_away(reply, &head, body).await);
        }
        if !self.is_plain()
            && let Some((reply, _)) = named.ok().and_then(|named| self.ready(&head, &named))
        {
            return answered(reply);
        }
        let denied = target.as_ref().ok().and_then(|target| self.forbidden(target, &head));
        let reply = match target {
            _ if was_here(&head.headers) => status::looped(),
            Ok(Target::Tunnel(place)) => {
                let (reply, passage) = self.tunnel(&place, who).await;
                return Decided { passage, ..answered(reply) };
            }
            Ok(Target::Elsewhere(place)) => self.forward(&place, Request::from_parts(head, body)).await,
            _ if is_preflight(&head.method, &head.headers) => preflight(self.forwarding.keeper.field()),
            Err(reject) => rejected(&reject),
            Ok(_) if let Some(denied) = &denied => status::denied(head.uri.path(), denied),
            Ok(Target::File(resource)) => self.file(&resource, &head).await,
            Ok(Target::Question(question)) => self.question(question, head, body).await,
            Ok(Target::Pac) => pac::reply(&head),
            Ok(Target::Settings(target)) => self.settings(&target, head, body).await,
            Ok(Target::Pass { path_and_query, .. })
                if upload::is_refused(&self.rules, &head.method, &path_and_query) =>
            {
                upload::refused(&head, body).await
            }
            Ok(Target::Pass { hub, path_and_query }) => {
                self.pass(hub, &path_and_query, Request::from_parts(head, body), Outcome::Passed).await
            }
        };
        answered(reply)
    }

    /// The record of the deny list that forbids this client what it asks for.
    fn forbidden(&self, target: &Target, head: &Parts) -> Option<Denied> {
        let remote = &self.mirror.as_ref()?.remote;
        let hub = target.hub().filter(|hub| Hub::MODELS.contains(hub))?;
        if !remote.settings().deny_for.applies(hub, client_is_firefox(&head.headers)) {
            return None;
        }
        let path = || match target {
            Target::File(resource) => file_path(resource),
            Target::Question(question) => question_path(question),
            Target::Pass { path_and_query, .. } => path_and_query.clone(),
            Target::Elsewhere(_) | Target::Tunnel(_) | Target::Settings(_) | Target::Pac => String::new(),
        };
        remote.denied_path(hub, self.cache.roots().root(hub), path)
    }

    /// Hands a request on to a hub.
    async fn pass<B>(&self, hub: Hub, path_and_query: &str, request: Request<B>, outcome: Outcome) -> Reply
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let Some(fetcher) = &self.fetcher else { return status::nothing_passes() };
        if hub == Hub::HuggingFace && is_xet_read_token(path_and_query) {
            self.telemetry.xet_token_requested();
            let path = request.uri().path();
            tracing::warn!(
                path,
                "a client asks for access to the Xet store: what it fetches there goes past this cache"
            );
        }
        let (head, body) = request.into_parts();
        // Without a name of its own, this server's links begin with their path.
        let base = Asked::new(&head).base().unwrap_or_default();
        let fitting = Fitting { base, xet_above: fetcher.xet_above() };
        let request = Request::from_parts(head, body);
        match fetcher.upstream().pass(hub, path_and_query, &fitting, request).await {
            Ok(answer) => {
                let mut response = answer.map(Body::passed);
                answer::add_own_fields(response.headers_mut(), outcome, None);
                Reply { response, outcome }
            }
            Err(failure) => status::of_failure(&failure),
        }
    }

    /// Arranges that the request is counted and logged once, when its body ends.
    fn finish(self: &Arc<Self>, reply: Reply, hub: Option<Hub>, ending: Ending) -> Response<Body> {
        let Reply { response, outcome } = reply;
        let audited = audit::Audited::of(&self.telemetry, &response, &ending);
        let Ending { method, uri, began, who, spot, .. } = ending;
        let token = who.and_then(|who| who.token);
        let status = response.status().as_u16();
        let handed_on = response.body().is_passed();
        let proxy = Arc::clone(self);
        let sluice = spot.as_ref().and_then(|spot| self.bounds.sluice(spot.client()));
        let log = move |end: BodyEnd, sent_bytes: u64| {
            let (last, cause) = match &end {
                BodyEnd::Complete => (outcome, None),
                BodyEnd::Broken(e) => (Outcome::Broken, Some(chain(e))),
                BodyEnd::Dropped => (Outcome::ClientGone, None),
            };
            let took = began.elapsed();
            // The request is over with its body, and has its place until then.
            drop(spot);
            proxy.telemetry.request_ended(hub, last, took);
            if let Some(hub) = hub {
                proxy.telemetry.served(hub, sent_bytes);
                if handed_on {
                    proxy.telemetry.upstream_received(hub, sent_bytes);
                }
            }
            if let Some(audited) = audited {
                proxy.telemetry.audit(|| audited.record(last, sent_bytes, cause.as_deref()));
            }
            let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
            // The query is left out: it can carry a signature.
            tracing::info!(
                %method,
                host = uri.authority().map(place_of),
                path = uri.path(),
                status,
                outcome = last.name(),
                began_as = outcome.name(),
                sent_bytes,
                took_ms,
                token = token.as_ref().map(|token| token.id.as_str()),
                cause,
                "request"
            );
        };
        response.map(|body| body.through(sluice).on_end(log))
    }
}

/// Host and port of what a client named; a user name and a password before them are for nobody to read.
fn place_of(authority: &Authority) -> &str {
    authority.as_str().rsplit('@').next().unwrap_or_default()
}

/// What went wrong and what lay behind it, for the log.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = String::new();
    let mut next = error.source();
    while let Some(cause) = next {
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

fn rejected(reject: &Reject) -> Reply {
    let (status, outcome) = match reject {
        Reject::UnknownHub(_) => (StatusCode::NOT_FOUND, Outcome::Unsupported),
        Reject::NoPath | Reject::NoTunnel => (StatusCode::NOT_IMPLEMENTED, Outcome::Unsupported),
        Reject::Misdirected => (StatusCode::MISDIRECTED_REQUEST, Outcome::Rejected),
        _ => (StatusCode::BAD_REQUEST, Outcome::Rejected),
    };
    answer::text(status, outcome, &reject.to_string())
}

/// A browser asks whether a page of another origin may read files; it may.
fn preflight(own_field: &HeaderName) -> Reply {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    let allow =
        [(header::ACCESS_CONTROL_ALLOW_METHODS, "GET, HEAD"), (header::ACCESS_CONTROL_MAX_AGE, "86400")];
    for (name, value) in allow {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let fields = format!("Authorization, Cache-Control, If-None-Match, If-Range, Range, {own_field}");
    let fields = HeaderValue::try_from(fields).expect("names of fields are visible ASCII");
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, fields);
    answer::add_own_fields(headers, Outcome::Preflight, None);
    Reply { response, outcome: Outcome::Preflight }
}

/// What the request path reads of a request's head.
struct Asked<'a> {
    parts: &'a Parts,
    head_only: bool,
    /// How many changes the store had seen when the request came, if its answer may be kept ready.
    seen: Option<u64>,
}

impl<'a> Asked<'a> {
    fn new(parts: &'a Parts) -> Self {
        Self { parts, head_only: parts.method == Method::HEAD, seen: None }
    }

    /// Whether the hub was named by its own host.
    fn at_hub(&self) -> bool {
        self.parts.extensions.get::<Visit>().is_some_and(|visit| visit.at_hub)
    }

    /// The URL under which the client sees the hub, for links that must lead back here.
    fn base(&self) -> Option<String> {
        let parts = self.parts;
        let visit = parts.extensions.get::<Visit>();
        let prefix = match visit {
            Some(Visit { at_hub: true, .. }) => "",
            _ if parts.uri.path().starts_with("/hub/") => "/hub/huggingface",
            _ => "",
        };
        if let (Some(scheme), Some(authority)) = (parts.uri.scheme(), parts.uri.authority()) {
            return Some(format!("{scheme}://{authority}{prefix}"));
        }
        let scheme = match visit.map(|visit| &visit.arrival) {
            Some(Arrival::Tunnel(host)) => return Some(format!("https://{host}{prefix}")),
            Some(Arrival::Tls) => "https",
            Some(Arrival::Plain) | None => "http",
        };
        let host = parts.headers.get(header::HOST).and_then(|h| h.to_str().ok());
        let host = host.and_then(|h| h.parse::<Authority>().ok())?;
        Some(format!("{scheme}://{host}{prefix}"))
    }
}

/// How a branch is read after a question went so.
fn view(check: Check) -> View {
    match check {
        Check::NotMade | Check::Made => View::Latest,
        Check::Late | Check::Down => View::Alone,
    }
}
