//! What becomes of requests of clients that are not known, and of those that may not have what they ask for. All of it is
//! decided before anything held is looked at.

use http::request::Parts;
use http::{HeaderName, HeaderValue, StatusCode, header};

use super::{Proxy, Reply, Unknown, status};
use crate::model::{Hub, Outcome, Repo, Timestamp};
use crate::policy::Barred;
use crate::policy::access::{About, Right, Who};
use crate::request::{Arrival, Named, SeenAs, Target, is_preflight, named, passed_model};

impl Proxy {
    /// Why a known client is not given what it asks for, if it is not; nothing held was looked at for it.
    pub(super) fn refused_to(&self, who: &Who, target: &Target) -> Option<Reply> {
        if self.forwarding.keeper.is_open() && self.rules.models.is_empty() {
            return None;
        }
        let model = model_of(target);
        let about = match (&model, target) {
            (Some((hub, repo, _)), _) => About::Model(*hub, repo),
            (None, Target::Settings(_) | Target::Pac) => About::Common,
            (None, Target::File(_)) => About::Common,
            (None, Target::Tunnel(place)) if self.is_intercepted(place) => About::Common,
            (None, _) => About::Other,
        };
        if let Err(refusal) = self.forwarding.keeper.may(who, Right::Read, about, Timestamp::now()) {
            return Some(status::not_permitted(&refusal));
        }
        self.barred(target, model.as_ref()).map(|barred| status::barred(&barred))
    }

    /// Why nobody is given what is asked for, if nobody is.
    fn barred(&self, target: &Target, model: Option<&(Hub, Repo, Option<String>)>) -> Option<Barred> {
        let rules = &self.rules.models;
        if rules.is_empty() {
            return None;
        }
        match (model, target) {
            (Some((hub, repo, path)), _) => rules.bar(*hub, repo, path.as_deref()),
            (None, Target::Tunnel(place)) => {
                let is_unseen = self.leads_to_models(place) && !self.is_intercepted(place);
                is_unseen.then_some(Barred::Unseen)
            }
            (None, _) => None,
        }
    }
}

/// The model that a request is about, and the file in it, as far as it is about one.
pub(super) fn model_of(target: &Target) -> Option<(Hub, Repo, Option<String>)> {
    match target {
        Target::File(resource) if Hub::MODELS.contains(&resource.hub) => {
            Some((resource.hub, resource.repo.clone(), Some(resource.path.clone())))
        }
        Target::Question(question) => Some((Hub::HuggingFace, question.repo.clone(), None)),
        Target::Pass { hub, path_and_query } => {
            passed_model(*hub, path_and_query).map(|(repo, path)| (*hub, repo, path))
        }
        Target::File(_) | Target::Elsewhere(_) | Target::Tunnel(_) | Target::Settings(_) | Target::Pac => {
            None
        }
    }
}

/// Whether a request is answered whoever makes it: the file for automatic proxy configuration, which browsers fetch
/// before they know any proxy, and preflights, which they send without credentials. The answers are the same for all and
/// tell nothing of what is held.
pub(super) fn is_for_all(head: &Parts, arrival: &Arrival) -> bool {
    let is_pac = head.uri.path() == "/proxy.pac" && (head.method == "GET" || head.method == "HEAD");
    // A hub may have a file of that name.
    let is_own = || matches!(named(head, arrival), Ok(Named::Endpoint));
    let is_preflight = is_preflight(&head.method, &head.headers);
    SeenAs::of(head, arrival) == SeenAs::Endpoint && (is_pac && is_own() || is_preflight)
}

/// Asks an unknown client for a credential.
pub(super) fn unknown(why: Unknown, seen_as: SeenAs, field: &HeaderName) -> Reply {
    let shown_in = match seen_as {
        SeenAs::Proxy => "Proxy-Authorization: Basic, with the token as the password, or Bearer".to_owned(),
        SeenAs::Endpoint if *field == header::AUTHORIZATION => "Authorization: Bearer".to_owned(),
        SeenAs::Endpoint | SeenAs::Tunnel => field.to_string(),
    };
    let text = match why {
        Unknown::Nothing => format!(
            "a token of this server is needed, in {shown_in}; its operator makes one with `hubcache token add`"
        ),
        Unknown::Wrong => format!("what was shown in {shown_in} is no token of this server, or was revoked"),
        Unknown::Expired => {
            "the token has expired; the operator of this server makes another with `hubcache token add`"
                .to_owned()
        }
        Unknown::NoCertificate => {
            "a client certificate is needed; connect to the TLS listener (listen.tls_address) with one"
                .to_owned()
        }
    };
    let (code, challenge) = match (why, seen_as) {
        (Unknown::NoCertificate, _) => {
            return status::with_message(StatusCode::FORBIDDEN, Outcome::Unauthorized, &text);
        }
        (_, SeenAs::Proxy) => (
            StatusCode::PROXY_AUTHENTICATION_REQUIRED,
            Some((header::PROXY_AUTHENTICATE, "Basic realm=\"hubcache\"")),
        ),
        (_, SeenAs::Endpoint | SeenAs::Tunnel) if *field == header::AUTHORIZATION => {
            (StatusCode::UNAUTHORIZED, Some((header::WWW_AUTHENTICATE, "Bearer realm=\"hubcache\"")))
        }
        // RFC 9110, section 11.6.1, wants a challenge; no client knows this scheme, so none asks its user for a password.
        (_, SeenAs::Endpoint | SeenAs::Tunnel) => {
            (StatusCode::UNAUTHORIZED, Some((header::WWW_AUTHENTICATE, "Hubcache-Token realm=\"hubcache\"")))
        }
    };
    let mut reply = status::with_message(code, Outcome::Unauthorized, &text);
    if let Some((name, value)) = challenge {
        reply.response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    reply
}
