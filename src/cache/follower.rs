//! A body that follows an unfinished file.
//!
//! It reads from memory while it keeps up, from the store when it falls behind, and sends no further than
//! [`policy::release`] lets it. When the attempt it has sent bytes of is given up, it breaks.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use tokio::sync::watch;
use tokio::time::Instant;

use super::FillError;
use super::chunks::Piece;
use super::flight::{Flight, Ticket};
use crate::body::{Broken, place};
use crate::model::{Expectation, Representation};
use crate::policy::{self, Progress, Release};
use crate::store::Blob;

/// Reads `start..end` of the file that a ticket is for.
pub struct Follower {
    ticket: Ticket,
    version: watch::Receiver<u64>,
    attempt: u32,
    /// What the client was told that the file is.
    told: Representation,
    start: u64,
    position: u64,
    /// One past the last byte; `None` to the end of a file of unknown size.
    end: Option<u64>,
    drip: Duration,
    last_sent: Instant,
    /// The chunk of the store that was read last.
    chunk: Option<(u32, Bytes)>,
}

enum Step {
    Send(Bytes),
    Read { blob: Blob, index: u32, offset: usize, limit: u64 },
    Wait { drips: bool },
    End,
}

impl Follower {
    /// A follower of the part `start..end` of the file that `head` describes.
    pub fn new(ticket: Ticket, head: &Expectation, start: u64, end: Option<u64>, drip: Duration) -> Self {
        let version = ticket.flight.watch();
        let attempt = {
            let mut state = ticket.flight.look();
            if let Some(reader) = state.readers.get_mut(&ticket.id) {
                reader.position = start;
                reader.end = end;
                reader.reads = true;
                // Said before the first poll, so that a stretch far ahead is asked for at once.
                reader.waits = true;
            }
            state.attempt
        };
        ticket.flight.readers_changed.notify_one();
        let told = head.representation.clone();
        let last_sent = Instant::now();
        Self { ticket, version, attempt, told, start, position: start, end, drip, last_sent, chunk: None }
    }

