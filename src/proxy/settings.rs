//! Remote Settings for clients: what is held is told as its server would tell it, and the rest is handed on.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use serde_json::{Value, json};
use url::Url;

use super::{Asked, Proxy, Reply, Visit, answer, status};
use crate::body::Body;
use crate::model::{Collection, Host, Outcome, Place, SettingsPart, hex};
use crate::remote_settings::{self as rs, Answer, Bases, RemoteSettings, Watcher};
use crate::request::{Arrival, Conditions, Filter, SettingsAsk, SettingsTarget, Window};
use crate::upstream::{Collected, Failure};
use crate::verify::signature::signatures;

/// How long a client waits for a poll that may bring what it has heard of. Firefox gives up after 30 s.
const PATIENCE: Duration = Duration::from_secs(8);
/// Most bytes of an answer that is handed on after it was looked at.
const MAX_ANSWER: usize = 24 << 20;

/// Remote Settings as the request path and operators have it.
#[derive(Clone)]
pub struct Mirror {
    /// What is held.
    pub remote: Arc<RemoteSettings>,
    /// The way to the server; offline there is none.
    pub watcher: Option<Arc<Watcher>>,
}

impl Proxy {
    /// Answers a question to Remote Settings.
    pub(super) async fn settings(&self, target: &SettingsTarget, head: Parts, body: Incoming) -> Reply {
        let Some(mirror) = &self.mirror else { return self.not_mirrored(target, head, body).await };
        if !matches!(head.method, Method::GET | Method::HEAD) {
            return self.pass_settings(mirror, target, Request::from_parts(head, body)).await;
        }
        let asked = Asked::new(&head);
        let bases = match asked.settings_base() {
            Some(here) if !target.at_host => Bases::below(&here),
            _ => Bases::public(),
        };
        let reply = match &target.ask {
            SettingsAsk::Server => self.server(mirror, &asked, &bases).await,
            SettingsAsk::Changes(filter, window) => {
                self.change_list(mirror, target, &asked, filter, *window).await
            }
            SettingsAsk::Changeset(collection, window) => {
                let is_watched = mirror.remote.settings().collections.contains(collection);
                match is_watched {
                    true => self.watched(mirror, &asked, collection, *window, &bases).await,
                    false => self.unwatched(mirror, target, &asked, collection, *window, &bases).await,
                }
            }
            SettingsAsk::Bundle => self.bundle(mirror, &asked, &bases).await,
            SettingsAsk::Chain(path) => self.chain(mirror, &asked, path).await,
            SettingsAsk::Attachment(location) => match mirror.remote.held().attachment(location) {
                Some((resource, size)) => {
                    self.cache.expect_size(&resource, size);
                    return self.file(&resource, &head).await;
                }
                None => return self.pass_settings(mirror, target, Request::from_parts(head, body)).await,
            },
            SettingsAsk::Other => {
                return self.pass_settings(mirror, target, Request::from_parts(head, body)).await;
            }
        };
        if asked.head_only { status::without_body(reply) } else { reply }
    }

    /// There is no mirror: its own hosts are reached as any others.
    async fn not_mirrored(&self, target: &SettingsTarget, head: Parts, body: Incoming) -> Reply {
        if !target.at_host || head.uri.authority().is_none() {
            return status::no_mirror();
        }
        let port = if head.uri.scheme_str() == Some("http") { 80 } else { 443 };
        let place = Place { host: Host::Name(target.part.host().to_owned()), port };
        self.forward(&place, Request::from_parts(head, body)).await
    }

    async fn server(&self, mirror: &Mirror, asked: &Asked<'_>, bases: &Bases) -> Reply {
        if mirror.remote.held().server.is_none() {
            mirror.remote.catch_up(0, PATIENCE).await;
        }
        let said = rs::server(mirror.remote.held().server.as_deref(), bases);
        json_reply(asked, &said, None, Outcome::Hit)
    }

