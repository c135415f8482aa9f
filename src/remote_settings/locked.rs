//! What is held, as a lock pins it: each part by its bytes.
//!
//! What clients are told moves on with every state that is signed. A lock pins the states of one moment, so these are
//! kept beside it, as files under their digests ([`LockedSettings::files`]):
//! - a snapshot as the server would tell all of it: `{"changes": [..], "metadata": {..}, "timestamp": ..}`, with the newest
//!   records first and the metadata as it came, so that its signature is good of what is read of it;
//! - what the server says of itself, the startup bundle's collections, and the chains: as they are held.
//!
//! Only chains are among them that a snapshot or a collection of the bundle names.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde_json::{Map, Value, json};
use sha2::Digest as _;

use super::held::{BUNDLE, Held, ROOT, SERVER};
use super::snapshot::last_modified;
use super::{RemoteSettings, Settings};
use crate::model::{
    LockedAttachment, LockedPart, LockedSettings, LockedSnapshot, Resource, Sha256, Snapshot, is_of_locked,
};
use crate::store::{Store, StoreError};
use crate::verify::signature;

/// What a lock pins, with the bytes of what is not held as a file.
#[derive(Clone, Debug)]
pub struct Lockable {
    /// What a lock says of it.
    pub locked: LockedSettings,
    /// The parts but attachments.
    pub parts: Vec<(Resource, Bytes)>,
}

impl RemoteSettings {
    /// What is held now, for a lock.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn lockable(&self) -> Result<Lockable, StoreError> {
        let documents = Documents::read(&self.settings, &self.store)?;
        Ok(lockable(&self.settings, &self.held(), documents))
    }
}

/// What is held as it came.
struct Documents {
    root: Option<Bytes>,
    startup: Option<Bytes>,
}

impl Documents {
    fn read(settings: &Settings, store: &Store) -> Result<Self, StoreError> {
        let of = |path: &str| -> Result<Option<Bytes>, StoreError> {
            let document = store.document(&settings.key(SERVER, path))?;
            Ok(document.map(|document| document.body.clone()))
        };
        Ok(Self { root: of(ROOT)?, startup: of(BUNDLE)? })
    }
}

fn lockable(settings: &Settings, held: &Held, documents: Documents) -> Lockable {
    let mut locked = LockedSettings::of(settings.server.clone());
    let mut known: BTreeMap<String, Bytes> = BTreeMap::new();
    let mut part = |bytes: Bytes| {
        let part =
            LockedPart { size: bytes.len() as u64, sha256: Sha256(sha2::Sha256::digest(&bytes).into()) };
        known.insert(part.sha256.to_string(), bytes);
        part
    };
    let mut urls = documents.startup.as_ref().map(|bytes| of_bundle(bytes)).unwrap_or_default();
    locked.root = documents.root.map(&mut part);
    locked.startup = documents.startup.map(&mut part);
    for (collection, snapshot) in &held.collections {
        urls.extend(chains_of(&snapshot.metadata));
        let Snapshot { timestamp, verified_at, .. } = **snapshot;
        let part = part(told(snapshot));
        locked.snapshots.insert(collection.clone(), LockedSnapshot { timestamp, verified_at, part });
    }
    for (url, chain) in held.chains.iter().filter(|(url, _)| urls.contains(*url)) {
        locked.chains.insert(url.clone(), part(chain.clone()));
    }
    for (collection, attachment) in held.attached() {
        let part = LockedPart { size: attachment.size, sha256: attachment.sha256 };
        let attached = LockedAttachment { collection: collection.clone(), part };
        locked.attachments.insert(attachment.location.clone(), attached);
    }
    let files = locked.files().into_iter().filter(|(file, _)| is_of_locked(&file.repo));
    let parts = files.filter_map(|(file, _)| {
        let bytes = known.get(file.revision.as_str())?.clone();
        Some((file, bytes))
    });
    let parts = parts.collect();
    Lockable { locked, parts }
}

/// A snapshot as the server would tell all of it; always in the same bytes.
fn told(snapshot: &Snapshot) -> Bytes {
    let mut records: Vec<&Value> = snapshot.records.values().collect();
    // They come in the order of their ids, which stays among those of one moment.
    records.sort_by_key(|record| Reverse(last_modified(record)));
    let told = json!({"changes": records, "metadata": snapshot.metadata, "timestamp": snapshot.timestamp});
    serde_json::to_vec(&told).expect("values of JSON are JSON").into()
}

/// Where the chains are of the collections of a startup bundle.
fn of_bundle(bytes: &[u8]) -> BTreeSet<String> {
    let sets = serde_json::from_slice::<Vec<Value>>(bytes).unwrap_or_default();
    let metadata = sets.iter().filter_map(|set| set.get("metadata")?.as_object());
    metadata.flat_map(chains_of).collect()
}

