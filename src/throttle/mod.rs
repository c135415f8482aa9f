//! Lines of limited speed, on which many streams take turns.
//!
//! **States.** A stream that has bytes *asks* for a turn; it *waits* while the line is busy; it is *granted* so many
//! bytes, sends them, and asks again. A stream that goes away while it waits is passed over, and costs nothing.
//!
//! **Who owns what.** A [`Throttle`] has the queue and the bucket ([`Turns`], [`Bucket`]), and while somebody waits, one
//! task that grants. A [`Sluice`] is one stream's way through one or several throttles. Each stream has one question
//! open at each throttle at most, so the queue is no longer than there are streams.
//!
//! **What can fail.** Nothing; a runtime that ends takes the task with it, and those who wait with it.
//!
//! Waiting here is nobody's silence: a body that waits asks its source for nothing, and is not asked for more by its
//! connection, so neither the hub's nor the client's deadline runs.

mod sluice;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::oneshot;
use tz::TimeZone;

pub use sluice::{Sluice, Throttled};

use crate::model::ClientKey;
use crate::policy::rate::{Bucket, Timetable, Turns, turn};
use crate::telemetry::{Limit, Telemetry};

/// Whose streams take one turn together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Party {
    /// A client's.
    Client(ClientKey),
    /// This one by itself.
    Stream(u64),
}

/// A line of limited speed; a clone is the same line.
#[derive(Clone)]
pub struct Throttle(Arc<Shared>);

struct Shared {
    timetable: Timetable,
    zone: Option<TimeZone>,
    limit: Limit,
    telemetry: Telemetry,
    streams: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    turns: Turns<Party, Ask>,
    bucket: Bucket,
    /// Whether the task runs that grants.
    is_driven: bool,
}

struct Ask {
    most: usize,
    grant: oneshot::Sender<usize>,
}

impl Throttle {
    /// A line with these rates, which counts for `limit`; none where nothing is ever limited.
    pub fn new(timetable: &Timetable, limit: Limit, telemetry: &Telemetry) -> Option<Self> {
        if !timetable.limits() {
            return None;
        }
        let zone = timetable.needs_clock().then(local_zone).flatten();
        let (timetable, telemetry) = (timetable.clone(), telemetry.clone());
        let (streams, state) = (AtomicU64::new(0), Mutex::default());
        Some(Self(Arc::new(Shared { timetable, zone, limit, telemetry, streams, state })))
    }

    /// A stream that takes turns by itself.
    pub fn stream(&self) -> Party {
        Party::Stream(self.0.streams.fetch_add(1, Ordering::Relaxed))
    }

    /// Whether nobody but `self` holds it.
    pub fn is_unshared(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }

    /// Asks for a turn of at most so many bytes.
    fn ask(&self, party: Party, most: usize) -> oneshot::Receiver<usize> {
        let (grant, granted) = oneshot::channel();
        let now = Instant::now();
        let mut state = self.0.state();
        state.turns.push(party, Ask { most, grant });
        if !state.is_driven && state.bucket.ready_at(now) <= now {
            self.0.grant(&mut state, now);
        }
        if state.turns.clients() > 0 {
            if self.0.telemetry.limited(self.0.limit, now) {
                let limit = self.0.limit;
                tracing::info!("{} ({}); what is beyond waits", limit.phrase(), limit.setting());
            }
            if !std::mem::replace(&mut state.is_driven, true) {
                tokio::spawn(Arc::clone(&self.0).drive());
            }
        }
        granted
    }
}

impl Shared {
    /// Grants turns until nobody waits.
    async fn drive(self: Arc<Self>) {
        while let Some(at) = self.until() {
            tokio::time::sleep_until(at.into()).await;
        }
    }

    /// Grants what may go now. When more may go, if somebody waits for it.
    fn until(&self) -> Option<Instant> {
        let mut state = self.state();
        loop {
            if state.turns.clients() == 0 {
                state.is_driven = false;
                return None;
            }
            let now = Instant::now();
            let at = state.bucket.ready_at(now);
            if at > now {
                return Some(at);
            }
            self.grant(&mut state, now);
        }
    }

    fn grant(&self, state: &mut State, now: Instant) {
        let rate = self.rate();
        let bytes = turn(rate, state.turns.clients());
        let Some(Ask { most, grant }) = state.turns.take() else { return };
        let bytes = bytes.min(most);
        if grant.send(bytes).is_ok() {
            state.bucket.spend(bytes, rate, now);
        }
    }

    fn rate(&self) -> Option<u64> {
        let minute = if self.timetable.needs_clock() { self.minute(SystemTime::now()) } else { 0 };
        self.timetable.at(minute)
    }

    /// The minute of the day where this machine is.
    fn minute(&self, now: SystemTime) -> u16 {
        let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |passed| passed.as_secs());
        let seconds = i64::try_from(seconds).unwrap_or(0);
        let kind = self.zone.as_ref().and_then(|zone| zone.find_local_time_type(seconds).ok());
        let local = seconds + kind.map_or(0, |kind| i64::from(kind.ut_offset()));
        u16::try_from(local.rem_euclid(24 * 3600) / 60).unwrap_or(0)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Whoever waits is in the queue or was granted something, at every moment.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn local_zone() -> Option<TimeZone> {
    match TimeZone::local() {
        Ok(zone) => Some(zone),
        Err(error) => {
            tracing::warn!(%error, "the local time is not known; times of the day are those of UTC");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::policy::rate::Slot;

    pub(in crate::throttle) fn throttle(rate: &str) -> Throttle {
        let timetable = Timetable::new(vec![Slot::parse(rate).unwrap()]);
        Throttle::new(&timetable, Limit::DownloadRate, &Telemetry::new("0")).unwrap()
    }

    #[tokio::test]
    async fn streams_share_a_line_by_party_and_not_by_number() {
        /// Longer than what an idle line makes up for.
        const TURN: usize = 64 << 10;
        let line = throttle("1MiB");
        let sent = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
        let send = |party: Party, at: usize| {
            let (line, sent) = (line.clone(), Arc::clone(&sent));
            tokio::spawn(async move {
                let mut sluice = Sluice::new([(line, party)]);
                loop {
                    sluice.pass(TURN).await;
                    sent[at].fetch_add(TURN as u64, Ordering::Relaxed);
                }
            })
        };
        let many: Vec<_> = (0..20).map(|_| send(Party::Stream(1), 0)).collect();
        let one = send(Party::Stream(2), 1);
        let so_far = || [0, 1].map(|at| sent[at].load(Ordering::Relaxed));
        while so_far().iter().sum::<u64>() < 1 << 20 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let [many_sent, one_sent] = so_far();
        many.iter().chain([&one]).for_each(|task| task.abort());
        // A turn that one was too late to ask for is the other's.
        assert!(many_sent <= one_sent + 4 * TURN as u64, "{many_sent} and {one_sent}");
        assert!(line.0.telemetry.render().contains("limit=\"download-rate\""));
    }

    #[tokio::test]
    async fn whoever_goes_away_is_passed_over() {
        let line = throttle("1KiB");
        let mut first = Sluice::new([(line.clone(), Party::Stream(1))]);
        first.pass(64).await;
        let waiting: Vec<_> = (2..50).map(|n| line.ask(Party::Stream(n), 1 << 20)).collect();
        drop(waiting);
        let mut last = Sluice::new([(line, Party::Stream(99))]);
        // At this rate, those before would have taken most of a minute.
        tokio::time::timeout(Duration::from_secs(20), last.pass(64)).await.expect("nobody is waited for");
    }
}
