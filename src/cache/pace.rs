//! Over how many lanes a fill is fetched: as many as measurably bring it sooner. Pure.
//!
//! A fill begins with one lane. Where that alone takes long, because the hub is far and gives each connection little,
//! there are more, and more again, as long as all of them together bring clearly more than the fewer did before. A hub
//! that gives enough over one connection, or to which the way is full with it, is asked once for the whole.

use std::time::{Duration, Instant};

use crate::store::CHUNK;

/// For how long a lane alone is measured.
const MEASURE: Duration = Duration::from_millis(400);
/// What is silent for so long at the end of that is not slow but held up, and cannot be measured.
const QUIET: Duration = Duration::from_millis(150);
/// A look that comes so much later than it was to tells that this machine has more to do than it can, and nothing of
/// the hub.
const LATE: Duration = Duration::from_millis(10);
/// For how long several lanes are measured at a time.
const MEASURE_MORE: Duration = Duration::from_millis(250);
/// How long further lanes may take until each has brought something.
const SETTLE: Duration = Duration::from_secs(1);
/// How often it is looked whether they have.
const OFTEN: Duration = Duration::from_millis(25);
/// How long further lanes may take to bring more: connections begin slowly.
const PATIENCE: Duration = Duration::from_millis(1500);
/// What takes no longer than this is left to the lanes that there are.
const SOON: Duration = Duration::from_millis(1500);
/// What is no longer than this is not worth more requests, in bytes.
const SHORT: u64 = 16 << 20;
/// A connection that brings so much is good enough, in bytes a second.
const FAST: f64 = (64 << 20) as f64;
/// Which part of its time a lane may wait for the disk before that, and not the hub, is what makes it slow.
const HELD_UP: f64 = 0.25;
/// How many times as many lanes are tried.
const GROWTH: usize = 4;
/// How many times as much they must bring so that still more are tried.
const MUCH: f64 = 1.7;
/// How many times as much they must bring to be kept.
const SOME: f64 = 1.2;
/// Longest stretch for a lane among several, in chunks.
const LONGEST: u32 = 64;
/// How long a lane is to be busy with a stretch, in seconds: short at first, so that the front of the file is there
/// soon, then longer, since each is a request that the hub may count.
const BUSY: (f64, f64) = (1.0, 4.0);
/// After how many bytes it is so much longer.
const BUSY_GROWS: f64 = (256 << 20) as f64;

/// How a fill stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) now: Instant,
    /// Bytes that came so far.
    pub(super) arrived: u64,
    /// Lanes that have brought something so far.
    pub(super) begun: u64,
    /// How long lanes have waited so far until what they brought was taken.
    pub(super) held_up: Duration,
    /// Bytes that are still to come, if that is known.
    pub(super) missing: Option<u64>,
}

/// Measures a fill and says how many lanes it should have.
#[derive(Debug)]
pub(super) struct Pace {
    most: usize,
    phase: Phase,
    /// What one lane brings, in bytes a second.
    lane_rate: f64,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// One lane, which is measured; near the end of that it is noted how far it was then.
    Alone { window: Window, last: Option<(Instant, u64)> },
    /// More lanes are being started.
    Starting { more: More, since: Instant, begun: u64, next: Instant },
    /// More lanes are measured.
    Trying { more: More, since: Instant, window: Window },
    /// No further change.
    Settled { lanes: usize },
}

/// From how many lanes, which brought so many bytes a second, to how many.
#[derive(Clone, Copy, Debug)]
struct More {
    from: usize,
    rate: f64,
    lanes: usize,
}

/// Where a measurement began.
#[derive(Clone, Copy, Debug)]
struct Window {
    since: Instant,
    arrived: u64,
    held_up: Duration,
}

impl Window {
    fn new(seen: &Seen) -> Self {
        Self { since: seen.now, arrived: seen.arrived, held_up: seen.held_up }
    }

    fn lasted(&self, seen: &Seen) -> Duration {
        seen.now.saturating_duration_since(self.since)
    }

    fn rate(&self, seen: &Seen) -> f64 {
        (seen.arrived - self.arrived) as f64 / self.lasted(seen).as_secs_f64().max(0.001)
    }
}

impl Pace {
    /// For a fill that begins with one lane and may have `most`.
    pub(super) fn new(most: usize, seen: &Seen) -> Self {
        let phase = if most > 1 {
            Phase::Alone { window: Window::new(seen), last: None }
        } else {
            Phase::Settled { lanes: 1 }
        };
        Self { most, phase, lane_rate: 0.0 }
    }

    /// How many lanes there should be.
    pub(super) fn lanes(&self) -> usize {
        match self.phase {
            Phase::Alone { .. } => 1,
            Phase::Starting { more, .. } | Phase::Trying { more, .. } => more.lanes,
            Phase::Settled { lanes } => lanes,
        }
    }

