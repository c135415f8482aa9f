//! What the log on stderr is to look like; the program's shell sets it up.

use tracing_subscriber::EnvFilter;

/// The settings of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How a line is written.
    pub format: Format,
    /// What is written.
    pub level: Level,
}

/// How a log line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// A level, or directives such as `info,hubcache::upstream=debug`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Level(String);

impl Level {
    /// Reads a level or a list of directives; `None` when one of them is not understood.
    pub fn parse(text: &str) -> Option<Self> {
        let known = |d: &str| {
            let level = d.rsplit_once('=').map_or(d, |(_, level)| level).trim();
            // A bare word that is no level would be taken for the name of a module and switch everything else off.
            ["off", "error", "warn", "info", "debug", "trace"].iter().any(|l| level.eq_ignore_ascii_case(l))
        };
        let ok = text.split(',').all(known) && EnvFilter::try_new(text).is_ok();
        ok.then(|| Self(text.to_owned()))
    }

    /// The filter for the subscriber.
    pub fn filter(&self) -> EnvFilter {
        EnvFilter::new(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_a_word_or_a_list_of_directives() {
        for good in ["info", "WARN", "off", "info,hubcache::upstream=debug", "hubcache=trace"] {
            assert!(Level::parse(good).is_some(), "{good}");
        }
        for bad in ["", "verbose", "info,", "hubcache=loud", "hubcache", "info debug"] {
            assert!(Level::parse(bad).is_none(), "{bad:?}");
        }
    }
}
