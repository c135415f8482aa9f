//! The body of a file on its way from a hub.

use std::collections::VecDeque;
use std::fmt;
use std::io::Write as _;
use std::time::Duration;

use bytes::Bytes;
use flate2::write::MultiGzDecoder;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::sync::OwnedSemaphorePermit;

/// Encoded bytes decoded at a time: deflate expands at most about 1032 times, so a step yields at most 2 MiB.
const DECODE_STEP: usize = 2048;

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
    _permit: OwnedSemaphorePermit,
}

struct Gzip {
    decoder: Option<MultiGzDecoder<Vec<u8>>>,
    encoded: VecDeque<Bytes>,
}

impl FileBody {
    pub(super) fn new(incoming: Incoming, gzip: bool, stall: Duration, permit: OwnedSemaphorePermit) -> Self {
        let gzip =
            gzip.then(|| Gzip { decoder: Some(MultiGzDecoder::new(Vec::new())), encoded: VecDeque::new() });
        Self { incoming, gzip, stall, received: 0, _permit: permit }
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
            if let Some(piece) = self.gzip.as_mut().and_then(|g| g.encoded.pop_front()) {
                let gzip = self.gzip.as_mut().expect("a piece was taken from it");
                let decoder = gzip.decoder.as_mut().expect("kept until the end of the body");
                decoder.write_all(&piece).map_err(Interrupt::Undecodable)?;
                let decoded = std::mem::take(decoder.get_mut());
                if !decoded.is_empty() {
                    return Ok(Some(Bytes::from(decoded)));
                }
                continue;
            }
            let Some(piece) = self.frame().await? else {
                return self.rest();
            };
            match &mut self.gzip {
                None => return Ok(Some(piece)),
                Some(gzip) => {
                    let mut piece = piece;
                    while !piece.is_empty() {
                        gzip.encoded.push_back(piece.split_to(piece.len().min(DECODE_STEP)));
                    }
                }
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
                        return Ok(Some(data));
                    }
                    // Trailers and empty frames carry nothing of the file.
                    _ => {}
                },
            }
        }
    }

    fn rest(&mut self) -> Result<Option<Bytes>, Interrupt> {
        let Some(decoder) = self.gzip.as_mut().and_then(|g| g.decoder.take()) else { return Ok(None) };
        let decoded = decoder.finish().map_err(Interrupt::Undecodable)?;
        Ok((!decoded.is_empty()).then(|| Bytes::from(decoded)))
    }
}
