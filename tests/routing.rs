//! Where a request goes: the order in which paths are read, what passes through, and what is refused before any hub
//! hears of it.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use crate::support;
use support::client::{self, Request};
use support::daemon::Daemon;
use support::hub::{Fault, File, ScriptedHub, What};

const PATIENCE: Duration = Duration::from_secs(20);

/// One hub for each layout, so that the journal tells which of them was asked.
struct Hubs {
    hugging_face: ScriptedHub,
    mozilla: ScriptedHub,
    daemon: Daemon,
}

impl Hubs {
    fn start() -> Self {
        let (hugging_face, mozilla) = (ScriptedHub::start(), ScriptedHub::start());
        let builder = Daemon::builder().root("huggingface", hugging_face.url());
        let daemon = builder.root("mozilla", mozilla.url()).set("cache.ref_ttl", "1h").start();
        Self { hugging_face, mozilla, daemon }
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.daemon.url())
    }

    /// How many requests each of them got since the last time.
    fn asked(&self) -> (usize, usize) {
        let asked = (self.hugging_face.requests().len(), self.mozilla.requests().len());
        self.hugging_face.clear();
        self.mozilla.clear();
        asked
    }
}

#[test]
fn paths_are_read_in_the_documented_order() {
    let hubs = Hubs::start();
    for id in ["acme/tiny", "bare", "acme", "datasets/acme/set", "spaces/acme/show"] {
        let commit = hubs.hugging_face.hf(id).commit([File::direct("dir/a.bin", format!("of {id}"))]);
        hubs.hugging_face.hf(id).branch("v1.0", &commit);
    }
    for revision in ["main", "v1.0", "1.2.3-rc1", "next"] {
        hubs.mozilla.moz("acme/tiny", revision, "dir/a.bin", format!("mozilla {revision}"));
    }
    for (path, bytes) in [
        ("/acme/tiny/resolve/main/dir/a.bin", "of acme/tiny"),
        ("/bare/resolve/main/dir/a.bin", "of bare"),
        ("/acme/resolve/v1.0/dir/a.bin", "of acme"),
        ("/datasets/acme/set/resolve/main/dir/a.bin", "of datasets/acme/set"),
        ("/spaces/acme/show/resolve/main/dir/a.bin", "of spaces/acme/show"),
        ("/hub/huggingface/acme/tiny/resolve/main/dir/a.bin", "of acme/tiny"),
        ("/acme/tiny/main/dir/a.bin", "mozilla main"),
        ("/acme/tiny/v1.0/dir/a.bin", "mozilla v1.0"),
        ("/acme/tiny/1.2.3-rc1/dir/a.bin", "mozilla 1.2.3-rc1"),
        ("/hub/mozilla/acme/tiny/v1.0/dir/a.bin", "mozilla v1.0"),
        ("/hub/mozilla/acme/tiny/next/dir/a.bin", "mozilla next"),
    ] {
        for _ in 0..2 {
            let reply = client::get(&hubs.url(path));
            assert_eq!((reply.status, &*reply.body), (200, bytes.as_bytes()), "{path}");
        }
        let again = client::get(&hubs.url(path));
        assert_eq!(again.header("cache-status"), Some("hubcache; hit"), "{path}");
    }
    hubs.asked();
    for path in [
        "/acme/tiny/next/dir/a.bin",
        "/acme/tiny/raw/main/dir/a.bin",
        "/datasets/acme/v1.0/a.bin",
        "/spaces/acme/main/a.bin",
        "/api/models/acme/tiny/discussions",
        "/hub/huggingface/acme/tiny/v1.0/dir/a.bin",
        "/acme/tiny/v1.0",
        "/acme",
        "/",
        "/resolve/main/a.bin",
    ] {
        for _ in 0..2 {
            let reply = client::get(&hubs.url(path));
            assert_eq!(reply.header("cache-status"), Some("hubcache; fwd=bypass"), "{path}");
        }
        assert_eq!(hubs.asked(), (2, 0), "{path} passes to Hugging Face each time");
    }
    let passed = client::get(&hubs.url("/hub/mozilla/acme"));
    assert_eq!((passed.status, hubs.asked()), (404, (0, 1)));
}

