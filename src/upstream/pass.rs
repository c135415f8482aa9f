//! Handing a request on to a hub as it is, unbuffered in both directions.

use std::error::Error;
use std::fmt;
use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header, response};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};
use url::Url;

use super::admission::Asking;
use super::client::RequestBody;
use super::connect::{Connector, Way};
use super::fit::{Fit, Fitting, Unfit};
use super::redirect::{is_redirect, same_origin, target};
use super::sites::Site;
use super::{Client, Failure};
use crate::model::{Hub, Place, via};
use crate::request::{drop_hop_by_hop, is_description};
use crate::throttle::{Throttle, Throttled};

/// Longest wait for the head of an answer that is handed on. It includes the time of an upload, whose own silences
/// the listener bounds, and of whatever the hub computes.
const HEAD_WAIT: Duration = Duration::from_secs(3600);
/// Longest silence within the body of an answer that is handed on.
const SILENCE: Duration = Duration::from_secs(300);

/// The body of an answer that is handed on; it breaks off when the hub is silent for too long, and when it cannot be
/// made fit for the client.
pub struct PassBody {
    incoming: Throttled<Incoming>,
    /// Of a description: what takes out of it that which would lead past this cache.
    fit: Option<Box<Fit>>,
    overdue: Pin<Box<Sleep>>,
}

/// Why a body that was handed on broke off.
#[derive(Debug)]
pub enum PassError {
    /// The connection was cut.
    Cut(hyper::Error),
    /// Nothing came for too long.
    Silent,
    /// It cannot be made fit for the client.
    Unfit(Unfit),
}

impl fmt::Display for PassError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cut(_) => f.write_str("the connection was cut"),
            Self::Silent => write!(f, "nothing came for {} s", SILENCE.as_secs()),
            Self::Unfit(_) => f.write_str("what came cannot be handed on"),
        }
    }
}

impl Error for PassError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Cut(e) => Some(e),
            Self::Silent => None,
            Self::Unfit(e) => Some(e),
        }
    }
}

impl PassBody {
    fn new(incoming: Incoming, fit: Option<Fit>, throttle: Option<&Throttle>) -> Self {
        // Of an answer without a body there is nothing to read.
        let fit = fit.filter(|_| !incoming.is_end_stream()).map(Box::new);
        let incoming = Throttled::new(incoming, throttle);
        Self { incoming, fit, overdue: Box::pin(tokio::time::sleep(SILENCE)) }
    }

    fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, PassError>>> {
        match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Ready(frame) => {
                self.overdue.as_mut().reset(Instant::now() + SILENCE);
                Poll::Ready(frame.map(|f| f.map_err(PassError::Cut)))
            }
            Poll::Pending => self.overdue.as_mut().poll(cx).map(|()| Some(Err(PassError::Silent))),
        }
    }
}

