//! The program as a forward proxy: absolute form, tunnels, what they may lead to, and what reaches whom.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::support;
use support::client::{self, Request};
use support::daemon::{Builder, Daemon};
use support::hub::{Fault, File, ScriptedHub, What};
use support::tls;

const MOZILLA: &str = "model-hub.mozilla.org";
const HF: &str = "huggingface.co";

struct Scene {
    hub: ScriptedHub,
    daemon: Daemon,
}

impl Scene {
    fn start() -> Self {
        Self::with(|builder| builder.arg("--intercept"))
    }

    fn with(more: impl FnOnce(Builder) -> Builder) -> Self {
        let hub = ScriptedHub::start();
        hub.moz("acme/tiny", "v1.0", "config.json", "mozilla");
        hub.hf("acme/tiny")
            .commit([File::small("config.json", "hf"), File::lfs("model.bin", vec![7; 300_000])]);
        let daemon = more(Daemon::builder().hub(&hub).set("cache.ref_ttl", "1h")).start();
        Self { hub, daemon }
    }

    fn address(&self) -> &str {
        self.daemon.listen()
    }

    fn ca(&self) -> PathBuf {
        self.daemon.data().join("ca/ca.pem")
    }

    /// GET in absolute form.
    fn absolute(&self, url: &str) -> client::Reply {
        Request::get(&self.daemon.url()).target(url).send()
    }

    /// GET in a tunnel to a hub.
    fn tunnelled(&self, host: &str, path: &str) -> tls::Answer {
        tls::get(self.address(), host, path, "", &self.ca())
    }
}

/// A server that keeps what it was sent and answers each connection with `answer`, if it sends a head.
struct Listening {
    address: String,
    heard: mpsc::Receiver<Vec<u8>>,
}

impl Listening {
    fn start(answer: &'static [u8]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (tell, heard) = mpsc::channel();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let tell = tell.clone();
                thread::spawn(move || tell.send(serve(stream, answer)));
            }
        });
        Self { address, heard }
    }

    fn heard(&self) -> String {
        let heard = self.heard.recv_timeout(Duration::from_secs(20)).expect("something was sent there");
        String::from_utf8(heard).unwrap()
    }
}

fn serve(mut stream: TcpStream, answer: &[u8]) -> Vec<u8> {
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut heard = Vec::new();
    let mut buffer = [0; 4096];
    while !heard.windows(4).any(|w| w == b"\r\n\r\n") {
        match stream.read(&mut buffer) {
            Ok(count @ 1..) => heard.extend_from_slice(&buffer[..count]),
            _ => return heard,
        }
    }
    let _ = stream.write_all(answer);
    heard
}

/// A certificate for a host and for `cache.example`, by itself.
struct Certificate {
    cert: PathBuf,
    key: PathBuf,
    _dir: tempfile::TempDir,
}

