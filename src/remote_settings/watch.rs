//! The way to the server: polls, and what each of them brings.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::ask::base_of;
use super::held::{CHANGESET, Held};
use super::snapshot::{Base, merged, snapshot};
use super::status::kept;
use super::trouble::Trouble;
use super::{RemoteSettings, Settings, happening};
use crate::cache::Fetcher;
use crate::model::{Collection, EntryKey, Event, Snapshot, Timestamp};
use crate::store::StoreError;

/// A held collection is asked for again after this time, although nothing has changed: its signature is made anew.
const DAILY: Duration = Duration::from_secs(24 * 3600);
/// The same when its chain has less than half of its life left.
const HOURLY: Duration = Duration::from_secs(3600);
/// The least time between two polls that clients want.
const LEAST: Duration = Duration::from_secs(1);
/// Collections that are kept because clients asked for them, beside those that are watched.
const MAX_OTHERS: u64 = 256;
/// Most bytes of one of them.
const MAX_OTHER: usize = 8 << 20;

/// The way to the server, and for renewals to the hubs.
pub struct Watcher {
    pub(super) remote: Arc<RemoteSettings>,
    pub(super) fetcher: Arc<Fetcher>,
}

impl Watcher {
    /// A watcher that keeps `remote` up to date by way of `fetcher`.
    pub fn new(remote: Arc<RemoteSettings>, fetcher: Arc<Fetcher>) -> Arc<Self> {
        if let Some(base) = remote.held().server.as_ref().and_then(|said| base_of(said)) {
            fetcher.upstream().set_attachments(base);
        }
        Arc::new(Self { remote, fetcher })
    }

    /// Polls at once, every so often, and whenever somebody wants it, until it is dropped.
    pub async fn run(self: Arc<Self>) {
        loop {
            let began = tokio::time::Instant::now();
            self.poll().await;
            // So that many caches that were started together do not ask together.
            let jittered = self.settings().interval.mul_f64(0.9 + fastrand::f64() / 5.0);
            tokio::select! {
                () = tokio::time::sleep(jittered) => {}
                () = self.remote.polls.wanted() => {
                    // Clients can hear of ever later moments.
                    if !self.remote.polls.is_for_everything() {
                        tokio::time::sleep_until(began + LEAST).await;
                    }
                }
            }
        }
    }

    /// Polls here and now, for everything; for where nothing else polls.
    pub async fn poll_everything(&self) {
        self.remote.polls.want_everything();
        self.poll().await;
    }

    /// Polls as soon as nothing else does, whatever was asked a moment ago, and has every signature renewed.
    pub async fn sync(&self) {
        self.remote.polls.ask_anew().await;
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.remote.settings
    }

    /// Asks the server what has changed, and takes it over.
    pub async fn poll(&self) {
        let (expected, everything) = self.remote.polls.begin();
        let polled = self.poll_for(expected, everything).await;
        self.remote.telemetry.settings_polled(polled.is_ok());
        {
            let mut watching = self.remote.watching();
            watching.trouble = polled.as_ref().err().map(ToString::to_string);
            if polled.is_ok() {
                watching.polled_at = Some(Timestamp::now());
            }
        }
        match &polled {
            // It was said when the server asked for it.
            Err(Trouble::LeftAlone(_)) | Ok(()) => {}
            Err(trouble) => {
                tracing::warn!(server = %self.settings().server, %trouble, "remote settings cannot be polled")
            }
        }
        self.remote.polls.end();
        self.remote.renewals.notify_one();
        self.remote.attachments.notify_one();
    }

    async fn poll_for(&self, expected: u64, everything: bool) -> Result<(), Trouble> {
        if let Some(left) = self.remote.left_alone() {
            return Err(Trouble::LeftAlone(left));
        }
        let now = Timestamp::now();
        let held = self.remote.held();
        if held.server.is_none() || held.server_at.age(now) >= DAILY {
            self.learn_server().await?;
        }
        let list = self.change_list(expected).await?;
        for collection in &self.settings().collections {
            let synced = match list.at(collection) {
                None if self.remote.held().collections.contains_key(collection) => continue,
                None => Err(Trouble::Unlisted),
                Some(at) if everything || self.is_due(collection, at, now) => {
                    self.sync_to(collection, at).await
                }
                Some(_) => continue,
            };
            self.note(collection, &synced);
            // What is wrong with one collection is no reason to leave the others.
            match synced {
                Err(trouble) if trouble.is_of_server() => return Err(trouble),
                _ => {}
            }
        }
        let tried = self.remote.watching().bundle_tried;
        if held.bundle_at.age(now) >= DAILY && tried.age(now) >= HOURLY {
            self.remote.watching().bundle_tried = now;
            let fetched = self.fetch_bundle().await;
            if let Err(trouble) = fetched {
                tracing::info!(%trouble, "the startup bundle is not taken over");
            }
        }
        Ok(())
    }

