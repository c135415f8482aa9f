//! A hub that is down, or says that it wants to be left alone: who waits for it, who asks it, and what is said.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::support;
use support::client::{self, Reply, Request};
use support::daemon::{Builder, Daemon};
use support::hub::{Fault, File, Listener, ScriptedHub, What};

const MIB: usize = 1 << 20;
/// Longer than any test.
const FOR_EVER: Duration = Duration::from_secs(3600);
const DOWN: &str = "hubcache; error=destination_unavailable;";

/// A hub with the files `0.json` to `9.json` at one commit, and a daemon of which the first is held.
struct Scene {
    hub: ScriptedHub,
    daemon: Daemon,
    commit: String,
}

impl Scene {
    fn new(settings: impl Fn(Builder) -> Builder) -> Self {
        let hub = ScriptedHub::start();
        let files = (0..10).map(|i| File::direct(&format!("{i}.json"), format!("file {i}")));
        let commit = hub.hf("acme/tiny").commit(files);
        let daemon = settings(Daemon::builder().hub(&hub).set("upstream.backoff", "5ms")).start();
        let scene = Self { hub, daemon, commit };
        scene.get(0).assert_is(200, b"file 0", "to be held");
        scene.hub.clear();
        scene
    }

    /// One that is not probed while the test runs.
    fn unprobed(settings: impl Fn(Builder) -> Builder) -> Self {
        Self::new(|b| settings(b.set("upstream.probe_interval", "10m")))
    }

    fn url(&self, file: usize) -> String {
        format!("{}/acme/tiny/resolve/{}/{file}.json", self.daemon.url(), self.commit)
    }

    fn get(&self, file: usize) -> Reply {
        client::get(&self.url(file))
    }

    /// The hub goes silent, and one request finds out.
    fn silence(&self) {
        self.hub.fault(Fault::on("", What::DelayHead(FOR_EVER)).always());
        let waited = self.get(1);
        assert_eq!((waited.status, of(&waited, "cache-status")), (504, "hubcache; detail=timed-out"));
        assert!(of(&waited, "proxy-status").starts_with("hubcache; error=http_response_timeout;"));
        self.hub.clear();
    }

    fn assert_held_is_served(&self) {
        let held = self.get(0);
        held.assert_is(200, b"file 0", "what is held");
        assert_eq!(of(&held, "cache-status"), "hubcache; hit");
    }

    /// Asserts that nobody asked the hub since the journal was cleared.
    fn assert_unasked(&self) {
        assert!(self.hub.requests().is_empty(), "{}", self.hub.journal());
    }
}

/// The root of a hub that should speak TLS, and answers everything in plain HTTP.
fn speaks_no_tls() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let root = format!("https://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut hello = [0; 512];
            // Whoever has gone away needs no answer.
            let _ =
                stream.read(&mut hello).and_then(|_| stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n"));
        }
    });
    root
}

fn of<'a>(reply: &'a Reply, name: &str) -> &'a str {
    reply.header(name).unwrap_or_default()
}