#[test]
fn a_hub_that_is_not_known_and_the_place_of_the_mirror_are_404_here() {
    let hubs = Hubs::start();
    for path in ["/hub/nexus/acme/tiny/resolve/main/a", "/rs/v2", "/rs/v1/buckets/main", "/rs/v1/?x=1"] {
        for method in ["GET", "HEAD", "POST"] {
            let reply = Request::new(method, &hubs.url(path)).send();
            assert_eq!(reply.status, 404, "{method} {path}");
            assert_eq!(reply.header("cache-status"), Some("hubcache; detail=unsupported"), "{path}");
        }
    }
    assert_eq!(hubs.asked(), (0, 0));
}

#[test]
fn the_query_is_no_part_of_a_files_key() {
    let hubs = Hubs::start();
    hubs.hugging_face.hf("acme/tiny").commit([File::lfs("a.bin", "hugging face")]);
    hubs.mozilla.moz("acme/tiny", "v1.0", "a.bin", "mozilla");
    for (path, bytes) in
        [("/acme/tiny/resolve/main/a.bin", "hugging face"), ("/acme/tiny/v1.0/a.bin", "mozilla")]
    {
        for query in ["?download=true", "", "?download=true&x=..%2F..", "?"] {
            assert_eq!(client::get(&hubs.url(&format!("{path}{query}"))).body, bytes.as_bytes());
        }
    }
    assert_eq!(hubs.hugging_face.count("GET", "/acme/tiny/resolve/"), 1, "{}", hubs.hugging_face.journal());
    assert_eq!(hubs.mozilla.count("GET", ""), 1, "{}", hubs.mozilla.journal());
    assert_eq!(hubs.mozilla.requests()[0].target, "/acme/tiny/v1.0/a.bin");
}

#[test]
fn odd_names_and_encoded_revisions_reach_the_hub_once_in_the_right_encoding() {
    let hubs = Hubs::start();
    let odd = "odd%20names/a%20b%23c%2Bd%25%C3%A9.txt";
    let set = hubs.hugging_face.hf("datasets/acme/set");
    let commit = set.commit([File::lfs("odd names/a b#c+d%é.txt", "odd")]);
    set.branch("refs/pr/1", &commit);
    hubs.mozilla.moz("acme/tiny", "v1.0", "odd names/a b#c+d%é.txt", "odd too");

    let path = format!("/datasets/acme/set/resolve/refs%2Fpr%2F1/{odd}");
    for _ in 0..2 {
        let reply = client::get(&hubs.url(&path));
        assert_eq!((reply.status, &*reply.body), (200, &b"odd"[..]));
    }
    // The client that encodes less, or more, means the same file.
    let more = "odd%20names/%61%20b%23c%2bd%25%c3%a9.txt";
    let reply = client::get(&hubs.url(&format!("/datasets/acme/set/resolve/refs%2fpr%2f1/{more}")));
    assert_eq!(&*reply.body, b"odd");
    let at_hub = |method: &str, target: &str| {
        let seen = hubs.hugging_face.requests();
        seen.iter().filter(|s| s.method == method && s.target == target).count()
    };
    let at_commit = format!("/datasets/acme/set/resolve/{commit}/{odd}");
    let journal = hubs.hugging_face.journal();
    assert_eq!((at_hub("HEAD", &path), at_hub("GET", &at_commit)), (1, 1), "{journal}");
    assert_eq!(hubs.hugging_face.requests().len(), 3, "the third is the content network\n{journal}");

    assert_eq!(client::get(&hubs.url(&format!("/acme/tiny/v1.0/{odd}"))).body, b"odd too");
    assert_eq!(hubs.mozilla.requests()[0].target, format!("/acme/tiny/v1.0/{odd}"));
    let unknown = client::get(&hubs.url("/hub/mozilla/acme/tiny/feature%2Fx/a.bin"));
    assert_eq!(unknown.status, 404);
    assert_eq!(hubs.mozilla.requests()[1].target, "/acme/tiny/feature%2Fx/a.bin");
}

