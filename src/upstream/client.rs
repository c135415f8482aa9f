//! Asking a hub about a file, and for it.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client as Pool;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use url::{Origin, Url};

use super::admission::{Admission, Asking, is_out_of_order};
use super::connect::{Connector, Shared, Way};
use super::hosts::{Hosts, Place};
use super::names::Names;
use super::redirect::{is_redirect, same_origin, target};
use super::sites::{Site, Sites};
use super::tls::{BuildError, client_config};
use super::trouble::Trouble;
use super::{Failure, FileBody, Haste, Refusal, Settings};
use crate::hub::{self, Hop};
use crate::model::{Expectation, Hub, HubRoot, Repo, Resource, Secret, Timestamp};
use crate::telemetry::{Limit, Telemetry};
use crate::throttle::{Sluice, Throttle};

/// Largest head of a response, and largest piece of a body that is read at once, in bytes.
const MAX_HEAD: usize = 400 * 1024;
/// Most header fields of a response.
const MAX_FIELDS: usize = 100;
/// Longest text of a refusal that is read, in bytes.
pub(super) const MAX_REFUSAL: usize = 16 * 1024;

pub(super) type RequestBody = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// Connections of one way.
pub(super) type Connections = Pool<HttpsConnector<Connector>, RequestBody>;

/// Reaches the hubs.
pub struct Client {
    pools: BTreeMap<Way, Connections>,
    pub(super) sites: Sites,
    pub(super) connect: Arc<Shared>,
    pub(super) settings: Settings,
    pub(super) telemetry: Telemetry,
    pub(super) names: Names,
    pub(super) admissions: BTreeMap<Hub, Arc<Admission>>,
    hosts: Hosts,
    /// What slows down bytes from hubs.
    pub(super) downloads: Option<Throttle>,
    /// What slows down bytes to hubs.
    pub(super) uploads: Option<Throttle>,
    /// Where attachments are.
    pub(super) attachments: RwLock<Option<Url>>,
}

/// Which bytes of a file are wanted.
#[derive(Clone, Debug, Default)]
pub struct Want {
    /// First byte.
    pub start: u64,
    /// One past the last byte; `None` to the end.
    pub end: Option<u64>,
    /// The tag that the bytes held so far came with.
    pub validator: Option<String>,
    /// How urgent it is.
    pub haste: Haste,
}

/// A file on its way.
pub struct Answer {
    /// What the hub says of the file.
    pub expectation: Expectation,
    /// Where in the file the body begins: where it was asked to, or 0 from a hub that ignores ranges.
    pub start: u64,
    /// One past the last byte that the body will bring, if the hub said so.
    pub end: Option<u64>,
    /// Whether the hub answers ranges of this file.
    pub takes_ranges: bool,
    /// The bytes.
    pub body: FileBody,
}

impl Client {
    /// A client for these hubs.
    ///
    /// # Errors
    /// When the CA bundle cannot be used.
    pub fn new(settings: Settings, telemetry: Telemetry) -> Result<Self, BuildError> {
        let sites = Sites::new(&settings.roots, settings.probe_interval);
        let named =
            sites.all().map(|(site, root)| (site, root.as_str() != site.hub.default_root())).collect();
        let (egress, parent) = (Arc::clone(&settings.egress), settings.parent.clone());
        let connect = Shared::new(egress, settings.connect_timeout, parent, named);
        let tls = client_config(&settings)?;
        let pool = |way| {
            let pool = Pool::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(Duration::from_secs(60))
                .pool_max_idle_per_host(settings.max_connections_per_host)
                .http1_max_buf_size(MAX_HEAD)
                .http1_max_headers(MAX_FIELDS)
                .build((Connector::new(way, Arc::clone(&connect)), Arc::clone(&tls)).into());
            (way, pool)
        };
        let ways = sites.all().flat_map(|(site, _)| [Way::Root(site), Way::Redirect(site)]);
        let pools = ways.chain([Way::Client]).map(pool).collect();
        let names = Names::new(settings.names_ttl);
        let admission =
            |hub| (hub, Arc::new(Admission::new(hub, settings.circuit_failures, telemetry.clone())));
        let admissions = Hub::ALL.into_iter().map(admission).collect();
        let (most, percent) = (settings.max_connections_per_host, settings.background_share);
        let hosts = Hosts::new(most, percent, settings.head_timeout, telemetry.clone());
        let downloads = Throttle::new(&settings.rate, Limit::UpstreamRate, &telemetry);
        let uploads = Throttle::new(&settings.upload_rate, Limit::UploadRate, &telemetry);
        let attachments = RwLock::default();
        Ok(Self {
            pools,
            sites,
            connect,
            settings,
            telemetry,
            names,
            admissions,
            hosts,
            downloads,
            uploads,
            attachments,
        })
    }

