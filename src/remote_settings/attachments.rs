//! Files that are attached to records of watched collections: fetched before anybody asks, and let go of when no record
//! has them any more. So are parts that were locked. What is pinned stays.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::stream::{self, StreamExt as _};

use super::renew::{AT_A_TIME, LOOK};
use super::{Held, Watcher};
use crate::model::{Collection, Decided, Hub, Resource, Superseded, Timestamp, is_of_locked};
use crate::store::{Decision, Selector, StoreError};

impl Watcher {
    /// Fetches attachments of watched collections, until it is dropped.
    pub async fn fetch(self: Arc<Self>) {
        let mut resting: BTreeMap<String, (u32, Timestamp)> = BTreeMap::new();
        while self.settings().attachments {
            self.fetch_attachments(&mut resting).await;
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = self.remote.attachments.notified() => {}
            }
        }
    }

    /// Fetches attachments of watched collections, and marks those that no record has any more for being dropped. One that
    /// cannot be had rests for a while, longer each time.
    async fn fetch_attachments(&self, resting: &mut BTreeMap<String, (u32, Timestamp)>) {
        let held = self.remote.held();
        let root = self.settings().server.clone();
        let now = Timestamp::now();
        resting.retain(|location, _| held.attachment(location).is_some());
        let missing = held.attachments().filter(|(file, _)| {
            matches!(self.remote.store.entry(&file.key(&root)), Ok(None))
                && resting.get(&file.path).is_none_or(|(_, until)| *until <= now)
        });
        let missing: Vec<(Resource, u64)> = missing.collect();
        let mut brought = stream::iter(missing.into_iter().map(|(file, size)| async move {
            self.fetcher.cache().expect_size(&file, size);
            let brought = self.fetcher.bring(&file).await;
            (file, brought)
        }))
        .buffer_unordered(AT_A_TIME);
        while let Some((file, brought)) = brought.next().await {
            match brought {
                Ok(_) => drop(resting.remove(&file.path)),
                Err(error) => {
                    tracing::warn!(%file, %error, "an attachment of remote settings cannot be fetched; it is tried again");
                    let (tried, until) = resting.entry(file.path).or_default();
                    let pause = self.pause(*tried);
                    (*tried, *until) = (*tried + 1, Timestamp::now().plus(pause));
                }
            }
        }
        if let Err(error) = self.let_go_of_attachments(&held).await {
            tracing::warn!(%error, "attachments that no record has cannot be marked");
        }
    }

    async fn let_go_of_attachments(&self, held: &Held) -> Result<(), StoreError> {
        let mut keys = Vec::new();
        let of_server = Selector {
            hub: Some(Hub::Settings),
            root: Some(self.settings().server.clone()),
            ..Selector::default()
        };
        self.remote.store.entries(&of_server, &mut |key, _, _| {
            keys.push(key);
            std::ops::ControlFlow::Continue(())
        })?;
        let now = Timestamp::now();
        let mut decisions = Vec::new();
        for key in keys {
            let decided = self.remote.store.decided(&key)?;
            let is_synced =
                || key.repo.id.parse::<Collection>().is_ok_and(|c| held.collections.contains_key(&c));
            let is_over = is_of_locked(&key.repo) || is_synced();
            if is_over && decided == Decided::default() && self.live(&key, held)?.is_none() {
                let drop_at = Some(now.plus(self.settings().grace));
                let (by, under) = (String::new(), self.settings().scope());
                let superseded = Superseded { by, at: now, drop_at, under };
                decisions.push(Decision::Supersede(key.of_revision(), superseded));
            }
        }
        if decisions.is_empty() { Ok(()) } else { self.remote.decide(decisions).await }
    }
}