impl Certificate {
    fn of(host: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed([host.to_owned(), "cache.example".to_owned()]).unwrap();
        let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
        std::fs::write(&cert, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
        Self { cert, key, _dir: dir }
    }

    /// Has a daemon speak TLS with it.
    fn listen(&self, builder: Builder) -> Builder {
        let builder = builder.arg("--listen-tls").arg("127.0.0.1:0").arg("--cert");
        builder.arg(self.cert.to_str().unwrap()).arg("--key").arg(self.key.to_str().unwrap())
    }
}

const HELLO: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: X-Hop, close\r\nX-Hop: 1\r\nX-End: 1\r\n\r\nhello";

#[test]
fn a_file_that_came_one_way_is_there_every_other_way() {
    let scene = Scene::start();
    let hit = Some("hubcache; hit");
    let path = "/acme/tiny/v1.0/config.json";
    let cold = scene.absolute(&format!("http://{MOZILLA}{path}?download=true"));
    cold.assert_is(200, b"mozilla", "absolute form");
    let warm = scene.tunnelled(MOZILLA, path);
    assert_eq!(
        (warm.status, warm.header("cache-status"), &*warm.body),
        (200, hit, &b"mozilla"[..]),
        "{}",
        warm.head
    );
    let warm = client::get(&format!("{}{path}", scene.daemon.url()));
    assert_eq!((warm.status, warm.header("cache-status")), (200, hit));

    let path = "/acme/tiny/resolve/main/model.bin";
    let cold = scene.tunnelled(HF, path);
    assert_eq!((cold.status, cold.body.len()), (200, 300_000), "{}", cold.head);
    for url in
        [format!("http://{HF}{path}"), format!("https://HF.co.:443{path}"), format!("http://{HF}:80{path}")]
    {
        let warm = scene.absolute(&url);
        assert_eq!((warm.status, warm.header("cache-status")), (200, hit), "{url}");
    }
    let warm = client::get(&format!("{}/hub/huggingface{path}", scene.daemon.url()));
    assert_eq!(warm.header("cache-status"), hit);
    // The same path at another hub is no file of it.
    let passed = Some("hubcache; fwd=bypass");
    assert_eq!(
        scene.absolute(&format!("http://{HF}/acme/tiny/v1.0/config.json")).header("cache-status"),
        passed
    );
    assert_eq!(scene.tunnelled(HF, "/acme/tiny/v1.0/config.json").header("cache-status"), passed);
}

#[test]
fn links_in_answers_lead_back_the_way_they_came() {
    let scene = Scene::start();
    scene.hub.page_size(1);
    let path = "/api/models/acme/tiny/tree/main";
    let link = scene.tunnelled(HF, path).header("link").unwrap().to_owned();
    assert!(link.starts_with(&format!("<https://{HF}/api/models/acme/tiny/tree/")), "{link}");
    let link = scene.absolute(&format!("http://{HF}{path}")).header("link").unwrap().to_owned();
    assert!(link.starts_with(&format!("<http://{HF}/api/models/acme/tiny/tree/")), "{link}");
}

#[test]
fn the_target_names_the_resource_and_host_does_not() {
    let scene = Scene::start();
    let url = format!("http://{MOZILLA}/acme/tiny/v1.0/config.json");
    let reply = Request::get(&scene.daemon.url()).target(&url).header("Host", "evil.example").send();
    reply.assert_is(200, b"mozilla", "another Host");
    let path = "/acme/tiny/v1.0/config.json";
    for (host, status) in [("huggingface.co", 421), ("127.0.0.1", 421), ("MODEL-HUB.mozilla.org:443", 200)] {
        let stream = tls::tunnel(scene.address(), &format!("{MOZILLA}:443"), "").unwrap();
        let mut stream = tls::over(stream, MOZILLA, &scene.ca()).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        assert_eq!(tls::exchange(&mut stream, &request).status, status, "{host}");
    }
}

#[test]
fn what_is_not_listed_is_refused_with_the_rule_and_the_remedy() {
    let canary = Listening::start(HELLO);
    let scene = Scene::start();
    let refused = scene.absolute(&format!("http://{}/x", canary.address));
    assert_eq!(refused.status, 403);
    let text = refused.text();
    assert!(text.contains("is an address of this machine") && text.contains(&canary.address), "{text}");
    assert!(text.contains("egress.allow"), "{text}");
    assert!(refused.header("proxy-status").unwrap().contains("error=destination_ip_prohibited"));
    let refused = tls::tunnel(scene.address(), "example.org:443", "").unwrap_err();
    assert_eq!(
        (refused.status, refused.text().contains("add \"example.org:443\"")),
        (403, true),
        "{}",
        refused.text()
    );
    // The upstream that the operator named is for the program's own fetches only.
    let hub = scene.hub.url().trim_start_matches("http://").to_owned();
    assert_eq!(scene.absolute(&format!("http://{hub}/acme/tiny/v1.0/config.json")).status, 403);
    let own = scene.absolute(&format!("http://{}/x", scene.address()));
    assert!(own.text().contains("this server itself"), "{}", own.text());
    assert!(canary.heard.try_recv().is_err());
}

#[test]
fn what_is_listed_is_handed_on_without_what_concerns_the_proxy() {
    let origin = Listening::start(HELLO);
    let scene = Scene::with(|b| b.arg("--egress-allow").arg(&origin.address));
    let reply = Request::get(&scene.daemon.url())
        .target(&format!("http://{}/a%2Fb?c=d%20e", origin.address))
        .header("Host", "evil.example")
        .header("Proxy-Authorization", "Basic c2VjcmV0")
        .header("Connection", "X-Once")
        .header("X-Once", "1")
        .header("Cookie", "a=b")
        .send();
    reply.assert_is(200, b"hello", "handed on");
    assert_eq!((reply.header("x-hop"), reply.header("x-end")), (None, Some("1")));
    assert!(reply.header("via").unwrap().contains("hubcache"), "{:?}", reply.header("via"));
    let heard = origin.heard().to_lowercase();
    assert!(heard.starts_with("get /a%2fb?c=d%20e http/1.1\r\n"), "{heard}");
    assert!(heard.contains(&format!("\r\nhost: {}\r\n", origin.address)), "{heard}");
    assert!(heard.contains("\r\ncookie: a=b\r\n") && heard.contains("\r\nvia: 1.1 hubcache-"), "{heard}");
    for gone in ["proxy-authorization", "x-once", "evil.example", "c2vjcmv0"] {
        assert!(!heard.contains(gone), "{gone} in {heard}");
    }
}

#[test]
fn a_tunnel_to_what_is_listed_is_relayed() {
    let origin = Listening::start(HELLO);
    let scene = Scene::with(|b| b.arg("--egress-allow").arg(&origin.address));
    let mut stream =
        tls::tunnel(scene.address(), &origin.address, "Proxy-Authorization: Basic c2VjcmV0\r\n").unwrap();
    let answer = tls::exchange(&mut stream, "GET /x HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!((answer.status, &*answer.body), (200, &b"hello"[..]));
    assert_eq!(origin.heard(), "GET /x HTTP/1.1\r\nHost: x\r\n\r\n", "exactly what was sent");
    let line = scene.daemon.wait_for_log("outcome=\"relayed\"");
    assert!(line.contains(&origin.address), "{line}");
}

#[test]
fn without_interception_tunnels_to_hubs_are_relayed_and_that_is_said() {
    // That nothing answers there is as good as an answer: the tunnel was not intercepted.
    let parent = Listening::start(b"HTTP/1.1 502 Bad Gateway\r\n\r\n");
    let scene =
        Scene::with(|b| b.set("upstream.proxy", &parent.address).set("upstream.no_proxy", "127.0.0.1"));
    assert_eq!(tls::tunnel(scene.address(), &format!("{HF}:443"), "").unwrap_err().status, 504);
    assert!(parent.heard().starts_with(&format!("CONNECT {HF}:443 HTTP/1.1\r\n")));
    let line = scene.daemon.wait_for_log("passes uncached");
    assert!(line.contains("--intercept"), "{line}");
}

#[test]
fn hubs_are_reached_through_a_parent_proxy_that_is_told_who_asks() {
    let parent = Listening::start(HELLO);
    let credentials = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(credentials.path(), "me:secret\n").unwrap();
    let builder =
        Daemon::builder().root("mozilla", "http://hub.example:8080").root("huggingface", "http://hf.example");
    let builder = builder.set("upstream.proxy", &parent.address);
    let daemon = builder.set("upstream.proxy_credentials", credentials.path().to_str().unwrap()).start();
    client::get(&format!("{}/acme/tiny/v1.0/config.json", daemon.url())).assert_is(
        200,
        b"hello",
        "by the parent",
    );
    let heard = parent.heard();
    assert!(
        heard.starts_with("GET http://hub.example:8080/acme/tiny/v1.0/config.json HTTP/1.1\r\n"),
        "{heard}"
    );
    assert!(heard.to_lowercase().contains("\r\nproxy-authorization: basic bwu6c2vjcmv0\r\n"), "{heard}");
}

/// A proxy that opens every tunnel to `to`, and tells the heads that it was sent.
fn tunnelling_parent(to: String) -> Listening {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (tell, heard) = mpsc::channel();
    thread::spawn(move || {
        for mut client in listener.incoming().map_while(Result::ok) {
            let (tell, to) = (tell.clone(), to.clone());
            thread::spawn(move || {
                let head = serve(client.try_clone().unwrap(), b"HTTP/1.1 200 OK\r\n\r\n");
                tell.send(head).unwrap();
                let mut server = TcpStream::connect(to).unwrap();
                let (mut from_client, mut to_server) =
                    (client.try_clone().unwrap(), server.try_clone().unwrap());
                thread::spawn(move || std::io::copy(&mut from_client, &mut to_server));
                let _ = std::io::copy(&mut server, &mut client);
            });
        }
    });
    Listening { address, heard }
}

#[test]
fn a_hub_over_tls_is_reached_in_a_tunnel_of_the_parent_proxy() {
    let certificate = Certificate::of("hub.example");
    let hub = Scene::with(|b| certificate.listen(b));
    let parent = tunnelling_parent(hub.daemon.listen_tls().to_owned());
    let credentials = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(credentials.path(), "me:secret\n").unwrap();
    let root = "https://hub.example:8443";
    let builder = Daemon::builder().root("mozilla", root).root("huggingface", root);
    let builder = builder.arg("--ca-bundle").arg(certificate.cert.to_str().unwrap());
    let builder = builder.env("HTTPS_PROXY", &format!("http://{}", parent.address));
    let daemon = builder.set("upstream.proxy_credentials", credentials.path().to_str().unwrap()).start();
    let reply = client::get(&format!("{}/acme/tiny/v1.0/config.json", daemon.url()));
    reply.assert_is(200, b"mozilla", "through the parent and from the hub behind it");
    let heard = parent.heard();
    assert!(heard.starts_with("CONNECT hub.example:8443 HTTP/1.1\r\n"), "{heard}");
    assert!(heard.contains("Proxy-Authorization: Basic bWU6c2VjcmV0\r\n"), "{heard}");
}

#[test]
fn through_a_parent_proxy_addresses_are_checked_all_the_same() {
    let parent = Listening::start(
        b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/latest\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    );
    let root = "http://hub.example:8080";
    let builder = Daemon::builder().root("mozilla", root).root("huggingface", root);
    let daemon = builder.set("upstream.proxy", &parent.address).start();
    let reply = client::get(&format!("{}/acme/tiny/v1.0/config.json", daemon.url()));
    assert_eq!(reply.status, 502, "{}", reply.text());
    let why = reply.header("proxy-status").unwrap();
    assert!(why.contains("error=destination_ip_prohibited"), "{why}");
    assert!(parent.heard().contains("hub.example:8080"));
    assert!(parent.heard.try_recv().is_err(), "the address was not asked of the parent");
}

#[test]
fn tunnels_to_the_xet_store_are_relayed_and_counted_while_clients_are_told_of_it() {
    let parent = Listening::start(b"HTTP/1.1 200 OK\r\n\r\n");
    let store = "cas-server.xethub.hf.co:443";
    let with = |above: &str| {
        Scene::with(|b| {
            let b = b.set("upstream.proxy", &parent.address).set("upstream.no_proxy", "127.0.0.1");
            b.arg("--intercept").set("cache.xet_above", above)
        })
    };
    let scene = with("50GB");
    drop(tls::tunnel(scene.address(), store, "").unwrap());
    assert!(parent.heard().starts_with(&format!("CONNECT {store} HTTP/1.1")));
    assert_eq!(scene.daemon.metric("hubcache_xet_tunnels_total", &[]), 1.0);
    // Only its hosts, and none of the content network.
    for other in
        ["xethub.hf.co:443", "evilxethub.hf.co:443", "cdn-lfs.hf.co:443", "cas-server.xethub.hf.co:80"]
    {
        assert_eq!(tls::tunnel(scene.address(), other, "").unwrap_err().status, 403, "{other}");
    }
    assert_eq!(tls::tunnel(with("none").address(), store, "").unwrap_err().status, 403);
}

#[test]
fn another_authority_can_issue_the_certificates() {
    let scene = Scene::start();
    let theirs = scene.daemon.data().join("ca");
    let (cert, key) = (theirs.join("ca.pem"), theirs.join("ca.key"));
    let with = |builder: Builder| {
        let builder = builder.arg("--intercept").set("intercept.ca_cert", cert.to_str().unwrap());
        builder.set("intercept.ca_key", key.to_str().unwrap())
    };
    let other = Scene::with(with);
    let answer = tls::get(other.address(), MOZILLA, "/acme/tiny/v1.0/config.json", "", &cert);
    assert_eq!(answer.text(), "mozilla");
    assert!(!other.daemon.data().join("ca").exists(), "it makes none of its own");
    // A key that others can read is none.
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let (status, log) = with(Daemon::builder().hub(&scene.hub)).try_start().err().expect("it does not start");
    assert_eq!(status.unwrap().code(), Some(78), "{log}");
    assert!(log.contains("chmod 600"), "{log}");
}

#[test]
fn the_commands_of_the_authority_agree() {
    let scene = Scene::with(|b| b);
    let run = |arguments: &[&str]| {
        let output = scene.daemon.command(arguments);
        (output.status.code(), output.stdout, String::from_utf8(output.stderr).unwrap())
    };
    let (code, _, told) = run(&["ca", "export"]);
    assert!(code == Some(66) && told.contains("hubcache ca init"), "{told}");
    assert_eq!(run(&["ca", "init", "--permit", "hub.example.org"]).0, Some(0));
    let (code, _, told) = run(&["ca", "init"]);
    assert!(code == Some(73) && told.contains("already"), "{told}");
    let pem = run(&["ca", "export"]).1;
    assert_eq!(pem, std::fs::read(scene.ca()).unwrap());
    let path = String::from_utf8(run(&["ca", "path"]).1).unwrap();
    assert_eq!(path.trim_end(), scene.ca().to_str().unwrap());
    let der = run(&["ca", "export", "--der"]).1;
    let shown: serde_json::Value = serde_json::from_slice(&run(&["ca", "show", "--json"]).1).unwrap();
    assert_eq!(shown["sha256"], support::hub::digests::sha256(&der));
    let permitted = shown["permitted"].as_array().unwrap();
    assert!(
        [MOZILLA, HF, "hub.example.org"].iter().all(|host| permitted.contains(&(*host).into())),
        "{shown}"
    );
}

#[test]
fn a_parent_proxy_that_is_this_server_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let hub = ScriptedHub::start();
    let builder = Daemon::builder().hub(&hub).set("upstream.proxy", &address).arg("--listen").arg(&address);
    let (status, log) = builder.try_start().err().expect("it does not start");
    assert_eq!(status.unwrap().code(), Some(78), "{log}");
    assert!(log.contains("this server itself"), "{log}");
}

#[test]
fn a_request_that_was_here_before_is_508() {
    let origin = Listening::start(HELLO);
    let scene = Scene::with(|b| b.arg("--egress-allow").arg(&origin.address));
    let url = format!("http://{}/x", origin.address);
    let via = scene.absolute(&url).header("via").unwrap().to_owned();
    let looped = Request::get(&scene.daemon.url()).target(&url).header("Via", &via).send();
    assert_eq!(looped.status, 508, "{}", looped.text());
    // Another hubcache on the way is none of this one's concern.
    let other = Request::get(&scene.daemon.url()).target(&url).header("Via", "1.1 hubcache-00000000").send();
    assert_eq!(other.status, 200);
}

#[test]
fn redirects_of_a_hub_lead_to_addresses_of_its_own_kind_and_to_public_ones() {
    let scene = Scene::start();
    let files = [File::lfs("model.bin", vec![1; 1000]), File::lfs("other.bin", vec![2; 1000])];
    let commit = scene.hub.hf("acme/away").commit(files);
    let url = |file: &str| format!("{}/acme/away/resolve/{commit}/{file}", scene.daemon.url());
    // The hub is on loopback because the operator said so, and its content network is too.
    assert_eq!(client::get(&url("model.bin")).status, 200);
    for target in ["http://169.254.169.254/latest/", "http://10.0.0.1/x", "http://[fe80::1]/x"] {
        let fault = What::status_with(302, &[("Location", target)], "");
        let fault = scene.hub.fault(Fault::on("other.bin", fault).always());
        let reply = client::get(&url("other.bin"));
        assert_eq!(reply.status, 502, "{target}: {}", reply.text());
        let why = reply.header("proxy-status").unwrap();
        assert!(why.contains("error=destination_ip_prohibited"), "{target}: {why}");
        fault.disarm();
    }
    assert_eq!(client::get(&url("other.bin")).status, 200, "the hub itself is asked on");
}

#[test]
fn hits_and_misses_are_the_same_to_a_client_of_http_2() {
    let scene = Scene::start();
    let stream = tls::tunnel(scene.address(), &format!("{HF}:443"), "").unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut sender = tls::http2(stream, HF, &scene.ca()).await;
        for expected in ["hubcache; fwd=uri-miss; stored", "hubcache; hit"] {
            let request = http::Request::get(format!("https://{HF}/acme/tiny/resolve/main/model.bin"));
            let answer = sender.send_request(request.body(tls::empty()).unwrap()).await.unwrap();
            assert_eq!((answer.status().as_u16(), answer.headers()["cache-status"] == expected), (200, true));
            let body = http_body_util::BodyExt::collect(answer.into_body()).await.unwrap().to_bytes();
            assert!(*body == [7; 300_000]);
        }
        let path = format!("https://{HF}/acme/tiny/resolve/main/model.bin");
        let head = http::Request::head(&path).body(tls::empty()).unwrap();
        let head = sender.send_request(head).await.unwrap();
        assert!(head.status() == 200 && head.headers()["content-length"] == "300000", "{head:?}");
        assert_eq!(head.headers()["cache-control"], "no-cache");
        for method in ["GET", "HEAD"] {
            let request = http::Request::builder().method(method).uri(&path);
            let request = request.header("if-none-match", &head.headers()["etag"]).body(tls::empty());
            assert_eq!(sender.send_request(request.unwrap()).await.unwrap().status(), 304, "{method}");
        }
        let other = http::Request::get("https://example.org/").body(tls::empty()).unwrap();
        assert_eq!(sender.send_request(other).await.unwrap().status(), 421);
    });
}