    /// The bytes, as they may be sent.
    pub fn stream(self) -> BoxStream<'static, Result<Bytes, Broken>> {
        let next = |mut follower: Self| async move {
            match follower.next().await {
                Ok(None) => None,
                Ok(Some(bytes)) => Some((Ok(bytes), follower)),
                Err(e) => Some((Err(Broken(Box::new(e))), follower)),
            }
        };
        // After an error the connection is broken and nobody polls again.
        stream::unfold(self, next).boxed()
    }

    async fn next(&mut self) -> Result<Option<Bytes>, FillErrorShared> {
        loop {
            self.version.borrow_and_update();
            match self.step()? {
                Step::End => return Ok(None),
                Step::Send(bytes) => return Ok(Some(self.sent(bytes))),
                Step::Read { blob, index, offset, limit } => {
                    let bytes = self.read(blob, index).await?;
                    // The attempt may have been given up while the disk was read.
                    if self.flight().look().attempt != self.attempt {
                        continue;
                    }
                    let most = usize::try_from(limit - self.position).unwrap_or(usize::MAX);
                    let to = bytes.len().min(offset.saturating_add(most));
                    return Ok(Some(self.sent(bytes.slice(offset..to))));
                }
                Step::Wait { drips } => {
                    let silent_at = self.last_sent + self.drip;
                    tokio::select! {
                        changed = self.version.changed() => {
                            changed.map_err(|_| FillErrorShared(Arc::new(FillError::Abandoned)))?;
                        }
                        () = tokio::time::sleep_until(silent_at), if drips => {}
                    }
                }
            }
        }
    }

    fn flight(&self) -> &Flight {
        &self.ticket.flight
    }

    /// Looks at the flight and decides what to do next.
    fn step(&mut self) -> Result<Step, FillErrorShared> {
        let flight = Arc::clone(&self.ticket.flight);
        let mut state = flight.look();
        if let Some(Err(e)) = &state.end {
            return Err(FillErrorShared(Arc::clone(e)));
        }
        if state.attempt != self.attempt {
            let Some(head) = &state.head else {
                return match self.position == self.start {
                    true => Ok(Step::Wait { drips: false }),
                    false => Err(FillErrorShared(Arc::new(FillError::Replaced))),
                };
            };
            if self.position != self.start || !head.representation.same_file(&self.told) {
                return Err(FillErrorShared(Arc::new(FillError::Replaced)));
            }
            self.attempt = state.attempt;
            self.chunk = None;
        }
        let size = state.chunks.size;
        let end = self.end.or(size).unwrap_or(u64::MAX);
        if self.position >= end {
            let judged = matches!(state.end, Some(Ok(_)));
            // A file of unknown size may turn out to have ended where the reader stands.
            return Ok(if judged || self.end.is_some() { Step::End } else { Step::Wait { drips: false } });
        }
        let silent = self.last_sent.elapsed() >= self.drip;
        let progress = Progress {
            position: self.position,
            end,
            size,
            available: state.chunks.available(self.position),
            judged: matches!(state.end, Some(Ok(_))),
            silent,
        };
        let released = policy::release(progress);
        let id = self.ticket.id;
        let waits = released == Release::Wait;
        let coming = state.chunks.is_claimed(place(progress.available).0);
        let mut rings = false;
        if let Some(reader) = state.readers.get_mut(&id) {
            // The lane that fetches the next byte needs no word of it.
            rings = waits && !reader.waits && !coming;
            reader.waits = waits;
        }
        if rings {
            flight.readers_changed.notify_one();
        }
        let Release::UpTo(limit) = released else {
            return Ok(Step::Wait { drips: progress.available > self.position && !silent });
        };
        let step = match state.chunks.piece(self.position) {
            Piece::Memory(bytes) => {
                let most = usize::try_from(limit - self.position).unwrap_or(usize::MAX);
                Step::Send(bytes.slice(..bytes.len().min(most)))
            }
            Piece::Durable { index, offset } => match &state.blob {
                Some(blob) => Step::Read { blob: blob.clone(), index, offset, limit },
                None => return Err(FillErrorShared(Arc::new(FillError::Gone))),
            },
            Piece::Missing => return Err(FillErrorShared(Arc::new(FillError::Gone))),
        };
        // Noted before the byte leaves, so that no attempt can be given up without knowing of it.
        if state.end.is_none() && !state.told.contains(&self.ticket.asked) {
            state.told.insert(self.ticket.asked.clone());
        }
        Ok(step)
    }

    async fn read(&mut self, blob: Blob, index: u32) -> Result<Bytes, FillErrorShared> {
        if let Some((held, bytes)) = &self.chunk
            && *held == index
        {
            return Ok(bytes.clone());
        }
        if let Some(bytes) = blob.ready(index) {
            return Ok(bytes);
        }
        let read = tokio::task::spawn_blocking(move || blob.read(index)).await;
        let bytes = match read {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(e)) => return Err(FillErrorShared(Arc::new(FillError::Store(e)))),
            Err(_) => return Err(FillErrorShared(Arc::new(FillError::Abandoned))),
        };
        self.chunk = Some((index, bytes.clone()));
        Ok(bytes)
    }

    fn sent(&mut self, bytes: Bytes) -> Bytes {
        self.position += bytes.len() as u64;
        self.last_sent = Instant::now();
        let mut state = self.ticket.flight.look();
        if let Some(reader) = state.readers.get_mut(&self.ticket.id) {
            reader.position = self.position;
        }
        let frees = !state.keeps;
        drop(state);
        if frees {
            self.ticket.flight.trim();
        }
        bytes
    }
}

/// The end of a fill, which many readers share.
#[derive(Debug)]
struct FillErrorShared(Arc<FillError>);

impl std::fmt::Display for FillErrorShared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for FillErrorShared {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}
