//! The part of an attempt during which bytes come: lanes are started, resumed and given up, writes and the hash are
//! waited for.

use std::sync::Arc;
use std::time::Instant;

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use http::StatusCode;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::JoinHandle;

use super::fill::{Attempt, Fill};
use super::lane::{Gauge, LaneEnd, Lanes, Place, Why, Write};
use super::pace::{Pace, Seen};
use super::schedule::{self, Lane, Rules, Stretch};
use super::{FillError, hashing};
use crate::model::Expectation;
use crate::store::StoreError;
use crate::upstream::{Answer, Failure};
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
    places: Vec<Running>,
    next_lane: u64,
    pace: Pace,
    stride: Stride,
    takes_ranges: bool,
    /// How often in a row lanes brought nothing; those that were begun together count once.
    fruitless: u32,
    /// After the last lane broke off: how many had brought something by then. Until one more has, there is one.
    broken_at: Option<u64>,
    /// Until when no lane is started.
    backoff: Option<tokio::time::Instant>,
    /// Until the store has a place for the file.
    beginning: Option<BoxFuture<'a, ()>>,
    begun_writes: mpsc::UnboundedReceiver<Write>,
    writes: FuturesUnordered<BoxFuture<'static, (u32, Result<(), StoreError>)>>,
    hasher: AbortOnDrop,
    digests: Option<Digests>,
}

/// A lane that runs.
struct Running {
    id: u64,
    place: Arc<Place>,
    /// Where the stretch ends that it asked for.
    asked: Option<u32>,
    /// [`Arrival::fruitless`] when it began.
    fruitless: u32,
    /// For one beside the first.
    extra: Option<OwnedSemaphorePermit>,
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
    pub(super) fn new(
        fill: &'a Fill,
        head: Arc<Expectation>,
        takes_ranges: bool,
        beginning: Option<BoxFuture<'a, ()>>,
    ) -> Self {
        let hashing = hashing::run(Arc::clone(&fill.flight), head.promises.clone());
        let hasher = AbortOnDrop(tokio::spawn(hashing));
        let (writes, begun_writes) = mpsc::unbounded_channel();
        let lanes = Lanes {
            fetcher: Arc::clone(&fill.fetcher),
            flight: Arc::clone(&fill.flight),
            resource: fill.resource.clone(),
            credential: fill.asker.credential().cloned(),
            head,
            gauge: Arc::default(),
            writes,
        };
        let most = if fill.keeps() { fill.fetcher.settings.lanes_far } else { 1 };
        let pace = Pace::new(most, &seen(fill, &lanes.gauge));
        Self {
            fill,
            lanes,
            running: FuturesUnordered::new(),
            places: Vec::new(),
            next_lane: 0,
            pace,
            stride: Stride { chunks: 0, parts: 0 },
            takes_ranges,
            fruitless: 0,
            broken_at: None,
            backoff: None,
            beginning,
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
            self.start(stretch, Some(answer), None);
        }
        loop {
            if self.backoff.is_none() {
                while let Some((stretch, extra)) = self.next_stretch() {
                    self.start(stretch, None, extra);
                }
            }
            if let Some(digests) = self.finished() {
                return Ok(Ok(digests));
            }
            let backoff = self.backoff.unwrap_or_else(tokio::time::Instant::now);
            let look = self.pace.next_look();
            let look_at = look.map_or_else(tokio::time::Instant::now, tokio::time::Instant::from_std);
            tokio::select! {
                Some((id, end)) = self.running.next(), if !self.running.is_empty() => {
                    let fruitless = self.remove(id);
                    if let Some(given_up) = self.lane_ended(end, fruitless)? {
                        return Ok(Err(given_up));
                    }
                }
                () = begun(&mut self.beginning), if self.beginning.is_some() => self.beginning = None,
                Some(write) = self.begun_writes.recv() => self.write_begun(write),
                Some((index, written)) = self.writes.next(), if !self.writes.is_empty() => {
                    self.written(index, written);
                }
                hashed = &mut self.hasher.0, if self.digests.is_none() => {
                    self.digests = Some(hashed.map_err(|_| FillError::Abandoned)??);
                }
                () = self.fill.flight.readers_changed.notified() => self.readers_changed()?,
                () = tokio::time::sleep_until(backoff), if self.backoff.is_some() => self.backoff = None,
                () = tokio::time::sleep_until(look_at), if look.is_some() => self.look(),
            }
        }
    }

    /// The next stretch for a lane, with the permit that this needs if it is one beside the first.
    fn next_stretch(&mut self) -> Option<(Stretch, Option<OwnedSemaphorePermit>)> {
        let many = self.lanes_together();
        let state = self.fill.flight.look();
        let lanes: Vec<Lane> = self.places.iter().map(|lane| lane.place.lane()).collect();
        let far = self.fill.far();
        if self.stride.parts != state.parts {
            self.stride = Stride { chunks: far.max(1), parts: state.parts };
        }
        let rules = Rules {
            most_lanes: self.fill.fetcher.settings.lanes,
            takes_ranges: self.takes_ranges && state.keeps && state.chunks.size.is_some(),
            far,
            stride: (state.parts > 0).then_some(self.stride.chunks),
            piece: (many > 1).then(|| self.pace.piece(self.lanes.gauge.arrived())),
        };
        if let Some(stretch) = schedule::next(&state.chunks, &lanes, &state.wanted(), &rules) {
            return Some((stretch, None));
        }
        let piece = rules.piece.filter(|_| rules.takes_ranges && lanes.len() < many)?;
        let stretch = schedule::ahead(&state.chunks, &lanes, piece, many)?;
        let extra = match self.places.iter().any(|lane| lane.extra.is_none()) {
            true => Some(Arc::clone(&self.fill.fetcher.extra_lanes).try_acquire_owned().ok()?),
            false => None,
        };
        Some((stretch, extra))
    }

