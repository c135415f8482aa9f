//! Faults on purpose, between a server and its clients: each as a client sees it, and nothing else changed.

#[cfg(feature = "real-clients")]
mod real_clients;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::support;
use http::Request as HttpRequest;
use hubcache::faults::{Rules, Spoiler, Tally};
use hubcache::listen::{Limits, Service, Speaks, serve};
use hubcache::policy::Peer;
use hubcache::proxy::Handled;
use hubcache::request::Arrival;
use hyper::body::Incoming;
use support::client::{self, Ended, Reply, Request, get, get_range};
use support::hub::{Fault, File, ScriptedHub, What};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;

const LIMITS: Limits = Limits {
    header_timeout: Duration::from_secs(20),
    idle_timeout: Duration::from_secs(20),
    write_timeout: Duration::from_secs(60),
    max_connections: 100,
    max_per_client: 100,
};

/// A spoiler that listens, until it is dropped.
struct Spoiled {
    url: String,
    spoiler: Arc<Spoiler>,
    _stop: watch::Sender<bool>,
    _runtime: Runtime,
}

impl Spoiled {
    /// Before the server at this URL.
    fn before(server: &str, rules: &str) -> Self {
        let origin: SocketAddr = server.strip_prefix("http://").unwrap().parse().unwrap();
        let spoiler = Arc::new(Spoiler::new(origin, Rules::parse(rules).unwrap()));
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::clone(&spoiler);
        let handler = move |request: HttpRequest<Incoming>, _: Peer, _: Arrival| {
            let spoiler = Arc::clone(&shared);
            async move { Handled::from(spoiler.handle(request).await) }
        };
        let telemetry = hubcache::telemetry::Telemetry::new("0");
        let service = Service { handler, limits: LIMITS, speaks: Speaks::Plain(None), telemetry };
        let (stop, stopped) = watch::channel(false);
        runtime.spawn(serve(listener, service, Duration::ZERO, stopped));
        Self { url, spoiler, _stop: stop, _runtime: runtime }
    }

    /// How often each rule struck.
    fn struck(&self) -> Vec<u64> {
        self.spoiler.tally().iter().map(|rule| rule.struck).collect()
    }
}

/// A hub with one file of the Mozilla layout, which has the fewest steps between request and bytes.
struct Scene {
    hub: ScriptedHub,
    path: String,
    bytes: Vec<u8>,
}

impl Scene {
    fn new() -> Self {
        let hub = ScriptedHub::start();
        let mut random = fastrand::Rng::with_seed(7);
        let bytes: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(100_000).collect();
        let path = hub.moz("acme/tiny", "v1.0", "onnx/model.bin", bytes.clone());
        Self { hub, path, bytes }
    }

    /// With one rule for everything, which has this fault.
    fn spoiled(&self, fault: &str) -> (Spoiled, String) {
        let spoiled = Spoiled::before(self.hub.url(), &format!("[[fault]]\npath = \"*\"\n{fault}"));
        let url = format!("{}{}", spoiled.url, self.path);
        (spoiled, url)
    }
}

/// What an answer is, without what belongs to the connection and the second.
fn essence(reply: &Reply) -> (u16, Vec<(String, String)>, &[u8], Ended) {
    let of_connection = ["connection", "date", "expires", "keep-alive", "transfer-encoding"];
    let fields = reply.headers.iter().map(|(name, value)| (name.to_lowercase(), value.clone()));
    let mut fields: Vec<_> = fields.filter(|(name, _)| !of_connection.contains(&name.as_str())).collect();
    fields.sort();
    (reply.status, fields, &reply.body, reply.ended)
}

#[track_caller]
fn assert_told(reply: &Reply, fault: &str) {
    assert_eq!(reply.header("x-hubcache-fault"), Some(&*format!("{fault}; rule=1")), "{:?}", reply.headers);
}

