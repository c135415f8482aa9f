//! What is held of Remote Settings at one moment, and what follows from it.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use super::Settings;
use super::announce::all_named;
use super::mirror::listed_before;
use super::needs::{OPTIONS, needs};
use super::wire::{self, ChangeList};
use crate::model::{Attachment, Collection, Document, EntryKey, Hub, Needed, Resource, Snapshot, Timestamp};
use crate::policy::{DENY_LIST, DenyList};
use crate::request::{Filter, Window};
use crate::store::{Selector, Store, StoreError};

/// Of what the documents are that belong to no collection.
pub(super) const SERVER: &str = "server";
pub(super) const CHAINS: &str = "chains";
/// Their paths, and that of a snapshot.
pub(super) const ROOT: &str = "root";
pub(super) const CHANGES: &str = "changes";
pub(super) const BUNDLE: &str = "bundle";
pub(super) const CHANGESET: &str = "changeset";

/// All that is held. It is replaced as a whole, so whoever has it sees one state.
#[derive(Clone, Debug, Default)]
pub struct Held {
    /// The collections that are watched.
    pub collections: BTreeMap<Collection, Arc<Snapshot>>,
    /// Chains of certificates in PEM, by URL.
    pub chains: BTreeMap<String, Bytes>,
    /// What the server says of itself.
    pub server: Option<Arc<Value>>,
    /// The list of changes as it came last.
    pub(super) changes: Option<Arc<ChangeList>>,
    /// The changesets of the startup bundle, each of them signed.
    pub bundle: Option<Arc<Vec<Value>>>,
    /// When the bundle was fetched.
    pub(super) bundle_at: Timestamp,
    /// When the server said last what it is.
    pub(super) server_at: Timestamp,
    /// The deny list.
    pub denied: DenyList,
    /// Attachments of watched collections by location.
    attachments: HashMap<String, (Collection, Attachment)>,
    /// The revisions that live records name, by repository, each with such a record.
    named: BTreeMap<String, BTreeMap<String, String>>,
}

impl Held {
    /// Reads what the store has under this server and these roots.
    pub(super) fn load(settings: &Settings, store: &Store) -> Result<Self, StoreError> {
        let scope = settings.key(SERVER, ROOT);
        let mut held = Self::default();
        let mut visit = |key: EntryKey, document: Document| {
            if key.root == scope.root && key.revision == scope.revision {
                held.take(settings, &key, document);
            }
            ControlFlow::Continue(())
        };
        store.documents(&Selector { hub: Some(Hub::Settings), ..Selector::default() }, &mut visit)?;
        held.derive();
        Ok(held)
    }

    fn take(&mut self, settings: &Settings, key: &EntryKey, document: Document) {
        let at = document.learned_at;
        match (key.repo.id.as_str(), key.path.as_str()) {
            (CHAINS, url) => drop(self.chains.insert(url.to_owned(), document.body)),
            (SERVER, ROOT) => {
                (self.server, self.server_at) = (wire::json(&document.body).ok().map(Arc::new), at)
            }
            (SERVER, CHANGES) => self.changes = wire::change_list(&document.body).ok().map(Arc::new),
            (SERVER, BUNDLE) => {
                let sets = serde_json::from_slice::<Vec<Value>>(&document.body).ok();
                (self.bundle, self.bundle_at) = (sets.map(Arc::new), at);
            }
            (_, CHANGESET) => {
                if let Ok(snapshot) = serde_json::from_slice::<Snapshot>(&document.body)
                    && settings.is_watched(&snapshot.collection)
                {
                    self.collections.insert(snapshot.collection.clone(), Arc::new(snapshot));
                }
            }
            _ => {}
        }
    }

    /// Works out anew what follows from the collections that are watched.
    pub(super) fn derive(&mut self) {
        (self.denied, self.attachments, self.named) = Default::default();
        for (collection, snapshot) in &self.collections {
            if collection.bucket == "main" && collection.name == DENY_LIST {
                self.denied = DenyList::of(snapshot.records.values());
            }
            for (id, record) in &snapshot.records {
                if let Some(attachment) = Attachment::of(record) {
                    self.attachments.insert(attachment.location.clone(), (collection.clone(), attachment));
                }
                for (repo, revision) in all_named(record) {
                    let revisions = self.named.entry(repo.to_owned()).or_default();
                    revisions.entry(revision.to_owned()).or_insert_with(|| format!("{collection}/{id}"));
                }
            }
        }
    }

    /// The revisions of a repository that records name now, each with such a record.
    pub fn revisions(&self, repo: &str) -> impl Iterator<Item = (&str, &str)> {
        self.named
            .get(repo)
            .into_iter()
            .flatten()
            .map(|(revision, record)| (revision.as_str(), record.as_str()))
    }

    /// The file at a location of attachments, and its size.
    pub fn attachment(&self, location: &str) -> Option<(Resource, u64)> {
        let (collection, attachment) = self.attachments.get(location)?;
        Some((attachment.file(collection), attachment.size))
    }

    /// The moment of the list of changes as it came last.
    pub fn list_moment(&self) -> Option<u64> {
        self.changes.as_ref().map(|list| list.timestamp)
    }

    /// The list of changes as it came last, as far as a request asks for it.
    pub fn listed(&self, filter: &Filter, window: Window) -> Option<Value> {
        self.changes.as_ref().map(|list| listed_before(list, filter, window))
    }

    /// All attachments of watched collections, with their sizes.
    pub fn attachments(&self) -> impl Iterator<Item = (Resource, u64)> {
        self.attached().map(|(collection, attachment)| (attachment.file(collection), attachment.size))
    }

    /// All attachments of watched collections.
    pub fn attached(&self) -> impl Iterator<Item = (&Collection, &Attachment)> {
        self.attachments.values().map(|(collection, attachment)| (collection, attachment))
    }

    /// What the records name that say which models the features of Firefox use; none where these are not held.
    pub fn needs(&self) -> Option<Vec<Needed>> {
        let options = Collection::new("main", OPTIONS)?;
        self.collections.get(&options).map(|snapshot| needs(&snapshot.records))
    }

    /// The chain at a URL with this path.
    pub fn chain(&self, path: &str) -> Option<&Bytes> {
        self.chains.iter().find(|(url, _)| path_of(url) == Some(path)).map(|(_, chain)| chain)
    }
}

/// The path of a URL.
pub(super) fn path_of(url: &str) -> Option<&str> {
    let rest = url.split_once("://")?.1;
    rest.find('/').map(|at| &rest[at..])
}
