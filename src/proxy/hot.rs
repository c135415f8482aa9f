//! Answers that are asked for again and again, ready to be sent.
//!
//! A plain GET of a small file at an immutable revision always has the same answer but for its age, as long as nothing
//! in the store changes. Such an answer is kept whole, under the path as clients write it, together with the number of
//! changes that the store had seen before it was worked out ([`Store::changes`]); it counts only while that is the
//! present number. So a removal, a replacement or any other change makes every one of them be worked out once more.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, header};
use moka::sync::Cache;

use super::{Asked, Reply};
use crate::body::Body;
use crate::model::{Entry, Hub, Outcome, Resource, Timestamp};
use crate::request::Named;
use crate::store::Store;

/// Memory for answers, in bytes.
const MOST: u64 = 16 << 20;
/// What the fields of an answer and the bookkeeping take, roughly, in bytes.
const HEAD: usize = 2048;
/// The store is told that a file is in use no more often than this, in milliseconds.
const USED_EVERY: u64 = 1000;

/// The answers.
pub(super) struct Hot(Cache<String, Arc<Answer>>);

struct Answer {
    /// How many changes the store had seen.
    seen: u64,
    file: Resource,
    entry: Arc<Entry>,
    fields: HeaderMap,
    body: bytes::Bytes,
    used_at: AtomicU64,
}

impl Hot {
    pub(super) fn new() -> Self {
        let weigh = |path: &String, answer: &Arc<Answer>| {
            u32::try_from(path.len() + HEAD + answer.body.len()).unwrap_or(u32::MAX)
        };
        Self(Cache::builder().max_capacity(MOST).weigher(weigh).build())
    }

    /// The answer to a request, if it is ready; with its digest for the audit log if that is wanted. Now and then `used` is
    /// told which file it is of.
    pub(super) fn answer(
        &self,
        head: &Parts,
        named: &Named,
        store: &Store,
        used: impl FnOnce(&Resource, &Entry),
        now: Timestamp,
        notes_digest: bool,
    ) -> Option<(Reply, Hub)> {
        if !is_plain(head) {
            return None;
        }
        let answer = match named {
            Named::Endpoint => self.0.get(head.uri.path()),
            Named::Hub(hub) => self.0.get(&below_hub(*hub, head.uri.path())),
            Named::Settings(_) | Named::Elsewhere(_) | Named::Tunnel(_) => None,
        }?;
        if answer.seen != store.changes() {
            return None;
        }
        if now.0.saturating_sub(answer.used_at.load(Ordering::Relaxed)) >= USED_EVERY {
            answer.used_at.store(now.0, Ordering::Relaxed);
            store.used(&answer.entry.blob, now);
            used(&answer.file, &answer.entry);
        }
        let mut response = Response::new(Body::full(answer.body.clone()));
        *response.headers_mut() = answer.fields.clone();
        let age = answer.entry.checked_at.age(now).as_secs();
        response.headers_mut().insert(header::AGE, HeaderValue::from(age));
        if notes_digest {
            response.extensions_mut().insert(answer.entry.blob);
        }
        Some((Reply { response, outcome: Outcome::Hit }, answer.file.hub))
    }

    /// Keeps what `response`, worked out after the store had seen `seen` changes, said to a request that
    /// [`is_plain`].
    pub(super) fn keep(
        &self,
        asked: &Asked<'_>,
        seen: u64,
        file: &Resource,
        entry: &Arc<Entry>,
        response: &Response<Body>,
    ) {
        let Some(body) = response.body().whole() else { return };
        let answer = Answer {
            seen,
            file: file.clone(),
            entry: Arc::clone(entry),
            fields: response.headers().clone(),
            body,
            used_at: AtomicU64::new(0),
        };
        let path = asked.parts.uri.path();
        let path = if asked.at_hub() { below_hub(file.hub, path) } else { path.to_owned() };
        self.0.insert(path, Arc::new(answer));
    }
}

/// The path of endpoint mode that asks for the same.
fn below_hub(hub: Hub, path: &str) -> String {
    ["/hub/", hub.name(), path].concat()
}

/// Whether nothing in a request but its path decides how it is answered.
pub(super) fn is_plain(head: &Parts) -> bool {
    const DECIDING: [header::HeaderName; 10] = [
        header::AUTHORIZATION,
        header::CACHE_CONTROL,
        header::CONTENT_LENGTH,
        header::IF_MATCH,
        header::IF_MODIFIED_SINCE,
        header::IF_NONE_MATCH,
        header::IF_RANGE,
        header::PRAGMA,
        header::RANGE,
        header::TRANSFER_ENCODING,
    ];
    head.method == Method::GET
        && head.uri.query().is_none()
        && !head.headers.keys().any(|name| DECIDING.contains(name))
}