fn chains_of(metadata: &Map<String, Value>) -> impl Iterator<Item = String> {
    signature::signatures(metadata).into_iter().map(|signature| signature.x5u)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::snapshot::tests::{held as snapshot_of, set};
    use super::super::snapshot::{Base, judge, merged};
    use super::super::wire;
    use super::*;
    use crate::model::{Collection, Timestamp};

    fn records() -> Value {
        json!([
            {"id": "b", "last_modified": 9, "text": "\u{e9}\u{7f}\u{8}\n\"\\\u{2028}\u{1f600} / 'x'"},
            {"id": "c", "last_modified": 10, "attachment": {"location": "a/b.wasm", "size": 3, "hash": "ab".repeat(32)}},
            {"id": "a", "last_modified": 9, "nested": {"z": [1, -2], "a": null}},
        ])
    }

    fn snapshot(name: &str, chain: &str) -> Snapshot {
        let mut snapshot = snapshot_of(Base::Whole(None), set(10, records()));
        snapshot.collection = name.parse().unwrap();
        let signatures = json!({"signatures": [{"signature": "x", "x5u": chain}], "flags": []});
        snapshot.metadata = signatures.as_object().unwrap().clone();
        snapshot
    }

    fn settings() -> Settings {
        Settings {
            server: crate::model::HubRoot::parse("https://settings.example.org/v1").unwrap(),
            roots: vec![],
            interval: std::time::Duration::ZERO,
            collections: vec![],
            on_announce_mozilla: crate::model::OnAnnounce::Ignore,
            on_announce_huggingface: crate::model::OnAnnounce::Ignore,
            grace: std::time::Duration::ZERO,
            retry: std::time::Duration::ZERO,
            deny_for: crate::policy::DenyFor::All,
            attachments: false,
        }
    }

    #[test]
    fn what_is_read_of_a_locked_snapshot_is_what_was_signed() {
        let snapshot = snapshot("x", "https://chains/a.pem");
        let bytes = told(&snapshot);
        let read = wire::changeset(&bytes).unwrap();
        assert_eq!((read.timestamp, &read.metadata), (10, &snapshot.metadata));
        let order: Vec<&str> = read.changes.iter().map(|(id, _)| id.as_str()).collect();
        assert_eq!(order, ["c", "a", "b"], "the newest first, then by id");
        let records = merged(Base::Whole(None), &read);
        assert_eq!(records, snapshot.records);
        let signed = |records: &crate::model::Records| signature::signed_bytes(records.values(), 10);
        assert_eq!(signed(&records), signed(&snapshot.records));
        let again = Snapshot { records, ..snapshot.clone() };
        assert_eq!(told(&again), bytes, "always the same bytes");
    }

    #[test]
    fn the_signature_of_what_is_locked_is_good_of_what_is_read_of_it() {
        let made = signature::tests::made(Default::default());
        let mut snapshot = snapshot("x", "https://chains/a.pem");
        let signed = signature::signed_bytes(snapshot.records.values(), snapshot.timestamp);
        snapshot.metadata["signatures"][0]["signature"] = made.sign(&signed).into();
        let chain = |_: &str| signature::Chain::parse(made.pem.as_bytes());
        let judged = |bytes: &[u8]| {
            let set = wire::changeset(bytes).unwrap();
            let records = merged(Base::Whole(None), &set);
            judge(&snapshot.collection, &records, &set, chain, &[made.root], Timestamp::now())
        };
        let bytes = told(&snapshot);
        assert_eq!(judged(&bytes).unwrap().1, "https://chains/a.pem");
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        assert!(judged(text.replace("[1,-2]", "[1,-3]").as_bytes()).is_err(), "{text}");
    }

    #[test]
    fn a_lock_has_what_is_held_and_the_chains_that_it_needs() {
        let mut held = Held::default();
        for (name, chain) in [("x", "https://chains/a.pem"), ("y", "https://chains/b.pem")] {
            let snapshot = snapshot(name, chain);
            held.collections.insert(snapshot.collection.clone(), Arc::new(snapshot));
        }
        for name in ["a", "b", "c", "d"] {
            held.chains.insert(format!("https://chains/{name}.pem"), Bytes::from(format!("chain {name}")));
        }
        held.derive();
        let bundle =
            json!([{"metadata": {"signatures": [{"signature": "x", "x5u": "https://chains/c.pem"}]}}]);
        let bundle = Bytes::from(bundle.to_string());
        let documents = Documents { root: None, startup: Some(bundle.clone()) };
        let Lockable { locked, parts } = lockable(&settings(), &held, documents);
        let chains: Vec<&String> = locked.chains.keys().collect();
        assert_eq!(chains, ["https://chains/a.pem", "https://chains/b.pem", "https://chains/c.pem"]);
        assert_eq!(locked.root, None);
        let collections: Vec<&Collection> = locked.snapshots.keys().collect();
        assert_eq!(collections, [&"x".parse::<Collection>().unwrap(), &"y".parse().unwrap()]);
        assert_eq!(locked.attachments["a/b.wasm"].part.size, 3);
        // One startup bundle, two snapshots, three chains; attachments are files of their own.
        assert_eq!(parts.len(), 6);
        for (file, bytes) in &parts {
            let digest = Sha256(sha2::Sha256::digest(bytes).into());
            assert_eq!(file.revision.as_str(), digest.to_string(), "{file}");
        }
        assert!(
            parts.iter().any(|(file, bytes)| (file.repo.id.as_str(), bytes) == ("locked/server", &bundle))
        );
    }
}
