//! What leads to no hub, or leads there unseen: requests handed on to other servers, and tunnels.
//!
//! What a client names passes the egress rules twice: by its name, and then, when the connection is made, by the
//! address that the name has.

use std::sync::Arc;

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::net::TcpStream;

use super::{Keeper, Proxy, Reply, answer, status};
use crate::body::Body;
use crate::model::{Hub, Outcome, Place};
use crate::policy::{Egress, Who};
use crate::request::hub_at;
use crate::upstream::Failure;

/// Below it are the hosts of Hugging Face's Xet store.
pub const XET_HOSTS: &str = "xethub.hf.co";

/// What clients may name, and who may.
#[derive(Clone, Debug, Default)]
pub struct Forwarding {
    /// What clients may name.
    pub egress: Arc<Egress>,
    /// Whether tunnels to hubs are intercepted.
    pub intercept: bool,
    /// Who may do what.
    pub keeper: Arc<Keeper>,
}

/// What the connection of a CONNECT request is for once it was answered.
pub enum Passage {
    /// Bytes pass both ways between the client and this connection.
    Relay(TcpStream),
    /// Requests for this host of a hub are read from it, in TLS; they are of whoever asked for the tunnel.
    Intercept(Arc<str>, Arc<Who>),
}

impl Proxy {
    /// Answers CONNECT.
    pub(super) async fn tunnel(&self, place: &Place, who: &Who) -> (Reply, Option<Passage>) {
        if let (true, Some(name)) = (self.is_intercepted(place), place.host.name()) {
            let passage = Passage::Intercept(name.into(), Arc::new(who.clone()));
            return (opened(Outcome::Intercepted), Some(passage));
        }
        let hub = hub_at(place).filter(|_| place.port == 443);
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

    /// Whether requests in a tunnel to there are answered here.
    pub(super) fn is_intercepted(&self, place: &Place) -> bool {
        let hub = hub_at(place).filter(|_| place.port == 443);
        let is_answered = hub.is_some_and(|hub| hub != Hub::Settings || self.mirror.is_some());
        self.forwarding.intercept && is_answered
    }

    /// Whether models come from there.
    pub(super) fn leads_to_models(&self, place: &Place) -> bool {
        let below = place.host.name().and_then(|name| name.strip_suffix(XET_HOSTS));
        let is_xet = below.is_some_and(|labels| labels.is_empty() || labels.ends_with('.'));
        is_xet || hub_at(place).is_some_and(|hub| Hub::MODELS.contains(&hub))
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