    /// The list of changes: the watched collections as they are held, the others as the server has them.
    async fn change_list(
        &self,
        mirror: &Mirror,
        target: &SettingsTarget,
        asked: &Asked<'_>,
        filter: &Filter,
        window: Window,
    ) -> Reply {
        let remote = &mirror.remote;
        let is_ahead = |remote: &RemoteSettings| {
            window.expected.is_some_and(|e| e > 0 && remote.held().list_moment().is_none_or(|held| e > held))
        };
        if mirror.watcher.is_some() && (is_ahead(remote) || remote.held().collections.is_empty()) {
            remote.catch_up(window.expected.unwrap_or(0), PATIENCE).await;
        }
        // Whoever polls can do with what was listed last; the server asked for that.
        let collected = match remote.left_alone() {
            Some(_) => Err(None),
            None => self.collect(mirror, target).await,
        };
        let (listed, outcome) = match collected {
            Ok(got) if got.status == StatusCode::OK => match serde_json::from_slice::<Value>(&got.body) {
                Ok(list) => (Some(list), Outcome::Passed),
                Err(_) => (remote.held().listed(filter, window), Outcome::Stale),
            },
            // The server says that nothing is new to the client; of what is held something may be.
            Ok(got) if got.status == StatusCode::NO_CONTENT => {
                (Some(json!({"timestamp": window.since.unwrap_or(0), "changes": []})), Outcome::Passed)
            }
            _ => (remote.held().listed(filter, window), Outcome::Stale),
        };
        let held = remote.held();
        let host = SettingsPart::Server.host();
        let snapshots = held.collections.values().map(AsRef::as_ref);
        let list = rs::changes(listed.as_ref(), snapshots, filter, host);
        json_reply(asked, &list, None, outcome)
    }

    /// A collection that is watched, as it is held.
    async fn watched(
        &self,
        mirror: &Mirror,
        asked: &Asked<'_>,
        collection: &Collection,
        window: Window,
        bases: &Bases,
    ) -> Reply {
        let held = || mirror.remote.held().collections.get(collection).cloned();
        let is_behind =
            |at: Option<u64>| at.is_none_or(|at| window.expected.is_some_and(|expected| expected > at));
        if mirror.watcher.is_some() && is_behind(held().map(|snapshot| snapshot.timestamp)) {
            mirror.remote.catch_up(window.expected.unwrap_or(0), PATIENCE).await;
        }
        let Some(snapshot) = held() else {
            return match mirror.watcher {
                Some(_) => status::unsynced(collection),
                None => status::nothing_passes(),
            };
        };
        match rs::changeset(&snapshot, window, bases) {
            Answer::Json(set, moment) => json_reply(asked, &set, Some(moment), Outcome::Hit),
            Answer::Whole => whole(asked),
        }
    }

    /// A collection that is not watched: as the server has it, and as it was held last only while that cannot be asked.
    async fn unwatched(
        &self,
        mirror: &Mirror,
        target: &SettingsTarget,
        asked: &Asked<'_>,
        collection: &Collection,
        window: Window,
        bases: &Bases,
    ) -> Reply {
        let held = mirror.remote.snapshot(collection).ok().flatten();
        let spared = held.is_some() && mirror.remote.left_alone().is_some();
        let collected = if spared { Err(None) } else { self.collect(mirror, target).await };
        let failure = match collected {
            Ok(got) if !got.status.is_server_error() && got.status != StatusCode::TOO_MANY_REQUESTS => {
                return handed_on(mirror, target, asked, collection, got, bases);
            }
            Ok(got) => Err(got.status),
            Err(failure) => Ok(failure),
        };
        if let Some(snapshot) = held {
            return match rs::changeset(&snapshot, window, bases) {
                Answer::Json(set, moment) => json_reply(asked, &set, Some(moment), Outcome::Stale),
                Answer::Whole => whole(asked),
            };
        }
        match failure {
            Ok(Some(failure)) => status::of_failure(&failure),
            Ok(None) => status::nothing_passes(),
            Err(code) => answer::text(code, Outcome::Refused, "Remote Settings cannot be asked just now"),
        }
    }

