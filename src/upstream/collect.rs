//! Asking Remote Settings: its server, and what that leads to, the base of attachments and the chains of signatures.
//!
//! What is at the server's own origin counts for its circuit, as with any hub. Everything else is a place that the
//! server named, like the target of a redirect, and passes the egress rules as one.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use hyper::body::Body as HttpBody;
use url::Url;

use super::admission::Asking;
use super::client::{is_gzip, request_headers};
use super::connect::Way;
use super::holdoff::retry_after;
use super::redirect::{is_redirect, same_origin, target};
use super::sites::Site;
use super::{Client, Failure, FileBody, Haste, PassBody};
use crate::model::{Hub, Resource};

/// The longest time for which a server is left alone on its word.
const MAX_LEFT_ALONE: Duration = Duration::from_secs(24 * 3600);

/// The longest time for one answer, from the question to its last byte.
const DEADLINE: Duration = Duration::from_secs(300);

/// An answer of Remote Settings, whatever its status.
#[derive(Clone, Debug)]
pub struct Collected {
    /// Where it was found in the end.
    pub url: Url,
    /// Its status.
    pub status: StatusCode,
    /// Its fields.
    pub headers: HeaderMap,
    /// Its body, identity-encoded.
    pub body: Bytes,
    /// How long the server asks to be left alone.
    pub left_alone: Option<Duration>,
}

impl Client {
    /// GET of `url`, which the server of Remote Settings has, or has told of; the answer may have up to `limit` bytes, and
    /// five minutes.
    ///
    /// # Errors
    /// See [`Failure`]. Any status is an answer.
    pub async fn collect(&self, url: &Url, limit: usize) -> Result<Collected, Failure> {
        let collected = tokio::time::timeout(DEADLINE, self.collect_patiently(url, limit)).await;
        collected.map_err(|_| Failure::TimedOut)?
    }

    async fn collect_patiently(&self, url: &Url, limit: usize) -> Result<Collected, Failure> {
        let site = Site::root(Hub::Settings);
        let home = self.home(site)?;
        let mut url = url.clone();
        let mut hops = 0;
        loop {
            let asking = Asking::path(site, url.path(), &HeaderMap::new());
            if same_origin(&home, &url) {
                self.admit(asking)?;
            }
            let place = self.place(&url, &Haste::default()).await?;
            let headers = request_headers(None);
            let response = self.send(asking, &home, Method::GET, &url, headers, Bytes::new()).await?;
            let (head, body) = response.into_parts();
            if !is_redirect(head.status) {
                let gzip = is_gzip(&head.headers)?;
                let body = self.file_body(body, gzip, place);
                let body = whole(body, limit).await?;
                self.telemetry.upstream_received(Hub::Settings, body.len() as u64);
                let (status, headers) = (head.status, head.headers);
                let left_alone = left_alone(status, &headers);
                return Ok(Collected { url, status, headers, body, left_alone });
            }
            hops += 1;
            if hops > self.settings.max_redirects {
                return Err(Failure::BadRedirect("chain is too long"));
            }
            url = target(&url, &head.headers)?;
        }
    }

    /// Hands a request on to `url`, which the server of Remote Settings has, or has told of.
    ///
    /// # Errors
    /// When it cannot be reached, or does not answer in time.
    pub async fn pass_settings<B>(
        &self,
        url: &Url,
        request: Request<B>,
    ) -> Result<Response<PassBody>, Failure>
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let site = Site::root(Hub::Settings);
        let way = if same_origin(&self.home(site)?, url) { Way::Root(site) } else { Way::Redirect(site) };
        self.pass_to(site, way, url, request).await
    }

    /// Where the files are that are attached to records, as the server says.
    pub fn set_attachments(&self, base: Url) {
        *self.attachments.write().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(base);
    }

    /// The URL of a file.
    pub(super) fn attachment_url(&self, resource: &Resource) -> Result<Url, Failure> {
        let base = self.attachments.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        let base = base.ok_or(Failure::Misread(crate::hub::Misread::NoHops))?;
        let path = crate::hub::file_path(resource);
        let text = format!("{}{path}", base.as_str().trim_end_matches('/'));
        Url::parse(&text).map_err(|e| Failure::Unreachable(e.into()))
    }

    /// The origin of a site.
    pub(super) fn home(&self, site: Site) -> Result<url::Origin, Failure> {
        let url = Url::parse(self.sites.url(site).as_str()).map_err(|e| Failure::Unreachable(e.into()))?;
        Ok(url.origin())
    }
}

/// How long a server asks to be left alone: by `Backoff` in seconds, which Remote Settings sends with any status, or by
/// `Retry-After` with a refusal.
fn left_alone(status: StatusCode, headers: &HeaderMap) -> Option<Duration> {
    let backoff = headers.get("backoff").and_then(|value| value.to_str().ok()?.trim().parse().ok());
    let backoff = backoff.map(Duration::from_secs);
    let is_refusal = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
    let retry = if is_refusal { retry_after(headers, SystemTime::now()) } else { None };
    backoff.max(retry).map(|wait| wait.min(MAX_LEFT_ALONE)).filter(|wait| !wait.is_zero())
}

async fn whole(mut body: FileBody, limit: usize) -> Result<Bytes, Failure> {
    let mut text = Vec::new();
    while let Some(bytes) = body.next().await.map_err(|interrupt| Failure::Unreachable(interrupt.into()))? {
        if text.len() + bytes.len() > limit {
            return Err(Failure::TooLong { limit });
        }
        text.extend_from_slice(&bytes);
    }
    Ok(text.into())
}
