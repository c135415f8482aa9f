//! Bytes to the client: one body type for every source, which knows how it ended.

mod stored;

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt as _};
use http_body::{Body as HttpBody, Frame, SizeHint};

pub use stored::{Stored, place};

use crate::throttle::Sluice;
use crate::upstream::PassBody;

/// Why a body was broken off: the client sees a connection that ends early, never a clean end.
#[derive(Debug)]
pub struct Broken(pub Box<dyn std::error::Error + Send + Sync>);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the body was broken off")
    }
}

impl std::error::Error for Broken {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(self.0.as_ref())
    }
}

/// How a body ended.
#[derive(Debug)]
pub enum BodyEnd {
    /// Every byte was handed over.
    Complete,
    /// Broken off here.
    Broken(Broken),
    /// Dropped before its end: the client went away.
    Dropped,
}

type OnEnd = Box<dyn FnOnce(BodyEnd, u64) + Send>;

/// The body of a response.
pub struct Body {
    source: Source,
    /// Bytes still to come, where that is known.
    remaining: Option<u64>,
    sent: u64,
    on_end: Option<OnEnd>,
    /// Where its bytes wait for their turn, if they are slowed down.
    sluice: Option<Box<Sluice>>,
}

enum Source {
    Empty,
    Full(Option<Bytes>),
    Stored(Stored),
    Stream(BoxStream<'static, Result<Bytes, Broken>>),
    Passed(PassBody),
}

impl Body {
    /// No bytes.
    pub fn empty() -> Self {
        Self::new(Source::Empty, Some(0))
    }

    /// Bytes that are in memory.
    pub fn full(bytes: Bytes) -> Self {
        let size = bytes.len() as u64;
        Self::new(Source::Full(Some(bytes)), Some(size))
    }

    /// A stretch of a blob.
    pub fn stored(stored: Stored) -> Self {
        let size = stored.remaining();
        Self::new(Source::Stored(stored), Some(size))
    }

    /// Bytes as they come; `size` of them, where that is known.
    pub fn stream(stream: BoxStream<'static, Result<Bytes, Broken>>, size: Option<u64>) -> Self {
        Self::new(Source::Stream(stream), size)
    }

    /// The body of a hub's answer, handed on.
    pub fn passed(body: PassBody) -> Self {
        let size = body.size_hint().exact();
        Self::new(Source::Passed(body), size)
    }

    /// All of it, if it is in memory and nothing of it was handed over yet.
    pub fn whole(&self) -> Option<Bytes> {
        match &self.source {
            Source::Empty => Some(Bytes::new()),
            Source::Full(bytes) => bytes.clone(),
            Source::Stored(_) | Source::Stream(_) | Source::Passed(_) => None,
        }
    }

    /// Whether it comes from the hub as it is.
    pub fn is_passed(&self) -> bool {
        matches!(self.source, Source::Passed(_))
    }

    /// Calls `f` once, with the number of bytes handed over, when the body has ended in whatever way.
    #[must_use]
    pub fn on_end(mut self, f: impl FnOnce(BodyEnd, u64) + Send + 'static) -> Self {
        self.on_end = Some(Box::new(f));
        self
    }

    /// Sends its bytes through `sluice`.
    #[must_use]
    pub fn through(mut self, sluice: Option<Box<Sluice>>) -> Self {
        self.sluice = sluice;
        self
    }

    fn new(source: Source, remaining: Option<u64>) -> Self {
        Self { source, remaining, sent: 0, on_end: None, sluice: None }
    }

    fn ended(&mut self, how: BodyEnd) {
        if let Some(f) = self.on_end.take() {
            f(how, self.sent);
        }
    }

    fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let data = match &mut self.source {
            Source::Empty => None,
            Source::Full(bytes) => bytes.take().filter(|b| !b.is_empty()).map(Ok),
            Source::Stored(stored) => ready!(stored.poll_next(cx)),
            Source::Stream(stream) => ready!(stream.poll_next_unpin(cx)),
            Source::Passed(body) => {
                let frame = ready!(Pin::new(body).poll_frame(cx));
                return Poll::Ready(frame.map(|f| f.map_err(|e| Broken(e.into()))));
            }
        };
        Poll::Ready(data.map(|d| d.map(Frame::data)))
    }
}

impl Body {
    /// As [`Body::poll_source`], at the pace of the sluice. The source is asked for nothing while bytes wait.
    fn poll_slowly(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        loop {
            let Some(sluice) = &mut self.sluice else { return self.poll_source(cx) };
            if sluice.held() > 0 {
                if let Source::Stored(stored) = &self.source
                    && let Err(broken) = stored.is_sound()
                {
                    return Poll::Ready(Some(Err(broken)));
                }
                return sluice.poll(cx).map(|bytes| Some(Ok(Frame::data(bytes))));
            }
            let frame = match ready!(self.poll_source(cx)) {
                Some(Ok(frame)) => frame.into_data(),
                other => return Poll::Ready(other),
            };
            match (frame, &mut self.sluice) {
                (Ok(bytes), Some(sluice)) => sluice.hold(bytes),
                (Ok(bytes), None) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
                (Err(frame), _) => return Poll::Ready(Some(Ok(frame))),
            }
        }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let frame = ready!(match self.sluice {
            None => self.poll_source(cx),
            Some(_) => self.poll_slowly(cx),
        });
        match &frame {
            None => self.ended(BodyEnd::Complete),
            Some(Ok(frame)) => {
                let size = frame.data_ref().map_or(0, |d| d.len() as u64);
                self.sent += size;
                self.remaining = self.remaining.map(|r| r.saturating_sub(size));
            }
            Some(Err(_)) => {
                // The connection is told to break; the cause goes to whoever writes the log line.
                let Some(Err(error)) = frame else { unreachable!("matched above") };
                let cause: Box<dyn std::error::Error + Send + Sync> = error.to_string().into();
                self.ended(BodyEnd::Broken(error));
                return Poll::Ready(Some(Err(Broken(cause))));
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        // A body of a known length needs no further poll to be known as ended.
        self.remaining == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.remaining.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        let end = if self.remaining == Some(0) { BodyEnd::Complete } else { BodyEnd::Dropped };
        self.ended(end);
    }
}
