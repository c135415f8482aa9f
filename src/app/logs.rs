//! The log on stderr.

use std::io::IsTerminal;

use crate::telemetry::log::{Format, Settings};

/// Sends log lines to stderr from now on; a log that was started before stays as it is.
pub fn start_log(settings: &Settings) {
    // By convention an empty NO_COLOR is none.
    let plain = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
    let log = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(settings.level.filter())
        .with_ansi(!plain && std::io::stderr().is_terminal());
    let _ = match settings.format {
        Format::Text => log.try_init(),
        Format::Json => log.json().flatten_event(true).try_init(),
    };
}
