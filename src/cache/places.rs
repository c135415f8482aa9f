//! Places among the fills that run.
//!
//! A fill that a client waits for takes the next place that is free, in the order of asking. One in the background
//! first needs a place among those that the background may have, and then takes a place only when nobody else waits
//! for one; it waits as long as that takes. When a client joins it, it gives its place in the background back and waits
//! as any other does, or goes on if it runs already.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::FillError;
use crate::telemetry::{Limit, Telemetry};
use crate::upstream::Haste;

/// How long a fill that is waited for waits for a place; clients give up after 10 s.
const PLACE_WAIT: Duration = Duration::from_secs(8);

/// All places.
pub(super) struct Places {
    most: u32,
    all: Arc<Semaphore>,
    background: Arc<Semaphore>,
    /// Rung when a place is given back.
    freed: Notify,
    telemetry: Telemetry,
}

/// A place, until it is dropped.
pub(super) struct Place {
    places: Arc<Places>,
    all: Option<OwnedSemaphorePermit>,
    /// Its place in the background, while it is there.
    background: Mutex<Option<OwnedSemaphorePermit>>,
}

impl Places {
    /// So many, of which the background may have some percent.
    pub(super) fn new(most: usize, percent: u32, telemetry: Telemetry) -> Arc<Self> {
        let background = (most.saturating_mul(percent as usize) / 100).max(1);
        Arc::new(Self {
            most: u32::try_from(most).unwrap_or(u32::MAX),
            all: Arc::new(Semaphore::new(most)),
            background: Arc::new(Semaphore::new(background)),
            freed: Notify::new(),
            telemetry,
        })
    }

    /// A place, when there is one.
    ///
    /// # Errors
    /// When somebody waited for it too long.
    pub(super) async fn enter(self: &Arc<Self>, haste: &Haste) -> Result<Place, FillError> {
        let (all, background) = tokio::select! {
            biased;
            () = haste.until_awaited() => (self.awaited().await?, None),
            (all, background) = self.behind() => (all, Some(background)),
        };
        let place = Place { places: Arc::clone(self), all: Some(all), background: Mutex::new(background) };
        Ok(place)
    }

    /// Waits until all places are free.
    pub(super) async fn all_free(&self) {
        // It is never closed.
        let _ = self.all.acquire_many(self.most).await;
    }

    async fn awaited(&self) -> Result<OwnedSemaphorePermit, FillError> {
        if let Ok(place) = Arc::clone(&self.all).try_acquire_owned() {
            return Ok(place);
        }
        self.met(Limit::Fills);
        let place = tokio::time::timeout(PLACE_WAIT, Arc::clone(&self.all).acquire_owned()).await;
        place.map_err(|_| FillError::Busy(Limit::Fills))?.map_err(|_| FillError::Stopped)
    }

    async fn behind(&self) -> (OwnedSemaphorePermit, OwnedSemaphorePermit) {
        let background = match Arc::clone(&self.background).try_acquire_owned() {
            Ok(place) => place,
            Err(_) => {
                self.met(Limit::BackgroundFills);
                Arc::clone(&self.background).acquire_owned().await.expect("the semaphore is never closed")
            }
        };
        let mut has_waited = false;
        loop {
            let freed = self.freed.notified();
            // What is given back goes to those who wait in the queue; here is left what none of them wants.
            if let Ok(all) = Arc::clone(&self.all).try_acquire_owned() {
                return (all, background);
            }
            if !std::mem::replace(&mut has_waited, true) {
                self.met(Limit::Fills);
            }
            freed.await;
        }
    }

    fn met(&self, limit: Limit) {
        if self.telemetry.limited(limit, Instant::now()) {
            tracing::info!("{} ({}); more of them wait", limit.phrase(), limit.setting());
        }
    }
}

impl Place {
    /// The fill is waited for from now on, and takes no place of the background any more.
    pub(super) fn leave_background(&self) {
        drop(self.background.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.leave_background();
        drop(self.all.take());
        self.places.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::watch;

    use super::*;
    use crate::model::Urgency;

    fn soon() -> Duration {
        Duration::from_secs(1)
    }

    #[tokio::test(start_paused = true)]
    async fn the_background_comes_behind_those_who_wait_and_has_no_more_than_its_part() {
        let places = Places::new(2, 50, Telemetry::new("0"));
        let (now, behind) = (Haste::default(), Haste::background());
        let first = places.enter(&behind).await.unwrap();
        assert!(tokio::time::timeout(soon(), places.enter(&behind)).await.is_err(), "one place is its part");
        let second = places.enter(&now).await.unwrap();
        drop((first, second));

        let places = Places::new(1, 50, Telemetry::new("0"));
        let first = places.enter(&now).await.unwrap();
        let (entered, mut order) = tokio::sync::mpsc::unbounded_channel();
        let enter = |name: &'static str, haste: Haste| {
            let (places, entered) = (Arc::clone(&places), entered.clone());
            tokio::spawn(async move {
                let place = places.enter(&haste).await.unwrap();
                entered.send(name).unwrap();
                drop(place);
            })
        };
        let behind = enter("behind", behind);
        tokio::time::sleep(soon()).await;
        let tasks = [behind, enter("awaited", now)];
        tokio::time::sleep(soon()).await;
        drop(first);
        for task in tasks {
            task.await.unwrap();
        }
        let order = [order.recv().await, order.recv().await];
        assert_eq!(order, [Some("awaited"), Some("behind")], "though it asked later");
    }

    #[tokio::test(start_paused = true)]
    async fn what_becomes_urgent_leaves_the_background_and_waits_no_longer_than_others() {
        let places = Places::new(2, 50, Telemetry::new("0"));
        let (urgency, said) = watch::channel(Urgency::Background);
        let running = places.enter(&Haste::background()).await.unwrap();
        let waiting = {
            let (places, haste) = (Arc::clone(&places), Haste::of(said));
            tokio::spawn(async move { places.enter(&haste).await })
        };
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert!(!waiting.is_finished(), "the background waits as long as that takes");
        urgency.send_replace(Urgency::Awaited);
        let joined = waiting.await.unwrap().unwrap();
        assert!(matches!(places.enter(&Haste::default()).await, Err(FillError::Busy(Limit::Fills))));
        running.leave_background();
        drop(joined);
        assert!(places.enter(&Haste::background()).await.is_ok(), "the one that runs is no part of it");
    }
}
