//! Which deadline a connection is under, by what it is doing.

use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, ready};

use tokio::time::{Instant, Sleep};

use super::Limits;

/// Why a connection was closed before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overdue {
    /// The head of a request did not come to its end.
    Header,
    /// No request came.
    Idle,
    /// The body of a request did not go on.
    Upload,
    /// The client took none of the bytes that were ready for it.
    Write,
}

impl Overdue {
    /// The name in logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Header => "header",
            Self::Idle => "idle",
            Self::Upload => "upload",
            Self::Write => "write",
        }
    }
}

/// What a connection is doing, shared by its stream, its service and the task that owns both.
///
/// All three run in one task, so the lock is never contended; it is there because the task moves between threads.
#[derive(Clone, Debug)]
pub struct Clock(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    reading: Reading,
    /// Since when a write has been waiting for the client.
    writing_since: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
enum Reading {
    /// In the head of a request; a new connection is, too.
    Head { since: Instant },
    /// Between requests.
    Idle { since: Instant },
    /// A request is being answered; reading waits for nothing.
    Answering,
    /// A request with a body is being answered.
    Uploading { moved: Instant },
    /// HTTP/2: several requests at a time. Of the `open` ones, `given` have handed over bytes and were not asked for
    /// more since, because the client takes none. What only keeps the connection alive moves nothing.
    Streams { open: usize, given: usize, moved: Instant },
}

impl Clock {
    /// The clock of a connection that was accepted at `now`.
    pub fn new(now: Instant) -> Self {
        Self(Arc::new(Mutex::new(State { reading: Reading::Head { since: now }, writing_since: None })))
    }

    /// The clock of a connection of HTTP/2 that was accepted at `now`.
    pub fn of_streams(now: Instant) -> Self {
        let reading = Reading::Streams { open: 0, given: 0, moved: now };
        Self(Arc::new(Mutex::new(State { reading, writing_since: None })))
    }

    /// The head of a request is complete.
    pub fn request_began(&self, has_body: bool, now: Instant) {
        match &mut self.state().reading {
            Reading::Streams { open, moved, .. } => (*open, *moved) = (*open + 1, now),
            reading if has_body => *reading = Reading::Uploading { moved: now },
            reading => *reading = Reading::Answering,
        }
    }

    /// The response of a request was handed over to its end.
    pub fn request_ended(&self, now: Instant) {
        match &mut self.state().reading {
            Reading::Streams { open, moved, .. } => (*open, *moved) = (open.saturating_sub(1), now),
            reading => *reading = Reading::Idle { since: now },
        }
    }

    /// A response has handed over bytes, in HTTP/2.
    pub fn gave(&self) {
        if let Reading::Streams { given, .. } = &mut self.state().reading {
            *given += 1;
        }
    }

    /// A response that has handed over bytes is asked for more, or is over.
    pub fn taken(&self, now: Instant) {
        if let Reading::Streams { given, moved, .. } = &mut self.state().reading {
            (*given, *moved) = (given.saturating_sub(1), now);
        }
    }

    /// Bytes came in.
    pub fn read(&self, now: Instant) {
        let mut state = self.state();
        match &mut state.reading {
            Reading::Idle { .. } => state.reading = Reading::Head { since: now },
            Reading::Uploading { moved } => *moved = now,
            Reading::Head { .. } | Reading::Answering | Reading::Streams { .. } => {}
        }
    }

    /// Bytes were taken by the client's side.
    pub fn wrote(&self, now: Instant) {
        let mut state = self.state();
        state.writing_since = None;
        if let Reading::Uploading { moved } = &mut state.reading {
            *moved = now;
        }
    }

    /// A write has to wait for the client.
    pub fn write_blocked(&self, now: Instant) {
        self.state().writing_since.get_or_insert(now);
    }

    /// The next deadline and what it is for; none while only the answer is waited for.
    pub fn deadline(&self, limits: &Limits) -> Option<(Instant, Overdue)> {
        let state = self.state();
        let reading = match state.reading {
            Reading::Head { since } => Some((since + limits.header_timeout, Overdue::Header)),
            Reading::Idle { since } => Some((since + limits.idle_timeout, Overdue::Idle)),
            Reading::Uploading { moved } => Some((moved + limits.idle_timeout, Overdue::Upload)),
            Reading::Answering => None,
            Reading::Streams { open: 0, moved, .. } => Some((moved + limits.idle_timeout, Overdue::Idle)),
            Reading::Streams { open, given, moved } if given >= open => {
                Some((moved + limits.write_timeout, Overdue::Write))
            }
            Reading::Streams { .. } => None,
        };
        // A write that waits is the client's doing, whatever reading waits for.
        let writing = state.writing_since.map(|since| (since + limits.write_timeout, Overdue::Write));
        writing.or(reading)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every update is a single assignment, so a panic elsewhere leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends when the connection's deadline passes, wherever that has moved in the meantime.
pub async fn expired(clock: &Clock, limits: &Limits, mut alarm: Pin<&mut Sleep>) -> Overdue {
    poll_fn(|cx| {
        loop {
            // Without a deadline nothing needs to wake this: only serving sets one, and then it is polled again.
            let Some((deadline, overdue)) = clock.deadline(limits) else { return Poll::Pending };
            // An alarm that is set too early is left alone, for that is cheaper than moving it with each request.
            if alarm.is_elapsed() || alarm.deadline() > deadline {
                alarm.as_mut().reset(deadline);
            }
            ready!(alarm.as_mut().poll(cx));
            if Instant::now() >= deadline {
                return Poll::Ready(overdue);
            }
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const LIMITS: Limits = Limits {
        header_timeout: Duration::from_secs(10),
        idle_timeout: Duration::from_secs(120),
        write_timeout: Duration::from_secs(300),
        max_connections: 1,
        max_per_client: 1,
    };

    #[test]
    fn the_deadline_follows_what_the_connection_does() {
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let clock = Clock::new(start);
        assert_eq!(clock.deadline(&LIMITS), Some((at(10), Overdue::Header)));
        clock.read(at(5));
        assert_eq!(clock.deadline(&LIMITS), Some((at(10), Overdue::Header)), "a trickle does not extend it");
        clock.request_began(false, at(6));
        assert_eq!(clock.deadline(&LIMITS), None);
        clock.write_blocked(at(7));
        clock.write_blocked(at(9));
        assert_eq!(clock.deadline(&LIMITS), Some((at(307), Overdue::Write)));
        clock.wrote(at(10));
        assert_eq!(clock.deadline(&LIMITS), None);
        clock.request_ended(at(11));
        assert_eq!(clock.deadline(&LIMITS), Some((at(131), Overdue::Idle)));
        clock.read(at(20));
        assert_eq!(clock.deadline(&LIMITS), Some((at(30), Overdue::Header)));
        clock.request_began(true, at(21));
        clock.read(at(40));
        assert_eq!(clock.deadline(&LIMITS), Some((at(160), Overdue::Upload)));
    }

    #[test]
    fn of_several_requests_only_those_count_that_wait_for_the_client() {
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let clock = Clock::of_streams(start);
        assert_eq!(clock.deadline(&LIMITS), Some((at(120), Overdue::Idle)));
        clock.read(at(5));
        assert_eq!(clock.deadline(&LIMITS), Some((at(120), Overdue::Idle)), "a ping keeps nothing open");
        clock.request_began(false, at(6));
        clock.request_began(true, at(7));
        assert_eq!(clock.deadline(&LIMITS), None, "both wait for the answer");
        clock.gave();
        assert_eq!(clock.deadline(&LIMITS), None, "one does");
        clock.gave();
        assert_eq!(clock.deadline(&LIMITS), Some((at(307), Overdue::Write)));
        clock.taken(at(20));
        assert_eq!(clock.deadline(&LIMITS), None);
        clock.request_ended(at(21));
        assert_eq!(clock.deadline(&LIMITS), Some((at(321), Overdue::Write)));
        clock.taken(at(22));
        clock.request_ended(at(23));
        assert_eq!(clock.deadline(&LIMITS), Some((at(143), Overdue::Idle)));
    }
}
