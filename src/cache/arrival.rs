//! The part of an attempt during which bytes come: lanes are started, resumed and given up, writes and the hash are
//! waited for.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::fill::{Attempt, Fill};
use super::lane::{LaneEnd, Lanes, Place, Why, Write};
use super::schedule::{self, Lane, Rules, Stretch};
use super::{FillError, hashing};
use crate::model::Expectation;
use crate::store::StoreError;
use crate::upstream::Answer;
use crate::verify::Digests;

/// A lane that brought less than this made no progress, in bytes.
const PROGRESS: u64 = 16 * 1024;

struct AbortOnDrop(JoinHandle<Result<Digests, FillError>>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Brings the bytes of one attempt.
pub(super) struct Arrival<'a> {
    fill: &'a Fill,
    lanes: Lanes,
    running: FuturesUnordered<BoxFuture<'static, (u64, LaneEnd)>>,
    places: Vec<(u64, Arc<Place>)>,
    next_lane: u64,
    stride: Stride,
    takes_ranges: bool,
    /// Lanes in a row that brought nothing.
    fruitless: u32,
    /// Until when no lane is started.
    backoff: Option<tokio::time::Instant>,
    begun_writes: mpsc::UnboundedReceiver<Write>,
    writes: FuturesUnordered<BoxFuture<'static, (u32, Result<(), StoreError>)>>,
    hasher: AbortOnDrop,
    digests: Option<Digests>,
}

/// An answer to begin with, and the stretch that it is to bring.
pub(super) struct Opened {
    pub(super) answer: Answer,
    pub(super) stretch: Stretch,
}

/// How much is fetched at once that nobody waits for, of a file of which parts were asked for: little while readers
/// of parts come, then more and more, so that a long file does not need a great many requests.
struct Stride {
    chunks: u32,
    /// How many readers of parts had come.
    parts: u64,
}

/// `Ok` when every byte is here and hashed, `Err` when the attempt is given up.
pub(super) type Arrived = Result<Digests, Attempt>;

impl<'a> Arrival<'a> {
    pub(super) fn new(fill: &'a Fill, head: Arc<Expectation>, takes_ranges: bool) -> Self {
        let hashing = hashing::run(Arc::clone(&fill.flight), head.promises.clone());
        let hasher = AbortOnDrop(tokio::spawn(hashing));
        let (writes, begun_writes) = mpsc::unbounded_channel();
        let lanes = Lanes {
            fetcher: Arc::clone(&fill.fetcher),
            flight: Arc::clone(&fill.flight),
            resource: fill.resource.clone(),
            credential: fill.credential.clone(),
            head,
            writes,
        };
        Self {
            fill,
            lanes,
            running: FuturesUnordered::new(),
            places: Vec::new(),
            next_lane: 0,
            stride: Stride { chunks: 0, parts: 0 },
            takes_ranges,
            fruitless: 0,
            backoff: None,
            begun_writes,
            writes: FuturesUnordered::new(),
            hasher,
            digests: None,
        }
    }

    /// Runs until every byte is here, hashed, and durable as far as the file is kept.
    pub(super) async fn run(mut self, opened: Option<Opened>) -> Result<Arrived, FillError> {
        // An empty file is here without one.
        if let Some(Opened { answer, stretch }) = opened
            && self.fill.flight.look().chunks.is_free(stretch.first)
        {
            self.start(stretch, Some(answer));
        }
        loop {
            if self.backoff.is_none() {
                while let Some(stretch) = self.next_stretch() {
                    self.start(stretch, None);
                }
            }
            if let Some(digests) = self.finished() {
                return Ok(Ok(digests));
            }
            let backoff = self.backoff.unwrap_or_else(tokio::time::Instant::now);
            tokio::select! {
                Some((id, end)) = self.running.next(), if !self.running.is_empty() => {
                    self.places.retain(|(place, _)| *place != id);
                    if let Some(given_up) = self.lane_ended(end)? {
                        return Ok(Err(given_up));
                    }
                }
                Some(write) = self.begun_writes.recv() => self.write_begun(write),
                Some((index, written)) = self.writes.next(), if !self.writes.is_empty() => {
                    self.written(index, written);
                }
                hashed = &mut self.hasher.0, if self.digests.is_none() => {
                    self.digests = Some(hashed.map_err(|_| FillError::Abandoned)??);
                }
                () = self.fill.flight.readers_changed.notified() => self.readers_changed()?,
                () = tokio::time::sleep_until(backoff), if self.backoff.is_some() => self.backoff = None,
            }
        }
    }

