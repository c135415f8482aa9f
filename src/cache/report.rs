//! What is told of a fill that has ended: to the log, the metrics and the audit log.

use std::time::Instant;

use super::FillError;
use super::fill::Fill;
use super::flight::Landed;
use crate::model::{EntryKey, Timestamp};
use crate::telemetry::audit::{Deed, Record};

impl Fill {
    pub(super) fn report(&self, end: &Result<Landed, FillError>, began: Instant) {
        let took = began.elapsed();
        self.fetcher.telemetry.fill_ended(took);
        let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        self.audit(end);
        match end {
            Ok(Landed::Stored(e) | Landed::Linked(e)) => tracing::info!(
                file = %self.resource,
                size_bytes = e.size,
                sha256 = %e.blob,
                standing = e.standing.as_str(),
                fetched = matches!(end, Ok(Landed::Stored(_))),
                took_ms,
                "file stored"
            ),
            Ok(Landed::Unstored) => {
                tracing::info!(file = %self.resource, took_ms, "file passed on, not kept")
            }
            Err(FillError::Stopped | FillError::Orphaned) => {
                tracing::info!(file = %self.resource, took_ms, "file left unfinished");
            }
            // Clients try many names; the line of the request tells of it.
            Err(FillError::Upstream(failure)) if failure.is_denied() => {
                tracing::debug!(file = %self.resource, error = %failure, took_ms, "no such file, or not for everybody");
            }
            Err(error) => {
                let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
                tracing::warn!(file = %self.resource, %error, cause, took_ms, "file not stored");
            }
        }
    }
}

impl Fill {
    /// Tells the audit log of a file that was fetched, or that was not although the hub has it.
    fn audit(&self, end: &Result<Landed, FillError>) {
        let (entry, outcome, detail) = match end {
            Ok(Landed::Stored(entry)) => (Some(entry), "stored", None),
            Ok(Landed::Linked(entry)) => (Some(entry), "linked", None),
            Ok(Landed::Unstored) => (None, "unstored", None),
            Err(FillError::Stopped | FillError::Orphaned) => return,
            Err(FillError::Upstream(failure)) if failure.is_denied() => return,
            Err(error) => (None, "failed", Some(error.to_string())),
        };
        let EntryKey { hub, root, repo, revision, path } = &self.key;
        self.fetcher.telemetry.audit(|| Record {
            at: Timestamp::now(),
            deed: Deed::Filled,
            host: Some(root.to_string()),
            hub: Some(*hub),
            repo: Some(repo.to_string()),
            revision: Some(revision.clone()),
            path: Some(path.clone()),
            sha256: entry.map(|entry| entry.blob),
            bytes: entry.map(|entry| entry.size),
            outcome: Some(outcome.to_owned()),
            detail,
            ..Record::default()
        });
    }
}