    /// Whether a collection is to be asked for that has changed at `listed` for the last time.
    fn is_due(&self, collection: &Collection, listed: u64, now: Timestamp) -> bool {
        let held = self.remote.held();
        let Some(snapshot) = held.collections.get(collection) else { return true };
        let tried = self.remote.watching().tried.get(collection).copied().unwrap_or(snapshot.checked_at);
        listed > snapshot.timestamp || needs_signature(snapshot, tried, now)
    }

    fn note(&self, collection: &Collection, synced: &Result<(), Trouble>) {
        let mut watching = self.remote.watching();
        watching.tried.insert(collection.clone(), Timestamp::now());
        match synced {
            Ok(()) => drop(watching.troubles.remove(collection)),
            Err(trouble) => {
                if matches!(trouble, Trouble::Unsigned(_) | Trouble::Replay { .. }) {
                    self.remote.telemetry.settings_refused();
                    tracing::error!(%collection, %trouble, "a collection of remote settings was refused; the last good state stays");
                } else {
                    tracing::warn!(%collection, %trouble, "a collection of remote settings is not up to date");
                }
                watching.troubles.insert(collection.clone(), trouble.to_string());
            }
        }
    }

    /// Takes over the state of a collection that has changed at `at`. What is not signed is fetched once more, from
    /// scratch.
    async fn sync_to(&self, collection: &Collection, at: u64) -> Result<(), Trouble> {
        let held = self.remote.snapshot(collection)?;
        let first = self.attempt(collection, at, held.as_deref(), false).await;
        match first {
            Err(Trouble::Unsigned(why)) => {
                tracing::warn!(%collection, %why, "a collection is fetched once more from scratch");
                self.attempt(collection, at, held.as_deref(), true).await
            }
            done => done,
        }
    }

    async fn attempt(
        &self,
        collection: &Collection,
        at: u64,
        held: Option<&Snapshot>,
        from_scratch: bool,
    ) -> Result<(), Trouble> {
        // The server has nothing to say of what has changed since a moment that is yet to come for it.
        let since = held.map(|held| held.timestamp).filter(|since| !from_scratch && *since <= at);
        let (set, is_delta) = self.changeset(collection, at, since).await?;
        let base = match held {
            Some(held) if is_delta => Base::Since(held),
            held => Base::Whole(held),
        };
        let records = merged(base, &set);
        let (validity, chains) = self.verified(collection, &records, &set, from_scratch).await?;
        let now = Timestamp::now();
        let mut next = snapshot(collection, base, records, set, validity, now);
        if let Some(held) = held {
            if next.timestamp < held.timestamp {
                return Err(Trouble::Replay { held: held.timestamp, offered: next.timestamp });
            }
            // The same state under a signature that lasts no longer is no news but that it is still so.
            if next.timestamp == held.timestamp && next.valid_until <= held.valid_until {
                next = Snapshot { checked_at: now, ..held.clone() };
            }
        }
        self.adopt(next, chains).await
    }

