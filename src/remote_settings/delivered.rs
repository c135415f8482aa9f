//! What a bundle brings of Remote Settings: read, judged at the time at which it was verified, and taken over.
//!
//! Whoever made the bundle had verified each collection at a time that the lock file says, and that time is what counts
//! for the chain of its signature: a bundle may travel longer than a signature lasts. What Firefox itself will take is
//! another matter, and ends with [`Snapshot::valid_until`].
//!
//! A collection that is held in a later state stays; an earlier one is replaced, as if the server had sent it.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::Digest as _;

use super::held::{BUNDLE, CHAINS, CHANGESET, Held, ROOT, SERVER};
use super::snapshot::{Base, judge, merged, snapshot};
use super::trouble::Trouble;
use super::wire::{self, Changeset, Unreadable};
use super::{RemoteSettings, Settings, Watcher, text_of};
use crate::model::{
    Collection, Document, LockedPart, LockedSettings, LockedSnapshot, Records, Sha256, Snapshot, Timestamp,
};
use crate::store::{Decision, Store, StoreError};
use crate::verify::signature::{BadSignature, Chain, Validity};

/// What a bundle brings, found to be signed.
#[derive(Clone, Debug, Default)]
pub struct Delivered {
    snapshots: Vec<Snapshot>,
    chains: BTreeMap<String, Bytes>,
    root: Option<Bytes>,
    startup: Option<Vec<Value>>,
}

/// What became of a collection that was delivered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// Which one.
    pub collection: Collection,
    /// The moment that was delivered.
    pub timestamp: u64,
    /// The moment that was held, if that was not before it: the collection stayed as it was.
    pub held: Option<u64>,
    /// After then Firefox refuses the signature.
    pub firefox_until: Timestamp,
}

/// Why something of Remote Settings is not taken.
#[derive(Debug)]
pub enum Undeliverable {
    /// A collection is not signed, or not by whom it should be.
    Unsigned(Collection, BadSignature),
    /// It is not what it should be.
    Unreadable(String, Unreadable),
    /// A part is not held, or has other bytes on the disk.
    NotHeld(Sha256),
    /// A part cannot be read.
    Store(StoreError),
}

impl fmt::Display for Undeliverable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsigned(collection, _) => write!(f, "{collection} of Remote Settings is refused"),
            Self::Unreadable(what, _) => write!(f, "{what} of Remote Settings cannot be read"),
            Self::NotHeld(part) => {
                write!(f, "sha256:{part}, a part of Remote Settings, is not held, or damaged")
            }
            Self::Store(_) => f.write_str("a part of Remote Settings cannot be read"),
        }
    }
}

impl std::error::Error for Undeliverable {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unsigned(_, why) => Some(why),
            Self::Unreadable(_, why) => Some(why),
            Self::NotHeld(_) => None,
            Self::Store(error) => Some(error),
        }
    }
}

impl Delivered {
    /// Reads what is pinned, by the bytes that `read` gives for a part, and judges it under these roots. Pure.
    ///
    /// # Errors
    /// The first collection that is not signed, and what `read` fails with.
    pub fn read<E: From<Undeliverable>>(
        locked: &LockedSettings,
        roots: &[Sha256],
        read: impl Fn(&LockedPart) -> Result<Bytes, E>,
    ) -> Result<Self, E> {
        let read = |part: &LockedPart| match usize::try_from(part.size) {
            Ok(size) if size <= wire::MAX_ANSWER => read(part),
            _ => {
                Err(Undeliverable::Unreadable(format!("sha256:{}", part.sha256), Unreadable::Lacks("end"))
                    .into())
            }
        };
        let mut chains = BTreeMap::new();
        for (url, part) in &locked.chains {
            chains.insert(url.clone(), read(part)?);
        }
        let mut delivered = Self { chains, ..Self::default() };
        for (collection, snapshot) in &locked.snapshots {
            let set = wire::changeset(&read(&snapshot.part)?)
                .map_err(|why| Undeliverable::Unreadable(collection.to_string(), why))?;
            let next = delivered.judged(collection, snapshot, set, roots)?;
            delivered.snapshots.push(next);
        }
        delivered.root = locked.root.as_ref().map(&read).transpose()?;
        if let Some(part) = &locked.startup {
            let sets: Vec<Value> = serde_json::from_slice(&read(part)?).map_err(|_| {
                Undeliverable::Unreadable("the startup bundle".to_owned(), Unreadable::NotJson)
            })?;
            let at = locked.snapshots.values().map(|snapshot| snapshot.verified_at).max().unwrap_or_default();
            delivered.startup =
                Some(sets.into_iter().filter(|set| delivered.is_signed(set, roots, at)).collect());
        }
        Ok(delivered)
    }

    /// The same of parts that a store holds; each is hashed. Blocks.
    ///
    /// # Errors
    /// See [`Undeliverable`].
    pub fn held(store: &Store, locked: &LockedSettings, roots: &[Sha256]) -> Result<Self, Undeliverable> {
        Self::read(locked, roots, |part| {
            let blob = store.open_blob(&part.sha256).map_err(Undeliverable::Store)?;
            let blob = blob.filter(|blob| blob.size() == Some(part.size));
            let bytes = blob.map(|blob| blob.read_small()).transpose().map_err(Undeliverable::Store)?;
            let is_named = |bytes: &Bytes| Sha256(sha2::Sha256::digest(bytes).into()) == part.sha256;
            bytes.filter(is_named).ok_or(Undeliverable::NotHeld(part.sha256))
        })
    }