impl Body for PassBody {
    type Data = Bytes;
    type Error = PassError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, PassError>>> {
        loop {
            let Some(fit) = &mut self.fit else { return self.poll_incoming(cx) };
            if let Some(ready) = fit.next().map_err(PassError::Unfit).transpose() {
                return Poll::Ready(Some(ready.map(Frame::data)));
            }
            match ready!(self.poll_incoming(cx)) {
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(frame)) => {
                    // Trailers would describe a body that the client does not get.
                    if let (Ok(data), Some(fit)) = (frame.into_data(), &mut self.fit) {
                        fit.push(data);
                    }
                }
                None => {
                    let rest =
                        self.fit.as_mut().and_then(|fit| fit.finish().map_err(PassError::Unfit).transpose());
                    self.fit = None;
                    return Poll::Ready(rest.map(|r| r.map(Frame::data)));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.fit.is_none() && self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.fit.is_some() { SizeHint::default() } else { self.incoming.size_hint() }
    }
}

impl Client {
    /// Hands `request` on to `hub` under `path_and_query`; the answer's fields are made fit for the client. A redirect
    /// within the hub's own origin is handed on without its host, and what Hugging Face tells of the Xet store is taken
    /// out.
    ///
    /// # Errors
    /// When the hub cannot be reached, does not answer in time, or describes something in an unknown encoding.
    pub async fn pass<B>(
        &self,
        hub: Hub,
        path_and_query: &str,
        fitting: &Fitting,
        request: Request<B>,
    ) -> Result<Response<PassBody>, Failure>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let text = format!("{}{path_and_query}", self.root(hub));
        let url = Url::parse(&text).map_err(|e| Failure::Unreachable(e.into()))?;
        let mut request = self.outgoing(&text, request)?;
        if hub == Hub::HuggingFace && is_description(path_and_query) {
            request.headers_mut().insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        let method = request.method().clone();
        let asking = Asking::path(Site::root(hub), path_and_query, request.headers());
        let sent = self.exchange(request, Way::Root(Site::root(hub)), HEAD_WAIT);
        let answer = self.at_hub(asking, sent).await?;
        let (mut head, body) = answer.into_parts();
        fit_for_client(&url, &mut head);
        let fit = match hub {
            Hub::HuggingFace => {
                let root = self.root(hub);
                Fit::of(&mut head, root, &method, path_and_query, fitting, &self.telemetry)?
            }
            Hub::Mozilla | Hub::Settings => None,
        };
        Ok(Response::from_parts(head, PassBody::new(body, fit, self.downloads.as_ref())))
    }

    /// Hands `request` on to `url` that way, as it is.
    pub(super) async fn pass_to<B>(
        &self,
        site: Site,
        way: Way,
        url: &Url,
        request: Request<B>,
    ) -> Result<Response<PassBody>, Failure>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let request = self.outgoing(url.as_str(), request)?;
        let asking = Asking::path(site, url.path(), request.headers());
        let sent = self.exchange(request, way, HEAD_WAIT);
        let answer = if way == Way::Root(site) { self.at_hub(asking, sent).await? } else { sent.await? };
        let (mut head, body) = answer.into_parts();
        fit_for_client(url, &mut head);
        Ok(Response::from_parts(head, PassBody::new(body, None, self.downloads.as_ref())))
    }

    /// Hands `request` on to its URL, which is no hub's and which a client may name.
    ///
    /// # Errors
    /// When it cannot be reached, or does not answer in time.
    pub async fn forward(&self, request: Request<Incoming>) -> Result<Response<PassBody>, Failure> {
        let request = self.outgoing(&request.uri().to_string(), request)?;
        let answer = self.exchange(request, Way::Client, HEAD_WAIT).await?;
        let (mut head, body) = answer.into_parts();
        drop_hop_by_hop(&mut head.headers);
        Ok(Response::from_parts(head, PassBody::new(body, None, self.downloads.as_ref())))
    }

    /// A connection to a place that a client may name, for bytes that are nothing to this server.
    ///
    /// # Errors
    /// When there is none.
    pub async fn tunnel(&self, place: &Place) -> Result<TcpStream, Failure> {
        let uri = format!("https://{place}").parse();
        let uri = uri.map_err(|e: http::uri::InvalidUri| Failure::Unreachable(e.into()))?;
        let connector = Connector::new(Way::Client, Arc::clone(&self.connect));
        let stream = connector.connect(uri).await.map_err(Failure::of_connection)?;
        Ok(stream.into_tcp())
    }

    /// `request` as it goes on to the URL `text`.
    fn outgoing<B>(&self, text: &str, request: Request<B>) -> Result<Request<RequestBody>, Failure>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let (head, body) = request.into_parts();
        let mut headers = head.headers;
        drop_hop_by_hop(&mut headers);
        headers.remove(header::HOST);
        headers.append(header::VIA, via());
        let body = body.map_err(Into::into).boxed_unsync();
        let body = match &self.uploads {
            Some(throttle) => Throttled::new(body, Some(throttle)).boxed_unsync(),
            None => body,
        };
        let mut request = Request::new(body);
        *request.method_mut() = head.method;
        // From the text, since a parsed URL has encoded more than the client did.
        *request.uri_mut() =
            text.parse().map_err(|e: http::uri::InvalidUri| Failure::Unreachable(e.into()))?;
        *request.headers_mut() = headers;
        Ok(request)
    }
}

fn fit_for_client(url: &Url, head: &mut response::Parts) {
    let local = match is_redirect(head.status) {
        true => target(url, &head.headers).ok().filter(|to| same_origin(&url.origin(), to)),
        false => None,
    };
    let headers = &mut head.headers;
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
}
