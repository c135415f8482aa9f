//! One connection from its first byte to its last.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, header};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite, BufWriter};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::clock::{Clock, expired};
use super::given::certificate;
use super::passage::{self, Client, handshake};
use super::stream::Watched;
use super::strict::MAX_HEAD_BYTES;
use super::{Interceptor, Limits, Speaks};
use crate::policy::Peer;
use crate::proxy::{Handled, Passage};
use crate::request::Arrival;
use crate::telemetry::Telemetry;

// HTTP/2: requests at a time on one connection, and what of their responses waits in memory for each.
const MAX_STREAMS: u32 = 100;
const MAX_SEND_BUFFER: usize = 256 * 1024;
const FRAMES_BUFFER: usize = 64 * 1024;
// Within TLS: plain bytes that are encrypted at a time.
const TLS_BUFFER: usize = 256 * 1024;

/// What bytes come and go over.
trait Io: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Io for S {}

/// Answers requests.
pub trait Handler: Send + Sync + 'static {
    /// The bodies of its responses.
    type Body: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>>
        + Send
        + Unpin
        + 'static;

    /// An answer on its way.
    type Answer: Future<Output = Handled<Self::Body>> + Send + 'static;

    /// Answers one.
    fn handle(&self, request: Request<Incoming>, peer: Peer, arrival: Arrival) -> Self::Answer;
}

impl<F, Fut, B> Handler for F
where
    F: Fn(Request<Incoming>, Peer, Arrival) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Handled<B>> + Send + 'static,
    B: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + Unpin + 'static,
{
    type Body = B;
    type Answer = Fut;

    fn handle(&self, request: Request<Incoming>, peer: Peer, arrival: Arrival) -> Fut {
        self(request, peer, arrival)
    }
}

/// What is done with every connection of a listener.
pub struct Service<H> {
    /// Answers requests.
    pub handler: H,
    /// What bounds connections.
    pub limits: Limits,
    /// What is spoken on them.
    pub speaks: Speaks,
    /// Counts when a limit bites.
    pub telemetry: Telemetry,
}

/// Serves requests on `stream` until the client leaves, a deadline passes, or `stop` says to finish up.
pub async fn drive<H: Handler>(
    stream: TcpStream,
    peer: Peer,
    service: Arc<Service<H>>,
    stop: watch::Receiver<bool>,
) {
    match &service.speaks {
        Speaks::Plain(interceptor) => {
            let passed = http1(stream, peer.clone(), &service, Arrival::Plain, stop.clone()).await;
            let Some((upgrade, passage)) = passed else { return };
            let Ok(upgraded) = upgrade.await else { return };
            let client = TokioIo::new(upgraded);
            // On the heap, so that connections without a tunnel do not pay for it.
            Box::pin(follow(client, passage, interceptor.as_deref(), peer, &service, stop)).await;
        }
        Speaks::Tls(given) => {
            let acceptor = TlsAcceptor::from(given.config());
            let over_tls = async {
                if let Some(stream) = handshake(acceptor, stream, &peer, &service.limits).await {
                    let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
                    let certificate = shown.and_then(certificate).map(Arc::new);
                    http(stream, Peer { certificate, ..peer }, &service, Arrival::Tls, stop).await;
                }
            };
            Box::pin(over_tls).await;
        }
    }
}

/// Does what follows CONNECT.
async fn follow<H: Handler>(
    client: Client,
    passage: Passage,
    interceptor: Option<&Interceptor>,
    peer: Peer,
    service: &Arc<Service<H>>,
    stop: watch::Receiver<bool>,
) {
    match (passage, interceptor) {
        (Passage::Relay(server), _) => passage::relay(client, server, &peer, service.limits, stop).await,
        (Passage::Intercept(host, who), Some(interceptor)) => {
            let stream = passage::intercept(client, &host, interceptor, &peer, &service.limits).await;
            if let Some(stream) = stream {
                http(stream, Peer { who: Some(who), ..peer }, service, Arrival::Tunnel(host), stop).await;
            }
        }
        (Passage::Intercept(..), None) => {}
    }
}

/// Serves HTTP within TLS, as was agreed upon in the handshake.
async fn http<S: Io, H: Handler>(
    mut stream: TlsStream<S>,
    peer: Peer,
    service: &Arc<Service<H>>,
    arrival: Arrival,
    stop: watch::Receiver<bool>,
) {
    let tls = stream.get_mut().1;
    tls.set_buffer_limit(Some(TLS_BUFFER));
    match tls.alpn_protocol() {
        Some(b"h2") => http2(stream, peer, service, arrival, stop).await,
        // There is no tunnel within a tunnel, so nothing can follow.
        _ => drop(http1(stream, peer, service, arrival, stop).await),
    }
}