    /// Where a hub is.
    pub fn root(&self, hub: Hub) -> &HubRoot {
        self.settings.roots.root(hub)
    }

    /// What a repository is called now, as far as its hub has said.
    pub fn name_of(&self, hub: Hub, repo: &Repo) -> Repo {
        self.names.current(hub, repo)
    }

    /// The operator's own credentials for a hub.
    pub fn own_credential(&self, hub: Hub) -> Option<Secret> {
        self.settings.credentials.get(&hub).cloned()
    }

    /// The limits in force.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Asks about a file (HEAD). The redirect to a content network is read and not followed. A hub that stumbles is
    /// asked once more, since not every client would.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn inquire(
        &self,
        resource: &Resource,
        credential: Option<&Secret>,
    ) -> Result<Expectation, Failure> {
        let mut round = self.sites.round(resource.hub, credential.is_some());
        loop {
            let answered = self.inquire_patiently(round.site, resource, credential).await;
            if let Some(result) = round.judge(answered) {
                return result;
            }
        }
    }

    async fn inquire_patiently(
        &self,
        site: Site,
        resource: &Resource,
        credential: Option<&Secret>,
    ) -> Result<Expectation, Failure> {
        let failure = match self.inquire_once(site, resource, credential).await {
            Err(failure) if stumbled(&failure) && !self.is_closed(site) => failure,
            answered => return answered,
        };
        tracing::debug!(file = %resource, error = %failure, "asking the hub about it once more");
        tokio::time::sleep(self.settings.wait(0, None)).await;
        // Whoever else asked may have found the hub down meanwhile.
        if self.is_closed(site) {
            return Err(failure);
        }
        self.inquire_once(site, resource, credential).await
    }

    async fn inquire_once(
        &self,
        site: Site,
        resource: &Resource,
        credential: Option<&Secret>,
    ) -> Result<Expectation, Failure> {
        let asking = Asking::file(site, credential.is_some());
        let mut hops = Vec::new();
        let mut url = self.url(site, resource)?;
        let home = self.home(site)?;
        loop {
            let headers = request_headers(credential.filter(|_| same_origin(&home, &url)));
            let response = self.send(asking, &home, Method::HEAD, &url, headers, Bytes::new()).await?;
            let (head, _) = response.into_parts();
            hops.push(Hop { status: head.status, at_hub: same_origin(&home, &url), headers: head.headers });
            let hop = &hops[hops.len() - 1];
            if is_redirect(hop.status) {
                let next = target(&url, &hop.headers)?;
                if !same_origin(&home, &next) && resource.hub == Hub::HuggingFace {
                    break;
                }
                self.count_hops(&hops)?;
                if credential.is_none() {
                    self.names.learn(resource.hub, self.sites.url(site), &url, &next);
                }
                url = next;
            } else if hop.status.is_success() {
                break;
            } else {
                return Err(refused(hop, Bytes::new()));
            }
        }
        hub::expectation(resource, &hops, Timestamp::now()).map_err(Failure::Misread)
    }

    /// Asks for the bytes of a file (GET), following redirects. What nobody waits for pauses while the hub is to be
    /// left alone, and asks again.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn fetch(
        &self,
        resource: &Resource,
        want: &Want,
        credential: Option<&Secret>,
    ) -> Result<Answer, Failure> {
        if credential.is_some() {
            return self.fetch_in_haste(resource, want, credential).await;
        }
        self.patiently(resource.hub, &want.haste, || self.fetch_in_haste(resource, want, None)).await
    }

    async fn fetch_in_haste(
        &self,
        resource: &Resource,
        want: &Want,
        credential: Option<&Secret>,
    ) -> Result<Answer, Failure> {
        let mut round = self.sites.round(resource.hub, credential.is_some());
        loop {
            let answered = self.fetch_at(round.site, resource, want, credential).await;
            if let Some(result) = round.judge(answered) {
                return result;
            }
        }
    }

    async fn fetch_at(
        &self,
        site: Site,
        resource: &Resource,
        want: &Want,
        credential: Option<&Secret>,
    ) -> Result<Answer, Failure> {
        let asking = Asking::file(site, credential.is_some());
        // Before the wait for a place among those who may be waiting for the hub.
        self.admit(asking)?;
        let mut hops = Vec::new();
        let mut url = self.url(site, resource)?;
        let home = self.home(site)?;
        loop {
            let mut headers = request_headers(credential.filter(|_| same_origin(&home, &url)));
            add_range(&mut headers, want);
            let place = self.place(&url, &want.haste).await?;
            let response = self.send(asking, &home, Method::GET, &url, headers, Bytes::new()).await?;
            let (head, body) = response.into_parts();
            let hop = Hop { status: head.status, at_hub: same_origin(&home, &url), headers: head.headers };
            if !is_redirect(hop.status) {
                return self.answer(resource, want, hops, hop, body, place).await;
            }
            drain(body).await;
            drop(place);
            let next = target(&url, &hop.headers)?;
            // What only a caller may know is not told to others, not even by where they are led.
            if credential.is_none() {
                self.names.learn(resource.hub, self.sites.url(site), &url, &next);
            }
            url = next;
            hops.push(hop);
            self.count_hops(&hops)?;
        }
    }

    async fn answer(
        &self,
        resource: &Resource,
        want: &Want,
        mut hops: Vec<Hop>,
        last: Hop,
        body: Incoming,
        place: Place,
    ) -> Result<Answer, Failure> {
        let status = last.status;
        if status == StatusCode::RANGE_NOT_SATISFIABLE {
            return Err(Failure::OutOfRange);
        }
        if !matches!(status, StatusCode::OK | StatusCode::PARTIAL_CONTENT) {
            let text = Limited::new(body, MAX_REFUSAL).collect();
            let text = tokio::time::timeout(self.settings.stall_timeout, text).await;
            let text = text.ok().and_then(Result::ok).map(http_body_util::Collected::to_bytes);
            return Err(refused(&last, text.unwrap_or_default()));
        }
        let gzip = is_gzip(&last.headers)?;
        let (start, end) = match (status, hub::content_range(&last.headers)) {
            (StatusCode::PARTIAL_CONTENT, Some((first, last, _))) if first == want.start && !gzip => {
                (first, Some(last + 1))
            }
            (StatusCode::PARTIAL_CONTENT, _) => return Err(Failure::Shifted),
            _ => (0, None),
        };
        let accepts = last.headers.get(header::ACCEPT_RANGES).is_none_or(|v| v != "none");
        let takes_ranges =
            accepts && !gzip && (want.start == 0 && want.end.is_none() || status != StatusCode::OK);
        hops.push(last);
        let expectation = hub::expectation(resource, &hops, Timestamp::now()).map_err(Failure::Misread)?;
        let body = self.file_body(body, gzip, place);
        Ok(Answer { expectation, start, end, takes_ranges, body })
    }

    fn url(&self, site: Site, resource: &Resource) -> Result<Url, Failure> {
        if resource.hub == Hub::Settings {
            return self.attachment_url(resource);
        }
        let repo = self.name_of(resource.hub, &resource.repo);
        let path = hub::file_path(&Resource { repo, ..resource.clone() });
        let text = format!("{}{path}", self.sites.url(site));
        Url::parse(&text).map_err(|e| Failure::Unreachable(e.into()))
    }

    fn count_hops(&self, hops: &[Hop]) -> Result<(), Failure> {
        if hops.len() > self.settings.max_redirects {
            return Err(Failure::BadRedirect("chain is too long"));
        }
        Ok(())
    }

    pub(super) async fn send(
        &self,
        asking: Asking,
        home: &Origin,
        method: Method,
        url: &Url,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response<Incoming>, Failure> {
        let body = Full::new(body).map_err(|never| match never {}).boxed_unsync();
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() =
            url.as_str().parse().map_err(|_| Failure::BadRedirect("has an unreadable target"))?;
        *request.headers_mut() = headers;
        let within = self.settings.head_timeout;
        match same_origin(home, url) {
            true => self.at_hub(asking, self.exchange(request, Way::Root(asking.site), within)).await,
            false => self.exchange(request, Way::Redirect(asking.site), within).await,
        }
    }

    /// Sends a request and waits for the head of its answer.
    pub(super) async fn exchange(
        &self,
        mut request: Request<RequestBody>,
        way: Way,
        within: Duration,
    ) -> Result<Response<Incoming>, Failure> {
        if let Way::Root(site) | Way::Redirect(site) = way {
            self.telemetry.upstream_request(site.hub);
        }
        if let Some(credentials) = self.connect.parent_credentials(request.uri()) {
            request.headers_mut().insert(header::PROXY_AUTHORIZATION, credentials);
        }
        tokio::time::timeout(within, self.pools[&way].request(request))
            .await
            .map_err(|_| Failure::TimedOut)?
            .map_err(|e| Failure::of_connection(e.into()))
    }

    /// The connections to the root of a hub.
    pub(super) fn pool(&self, hub: Hub) -> &Connections {
        &self.pools[&Way::Root(Site::root(hub))]
    }

    /// A place among the connections to the host of `url`.
    pub(super) async fn place(&self, url: &Url, haste: &Haste) -> Result<Place, Failure> {
        self.hosts.place(url.authority(), haste).await
    }

    pub(super) fn file_body(&self, incoming: Incoming, gzip: bool, place: Place) -> FileBody {
        let sluice = self.downloads.as_ref().map(Sluice::of);
        FileBody::new(incoming, gzip, self.settings.stall_timeout, sluice, place)
    }
}

