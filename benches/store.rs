//! Benches of the store: looking up, writing and reading, through its public interface.
//!
//! `cargo bench --bench store`. The data directories are scratch ones where `TMPDIR` says, so what is written is as
//! fast as that disk syncs.

mod support;

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{BatchSize, BenchmarkId, Criterion, SamplingMode, Throughput};
use futures_util::future::join_all;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

use hubcache::model::{EntryKey, Hub, HubRoot, Sha256, Timestamp};
use hubcache::store::{Blob, CHUNK, Settings, Store};

use support::{COMMIT, beginning, bytes, entry, file, put};

/// What one transaction of a volume takes at most.
const BATCH: usize = 16 << 20;

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3))
        .configure_from_args();
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime starts");
    looking_up(&mut criterion, &runtime);
    writing(&mut criterion, &runtime);
    reading(&mut criterion, &runtime);
    criterion.final_summary();
}

/// An open store in a scratch directory.
fn open(small_cache_bytes: u64) -> (TempDir, Store) {
    let dir = tempfile::tempdir().expect("there is room for files");
    let settings = Settings { small_cache_bytes, ..Settings::new(dir.path()) };
    let store = Store::open(settings, Timestamp::now()).expect("the directory is empty");
    (dir, store)
}

fn root() -> HubRoot {
    HubRoot::parse(Hub::HuggingFace.default_root()).expect("a URL")
}

fn key(path: &str) -> EntryKey {
    file(&format!("/acme/tiny/resolve/{COMMIT}/{path}")).key(&root())
}

/// Stores a file of 2 KB and lets `count` entries name its bytes.
async fn fill(store: &Store, count: usize) -> Sha256 {
    let bytes = bytes(2048);
    let sha256 = put(store, &root(), &file(&format!("/acme/tiny/resolve/{COMMIT}/0.json")), &bytes).await;
    let entry = entry(&bytes);
    let keys: Vec<_> = (1..count).map(|n| key(&format!("{n}.json"))).collect();
    for keys in keys.chunks(512) {
        // Changes that wait together are written together.
        let linked = join_all(keys.iter().map(|key| store.link(key, entry.clone(), &[]))).await;
        assert!(linked.iter().all(Result::is_ok), "the bytes are held");
    }
    sha256
}

fn looking_up(c: &mut Criterion, runtime: &Runtime) {
    for (place, small_cache_bytes) in [("memory", 64 << 20), ("index", 0)] {
        let mut group = c.benchmark_group(format!("lookup-from-{place}"));
        for count in [1_000, 100_000] {
            let (_dir, store) = open(small_cache_bytes);
            let sha256 = runtime.block_on(fill(&store, count));
            // Spread over the whole index, and few enough that memory holds them all.
            let keys: Vec<_> = (0..count).step_by(count / 500).map(|n| key(&format!("{n}.json"))).collect();
            let mut next = keys.iter().cycle();
            group.bench_function(BenchmarkId::new("entry", count), |b| {
                b.iter(|| {
                    let key = next.next().expect("a cycle has no end");
                    store.entry(black_box(key)).expect("the index can be read").expect("the file is held")
                });
            });
            group.bench_function(BenchmarkId::new("open_blob", count), |b| {
                b.iter(|| {
                    let blob = store.open_blob(black_box(&sha256));
                    blob.expect("the index can be read").expect("the bytes are held")
                });
            });
            runtime.block_on(store.close());
        }
        group.finish();
    }
}

fn writing(c: &mut Criterion, runtime: &Runtime) {
    let chunk = bytes(CHUNK);
    let chunks = BATCH / CHUNK;
    let mut group = c.benchmark_group("write");
    group.throughput(Throughput::Bytes((chunks * CHUNK) as u64));
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    let (_dir, store) = open(0);
    let mut written = 0_u64;
    group.bench_function("batch-of-16-MiB", |b| {
        b.iter_custom(|times| {
            let mut took = Duration::ZERO;
            for _ in 0..times {
                written += 1;
                let key = key(&format!("{written}.bin"));
                runtime.block_on(async {
                    let blob =
                        store.begin_partial(&key, beginning(BATCH as u64)).await.expect("there is room");
                    let began = Instant::now();
                    write(&store, &blob, &chunk, chunks).await;
                    took += began.elapsed();
                    drop(blob);
                    store.discard_partial(&key).await.expect("the store is open");
                });
            }
            took
        });
    });
    group.finish();
    runtime.block_on(store.close());
}

/// Writes a blob that is `count` times the same chunk, until it is on disk.
async fn write(store: &Store, blob: &Blob, chunk: &Bytes, count: usize) {
    let mut written = Vec::with_capacity(count);
    for index in 0..u32::try_from(count).expect("a few chunks") {
        written.push(store.write_chunk(blob, index, vec![chunk.clone()]).await.expect("the store is open"));
    }
    for chunk in written {
        chunk.await.expect("the writer runs").expect("there is room");
    }
}

fn reading(c: &mut Criterion, runtime: &Runtime) {
    const LARGE: u32 = 64;
    let mut group = c.benchmark_group("read");
    let (_dir, store) = open(64 << 20);
    let (_cold_dir, cold) = open(0);
    let open_blob = |store: &Store, name: &str, size: usize| {
        let file = file(&format!("/acme/tiny/resolve/{COMMIT}/{name}"));
        let sha256 = runtime.block_on(put(store, &root(), &file, &bytes(size)));
        store.open_blob(&sha256).expect("the index can be read").expect("the bytes are held")
    };

    let large = open_blob(&store, "large.bin", LARGE as usize * CHUNK);
    let mut next = (0..LARGE).cycle();
    group.throughput(Throughput::Bytes(CHUNK as u64));
    group.bench_function("chunk", |b| {
        b.iter_batched(
            || next.next().expect("a cycle has no end"),
            |index| large.read(index).expect("the volume can be read"),
            BatchSize::PerIteration,
        );
    });

    group.throughput(Throughput::Bytes(2048));
    for (name, store) in [("small-from-memory", &store), ("small-from-volume", &cold)] {
        let small = open_blob(store, "small.json", 2048);
        group.bench_function(name, |b| b.iter(|| small.read_small().expect("the volume can be read")));
    }
    group.finish();
    drop(large);
    runtime.block_on(async { tokio::join!(store.close(), cold.close()) });
}