#[test]
fn api_paths_pass_in_the_clients_own_encoding() {
    let hubs = Hubs::start();
    hubs.hugging_face.hf("acme/tiny").commit([File::direct("a/b/c.txt", "c")]);
    for target in [
        "/api/models/acme/tiny/tree/main/a%2Fb?recursive=true&expand=false&unknown=1",
        "/api/models/acme/tiny/tree/refs%2Fpr%2F1/a%2fb?recursive=perhaps",
        "/api/models/acme/tiny/revision/feature%2Fx?x=%2F..%2F&y='a'|b",
        "/api/models/acme/tiny?full=true&",
        "/api/models/acme/%7Etiny+x@y,z;w=1!$&'()*/tags",
    ] {
        hubs.hugging_face.clear();
        let reply = client::get(&hubs.url(target));
        let seen = hubs.hugging_face.requests();
        let targets: Vec<&str> = seen.iter().map(|s| &*s.target).collect();
        assert_eq!(targets, [target], "{}", reply.text());
    }
    let listed = client::get(&hubs.url("/api/models/acme/tiny/tree/main/a%2Fb"));
    assert_eq!(listed.status, 200);
    assert!(listed.text().contains("\"a/b/c.txt\""), "{}", listed.text());
}

#[test]
fn what_passes_keeps_its_method_status_headers_and_body() {
    let hubs = Hubs::start();
    hubs.hugging_face.hf("acme/tiny").commit([File::direct("config.json", "{}")]);
    let path = "/api/models/acme/tiny/paths-info/main?unknown=1";
    let post = |body: &[u8]| Request::new("POST", &hubs.url(path)).body(body);
    for _ in 0..2 {
        let reply = post(b"paths=config.json&expand=false")
            .header("Content-Type", "application/x-www-form-urlencoded")
            .header("X-HF-Custom", "kept")
            .header("Connection", "close, X-Hop")
            .header("X-Hop", "dropped")
            .header("TE", "trailers")
            .token("passes")
            .send();
        // The hub knows no such token; what counts is that it was asked with it.
        assert_eq!(reply.status, 401, "{}", reply.text());
        assert_eq!(reply.header("cache-status"), Some("hubcache; fwd=bypass"));
        assert_eq!(reply.header("set-cookie"), None);
        assert!(reply.header("via").is_some_and(|v| v.contains("hubcache")));
    }
    let seen = hubs.hugging_face.requests();
    assert_eq!(seen.len(), 2, "nothing of it is cached");
    for s in &seen {
        assert_eq!((&*s.method, &*s.target), ("POST", path));
        assert_eq!(s.body, b"paths=config.json&expand=false");
        assert_eq!(s.header("content-type"), Some("application/x-www-form-urlencoded"));
        assert_eq!(s.header("x-hf-custom"), Some("kept"));
        assert_eq!(s.header("authorization"), Some("Bearer passes"));
        assert_eq!((s.header("x-hop"), s.header("te")), (None, None), "hop by hop");
        assert_eq!(Some(s.header("host").unwrap()), hubs.hugging_face.url().strip_prefix("http://"));
    }
    let said = post(b"paths=config.json").send();
    assert_eq!(said.status, 200);
    assert!(said.text().contains("config.json"), "{}", said.text());

    let odd = What::status_with(418, &[("X-Error-Code", "Teapot"), ("ETag", "W/\"x\"")], "short and stout");
    hubs.hugging_face.fault(Fault::on("/acme/tiny/resolve/main/config.json", odd).always());
    for method in ["PUT", "DELETE", "PATCH", "OPTIONS"] {
        let reply = Request::new(method, &hubs.url("/acme/tiny/resolve/main/config.json")).send();
        assert_eq!((reply.status, &*reply.body), (418, &b"short and stout"[..]), "{method}");
        assert_eq!(reply.header("x-error-code"), Some("Teapot"));
        assert_eq!(reply.header("etag"), Some("W/\"x\""));
    }
}

