//! How it stands with each collection, for people and scripts.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::held::{CHANGESET, Held, ROOT, SERVER};
use super::{RemoteSettings, Settings};
use crate::model::{Collection, EntryKey, Hub, HubRoot, Renewal, Sha256, Snapshot, Timestamp};
use crate::store::{Selector, Store, StoreError};

/// How soon a collection that is not watched is fetched again for the same moment.
const KEEP_AGAIN: Duration = Duration::from_secs(600);
/// Collections of which that is remembered.
const MAX_KEPT: usize = 4096;

/// What the watcher has found, beside what is held.
#[derive(Clone, Debug, Default)]
pub(super) struct Watching {
    /// When the server was asked last, and answered.
    pub polled_at: Option<Timestamp>,
    /// Why the last poll failed, if it did.
    pub trouble: Option<String>,
    /// Until when the server asked to be left alone.
    pub left_alone_until: Option<Timestamp>,
    /// Why a collection is not the present one, if it is not.
    pub troubles: BTreeMap<Collection, String>,
    /// When the startup bundle was asked for last.
    pub bundle_tried: Timestamp,
    /// Collections that are not watched and were to be kept, at which moment, and when that was tried.
    pub kept: BTreeMap<Collection, (u64, Timestamp)>,
    /// When a collection was asked for last.
    pub tried: BTreeMap<Collection, Timestamp>,
}

/// How it stands with Remote Settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingsStatus {
    /// The server.
    pub server: HubRoot,
    /// The roots under which collections are signed.
    pub roots: Vec<Sha256>,
    /// Whether the server is asked: by a server that runs with a network.
    pub watching: bool,
    /// When it answered last; not known without a server that runs.
    pub polled_at: Option<Timestamp>,
    /// Why the last poll failed, if it did.
    pub trouble: Option<String>,
    /// Until when the server asked to be left alone.
    pub left_alone_until: Option<Timestamp>,
    /// Each collection that is watched.
    pub collections: Vec<CollectionStatus>,
    /// How many other collections are held, because clients asked for them.
    pub others: u64,
    /// Jobs of announcements that are not done, with what each is about.
    pub renewals: Vec<(EntryKey, Renewal)>,
    /// Models of which all revisions are kept.
    pub holds: Vec<(String, Timestamp)>,
}

/// How it stands with one collection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CollectionStatus {
    /// Which one.
    pub collection: Collection,
    /// What the signature is like.
    pub signed: Signed,
    /// The moment that is held, in milliseconds as the server counts them.
    pub timestamp: Option<u64>,
    /// How many records.
    pub records: u64,
    /// When the signature was found good.
    pub verified_at: Option<Timestamp>,
    /// When the server last said that this is the present state.
    pub checked_at: Option<Timestamp>,
    /// After then Firefox refuses the signature.
    pub firefox_until: Option<Timestamp>,
    /// Why it is not the present state, if it is not.
    pub trouble: Option<String>,
}

/// What the signature of a collection is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Signed {
    /// Nothing is held.
    Missing,
    /// It was found good, and Firefox would find so too.
    Good,
    /// It was found good, and Firefox no longer takes it.
    Expired,
}

impl Signed {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Good => "good",
            Self::Expired => "expired",
        }
    }

    fn of(snapshot: Option<&Snapshot>, now: Timestamp) -> Self {
        match snapshot {
            None => Self::Missing,
            Some(snapshot) if now <= snapshot.valid_until => Self::Good,
            Some(_) => Self::Expired,
        }
    }
}

impl RemoteSettings {
    /// How it stands; `watching` says whether the server is asked.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn status(&self, watching: bool, now: Timestamp) -> Result<SettingsStatus, StoreError> {
        let found = self.watching();
        let mut status = assembled(&self.settings, &self.held(), &self.store, &found.troubles, now)?;
        status.watching = watching;
        status.polled_at = found.polled_at;
        status.trouble = found.trouble.clone();
        status.left_alone_until = found.left_alone_until.filter(|until| *until > now);
        Ok(status)
    }

    /// Whether a collection that is not watched is fetched now to be kept; what went wrong a moment ago is not tried for
    /// every client that asks.
    pub(super) fn tries_to_keep(&self, collection: &Collection, at: u64, now: Timestamp) -> bool {
        let mut watching = self.watching();
        let tried = watching.kept.get(collection);
        if tried.is_some_and(|(moment, when)| *moment >= at && when.age(now) < KEEP_AGAIN) {
            return false;
        }
        if watching.kept.len() >= MAX_KEPT {
            watching.kept.clear();
        }
        watching.kept.insert(collection.clone(), (at, now));
        true
    }

    pub(super) fn watching(&self) -> std::sync::MutexGuard<'_, Watching> {
        // Every change of it is whole.
        self.watching.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn assembled(
    settings: &Settings,
    held: &Held,
    store: &Store,
    troubles: &BTreeMap<Collection, String>,
    now: Timestamp,
) -> Result<SettingsStatus, StoreError> {
    let one = |collection: &Collection| {
        let snapshot = held.collections.get(collection).map(AsRef::as_ref);
        CollectionStatus {
            collection: collection.clone(),
            signed: Signed::of(snapshot, now),
            timestamp: snapshot.map(|s| s.timestamp),
            records: snapshot.map_or(0, |s| s.records.len() as u64),
            verified_at: snapshot.map(|s| s.verified_at),
            checked_at: snapshot.map(|s| s.checked_at),
            firefox_until: snapshot.map(|s| s.valid_until),
            trouble: troubles.get(collection).cloned(),
        }
    };
    let others = kept(settings, store)?.saturating_sub(held.collections.len() as u64);
    Ok(SettingsStatus {
        server: settings.server.clone(),
        roots: settings.roots.clone(),
        watching: false,
        polled_at: None,
        trouble: None,
        left_alone_until: None,
        collections: settings.collections.iter().map(one).collect(),
        others,
        renewals: store.renewals()?,
        holds: store.holds()?,
    })
}

/// How many collections are held, watched or not.
pub(super) fn kept(settings: &Settings, store: &Store) -> Result<u64, StoreError> {
    let scope = settings.key(SERVER, ROOT);
    let mut count = 0;
    store.document_keys(&Selector { hub: Some(Hub::Settings), ..Selector::default() }, &mut |key| {
        let is_ours = key.root == scope.root && key.revision == scope.revision;
        count += u64::from(is_ours && key.path == CHANGESET);
        ControlFlow::Continue(())
    })?;
    Ok(count)
}
