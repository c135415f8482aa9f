//! The log on stderr.

use std::io::IsTerminal;

use super::lines::Lines;
use super::plain::Plain;
use crate::telemetry::log::{Format, Settings};

/// Writes what of the log still waits, when it is dropped: to be held until the end.
#[must_use]
pub struct Log(Lines);

impl Drop for Log {
    fn drop(&mut self) {
        self.0.flush();
    }
}

/// Sends log lines to stderr from now on; a log that was started before stays as it is.
pub fn start_log(settings: &Settings) -> Log {
    // By convention an empty NO_COLOR is none.
    let plain = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
    let colours = !plain && std::io::stderr().is_terminal();
    let lines = Lines::new(std::io::stderr());
    let log = tracing_subscriber::fmt()
        .with_writer(lines.clone())
        .with_env_filter(settings.level.filter())
        .with_ansi(colours);
    let _ = match settings.format {
        Format::Text if colours => log.try_init(),
        Format::Text => log.event_format(Plain).try_init(),
        Format::Json => log.json().flatten_event(true).try_init(),
    };
    Log(lines)
}