    /// Until when Firefox takes each of the collections.
    pub fn firefox_until(&self) -> impl Iterator<Item = (&Collection, Timestamp)> {
        self.snapshots.iter().map(|next| (&next.collection, next.valid_until))
    }

    fn judged(
        &self,
        collection: &Collection,
        locked: &LockedSnapshot,
        set: Changeset,
        roots: &[Sha256],
    ) -> Result<Snapshot, Undeliverable> {
        let records = merged(Base::Whole(None), &set);
        let validity = self.judge(collection, &records, &set, roots, locked.verified_at);
        let validity = validity.map_err(|why| Undeliverable::Unsigned(collection.clone(), why))?;
        Ok(snapshot(collection, Base::Whole(None), records, set, validity, locked.verified_at))
    }

    fn judge(
        &self,
        collection: &Collection,
        records: &Records,
        set: &Changeset,
        roots: &[Sha256],
        at: Timestamp,
    ) -> Result<Validity, BadSignature> {
        let chain =
            |url: &str| self.chains.get(url).ok_or(BadSignature::NoChain).and_then(|pem| Chain::parse(pem));
        judge(collection, records, set, chain, roots, at).map(|(validity, _)| validity)
    }

    /// Whether a collection of the startup bundle is signed. One that is not is left out, as when it comes from the
    /// server.
    fn is_signed(&self, value: &Value, roots: &[Sha256], at: Timestamp) -> bool {
        let name = |field: &str| text_of(value, &["metadata", field]).unwrap_or_default();
        let collection = Collection::new(name("bucket"), name("id"));
        let set = wire::changeset_of(value.clone()).ok();
        let (Some(collection), Some(set)) = (collection, set) else { return false };
        let records = merged(Base::Whole(None), &set);
        self.judge(&collection, &records, &set, roots, at).is_ok()
    }
}

impl RemoteSettings {
    /// Takes over what was delivered; with a `watcher` what it announces is acted upon.
    ///
    /// # Errors
    /// When it cannot be stored.
    pub async fn take_over(
        &self,
        delivered: Delivered,
        watcher: Option<&Watcher>,
    ) -> Result<Vec<Taken>, StoreError> {
        let Delivered { snapshots, chains, root, startup } = delivered;
        // Whoever can ask the server has its own word of what a new Firefox begins with.
        let startup = startup.filter(|_| watcher.is_none() || self.held().bundle.is_none());
        self.take_texts(chains, root, startup).await?;
        let mut taken = Vec::new();
        for next in snapshots {
            let before = self.snapshot(&next.collection)?;
            let is_news = |held: &Snapshot| {
                next.timestamp > held.timestamp
                    || next.timestamp == held.timestamp && next.valid_until > held.valid_until
            };
            let held = before.filter(|held| !is_news(held)).map(|held| held.timestamp);
            taken.push(Taken {
                collection: next.collection.clone(),
                timestamp: next.timestamp,
                held,
                firefox_until: next.valid_until,
            });
            match (held, watcher) {
                (Some(_), _) => {}
                (None, Some(watcher)) => watcher.adopt(next, BTreeMap::new()).await.map_err(stored)?,
                (None, None) => self.replace(next).await?,
            }
        }
        Ok(taken)
    }

    /// Holds a state of a collection. Nothing is announced: without a hub nothing could follow from it.
    async fn replace(&self, next: Snapshot) -> Result<(), StoreError> {
        let _commit = self.commit.lock().await;
        if self.snapshot(&next.collection)?.is_some_and(|held| held.timestamp > next.timestamp) {
            return Ok(());
        }
        let body = serde_json::to_vec(&next).expect("records are JSON").into();
        let document = self.settings.document(&next.collection.to_string(), CHANGESET, body);
        let mut held = Held::clone(&self.held());
        if self.settings.is_watched(&next.collection) {
            held.collections.insert(next.collection.clone(), next.into());
            held.derive();
        }
        self.decide(vec![document]).await?;
        self.publish(held);
        Ok(())
    }

    /// Holds chains, and what the server has said of itself where that is not known better.
    async fn take_texts(
        &self,
        chains: BTreeMap<String, Bytes>,
        root: Option<Bytes>,
        startup: Option<Vec<Value>>,
    ) -> Result<(), StoreError> {
        let _commit = self.commit.lock().await;
        let mut held = Held::clone(&self.held());
        let mut decisions = Vec::new();
        for (url, chain) in chains {
            if held.chains.get(&url) != Some(&chain) {
                decisions.push(self.settings.document(CHAINS, &url, chain.clone()));
                held.chains.insert(url, chain);
            }
        }
        if let Some(root) = root.filter(|_| held.server.is_none())
            && let Ok(said) = wire::json(&root)
        {
            decisions.push(self.settings.document(SERVER, ROOT, root));
            held.server = Some(said.into());
        }
        if let Some(startup) = startup {
            let body = serde_json::to_vec(&startup).expect("values of JSON are JSON").into();
            decisions.push(self.settings.document(SERVER, BUNDLE, body));
            held.bundle = Some(startup.into());
        }
        self.decide(decisions).await?;
        self.publish(held);
        Ok(())
    }
}