    /// How many chunks one lane among several should bring with one request.
    pub(super) fn piece(&self, arrived: u64) -> u32 {
        let busy = (BUSY.0 + arrived as f64 / BUSY_GROWS).min(BUSY.1);
        let chunks = (self.lane_rate * busy / CHUNK as f64).clamp(1.0, f64::from(LONGEST));
        chunks.round() as u32
    }

    /// When it wants to see the fill again; never, once it has settled.
    pub(super) fn next_look(&self) -> Option<Instant> {
        match self.phase {
            Phase::Alone { window, last: None } => Some(window.since + (MEASURE - QUIET)),
            Phase::Alone { last: Some((at, _)), .. } => Some(at + QUIET),
            Phase::Starting { next, .. } => Some(next),
            Phase::Trying { window, .. } => Some(window.since + MEASURE_MORE),
            Phase::Settled { .. } => None,
        }
    }

    /// Takes in how the fill stands.
    pub(super) fn look(&mut self, seen: &Seen) {
        if self.next_look().is_some_and(|at| seen.now.saturating_duration_since(at) > LATE) {
            return self.disturbed(seen);
        }
        self.phase = match self.phase {
            Phase::Alone { window, last } => self.alone(seen, window, last),
            Phase::Starting { more, since, begun, .. } => {
                let all = seen.begun.saturating_sub(begun) >= (more.lanes - more.from) as u64;
                if all || seen.now.saturating_duration_since(since) >= SETTLE {
                    Phase::Trying { more, since: seen.now, window: Window::new(seen) }
                } else {
                    Phase::Starting { more, since, begun, next: seen.now + OFTEN }
                }
            }
            Phase::Trying { more, since, window } => self.trying(seen, more, since, window),
            settled @ Phase::Settled { .. } => settled,
        };
    }

    /// What was measured is worth nothing: a lane broke off, or nobody had the time to look.
    pub(super) fn disturbed(&mut self, seen: &Seen) {
        let window = Window::new(seen);
        self.phase = match self.phase {
            Phase::Alone { .. } => Phase::Alone { window, last: None },
            Phase::Starting { more, since, begun, .. } => {
                Phase::Starting { more, since, begun, next: seen.now + OFTEN }
            }
            Phase::Trying { more, since, .. } => Phase::Trying { more, since, window },
            settled @ Phase::Settled { .. } => settled,
        };
    }

    /// From now on there is one lane only: the hub ignores ranges, or does not want to be asked so much.
    pub(super) fn stay_alone(&mut self) {
        self.phase = Phase::Settled { lanes: 1 };
    }

    fn alone(&mut self, seen: &Seen, window: Window, last: Option<(Instant, u64)>) -> Phase {
        let again = Phase::Alone { window: Window::new(seen), last: None };
        let Some((at, arrived)) = last else {
            let late = window.lasted(seen) >= MEASURE - QUIET;
            return Phase::Alone { window, last: late.then_some((seen.now, seen.arrived)) };
        };
        if seen.now.saturating_duration_since(at) < QUIET {
            return Phase::Alone { window, last };
        }
        let rate = window.rate(seen);
        let waited = seen.held_up.saturating_sub(window.held_up);
        let held_up = waited.as_secs_f64() > HELD_UP * window.lasted(seen).as_secs_f64();
        if seen.arrived == arrived || rate >= FAST || held_up || !is_long(seen, rate) {
            return again;
        }
        self.lane_rate = rate;
        self.more(seen, 1, rate)
    }

    fn trying(&mut self, seen: &Seen, more: More, since: Instant, window: Window) -> Phase {
        if window.lasted(seen) < MEASURE_MORE {
            return Phase::Trying { more, since, window };
        }
        let rate = window.rate(seen);
        let gained = rate / more.rate.max(1.0);
        if gained >= MUCH {
            self.lane_rate = rate / more.lanes as f64;
            return match more.lanes < self.most && is_long(seen, rate) {
                true => self.more(seen, more.lanes, rate),
                false => Phase::Settled { lanes: more.lanes },
            };
        }
        if seen.now.saturating_duration_since(since) < PATIENCE {
            return Phase::Trying { more, since, window: Window::new(seen) };
        }
        let lanes = if gained >= SOME { more.lanes } else { more.from };
        self.lane_rate = rate / lanes as f64;
        Phase::Settled { lanes }
    }

    fn more(&self, seen: &Seen, from: usize, rate: f64) -> Phase {
        let more = More { from, rate, lanes: (from * GROWTH).min(self.most) };
        Phase::Starting { more, since: seen.now, begun: seen.begun, next: seen.now + OFTEN }
    }
}