#[test]
fn a_redirect_within_the_hub_stays_within_the_proxy() {
    let hubs = Hubs::start();
    hubs.hugging_face.hf("acme/new").commit([File::direct("a.txt", "moved")]);
    hubs.hugging_face.rename("acme/old", "acme/new");
    let reply = client::get(&hubs.url("/api/models/acme/old?full=true"));
    let location = reply.header("location").expect("a redirect");
    assert_eq!(reply.status, 307);
    assert!(location.starts_with("/api/models/acme/new"), "{location}");
    // A file of a renamed repository is fetched behind the redirect, which nobody sees.
    let file = client::get(&hubs.url("/acme/old/resolve/main/a.txt"));
    assert_eq!((file.status, &*file.body, file.header("location")), (200, &b"moved"[..], None));
}

#[test]
fn a_passed_answer_streams_while_the_hub_still_sends() {
    let hubs = Hubs::start();
    let body = "x".repeat(100_000);
    let page = What::status_with(200, &[], &body);
    hubs.hugging_face.fault(Fault::on("/api/stream", page));
    let gate = hubs.hugging_face.gate("/api/stream", 50_000);
    let mut reply = Request::get(&hubs.url("/api/stream")).open().unwrap();
    assert_eq!(reply.read_to(50_000).len(), 50_000, "what the hub has sent is here before it goes on");
    gate.release();
    let reply = reply.finish();
    assert!(reply.is_whole() && reply.body == body.as_bytes());
}

#[test]
fn a_passed_request_streams_while_the_client_still_sends() {
    let hub = TcpListener::bind("127.0.0.1:0").unwrap();
    let root = format!("http://{}", hub.local_addr().unwrap());
    let daemon = Daemon::builder().root("huggingface", &root).start();
    let address = daemon.url().strip_prefix("http://").unwrap().to_owned();
    let mut client = TcpStream::connect(&address).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = format!("POST /api/upload HTTP/1.1\r\nHost: {address}\r\nContent-Length: 11\r\n\r\n");
    client.write_all(head.as_bytes()).unwrap();
    client.write_all(b"first ").unwrap();

    let (mut at_hub, _) = hub.accept().unwrap();
    at_hub.set_read_timeout(Some(PATIENCE)).unwrap();
    let seen = read_until(&mut at_hub, "\r\n\r\nfirst ");
    assert!(seen.starts_with("POST /api/upload HTTP/1.1\r\n"), "{seen}");
    assert!(seen.to_ascii_lowercase().contains("content-length: 11\r\n"), "{seen}");
    client.write_all(b"later").unwrap();
    read_until(&mut at_hub, "later");
    at_hub.write_all(b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nok").unwrap();
    let reply = read_until(&mut client, "\r\n\r\nok");
    assert!(reply.starts_with("HTTP/1.1 201 "), "{reply}");
}

/// Reads until the text ends as told.
fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut seen = Vec::new();
    let mut byte = [0];
    while !seen.ends_with(end.as_bytes()) {
        stream
            .read_exact(&mut byte)
            .unwrap_or_else(|e| panic!("{e} after {}", String::from_utf8_lossy(&seen)));
        seen.push(byte[0]);
    }
    String::from_utf8(seen).expect("the request is text")
}

