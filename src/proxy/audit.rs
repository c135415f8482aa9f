//! What the audit log tells of requests.

use http::Response;

use super::{Ending, Proxy};
use crate::body::Body;
use crate::model::{Hub, Outcome, Sha256, Timestamp};
use crate::policy::Who;
use crate::request::{Target, passed_model};
use crate::telemetry::Telemetry;
use crate::telemetry::audit::{Deed, Doer, Record};

/// What a request asked for.
#[derive(Debug, Default)]
pub(super) struct What {
    hub: Option<Hub>,
    repo: Option<String>,
    revision: Option<String>,
    path: Option<String>,
    place: Option<String>,
}

impl What {
    /// What a target is; of what was not understood there is nothing to tell.
    pub(super) fn of(target: Option<&Target>) -> Self {
        let Some(target) = target else { return Self::default() };
        let what = Self { hub: target.hub(), ..Self::default() };
        match target {
            Target::File(resource) => Self {
                repo: Some(resource.repo.to_string()),
                revision: Some(resource.revision.as_str().to_owned()),
                path: Some(resource.path.clone()),
                ..what
            },
            Target::Question(question) => Self {
                repo: Some(question.repo.to_string()),
                revision: question.revision().map(|revision| revision.as_str().to_owned()),
                ..what
            },
            Target::Pass { hub, path_and_query } => {
                Self { repo: passed_model(*hub, path_and_query).map(|(repo, _)| repo.to_string()), ..what }
            }
            Target::Tunnel(place) | Target::Elsewhere(place) => {
                Self { place: Some(place.to_string()), ..what }
            }
            Target::Settings(_) | Target::Pac => what,
        }
    }
}

/// What is known of a request before its body has ended.
pub(super) struct Audited(Record);

impl Audited {
    /// Nothing where there is no audit log.
    pub(super) fn of(telemetry: &Telemetry, response: &Response<Body>, ending: &Ending) -> Option<Self> {
        if !telemetry.audits() {
            return None;
        }
        let Ending { method, uri, who, from, what, .. } = ending;
        let none = What::default();
        let What { hub, repo, revision, path, place } = what.as_ref().unwrap_or(&none);
        let status = response.status();
        let is_refused = status.is_client_error() || status.is_server_error();
        Some(Self(Record {
            deed: if is_refused { Deed::Refused } else { Deed::Served },
            who: who.as_ref().and_then(doer),
            from: Some(*from),
            method: Some(method.to_string()),
            host: place.clone().or_else(|| uri.authority().map(|named| super::place_of(named).to_owned())),
            hub: *hub,
            repo: repo.clone(),
            revision: revision.clone(),
            // The query is left out: it can carry a signature.
            path: path.clone().or_else(|| Some(uri.path().to_owned())),
            sha256: response.extensions().get::<Sha256>().copied(),
            status: Some(status.as_u16()),
            ..Record::default()
        }))
    }

    /// The record, at the end.
    pub(super) fn record(self, outcome: Outcome, sent_bytes: u64, cause: Option<&str>) -> Record {
        Record {
            at: Timestamp::now(),
            bytes: Some(sent_bytes),
            outcome: Some(outcome.name().to_owned()),
            detail: cause.map(str::to_owned),
            ..self.0
        }
    }
}

impl Proxy {
    /// Notes for the audit log what the whole file is of which a response is about.
    pub(super) fn note_digest(&self, response: &mut Response<Body>, sha256: Option<Sha256>) {
        if let Some(sha256) = sha256.filter(|_| self.telemetry.audits()) {
            response.extensions_mut().insert(sha256);
        }
    }
}

/// Who somebody is, for the audit log; nothing for who is known by the address alone, which stands beside it.
pub fn doer(who: &Who) -> Option<Doer> {
    let (token, certificate) = (who.token.as_ref(), who.certificate.as_ref());
    let doer = Doer {
        token: token.map(|token| token.id.clone()),
        name: token.map(|token| token.name.clone()),
        certificate: certificate.map(|certificate| certificate.subject.clone()),
        operator: false,
    };
    (doer != Doer::default()).then_some(doer)
}
