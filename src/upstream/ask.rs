//! Asking a hub's API.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use url::Url;

use super::admission::Asking;
use super::client::request_headers;
use super::redirect::{is_redirect, same_origin, target};
use super::sites::Site;
use super::{Client, Failure, FileBody, Haste};
use crate::hub::Hop;
use crate::model::{Hub, Secret};

/// What the API is asked.
#[derive(Clone, Debug, Default)]
pub struct Inquiry {
    /// Path and query below the hub's root.
    pub path_and_query: String,
    /// JSON to send, by POST; without it GET.
    pub body: Option<Vec<u8>>,
    /// The tag that the answer came with that is held.
    pub validator: Option<String>,
    /// The operator's own credentials, where it asks with these.
    pub credential: Option<Secret>,
}

/// What the API says.
#[derive(Clone, Debug)]
pub enum Said {
    /// Something.
    Answer {
        /// The fields of the answer.
        headers: HeaderMap,
        /// Its body, identity-encoded.
        body: Vec<u8>,
    },
    /// What it said before.
    Unchanged,
}

impl Client {
    /// Asks the API of `hub` without a caller's credentials, and reads the whole answer, which may have up to `limit` bytes.
    /// Redirects within the hub (a repository that was renamed) are followed.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn ask(&self, hub: Hub, inquiry: &Inquiry, limit: usize) -> Result<Said, Failure> {
        let mut round = self.sites.round(hub, inquiry.credential.is_some());
        loop {
            let answered = self.ask_at(round.site, inquiry, limit).await;
            if let Some(result) = round.judge(answered) {
                return result;
            }
        }
    }

    async fn ask_at(&self, site: Site, inquiry: &Inquiry, limit: usize) -> Result<Said, Failure> {
        let text = format!("{}{}", self.sites.url(site), inquiry.path_and_query);
        let mut url = Url::parse(&text).map_err(|e| Failure::Unreachable(e.into()))?;
        let home = url.origin();
        let asking = Asking::path(site, &inquiry.path_and_query, &inquiry.headers());
        // Before the wait for a place among those who may be waiting for the hub.
        self.admit(asking)?;
        let mut hops = 0;
        loop {
            let place = self.place(&url, &Haste::default()).await?;
            let method = if inquiry.body.is_some() { Method::POST } else { Method::GET };
            let sent = inquiry.body.clone().map(Bytes::from).unwrap_or_default();
            let response = self.send(asking, &home, method, &url, inquiry.headers(), sent).await?;
            let (head, body) = response.into_parts();
            if !is_redirect(head.status) {
                let hop = Hop { status: head.status, at_hub: true, headers: head.headers };
                let gzip = super::client::is_gzip(&hop.headers)?;
                let body = self.file_body(body, gzip, place);
                return said(hop, body, limit).await;
            }
            let next = target(&url, &head.headers)?;
            hops += 1;
            if !same_origin(&home, &next) || hops > self.settings.max_redirects {
                return Err(Failure::BadRedirect("leads away from the hub's API"));
            }
            self.names.learn(site.hub, self.sites.url(site), &url, &next);
            url = next;
        }
    }
}

impl Inquiry {
    fn headers(&self) -> HeaderMap {
        let mut headers = request_headers(self.credential.as_ref());
        if self.body.is_some() {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        if let Some(tag) = self.validator.as_deref().and_then(|tag| HeaderValue::try_from(tag).ok()) {
            headers.insert(header::IF_NONE_MATCH, tag);
        }
        headers
    }
}

async fn said(hop: Hop, mut body: FileBody, limit: usize) -> Result<Said, Failure> {
    if hop.status == StatusCode::NOT_MODIFIED {
        return Ok(Said::Unchanged);
    }
    let good = hop.status == StatusCode::OK;
    let limit = if good { limit } else { super::client::MAX_REFUSAL };
    let mut text = Vec::new();
    loop {
        match body.next().await {
            Ok(None) => break,
            Ok(Some(bytes)) if text.len() + bytes.len() <= limit => text.extend_from_slice(&bytes),
            Ok(Some(_)) if good => return Err(Failure::TooLong { limit }),
            Err(interrupt) if good => return Err(Failure::Unreachable(interrupt.into())),
            // What a refusal says at length is not needed.
            Ok(Some(_)) | Err(_) => break,
        }
    }
    match good {
        true => Ok(Said::Answer { headers: hop.headers, body: text }),
        false => Err(super::client::refused(&hop, text.into())),
    }
}