    /// The bundle that a new Firefox begins with.
    async fn bundle(&self, mirror: &Mirror, asked: &Asked<'_>, bases: &Bases) -> Reply {
        let (remote, bases) = (Arc::clone(&mirror.remote), bases.clone());
        let bundle = tokio::task::spawn_blocking(move || remote.bundle(&bases)).await.unwrap_or_default();
        bytes_reply(asked, bundle, "application/x-lz4", Outcome::Hit)
    }

    /// The chain of a signature: one that is held, or the one of which a client was told.
    async fn chain(&self, mirror: &Mirror, asked: &Asked<'_>, path: &str) -> Reply {
        let of_pem = |text: Bytes, outcome| bytes_reply(asked, text, "binary/octet-stream", outcome);
        if let Some(chain) = mirror.remote.held().chain(path) {
            return of_pem(chain.clone(), Outcome::Hit);
        }
        let Some(watcher) = &mirror.watcher else { return status::nothing_passes() };
        // One of which nobody was told since the start is where Mozilla's are.
        let usual =
            || format!("https://{}{}", SettingsPart::Chains.host(), crate::request::encode_path(path));
        let url = mirror.remote.chain_url(path).unwrap_or_else(usual);
        match watcher.collect(&url, MAX_ANSWER).await {
            Ok(got) if got.status == StatusCode::OK => of_pem(got.body, Outcome::Passed),
            Ok(got) => answer::text(got.status, Outcome::Refused, "there is no such chain"),
            Err(failure) => status::of_failure(&failure),
        }
    }

    /// What the server answers to the same question.
    async fn collect(&self, mirror: &Mirror, target: &SettingsTarget) -> Result<Collected, Option<Failure>> {
        let Some(watcher) = &mirror.watcher else { return Err(None) };
        watcher.collect(&upstream_url(mirror, target).ok_or(None)?, MAX_ANSWER).await.map_err(Some)
    }

    /// Hands a request on as it is.
    async fn pass_settings(
        &self,
        mirror: &Mirror,
        target: &SettingsTarget,
        request: Request<Incoming>,
    ) -> Reply {
        let (Some(fetcher), Some(url)) = (&self.fetcher, upstream_url(mirror, target)) else {
            return status::nothing_passes();
        };
        let Ok(url) = Url::parse(&url) else { return status::nothing_passes() };
        match fetcher.upstream().pass_settings(&url, request).await {
            Ok(answer) => {
                let mut response = answer.map(Body::passed);
                answer::add_own_fields(response.headers_mut(), Outcome::Passed, None);
                Reply { response, outcome: Outcome::Passed }
            }
            Err(failure) => status::of_failure(&failure),
        }
    }
}

impl Asked<'_> {
    /// The URL under which the client sees this server itself.
    fn settings_base(&self) -> Option<String> {
        let parts = self.parts;
        let authority = parts.uri.authority().map(|a| a.as_str());
        let host = authority.or_else(|| parts.headers.get(header::HOST)?.to_str().ok())?;
        let is_tls = parts.extensions.get::<Visit>().is_some_and(|visit| visit.arrival == Arrival::Tls);
        let scheme = if is_tls { "https" } else { "http" };
        Some(format!("{scheme}://{host}"))
    }
}

/// Where upstream the same is.
fn upstream_url(mirror: &Mirror, target: &SettingsTarget) -> Option<String> {
    let server = mirror.remote.settings().server.as_str();
    match target.part {
        SettingsPart::Server => {
            let (base, _) = server.rsplit_once('/')?;
            Some(format!("{base}/v{}{}", target.version, target.path_and_query))
        }
        SettingsPart::Attachments => {
            let held = mirror.remote.held();
            let said = held.server.as_deref()?;
            let base = said.pointer("/capabilities/attachments/base_url")?.as_str()?;
            Some(format!("{}{}", base.trim_end_matches('/'), target.path_and_query))
        }
        SettingsPart::Chains => None,
    }
}

