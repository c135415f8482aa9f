//! How fast bytes may go, at what time of the day, and in which order those who wait get their share.
//!
//! A rate is kept by paying afterwards: bytes go when the line is free, and keep it busy for as long as they take at
//! that rate. A line that was idle makes up for a moment of it, so that a timer which fires late loses nothing. Whoever
//! waits gets a **turn** at a time, the clients one behind the other, so that one with many responses gets no more
//! than one with a single one, and a turn is the smaller the more clients wait, so that none is silent for long.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::hash::Hash;
use std::time::{Duration, Instant};

use crate::model::quantity;

/// The smallest rate that can be set, in bytes a second.
const LEAST: u64 = 1 << 10;
/// How much idle time a line makes up for.
const MADE_UP: Duration = Duration::from_millis(50);
/// The largest and the smallest turn, in bytes.
const TURN: (u64, u64) = (1 << 10, 256 << 10);
/// A turn takes no longer than the part of a second that this many turns share.
const TURNS_A_SECOND: u64 = 8;
/// The end of the day, in minutes.
const DAY: u16 = 24 * 60;

/// A rate and when it holds, as it is written: `50MiB@08:00-18:00`, `none`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Bytes a second; without it as many as there are.
    bytes: Option<u64>,
    /// From which minute of the day, to before which; over midnight if the first is the later one.
    during: Option<(u16, u16)>,
}

/// Why a text is no [`Slot`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadSlot(&'static str);

impl fmt::Display for BadSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Slot {
    /// Reads one.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(text: &str) -> Result<Self, BadSlot> {
        let (rate, during) = match text.split_once('@') {
            Some((rate, during)) => (rate, Some(window(during.trim())?)),
            None => (text, None),
        };
        let bytes = match rate.trim() {
            "none" => None,
            rate => Some(quantity::size(rate).map_err(|_| BadSlot("the rate is a size for each second"))?),
        };
        if bytes.is_some_and(|bytes| bytes < LEAST) {
            return Err(BadSlot("a rate is 1KiB at least"));
        }
        Ok(Self { bytes, during })
    }

    fn holds(&self, minute: u16) -> bool {
        match self.during {
            None => true,
            Some((from, to)) if from < to => (from..to).contains(&minute),
            Some((from, to)) => minute >= from || minute < to,
        }
    }
}

fn window(text: &str) -> Result<(u16, u16), BadSlot> {
    let (from, to) = text.split_once('-').ok_or(BadSlot("a time of the day is HH:MM-HH:MM"))?;
    let (from, to) = (minute(from)?, minute(to)?);
    if from == to || from == DAY {
        return Err(BadSlot("the time of the day has no length"));
    }
    Ok((from, to))
}

fn minute(text: &str) -> Result<u16, BadSlot> {
    let bad = BadSlot("a time of the day is HH:MM-HH:MM");
    let (hours, minutes) = text.trim().split_once(':').ok_or(bad)?;
    let number = |text: &str, most: u16| -> Result<u16, BadSlot> {
        let digits = text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
        text.parse().ok().filter(|n| digits && *n <= most).ok_or(bad)
    };
    let minute = number(hours, 24)? * 60 + number(minutes, 59)?;
    if minute <= DAY { Ok(minute) } else { Err(bad) }
}

/// What holds at which time; of several the first. Empty it is no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Timetable(Vec<Slot>);

impl Timetable {
    /// Of these, in this order.
    pub fn new(slots: Vec<Slot>) -> Self {
        Self(slots)
    }

    /// Bytes a second at this minute of the day; `None` for as many as there are.
    pub fn at(&self, minute: u16) -> Option<u64> {
        self.0.iter().find(|slot| slot.holds(minute)).and_then(|slot| slot.bytes)
    }

    /// Whether it limits anything at any time.
    pub fn limits(&self) -> bool {
        self.0.iter().any(|slot| slot.bytes.is_some())
    }

    /// Whether the time of the day makes a difference.
    pub fn needs_clock(&self) -> bool {
        self.0.iter().any(|slot| slot.during.is_some())
    }
}

/// How many bytes one turn has while so many clients wait.
pub fn turn(rate: Option<u64>, waiting: usize) -> usize {
    let share = rate.map_or(u64::MAX, |rate| rate / (waiting as u64).max(TURNS_A_SECOND));
    usize::try_from(share.clamp(TURN.0, TURN.1)).unwrap_or(usize::MAX)
}

/// A line that carries so many bytes a second.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bucket {
    /// When what was sent is paid for.
    free_at: Option<Instant>,
}

impl Bucket {
    /// When the next bytes may go.
    pub fn ready_at(&self, now: Instant) -> Instant {
        self.free_at.map_or(now, |at| at.max(now))
    }

    /// Bytes go at `now`.
    pub fn spend(&mut self, bytes: usize, rate: Option<u64>, now: Instant) {
        let Some(rate) = rate else {
            self.free_at = None;
            return;
        };
        let nanos = u128::from(bytes as u64) * 1_000_000_000 / u128::from(rate.max(1));
        let takes = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let made_up = now.checked_sub(MADE_UP).unwrap_or(now);
        self.free_at = Some(self.free_at.map_or(now, |at| at.max(made_up)) + takes);
    }
}

