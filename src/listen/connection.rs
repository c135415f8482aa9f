//! One connection from its first byte to its last.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep_until};

use super::clock::{Clock, Overdue};
use super::stream::Watched;
use super::{Limits, Peer};

// A request line and headers of more than this are answered with 431; so are more than 100 headers, which is
// hyper's own limit (setting it, even to the same number, moves the headers of each request to the heap).
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// Serves requests on `stream` until the client leaves, a deadline passes, or `stop` says to finish up.
pub async fn drive<S, F, Fut, B>(
    stream: S,
    peer: Peer,
    limits: Limits,
    handler: &F,
    mut stop: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Unpin,
    F: Fn(Request<Incoming>, Peer) -> Fut,
    Fut: Future<Output = Response<B>>,
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let clock = Clock::new(Instant::now());
    let service = service_fn(|request: Request<Incoming>| {
        clock.request_began(!request.body().is_end_stream(), Instant::now());
        // Made before the handler runs, so that the request ends also when the handler is dropped half-way.
        let end = RequestEnd(clock.clone());
        let response = handler(request, peer);
        async move { Ok::<_, Infallible>(response.await.map(|body| Tracked { body, _end: end })) }
    });
    let io = TokioIo::new(Watched::new(stream, clock.clone()));
    let served = http1::Builder::new()
        .header_read_timeout(None)
        .max_header_size(MAX_HEAD_BYTES)
        .serve_connection(io, service);
    let mut served = pin!(served);
    let mut alarm = pin!(sleep_until(Instant::now() + limits.header_timeout));
    let mut stopping = false;
    loop {
        tokio::select! {
            // First the connection, because serving moves the deadline that is looked at next.
            biased;
            result = served.as_mut() => {
                if let Err(error) = result {
                    tracing::debug!(peer = %peer.addr, %error, "the connection ended with an error");
                }
                return;
            }
            overdue = expired(&clock, &limits, alarm.as_mut()) => {
                tracing::debug!(peer = %peer.addr, waited_for = overdue.name(), "the connection timed out");
                return;
            }
            // An error means that the server is gone, which is a stop as well.
            _ = stop.wait_for(|stop| *stop), if !stopping => {
                stopping = true;
                served.as_mut().graceful_shutdown();
            }
        }
    }
}

/// Ends when the connection's deadline passes, wherever that has moved in the meantime.
async fn expired(clock: &Clock, limits: &Limits, mut alarm: Pin<&mut Sleep>) -> Overdue {
    poll_fn(|cx| {
        loop {
            // Without a deadline nothing needs to wake this: only serving sets one, and then it is polled again.
            let Some((deadline, overdue)) = clock.deadline(limits) else { return Poll::Pending };
            // An alarm that is set too early is left alone, for that is cheaper than moving it with each request.
            if alarm.is_elapsed() || alarm.deadline() > deadline {
                alarm.as_mut().reset(deadline);
            }
            ready!(alarm.as_mut().poll(cx));
            if Instant::now() >= deadline {
                return Poll::Ready(overdue);
            }
        }
    })
    .await
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
    _end: RequestEnd,
}

impl<B: Body + Unpin> Body for Tracked<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
