//! A stretch of a blob, as chunks that lie ready in memory, or read ahead by two chunks where they do not.

use std::collections::VecDeque;
use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::task::JoinHandle;

use super::Broken;
use crate::store::{Blob, CHUNK, StoreError};

/// Chunks that are being read or wait to be sent: enough to keep the disk and the socket busy together.
const READ_AHEAD: usize = 2;

/// Yields the bytes of a blob from `start` up to but not including `end`. It holds the blob's lease, and a read
/// transaction only for the moment of each read, so that a slow client pins no freed page.
pub struct Stored {
    blob: Blob,
    position: u64,
    end: u64,
    next_read: u64,
    reads: VecDeque<JoinHandle<Result<Bytes, StoreError>>>,
}

impl Stored {
    /// The stretch `start..end` of `blob`.
    pub fn new(blob: Blob, start: u64, end: u64) -> Self {
        Self { blob, position: start, end, next_read: start, reads: VecDeque::new() }
    }

    /// Bytes still to come.
    pub fn remaining(&self) -> u64 {
        self.end.saturating_sub(self.position)
    }

    /// Whether the bytes are still taken for right.
    ///
    /// # Errors
    /// When they were found damaged meanwhile.
    pub fn is_sound(&self) -> Result<(), Broken> {
        match self.blob.is_condemned() {
            true => Err(Broken(self.blob.condemned().into())),
            false => Ok(()),
        }
    }

    /// The next bytes; `None` at the end.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Broken>>> {
        if self.position >= self.end {
            return Poll::Ready(None);
        }
        // What was read ahead may be what is damaged.
        if let Err(broken) = self.is_sound() {
            return Poll::Ready(Some(Err(broken)));
        }
        if let Some(chunk) = self.at_hand() {
            return Poll::Ready(Some(Ok(self.part(&chunk))));
        }
        self.read_ahead();
        let Some(read) = self.reads.front_mut() else { return Poll::Ready(None) };
        let read = ready!(Pin::new(read).poll(cx));
        self.reads.pop_front();
        let chunk = match read {
            Ok(Ok(chunk)) => chunk,
            Ok(Err(e)) => return Poll::Ready(Some(Err(Broken(e.into())))),
            Err(e) => return Poll::Ready(Some(Err(Broken(e.into())))),
        };
        let part = self.part(&chunk);
        self.read_ahead();
        Poll::Ready(Some(Ok(part)))
    }

    /// The next chunk, where nothing is being read and it needs no reading. A thread for it would only cost time.
    fn at_hand(&mut self) -> Option<Bytes> {
        if !self.reads.is_empty() {
            return None;
        }
        let chunk = self.blob.ready(place(self.position).0)?;
        self.next_read = next_chunk(self.position);
        Some(chunk)
    }

    /// The wanted part of the chunk at the position, which moves behind it.
    fn part(&mut self, chunk: &Bytes) -> Bytes {
        let (_, offset) = place(self.position);
        let wanted = usize::try_from(self.end - self.position).unwrap_or(usize::MAX);
        let bytes = chunk.slice(offset..chunk.len().min(offset.saturating_add(wanted)));
        self.position += bytes.len() as u64;
        bytes
    }

    fn read_ahead(&mut self) {
        while self.reads.len() < READ_AHEAD && self.next_read < self.end {
            let (index, _) = place(self.next_read);
            let blob = self.blob.clone();
            self.reads.push_back(tokio::task::spawn_blocking(move || blob.read(index)));
            self.next_read = next_chunk(self.next_read);
        }
    }
}

/// Where the chunk behind the one at `position` begins.
fn next_chunk(position: u64) -> u64 {
    let (_, offset) = place(position);
    position + (CHUNK - offset) as u64
}

/// The chunk that holds a byte of a file, and the byte's offset in it. Positions beyond what 2^32 chunks hold (4 PiB)
/// are all in the last one.
pub fn place(position: u64) -> (u32, usize) {
    let chunk = CHUNK as u64;
    let index = u32::try_from(position / chunk).unwrap_or(u32::MAX);
    let offset = usize::try_from(position % chunk).expect("an offset in a chunk is small");
    (index, offset)
}