#[test]
fn a_session_is_resumed() {
    use rustls::HandshakeKind;
    let scene = Scene::start();
    let config = std::sync::Arc::new(tls::config(&scene.ca()));
    let path = "/acme/tiny/v1.0/config.json";
    let kinds = [(); 2].map(|()| {
        let stream = tls::tunnel(scene.address(), &format!("{MOZILLA}:443"), "").unwrap();
        let mut stream = tls::over_with(stream, MOZILLA, config.clone()).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: {MOZILLA}\r\nConnection: close\r\n\r\n");
        assert_eq!(tls::exchange(&mut stream, &request).status, 200);
        stream.conn.handshake_kind().unwrap()
    });
    assert_eq!(kinds, [HandshakeKind::Full, HandshakeKind::Resumed]);
}

#[test]
fn tls_is_spoken_on_a_listener_of_its_own() {
    let certificate = Certificate::of(MOZILLA);
    let scene = Scene::with(|b| certificate.listen(b));
    let address = scene.daemon.listen_tls();
    let get = |host: &str, path: &str| {
        let mut stream = tls::over(TcpStream::connect(address).unwrap(), host, &certificate.cert).unwrap();
        tls::exchange(
            &mut stream,
            &format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"),
        )
    };
    let status = scene.daemon.command(&["status", "--json"]);
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!((&status["listen_tls"], &status["intercept"]), (&address.into(), &false.into()));
    // By the hub's own name it is that hub, whatever the revision is called; by another it is this server.
    scene.hub.moz("acme/tiny", "next", "config.json", "next");
    assert_eq!(get(MOZILLA, "/acme/tiny/next/config.json").text(), "next");
    assert_eq!(get("cache.example", "/acme/tiny/v1.0/config.json").text(), "mozilla");
    assert_eq!(get("cache.example", "/acme/tiny/resolve/main/config.json").text(), "hf");
}