/// Serves HTTP/1.1; returns what follows on the connection, if it became a tunnel.
async fn http1<S: Io, H: Handler>(
    stream: S,
    peer: Peer,
    service: &Arc<Service<H>>,
    arrival: Arrival,
    stop: watch::Receiver<bool>,
) -> Option<(OnUpgrade, Passage)> {
    let clock = Clock::new(Instant::now());
    let tunnel = Mutex::new(None);
    let respond = service_fn(|mut request: Request<Incoming>| {
        clock.request_began(!request.body().is_end_stream(), Instant::now());
        // Made before the handler runs, so that the request ends also when the handler is dropped half-way.
        let end = RequestEnd(clock.clone());
        let upgrade = (*request.method() == Method::CONNECT).then(|| hyper::upgrade::on(&mut request));
        // What comes behind a chunked body is not looked at before it is read, so nothing may.
        let is_last = request.headers().contains_key(header::TRANSFER_ENCODING);
        let handled = service.handler.handle(request, peer.clone(), arrival.clone());
        let tunnel = &tunnel;
        async move {
            let Handled { mut response, passage } = handled.await;
            // Behind a CONNECT request nothing is looked at either.
            let is_last = is_last || upgrade.is_some() && passage.is_none();
            if let (Some(upgrade), Some(passage)) = (upgrade, passage) {
                *lock(tunnel) = Some((upgrade, passage));
            }
            if is_last {
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response.map(|body| Tracked { body, gave: false, end, many: false }))
        }
    });
    let io = TokioIo::new(Watched::strict(stream, clock.clone()));
    let served = http1::Builder::new()
        .header_read_timeout(None)
        .max_header_size(MAX_HEAD_BYTES)
        .serve_connection(io, respond)
        .with_upgrades();
    let mut served = pin!(served);
    let step = |step: Step<'_, '_>| match step {
        Step::Serve(cx) => served.as_mut().poll(cx),
        Step::WindDown => {
            served.as_mut().graceful_shutdown();
            Poll::Pending
        }
    };
    until_over(step, &clock, &peer, &service.limits, stop).await;
    lock(&tunnel).take()
}

fn lock<T>(tunnel: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // It holds one assignment, which is not left half done.
    tunnel.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Serves HTTP/2.
async fn http2<S: Io, H: Handler>(
    stream: S,
    peer: Peer,
    service: &Arc<Service<H>>,
    arrival: Arrival,
    stop: watch::Receiver<bool>,
) {
    let clock = Clock::of_streams(Instant::now());
    let (service_of_streams, clock_of_streams, peer_of_streams) =
        (Arc::clone(service), clock.clone(), peer.clone());
    let respond = service_fn(move |request: Request<Incoming>| {
        clock_of_streams.request_began(!request.body().is_end_stream(), Instant::now());
        let end = RequestEnd(clock_of_streams.clone());
        let handled = service_of_streams.handler.handle(request, peer_of_streams.clone(), arrival.clone());
        async move {
            let Handled { response, .. } = handled.await;
            Ok::<_, Infallible>(response.map(|body| Tracked { body, gave: false, end, many: true }))
        }
    });
    // Each frame is written by itself, a little longer than a TLS record: without this it would be two of those.
    let stream = BufWriter::with_capacity(FRAMES_BUFFER, stream);
    let io = TokioIo::new(Watched::new(stream, clock.clone()));
    let mut served = http2::Builder::new(TokioExecutor::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_send_buf_size(MAX_SEND_BUFFER)
        .max_header_list_size(MAX_HEAD_BYTES as u32)
        .serve_connection(io, respond);
    let step = |step: Step<'_, '_>| match step {
        Step::Serve(cx) => Pin::new(&mut served).poll(cx),
        Step::WindDown => {
            Pin::new(&mut served).graceful_shutdown();
            Poll::Pending
        }
    };
    until_over(step, &clock, &peer, &service.limits, stop).await;
}

/// What is done with a connection, whichever protocol it has.
enum Step<'a, 'b> {
    /// It is served on.
    Serve(&'a mut Context<'b>),
    /// No further request is to come.
    WindDown,
}

/// Runs a connection until it is over by itself or a deadline passes.
async fn until_over(
    mut step: impl FnMut(Step<'_, '_>) -> Poll<hyper::Result<()>>,
    clock: &Clock,
    peer: &Peer,
    limits: &Limits,
    mut stop: watch::Receiver<bool>,
) {
    let mut alarm = pin!(sleep_until(Instant::now() + limits.header_timeout));
    let mut stopping = false;
    loop {
        tokio::select! {
            // First the connection, because serving moves the deadline that is looked at next.
            biased;
            result = poll_fn(|cx| step(Step::Serve(cx))) => {
                if let Err(error) = result {
                    tracing::debug!(peer = %peer.addr, %error, "the connection ended with an error");
                }
                return;
            }
            overdue = expired(clock, limits, alarm.as_mut()) => {
                tracing::debug!(peer = %peer.addr, waited_for = overdue.name(), "the connection timed out");
                return;
            }
            // An error means that the server is gone, which is a stop as well.
            _ = stop.wait_for(|stop| *stop), if !stopping => {
                stopping = true;
                let _ = step(Step::WindDown);
            }
        }
    }
}

/// Tells the clock, when dropped, that a request is over.
struct RequestEnd(Clock);

impl Drop for RequestEnd {
    fn drop(&mut self) {
        self.0.request_ended(Instant::now());
    }
}

/// A response body whose end is the end of the request.
struct Tracked<B> {
    body: B,
    /// Whether it has handed over bytes and was not asked for more since.
    gave: bool,
    end: RequestEnd,
    /// Whether there are other responses on the same connection.
    many: bool,
}

impl<B> Tracked<B> {
    fn taken(&mut self) {
        if std::mem::take(&mut self.gave) {
            self.end.0.taken(Instant::now());
        }
    }
}

impl<B> Drop for Tracked<B> {
    fn drop(&mut self) {
        self.taken();
    }
}

impl<B: Body + Unpin> Body for Tracked<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        self.taken();
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if self.many && matches!(frame, Poll::Ready(Some(Ok(_)))) {
            self.gave = true;
            self.end.0.gave();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
