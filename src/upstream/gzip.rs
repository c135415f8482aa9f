//! Decoding bodies that a hub sends gzip-encoded although identity was asked for.

use std::collections::VecDeque;
use std::io::{self, Write as _};

use bytes::Bytes;
use flate2::write::MultiGzDecoder;

/// Encoded bytes decoded at a time: deflate expands at most about 1032 times, so a step yields at most 2 MiB.
const DECODE_STEP: usize = 2048;

/// Takes encoded bytes and gives decoded ones, a step at a time.
pub(super) struct Gzip {
    decoder: Option<MultiGzDecoder<Vec<u8>>>,
    encoded: VecDeque<Bytes>,
}

impl Gzip {
    pub(super) fn new() -> Self {
        Self { decoder: Some(MultiGzDecoder::new(Vec::new())), encoded: VecDeque::new() }
    }

    /// Takes the next encoded bytes.
    pub(super) fn push(&mut self, mut piece: Bytes) {
        while !piece.is_empty() {
            self.encoded.push_back(piece.split_to(piece.len().min(DECODE_STEP)));
        }
    }

    /// Decodes one step of what was pushed; `None` when all of it is decoded.
    pub(super) fn next(&mut self) -> io::Result<Option<Bytes>> {
        while let Some(piece) = self.encoded.pop_front() {
            let decoder = self.decoder.as_mut().expect("kept until the end of the body");
            decoder.write_all(&piece)?;
            let decoded = std::mem::take(decoder.get_mut());
            if !decoded.is_empty() {
                return Ok(Some(Bytes::from(decoded)));
            }
        }
        Ok(None)
    }

    /// The body is over: what was still held back.
    pub(super) fn finish(&mut self) -> io::Result<Option<Bytes>> {
        let Some(decoder) = self.decoder.take() else { return Ok(None) };
        let decoded = decoder.finish()?;
        Ok((!decoded.is_empty()).then(|| Bytes::from(decoded)))
    }
}
