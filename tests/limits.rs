//! Every limit, as clients and hubs meet it: who waits, who is refused with which words, and what is counted.

use std::net::TcpStream;
use std::process::Output;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support;
use support::client::{self, Incoming, Reply, Request};
use support::daemon::{Builder, Daemon};
use support::hub::{Fault, File, ScriptedHub, What};
use support::noise;
use support::{eventually, tls};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(40);

/// A hub with `a.bin` and others at one commit, and a daemon before it.
struct Scene {
    hub: ScriptedHub,
    daemon: Daemon,
    commit: String,
    files: Vec<(&'static str, Vec<u8>)>,
}

impl Scene {
    fn new(files: &[(&'static str, usize)], settings: impl Fn(Builder) -> Builder) -> Self {
        let hub = ScriptedHub::start();
        let files: Vec<_> =
            files.iter().enumerate().map(|(i, (name, size))| (*name, noise(i as u64, *size))).collect();
        let commit =
            hub.hf("acme/tiny").commit(files.iter().map(|(name, bytes)| File::direct(name, bytes.clone())));
        let daemon = settings(Daemon::builder().hub(&hub).set("upstream.backoff", "5ms")).start();
        Self { hub, daemon, commit, files }
    }

    fn url(&self, file: &str) -> String {
        format!("{}/acme/tiny/resolve/{}/{file}", self.daemon.url(), self.commit)
    }

    fn bytes(&self, file: &str) -> &[u8] {
        &self.files.iter().find(|(name, _)| *name == file).unwrap().1
    }

    fn get(&self, file: &str) -> Reply {
        client::get(&self.url(file))
    }

    fn get_whole(&self, file: &str, what: &str) {
        self.get(file).assert_is(200, self.bytes(file), what);
    }

    /// A response that stays under way, because it is larger than what the kernel takes of it.
    fn slow(&self, file: &str) -> Incoming {
        let mut reading = Request::get(&self.url(file)).open().unwrap();
        assert_eq!(reading.status(), 200);
        reading.read_to(1);
        reading
    }

    fn limited(&self, limit: &str) -> f64 {
        self.daemon.metric("hubcache_limited_total", &[("limit", limit)])
    }

    fn preload(&self, files: &[&str]) -> Output {
        let target = format!("hf:acme/tiny@{}", self.commit);
        let mut arguments = vec!["preload", &target];
        for file in files {
            arguments.extend(["--include", file]);
        }
        self.daemon.command(&arguments)
    }
}

fn of<'a>(reply: &'a Reply, name: &str) -> &'a str {
    reply.header(name).unwrap_or_default()
}

#[test]
fn requests_are_limited_until_their_bodies_end_and_the_setting_is_named() {
    let cases = [
        ("limits.max_requests_per_client", "requests-per-client", 429, "hubcache; detail=too-many"),
        ("limits.max_requests", "requests", 503, "hubcache; detail=busy"),
    ];
    for (setting, limit, status, cache_status) in cases {
        let scene = Scene::new(&[("a.bin", 24 * MIB), ("b.bin", 10)], |b| b.set(setting, "2"));
        scene.get_whole("a.bin", "to be held");
        let reading = [scene.slow("a.bin"), scene.slow("a.bin")];
        let refused = scene.get("b.bin");
        assert_eq!((refused.status, of(&refused, "cache-status")), (status, cache_status));
        assert!(refused.text().contains(setting), "{}", refused.text());
        assert_eq!(of(&refused, "retry-after"), "5");
        assert_eq!(scene.limited(limit), 1.0);
        assert_eq!(scene.hub.count("GET", "b.bin"), 0, "whoever is refused costs the hub nothing");
        for reading in reading {
            reading.finish().assert_is(200, scene.bytes("a.bin"), "those under way are not disturbed");
        }
        eventually(|| (scene.get("b.bin").status == 200).then_some(()));
    }
}

#[test]
fn connections_are_counted_and_a_client_is_told_which_limit_it_has_met() {
    let scene = Scene::new(&[("a.bin", 10)], |b| b.set("listen.max_connections_per_client", "2"));
    let held: Vec<_> = (0..2).map(|_| TcpStream::connect(scene.daemon.listen()).unwrap()).collect();
    let refused = tls::raw(scene.daemon.listen(), b"GET /proxy.pac HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("1")), "{}", refused.head);
    assert!(refused.text().contains("listen.max_connections_per_client"), "{}", refused.text());
    assert!(scene.limited("connections-per-client") >= 1.0);
    drop(held);
    let scene = Scene::new(&[("a.bin", 10)], |b| b.set("listen.max_connections", "1"));
    let held = TcpStream::connect(scene.daemon.listen()).unwrap();
    eventually(|| (scene.limited("connections") >= 1.0).then_some(()));
    drop(held);
    scene.get_whole("a.bin", "the one that waited");
}

#[test]
fn bytes_to_clients_keep_to_the_rate_and_no_deadline_takes_them_for_stalled() {
    for setting in ["limits.download_rate", "limits.download_rate_per_client"] {
        let scene = Scene::new(&[("a.bin", MIB), ("b.json", 40 * KIB)], |b| {
            b.set(setting, "512KiB@00:00-12:00,512KiB")
                .set("listen.write_timeout", "300ms")
                .set("cache.drip", "100ms")
        });
        for what in ["while it arrives", "from what is held"] {
            let began = Instant::now();
            scene.get_whole("a.bin", what);
            // Two seconds at this rate, less what an idle line makes up for.
            assert!(
                began.elapsed() > Duration::from_millis(1700),
                "{setting}, {what}: {:?}",
                began.elapsed()
            );
        }
        scene.get_whole("b.json", "a small one");
        let ranged = client::get_range(&scene.url("a.bin"), "1000-200999");
        ranged.assert_is(206, &scene.bytes("a.bin")[1000..201_000], "a part");
        let limit = setting.strip_prefix("limits.").unwrap().replace('_', "-");
        assert!(scene.limited(&limit) >= 1.0, "{limit}");
        assert_eq!(scene.hub.count("GET", "a.bin"), 1, "{}", scene.hub.journal());
    }
}

/// A response to a client at `from`, which reads all of it and counts that as it comes.
fn read_from(from: &str, address: &str, path: &str, read: &AtomicUsize) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
        let mut stream = socket.connect(address.parse().unwrap()).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut piece = vec![0; 64 * KIB];
        loop {
            match stream.read(&mut piece).await {
                Ok(count @ 1..) => read.fetch_add(count, Ordering::Relaxed),
                _ => return,
            };
        }
    });
}

