//! The one place where failures become statuses. Clients get the phrase, the log gets the chain, and `Proxy-Status`
//! (RFC 9209) says that the answer is ours and why.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};

use super::{Reply, answer, chain};
use crate::body::Body;
use crate::cache::FillError;
use crate::model::{Collection, Outcome};
use crate::policy::access::Refusal as NoRight;
use crate::policy::{Barred, Denial, Denied};
use crate::store::StoreError;
use crate::telemetry::Limit;
use crate::upstream::{Failure, Refusal};

/// Seconds after which a client may ask again when a limit of ours was reached.
const BUSY_RETRY: u64 = 5;

/// A hub that gave no file.
pub(super) fn of_failure(failure: &Failure) -> Reply {
    if let Failure::Crowded = failure {
        return limited(Limit::HubConnections);
    }
    if let Failure::Refused(refusal) = failure
        && refusal.at_hub
    {
        return of_refusal(refusal);
    }
    let (status, outcome) = own_words(failure);
    // That a hub is down was logged when it went.
    if !matches!(failure, Failure::Down { .. }) {
        tracing::warn!(error = %failure, cause = chain(failure), "the hub gave no answer that can be used");
    }
    let text = failure.to_string();
    let mut reply = answer::text(status, outcome, &text);
    answer::add_proxy_status(reply.response.headers_mut(), failure.proxy_error(), &text);
    reply
}

/// What is said where the hub's own words cannot be handed on. Where no answer came it is 504, because with that
/// clients fall back at once to what they have themselves.
fn own_words(failure: &Failure) -> (StatusCode, Outcome) {
    match failure {
        Failure::TimedOut => (StatusCode::GATEWAY_TIMEOUT, Outcome::TimedOut),
        Failure::Down { .. } => (StatusCode::GATEWAY_TIMEOUT, Outcome::Unreachable),
        Failure::Crowded => (StatusCode::SERVICE_UNAVAILABLE, Outcome::Busy),
        Failure::Unreachable(_) if !failure.is_garbled() => {
            (StatusCode::GATEWAY_TIMEOUT, Outcome::Unreachable)
        }
        Failure::Unreachable(_)
        | Failure::Refused(_)
        | Failure::Denied(_)
        | Failure::Misread(_)
        | Failure::BadRedirect(_)
        | Failure::Encoding(_)
        | Failure::Shifted
        | Failure::OutOfRange
        | Failure::TooLong { .. } => (StatusCode::BAD_GATEWAY, Outcome::Unreachable),
    }
}

/// The hub's own refusal, handed on with the fields that clients read.
pub(super) fn of_refusal(refusal: &Refusal) -> Reply {
    let mut response = Response::new(Body::full(refusal.body.clone()));
    *response.status_mut() = refusal.status;
    *response.headers_mut() = refusal.headers.clone();
    if refusal.body.is_empty() {
        // Learned by HEAD, as for a branch: there is no text for the type to describe.
        response.headers_mut().remove(header::CONTENT_TYPE);
    }
    answer::add_own_fields(response.headers_mut(), Outcome::Refused, None);
    Reply { response, outcome: Outcome::Refused }
}

/// A fill that failed.
pub(super) fn of_fill(error: &FillError) -> Reply {
    let (status, outcome) = match error {
        FillError::Upstream(failure) => return of_failure(failure),
        FillError::Store(error) => return of_store(error),
        FillError::Barred(why) => return barred(why),
        FillError::Corrupt(_) => (StatusCode::BAD_GATEWAY, Outcome::Corrupt),
        FillError::Conflict { .. } => (StatusCode::BAD_GATEWAY, Outcome::Conflict),
        FillError::Interrupted(why) => {
            let failure = why.downcast_ref::<Failure>();
            failure.map_or((StatusCode::BAD_GATEWAY, Outcome::Unreachable), own_words)
        }
        FillError::Unsteady | FillError::Replaced => (StatusCode::BAD_GATEWAY, Outcome::Unreachable),
        FillError::NoSpace | FillError::Gone | FillError::TooLarge { .. } => {
            (StatusCode::INSUFFICIENT_STORAGE, Outcome::NoSpace)
        }
        FillError::Busy(limit) => return limited(*limit),
        FillError::Stopped | FillError::Orphaned | FillError::Abandoned => {
            (StatusCode::SERVICE_UNAVAILABLE, Outcome::Busy)
        }
    };
    let text = match error {
        FillError::Corrupt(flaw) => format!("{error}: {flaw}"),
        _ => error.to_string(),
    };
    let mut reply = answer::text(status, outcome, &text);
    if status == StatusCode::SERVICE_UNAVAILABLE {
        retry_after(&mut reply, BUSY_RETRY);
    }
    if let Some(name) = proxy_error(error) {
        answer::add_proxy_status(reply.response.headers_mut(), name, &text);
    }
    reply
}

