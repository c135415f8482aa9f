//! The operators' door: health and metrics over HTTP, and commands over a socket in the data directory.
//!
//! The HTTP side listens on an address of its own and answers only when the `Host` of a request is this machine's
//! loopback or was configured: a web page that has its own name resolved to 127.0.0.1 sends that name, and gets
//! nothing.

pub mod control;
mod host;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;

pub use host::HostName;

use crate::store::Store;
use crate::telemetry::{METRICS_CONTENT_TYPE, Telemetry};

/// The settings of the operators' door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where it listens; port 0 lets the system choose.
    pub address: SocketAddr,
    /// Host names beside those of the loopback that it answers to.
    pub hosts: Vec<HostName>,
}

/// What the operators' door tells.
pub struct Door {
    store: Store,
    telemetry: Telemetry,
    hosts: Vec<HostName>,
    stopping: AtomicBool,
}

impl Door {
    /// A door that tells about `store` and `telemetry`, to those who call it by its name or one of `hosts`.
    pub fn new(store: Store, telemetry: Telemetry, hosts: Vec<HostName>) -> Self {
        Self { store, telemetry, hosts, stopping: AtomicBool::new(false) }
    }

    /// From now on `/readyz` says that this process takes no new clients.
    pub fn stopping(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Answers one request.
    pub async fn handle<B>(self: Arc<Self>, request: Request<B>) -> Response<Full<Bytes>> {
        if !host::is_answered(&request, &self.hosts) {
            return text(StatusCode::MISDIRECTED_REQUEST, WRONG_HOST);
        }
        if request.method() != Method::GET && request.method() != Method::HEAD {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match request.uri().path() {
            "/healthz" => text(StatusCode::OK, "ok\n"),
            "/readyz" => self.ready(),
            "/metrics" => self.metrics(),
            _ => text(StatusCode::NOT_FOUND, "here are /healthz, /readyz and /metrics\n"),
        }
    }

    /// Whether requests can be served; a hub that is down is no reason not to serve what is held.
    fn ready(&self) -> Response<Full<Bytes>> {
        if self.stopping.load(Ordering::Relaxed) {
            return text(StatusCode::SERVICE_UNAVAILABLE, "stopping\n");
        }
        match self.store.ready() {
            Ok(()) => text(StatusCode::OK, "ready\n"),
            Err(reason) => {
                text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {}\n", control::chain(&reason)))
            }
        }
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        self.telemetry.set_cache_bytes(self.store.usage().disk_bytes);
        let mut response = text(StatusCode::OK, self.telemetry.render());
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(METRICS_CONTENT_TYPE));
        response
    }
}

const WRONG_HOST: &str = "\
this is the operators' door of hubcache; it answers only to localhost, a loopback address,
or a name that is listed in the setting admin.hosts
";

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests;
