//! Remote Settings of Firefox: watched, verified, acted upon, and mirrored for clients.
//!
//! Mozilla publishes in signed *collections* which revision of which model each feature of Firefox uses, and what else
//! Firefox needs for them. [`RemoteSettings`] is what is held of it. A [`Watcher`] is the way to the server and to the
//! hubs: it polls, and carries out what announcements ask for. Without a network there is no watcher, and what is held
//! is served all the same.
//!
//! # From the server to the hubs
//! ```text
//! list of changes ──► changeset ──► merge ──► verify ──► commit ──► publish ──► renewals ──► files of the new revision
//!    (watch)            (wire)    (snapshot) (verify::  (one transaction:         (renew)         │
//!                                             signature) snapshot, chain,                         ▼
//!                                                        jobs, history)                 the old one is superseded
//! ```
//! Only `watch` with `ask`, and `renew` with `attachments` and `deny`, are asynchronous; what a changeset means, whether it is signed, what it announces and what
//! clients are told are pure functions.
//!
//! # What is held, and under what
//! A [`Snapshot`](crate::model::Snapshot) is the whole of a collection at a moment. It belongs to the server's root and
//! to the pinned roots of signatures under which it was verified: both are in the key under which it is stored, so under
//! others it is not there at all. A snapshot is replaced by
//! - one of a later moment that is signed;
//! - one of the same moment whose signature lasts longer, which is no change of records;
//! - nothing else. An earlier moment that is signed is a replay; what is not signed is fetched once more from scratch, and
//!   then the last good state stays.
//!
//! A signature has a shelf life. What was verified stays good here after it, but Firefox itself will refuse it then.
//!
//! What a lock pins of it is kept beside that, as files under their digests (`locked`): a state that is replaced is still
//! there for as long as its parts are pinned.
//!
//! # States of a renewal
//! ```text
//! announced ──► fetching ──► all that is there was fetched ──► superseded ──► dropped, after `grace`
//!    ▲             │                     │                          │
//!    └── backoff ◄─┘ nothing is there    └─► kept: another record   └─► taken back: a record names it again, or an
//!                    yet, or no hub          names it, or an            operator holds the model
//!                    answers                 operator holds it
//! ```
//! A renewal is a row of the store that is written in the transaction that commits the snapshot which announced it, and
//! removed in the one that supersedes; after a crash it is simply done again. Files that are held are not fetched twice.
//!
//! # Failure cases
//! - The server asks to be left alone (`Backoff`, `Retry-After`): it is not polled until then, whoever wants it, and
//!   clients are told what is held. Only a client that asks for something of which nothing is held is handed on.
//! - A changeset that cannot be read, is not signed or is a replay: the last good state stays, is served and acted upon;
//!   the log, a metric and `hubcache settings status` say so.
//! - No room on the disk: the snapshot is not committed, so nothing of it is acted upon.
//! - An announcement before its files are there: the renewal is tried again, twice as late each time.

mod announce;
mod ask;
mod attachments;
mod delivered;
mod deny;
mod held;
mod hold;
mod locked;
mod mirror;
mod needs;
mod poll;
mod renew;
mod snapshot;
mod startup;
mod status;
mod trouble;
mod watch;
mod wire;

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::{Notify, broadcast};

pub use announce::Announcement;
pub use delivered::{Delivered, Taken, Undeliverable};
pub use held::Held;
pub use hold::{LOCKED, end_pins, hold, keep, pin, release, unpin};
pub use locked::Lockable;
pub use mirror::{Answer, Bases, changes, changeset, rewrite_chains, server};
pub use needs::OPTIONS;
pub use status::{CollectionStatus, SettingsStatus, Signed};
pub use watch::Watcher;

use crate::hub;
use crate::model::{
    Collection, EntryKey, Event, Happening, Hub, HubRoot, OnAnnounce, Repo, RepoKind, Resource, Sha256,
    Timestamp,
};
use crate::policy::{Denied, DenyFor};
use crate::store::{Decision, Store, StoreError};
use crate::telemetry::Telemetry;
use crate::telemetry::audit::Record;
use poll::Polls;
use startup::pack;
use status::Watching;