    /// How many lanes are to fetch the file together. Whether a hub that broke off every lane is there again, one of
    /// them finds out.
    fn lanes_together(&self) -> usize {
        let finding_out = self.fruitless > 0 || self.broken_at == Some(self.lanes.gauge.begun());
        if finding_out { 1 } else { self.pace.lanes() }
    }

    fn look(&mut self) {
        let before = self.pace.lanes();
        let seen = seen(self.fill, &self.lanes.gauge);
        self.pace.look(&seen);
        let lanes = self.pace.lanes();
        if lanes != before {
            let arrived_bytes = seen.arrived;
            tracing::debug!(file = %self.fill.resource, lanes, before, arrived_bytes, "lanes that fetch together");
        }
        if lanes < before && lanes == 1 {
            self.let_run();
        }
    }

    /// From now on there is one lane.
    fn stay_alone(&mut self, why: &'static str) {
        if self.pace.lanes() > 1 {
            tracing::debug!(file = %self.fill.resource, why, "one lane only");
            self.let_run();
        }
        self.pace.stay_alone();
    }

    /// Lets each lane bring what it asked for, as far as no other has brought it.
    fn let_run(&self) {
        self.fill.flight.change(|_| self.places.iter().for_each(|lane| lane.place.end_at(lane.asked)));
    }

    /// Forgets a lane; how fruitless it was before it.
    fn remove(&mut self, id: u64) -> u32 {
        let index =
            self.places.iter().position(|lane| lane.id == id).expect("a lane that runs has its place");
        self.places.swap_remove(index).fruitless
    }

    fn start(&mut self, stretch: Stretch, opened: Option<Answer>, extra: Option<OwnedSemaphorePermit>) {
        let alone = self.places.is_empty();
        if alone {
            self.stride.chunks = self.stride.chunks.saturating_mul(2);
        }
        let place = Place::new(stretch);
        self.fill.flight.change(|s| {
            let claimed = s.chunks.claim(stretch.first);
            debug_assert!(claimed, "the schedule gives out what is free");
            // Whoever was to come here ends here.
            for Running { place: other, .. } in &self.places {
                let Lane { at, stop } = other.lane();
                if at < stretch.first && stop.is_none_or(|stop| stretch.first < stop) {
                    other.end_at(Some(stretch.first));
                }
            }
        });
        let id = self.next_lane;
        self.next_lane += 1;
        let running =
            Running { id, place: Arc::clone(&place), asked: stretch.stop, fruitless: self.fruitless, extra };
        self.places.push(running);
        let lane = self.lanes.clone().run(stretch, opened, alone, place);
        self.running.push(Box::pin(async move { (id, lane.await) }));
    }

    /// The digests, once nothing is left to do.
    fn finished(&mut self) -> Option<Digests> {
        let written = self.beginning.is_none() && self.writes.is_empty() && self.begun_writes.is_empty();
        let idle = self.running.is_empty() && written;
        if !idle || !self.fill.flight.look().chunks.all_here() {
            return None;
        }
        self.digests.take()
    }

    fn lane_ended(&mut self, end: LaneEnd, fruitless: u32) -> Result<Option<Attempt>, FillError> {
        match end {
            LaneEnd::Done => self.fruitless = 0,
            LaneEnd::Changed => return Ok(Some(Attempt::Changed)),
            LaneEnd::Wrong(flaw) => return Ok(Some(Attempt::Wrong(flaw))),
            LaneEnd::Failed(error) => return Err(error),
            LaneEnd::IgnoresRanges => {
                self.takes_ranges = false;
                self.stay_alone("the hub ignores ranges");
            }
            LaneEnd::Interrupted { progress, why } => self.interrupted(progress, why, fruitless)?,
        }
        Ok(None)
    }

    fn interrupted(&mut self, progress: u64, why: Why, before: u32) -> Result<(), FillError> {
        self.fruitless = if progress >= PROGRESS { 0 } else { self.fruitless.max(before + 1) };
        self.pace.disturbed(&seen(self.fill, &self.lanes.gauge));
        self.broken_at = self.places.is_empty().then(|| self.lanes.gauge.begun());
        if matches!(&why, Why::Failure(failure) if self.pace.lanes() > 1 || limits(failure)) {
            self.stay_alone("the hub refused one");
        }
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
        let until = tokio::time::Instant::now() + wait;
        self.backoff = Some(self.backoff.map_or(until, |earlier| earlier.max(until)));
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

async fn begun(beginning: &mut Option<BoxFuture<'_, ()>>) {
    if let Some(beginning) = beginning {
        beginning.await;
    }
}

/// Whether a hub says that it does not want to be asked so much.
fn limits(failure: &Failure) -> bool {
    let busy = [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE];
    failure.retry_after().is_some() || matches!(failure, Failure::Refused(r) if busy.contains(&r.status))
}

/// How a fill stands now.
fn seen(fill: &Fill, gauge: &Gauge) -> Seen {
    Seen {
        now: Instant::now(),
        arrived: gauge.arrived(),
        begun: gauge.begun(),
        held_up: gauge.held_up(),
        missing: fill.flight.look().chunks.missing(),
    }
}