/// The name in `Proxy-Status` of what a hub did wrong; nothing for what is our own.
fn proxy_error(error: &FillError) -> Option<&'static str> {
    match error {
        FillError::Upstream(failure) => Some(failure.proxy_error()),
        FillError::Interrupted(why) => {
            let failure = why.downcast_ref::<Failure>();
            Some(failure.map_or("http_response_incomplete", Failure::proxy_error))
        }
        FillError::Corrupt(_) | FillError::Conflict { .. } | FillError::Unsteady | FillError::Replaced => {
            Some("http_protocol_error")
        }
        FillError::TooLarge { .. } => Some("http_response_body_size"),
        FillError::Barred(_)
        | FillError::NoSpace
        | FillError::Gone
        | FillError::Store(_)
        | FillError::Busy(_)
        | FillError::Stopped
        | FillError::Orphaned
        | FillError::Abandoned => None,
    }
}

/// A limit of this server, or of the client's, on requests.
pub(super) fn limited(limit: Limit) -> Reply {
    let (status, outcome) = match limit {
        Limit::RequestsPerClient | Limit::ConnectionsPerClient => {
            (StatusCode::TOO_MANY_REQUESTS, Outcome::TooMany)
        }
        _ => (StatusCode::SERVICE_UNAVAILABLE, Outcome::Busy),
    };
    let text = format!("{} ({})", limit.phrase(), limit.setting());
    let mut reply = with_message(status, outcome, &text);
    retry_after(&mut reply, BUSY_RETRY);
    reply
}

/// A store that failed.
pub(super) fn of_store(error: &StoreError) -> Reply {
    tracing::error!(%error, cause = chain(error), "the store failed");
    let (status, outcome) = match error {
        StoreError::NoSpace => (StatusCode::INSUFFICIENT_STORAGE, Outcome::NoSpace),
        StoreError::Closed => (StatusCode::SERVICE_UNAVAILABLE, Outcome::Busy),
        StoreError::Io(_) | StoreError::Damaged(_) | StoreError::Gone | StoreError::Misuse(_) => {
            (StatusCode::INTERNAL_SERVER_ERROR, Outcome::StoreFailed)
        }
    };
    answer::text(status, outcome, "the store failed; its log says why")
}

/// Something that is not held, while there is no way to any hub. 403, because clients try that no second time, and
/// huggingface_hub shows the text; never a 404, which some take for the hub's word that it does not exist.
pub(super) fn not_here(what: &str, command: &str) -> Reply {
    let text = format!(
        "{what} is not held, and this server is offline. To bring it, run this server where it has a network, without \
         --offline, and then: {command}"
    );
    with_warning(Outcome::Offline, &text)
}

/// Something that a lock file does not pin, or that is not as it pins it. 403 for the same reasons as [`not_here`].
pub(super) fn not_pinned(text: &str) -> Reply {
    with_warning(Outcome::Unpinned, text)
}

/// 403 with a text that Hugging Face clients show wherever they can.
fn with_warning(outcome: Outcome, text: &str) -> Reply {
    let mut reply = with_message(StatusCode::FORBIDDEN, outcome, text);
    // huggingface_hub prints this one also where its exception does not carry the other.
    if let Some(text) = reply.response.headers().get("x-error-message").and_then(|v| v.to_str().ok())
        && let Ok(warning) = HeaderValue::try_from(format!("hubcache; {text}"))
    {
        reply.response.headers_mut().insert("x-hf-warning", warning);
    }
    reply
}

/// Something that only a hub can do, while there is no way to any.
pub(super) fn nothing_passes() -> Reply {
    let text = "this server is offline, and what was asked for can only be had from the hub";
    with_message(StatusCode::FORBIDDEN, Outcome::Offline, text)
}

/// Something that a client named and that the egress rules do not allow.
pub(super) fn forbidden(denial: &Denial) -> Reply {
    tracing::info!(%denial, "a request was refused");
    let text = format!("egress rule: {denial}");
    let mut reply = with_message(StatusCode::FORBIDDEN, Outcome::Forbidden, &text);
    let error = match denial {
        Denial::Name(_) | Denial::Port(_) | Denial::RedirectPort(_) => "http_request_denied",
        Denial::Address { .. } | Denial::Never { .. } | Denial::Own(_) => "destination_ip_prohibited",
    };
    answer::add_proxy_status(reply.response.headers_mut(), error, &text);
    reply
}