#[test]
fn a_client_has_so_many_connections_and_no_more() {
    let scene = Scene::with(|b| b.set("listen.max_connections_per_client", "3"));
    let held: Vec<_> = (0..3).map(|_| TcpStream::connect(scene.address()).unwrap()).collect();
    let refused = tls::raw(scene.address(), b"GET /proxy.pac HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(refused.status, 429, "{}", refused.head);
    drop(held);
    let again = || {
        tls::raw(scene.address(), b"GET /proxy.pac HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").status
    };
    let until = std::time::Instant::now() + Duration::from_secs(20);
    while again() != 200 {
        assert!(std::time::Instant::now() < until, "places are free again when connections end");
    }
}

#[test]
fn browsers_are_told_which_hosts_to_reach_through_it() {
    let scene = Scene::start();
    let pac = Request::get(&format!("{}/proxy.pac", scene.daemon.url()))
        .header("Host", "cache.example:8470")
        .send();
    assert_eq!(pac.header("content-type"), Some("application/x-ns-proxy-autoconfig"));
    let text = pac.text();
    for host in [MOZILLA, HF, "hf.co", "firefox.settings.services.mozilla.com"] {
        assert!(text.contains(&format!("\"{host}\": true")), "{text}");
    }
    assert!(text.contains("PROXY cache.example:8470"), "{text}");
    let evil =
        Request::get(&format!("{}/proxy.pac", scene.daemon.url())).header("Host", "a\";alert(1)//").send();
    assert_eq!(evil.status, 400, "{}", evil.text());
}

#[test]
fn other_machines_are_not_let_in_unless_that_was_said() {
    let hub = ScriptedHub::start();
    let builder = Daemon::builder().hub(&hub).arg("--listen").arg("0.0.0.0:0");
    let (status, log) = builder.clone().try_start().err().expect("it does not start");
    assert_eq!(status.unwrap().code(), Some(78), "{log}");
    assert!(log.contains("--access anonymous"), "{log}");
    builder.arg("--access").arg("anonymous").start();
}

/// Idle tunnels, relayed and intercepted, do not make a stop wait for the time that responses have to end.
#[test]
fn idle_tunnels_do_not_hold_up_a_stop() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = silent.local_addr().unwrap().to_string();
    let mut scene =
        Scene::with(|b| b.arg("--intercept").arg("--egress-allow").arg(&place).set("listen.drain", "5m"));
    let relayed = tls::tunnel(scene.address(), &place, "").unwrap();
    let plain = tls::tunnel(scene.address(), &format!("{HF}:443"), "").unwrap();
    let stream = tls::tunnel(scene.address(), &format!("{MOZILLA}:443"), "").unwrap();
    let mut intercepted = tls::over(stream, MOZILLA, &scene.ca()).unwrap();
    let request = format!("GET /acme/tiny/v1.0/config.json HTTP/1.1\r\nHost: {MOZILLA}\r\n\r\n");
    intercepted.write_all(request.as_bytes()).unwrap();
    let mut first = [0; 1];
    intercepted.read_exact(&mut first).unwrap();
    // It waits no longer than 40 s.
    assert!(scene.daemon.terminate().success());
    drop((relayed, plain, intercepted));
}