    fn next_stretch(&mut self) -> Option<Stretch> {
        let state = self.fill.flight.look();
        let lanes: Vec<Lane> = self.places.iter().map(|(_, place)| place.lane()).collect();
        let far = self.fill.far();
        if self.stride.parts != state.parts {
            self.stride = Stride { chunks: far.max(1), parts: state.parts };
        }
        let rules = Rules {
            most_lanes: self.fill.fetcher.settings.lanes,
            takes_ranges: self.takes_ranges && state.keeps && state.chunks.size.is_some(),
            far,
            stride: (state.parts > 0).then_some(self.stride.chunks),
        };
        schedule::next(&state.chunks, &lanes, &state.wanted(), &rules)
    }

    fn start(&mut self, stretch: Stretch, opened: Option<Answer>) {
        let alone = self.places.is_empty();
        if alone {
            self.stride.chunks = self.stride.chunks.saturating_mul(2);
        }
        let place = Place::new(stretch);
        self.fill.flight.change(|s| {
            let claimed = s.chunks.claim(stretch.first);
            debug_assert!(claimed, "the schedule gives out what is free");
            // Whoever was to come here ends here.
            for (_, other) in &self.places {
                let Lane { at, stop } = other.lane();
                if at < stretch.first && stop.is_none_or(|stop| stretch.first < stop) {
                    other.end_at(Some(stretch.first));
                }
            }
        });
        let id = self.next_lane;
        self.next_lane += 1;
        self.places.push((id, Arc::clone(&place)));
        let lane = self.lanes.clone().run(stretch, opened, alone, place);
        self.running.push(Box::pin(async move { (id, lane.await) }));
    }

    /// The digests, once nothing is left to do.
    fn finished(&mut self) -> Option<Digests> {
        let idle = self.running.is_empty() && self.writes.is_empty() && self.begun_writes.is_empty();
        if !idle || !self.fill.flight.look().chunks.all_here() {
            return None;
        }
        self.digests.take()
    }

    fn lane_ended(&mut self, end: LaneEnd) -> Result<Option<Attempt>, FillError> {
        match end {
            LaneEnd::Done => self.fruitless = 0,
            LaneEnd::Changed => return Ok(Some(Attempt::Changed)),
            LaneEnd::Wrong(flaw) => return Ok(Some(Attempt::Wrong(flaw))),
            LaneEnd::Failed(error) => return Err(error),
            LaneEnd::IgnoresRanges => self.takes_ranges = false,
            LaneEnd::Interrupted { progress, why } => self.interrupted(progress, why)?,
        }
        Ok(None)
    }

    fn interrupted(&mut self, progress: u64, why: Why) -> Result<(), FillError> {
        self.fruitless = if progress >= PROGRESS { 0 } else { self.fruitless + 1 };
        let settings = self.fill.fetcher.upstream.settings();
        let asked = match &why {
            Why::Failure(failure) => failure.retry_after(),
            Why::Body(_) | Why::Short => None,
        };
        let error: Box<dyn std::error::Error + Send + Sync> = match why {
            Why::Failure(failure) => Box::new(failure),
            Why::Body(interrupt) => Box::new(interrupt),
            Why::Short => "the body ended early".into(),
        };
        tracing::debug!(file = %self.fill.resource, progress_bytes = progress, %error, "resuming");
        if self.fruitless >= settings.attempts {
            return Err(FillError::Interrupted(error));
        }
        let wait = settings.wait(self.fruitless.saturating_sub(1), asked);
        self.backoff = Some(tokio::time::Instant::now() + wait);
        Ok(())
    }

    fn write_begun(&mut self, write: Write) {
        match write.durable {
            Ok(durable) => self.writes.push(Box::pin(async move {
                (write.index, durable.await.unwrap_or(Err(StoreError::Closed)))
            })),
            Err(error) => self.fill.no_longer_kept(&error),
        }
    }

    fn written(&mut self, index: u32, written: Result<(), StoreError>) {
        match written {
            Ok(()) => self.fill.flight.change(|s| {
                s.chunks.durable(index);
                s.trim();
            }),
            Err(error) => self.fill.no_longer_kept(&error),
        }
    }

    /// A reader began to wait, or left. A fill that nobody follows goes on only within its bound.
    fn readers_changed(&self) -> Result<(), FillError> {
        if self.fill.flight.has_readers() {
            return Ok(());
        }
        let (missing, keeps) = {
            let state = self.fill.flight.look();
            (state.chunks.missing(), state.keeps)
        };
        let bound = self.fill.fetcher.settings.orphan_max_bytes;
        let too_much = bound.is_some_and(|bound| missing.is_none_or(|missing| missing > bound));
        if !keeps || too_much { Err(FillError::Orphaned) } else { Ok(()) }
    }
}