/// Who waits for a turn: each client has its own queue, and they take turns.
#[derive(Debug)]
pub struct Turns<K, T> {
    order: VecDeque<K>,
    queues: HashMap<K, VecDeque<T>>,
}

impl<K, T> Default for Turns<K, T> {
    fn default() -> Self {
        Self { order: VecDeque::new(), queues: HashMap::new() }
    }
}

impl<K: Copy + Eq + Hash, T> Turns<K, T> {
    /// One more waits.
    pub fn push(&mut self, client: K, waiter: T) {
        let queue = self.queues.entry(client).or_default();
        if queue.is_empty() {
            self.order.push_back(client);
        }
        queue.push_back(waiter);
    }

    /// Whose turn it is.
    pub fn take(&mut self) -> Option<T> {
        let client = self.order.pop_front()?;
        let queue = self.queues.get_mut(&client)?;
        let waiter = queue.pop_front();
        if queue.is_empty() {
            self.queues.remove(&client);
        } else {
            self.order.push_back(client);
        }
        waiter
    }

    /// How many clients wait.
    pub fn clients(&self) -> usize {
        self.order.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_timetable_says_what_holds_when() {
        let parse = |text: &str| text.split(',').map(Slot::parse).collect::<Result<Vec<_>, _>>();
        let at = |text: &str, hours: u16, minutes: u16| {
            Timetable::new(parse(text).unwrap()).at(hours * 60 + minutes)
        };
        let work = "50MiB@08:00-18:00,none";
        let night = "1MiB@22:30-06:00,2MiB@06:00-24:00";
        let cases = [
            ("none", 12, 0, None),
            ("1MiB", 0, 0, Some(MIB)),
            (work, 7, 59, None),
            (work, 8, 0, Some(50 * MIB)),
            (work, 17, 59, Some(50 * MIB)),
            (work, 18, 0, None),
            (night, 22, 29, Some(2 * MIB)),
            (night, 22, 30, Some(MIB)),
            (night, 5, 59, Some(MIB)),
            (night, 6, 0, Some(2 * MIB)),
        ];
        for (text, hours, minutes, rate) in cases {
            assert_eq!(at(text, hours, minutes), rate, "{text} at {hours}:{minutes:02}");
        }
        assert!(!Timetable::default().limits() && !Timetable::new(parse("none").unwrap()).limits());
        assert!(Timetable::new(parse(work).unwrap()).needs_clock());
        for bad in ["", "1023", "fast", "1MiB@", "1MiB@8:00-9:00", "1MiB@08:00", "1MiB@08:00-08:00"]
            .into_iter()
            .chain(["1MiB@24:00-01:00", "1MiB@23:60-24:00", "1MiB@00:00-24:01", "none@x", "1MiB@+8:00-09:00"])
        {
            assert!(Slot::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_line_carries_what_its_rate_says_and_no_more() {
        let began = Instant::now();
        let (mut bucket, mut now, mut sent) = (Bucket::default(), began, 0_u64);
        while now < began + Duration::from_secs(10) {
            bucket.spend(64 << 10, Some(MIB), now);
            sent += 64 << 10;
            // Each timer fires a little late.
            now = bucket.ready_at(now) + Duration::from_millis(3);
        }
        assert!((9 * MIB..=10 * MIB + MIB / 8).contains(&sent), "{sent}");
        // A long pause is not made up for.
        now += Duration::from_secs(3600);
        bucket.spend(MIB as usize, Some(MIB), now);
        assert!(bucket.ready_at(now) >= now + Duration::from_millis(900));
        bucket.spend(MIB as usize, None, now);
        assert_eq!(bucket.ready_at(now), now, "without a rate nothing waits");
    }

    #[test]
    fn clients_take_turns_however_many_responses_each_has() {
        let mut turns = Turns::default();
        for n in 0..5 {
            turns.push('a', ('a', n));
        }
        turns.push('b', ('b', 0));
        turns.push('c', ('c', 0));
        turns.push('b', ('b', 1));
        assert_eq!(turns.clients(), 3);
        let order: Vec<_> = std::iter::from_fn(|| turns.take()).collect();
        let want = [('a', 0), ('b', 0), ('c', 0), ('a', 1), ('b', 1), ('a', 2), ('a', 3), ('a', 4)];
        assert_eq!(order, want);
        assert_eq!(turns.clients(), 0);
    }

    #[test]
    fn a_turn_is_the_smaller_the_more_clients_wait() {
        let cases = [
            (None, 1, 256 << 10),
            (Some(1 << 40), 1, 256 << 10),
            (Some(MIB), 1, 128 << 10),
            (Some(MIB), 8, 128 << 10),
            (Some(MIB), 64, 16 << 10),
            (Some(MIB), 100_000, 1 << 10),
            (Some(1 << 10), 1, 1 << 10),
        ];
        for (rate, waiting, bytes) in cases {
            assert_eq!(turn(rate, waiting), bytes, "{rate:?} and {waiting}");
        }
    }
}
