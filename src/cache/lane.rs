//! One upstream request of a fill: it brings a stretch of the file, chunk by chunk.
//!
//! A lane holds the claim on the chunk that it fetches, and takes the next one when that is complete, until it meets
//! a chunk that is here or that another lane has. Whatever ends it, the bytes it brought stay.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::flight::{Flight, State};
use super::schedule::{Lane, Stretch};
use super::{Fetcher, FillError};
use crate::model::{Expectation, Resource, Secret};
use crate::store::{CHUNK, StoreError};
use crate::upstream::{Answer, Failure, Want};
use crate::verify::Flaw;

/// Complete chunks that a file which is not kept may have in memory; then it waits for its readers.
const UNSTORED_CHUNKS: usize = 2;

/// What the lanes of one attempt share.
#[derive(Clone)]
pub(super) struct Lanes {
    pub(super) fetcher: Arc<Fetcher>,
    pub(super) flight: Arc<Flight>,
    pub(super) resource: Resource,
    pub(super) credential: Option<Secret>,
    pub(super) head: Arc<Expectation>,
    pub(super) gauge: Arc<Gauge>,
    /// Where writes that are under way are reported.
    pub(super) writes: mpsc::UnboundedSender<Write>,
}

/// What lanes have brought, for the pace.
#[derive(Default)]
pub(super) struct Gauge {
    /// Bytes.
    arrived: AtomicU64,
    /// Lanes that brought something.
    begun: AtomicU64,
    /// For how long they waited until what they had brought was taken.
    held_up_us: AtomicU64,
}

impl Gauge {
    pub(super) fn arrived(&self) -> u64 {
        self.arrived.load(Ordering::Relaxed)
    }

    pub(super) fn begun(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }

    pub(super) fn held_up(&self) -> Duration {
        Duration::from_micros(self.held_up_us.load(Ordering::Relaxed))
    }

    fn brought(&self, bytes: usize, is_first: bool) {
        self.arrived.fetch_add(bytes as u64, Ordering::Relaxed);
        self.begun.fetch_add(u64::from(is_first), Ordering::Relaxed);
    }

    fn waited(&self, since: Instant) {
        let micros = u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.held_up_us.fetch_add(micros, Ordering::Relaxed);
    }
}

/// A chunk on its way to the disk.
pub(super) struct Write {
    pub(super) index: u32,
    pub(super) durable: Result<oneshot::Receiver<Result<(), StoreError>>, StoreError>,
}

/// How a lane ended.
#[derive(Debug)]
pub(super) enum LaneEnd {
    /// It brought what it could: its stretch, or up to what others bring.
    Done,
    /// It was cut short after so many bytes; ask again.
    Interrupted { progress: u64, why: Why },
    /// The hub's file is another than the one begun.
    Changed,
    /// The hub sends the whole file whatever it is asked.
    IgnoresRanges,
    /// The bytes cannot be right.
    Wrong(Flaw),
    /// Asking again would not help.
    Failed(FillError),
}

/// What interrupted a lane.
#[derive(Debug)]
pub(super) enum Why {
    /// The request brought no body.
    Failure(Failure),
    /// The body broke off.
    Body(crate::upstream::Interrupt),
    /// The body ended cleanly, too early.
    Short,
}

/// Where a lane stands and where it ends. Written and read while the state of the flight is held.
pub(super) struct Place {
    at: AtomicU32,
    /// [`Place::OPEN`] without an end.
    stop: AtomicU32,
}

impl Place {
    const OPEN: u32 = u32::MAX;

    /// At the beginning of a stretch.
    pub(super) fn new(stretch: Stretch) -> Arc<Self> {
        let place = Self { at: AtomicU32::new(stretch.first), stop: AtomicU32::new(Self::OPEN) };
        place.end_at(stretch.stop);
        Arc::new(place)
    }

    /// As the schedule sees it.
    pub(super) fn lane(&self) -> Lane {
        let stop = self.stop.load(Ordering::Relaxed);
        Lane { at: self.at.load(Ordering::Relaxed), stop: (stop != Self::OPEN).then_some(stop) }
    }

    /// Lets the lane end before this chunk, whatever it asked the hub for.
    pub(super) fn end_at(&self, stop: Option<u32>) {
        self.stop.store(stop.unwrap_or(Self::OPEN), Ordering::Relaxed);
    }
}

