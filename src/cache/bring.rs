//! Bringing a file here without a client that waits for it.

use std::fmt;
use std::sync::Arc;

use super::flight::{Landed, Settled};
use super::{Checked, Fetcher, FillError, View};
use crate::model::{Entry, Expectation, Hub, Resource, Revision, Urgency};
use crate::store::StoreError;
use crate::upstream::{Failure, Haste};

/// Why a file was not brought here.
#[derive(Clone, Debug)]
pub enum NotBrought {
    /// The hub says that there is no such file, or that not everybody may have it.
    Missing,
    /// The hub could not be asked; it may go well later.
    Failed(Arc<Failure>),
    /// Fetching it failed.
    Fill(Arc<FillError>),
    /// It was fetched and is right, and there was no room to keep it.
    NoRoom,
    /// The index cannot be read.
    Store(StoreError),
}

impl fmt::Display for NotBrought {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("the hub does not have it"),
            Self::Failed(failure) => failure.fmt(f),
            Self::Fill(error) => error.fmt(f),
            Self::NoRoom => f.write_str("there is no room to keep it"),
            Self::Store(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for NotBrought {}

impl Fetcher {
    /// Sees to it that a file is held, as its hub has it now: fetched if it is not here, and verified. Of a mutable
    /// revision the hub is asked first.
    ///
    /// # Errors
    /// See [`NotBrought`].
    pub async fn bring(self: &Arc<Self>, asked: &Resource) -> Result<Arc<Entry>, NotBrought> {
        if !asked.revision.is_immutable() {
            match self.check_calmly(asked).await {
                Checked::Answered(Ok(_)) => {}
                Checked::Answered(Err(failure)) => return Err(of_failure(&failure)),
                Checked::Late => return Err(NotBrought::Failed(Arc::new(Failure::TimedOut))),
            }
        }
        let found = self.cache.look_up(asked, View::Latest).map_err(NotBrought::Store)?;
        if let Some(entry) = found.current {
            return Ok(entry);
        }
        // A branch that the hub did not resolve is no file that could be fetched.
        if asked.hub == Hub::HuggingFace && matches!(found.subject.revision, Revision::Named(_)) {
            return Err(NotBrought::Missing);
        }
        let ticket = self.follow_as(Urgency::Background, &found.subject, asked, None);
        let ticket = ticket.map_err(|e| NotBrought::Fill(Arc::new(e)))?;
        match ticket.verdict().await {
            Ok(Settled::Landed(Landed::Stored(entry) | Landed::Linked(entry))) => Ok(entry),
            Ok(Settled::Landed(Landed::Unstored) | Settled::Coming(_)) => Err(NotBrought::NoRoom),
            Err(error) => match &*error {
                FillError::Upstream(failure) if failure.is_denied() => Err(NotBrought::Missing),
                _ => Err(NotBrought::Fill(error)),
            },
        }
    }
}

impl Fetcher {
    /// As [`Fetcher::check`], and where the hub asks to be left alone, once more when that is over.
    async fn check_calmly(self: &Arc<Self>, asked: &Resource) -> Checked<Expectation> {
        let nobody = Haste::background();
        let mut tried = 0;
        loop {
            self.upstream.until_calm(asked.hub, &nobody).await;
            match self.check(asked, None).await {
                Checked::Answered(Err(failure)) if failure.is_limited() => {
                    tried += 1;
                    tokio::time::sleep(self.upstream.settings().wait(tried, None)).await;
                }
                answered => return answered,
            }
        }
    }
}

fn of_failure(failure: &Arc<Failure>) -> NotBrought {
    if failure.is_denied() { NotBrought::Missing } else { NotBrought::Failed(Arc::clone(failure)) }
}