#[test]
fn what_no_rule_is_for_passes_as_it_is() {
    let scene = Scene::new();
    scene.hub.hf("acme/tiny").commit([File::small("a b/é%.json", "{}"), File::lfs("model.bin", "weights")]);
    let (spoiled, _) = scene.spoiled("cut = 5\nmethod = \"PUT\"");
    let etag = get(&format!("{}{}", scene.hub.url(), scene.path)).header("etag").unwrap().to_owned();
    let path = &*scene.path;
    let requests = [
        ("GET", path, None, None),
        ("HEAD", path, None, None),
        ("GET", path, Some(("Range", "bytes=10-19")), None),
        ("GET", path, Some(("Range", "bytes=200000-")), None),
        ("GET", path, Some(("If-None-Match", &*etag)), None),
        ("GET", "/acme/tiny/v1.0/gone.bin?download=true", None, None),
        ("GET", "/acme/tiny/resolve/main/a%20b/%C3%A9%25.json?x=%2F", None, None),
        ("GET", "/api/models/acme/tiny/tree/main?recursive=true&expand=false", None, None),
        (
            "POST",
            "/api/models/acme/tiny/paths-info/main",
            Some(("Content-Type", "application/json")),
            Some(&br#"{"paths": ["model.bin"]}"#[..]),
        ),
    ];
    for (method, target, field, body) in requests {
        let send = |root: &str| {
            let request = Request::new(method, &format!("{root}{target}")).header("Host", "hub.example:8080");
            let request = field.iter().fold(request, |request, (name, value)| request.header(name, value));
            body.iter().fold(request, |request, body| request.body(body)).send()
        };
        let direct = send(scene.hub.url());
        let asked = scene.hub.requests().pop().unwrap();
        let through = send(&spoiled.url);
        assert_eq!(essence(&through), essence(&direct), "{method} {target}");
        let asked_through = scene.hub.requests().pop().unwrap();
        assert_eq!((&asked_through.method, &asked_through.target), (&asked.method, &asked.target));
        assert_eq!(
            (asked_through.header("host"), &asked_through.body),
            (Some("hub.example:8080"), &asked.body)
        );
    }
    scene.hub.fault(Fault::on("model.bin", What::Chunked));
    get(&format!("{}{path}", spoiled.url)).assert_is(200, &scene.bytes, "chunks");
    scene.hub.fault(Fault::on("model.bin", What::CutAt(5_000)));
    assert_eq!(get(&format!("{}{path}", spoiled.url)).ended, Ended::Broken, "the hub's own faults pass too");
    assert_eq!(spoiled.struck(), [0]);
}

#[test]
fn a_status_comes_instead_and_the_server_is_not_asked() {
    let scene = Scene::new();
    let (spoiled, url) =
        scene.spoiled("times = 2\nstatus = 429\nheaders = { Retry-After = \"7\" }\nbody = \"slow down\"");
    let head = client::head(&url);
    assert_eq!(
        (head.status, head.header("retry-after"), head.header("content-length")),
        (429, Some("7"), Some("9"))
    );
    assert_told(&head, "status");
    let reply = get(&url);
    reply.assert_is(429, b"slow down", "in the place of the file");
    assert_told(&reply, "status");
    assert!(scene.hub.requests().is_empty(), "{}", scene.hub.journal());
    let third = get(&url);
    third.assert_is(200, &scene.bytes, "afterwards");
    assert_eq!(third.header("x-hubcache-fault"), None);
    let told = spoiled.spoiler.tally();
    let want = Tally { rule: 1, fault: "status", path: "*".to_owned(), met: 3, struck: 2 };
    assert_eq!(told, [want]);
}

#[test]
fn a_delay_comes_before_the_head_and_a_slow_body_behind_it() {
    let scene = Scene::new();
    let (_spoiled, url) = scene.spoiled("delay = \"300ms\"");
    let reply = get(&url);
    reply.assert_is(200, &scene.bytes, "late and whole");
    assert_told(&reply, "delay");
    assert!(reply.head_at >= Duration::from_millis(300), "{:?}", reply.head_at);
    let (_spoiled, url) = scene.spoiled("slow = \"200KB/s\"");
    let reply = get(&url);
    reply.assert_is(200, &scene.bytes, "slow and whole");
    assert_told(&reply, "slow");
    let took = reply.ended_at - reply.head_at;
    assert!(took >= Duration::from_millis(400) && reply.pieces.len() >= 8, "{took:?} {:?}", reply.pieces);
}

#[test]
fn a_stall_leaves_the_connection_and_a_cut_does_not() {
    let scene = Scene::new();
    let (_spoiled, url) = scene.spoiled("stall = 70_000");
    let mut stalled = Request::get(&url).patience(Duration::from_millis(500)).open().unwrap();
    stalled.read_to(70_000);
    let stalled = stalled.finish();
    assert_told(&stalled, "stall");
    assert_eq!((stalled.status, stalled.header("content-length")), (200, Some("100000")));
    assert!(stalled.body == scene.bytes[..70_000], "{} bytes", stalled.body.len());
    assert!(stalled.ended_at >= Duration::from_millis(500), "silence, and no end");

    let (spoiled, url) = scene.spoiled("cut = \"70KB\"\ntimes = 1");
    assert_eq!(client::head(&url).header("x-hubcache-fault"), None);
    let cut = get(&url);
    assert_told(&cut, "cut");
    assert_eq!((cut.status, cut.header("content-length"), cut.ended), (200, Some("100000"), Ended::Broken));
    assert!(cut.body == scene.bytes[..70_000], "{} bytes", cut.body.len());
    get_range(&url, "70000-").assert_is(206, &scene.bytes[70_000..], "the rest");
    assert_eq!(spoiled.struck(), [1]);

    let (_spoiled, url) = scene.spoiled("cut = 0");
    let cut = get(&url);
    assert_eq!((cut.status, cut.body.len(), cut.ended), (200, 0, Ended::Broken));
}

#[test]
fn a_body_without_a_length_is_cut_too() {
    let scene = Scene::new();
    scene.hub.fault(Fault::on("model.bin", What::Chunked));
    let (_spoiled, url) = scene.spoiled("cut = 70_000");
    let cut = get(&url);
    assert_eq!((cut.header("content-length"), cut.ended), (None, Ended::Broken));
    assert!(cut.body == scene.bytes[..70_000], "{} bytes", cut.body.len());
}

#[test]
fn a_wrong_byte_has_its_place_in_the_file() {
    let scene = Scene::new();
    let (spoiled, url) = scene.spoiled("wrong_byte = 70_000");
    let mut wrong = scene.bytes.clone();
    wrong[70_000] ^= 1;
    let reply = get(&url);
    reply.assert_is(200, &wrong, "the whole");
    assert_told(&reply, "wrong_byte");
    let part = get_range(&url, "69990-70009");
    part.assert_is(206, &wrong[69_990..70_010], "a part");
    assert_told(&part, "wrong_byte");
    let other = get_range(&url, "70001-70009");
    other.assert_is(206, &scene.bytes[70_001..70_010], "another part");
    assert_eq!(other.header("x-hubcache-fault"), None);
    assert_eq!(spoiled.struck(), [2]);
}

#[test]
fn a_wrong_length_is_in_the_head_and_more_of_it_never_comes() {
    let scene = Scene::new();
    for (by, length, arrives, ended) in
        [("+10", "100010", 100_000, Ended::Broken), ("-10", "99990", 99_990, Ended::Clean)]
    {
        let (spoiled, url) = scene.spoiled(&format!("wrong_length = {by}"));
        let head = client::head(&url);
        assert_told(&head, "wrong_length");
        let reply = get(&url);
        assert_told(&reply, "wrong_length");
        for reply in [&head, &reply] {
            assert_eq!((reply.status, reply.header("content-length")), (200, Some(length)));
        }
        assert!(reply.body == scene.bytes[..arrives], "{} bytes", reply.body.len());
        assert_eq!((reply.ended, spoiled.struck()), (ended, vec![2]));
    }
}

#[test]
fn another_tag_comes_each_time() {
    let scene = Scene::new();
    let real = get(&format!("{}{}", scene.hub.url(), scene.path)).header("etag").unwrap().to_owned();
    let (_spoiled, url) = scene.spoiled("etag = \"changes\"");
    let replies = [client::head(&url), get(&url), get_range(&url, "0-0")];
    let tags: Vec<&str> = replies.iter().map(|reply| reply.header("etag").unwrap()).collect();
    for (n, (tag, reply)) in tags.iter().zip(&replies).enumerate() {
        assert_told(reply, "etag");
        assert!(*tag != real && tag.len() == real.len() && !tags[..n].contains(tag), "{tags:?}, not {real}");
    }
    replies[1].assert_is(200, &scene.bytes, "the bytes are right");
}

#[test]
fn a_seed_gives_the_same_again() {
    let scene = Scene::new();
    let run = |seed: u64| -> Vec<u16> {
        let rules =
            format!("seed = {seed}\n[[fault]]\npath = \"*/model.bin\"\nprobability = 0.5\nstatus = 503");
        let spoiled = Spoiled::before(scene.hub.url(), &rules);
        (0..40).map(|_| client::head(&format!("{}{}", spoiled.url, scene.path)).status).collect()
    };
    let first = run(1);
    assert!(first.contains(&200) && first.contains(&503), "{first:?}");
    assert_eq!(run(1), first);
    assert_ne!(run(2), first);
}

#[test]
fn a_target_with_a_host_goes_on_as_it_is_and_there_are_no_tunnels() {
    let scene = Scene::new();
    let (spoiled, _) = scene.spoiled("cut = 5\nmethod = \"PUT\"");
    let absolute = format!("http://model-hub.mozilla.org{}", scene.path);
    let _ = Request::get(&spoiled.url).target(&absolute).send();
    assert_eq!(scene.hub.requests().pop().unwrap().target, absolute);
    let tunnel = Request::new("CONNECT", &spoiled.url).target("huggingface.co:443").send();
    assert_eq!(tunnel.status, 501);
    assert!(tunnel.text().contains("there are no tunnels"), "{}", tunnel.text());
}

#[test]
fn a_server_that_is_gone_is_told_from_a_fault() {
    let scene = Scene::new();
    let (_spoiled, url) = scene.spoiled("status = 503\nskip = 1");
    scene.hub.stop();
    let reply = get(&url);
    assert_eq!((reply.status, reply.header("x-hubcache-fault")), (502, None));
    assert!(reply.text().contains("the server behind the faults does not answer"), "{}", reply.text());
    assert_told(&get(&url), "status");
}
