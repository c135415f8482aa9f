//! A body that comes as a fault has it.

use std::fmt;
use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

/// How long a client is held that does not leave a body that has stalled.
const LONGEST_STALL: Duration = Duration::from_secs(600);
/// Longest silence of the server within a body.
const SILENCE: Duration = Duration::from_secs(300);
/// Between the last byte and the break, so that what was handed over is on its way; the connection would drop it.
const BEFORE_BREAK: Duration = Duration::from_millis(100);
/// How many times in a second a slow body goes on, if it has as many bytes.
const STEPS_PER_SECOND: u64 = 20;

/// How a body comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    AsItIs,
    /// No faster than this.
    Slow {
        bytes_per_second: u64,
    },
    /// With one bit of the byte at this place changed.
    WrongByte {
        at: u64,
    },
    /// So many bytes of it, or fewer if it ends before.
    Until {
        size: u64,
        then: Then,
    },
    /// It has `size` bytes and is announced as one of `as_size`.
    Announced {
        size: u64,
        as_size: u64,
    },
}

/// What comes after the last byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// The end that was announced.
    End,
    /// Nothing, and no end.
    Stall,
    /// The end of the connection.
    Break,
}

/// Why a body was broken off: the client sees a connection that ends early, never a clean end.
#[derive(Debug)]
pub enum Broken {
    /// A rule says so.
    OnPurpose,
    /// The server has sent nothing for too long.
    Silent,
    /// The connection to the server broke.
    Lost(Box<dyn std::error::Error + Send + Sync>),
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OnPurpose => f.write_str("a rule breaks the body off"),
            Self::Silent => write!(f, "nothing came for {} s", SILENCE.as_secs()),
            Self::Lost(_) => f.write_str("the connection to the server broke"),
        }
    }
}

impl std::error::Error for Broken {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::OnPurpose | Self::Silent => None,
            Self::Lost(e) => Some(e.as_ref()),
        }
    }
}

/// The body `B` of a server's answer, as the client gets it. It ends when `B` does, unless its manner says otherwise.
///
/// | it is | until | then |
/// |---|---|---|
/// | flowing | a piece of a slow body was handed over | pausing |
/// | pausing | the piece has taken its time | flowing |
/// | flowing | the last byte that the manner allows | over, or about to break |
/// | about to break | a moment, or as long as a stall may take | over, with an error |
pub struct Spoilt<B> {
    /// Dropped with the last byte, which ends the connection to the server.
    inner: Option<B>,
    manner: Manner,
    state: State,
    /// What came of a slow body and is not due yet.
    early: Bytes,
    handed_over: u64,
    /// Bytes that the client is still told to expect, if their number is announced.
    expected: Option<u64>,
    /// The silence of the server, a pause, or what is left until the break.
    timer: Pin<Box<Sleep>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Flowing,
    Pausing,
    Breaking,
    Over,
}

impl<B: Body<Data = Bytes> + Unpin> Spoilt<B> {
    pub(super) fn new(inner: B, manner: Manner) -> Self {
        let (manner, expected) = match manner {
            Manner::Announced { size, as_size } => {
                let then = if as_size > size { Then::Break } else { Then::End };
                (Manner::Until { size: size.min(as_size), then }, Some(as_size))
            }
            _ => (manner, inner.size_hint().exact()),
        };
        Self {
            inner: Some(inner),
            manner,
            state: State::Flowing,
            early: Bytes::new(),
            handed_over: 0,
            expected,
            timer: Box::pin(tokio::time::sleep(SILENCE)),
        }
    }

    fn wait(&mut self, state: State, how_long: Duration) {
        self.state = state;
        self.timer.as_mut().reset(Instant::now() + how_long);
    }

    /// How many more bytes the manner allows.
    fn allowed(&self) -> u64 {
        match self.manner {
            Manner::Until { size, .. } => size.saturating_sub(self.handed_over),
            _ => u64::MAX,
        }
    }

    /// No more bytes come, by the manner or because there are none.
    fn end(&mut self) {
        self.inner = None;
        match self.manner {
            Manner::Until { then: Then::Stall, .. } => self.wait(State::Breaking, LONGEST_STALL),
            Manner::Until { then: Then::Break, .. } => self.wait(State::Breaking, BEFORE_BREAK),
            _ => self.state = State::Over,
        }
    }

    /// The next of what the server sends; `None` at its end.
    fn poll_inner(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>>
    where
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        if !self.early.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.early)))));
        }
        let Some(inner) = &mut self.inner else { return Poll::Ready(None) };
        match Pin::new(inner).poll_frame(cx) {
            Poll::Ready(frame) => {
                self.timer.as_mut().reset(Instant::now() + SILENCE);
                Poll::Ready(frame.map(|frame| frame.map_err(|error| Broken::Lost(error.into()))))
            }
            Poll::Pending => self.timer.as_mut().poll(cx).map(|()| Some(Err(Broken::Silent))),
        }
    }

    /// What the client gets of these bytes now.
    fn piece(&mut self, mut data: Bytes) -> Bytes {
        match self.manner {
            Manner::Slow { bytes_per_second } => {
                let step = (bytes_per_second / STEPS_PER_SECOND).max(1);
                if (data.len() as u64) > step {
                    self.early = data.split_off(step as usize);
                }
                let pause = Duration::from_secs_f64(data.len() as f64 / bytes_per_second as f64);
                self.wait(State::Pausing, pause);
            }
            Manner::WrongByte { at } => {
                let within = at.checked_sub(self.handed_over).and_then(|at| usize::try_from(at).ok());
                if let Some(within) = within.filter(|within| *within < data.len()) {
                    let mut changed = Vec::from(data);
                    changed[within] ^= 1;
                    data = changed.into();
                }
            }
            Manner::Until { .. } => {
                data.truncate(usize::try_from(self.allowed()).unwrap_or(usize::MAX));
            }
            Manner::AsItIs | Manner::Announced { .. } => {}
        }
        let size = data.len() as u64;
        self.handed_over += size;
        self.expected = self.expected.map(|expected| expected.saturating_sub(size));
        data
    }

    /// What the client gets next while bytes flow; `None` at their end.
    fn poll_flowing(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>>
    where
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        if self.allowed() == 0 {
            return Poll::Ready(None);
        }
        let frame = match ready!(self.poll_inner(cx)) {
            Some(Ok(frame)) => frame,
            other => return Poll::Ready(other),
        };
        Poll::Ready(match frame.into_data() {
            Ok(data) => Some(Ok(Frame::data(self.piece(data)))),
            // Trailers come behind the last byte, where another end may be due.
            Err(_) if matches!(self.manner, Manner::Until { .. }) => None,
            Err(trailers) => Some(Ok(trailers)),
        })
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Spoilt<B>
where
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        loop {
            match self.state {
                State::Flowing => match ready!(self.poll_flowing(cx)) {
                    Some(frame) => return Poll::Ready(Some(frame)),
                    None => self.end(),
                },
                State::Pausing => {
                    ready!(self.timer.as_mut().poll(cx));
                    self.wait(State::Flowing, SILENCE);
                }
                State::Breaking => {
                    ready!(self.timer.as_mut().poll(cx));
                    self.state = State::Over;
                    return Poll::Ready(Some(Err(Broken::OnPurpose)));
                }
                State::Over => return Poll::Ready(None),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match (self.expected, &self.inner) {
            (Some(expected), _) => expected == 0,
            (None, Some(inner)) => self.manner == Manner::AsItIs && inner.is_end_stream(),
            (None, None) => self.state == State::Over,
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.expected.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

#[cfg(test)]
mod tests;
