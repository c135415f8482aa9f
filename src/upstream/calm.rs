//! What nobody waits for leaves a hub alone that asks for it, or has little left to give.

use std::time::{Duration, Instant};

use super::holdoff::Kind;
use super::{Client, Failure, Haste};
use crate::model::Hub;

impl Client {
    /// Does what `attempt` does. While nobody waits for it, it is not done before the hub may be asked by those who
    /// are in no haste, and done again when the hub asks to be left alone.
    pub(super) async fn patiently<T, F>(
        &self,
        hub: Hub,
        haste: &Haste,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let mut tried = 0;
        loop {
            self.until_calm(hub, haste).await;
            match attempt().await {
                Err(failure) if failure.is_limited() && !haste.is_awaited() => {
                    tried += 1;
                    tracing::debug!(%hub, error = %failure, "a download in the background pauses");
                    // Also a hub that names no time, or none at all, is left alone a little.
                    self.pause(self.settings.wait(tried, None), haste).await;
                }
                done => return done,
            }
        }
    }

    /// Waits until somebody waits, or until the hub neither asks to be left alone nor has little of its quota left. A
    /// hub with mirrors is not waited for.
    pub async fn until_calm(&self, hub: Hub, haste: &Haste) {
        while !haste.is_awaited() && self.sites.for_request(hub, false, Instant::now()).len() < 2 {
            let now = Instant::now();
            let until = self.admissions[&hub].busy_until(Kind::Files, self.settings.quota_reserve, now);
            let Some(until) = until else { return };
            self.pause(until.saturating_duration_since(now), haste).await;
        }
    }

    async fn pause(&self, time: Duration, haste: &Haste) {
        tokio::select! {
            () = tokio::time::sleep(time) => {}
            () = haste.until_awaited() => {}
        }
    }
}