/// The claim on a chunk; given back when dropped.
struct Claim<'a> {
    flight: &'a Flight,
    index: u32,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.flight.change(|s| s.chunks.unclaim(self.index));
    }
}

impl Lanes {
    /// Fetches `stretch`, whose first chunk is claimed already. `opened` is an answer to begin with; `alone` says
    /// that no other lane runs, so that a hub that ignores ranges may be read from its beginning again.
    pub(super) async fn run(
        self,
        stretch: Stretch,
        opened: Option<Answer>,
        alone: bool,
        place: Arc<Place>,
    ) -> LaneEnd {
        let flight = Arc::clone(&self.flight);
        let mut claim = Claim { flight: &flight, index: stretch.first };
        let (start, size) = {
            let state = flight.look();
            let filled = state.chunks.filled(stretch.first) as u64;
            (u64::from(stretch.first) * CHUNK as u64 + filled, state.chunks.size)
        };
        let answer = match opened {
            Some(answer) => answer,
            None => match self.ask(start, stretch, size).await {
                Ok(answer) => answer,
                Err(end) => return end,
            },
        };
        if differs(&self.head, &answer.expectation) {
            return LaneEnd::Changed;
        }
        if answer.start < start && !alone {
            return LaneEnd::IgnoresRanges;
        }
        if answer.end.is_none() {
            // All of the file comes, whatever was asked for.
            flight.change(|_| place.end_at(None));
        }
        let mut reading = Reading { at: answer.start, from: start, progress: 0 };
        self.read(answer, stretch, &mut claim, &mut reading, &place).await
    }

    async fn ask(&self, start: u64, stretch: Stretch, size: Option<u64>) -> Result<Answer, LaneEnd> {
        let (_, end) = stretch.bytes();
        let haste = self.flight.haste();
        let want = Want { start, end, validator: self.head.validator.clone(), haste };
        self.fetcher.upstream.until_up(self.resource.hub).await;
        let asked = self.fetcher.upstream.fetch(&self.resource, &want, self.credential.as_ref()).await;
        asked.map_err(|failure| match failure {
            // The file ends before the byte that comes next: it is not as long as was promised.
            Failure::OutOfRange => match size {
                Some(promised) => LaneEnd::Wrong(Flaw::Length { promised, found: start }),
                None => LaneEnd::Changed,
            },
            failure if failure.is_denied() => LaneEnd::Failed(FillError::Upstream(failure)),
            failure => LaneEnd::Interrupted { progress: 0, why: Why::Failure(failure) },
        })
    }

    async fn read(
        &self,
        mut answer: Answer,
        stretch: Stretch,
        claim: &mut Claim<'_>,
        reading: &mut Reading,
        place: &Place,
    ) -> LaneEnd {
        let mut counted = 0;
        loop {
            let next = answer.body.next().await;
            let received = answer.body.received();
            self.fetcher.telemetry.upstream_received(self.resource.hub, received - counted);
            counted = received;
            let bytes = match next {
                Ok(Some(bytes)) => bytes,
                Ok(None) => return self.ended(stretch, claim, reading).await,
                Err(why) => {
                    return LaneEnd::Interrupted { progress: reading.progress, why: Why::Body(why) };
                }
            };
            let is_first = reading.progress == 0;
            let Some(mut bytes) = reading.fresh(bytes) else { continue };
            self.gauge.brought(bytes.len(), is_first);
            if reading.at > self.fetcher.upstream.settings().max_file_bytes {
                let limit = self.fetcher.upstream.settings().max_file_bytes;
                return LaneEnd::Failed(FillError::TooLarge { limit });
            }
            while !bytes.is_empty() {
                // The end of a chunk is told by what comes next: it is handed over and the next one claimed.
                let complete = self.flight.grow(|s| {
                    let room = s.chunks.length(claim.index) - s.chunks.filled(claim.index);
                    s.chunks.append(claim.index, bytes.split_to(bytes.len().min(room)));
                    s.chunks.is_complete(claim.index)
                });
                if complete && !bytes.is_empty() && self.is_last(claim.index) {
                    // The file goes on where it should have ended.
                    let promised = reading.at - bytes.len() as u64;
                    return LaneEnd::Wrong(Flaw::Length { promised, found: reading.at });
                }
                if complete && !self.next_chunk(claim, place).await {
                    return LaneEnd::Done;
                }
            }
        }
    }

