//! The hit path, for counting its instructions: `benches/instructions` runs this under callgrind.
//!
//! The requests go over a connection in memory through the program's own HTTP server library and [`Proxy::handle`], on
//! one thread, with the log on. Beside what serves them the count has in it a client that writes a request and reads
//! as many bytes as the answer is known to have; what other threads do is not counted. Each case does its work
//! [`TIMES`] times.

// What gungraun's macros generate has no documentation.
#![allow(missing_docs)]

mod support;

use std::convert::Infallible;
use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;

use gungraun::{Callgrind, LibraryBenchmarkConfig, library_benchmark, library_benchmark_group, main};
use http::{Method, Uri};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::runtime::{Builder, Runtime};
use tracing_subscriber::EnvFilter;

use hubcache::cache::{self, Cache, Fetcher};
use hubcache::model::{Commit, EntryKey, Hub, HubRoot, Roots, Sha256, Timestamp};
use hubcache::policy::{Ask, Check, Held, Peer, Plan, Rules, plan};
use hubcache::proxy::{BoundSettings, Bounds, Forwarding, Proxy};
use hubcache::request::{Arrival, Named, classify};
use hubcache::store::{self, Store};
use hubcache::telemetry::Telemetry;
use hubcache::upstream;

use support::{COMMIT, bytes, file, put};

/// How often a case does its work, so that what is done only every so often is counted in proportion.
const TIMES: usize = 512;

const SMALL: &str = "/acme/tiny/resolve/0123456789abcdef0123456789abcdef01234567/config.json";
const BRANCH: &str = "/acme/tiny/resolve/main/config.json";
const LARGE: &str = "/acme/tiny/resolve/0123456789abcdef0123456789abcdef01234567/model.onnx";

/// A store with a small and a large file, where nothing is open but what the case needs.
struct Stored {
    root: HubRoot,
    small: Sha256,
    store: Store,
    runtime: Runtime,
    _dir: TempDir,
}

impl Stored {
    fn new(small_cache_bytes: u64) -> Self {
        let dir = tempfile::tempdir().expect("there is room for files");
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime starts");
        let root = HubRoot::parse("http://127.0.0.1:9").expect("a URL");
        let settings = store::Settings { small_cache_bytes, ..store::Settings::new(dir.path()) };
        let store = Store::open(settings, Timestamp::now()).expect("the directory is empty");
        let small = runtime.block_on(async {
            let small = put(&store, &root, &file(SMALL), &bytes(2048)).await;
            put(&store, &root, &file(LARGE), &bytes(3 << 20)).await;
            let (key, commit) = (file(BRANCH).ref_key(&root), Commit::parse(COMMIT).expect("forty digits"));
            store.put_reference(&key, commit, Timestamp::now()).await.expect("there is room");
            small
        });
        Self { root, small, store, runtime, _dir: dir }
    }
}

/// A client at the other end of a connection in memory.
struct Client {
    stream: DuplexStream,
    request: String,
    answer: Vec<u8>,
    stored: Stored,
}

/// Who asks.
fn peer() -> Peer {
    Peer::from(SocketAddr::from(([127, 0, 0, 1], 1)))
}

impl Client {
    /// Connects, and asks once to learn how long the answer is, and often enough that everything is warm.
    fn of(request: &str) -> Self {
        let stored = Stored::new(64 << 20);
        let (near, far) = tokio::io::duplex(1 << 20);
        let proxy = proxy(&stored);
        let _ = tracing_subscriber::fmt()
            .with_writer(std::io::sink)
            .with_env_filter(EnvFilter::new("info"))
            .with_ansi(false)
            .try_init();
        stored.runtime.spawn(async move {
            let service = service_fn(|request| {
                let proxy = Arc::clone(&proxy);
                async move { Ok::<_, Infallible>(proxy.handle(request, peer(), Arrival::Plain).await.response) }
            });
            // As for connections of real clients, in `hubcache::listen`.
            let connection = http1::Builder::new()
                .header_read_timeout(None)
                .max_header_size(64 << 10)
                .serve_connection(TokioIo::new(far), service);
            connection.await.expect("the client reads every answer");
        });
        let mut client = Self { stream: near, request: request.to_owned(), answer: Vec::new(), stored };
        client.stored.runtime.block_on(async {
            client.stream.write_all(client.request.as_bytes()).await.expect("the server reads");
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(client.stream.read_u8().await.expect("the server answers"));
            }
            let head = String::from_utf8(head).expect("a head of ASCII");
            let body = match request.split_once(' ') {
                Some(("HEAD", _)) => 0,
                _ => length(&head),
            };
            client.answer = vec![0; head.len()];
            let mut rest = vec![0; body];
            client.stream.read_exact(&mut rest).await.expect("the server sends what it said");
            client.answer.extend(rest);
        });
        client.ask(TIMES / 4);
        client
    }

    fn ask(&mut self, times: usize) {
        let Self { stream, request, answer, stored } = self;
        stored.runtime.block_on(async {
            for _ in 0..times {
                stream.write_all(request.as_bytes()).await.expect("the server reads");
                stream.read_exact(answer).await.expect("the server answers as before");
            }
        });
    }

    /// Asks once more, and tells whether the answer begins so.
    fn is_told(&mut self, status: &str) {
        self.ask(1);
        let answer = String::from_utf8_lossy(&self.answer);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    }
}

