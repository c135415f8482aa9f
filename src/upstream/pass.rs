//! Handing a request on to a hub as it is, unbuffered in both directions.

use std::error::Error;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Incoming};
use url::Url;

use super::redirect::{is_redirect, same_origin, target};
use super::{Client, Failure};
use crate::model::Hub;

/// The body of an answer that is handed on.
pub type PassBody = Incoming;

/// Hop-by-hop fields (RFC 9110, section 7.6.1), and those that only concern a proxy.
const HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

impl Client {
    /// Hands `request` on to `hub` under `path_and_query`; the answer's fields are made fit for the client. A redirect
    /// within the hub's own origin is handed on without its host.
    ///
    /// # Errors
    /// When the hub cannot be reached or does not answer in time.
    pub async fn pass<B>(
        &self,
        hub: Hub,
        path_and_query: &str,
        request: Request<B>,
    ) -> Result<Response<PassBody>, Failure>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let url = format!("{}{path_and_query}", self.root(hub));
        let url = Url::parse(&url).map_err(|e| Failure::Unreachable(e.into()))?;
        let (head, body) = request.into_parts();
        let mut headers = head.headers;
        drop_hop_by_hop(&mut headers);
        headers.remove(header::HOST);
        headers.append(header::VIA, HeaderValue::from_static("1.1 hubcache"));
        let mut request = Request::new(body.map_err(Into::into).boxed_unsync());
        *request.method_mut() = head.method;
        *request.uri_mut() =
            url.as_str().parse().map_err(|_| Failure::BadRedirect("has an unreadable target"))?;
        *request.headers_mut() = headers;
        self.telemetry.upstream_request(hub);
        let answer = tokio::time::timeout(self.settings.head_timeout, self.pool.request(request))
            .await
            .map_err(|_| Failure::TimedOut)?
            .map_err(|e| Failure::Unreachable(e.into()))?;
        Ok(fit_for_client(&url, answer))
    }
}

fn fit_for_client(url: &Url, mut answer: Response<Incoming>) -> Response<Incoming> {
    let local = match is_redirect(answer.status()) {
        true => target(url, answer.headers()).ok().filter(|to| same_origin(&url.origin(), to)),
        false => None,
    };
    let headers = answer.headers_mut();
    drop_hop_by_hop(headers);
    headers.remove(header::SET_COOKIE);
    if let Some(to) = local {
        let rest = match to.query() {
            Some(query) => format!("{}?{query}", to.path()),
            None => to.path().to_owned(),
        };
        if let Ok(value) = HeaderValue::try_from(rest) {
            headers.insert(header::LOCATION, value);
        }
    }
    answer
}

fn drop_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .filter_map(|name| HeaderName::try_from(name.trim()).ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_one_hop_are_dropped_with_those_that_connection_names() {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONNECTION, HeaderValue::from_static("close, X-Once"));
        headers.insert("x-once", HeaderValue::from_static("1"));
        headers.insert(header::PROXY_AUTHORIZATION, HeaderValue::from_static("Basic x"));
        headers.insert("x-kept", HeaderValue::from_static("1"));
        drop_hop_by_hop(&mut headers);
        assert_eq!(headers.len(), 1);
        assert!(headers.contains_key("x-kept"));
    }
}
