//! What is measured of the store without a server: writing, and making an index with many entries.

use std::error::Error;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use hubcache::model::{
    Commit, Digest, Entry, EntryKey, Expectation, Hub, HubRoot, Promise, Promiser, Repo, RepoKind,
    Representation, Sha256, Standing, Timestamp,
};
use hubcache::store::{CHUNK, PartialRecord, Settings, Store};
use serde_json::{Value, json};

use super::content::{Content, hex};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
/// Changes of the index that wait together, and so are committed together.
const LINKS_IN_FLIGHT: usize = 1024;
/// Files of one repository in a large index.
const FILES_OF_A_REPOSITORY: u64 = 20;
/// What one write gives to a plain file.
const PLAIN_WRITE: usize = 1 << 20;

type Failed = Box<dyn Error>;

/// Makes a data directory with `count` files of the hub at `root`. They have the same few bytes.
pub async fn entries(dir: &Path, root: &HubRoot, count: u64, content: Content) -> Result<Value, Failed> {
    let began = Instant::now();
    let store = Store::open(Settings::new(dir), Timestamp::now())?;
    let entry = entry(content);
    fill(&store, &key(root, 0, content), content, entry.clone()).await?;
    let link = |number| {
        let (store, key, entry) = (store.clone(), key(root, number, content), entry.clone());
        async move { store.link(&key, entry, &[]).await }
    };
    stream::iter(1..count)
        .map(link)
        .buffer_unordered(LINKS_IN_FLIGHT)
        .try_for_each(|_| async { Ok(()) })
        .await?;
    store.close().await;
    Ok(json!({"entries": count, "seconds": began.elapsed().as_secs_f64()}))
}

/// Writes a file through the store, and then the same bytes to a plain file; both are on the disk in the end.
pub async fn write(dir: &Path, content: Content) -> Result<Value, Failed> {
    fs::create_dir_all(dir)?;
    let store = write_store(&dir.join("store"), content).await?;
    let plain = write_plain(&dir.join("plain"), content)?;
    Ok(json!({"store": store.as_secs_f64(), "plain": plain.as_secs_f64()}))
}

async fn write_store(dir: &Path, content: Content) -> Result<Duration, Failed> {
    let entry = entry(content);
    let root = HubRoot::parse("http://127.0.0.1:1")?;
    let store = Store::open(Settings::new(dir), Timestamp::now())?;
    rest();
    let began = Instant::now();
    fill(&store, &key(&root, 0, content), content, entry).await?;
    let took = began.elapsed();
    store.close().await;
    fs::remove_dir_all(dir)?;
    Ok(took)
}

fn write_plain(path: &Path, content: Content) -> Result<Duration, Failed> {
    rest();
    let began = Instant::now();
    let mut file = File::create(path)?;
    content.pieces(0..content.size, PLAIN_WRITE).try_for_each(|piece| file.write_all(&piece))?;
    file.sync_all()?;
    let took = began.elapsed();
    fs::remove_file(path)?;
    Ok(took)
}

/// Lets the disk write what others left to it.
fn rest() {
    rustix::fs::sync();
}

/// A whole fill, as the program does it, but for the hub and the digests.
async fn fill(store: &Store, key: &EntryKey, content: Content, entry: Entry) -> Result<(), Failed> {
    let expectation = Expectation { representation: entry.representation.clone(), ..Expectation::default() };
    let now = Timestamp::now();
    let record = PartialRecord { expectation, started_at: now, touched_at: now, restricted: false };
    let blob = store.begin_partial(key, record).await?;
    let mut waiting = Vec::new();
    for (index, start) in (0..).zip((0..content.size).step_by(CHUNK)) {
        let range = start..(start + CHUNK as u64).min(content.size);
        let pieces: Vec<Bytes> = content.pieces(range, CHUNK).collect();
        waiting.push(store.write_chunk(&blob, index, pieces).await?);
    }
    for durable in waiting {
        durable.await??;
    }
    store.commit(key, &blob, entry, &[]).await?;
    Ok(())
}

/// The key of a file of a large index.
fn key(root: &HubRoot, number: u64, content: Content) -> EntryKey {
    let repository = number / FILES_OF_A_REPOSITORY;
    let path = match number {
        0 => content.name(),
        _ => format!("onnx/part-{:05}.bin", number % FILES_OF_A_REPOSITORY),
    };
    let id = if repository == 0 { "acme/bench".to_owned() } else { format!("acme-{repository}/model") };
    EntryKey {
        hub: Hub::HuggingFace,
        root: root.clone(),
        repo: Repo { kind: RepoKind::Model, id },
        revision: COMMIT.to_owned(),
        path,
    }
}

/// What the program records of a large file of Hugging Face.
fn entry(content: Content) -> Entry {
    let now = Timestamp::now();
    let sha256 = content.sha256();
    let etag = format!("\"{}\"", hex(&sha256));
    Entry {
        blob: Sha256(sha256),
        size: content.size,
        representation: Representation {
            size: Some(content.size),
            etag: Some(etag.clone()),
            commit: Commit::parse(COMMIT),
            content_type: Some("application/octet-stream".to_owned()),
            last_modified: None,
        },
        validator: Some(etag),
        promises: vec![Promise { digest: Digest::Sha256(Sha256(sha256)), by: Promiser::LinkedEtag }],
        standing: Standing::Verified,
        stored_at: now,
        checked_at: now,
        access: hubcache::model::Openness::Public { confirmed_at: now },
    }
}
