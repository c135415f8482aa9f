//! A stream that tells the connection's clock when bytes move, and looks at them on their way in.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::clock::Clock;
use super::strict::Strict;

/// A byte stream that is watched.
#[derive(Debug)]
pub struct Watched<S> {
    inner: S,
    clock: Clock,
    strict: Option<Strict>,
}

impl<S> Watched<S> {
    /// Reports what moves through `inner` to `clock`.
    pub fn new(inner: S, clock: Clock) -> Self {
        Self { inner, clock, strict: None }
    }

    /// The same, and lets only heads of HTTP/1.1 through that are beyond doubt.
    pub fn strict(inner: S, clock: Clock) -> Self {
        Self { inner, clock, strict: Some(Strict::new()) }
    }

    fn note<T>(&self, result: &Poll<io::Result<T>>) {
        match result {
            Poll::Ready(_) => self.clock.wrote(Instant::now()),
            Poll::Pending => self.clock.write_blocked(Instant::now()),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let this = &mut *self;
        let result = Pin::new(&mut this.inner).poll_read(cx, buf);
        if buf.filled().len() > before {
            this.clock.read(Instant::now());
            if let Some(strict) = &mut this.strict
                && let Err(good) = strict.check(&buf.filled()[before..])
            {
                buf.set_filled(before + good);
                // A control character is part of no head, so the parser refuses it and what it belongs to.
                buf.put_slice(&[0]);
            }
        }
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.note(&result);
        result
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.note(&result);
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