/// What an operator can set of Remote Settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The server, with the version of its interface.
    pub server: HubRoot,
    /// The roots under which collections are signed.
    pub roots: Vec<Sha256>,
    /// How often the server is asked.
    pub interval: Duration,
    /// What is watched.
    pub collections: Vec<Collection>,
    /// What an announcement does with models of the Mozilla hub.
    pub on_announce_mozilla: OnAnnounce,
    /// The same for models of Hugging Face.
    pub on_announce_huggingface: OnAnnounce,
    /// How long a superseded revision is kept that is to be dropped.
    pub grace: Duration,
    /// The first pause before an announced revision that is not there yet is asked for again.
    pub retry: Duration,
    /// To whose requests the deny list applies.
    pub deny_for: DenyFor,
    /// Whether attachments are fetched before anybody asks for them.
    pub attachments: bool,
}

impl Settings {
    /// What an announcement does with models of a hub.
    pub fn on_announce(&self, hub: Hub) -> OnAnnounce {
        match hub {
            Hub::Mozilla => self.on_announce_mozilla,
            Hub::HuggingFace => self.on_announce_huggingface,
            Hub::Settings => OnAnnounce::Ignore,
        }
    }

    /// The key of what is held under this server and these roots: of a collection, or of `server` and `chains`.
    fn key(&self, of: &str, path: &str) -> EntryKey {
        let mut roots: Vec<String> = self.roots.iter().map(ToString::to_string).collect();
        roots.sort();
        let digest = <sha2::Sha256 as sha2::Digest>::digest(roots.join(","));
        EntryKey {
            hub: Hub::Settings,
            root: self.server.clone(),
            repo: Repo { kind: RepoKind::Model, id: of.to_owned() },
            revision: format!("under-{}", &crate::model::hex(&digest)[..16]),
            path: path.to_owned(),
        }
    }

    /// The same as a name: what was announced under others is not acted upon.
    fn scope(&self) -> String {
        let EntryKey { root, revision, .. } = self.key("", "");
        format!("{root} {revision}")
    }

    fn is_watched(&self, collection: &Collection) -> bool {
        self.collections.contains(collection)
    }
}

/// Happenings that wait for whoever listens slowly; older ones are skipped for it.
const HAPPENINGS: usize = 256;

/// Chains of which it is remembered where they are.
const TOLD_CHAINS: u64 = 1024;

/// What is held of Remote Settings, for everybody who reads it.
pub struct RemoteSettings {
    settings: Settings,
    store: Store,
    telemetry: Telemetry,
    held: RwLock<Arc<Held>>,
    watching: Mutex<Watching>,
    polls: Polls,
    /// Held by whoever takes a state over, carries a job out to its end, or has an operator's decision written: what each
    /// of them compares with must be what it replaces.
    commit: tokio::sync::Mutex<()>,
    happenings: broadcast::Sender<Happening>,
    /// Rung when there may be renewals to carry out.
    renewals: Notify,
    /// Rung when there may be attachments to fetch.
    attachments: Notify,
    /// Where chains are of which clients were told, by the paths of their URLs.
    told_chains: moka::sync::Cache<String, String>,
    /// The startup bundle as clients get it that reach its parts at these places, of what is held.
    packed: Mutex<Option<(Arc<Held>, Bases, bytes::Bytes)>>,
}

