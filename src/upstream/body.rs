//! The body of a file on its way from a hub.

use std::fmt;
use std::time::Duration;

use super::gzip::Gzip;
use super::hosts::Place;
use crate::throttle::Sluice;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

/// Why a body ended before its end.
#[derive(Debug)]
pub enum Interrupt {
    /// The connection was cut or reset.
    Cut(hyper::Error),
    /// Nothing came for longer than the stall limit.
    Stalled(Duration),
    /// The encoded form cannot be decoded.
    Undecodable(std::io::Error),
}

impl fmt::Display for Interrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cut(_) => f.write_str("the connection was cut"),
            Self::Stalled(limit) => write!(f, "nothing came for {} s", limit.as_secs_f32()),
            Self::Undecodable(_) => f.write_str("the gzip form cannot be decoded"),
        }
    }
}

impl std::error::Error for Interrupt {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Cut(e) => Some(e),
            Self::Stalled(_) => None,
            Self::Undecodable(e) => Some(e),
        }
    }
}

/// Yields the identity form of a file's bytes, in order.
pub struct FileBody {
    incoming: Incoming,
    gzip: Option<Gzip>,
    stall: Duration,
    received: u64,
    /// Where its bytes wait for their turn.
    sluice: Option<Box<Sluice>>,
    _place: Place,
}

impl FileBody {
    pub(super) fn new(
        incoming: Incoming,
        gzip: bool,
        stall: Duration,
        sluice: Option<Box<Sluice>>,
        place: Place,
    ) -> Self {
        let gzip = gzip.then(Gzip::new);
        Self { incoming, gzip, stall, received: 0, sluice, _place: place }
    }

    /// Bytes that came over the wire so far, before decoding.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// The next bytes; `None` at the end.
    ///
    /// # Errors
    /// When the body breaks off, stalls, or cannot be decoded.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Interrupt> {
        loop {
            if let Some(gzip) = &mut self.gzip
                && let Some(decoded) = gzip.next().map_err(Interrupt::Undecodable)?
            {
                return Ok(Some(decoded));
            }
            let Some(piece) = self.frame().await? else {
                return self.rest();
            };
            match &mut self.gzip {
                None => return Ok(Some(piece)),
                Some(gzip) => gzip.push(piece),
            }
        }
    }

    async fn frame(&mut self) -> Result<Option<Bytes>, Interrupt> {
        loop {
            let frame = tokio::time::timeout(self.stall, self.incoming.frame())
                .await
                .map_err(|_| Interrupt::Stalled(self.stall))?;
            match frame {
                None => return Ok(None),
                Some(Err(e)) => return Err(Interrupt::Cut(e)),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if !data.is_empty() => {
                        self.received += data.len() as u64;
                        // Meanwhile the hub waits, and is not the one that is late.
                        if let Some(sluice) = &mut self.sluice {
                            sluice.pass(data.len()).await;
                        }
                        return Ok(Some(data));
                    }
                    // Trailers and empty frames carry nothing of the file.
                    _ => {}
                },
            }
        }
    }

    fn rest(&mut self) -> Result<Option<Bytes>, Interrupt> {
        match &mut self.gzip {
            Some(gzip) => gzip.finish().map_err(Interrupt::Undecodable),
            None => Ok(None),
        }
    }
}