#[test]
fn sixty_spellings_of_bad_paths_are_400_and_no_hub_hears_of_them() {
    let hubs = Hubs::start();
    let prefixes = [
        "/acme/tiny/resolve/main/",
        "/acme/tiny/v1.0/",
        "/datasets/acme/set/resolve/main/",
        "/hub/mozilla/acme/tiny/next/",
        "/api/models/acme/tiny/",
    ];
    let tails = [
        "..",
        ".",
        "../x",
        "./x",
        "a/../b",
        "a/./b",
        "a/..",
        "%2e%2e/x",
        "%2E%2E",
        ".%2e/x",
        "%2e./x",
        "%2e/x",
        "a//b",
        "/a",
        "a%2Fb",
        "a%2fb",
        "..%2Fx",
        "..%2f..%2fx",
        "%2Fetc%2Fpasswd",
        "a\\b",
        "..\\b",
        "a%5Cb",
        "%5c..%5c",
        "a%00b",
        "%00",
        "a%0d%0ab",
        "a%0A",
        "a%1fb",
        "a%7fb",
        "%zz",
        "%",
        "%4",
        "a%2",
        "%c3%28",
        "%ff",
        "%c0%ae%c0%ae/x",
        "%e0%80%af",
        "a/%2e%2e/%2e%2e/b",
    ];
    let mut count = 0;
    for path in prefixes.iter().flat_map(|p| tails.iter().map(move |t| format!("{p}{t}"))) {
        for method in ["GET", "HEAD"] {
            let reply = Request::new(method, &hubs.daemon.url()).target(&path).send();
            assert_eq!(reply.status, 400, "{method} {path}: {}", reply.text());
        }
        count += 1;
    }
    for path in [
        "//acme/tiny/v1.0/x",
        "/acme//tiny/v1.0/x",
        "/acme/tiny/resolve/main/",
        "/acme/tiny/resolve/main",
        "/acme/tiny/resolve//x",
        "/acme/tiny/resolve/a%2F%2Fb/x",
        "/acme/tiny/resolve/..%2Fmain/x",
        "/acme/tiny/resolve/../x",
        "/acme%2Ftiny/resolve/main/x",
        "/acme/tiny/v1.0/",
        "/hub",
        "/api/models/acme/tiny/tree/main/a%2F..%2Fb",
        "/api/models/acme/tiny/tree/main/a%2F%2Fb",
        "/api/models/acme/tiny/tree/%2e%2e/a",
        "/../acme/tiny/v1.0/x",
    ] {
        let reply = Request::get(&hubs.daemon.url()).target(path).send();
        assert_eq!(reply.status, 400, "{path}: {}", reply.text());
        count += 1;
    }
    let long = format!("/acme/tiny/v1.0/{}", "a".repeat(9_000));
    assert_eq!(client::get(&hubs.url(&long)).status, 400);
    assert!(count >= 60);
    assert_eq!(hubs.asked(), (0, 0));
}

#[test]
fn a_browsers_preflight_is_answered_here() {
    let hubs = Hubs::start();
    for path in ["/acme/tiny/resolve/main/a.bin", "/acme/tiny/v1.0/a.bin", "/hub/mozilla/a/b/c/d"] {
        let reply = Request::new("OPTIONS", &hubs.url(path))
            .header("Origin", "https://example.org")
            .header("Access-Control-Request-Method", "GET")
            .header("Access-Control-Request-Headers", "range, authorization, if-none-match")
            .send();
        assert_eq!((reply.status, reply.body.len()), (204, 0));
        assert_eq!(reply.header("access-control-allow-origin"), Some("*"));
        assert_eq!(reply.header("access-control-allow-methods"), Some("GET, HEAD"));
        let allowed = reply.header("access-control-allow-headers").unwrap().to_ascii_lowercase();
        for name in ["range", "authorization", "if-none-match", "if-range", "cache-control"] {
            assert!(allowed.split(", ").any(|a| a == name), "{name} in {allowed}");
        }
    }
    assert_eq!(hubs.asked(), (0, 0));
}