/// Whether the rest still takes long at this rate.
fn is_long(seen: &Seen, rate: f64) -> bool {
    seen.missing.is_some_and(|missing| missing > SHORT && missing as f64 > rate * SOON.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: f64 = (1 << 20) as f64;

    /// A hub that gives each connection and all of them so many MiB a second, and the fill of a file from it.
    struct Far {
        each: f64,
        all: f64,
        seen: Seen,
    }

    fn far(each: f64, all: f64, size_mib: u64) -> Far {
        let now = Instant::now();
        let seen = Seen { now, arrived: 0, begun: 1, held_up: Duration::ZERO, missing: Some(size_mib << 20) };
        Far { each, all, seen }
    }

    impl Far {
        /// Lets time pass until `pace` wants to look, with as many lanes as it wants.
        fn pass(&mut self, pace: &mut Pace) -> bool {
            let Some(at) = pace.next_look() else { return false };
            let lanes = pace.lanes();
            let rate = (self.each * lanes as f64).min(self.all) * MIB;
            let came = (rate * at.saturating_duration_since(self.seen.now).as_secs_f64()) as u64;
            let missing = self.seen.missing.expect("the size is known");
            let came = came.min(missing);
            self.seen.now = at;
            self.seen.arrived += came;
            self.seen.missing = Some(missing - came);
            self.seen.begun = self.seen.begun.max(lanes as u64);
            pace.look(&self.seen);
            came > 0
        }

        /// The numbers of lanes that there were, one after the other.
        fn lanes(&mut self, most: usize) -> Vec<usize> {
            let mut pace = Pace::new(most, &self.seen);
            let mut lanes = vec![1];
            while self.pass(&mut pace) {
                if lanes.last() != Some(&pace.lanes()) {
                    lanes.push(pace.lanes());
                }
            }
            lanes
        }
    }

    #[test]
    fn there_are_as_many_lanes_as_bring_more() {
        let cases: [(f64, f64, u64, usize, &[usize]); 10] = [
            (20.0, 200.0, 512, 16, &[1, 4, 16]),
            (20.0, 200.0, 512, 8, &[1, 4, 8]),
            (20.0, 200.0, 512, 2, &[1, 2]),
            (20.0, 200.0, 512, 1, &[1]),
            // The way is full.
            (20.0, 20.0, 512, 16, &[1, 4, 1]),
            (20.0, 30.0, 512, 16, &[1, 4]),
            (20.0, 80.0, 4096, 16, &[1, 4, 16, 4]),
            // One connection is good enough.
            (100.0, 2000.0, 4096, 16, &[1]),
            // The rest is soon there, or short.
            (20.0, 200.0, 30, 16, &[1]),
            (1.0, 200.0, 15, 16, &[1]),
        ];
        for (each, all, size, most, expected) in cases {
            assert_eq!(far(each, all, size).lanes(most), expected, "{each} {all} {size} {most}");
        }
    }

    #[test]
    fn a_lane_that_is_held_up_is_not_slow() {
        let mut hub = far(20.0, 200.0, 512);
        let mut pace = Pace::new(16, &hub.seen);
        // Silent at the end of what was measured.
        hub.pass(&mut pace);
        hub.each = 0.0;
        for _ in 0..9 {
            hub.pass(&mut pace);
            assert_eq!(pace.lanes(), 1);
        }
        // The disk is slow.
        hub.each = 20.0;
        for _ in 0..9 {
            hub.seen.held_up += Duration::from_millis(200);
            hub.pass(&mut pace);
            assert_eq!(pace.lanes(), 1);
        }
        // It broke off, and what came before and after says little.
        hub.pass(&mut pace);
        hub.seen.now += Duration::from_secs(9);
        pace.disturbed(&hub.seen);
        pace.look(&hub.seen);
        assert_eq!(pace.lanes(), 1);
        // A file of unknown length.
        let missing = hub.seen.missing.take();
        for _ in 0..9 {
            hub.seen.now = pace.next_look().expect("it still measures");
            hub.seen.arrived += 1 << 20;
            pace.look(&hub.seen);
            assert_eq!(pace.lanes(), 1);
        }
        // Whoever looks has no time.
        hub.seen.missing = missing;
        for _ in 0..9 {
            hub.seen.now = pace.next_look().expect("it still measures") + Duration::from_millis(11);
            hub.seen.arrived += 1 << 20;
            pace.look(&hub.seen);
            assert_eq!(pace.lanes(), 1);
        }
        hub.seen.missing = missing;
        while pace.lanes() == 1 {
            assert!(hub.pass(&mut pace));
        }
        pace.stay_alone();
        assert_eq!((pace.lanes(), pace.next_look()), (1, None));
    }

    #[test]
    fn stretches_last_about_a_second_at_first_and_longer_later() {
        let hub = far(20.0, 200.0, 512);
        let pace = |lane_rate: f64| Pace { lane_rate: lane_rate * MIB, ..Pace::new(16, &hub.seen) };
        assert_eq!(pace(0.0).piece(0), 1);
        assert_eq!(pace(10.0).piece(0), 10);
        assert_eq!(pace(10.0).piece(256 << 20), 20);
        assert_eq!(pace(10.0).piece(1 << 40), 40);
        assert_eq!(pace(200.0).piece(0), LONGEST);
    }
}
