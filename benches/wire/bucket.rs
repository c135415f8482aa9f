//! A limit on bytes a second.

use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// What may be caught up of time in which nothing was sent.
const BURST: Duration = Duration::from_millis(10);

/// A token bucket, as the instant at which it is empty again.
pub struct Bucket {
    rate: Option<u64>,
    due: Mutex<Instant>,
}

impl Bucket {
    /// `None` limits nothing.
    pub fn new(rate: Option<u64>) -> Self {
        Self { rate, due: Mutex::new(Instant::now()) }
    }

    /// Waits until so many bytes may be sent.
    pub fn take(&self, bytes: usize) {
        let Some(rate) = self.rate else { return };
        let cost = Duration::from_secs_f64(bytes as f64 / rate as f64);
        let now = Instant::now();
        let due = {
            let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
            *due = (*due).max(now.checked_sub(BURST).unwrap_or(now)) + cost;
            *due
        };
        thread::sleep(due.saturating_duration_since(now));
    }
}