/// What `content-length` says in a head.
fn length(head: &str) -> usize {
    let value = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    value.map_or(0, |value| value.parse().expect("a number"))
}

/// The proxy with its way to the hubs, where nobody listens.
fn proxy(stored: &Stored) -> Arc<Proxy> {
    let _guard = stored.runtime.enter();
    let roots = Roots::new(Hub::ALL.map(|hub| (hub, stored.root.clone(), Vec::new(), Vec::new())));
    let telemetry = Telemetry::new("0");
    let settings = cache::Settings::default();
    let held = Cache::new(&settings, roots.clone(), stored.store.clone());
    let hubs = upstream::Settings { roots, ..upstream::Settings::default() };
    let hubs = upstream::Client::new(hubs, telemetry.clone()).expect("no certificates are needed");
    let fetcher = Fetcher::new(settings, Arc::clone(&held), Arc::new(hubs), telemetry.clone());
    // Long enough that the branch is not asked about again, however slow the machine.
    let rules = Rules { ref_ttl: std::time::Duration::from_secs(24 * 3600), ..Rules::default() };
    let bounds = Bounds::new(&BoundSettings::default(), telemetry);
    Proxy::new(rules, Forwarding::default(), held, Some(fetcher), bounds, None, None)
}

/// A request as the Python clients send it, and the status that it is to be answered with.
fn connected(method: &str, path: &str, field: &str, status: &str) -> Client {
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: hubcache.example\r\nUser-Agent: unknown/None; hf_hub/1.1.2; python/3.11.2\r\n\
         Accept: */*\r\nAccept-Encoding: identity\r\nConnection: keep-alive\r\n{field}\r\n"
    );
    let mut client = Client::of(&request);
    client.is_told(status);
    client
}

fn tagged() -> Client {
    let field = format!("If-None-Match: \"{}\"\r\n", support::entry(&bytes(2048)).blob);
    connected("GET", SMALL, &field, "304")
}

#[library_benchmark]
#[bench::small_get(connected("GET", SMALL, "", "200"))]
#[bench::small_get_of_branch(connected("GET", BRANCH, "", "200"))]
#[bench::small_head(connected("HEAD", SMALL, "", "200"))]
#[bench::not_modified(tagged())]
#[bench::range_of_large(connected("GET", LARGE, "Range: bytes=1000000-1000999\r\n", "206"))]
#[bench::unknown_hub(connected("GET", "/hub/other/acme/tiny", "", "404"))]
fn request(mut client: Client) -> Client {
    client.ask(TIMES);
    client
}

#[library_benchmark]
#[bench::commit(SMALL.parse::<Uri>().expect("a path"))]
fn classified(uri: Uri) -> Uri {
    for _ in 0..TIMES {
        let _ = black_box(classify(&Method::GET, black_box(&uri), &Named::Endpoint));
    }
    uri
}

#[library_benchmark]
#[bench::held(Rules::default())]
fn planned(rules: Rules) -> Rules {
    let ask = Ask { head: false, no_cache: false, immutable: true, needs_meaning: true };
    let held = Held { current: true, ..Held::default() };
    let now = Timestamp(1_700_000_000_000);
    for _ in 0..TIMES {
        let made = plan(&rules, black_box(ask), black_box(held), Check::NotMade, now);
        debug_assert!(matches!(black_box(made), Plan::Serve { .. }));
    }
    rules
}

/// A store, and the key of what is looked up in it.
fn looked_up(small_cache_bytes: u64) -> (Stored, EntryKey) {
    let stored = Stored::new(small_cache_bytes);
    let key = file(SMALL).key(&stored.root);
    look_up(&stored, &key, TIMES / 4);
    (stored, key)
}

fn look_up(stored: &Stored, key: &EntryKey, times: usize) {
    for _ in 0..times {
        let entry = stored.store.entry(black_box(key)).expect("the index can be read");
        let blob = stored.store.open_blob(black_box(&stored.small)).expect("the index can be read");
        assert!(entry.is_some() && blob.is_some(), "the file is held");
    }
}

#[library_benchmark]
#[bench::from_memory(looked_up(64 << 20))]
#[bench::from_index(looked_up(0))]
fn entry_and_blob((stored, key): (Stored, EntryKey)) -> Stored {
    look_up(&stored, &key, TIMES);
    stored
}

library_benchmark_group!(name = hit_path, benchmarks = [request, classified, planned, entry_and_blob]);

main!(
    config = LibraryBenchmarkConfig::default().tool(Callgrind::with_args(["--cache-sim=no"])),
    library_benchmark_groups = hit_path
);
