//! A point in time that policy can be handed, instead of asking a clock for one.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The wall clock now; the shell of the program calls this, never a pure module.
    pub fn now() -> Self {
        Self::from(SystemTime::now())
    }

    /// How long ago `self` was at `now`; zero when the clock was set back in between.
    pub fn age(self, now: Self) -> Duration {
        Duration::from_millis(now.0.saturating_sub(self.0))
    }

    /// The point `d` later.
    #[must_use]
    pub fn plus(self, d: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(d.as_millis()).unwrap_or(u64::MAX)))
    }

    /// The same as the standard library's type, for formatting.
    pub fn to_system(self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.0)
    }
}

/// A duration for people: in its largest unit that fits, and the next one below.
pub fn lasting(d: Duration) -> String {
    let seconds = d.as_secs();
    let two = |large: u64, one: &str, small: u64, other: &str| match small {
        0 => format!("{large} {one}"),
        _ => format!("{large} {one} {small} {other}"),
    };
    match seconds {
        0 if d.subsec_millis() > 0 => format!("{} ms", d.subsec_millis()),
        0..60 => format!("{seconds} s"),
        60..3_600 => two(seconds / 60, "min", seconds % 60, "s"),
        3_600..86_400 => two(seconds / 3_600, "h", seconds / 60 % 60, "min"),
        _ => two(seconds / 86_400, "d", seconds / 3_600 % 24, "h"),
    }
}

impl From<SystemTime> for Timestamp {
    fn from(t: SystemTime) -> Self {
        let since = t.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_told_in_two_units_at_most() {
        for (ms, text) in [
            (0, "0 s"),
            (800, "800 ms"),
            (1_900, "1 s"),
            (60_000, "1 min"),
            (75_000, "1 min 15 s"),
            (7_380_000, "2 h 3 min"),
            (86_400_000 * 3, "3 d"),
            (86_400_000 * 3 + 3_600_000, "3 d 1 h"),
        ] {
            assert_eq!(lasting(Duration::from_millis(ms)), text);
        }
    }
}
