//! Polls of the server: one for all who want one at the same time.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// How long a poll that was made for a moment answers for it: a client that has heard of a moment which the server does
/// not have would have it asked again and again.
const ANSWERED: Duration = Duration::from_secs(10);

/// Who wants a poll, and which have been made.
#[derive(Default)]
pub(super) struct Polls {
    state: Mutex<State>,
    wanted: Notify,
    ended: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    /// How many polls have begun.
    begun: u64,
    /// The moment of which the running poll asks.
    running: Option<u64>,
    /// The latest moment that the next poll is wanted for, if one is wanted.
    next: Option<u64>,
    /// Whether the next poll is to ask for everything.
    everything: bool,
    /// The latest moment of which a poll was asked lately, and when it ended.
    asked: Option<(u64, Instant)>,
}

impl Polls {
    /// Wants a poll that asks of `expected`, and waits for its end, but no longer than `within`.
    pub(super) async fn ask(&self, expected: u64, within: Duration) {
        let Some(number) = self.want(expected) else { return };
        let mut ended = self.ended.subscribe();
        // Late is as good as never: what is held is told.
        let _ = tokio::time::timeout(within, ended.wait_for(|ended| *ended >= number)).await;
    }

    /// Wants a poll that begins from now on and asks for everything, and waits for its end.
    pub(super) async fn ask_anew(&self) {
        let number = self.want_everything();
        // The other end lives as long as this.
        let _ = self.ended.subscribe().wait_for(|ended| *ended >= number).await;
    }

    /// Wants a poll that asks for everything; its number.
    pub(super) fn want_everything(&self) -> u64 {
        let mut state = self.state();
        state.next = Some(state.next.unwrap_or(0));
        state.everything = true;
        self.wanted.notify_one();
        state.begun + 1
    }

    /// Whether the next poll is wanted by an operator.
    pub(super) fn is_for_everything(&self) -> bool {
        self.state().everything
    }

    /// The number of the poll to wait for; none if one that has ended answers already.
    fn want(&self, expected: u64) -> Option<u64> {
        let mut state = self.state();
        if state.running.is_some_and(|running| running >= expected) {
            return Some(state.begun);
        }
        if state.asked.is_some_and(|(asked, at)| asked >= expected && at.elapsed() < ANSWERED) {
            return None;
        }
        state.next = Some(state.next.unwrap_or(0).max(expected));
        self.wanted.notify_one();
        Some(state.begun + 1)
    }

    /// Waits until a poll is wanted.
    pub(super) async fn wanted(&self) {
        while self.state().next.is_none() {
            self.wanted.notified().await;
        }
    }

    /// A poll begins; the moment that it is to ask of, and whether of everything.
    pub(super) fn begin(&self) -> (u64, bool) {
        let mut state = self.state();
        state.begun += 1;
        let expected = state.next.take().unwrap_or(0);
        state.running = Some(expected);
        (expected, std::mem::take(&mut state.everything))
    }

    /// The poll has ended.
    pub(super) fn end(&self) {
        let number = {
            let mut state = self.state();
            let expected = state.running.take().unwrap_or(0);
            state.asked = Some((expected, Instant::now()));
            state.begun
        };
        self.ended.send_replace(number);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change of it is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    #[tokio::test(start_paused = true)]
    async fn all_who_ask_of_one_moment_wait_for_one_poll() {
        let polls = Arc::new(Polls::default());
        let ask = |expected| {
            let polls = Arc::clone(&polls);
            tokio::spawn(async move { polls.ask(expected, LONG).await })
        };
        let first: Vec<_> = (0..100).map(|_| ask(7)).collect();
        polls.wanted().await;
        // Those that came before it began, and those that come while it runs.
        tokio::task::yield_now().await;
        assert_eq!(polls.begin(), (7, false));
        let later: Vec<_> = (0..100).map(|_| ask(7)).collect();
        tokio::task::yield_now().await;
        polls.end();
        for waiting in first.into_iter().chain(later) {
            waiting.await.unwrap();
        }
        ask(7).await.unwrap();
        assert_eq!(polls.state().begun, 1, "it answers for a while");
        tokio::time::advance(ANSWERED).await;
        let again = ask(7);
        polls.wanted().await;
        polls.begin();
        polls.end();
        again.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_later_moment_is_not_answered_by_a_poll_for_an_earlier_one() {
        let polls = Arc::new(Polls::default());
        polls.begin();
        let waiting = {
            let polls = Arc::clone(&polls);
            tokio::spawn(async move { polls.ask(9, LONG).await })
        };
        tokio::task::yield_now().await;
        polls.end();
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        assert_eq!(polls.begin(), (9, false));
        polls.end();
        waiting.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_longer_than_was_said() {
        let polls = Polls::default();
        let began = Instant::now();
        polls.ask(1, Duration::from_secs(5)).await;
        assert_eq!(began.elapsed(), Duration::from_secs(5));
    }
}