#[test]
fn a_client_with_many_responses_gets_no_more_than_one_with_a_single_one() {
    let scene =
        Scene::new(&[("a.bin", 4 * MIB), ("b.bin", 512 * KIB)], |b| b.set("limits.download_rate", "1MiB"));
    for file in ["a.bin", "b.bin"] {
        // Held without being sent.
        assert!(scene.preload(&[file]).status.success());
    }
    let path = |file: &str| format!("/acme/tiny/resolve/{}/{file}", scene.commit);
    let (many, one) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| read_from("127.0.0.1", scene.daemon.listen(), &path("a.bin"), &many));
        }
        eventually(|| (many.load(Ordering::Relaxed) > 0).then_some(()));
        let before = many.load(Ordering::Relaxed);
        read_from("127.0.0.2", scene.daemon.listen(), &path("b.bin"), &one);
        let meanwhile = many.load(Ordering::Relaxed) - before;
        assert!(one.load(Ordering::Relaxed) > 512 * KIB, "all of it, with its head");
        // By responses it would have been eight times as much.
        assert!(meanwhile < 2 * MIB, "{meanwhile}");
        // The others need not be waited for.
        scene.daemon.signal(rustix::process::Signal::KILL);
    });
}

#[test]
fn bytes_from_hubs_keep_to_the_rate_and_the_hub_is_not_taken_for_stalled() {
    let scene = Scene::new(&[("a.bin", MIB)], |b| {
        b.set("limits.upstream_rate", "512KiB")
            .set("upstream.stall_timeout", "300ms")
            .set("cache.lanes_far", "1")
    });
    let began = Instant::now();
    scene.get_whole("a.bin", "from the hub");
    assert!(began.elapsed() > Duration::from_millis(1700), "{:?}", began.elapsed());
    assert_eq!(scene.hub.count("GET", "a.bin"), 1, "{}", scene.hub.journal());
    assert!(scene.limited("upstream-rate") >= 1.0);
    let began = Instant::now();
    scene.get_whole("a.bin", "what is held comes as fast as it may");
    assert!(scene.hub.count("GET", "a.bin") == 1 && began.elapsed() < PATIENCE);
}

