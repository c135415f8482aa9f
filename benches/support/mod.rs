//! A store with files in it, for benches.

use bytes::Bytes;

use hubcache::model::{Entry, Expectation, HubRoot, Representation, Resource, Sha256, Standing, Timestamp};
use hubcache::request::{Named, Target, classify};
use hubcache::store::{CHUNK, PartialRecord, Store, chunks_of};
use hubcache::verify::Digester;

/// A commit for URLs and answers.
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// An hour ago: the age that answers tell keeps its number of digits while a bench runs.
pub fn an_hour_ago() -> Timestamp {
    Timestamp(Timestamp::now().0 - 3_600_000)
}

/// The file that a path of the Hugging Face or of the Mozilla layout names.
pub fn file(path: &str) -> Resource {
    match classify(&http::Method::GET, &path.parse().expect("a path of a bench"), &Named::Endpoint) {
        Ok(Target::File(resource)) => resource,
        other => unreachable!("{path} names a file, not {other:?}"),
    }
}

/// `size` bytes that look like nothing in particular and are the same every time.
pub fn bytes(size: usize) -> Bytes {
    let mut bytes = vec![0; size];
    fastrand::Rng::with_seed(size as u64).fill(&mut bytes);
    bytes.into()
}

/// The record of a file with these bytes.
pub fn entry(bytes: &[u8]) -> Entry {
    let size = bytes.len() as u64;
    let mut digester = Digester::new(&[], Some(size));
    digester.update(bytes);
    let sha256 = digester.finish().sha256;
    let then = an_hour_ago();
    Entry {
        blob: sha256,
        size,
        representation: Representation {
            size: Some(size),
            etag: Some(format!("\"{sha256}\"")),
            commit: hubcache::model::Commit::parse(COMMIT),
            content_type: Some("application/octet-stream".to_owned()),
            last_modified: Some("Mon, 03 Nov 2025 10:00:00 GMT".to_owned()),
        },
        validator: None,
        promises: Vec::new(),
        standing: Standing::Recorded,
        stored_at: then,
        checked_at: then,
        access: hubcache::model::Openness::Public { confirmed_at: then },
    }
}

/// What a fill of a file of `size` bytes begins with.
pub fn beginning(size: u64) -> PartialRecord {
    let representation = Representation { size: Some(size), ..Representation::default() };
    let now = Timestamp::now();
    let expectation = Expectation { representation, ..Expectation::default() };
    PartialRecord { expectation, started_at: now, touched_at: now, restricted: false }
}

/// Stores a file the way a fill does.
pub async fn put(store: &Store, root: &HubRoot, file: &Resource, bytes: &Bytes) -> Sha256 {
    let key = file.key(root);
    let size = bytes.len() as u64;
    let blob = store.begin_partial(&key, beginning(size)).await.expect("the disk has room");
    let mut written = Vec::new();
    for index in 0..chunks_of(size) {
        let start = index as usize * CHUNK;
        let chunk = bytes.slice(start..bytes.len().min(start + CHUNK));
        written.push(store.write_chunk(&blob, index, vec![chunk]).await.expect("the store is open"));
    }
    for chunk in written {
        chunk.await.expect("the writer runs").expect("the disk has room");
    }
    let entry = store.commit(&key, &blob, entry(bytes), &[]).await.expect("a file is stored once");
    entry.blob
}