    /// Whether the file ends with this chunk.
    fn is_last(&self, index: u32) -> bool {
        let end = (u64::from(index) + 1) * CHUNK as u64;
        self.flight.look().chunks.size.is_some_and(|size| size <= end)
    }

    /// The body came to its end without being cut.
    async fn ended(&self, stretch: Stretch, claim: &Claim<'_>, reading: &Reading) -> LaneEnd {
        let known = self.flight.look().chunks.size;
        if known.is_none() && stretch.stop.is_none() && reading.at >= reading.from {
            self.flight.change(|s| s.chunks.size = Some(reading.at));
            if self.flight.look().chunks.filled(claim.index) > 0 {
                self.hand_over(claim.index).await;
            }
            return LaneEnd::Done;
        }
        LaneEnd::Interrupted { progress: reading.progress, why: Why::Short }
    }

    /// Hands a complete chunk over and claims the one behind it, if that is this lane's to fetch.
    async fn next_chunk(&self, claim: &mut Claim<'_>, place: &Place) -> bool {
        let since = Instant::now();
        self.hand_over(claim.index).await;
        self.gauge.waited(since);
        let next = claim.index + 1;
        self.flight.change(|s| {
            s.chunks.unclaim(claim.index);
            if place.lane().stop.is_some_and(|stop| next >= stop) || !s.chunks.claim(next) {
                return false;
            }
            claim.index = next;
            place.at.store(next, Ordering::Relaxed);
            true
        })
    }

    /// Books the memory of a complete chunk and sends it to the disk. Waits while too much is in memory.
    async fn hand_over(&self, index: u32) {
        self.until(|s| match s.keeps {
            true => !s.beginning,
            false => s.chunks.in_memory(index) < UNSTORED_CHUNKS,
        })
        .await;
        let permit = self.memory(index).await;
        let (pieces, blob) = self.flight.change(|s| {
            s.chunks.book(index, permit);
            let blob = s.blob.clone().filter(|_| s.keeps);
            (s.chunks.pieces(index), blob)
        });
        if let (Some(pieces), Some(blob)) = (pieces, blob) {
            let durable = self.fetcher.cache.store.write_chunk(&blob, index, pieces).await;
            // The fill may have ended; then nobody needs to know.
            let _ = self.writes.send(Write { index, durable });
        }
    }

    /// A place in memory. What the readers of a file that is not kept need next goes without one: those places that
    /// it could wait for may be held by what comes after it.
    async fn memory(&self, index: u32) -> Option<OwnedSemaphorePermit> {
        let next = |s: &State| !s.keeps && s.chunks.in_memory(index) < UNSTORED_CHUNKS;
        tokio::select! {
            biased;
            permit = Arc::clone(&self.fetcher.window).acquire_owned() => Some(permit.expect("never closed")),
            () = self.until(next) => None,
        }
    }

    /// Waits until this is so. A file that is not kept is fetched no faster than its slowest reader takes it.
    async fn until(&self, holds: impl Fn(&State) -> bool) {
        let mut version = self.flight.watch_milestones();
        loop {
            version.borrow_and_update();
            {
                let mut state = self.flight.look();
                state.trim();
                if holds(&state) {
                    return;
                }
            }
            if version.changed().await.is_err() {
                return;
            }
        }
    }
}

/// How far a lane has read.
struct Reading {
    /// Position in the file of the next byte of the body.
    at: u64,
    /// Bytes before this are here already.
    from: u64,
    /// New bytes so far.
    progress: u64,
}

impl Reading {
    /// The part of `bytes` that is new.
    fn fresh(&mut self, mut bytes: Bytes) -> Option<Bytes> {
        let skipped = self.from.saturating_sub(self.at).min(bytes.len() as u64);
        self.at += bytes.len() as u64;
        let fresh = bytes.split_off(usize::try_from(skipped).unwrap_or(bytes.len()));
        self.progress += fresh.len() as u64;
        (!fresh.is_empty()).then_some(fresh)
    }
}

/// Whether the hub now speaks of another file than the one begun.
pub(super) fn differs(begun: &Expectation, now: &Expectation) -> bool {
    let (a, b) = (&begun.representation, &now.representation);
    let sizes = a.size.zip(b.size).is_some_and(|(a, b)| a != b);
    let tags = a.etag != b.etag;
    let dates = a.etag.is_none() && a.last_modified != b.last_modified;
    // A content network may say other things of the same file on each of its machines; its tag decides only where
    // the hub gives none.
    sizes || tags || dates
}