#[test]
fn bytes_to_hubs_keep_to_the_rate() {
    let scene = Scene::new(&[("a.bin", 10)], |b| b.set("limits.upload_rate", "512KiB"));
    let sent = noise(9, MIB);
    let began = Instant::now();
    let answered = Request::new("POST", &format!("{}/api/upload", scene.daemon.url())).body(&sent).send();
    assert!(began.elapsed() > Duration::from_millis(1700), "{:?} for {}", began.elapsed(), answered.text());
    let seen = scene.hub.requests().into_iter().find(|s| s.is("POST", "/api/upload"));
    assert_eq!(seen.unwrap().body, sent, "all of it, as it was");
    assert!(scene.limited("upload-rate") >= 1.0);
}

#[test]
fn connections_to_a_host_are_limited_and_whoever_waited_too_long_is_told_so() {
    let scene = Scene::new(&[("a.bin", 3 * MIB), ("b.bin", 10), ("c.bin", 10)], |b| {
        b.set("upstream.max_connections_per_host", "1").set("upstream.head_timeout", "500ms")
    });
    let gate = scene.hub.gate("a.bin", 2 * MIB as u64);
    let mut reading = Request::get(&scene.url("a.bin")).open().unwrap();
    reading.read_to(MIB);
    let refused = scene.get("b.bin");
    assert_eq!((refused.status, of(&refused, "cache-status")), (503, "hubcache; detail=busy"));
    assert!(refused.text().contains("upstream.max_connections_per_host"), "{}", refused.text());
    assert!(!of(&refused, "retry-after").is_empty());
    assert!(scene.limited("hub-connections") >= 1.0);
    gate.release();
    reading.finish().assert_is(200, scene.bytes("a.bin"), "the one that had the connection");
    scene.get_whole("c.bin", "once it is free");
}

#[test]
fn clients_come_before_a_preload_and_one_that_joins_makes_its_file_urgent() {
    let files = [("a.bin", 10), ("b.bin", 10), ("c.bin", 10), ("d.bin", 10)];
    let scene = Scene::new(&files, |b| b.set("cache.max_fills", "2"));
    let gates = ["a.bin", "b.bin", "c.bin"].map(|file| scene.hub.gate_head("GET", file));
    thread::scope(|scope| {
        let preload = scope.spawn(|| scene.preload(&["a.bin", "b.bin", "c.bin"]));
        let begun = |seen: &[support::hub::Seen]| {
            seen.iter().filter(|s| s.is("GET", ".bin") && s.is("GET", "resolve")).count()
        };
        scene.hub.wait_for(PATIENCE, "one file of the preload", |seen| begun(seen) == 1);
        eventually(|| (scene.limited("background-fills") >= 1.0).then_some(()));
        scene.get_whole("d.bin", "a client has the place that the preload may not take");
        assert_eq!(begun(&scene.hub.requests()), 2, "{}", scene.hub.journal());
        // Of the files that the preload waits with, a client asks for one.
        let seen = scene.hub.requests();
        let waiting =
            ["a.bin", "b.bin", "c.bin"].into_iter().find(|f| !seen.iter().any(|s| s.is("GET", f))).unwrap();
        let scene = &scene;
        let client = scope.spawn(move || (waiting, scene.get(waiting)));
        scene.hub.wait_for(PATIENCE, "the file that a client waits for", |seen| {
            seen.iter().any(|s| s.is("GET", waiting) && s.is("GET", "resolve"))
        });
        gates.iter().for_each(support::hub::Gate::release);
        let (file, reply) = client.join().unwrap();
        reply.assert_is(200, scene.bytes(file), "what it joined");
        assert_eq!(of(&reply, "cache-status"), "hubcache; fwd=uri-miss; stored; collapsed");
        let output = preload.join().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    });
    scene.hub.clear();
    for (file, _) in files {
        scene.get_whole(file, "held");
    }
    assert_eq!(scene.hub.count("GET", ".bin"), 0, "{}", scene.hub.journal());
}

