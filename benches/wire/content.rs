//! The files that are sent: numbered, endless in number, and known to whoever knows their number.
//!
//! A file is a part of one random pattern, repeated. So both ends know every byte of it, and neither reads a disk. The
//! pattern's length is prime, so that no chunk of a file is like another, nor like one of another file.

use std::io::{self, Write};
use std::ops::Range;
use std::sync::LazyLock;

use bytes::Bytes;
use sha2::Digest as _;

/// Bytes of the pattern: the largest prime below 32 MiB.
const PATTERN: usize = (32 << 20) - 39;
/// How far the file of the next number is shifted.
const SHIFT: u64 = 1_000_003;
const SEED: u64 = 4;

static BYTES: LazyLock<Bytes> = LazyLock::new(|| {
    let mut bytes = vec![0; PATTERN];
    fastrand::Rng::with_seed(SEED).fill(&mut bytes);
    bytes.into()
});

/// One file.
#[derive(Clone, Copy, Debug)]
pub struct Content {
    /// Which file it is.
    pub number: u64,
    /// Its length in bytes.
    pub size: u64,
}

impl Content {
    /// The name of the file in URLs.
    pub fn name(self) -> String {
        format!("file-{}.bin", self.number)
    }

    /// What `range` of the file holds, up to `most` bytes, as far as it lies in one piece.
    pub fn piece(self, range: &Range<u64>, most: usize) -> Bytes {
        let at = (range.start + self.number * SHIFT) % PATTERN as u64;
        let at = usize::try_from(at).expect("shorter than the pattern");
        let left = usize::try_from(range.end.min(self.size) - range.start).unwrap_or(usize::MAX);
        BYTES.slice(at..at + most.min(left).min(PATTERN - at))
    }

    /// Whether the file holds `bytes` at `start`.
    pub fn holds(self, start: u64, bytes: &[u8]) -> bool {
        let range = start..start + bytes.len() as u64;
        range.end <= self.size && self.pieces(range, PATTERN).eq_concatenated(bytes)
    }

    /// The file from one end of `range` to the other, in pieces of `most` bytes at most.
    pub fn pieces(self, range: Range<u64>, most: usize) -> Pieces {
        Pieces { content: self, range, most }
    }

    /// The digest that a hub promises of the file.
    pub fn sha256(self) -> [u8; 32] {
        let mut hash = sha2::Sha256::new();
        self.pieces(0..self.size, PATTERN).for_each(|piece| hash.update(&piece));
        hash.finalize().into()
    }

    /// Writes the whole file.
    pub fn write_to(self, out: &mut impl Write, most: usize) -> io::Result<()> {
        self.pieces(0..self.size, most).try_for_each(|piece| out.write_all(&piece))
    }
}

/// The pieces of a part of a file.
pub struct Pieces {
    content: Content,
    range: Range<u64>,
    most: usize,
}

impl Pieces {
    fn eq_concatenated(self, bytes: &[u8]) -> bool {
        let mut left = bytes;
        for piece in self {
            let (front, rest) = left.split_at(piece.len());
            if front != &*piece {
                return false;
            }
            left = rest;
        }
        left.is_empty()
    }
}

impl Iterator for Pieces {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.range.is_empty() {
            return None;
        }
        let piece = self.content.piece(&self.range, self.most);
        self.range.start += piece.len() as u64;
        Some(piece)
    }
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