/// The fields of a request of our own.
pub(super) fn request_headers(credential: Option<&Secret>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let agent = concat!("hubcache/", env!("CARGO_PKG_VERSION"));
    headers.insert(header::USER_AGENT, HeaderValue::from_static(agent));
    headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
    // A stored gzip variant would ignore ranges and match no promised digest.
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    if let Some(credential) = credential {
        headers.insert(header::AUTHORIZATION, credential.expose().clone());
    }
    headers
}

fn add_range(headers: &mut HeaderMap, want: &Want) {
    if want.start == 0 && want.end.is_none() {
        return;
    }
    let range = match want.end {
        Some(end) => format!("bytes={}-{}", want.start, end - 1),
        None => format!("bytes={}-", want.start),
    };
    headers.insert(header::RANGE, HeaderValue::try_from(range).expect("digits and a dash"));
    // A weak tag must not be used with If-Range (RFC 9110, section 13.1.5).
    let strong = want.validator.as_deref().filter(|v| !v.starts_with("W/"));
    if let Some(value) = strong.and_then(|v| HeaderValue::try_from(v).ok()) {
        headers.insert(header::IF_RANGE, value);
    }
}

/// Whether a body is gzip-encoded; anything else but identity cannot be read.
pub(super) fn is_gzip(headers: &HeaderMap) -> Result<bool, Failure> {
    match headers.get(header::CONTENT_ENCODING).map(HeaderValue::as_bytes) {
        None | Some(b"" | b"identity") => Ok(false),
        Some(b"gzip" | b"x-gzip") => Ok(true),
        Some(other) => Err(Failure::Encoding(String::from_utf8_lossy(other).into_owned())),
    }
}

/// Whether the hub may answer the same question a moment later: the connection broke before the head, or the hub had a
/// passing fault and did not ask to be left alone.
fn stumbled(failure: &Failure) -> bool {
    match failure {
        Failure::Refused(r) => r.at_hub && is_out_of_order(r.status) && failure.retry_after().is_none(),
        _ => failure.trouble() == Some(Trouble::Terminated),
    }
}

pub(super) fn refused(hop: &Hop, body: Bytes) -> Failure {
    Failure::Refused(Box::new(Refusal::new(hop.status, hop.at_hub, &hop.headers, body)))
}

/// Reads the rest of a short body, so that its connection can be used again.
async fn drain(body: Incoming) {
    let rest = Limited::new(body, MAX_REFUSAL).collect();
    // Whatever goes wrong here costs a connection and nothing else.
    let _ = tokio::time::timeout(Duration::from_secs(1), rest).await;
}