impl RemoteSettings {
    /// Reads what is held from the store.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn load(settings: Settings, store: Store, telemetry: Telemetry) -> Result<Arc<Self>, StoreError> {
        let held = Held::load(&settings, &store)?;
        Ok(Arc::new(Self {
            settings,
            store,
            telemetry,
            held: RwLock::new(Arc::new(held)),
            watching: Mutex::default(),
            polls: Polls::default(),
            commit: tokio::sync::Mutex::default(),
            happenings: broadcast::Sender::new(HAPPENINGS),
            renewals: Notify::new(),
            attachments: Notify::new(),
            told_chains: moka::sync::Cache::new(TOLD_CHAINS),
            packed: Mutex::default(),
        }))
    }

    /// Keeps everything as it is until the guard is dropped, for decisions of operators.
    pub async fn exclusively(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.commit.lock().await
    }

    /// What is held now.
    pub fn held(&self) -> Arc<Held> {
        Arc::clone(&self.held.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The settings in force.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Whatever happens from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Happening> {
        self.happenings.subscribe()
    }

    /// The record that denies a file to whoever asks for it, Firefox or not.
    pub fn denied(&self, resource: &Resource, root: &HubRoot, is_firefox: bool) -> Option<Denied> {
        if !self.settings.deny_for.applies(resource.hub, is_firefox) {
            return None;
        }
        self.denied_to_some(resource, root)
    }

    /// The record that denies a file to anybody.
    pub fn denied_to_some(&self, resource: &Resource, root: &HubRoot) -> Option<Denied> {
        self.denied_path(resource.hub, root, || hub::file_path(resource))
    }

    /// The record that denies what is at a path of a hub.
    pub fn denied_path(&self, hub: Hub, root: &HubRoot, path: impl FnOnce() -> String) -> Option<Denied> {
        let held = self.held();
        if held.denied.is_empty() || hub == Hub::Settings {
            return None;
        }
        denied_at(&held, hub, root, &path())
    }

    /// Waits until the server was asked for what it has at `expected`, but no longer than `within`; whoever else asks
    /// meanwhile waits for the same poll.
    pub async fn catch_up(&self, expected: u64, within: Duration) {
        self.polls.ask(expected, within).await;
    }

    /// Notes where the chain is of which a client is told.
    pub fn told_chain(&self, url: &str) {
        if let Some(path) = held::path_of(url) {
            self.told_chains.insert(path.to_owned(), url.to_owned());
        }
    }

    /// Where the chain is that a client asks for by this path.
    pub fn chain_url(&self, path: &str) -> Option<String> {
        self.told_chains.get(path)
    }

    /// The startup bundle for clients that reach its parts at `bases`. Without one of the server's, it is made of the
    /// collections that are watched; these are in it as they are held.
    pub fn bundle(&self, bases: &Bases) -> bytes::Bytes {
        let held = self.held();
        let mut packed = self.packed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, at, bundle)) = &*packed
            && Arc::ptr_eq(of, &held)
            && at == bases
        {
            return bundle.clone();
        }
        let bundle = bytes::Bytes::from(pack(&mirror::bundle(&held, bases)));
        *packed = Some((held, bases.clone(), bundle.clone()));
        bundle
    }

    /// Tells who listens, and the log; what is kept of it is in the store already.
    fn tell(&self, happening: Happening) {
        let Happening { event, model, hub, revision, to, detail, .. } = &happening;
        tracing::info!(
            %model,
            hub = hub.map(tracing::field::display),
            revision,
            to,
            detail,
            "remote settings: {}",
            event.name()
        );
        match event {
            Event::Announced => self.telemetry.settings_announced(),
            Event::Superseded => self.telemetry.settings_superseded(),
            _ => {}
        }
        self.telemetry.audit(|| Record::of(&happening));
        // Nobody may be listening.
        let _ = self.happenings.send(happening);
    }

    /// Writes decisions down, and then tells what happened.
    async fn decide(&self, decisions: Vec<Decision>) -> Result<(), StoreError> {
        let notes = decisions.iter().filter_map(|decision| match decision {
            Decision::Note(happening) => Some(happening.clone()),
            _ => None,
        });
        let notes: Vec<_> = notes.collect();
        self.store.decide(decisions).await?;
        notes.into_iter().for_each(|note| self.tell(note));
        Ok(())
    }

    /// Tells what an operator has decided, and has jobs go on that may go on now.
    pub fn decided(&self, told: &[Happening]) {
        told.iter().cloned().for_each(|happening| self.tell(happening));
        self.renewals.notify_one();
    }

    fn publish(&self, held: Held) {
        *self.held.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(held);
        // What was worked out by what was held before is worked out once more.
        self.store.outdate_answers();
    }
}

/// The record that denies what is at a path of a hub, by its public name or by that of its root.
fn denied_at(held: &Held, hub: Hub, root: &HubRoot, path: &str) -> Option<Denied> {
    let urls = [format!("{}{path}", hub.default_root()), format!("{root}{path}")];
    held.denied.denies(urls.iter().map(String::as_str)).cloned()
}

/// A line of the history, now.
fn happening(event: Event, model: &str, detail: impl Into<String>) -> Happening {
    Happening {
        at: Timestamp::now(),
        event,
        model: model.to_owned(),
        hub: None,
        revision: None,
        to: None,
        detail: detail.into(),
    }
}

/// A JSON value that a server should have told.
fn text_of<'a>(value: &'a Value, path: &[&str]) -> Option<&'a str> {
    path.iter().try_fold(value, |value, name| value.get(name))?.as_str()
}
