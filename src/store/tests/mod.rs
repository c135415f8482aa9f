//! Tests of the store as a whole, on real files.

mod bound;
mod crashes;
mod documents;
mod fills;
mod opening;
mod random;
mod scrubs;
mod sharing;
mod space;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sha2::Digest as _;
use tempfile::TempDir;

use super::faults::Faults;
use super::index::reads;
use super::*;
use crate::model::{
    Entry, EntryKey, Expectation, Hub, HubRoot, Repo, RepoKind, Representation, Sha256, Standing, Timestamp,
};

const NOW: Timestamp = Timestamp(1_000_000_000_000);
const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

fn settings(dir: &TempDir) -> Settings {
    Settings { min_free_bytes: 0, ..Settings::new(dir.path().join("data")) }
}

fn open(dir: &TempDir) -> Store {
    Store::open(settings(dir), NOW).unwrap()
}

/// A store on a disk that fails on command.
fn faulty(dir: &TempDir) -> (Store, Faults) {
    let faults = Faults::default();
    (Store::open_with(&settings(dir), NOW, faults.clone()).unwrap(), faults)
}

fn root(port: u16) -> HubRoot {
    HubRoot::parse(&format!("http://127.0.0.1:{port}")).unwrap()
}

/// The key of a file at a revision of a repository of Hugging Face.
fn key_at(revision: &str, path: &str) -> EntryKey {
    EntryKey {
        hub: Hub::HuggingFace,
        root: root(1),
        repo: Repo { kind: RepoKind::Model, id: "acme/tiny".into() },
        revision: revision.into(),
        path: path.into(),
    }
}

fn key(path: &str) -> EntryKey {
    key_at(COMMIT, path)
}

/// Bytes that differ from place to place, so that chunks cannot be confused.
fn pattern(seed: u64, len: usize) -> Bytes {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut bytes = vec![0; len];
    rng.fill(&mut bytes);
    bytes.into()
}

fn digest(bytes: &[u8]) -> Sha256 {
    Sha256(sha2::Sha256::digest(bytes).into())
}

fn entry(bytes: &[u8]) -> Entry {
    let size = bytes.len() as u64;
    Entry {
        blob: digest(bytes),
        size,
        representation: Representation { size: Some(size), ..Representation::default() },
        validator: None,
        promises: Vec::new(),
        standing: Standing::Recorded,
        stored_at: NOW,
        checked_at: NOW,
        access: crate::model::Openness::Public { confirmed_at: NOW },
    }
}

fn partial(size: Option<u64>) -> PartialRecord {
    let representation = Representation { size, ..Representation::default() };
    let expectation = Expectation { representation, learned_at: NOW, ..Expectation::default() };
    PartialRecord { expectation, started_at: NOW, touched_at: NOW, restricted: false }
}

/// Writes the chunks of `bytes` and waits for the disk.
async fn write(store: &Store, blob: &Blob, bytes: &Bytes) -> Result<(), StoreError> {
    let mut waiting = Vec::new();
    for (index, start) in (0..).zip((0..bytes.len()).step_by(CHUNK)) {
        let chunk = bytes.slice(start..bytes.len().min(start + CHUNK));
        let (head, tail) = (chunk.slice(..chunk.len() / 3), chunk.slice(chunk.len() / 3..));
        waiting.push(store.write_chunk(blob, index, vec![head, tail]).await?);
    }
    for done in waiting {
        done.await.map_err(|_| StoreError::Closed)??;
    }
    Ok(())
}

/// A whole fill.
async fn fill(store: &Store, key: &EntryKey, bytes: &Bytes) -> Result<Arc<Entry>, CommitError> {
    let blob = store.begin_partial(key, partial(Some(bytes.len() as u64))).await?;
    write(store, &blob, bytes).await?;
    store.commit(key, &blob, entry(bytes), &[]).await
}

/// The bytes of an entry, read chunk by chunk.
fn read(store: &Store, key: &EntryKey) -> Option<Bytes> {
    let entry = store.entry(key).unwrap()?;
    let blob = store.open_blob(&entry.blob).unwrap().expect("an entry has a blob");
    assert_eq!(blob.size(), Some(entry.size));
    Some(read_blob(&blob, entry.size).unwrap())
}

fn read_blob(blob: &Blob, size: u64) -> Result<Bytes, StoreError> {
    let mut all = Vec::new();
    for index in 0..chunks_of(size) {
        all.extend_from_slice(&blob.read(index)?);
    }
    Ok(all.into())
}

/// Waits for the background to remove what is doomed, but for `left` blobs.
async fn removed_but(store: &Store, left: usize) {
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while store.0.index.run(reads::deletions).unwrap().len() != left {
        assert!(std::time::Instant::now() < deadline, "the removal never ends");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Bytes of chunks in all volumes.
fn held(store: &Store) -> u64 {
    store.0.volumes.all().iter().map(|v| v.handle().run(chunks::held).unwrap().bytes).sum()
}
