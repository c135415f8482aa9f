//! What leads to no hub, or leads there unseen: requests handed on to other servers, and tunnels.
//!
//! What a client names passes the egress rules twice: by its name, and then, when the connection is made, by the
//! address that the name has.

use std::sync::Arc;

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::net::TcpStream;

use super::{Proxy, Reply, answer, status};
use crate::body::Body;
use crate::model::{Hub, Outcome, Place};
use crate::policy::Egress;
use crate::request::hub_at;
use crate::upstream::Failure;

/// Below it are the hosts of Hugging Face's Xet store.
pub const XET_HOSTS: &str = "xethub.hf.co";

/// How a forward proxy behaves.
#[derive(Clone, Debug, Default)]
pub struct Forwarding {
    /// What clients may name.
    pub egress: Arc<Egress>,
    /// Whether tunnels to hubs are intercepted.
    pub intercept: bool,
}

/// What the connection of a CONNECT request is for once it was answered.
pub enum Passage {
    /// Bytes pass both ways between the client and this connection.
    Relay(TcpStream),
    /// Requests for this host of a hub are read from it, in TLS.
    Intercept(Arc<str>),
}

impl Proxy {
    /// Answers CONNECT.
    pub(super) async fn tunnel(&self, place: &Place) -> (Reply, Option<Passage>) {
        let hub = hub_at(place).filter(|_| place.port == 443);
        let answered = hub.filter(|hub| *hub != Hub::Settings || self.mirror.is_some());
        if let (Some(_), Some(name), true) = (answered, place.host.name(), self.forwarding.intercept) {
            return (opened(Outcome::Intercepted), Some(Passage::Intercept(name.into())));
        }
        if let Err(denial) = self.forwarding.egress.name(place) {
            return (status::forbidden(&denial), None);
        }
        let Some(fetcher) = &self.fetcher else { return (status::nothing_passes(), None) };
        if let Some(hub) = hub.filter(|hub| Hub::MODELS.contains(hub)) {
            self.uncached_said.call_once(|| say_uncached(hub));
        }
        let below = place.host.name().and_then(|name| name.strip_suffix(XET_HOSTS));
        if below.is_some_and(|labels| labels.ends_with('.')) {
            self.telemetry.xet_tunnelled();
            tracing::warn!(%place, "a client reads from the Xet store: what it fetches there goes past this cache");
        }
        match fetcher.upstream().tunnel(place).await {
            Ok(stream) => (opened(Outcome::Relayed), Some(Passage::Relay(stream))),
            Err(failure) => (of_failure(&failure), None),
        }
    }

    /// Hands a request on to a server that is no hub.
    pub(super) async fn forward(&self, place: &Place, request: Request<Incoming>) -> Reply {
        if let Err(denial) = self.forwarding.egress.name(place) {
            return status::forbidden(&denial);
        }
        let Some(fetcher) = &self.fetcher else { return status::nothing_passes() };
        match fetcher.upstream().forward(request).await {
            Ok(answer) => {
                let mut response = answer.map(Body::passed);
                answer::add_traces(response.headers_mut(), Outcome::Passed);
                Reply { response, outcome: Outcome::Passed }
            }
            Err(failure) => of_failure(&failure),
        }
    }
}

/// The answer after which the connection is a tunnel; it must not have a length (RFC 9110, section 9.3.6).
fn opened(outcome: Outcome) -> Reply {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::OK;
    answer::add_traces(response.headers_mut(), outcome);
    Reply { response, outcome }
}

fn of_failure(failure: &Failure) -> Reply {
    match failure {
        Failure::Denied(denial) => status::forbidden(denial),
        _ => status::of_failure(failure),
    }
}

fn say_uncached(hub: Hub) {
    tracing::warn!(
        %hub,
        "a client opened a tunnel to a hub: what it fetches there passes uncached; with --intercept (intercept.enabled) \
         tunnels to hubs are answered from the cache, and clients must trust the certificate that `hubcache ca export` \
         prints"
    );
}