#[test]
fn offline_what_is_held_comes_through_a_tunnel_and_nothing_else_leaves() {
    let mut scene = Scene::start();
    let path = "/acme/tiny/v1.0/config.json";
    assert_eq!(scene.tunnelled(MOZILLA, path).status, 200);
    scene.daemon.restart_with(&[("upstream.offline", "true")]);
    scene.hub.clear();
    assert_eq!(scene.tunnelled(MOZILLA, path).text(), "mozilla");
    assert_eq!(scene.tunnelled(MOZILLA, "/acme/tiny/v1.0/other").status, 403);
    let relayed = tls::tunnel(scene.address(), "firefox.settings.services.mozilla.com:443", "").unwrap_err();
    assert!(relayed.text().contains("offline"), "{}", relayed.text());
    assert_eq!(scene.hub.requests().len(), 0, "{}", scene.hub.journal());
}

/// A token, a signature and a proxy's credentials pass through at trace level, and are found nowhere afterwards.
#[test]
fn no_secret_is_found_in_a_log_a_metric_a_text_or_a_file() {
    const TOKEN: &str = "hf_canarytoken";
    const SIGNATURE: &str = "canarysignature";
    const OWN: &str = "Y2FuYXJ5OnByb3h5";
    const PARENT: &str = "canaryparent";
    let parent = Listening::start(b"HTTP/1.1 407 Proxy Authentication Required\r\nConnection: close\r\n\r\n");
    let credentials = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(credentials.path(), format!("me:{PARENT}\n")).unwrap();
    let mut scene = Scene::with(|b| {
        let b = b.arg("--intercept").set("log.level", "trace").set("upstream.no_proxy", "127.0.0.1");
        let b = b.arg("--egress-allow").arg("closed.example");
        let b = b.set("upstream.proxy", &parent.address);
        b.set("upstream.proxy_credentials", credentials.path().to_str().unwrap())
    });
    scene.hub.accept_token(TOKEN);
    scene.hub.hf("acme/gated").commit([File::lfs("model.bin", vec![1; 100_000])]);
    scene.hub.hf("acme/gated").gated(&[TOKEN]);
    let secrets = format!(
        "Authorization: Bearer {TOKEN}\r\nProxy-Authorization: Basic {OWN}\r\nCookie: session={SIGNATURE}\r\n"
    );
    let mut texts = Vec::new();
    for path in ["/acme/gated/resolve/main/model.bin", "/api/whoami-v2", "/acme/none/resolve/main/x", "/a//b"]
    {
        let path = format!("{path}?X-Amz-Signature={SIGNATURE}");
        texts.push(tls::get(scene.address(), HF, &path, &secrets, &scene.ca()).text());
    }
    texts.push(tls::tunnel(scene.address(), "closed.example:443", &secrets).unwrap_err().text());
    let forwarded = Request::get(&scene.daemon.url())
        .target(&format!("http://closed.example/?s={SIGNATURE}"))
        .header("Proxy-Authorization", &format!("Basic {OWN}"))
        .send();
    texts.push(forwarded.text());
    texts.push(scene.daemon.metrics());
    assert!(scene.daemon.terminate().success());
    texts.push(scene.daemon.log());
    assert!(texts[texts.len() - 1].contains("TRACE"), "the log tells everything");
    let encoded = "bWU6Y2FuYXJ5cGFyZW50";
    for secret in [TOKEN, SIGNATURE, OWN, PARENT, encoded] {
        for text in &texts {
            let line = text.lines().find(|line| line.contains(secret));
            assert_eq!(line, None, "{secret} is told");
        }
        assert_nowhere(secret, scene.daemon.data());
    }
}

/// Checks that no file below `dir` has `text` in it.
fn assert_nowhere(text: &str, dir: &std::path::Path) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            assert_nowhere(text, &path);
        } else if let Ok(bytes) = std::fs::read(&path) {
            let found = bytes.windows(text.len()).any(|window| window == text.as_bytes());
            assert!(!found, "{text} is in {}", path.display());
        }
    }
}
