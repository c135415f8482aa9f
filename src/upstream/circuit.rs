//! When a hub counts as down. Pure: what became of a request goes in with the time, the next state comes out.

use std::sync::Arc;
use std::time::{Duration, Instant};

/// Whether a hub is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Circuit {
    /// It is.
    Closed {
        /// Failures in a row.
        failures: u32,
        /// When it answered last.
        answered_at: Option<Instant>,
    },
    /// It is down, and asked nothing until it answers a probe.
    Open {
        /// Since when.
        since: Instant,
        /// How long the request took that found out.
        took: Duration,
        /// How the last request failed.
        last: Arc<str>,
    },
}

/// What became of a request.
#[derive(Clone, Debug)]
pub(super) enum Event {
    /// The hub answered, be it with a refusal.
    Answered,
    /// It did not, or said itself that it is out of order.
    Failed {
        /// When the request was sent.
        began: Instant,
        /// Whether it cost all the time that it was allowed.
        timed_out: bool,
        /// How it failed, for people.
        phrase: Arc<str>,
    },
}

impl Default for Circuit {
    fn default() -> Self {
        Self::Closed { failures: 0, answered_at: None }
    }
}

impl Circuit {
    /// The state after `event`; the failure number `limit` in a row opens. A failure of a request that is older than
    /// the hub's last answer says nothing new. A time-out opens at once: a second one would cost as much again.
    #[must_use]
    pub(super) fn after(self, event: Event, now: Instant, limit: u32) -> Self {
        match (self, event) {
            (_, Event::Answered) => Self::Closed { failures: 0, answered_at: Some(now) },
            (Self::Open { since, took, .. }, Event::Failed { phrase, .. }) => {
                Self::Open { since, took, last: phrase }
            }
            (Self::Closed { failures, answered_at }, Event::Failed { began, timed_out, phrase }) => {
                if answered_at.is_some_and(|at| at > began) {
                    return Self::Closed { failures, answered_at };
                }
                let failures = failures.saturating_add(1);
                if timed_out || failures >= limit {
                    Self::Open { since: now, took: now.saturating_duration_since(began), last: phrase }
                } else {
                    Self::Closed { failures, answered_at }
                }
            }
        }
    }

    /// Since when the hub is down.
    pub(super) fn open_since(&self) -> Option<Instant> {
        match self {
            Self::Closed { .. } => None,
            Self::Open { since, .. } => Some(*since),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: u32 = 3;

    /// What happens at second `.0`: an answer, or the failure of a request that was sent at second `.1`.
    #[derive(Clone, Copy)]
    enum Step {
        Answer(u64),
        Fail(u64, u64),
        TimeOut(u64, u64),
    }
    use Step::{Answer, Fail, TimeOut};

    /// The state after all steps, and the second 0.
    fn run(steps: &[Step]) -> (Circuit, Instant) {
        let zero = Instant::now();
        let at = |second| zero + Duration::from_secs(second);
        let failed = |began, timed_out| Event::Failed { began: at(began), timed_out, phrase: "why".into() };
        let end = steps.iter().fold(Circuit::default(), |circuit, step| match *step {
            Answer(now) => circuit.after(Event::Answered, at(now), LIMIT),
            Fail(now, began) => circuit.after(failed(began, false), at(now), LIMIT),
            TimeOut(now, began) => circuit.after(failed(began, true), at(now), LIMIT),
        });
        (end, zero)
    }

    #[test]
    fn failures_in_a_row_or_one_time_out_open_and_any_answer_closes() {
        let opened_at: [(&[Step], Option<u64>); 12] = [
            (&[], None),
            (&[Fail(1, 1), Fail(2, 2)], None),
            (&[Fail(1, 1), Fail(2, 2), Fail(3, 3)], Some(3)),
            (&[Fail(1, 1), Fail(2, 2), Answer(3), Fail(4, 4), Fail(5, 5)], None),
            (&[Answer(1), Fail(2, 2), Fail(3, 3), Fail(4, 4)], Some(4)),
            (&[TimeOut(9, 1)], Some(9)),
            (&[Answer(1), TimeOut(9, 1)], Some(9)),
            (&[Answer(5), TimeOut(9, 1)], None),
            (&[Answer(5), Fail(9, 1), Fail(9, 2), Fail(9, 3), Fail(9, 4)], None),
            (&[TimeOut(9, 1), Fail(10, 2), TimeOut(11, 3)], Some(9)),
            (&[TimeOut(9, 1), Answer(10)], None),
            (&[TimeOut(9, 1), Answer(10), TimeOut(12, 2)], None),
        ];
        for (i, (steps, second)) in opened_at.into_iter().enumerate() {
            let (end, zero) = run(steps);
            assert_eq!(end.open_since(), second.map(|s| zero + Duration::from_secs(s)), "case {i}: {end:?}");
        }
    }

    #[test]
    fn while_open_the_last_failure_is_told_and_what_the_first_cost_is_kept() {
        let (open, zero) = run(&[TimeOut(9, 1)]);
        let later = Event::Failed { began: zero, timed_out: false, phrase: "another".into() };
        let Circuit::Open { took, last, .. } = open.after(later, zero + Duration::from_secs(60), LIMIT)
        else {
            panic!("a failure does not close")
        };
        assert_eq!((took, &*last), (Duration::from_secs(8), "another"));
    }
}
