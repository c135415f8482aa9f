//! Response heads and bodies.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};

use super::{Asked, Reply};
use crate::body::Body;
use crate::model::{Document, Outcome, Representation, Timestamp, via};
use crate::request::Conditions;

/// Fields that a page of another origin may read (transformers.js and the clients that imitate huggingface_hub).
const EXPOSED: &str = "Accept-Ranges, Age, Cache-Status, Content-Length, Content-Range, ETag, Link, Location, \
                       Proxy-Status, X-Total-Count, X-Error-Code, X-Error-Message, X-Repo-Commit";

/// How many fields the head of a file has at most, so that the map of them is made once.
const FIELDS: usize = 16;

/// The fields that every response carries.
pub(super) fn add_own_fields(headers: &mut HeaderMap, outcome: Outcome, detail: Option<&str>) {
    let status = outcome.cache_status(detail);
    headers.insert("cache-status", HeaderValue::try_from(status).expect("names and details are plain ASCII"));
    headers.append(header::VIA, via());
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
}

/// What tells that a response came this way, where the rest of it is another server's.
pub(super) fn add_traces(headers: &mut HeaderMap, outcome: Outcome) {
    let status = outcome.cache_status(None);
    headers.append("cache-status", HeaderValue::try_from(status).expect("names and details are plain ASCII"));
    headers.append(header::VIA, via());
}

/// The head of a response about a file, without its length: 200 until somebody says otherwise.
pub(super) fn file_head(
    file: &Representation,
    checked_at: Option<Timestamp>,
    outcome: Outcome,
    detail: Option<&str>,
) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.reserve(FIELDS);
    let mut add = |name: HeaderName, value: &str| {
        // What a hub said reaches us as text; what cannot be a field value is left out.
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    };
    add(header::ACCEPT_RANGES, "bytes");
    // Firefox needs the field to be there.
    add(header::CONTENT_TYPE, file.content_type.as_deref().unwrap_or("application/octet-stream"));
    // A freshness lifetime would let Firefox's own HTTP cache bring back what was invalidated here.
    add(header::CACHE_CONTROL, "no-cache");
    if let Some(etag) = &file.etag {
        add(header::ETAG, etag);
    }
    if let Some(commit) = &file.commit {
        add(HeaderName::from_static("x-repo-commit"), commit.as_str());
    }
    if let Some(date) = &file.last_modified {
        add(header::LAST_MODIFIED, date);
    }
    if let Some(at) = checked_at {
        add(header::AGE, &at.age(Timestamp::now()).as_secs().to_string());
    }
    add_own_fields(headers, outcome, detail);
    response
}

/// Says how long the body is, or would be for HEAD.
pub(super) fn set_length(headers: &mut HeaderMap, length: u64) {
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
}

/// 206 for `start..end` of `size` bytes.
pub(super) fn set_part(response: &mut Response<Body>, start: u64, end: u64, size: u64) {
    *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    let range = format!("bytes {start}-{}/{size}", end - 1);
    let range = HeaderValue::try_from(range).expect("digits and separators");
    response.headers_mut().insert(header::CONTENT_RANGE, range);
    set_length(response.headers_mut(), end - start);
}

/// 416 for a file of `size` bytes.
pub(super) fn out_of_range(mut response: Response<Body>, size: u64) -> Reply {
    *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
    let range = HeaderValue::try_from(format!("bytes */{size}")).expect("digits and separators");
    response.headers_mut().insert(header::CONTENT_RANGE, range);
    set_length(response.headers_mut(), 0);
    Reply { response, outcome: Outcome::OutOfRange }
}

/// 304 with the fields of the 200.
pub(super) fn not_modified(mut response: Response<Body>, outcome: Outcome) -> Reply {
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    response.headers_mut().remove(header::CONTENT_TYPE);
    Reply { response, outcome }
}

/// Says that an answer is ours because of what a hub did (RFC 9209).
pub(super) fn add_proxy_status(headers: &mut HeaderMap, error: &str, details: &str) {
    // A string of RFC 9651 has printable ASCII only, and escapes two characters of that.
    let printable = details.chars().filter(|c| matches!(c, ' '..='~'));
    let escaped = printable.flat_map(|c| matches!(c, '"' | '\\').then_some('\\').into_iter().chain([c]));
    let value = format!("hubcache; error={error}; details=\"{}\"", escaped.collect::<String>());
    headers.insert("proxy-status", HeaderValue::try_from(value).expect("printable ASCII"));
}

/// Serves an answer that is kept.
pub(super) fn document_reply(asked: &Asked<'_>, document: &Document, outcome: Outcome) -> Reply {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::from_u16(document.status).unwrap_or(StatusCode::OK);
    let headers = response.headers_mut();
    let mut add = |name: HeaderName, value: Option<&str>| {
        // What a hub said reaches us as text; what cannot be a field value is left out.
        if let Some(value) = value.and_then(|v| HeaderValue::try_from(v).ok()) {
            headers.insert(name, value);
        }
    };
    add(header::CONTENT_TYPE, document.content_type.as_deref());
    add(header::CACHE_CONTROL, Some("no-cache"));
    add(header::ETAG, Some(document.etag.as_str()).filter(|tag| !tag.is_empty()));
    add(HeaderName::from_static("x-repo-commit"), document.commit.as_ref().map(|c| c.as_str()));
    add(HeaderName::from_static("x-error-code"), document.error_code.as_deref());
    add(HeaderName::from_static("x-error-message"), document.error_message.as_deref());
    add(HeaderName::from_static("x-total-count"), document.total.as_deref());
    let next = document.next.as_ref().zip(asked.base());
    add(header::LINK, next.map(|(next, base)| format!("<{base}{next}>; rel=\"next\"")).as_deref());
    // What is concluded from a list was said at no time of its own.
    let age = Some(document.learned_at).filter(|at| at.0 > 0).map(|at| at.age(Timestamp::now()));
    add(header::AGE, age.map(|age| age.as_secs().to_string()).as_deref());
    add_own_fields(headers, outcome, None);
    let tag = Some(document.etag.as_str()).filter(|_| document.status == 200);
    if Conditions::of(&asked.parts.headers).not_modified(tag) {
        return not_modified(response, outcome);
    }
    set_length(response.headers_mut(), document.body.len() as u64);
    *response.body_mut() = Body::full(document.body.clone());
    Reply { response, outcome }
}

/// A short text of our own.
pub(super) fn text(status: StatusCode, outcome: Outcome, text: &str) -> Reply {
    let mut response = Response::new(Body::full(Bytes::from(format!("hubcache: {text}\n"))));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    add_own_fields(headers, outcome, None);
    Reply { response, outcome }
}