    /// Writes a signed state down with all that it announces, publishes it, and has it acted upon.
    pub(super) async fn adopt(&self, next: Snapshot, chains: BTreeMap<String, Bytes>) -> Result<(), Trouble> {
        let commit = self.remote.commit.lock().await;
        let collection = next.collection.clone();
        let before = self.remote.snapshot(&collection)?;
        if before.as_ref().is_some_and(|before| before.timestamp > next.timestamp) {
            return Ok(());
        }
        let is_watched = self.settings().is_watched(&collection);
        let is_news = before.as_ref().is_none_or(|before| before.timestamp < next.timestamp);
        let body = serde_json::to_vec(&next).expect("records are JSON");
        if !is_watched && body.len() > MAX_OTHER {
            return Ok(());
        }
        let old = self.remote.held();
        let mut held = Held::clone(&old);
        let mut decisions = self.keep_chains(&mut held, chains);
        decisions.push(self.document(&collection.to_string(), CHANGESET, body.into()));
        let (timestamp, count) = (next.timestamp, next.records.len());
        if is_watched {
            held.collections.insert(collection.clone(), Arc::new(next));
            held.derive();
            if is_news {
                decisions.extend(self.announced(before.as_deref(), &collection, &held)?);
                decisions.extend(self.reinstated(&held)?);
            }
        }
        self.remote.decide(decisions).await?;
        self.remote.publish(held);
        if is_watched && is_news {
            let detail = format!("{count} records of {timestamp}");
            self.remote.tell(happening(Event::Synced, &collection.to_string(), detail));
            self.remote.renewals.notify_one();
            self.remote.attachments.notify_one();
            drop(commit);
            self.enforce_deny_list(&old).await;
        }
        Ok(())
    }

    /// Keeps a collection that is not watched, because a client has asked for it: it is answered from that while the
    /// server cannot be asked.
    pub async fn keep(&self, collection: Collection, at: u64) {
        let now = Timestamp::now();
        let is_kept = match self.remote.snapshot(&collection) {
            Ok(Some(held)) if held.timestamp >= at && !needs_signature(&held, held.checked_at, now) => return,
            held => held.is_ok_and(|held| held.is_some()),
        };
        if self.remote.left_alone().is_some() || !self.remote.tries_to_keep(&collection, at, now) {
            return;
        }
        let has_room = is_kept || kept(self.settings(), &self.remote.store).is_ok_and(|n| n < MAX_OTHERS);
        if !has_room {
            return;
        }
        if let Err(trouble) = self.sync_to(&collection, at).await {
            tracing::debug!(%collection, %trouble, "a collection that a client asked for is not kept");
        }
    }
}

impl RemoteSettings {
    /// How long the server asked to be left alone yet.
    pub fn left_alone(&self) -> Option<Duration> {
        let now = Timestamp::now();
        let until = self.watching().left_alone_until.filter(|until| *until > now)?;
        Some(now.age(until))
    }

    /// A collection as it is held: one that is watched from memory, another from the store.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn snapshot(&self, collection: &Collection) -> Result<Option<Arc<Snapshot>>, StoreError> {
        if self.settings.is_watched(collection) {
            return Ok(self.held().collections.get(collection).cloned());
        }
        let key: EntryKey = self.settings.key(&collection.to_string(), CHANGESET);
        let document = self.store.document(&key)?;
        Ok(document.and_then(|document| serde_json::from_slice(&document.body).ok()).map(Arc::new))
    }
}

/// Whether a collection is to be fetched again for its signature, if it was asked for last at `tried`.
fn needs_signature(snapshot: &Snapshot, tried: Timestamp, now: Timestamp) -> bool {
    let half = (snapshot.valid_until.0.saturating_sub(snapshot.valid_from.0)) / 2;
    let is_late = now.0.saturating_add(half) >= snapshot.valid_until.0;
    tried.age(now) >= if is_late { HOURLY } else { DAILY }
}

#[cfg(test)]
mod tests {
    use super::super::snapshot::tests::{held, set};
    use super::*;
    use serde_json::json;

    #[test]
    fn a_signature_is_asked_for_daily_and_hourly_when_half_of_its_life_is_over() {
        let day = 24 * 3_600_000;
        let mut snapshot = held(Base::Whole(None), set(1, json!([])));
        (snapshot.valid_from, snapshot.valid_until) = (Timestamp(0), Timestamp(60 * day));
        for (now_days, tried_hours_ago, want) in [
            (1, 23, false),
            (1, 24, true),
            (29, 2, false),
            (30, 2, true),
            (30, 0, false),
            (59, 1, true),
            (70, 1, true),
        ] {
            let now = Timestamp(now_days * day);
            let tried = Timestamp(now.0 - tried_hours_ago * 3_600_000);
            assert_eq!(
                needs_signature(&snapshot, tried, now),
                want,
                "day {now_days}, {tried_hours_ago} h ago"
            );
        }
    }
}