/// An answer about an unwatched collection, its chains where the client reaches them. It is kept for bad times.
fn handed_on(
    mirror: &Mirror,
    target: &SettingsTarget,
    asked: &Asked<'_>,
    collection: &Collection,
    got: Collected,
    bases: &Bases,
) -> Reply {
    let read = serde_json::from_slice::<Value>(&got.body).ok();
    let Some(mut set) = read.filter(|_| got.status == StatusCode::OK) else {
        let mut response = Response::new(Body::full(got.body));
        *response.status_mut() = got.status;
        for name in [header::CONTENT_TYPE, header::LOCATION, header::RETRY_AFTER] {
            if let Some(value) = got.headers.get(&name) {
                response.headers_mut().insert(name, value.clone());
            }
        }
        answer::add_own_fields(response.headers_mut(), Outcome::Passed, None);
        return Reply { response, outcome: Outcome::Passed };
    };
    let moment = set.get("timestamp").and_then(Value::as_u64);
    if let Some(Value::Object(metadata)) = set.get_mut("metadata") {
        signatures(metadata).iter().for_each(|signature| mirror.remote.told_chain(&signature.x5u));
        rs::rewrite_chains(metadata, bases);
    }
    if let (Some(watcher), Some(at)) = (&mirror.watcher, moment) {
        let (watcher, collection) = (Arc::clone(watcher), collection.clone());
        tokio::spawn(async move { watcher.keep(collection, at).await });
    }
    // A moment that is too long ago led to all of the collection, which the client is to notice as it would there.
    let asked_since = matches!(target.ask, SettingsAsk::Changeset(_, Window { since: Some(_), .. }));
    if asked_since && !got.url.query_pairs().any(|(name, _)| name == "_since") {
        return whole(asked);
    }
    json_reply(asked, &set, moment, Outcome::Passed)
}

/// 307 to the same question without `_since`.
fn whole(asked: &Asked<'_>) -> Reply {
    let path = asked.parts.uri.path();
    let kept = url::form_urlencoded::parse(asked.parts.uri.query().unwrap_or_default().as_bytes());
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(kept.filter(|(name, _)| name != "_since"));
    let mut reply =
        answer::text(StatusCode::TEMPORARY_REDIRECT, Outcome::Own, "ask for all of the collection");
    let location = format!("{path}?{}", query.finish());
    if let Ok(location) = HeaderValue::try_from(location) {
        reply.response.headers_mut().insert(header::LOCATION, location);
    }
    reply
}

/// JSON under the tag of a moment, or of its own bytes.
fn json_reply(asked: &Asked<'_>, value: &Value, moment: Option<u64>, outcome: Outcome) -> Reply {
    let body = serde_json::to_vec(value).expect("values of JSON are JSON");
    // The tag of a moment alone would not change with where things are for a client.
    let mut reply = bytes_reply(asked, body.into(), "application/json", outcome);
    if let Some(moment) = moment {
        let date = httpdate::fmt_http_date(crate::model::Timestamp(moment).to_system());
        if let Ok(date) = HeaderValue::try_from(date) {
            reply.response.headers_mut().insert(header::LAST_MODIFIED, date);
        }
    }
    reply
}

fn bytes_reply(asked: &Asked<'_>, body: Bytes, content_type: &'static str, outcome: Outcome) -> Reply {
    let digest = <sha2::Sha256 as sha2::Digest>::digest(&body);
    let tag = format!("\"{}\"", &hex(&digest)[..32]);
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::ETAG, HeaderValue::try_from(tag.as_str()).expect("digits in quotes"));
    answer::add_own_fields(headers, outcome, None);
    if Conditions::of(&asked.parts.headers).not_modified(Some(&tag)) {
        return answer::not_modified(response, outcome);
    }
    answer::set_length(response.headers_mut(), body.len() as u64);
    *response.body_mut() = Body::full(body);
    Reply { response, outcome }
}