/// Something that the deny list of Remote Settings forbids.
pub(super) fn denied(path: &str, denied: &Denied) -> Reply {
    tracing::info!(path, record = denied.id, "a request was refused by the deny list");
    let why = if denied.description.is_empty() { "" } else { ": " };
    let text = format!(
        "record {} of ml-model-allow-deny-list, which Mozilla signs, forbids this{why}{}; the settings settings.deny_for \
         and settings.collections decide whether and to whom that list applies",
        denied.id, denied.description
    );
    with_message(StatusCode::FORBIDDEN, Outcome::Denied, &text)
}

/// Something that this client may not have.
pub(super) fn not_permitted(refusal: &NoRight) -> Reply {
    with_warning(Outcome::NotPermitted, &refusal.to_string())
}

/// Something that the operator has nobody given.
pub(super) fn barred(barred: &Barred) -> Reply {
    with_warning(Outcome::Denied, &barred.to_string())
}

/// Remote Settings, where it is not mirrored.
pub(super) fn no_mirror() -> Reply {
    let text = "this server does not mirror Remote Settings; the setting settings.server decides that";
    answer::text(StatusCode::NOT_FOUND, Outcome::Unsupported, text)
}

/// A collection of which no signed state could be had yet.
pub(super) fn unsynced(collection: &Collection) -> Reply {
    let text =
        format!("no signed state of {collection} could be had yet; `hubcache settings status` says why");
    let mut reply = answer::text(StatusCode::SERVICE_UNAVAILABLE, Outcome::Unreachable, &text);
    retry_after(&mut reply, BUSY_RETRY);
    reply
}

/// A request that has been here before.
pub(super) fn looped() -> Reply {
    let text = "the request has passed this server already; some proxy leads back to it";
    let mut reply = answer::text(StatusCode::LOOP_DETECTED, Outcome::Looped, text);
    answer::add_proxy_status(reply.response.headers_mut(), "proxy_loop_detected", text);
    reply
}

/// Something that could change a hub, where such requests are not handed on.
pub(super) fn no_uploads() -> Reply {
    let text = "this cache takes no uploads and hands on nothing else that could change the hub; its setting \
                cache.uploads decides that, and the hub itself can be asked directly";
    with_message(StatusCode::FORBIDDEN, Outcome::NoUploads, text)
}

/// A list of paths that is too long.
pub(super) fn list_too_long(limit: usize) -> Reply {
    let text = format!("the list of paths is longer than {limit} bytes; ask for fewer at a time");
    answer::text(StatusCode::PAYLOAD_TOO_LARGE, Outcome::Rejected, &text)
}

/// A request whose body did not come.
pub(super) fn body_cut() -> Reply {
    answer::text(StatusCode::BAD_REQUEST, Outcome::Rejected, "the body of the request broke off")
}

/// A text of our own that Hugging Face clients show too.
pub(super) fn with_message(status: StatusCode, outcome: Outcome, text: &str) -> Reply {
    let mut reply = answer::text(status, outcome, text);
    let ascii = |c: char| if c.is_ascii_graphic() || c == ' ' { c } else { '?' };
    let line: String = text.chars().map(ascii).collect();
    if let Ok(value) = HeaderValue::try_from(line) {
        reply.response.headers_mut().insert("x-error-message", value);
    }
    reply
}

/// A range that could join wrong bytes to right ones.
pub(super) fn guarded(seconds: u64) -> Reply {
    let text = "wrong bytes of this file were sent a moment ago; parts of it are not served until no client can \
                join them to those; ask for the whole file";
    let mut reply = answer::text(StatusCode::SERVICE_UNAVAILABLE, Outcome::Guarded, text);
    retry_after(&mut reply, seconds);
    reply
}

fn retry_after(reply: &mut Reply, seconds: u64) {
    reply.response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
}

/// The same head for HEAD: no body, but its length.
pub(super) fn without_body(mut reply: Reply) -> Reply {
    let length = http_body::Body::size_hint(reply.response.body()).exact();
    if let Some(length) = length.filter(|l| *l > 0) {
        answer::set_length(reply.response.headers_mut(), length);
        *reply.response.body_mut() = Body::full(Bytes::new());
    }
    reply
}
