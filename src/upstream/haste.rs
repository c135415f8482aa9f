//! How urgent a request is, which may change while it waits.

use std::future::pending;

use tokio::sync::watch;

use crate::model::Urgency;

/// The urgency of a request. Without more said, somebody waits for it.
#[derive(Clone, Debug, Default)]
pub struct Haste(Option<watch::Receiver<Urgency>>);

impl Haste {
    /// As urgent as `urgency` says at each moment.
    pub fn of(urgency: watch::Receiver<Urgency>) -> Self {
        Self(Some(urgency))
    }

    /// As urgent as what never becomes urgent.
    pub fn background() -> Self {
        let (_, urgency) = watch::channel(Urgency::Background);
        Self(Some(urgency))
    }

    /// Whether somebody waits.
    pub fn is_awaited(&self) -> bool {
        self.0.as_ref().is_none_or(|urgency| *urgency.borrow() == Urgency::Awaited)
    }

    /// Waits until somebody waits.
    pub async fn until_awaited(&self) {
        let Some(urgency) = &self.0 else { return };
        let changed = urgency.clone().wait_for(|urgency| *urgency == Urgency::Awaited).await.is_ok();
        if !changed {
            // Nobody is left who could say so.
            pending::<()>().await;
        }
    }
}
