//! What is read again while the server runs: the file of tokens and rules, and the files of the TLS listener.
//!
//! Once a second it is looked whether one of them is another than before; SIGHUP has all read at once. What cannot be read
//! leaves what was read before in force, and is logged and told by `hubcache status`. SIGUSR1 has the audit log opened
//! again.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::MissedTickBehavior;

use super::tokens;
use crate::admin::control::chain;
use crate::listen::Given;
use crate::model::Timestamp;
use crate::proxy::Keeper;
use crate::telemetry::Telemetry;
use crate::telemetry::audit::Record;

/// How often it is looked whether files have changed.
const LOOK: Duration = Duration::from_secs(1);

/// SIGHUP and SIGUSR1, caught.
pub(super) struct Calls {
    hangup: Signal,
    user: Signal,
}

impl Calls {
    /// Catches both from now on.
    pub(super) fn install() -> io::Result<Self> {
        Ok(Self { hangup: signal(SignalKind::hangup())?, user: signal(SignalKind::user_defined1())? })
    }
}

/// What is read again.
pub(super) struct Reload {
    /// Who goes by it, and tells how it stands.
    pub(super) keeper: Arc<Keeper>,
    /// The file of tokens and rules.
    pub(super) tokens: Option<PathBuf>,
    /// The TLS listener.
    pub(super) given: Option<Arc<Given>>,
    pub(super) telemetry: Telemetry,
}

impl Reload {
    /// Reads again what has changed, until the task is aborted.
    pub(super) async fn run(self, mut calls: Calls) {
        let mut seen = self.stamps();
        let mut every = tokio::time::interval(LOOK);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let watches = self.tokens.is_some() || self.given.is_some();
        let this = Arc::new(self);
        loop {
            let is_asked = tokio::select! {
                _ = every.tick(), if watches => false,
                Some(()) = calls.hangup.recv() => {
                    tracing::info!(signal = "SIGHUP", "reading tokens, rules and certificates again");
                    true
                }
                Some(()) = calls.user.recv() => {
                    this.telemetry.reopen_audit();
                    continue;
                }
            };
            let (reload, before) = (Arc::clone(&this), seen.clone());
            // A disk that does not answer holds up nobody but this.
            let looked = tokio::task::spawn_blocking(move || reload.look(&before, is_asked)).await;
            seen = looked.unwrap_or(seen);
        }
    }

    /// Reads again what is another than before, or everything if it is asked for.
    fn look(&self, before: &Stamps, is_asked: bool) -> Stamps {
        // Taken first: what changes while it is read is another the next time.
        let now = self.stamps();
        if is_asked || now.tokens != before.tokens {
            self.read_tokens();
        }
        if is_asked || now.given != before.given {
            self.read_certificates();
        }
        now
    }

    fn read_tokens(&self) {
        let Some(path) = &self.tokens else { return };
        match tokens::read(path) {
            Ok((_, book)) => {
                let (tokens, rules) = (book.tokens.len(), book.rules.len());
                self.keeper.replace(book);
                tracing::info!(file = %path.display(), tokens, rules, "tokens and rules were read");
                let detail = format!("{}: {tokens} tokens, {rules} rules", path.display());
                self.telemetry.audit(|| Record::changed(Timestamp::now(), "access", detail));
            }
            Err(error) => {
                let why = chain(&error);
                tracing::error!(error = why, "tokens and rules stay as they were");
                self.keeper.keep(why);
            }
        }
    }

    fn read_certificates(&self) {
        let Some(given) = &self.given else { return };
        let file = given.settings().certificate.display();
        match given.reload() {
            Ok(()) => {
                self.keeper.note_certificates(None);
                tracing::info!(%file, "certificates were read");
                let detail = format!("{file} and what belongs to it");
                self.telemetry.audit(|| Record::changed(Timestamp::now(), "certificate", detail));
            }
            Err(error) => {
                let why = chain(&error);
                tracing::error!(error = why, "certificates stay as they were");
                self.keeper.note_certificates(Some(why));
            }
        }
    }

    fn stamps(&self) -> Stamps {
        let tokens = self.tokens.as_deref().and_then(stamp);
        let of_given = |given: &Arc<Given>| {
            let settings = given.settings();
            let clients = settings.clients.as_ref().map(|clients| &clients.authorities);
            [Some(&settings.certificate), Some(&settings.key), clients].map(|path| stamp(path?))
        };
        Stamps { tokens, given: self.given.as_ref().map(of_given) }
    }
}

/// What tells one state of the files from another.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamps {
    tokens: Option<Stamp>,
    given: Option<[Option<Stamp>; 3]>,
}

/// Device, number, length, and when content and all else changed, to the nanosecond.
type Stamp = [i128; 7];

/// Nothing for a file that is not there.
fn stamp(path: &Path) -> Option<Stamp> {
    let found = std::fs::metadata(path).ok()?;
    Some([
        found.dev().into(),
        found.ino().into(),
        found.len().into(),
        found.mtime().into(),
        found.mtime_nsec().into(),
        found.ctime().into(),
        found.ctime_nsec().into(),
    ])
}