/// Asks until the answer is 200.
fn until_well(get: impl Fn() -> Reply) -> Reply {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let reply = get();
        if reply.status == 200 {
            return reply;
        }
        assert!(Instant::now() < deadline, "{}", reply.text());
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn one_request_waits_for_a_silent_hub_and_nobody_after_it() {
    let scene = Scene::unprobed(|b| b.set("upstream.head_timeout", "300ms"));
    scene.silence();
    let api = format!("{}/api/models/acme/tiny", scene.daemon.url());
    let branch = scene.url(3).replace(&scene.commit, "main");
    let replies = [scene.get(2), client::get(&branch), client::get(&api), client::head(&scene.url(4))];
    for reply in replies {
        assert_eq!(reply.status, 504, "{}", reply.text());
        assert!(of(&reply, "proxy-status").starts_with(DOWN), "{}", of(&reply, "proxy-status"));
        assert_eq!(of(&reply, "cache-status"), "hubcache; detail=unreachable");
    }
    // A caller with a credential has no other hub.
    assert_eq!(Request::get(&scene.url(2)).token("hf_any").send().status, 504);
    scene.assert_held_is_served();
    scene.assert_unasked();
    let down = |hub| scene.daemon.metric("hubcache_hub_down", &[("hub", hub)]);
    assert_eq!((down("huggingface"), down("mozilla")), (1.0, 0.0));
    let withheld = scene.daemon.metric("hubcache_upstream_withheld_total", &[("hub", "huggingface")]);
    assert!(withheld >= 5.0, "{withheld}");
}

#[test]
fn a_hub_that_answers_a_probe_is_asked_again_and_both_are_logged_once() {
    let scene =
        Scene::new(|b| b.set("upstream.head_timeout", "300ms").set("upstream.probe_interval", "30ms"));
    scene.silence();
    scene.hub.wait_for(Duration::from_secs(20), "two probes", |seen| {
        seen.iter().filter(|s| s.is("HEAD", "/")).count() >= 2
    });
    assert!(of(&scene.get(2), "proxy-status").starts_with(DOWN));
    scene.hub.behave();
    until_well(|| scene.get(2)).assert_is(200, b"file 2", "after the probe");
    scene.daemon.wait_for_log("the hub answers again");
    let log = scene.daemon.log();
    assert_eq!(log.matches("the hub is down; it is probed").count(), 1, "{log}");
    assert_eq!(log.matches("the hub answers again").count(), 1, "{log}");
    assert_eq!(scene.daemon.metric("hubcache_hub_down", &[]), 0.0);

    // The same after refused connections.
    scene.hub.stop();
    scene.daemon.wait_for_log("the hub answers again");
    for file in 3..6 {
        assert_eq!(scene.get(file).status, 504);
    }
    scene.hub.restart();
    until_well(|| scene.get(3)).assert_is(200, b"file 3", "after the restart");
}

#[test]
fn a_daemon_stops_at_once_while_it_probes() {
    let mut scene = Scene::unprobed(|b| b.set("upstream.head_timeout", "300ms"));
    scene.silence();
    assert!(scene.daemon.terminate().success());
}

#[test]
fn failures_in_a_row_take_a_hub_down_and_are_its_own_words_until_then() {
    let scene = Scene::unprobed(|b| b.set("upstream.circuit_failures", "5"));
    scene
        .hub
        .fault(Fault::on(".json", What::status_with(503, &[("X-Error-Code", "Maintenance")], "")).always());
    let own = scene.get(1);
    assert_eq!((own.status, of(&own, "x-error-code")), (503, "Maintenance"));
    assert_eq!(own.header("proxy-status"), None, "the answer is the hub's");
    for _ in 0..3 {
        let ours = scene.get(1);
        assert_eq!(ours.status, 504);
        assert!(of(&ours, "proxy-status").contains("the hub answered 503"), "{}", of(&ours, "proxy-status"));
    }
    assert_eq!(scene.hub.requests().len(), 5, "{}", scene.hub.journal());
    scene.assert_held_is_served();
}

#[test]
fn a_file_that_fails_among_others_that_do_not_takes_no_hub_down() {
    let scene = Scene::unprobed(|b| b.set("upstream.circuit_failures", "4"));
    let bad = scene.hub.fault(Fault::on("1.json", What::status(500)).always());
    for file in 2..6 {
        assert_eq!(scene.get(1).status, 500);
        assert_eq!(scene.get(file).status, 200);
    }
    assert!(bad.fired() > 4, "{}", scene.hub.journal());
    assert_eq!(scene.daemon.metric("hubcache_upstream_withheld_total", &[]), 0.0);
}

#[test]
fn failures_of_the_content_network_take_no_hub_down() {
    let scene = Scene::unprobed(|b| b.set("upstream.circuit_failures", "2"));
    let commit = scene.hub.hf("acme/large").commit([File::lfs("model.bin", "model")]);
    let cdn = scene.hub.fault(Fault::on("model.bin", What::status(503)).at(Listener::Cdn).always());
    let reply = client::get(&format!("{}/acme/large/resolve/{commit}/model.bin", scene.daemon.url()));
    assert_eq!(reply.status, 502, "{}", reply.text());
    assert!(of(&reply, "proxy-status").starts_with("hubcache; error=http_protocol_error;"));
    assert!(cdn.fired() >= 2);
    assert_eq!(scene.get(2).status, 200);
}

#[test]
fn a_caller_that_stops_in_the_middle_of_its_upload_takes_no_hub_down() {
    let scene = Scene::unprobed(|b| b.set("upstream.circuit_failures", "1"));
    let mut stream = TcpStream::connect(scene.daemon.url().strip_prefix("http://").unwrap()).unwrap();
    stream
        .write_all(b"POST /api/repos/create HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf")
        .unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    // Whether there is an answer does not matter, only that it is over.
    let _ = stream.read_to_end(&mut Vec::new());
    assert_eq!(scene.get(1).status, 200);
    assert_eq!(scene.daemon.metric("hubcache_hub_down", &[]), 0.0);
}

#[test]
fn a_429_is_obeyed_for_everybody_without_credentials_and_counts_down() {
    let scene = Scene::new(|b| b);
    scene.hub.accept_token("hf_reader");
    let refusal = What::status_with(429, &[("Retry-After", "60"), ("X-Error-Message", "slow down")], "no");
    scene.hub.fault(Fault::on("1.json", refusal));
    let own = scene.get(1);
    assert_eq!((own.status, of(&own, "retry-after")), (429, "60"));
    scene.hub.clear();

    let left = |reply: &Reply| {
        assert_eq!((reply.status, of(reply, "x-error-message")), (429, "slow down"), "{}", reply.text());
        assert_eq!(of(reply, "cache-status"), "hubcache; detail=refused");
        of(reply, "retry-after").parse::<u64>().unwrap()
    };
    assert!((1..=60).contains(&left(&scene.get(1))));
    left(&client::head(&scene.url(2)));
    let deadline = Instant::now() + Duration::from_secs(20);
    while left(&scene.get(3)) > 58 {
        assert!(Instant::now() < deadline, "it does not count down");
        thread::sleep(Duration::from_millis(50));
    }
    scene.assert_held_is_served();
    scene.assert_unasked();
    assert_eq!(scene.daemon.metric("hubcache_hub_down", &[]), 0.0, "a hub that says 429 is up");

    // The hub counts a caller with a token apart, and so are documents.
    let request = Request::get(&scene.url(3)).token("hf_reader");
    request.send().assert_is(200, b"file 3", "for a caller with a token");
    assert!(
        scene.hub.requests().iter().all(|s| s.header("authorization").is_some()),
        "{}",
        scene.hub.journal()
    );
    assert_eq!(client::get(&format!("{}/api/models/acme/tiny", scene.daemon.url())).status, 200);
}

#[test]
fn a_429_that_names_its_end_in_rate_limit_alone_holds_until_then() {
    let scene = Scene::new(|b| b);
    let limits = r#""resolvers";r=0;t=2, "api";r=7;t=3000"#;
    scene.hub.fault(Fault::on("/api/", What::status_with(429, &[("RateLimit", limits)], "")));
    scene.hub.fault(Fault::on("1.json", What::status_with(429, &[("RateLimit", limits)], "")));
    let api = format!("{}/api/models/acme/tiny", scene.daemon.url());
    assert_eq!((client::get(&api).status, scene.get(1).status), (429, 429));
    scene.hub.clear();
    for reply in [client::get(&api), scene.get(2)] {
        assert_eq!(reply.status, 429, "{}", reply.text());
        assert!(["1", "2"].contains(&of(&reply, "retry-after")), "{}", of(&reply, "retry-after"));
        assert!(of(&reply, "ratelimit").starts_with("\"resolvers\";r=0;t="));
    }
    scene.assert_unasked();
    until_well(|| scene.get(2)).assert_is(200, b"file 2", "after its end");
    assert_eq!(until_well(|| client::get(&api)).status, 200);
}

#[test]
fn a_429_to_a_callers_own_credential_holds_nobody_else() {
    let scene = Scene::new(|b| b);
    let repo = scene.hub.hf("acme/gated");
    let commit = repo.commit([File::direct("a.json", "for one")]);
    repo.gated(&["hf_reader"]);
    let url = format!("{}/acme/gated/resolve/{commit}/a.json", scene.daemon.url());
    // The first to ask is hubcache itself, without a credential.
    let refusal = What::status_with(429, &[("Retry-After", "600")], "");
    let limited = scene.hub.fault(Fault::on("a.json", refusal).after(1));
    assert_eq!(Request::get(&url).token("hf_reader").send().status, 429);
    assert_eq!(limited.fired(), 1, "{}", scene.hub.journal());
    scene.get(1).assert_is(200, b"file 1", "for anybody else");
    Request::get(&url).token("hf_reader").send().assert_is(200, b"for one", "once the hub lets it");
}

#[test]
fn proxy_status_says_what_stood_in_the_way() {
    let scene = Scene::unprobed(|b| b.set("upstream.circuit_failures", "1000"));
    let error = |reply: &Reply| {
        let text = of(reply, "proxy-status").to_owned();
        let (name, details) = text.split_once("; details=\"").unwrap();
        assert!(details.ends_with('"') && details.len() > 2, "{text}");
        name.strip_prefix("hubcache; error=").unwrap().to_owned()
    };
    let cases = [
        (What::hang_up(), 504, "connection_terminated"),
        (What::Raw("SSH-2.0-hub\r\n\r\n".into()), 502, "http_protocol_error"),
        (What::status_with(302, &[("Location", "ftp://elsewhere/")], ""), 502, "http_protocol_error"),
    ];
    for (what, status, name) in cases {
        scene.hub.fault(Fault::on("1.json", what).always());
        let reply = scene.get(1);
        assert_eq!((reply.status, error(&reply).as_str()), (status, name), "{}", reply.text());
        scene.hub.behave();
    }
    scene.hub.stop();
    let refused = scene.get(1);
    assert_eq!((refused.status, error(&refused).as_str()), (504, "connection_refused"));
    scene.hub.restart();

    let absent = scene.get(99);
    assert_eq!((absent.status, absent.header("proxy-status")), (404, None), "the hub's own answer");

    let daemon = Daemon::builder().hub(&scene.hub).root("huggingface", &speaks_no_tls()).start();
    let reply = client::get(&scene.url(1).replace(&scene.daemon.url(), &daemon.url()));
    assert_eq!((reply.status, error(&reply).as_str()), (504, "tls_protocol_error"), "{}", reply.text());
}

#[test]
fn a_question_about_a_file_is_asked_once_more_of_a_hub_that_stumbles() {
    let scene = Scene::unprobed(|b| b.set("upstream.circuit_failures", "1000"));
    let asked = |file: usize| scene.hub.count("HEAD", &format!("{file}.json"));
    for (file, what) in [(1, What::status(503)), (2, What::hang_up())] {
        scene.hub.fault(Fault::on(&format!("{file}.json"), what).head());
        assert_eq!(client::head(&scene.url(file)).status, 200);
        assert_eq!(asked(file), 2, "{}", scene.hub.journal());
    }
    let later = What::status_with(503, &[("Retry-After", "60")], "");
    for (file, what, times) in [(3, later, 1), (4, What::status(500), 2), (5, What::status(404), 1)] {
        let fault = scene.hub.fault(Fault::on(&format!("{file}.json"), what).always());
        assert!(client::head(&scene.url(file)).status >= 404);
        assert_eq!((asked(file), fault.fired()), (times, times), "{}", scene.hub.journal());
    }
}

#[test]
fn a_question_is_not_repeated_to_a_hub_that_it_found_down() {
    let scene = Scene::unprobed(|b| b.set("upstream.circuit_failures", "1"));
    scene.hub.fault(Fault::on("1.json", What::status(500)));
    assert_eq!(client::head(&scene.url(1)).status, 500, "the hub's own word");
    assert_eq!(scene.hub.requests().len(), 1, "{}", scene.hub.journal());
}

#[test]
fn a_running_download_waits_for_a_hub_that_falls_silent_in_the_middle() {
    let scene = Scene::new(|b| {
        b.set("upstream.head_timeout", "2s")
            .set("upstream.attempts", "3")
            .set("upstream.probe_interval", "200ms")
    });
    let mut bytes = vec![0; 5 * MIB];
    fastrand::Rng::with_seed(5).fill(&mut bytes);
    let commit = scene.hub.hf("acme/large").commit([File::lfs("model.bin", bytes.clone())]);
    scene.hub.fault(Fault::on("model.bin", What::CutAt(3 * MIB as u64)).at(Listener::Cdn));
    let gate = scene.hub.gate("model.bin", 2 * MIB as u64);
    let url = format!("{}/acme/large/resolve/{commit}/model.bin", scene.daemon.url());
    let mut body = Request::get(&url).open().unwrap();
    assert_eq!(body.read_to(MIB).len(), MIB);
    let silent = scene.hub.fault(Fault::on("", What::DelayHead(FOR_EVER)).at(Listener::Hub).always());
    gate.release();
    scene.daemon.wait_for_log("the hub is down; it is probed");
    silent.disarm();
    // Its two tries that are left would be over before the probe if they did not wait.
    body.finish().assert_is(200, &bytes, "through the silence");
}

/// A mirror stands in for a hub that is down, for whoever sends no credentials.
#[test]
fn mirrors_are_asked_while_the_hub_is_down_and_sent_no_credentials() {
    const TOKEN: &str = "hf_reader";
    let (hub, mirror) = (ScriptedHub::start(), ScriptedHub::start());
    let files = || (0..4).map(|i| File::direct(&format!("{i}.json"), format!("file {i}")));
    let commit = hub.hf("acme/tiny").commit(files());
    assert_eq!(mirror.hf("acme/tiny").commit(files()), commit);
    let daemon = Daemon::builder()
        .hub(&hub)
        .set("hub.huggingface.mirrors", &format!("http://127.0.0.1:1,{}", mirror.url()))
        .set("upstream.backoff", "5ms")
        .set("entitlement.remembered", "0s")
        .set("upstream.probe_interval", "100ms")
        .start();
    let url = |file| format!("{}/acme/tiny/resolve/{commit}/{file}.json", daemon.url());
    client::get(&url(0)).assert_is(200, b"file 0", "from the hub");
    assert_eq!(mirror.requests().len(), 0, "{}", mirror.journal());
    hub.stop();
    client::get(&url(1)).assert_is(200, b"file 1", "from the mirror");
    let tree = client::get(&format!("{}/api/models/acme/tiny/tree/{commit}", daemon.url()));
    assert_eq!(tree.status, 200, "{}", tree.text());
    // What is held already is served to anybody.
    Request::get(&url(1)).token(TOKEN).send().assert_is(200, b"file 1", "held");
    for seen in mirror.requests() {
        assert_eq!(seen.header("authorization"), None, "{}", mirror.journal());
    }
    assert!(!mirror.requests().is_empty());
    // Once the hub answers again, the mirror is left alone.
    hub.restart();
    support::eventually(|| (daemon.metric("hubcache_hub_down", &[]) == 0.0).then_some(()));
    mirror.clear();
    client::get(&url(2)).assert_is(200, b"file 2", "from the hub again");
    assert_eq!(mirror.requests().len(), 0, "{}", mirror.journal());
    // What only the caller may read is asked of the hub alone.
    for hub in [&hub, &mirror] {
        hub.hf("acme/gated").commit([File::direct("0.json", "secret")]);
        hub.hf("acme/gated").gated(&[TOKEN]);
    }
    let gated = format!("{}/acme/gated/resolve/main/0.json", daemon.url());
    Request::get(&gated).token(TOKEN).send().assert_is(200, b"secret", "from the hub");
    hub.stop();
    let refused = Request::get(&gated).token(TOKEN).send();
    assert!(refused.status >= 400, "{} {}", refused.status, refused.text());
    assert!(!mirror.requests().is_empty(), "it is asked without");
    for seen in mirror.requests() {
        assert_eq!(seen.header("authorization"), None, "{}", mirror.journal());
    }
}