#[test]
fn a_preload_pauses_where_a_client_would_be_told_to_come_later() {
    let scene = Scene::new(&[("a.bin", 10), ("b.bin", 10)], |b| b);
    let refusal = What::status_with(429, &[("Retry-After", "1")], "slow down");
    let refused = scene.hub.fault(Fault::on("a.bin", refusal).get());
    let output = scene.preload(&["a.bin"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!((refused.fired(), scene.hub.count("GET", "a.bin")), (1, 2), "{}", scene.hub.journal());
    let asked: Vec<Instant> =
        scene.hub.requests().iter().filter(|s| s.is("GET", "a.bin")).map(|s| s.at).collect();
    assert!(asked[1] - asked[0] >= Duration::from_millis(900), "it was left alone as long as it said");
    scene.get_whole("a.bin", "brought");
}

#[test]
fn a_preload_leaves_what_is_left_of_a_hubs_quota_to_clients() {
    let scene = Scene::new(&[("a.bin", 10), ("b.bin", 10), ("c.bin", 10)], |b| b);
    let header = |name: &str, value: &str| What::Header(name.to_owned(), Some(value.to_owned()));
    scene.hub.fault(Fault::on("/resolve/", header("RateLimit", r#""resolvers";r=9;t=3600"#)).always());
    scene
        .hub
        .fault(Fault::on("/resolve/", header("RateLimit-Policy", r#""resolvers";q=100;w=300"#)).always());
    scene.get_whole("a.bin", "a client learns nothing of it");
    thread::scope(|scope| {
        let preload = scope.spawn(|| scene.preload(&["b.bin"]));
        eventually(|| (scene.daemon.metric("hubcache_inflight_fetches", &[]) >= 1.0).then_some(()));
        assert_eq!(scene.hub.count("GET", "b.bin"), 0, "{}", scene.hub.journal());
        scene.get_whole("c.bin", "clients go on");
        let joined = scene.get("b.bin");
        joined.assert_is(200, scene.bytes("b.bin"), "and so does what they wait for");
        assert_eq!(of(&joined, "cache-status"), "hubcache; fwd=uri-miss; stored; collapsed");
        assert!(preload.join().unwrap().status.success());
    });
}

#[test]
fn a_hub_that_says_429_makes_what_is_held_stale_and_no_error() {
    let scene = Scene::new(&[("a.bin", 10)], |b| b.set("cache.ref_ttl", "0s"));
    let urls = ["/acme/tiny/resolve/main/a.bin", "/api/models/acme/tiny", "/api/models/acme/tiny/tree/main"];
    let get = |path: &str| client::get(&format!("{}{path}", scene.daemon.url()));
    let before = urls.map(get);
    scene.hub.fault(Fault::on("", What::status_with(429, &[("Retry-After", "60")], "slow down")).always());
    for (url, before) in urls.into_iter().zip(before) {
        assert_eq!(before.status, 200, "{url}");
        // The first meets the hub's own word, the second that it is left alone.
        for _ in 0..2 {
            let stale = get(url);
            stale.assert_is(200, &before.body, url);
            assert_eq!(of(&stale, "cache-status"), "hubcache; hit; detail=stale", "{url}");
        }
    }
}

#[test]
fn over_http2_a_paced_response_is_not_taken_for_one_that_the_client_does_not_read() {
    let hub = ScriptedHub::start();
    let bytes = noise(3, MIB);
    hub.moz("acme/tiny", "v1.0", "model.onnx", bytes.clone());
    let daemon = Daemon::builder()
        .hub(&hub)
        .set("limits.download_rate", "512KiB")
        .set("listen.write_timeout", "300ms")
        .arg("--intercept")
        .start();
    let host = "model-hub.mozilla.org";
    let stream = tls::tunnel(daemon.listen(), &format!("{host}:443"), "").unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let body = runtime.block_on(async {
        let mut sender = tls::http2(stream, host, &daemon.data().join("ca/ca.pem")).await;
        let request = http::Request::get(format!("https://{host}/acme/tiny/v1.0/model.onnx"));
        let response = sender.send_request(request.body(tls::empty()).unwrap()).await.unwrap();
        http_body_util::BodyExt::collect(response.into_body()).await.map(|body| body.to_bytes())
    });
    assert!(body.unwrap() == bytes);
}

#[test]
fn a_rate_that_is_none_is_told_with_what_is_wrong() {
    let output = Daemon::builder().set("limits.download_rate", "50MiB@8-18").try_start();
    let (status, log) = output.err().unwrap();
    assert_eq!(status.and_then(|s| s.code()), Some(78), "{log}");
    assert!(log.contains("limits.download_rate") && log.contains("HH:MM-HH:MM"), "{log}");
}