impl Settings {
    /// A document of what is held under this server and these roots.
    pub(super) fn document(&self, of: &str, path: &str, body: Bytes) -> Decision {
        let document = Document { status: 200, learned_at: Timestamp::now(), body, ..Document::default() };
        Decision::Document(self.key(of, path), document)
    }
}

/// To take over what was judged already can only fail with the store.
fn stored(trouble: Trouble) -> StoreError {
    match trouble {
        Trouble::Store(error) => error,
        _ => StoreError::Closed,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::model::{HubRoot, hex};
    use crate::verify::signature::{self, tests::made};

    const CHAIN: &str = "https://chains.example.org/a.pem";

    /// A lock of one collection, and its parts.
    struct Scene {
        locked: LockedSettings,
        parts: BTreeMap<String, Bytes>,
        root: Sha256,
    }

    impl Scene {
        fn new(verified_at: Timestamp, told: &Value) -> Self {
            let made = made(Default::default());
            let records = [json!({"id": "a", "last_modified": 9, "n": 1})];
            let signature = made.sign(&signature::signed_bytes(&records, 10));
            let metadata = json!({"signatures": [{"signature": signature, "x5u": CHAIN}]});
            let set = json!({"metadata": metadata, "timestamp": 10, "changes": [told]}).to_string();
            let locked = LockedSettings::of(HubRoot::parse("https://settings.example.org/v1").unwrap());
            let mut scene = Self { locked, parts: BTreeMap::new(), root: made.root };
            let part = scene.part(set.into());
            let snapshot = LockedSnapshot { timestamp: 10, verified_at, part };
            scene.locked.snapshots.insert("main/x".parse().unwrap(), snapshot);
            let chain = scene.part(made.pem.into());
            scene.locked.chains.insert(CHAIN.to_owned(), chain);
            scene
        }

        fn part(&mut self, bytes: Bytes) -> LockedPart {
            let sha256 = Sha256(sha2::Sha256::digest(&bytes).into());
            let part = LockedPart { size: bytes.len() as u64, sha256 };
            self.parts.insert(sha256.to_string(), bytes);
            part
        }

        fn read(&self, root: Sha256) -> Result<Delivered, Undeliverable> {
            Delivered::read(&self.locked, &[root], |part| Ok(self.parts[&part.sha256.to_string()].clone()))
        }
    }

    #[test]
    fn a_collection_is_judged_at_the_time_at_which_it_was_verified() {
        let record = json!({"id": "a", "last_modified": 9, "n": 1});
        let now = Timestamp::now();
        let days = |days: u64| Duration::from_secs(days * 24 * 3600);
        let good = Scene::new(now, &record);
        let delivered = good.read(good.root).unwrap();
        let until: Vec<_> = delivered.firefox_until().collect();
        assert_eq!(until.len(), 1);
        assert!(until[0].1 > now && until[0].1 < now.plus(days(2)));
        assert_eq!(delivered.snapshots[0].verified_at, now);
        // The chain lasts a day in each direction.
        for at in [now.plus(days(2)), Timestamp(now.0 - 2 * 24 * 3_600_000)] {
            let scene = Scene::new(at, &record);
            let why = scene.read(scene.root).unwrap_err();
            assert!(matches!(why, Undeliverable::Unsigned(_, BadSignature::Chain(_))), "{why:?}");
        }
        let other = Scene::new(now, &json!({"id": "a", "last_modified": 9, "n": 2}));
        let why = other.read(other.root).unwrap_err();
        assert!(matches!(why, Undeliverable::Unsigned(_, BadSignature::Mismatch)), "{why:?}");
        assert!(good.read(Sha256([0; 32])).is_err(), "another root: {}", hex(&good.root.0));
    }

    #[test]
    fn what_is_too_long_or_cannot_be_read_is_refused() {
        let mut scene = Scene::new(Timestamp::now(), &json!({"id": "a", "last_modified": 9, "n": 1}));
        let part = scene.part(Bytes::from_static(b"<html>"));
        scene.locked.startup = Some(part);
        assert!(matches!(scene.read(scene.root), Err(Undeliverable::Unreadable(..))));
        let huge = LockedPart { size: u64::MAX, sha256: part.sha256 };
        scene.locked.startup = Some(huge);
        assert!(matches!(scene.read(scene.root), Err(Undeliverable::Unreadable(..))));
        let unsigned = json!([{"metadata": {"bucket": "main", "id": "y"}, "timestamp": 1, "changes": []}]);
        scene.locked.startup = Some(scene.part(unsigned.to_string().into()));
        let delivered = scene.read(scene.root).unwrap();
        assert_eq!(delivered.startup, Some(vec![]), "what is not signed is left out");
    }
}
