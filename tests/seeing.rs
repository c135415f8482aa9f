//! What the program tells of what it does: `status` of a running server, `explain` of a request.

use crate::support;
use serde_json::{Value, json};
use support::client::{self, Request};
use support::daemon::{Builder, Daemon};
use support::hub::{File, ScriptedHub, digests};

const MIB: usize = 1 << 20;
const CONFIG: &str = "/acme/tiny/resolve/main/config.json";

struct Scene {
    hub: ScriptedHub,
    daemon: Daemon,
    commit: String,
}

impl Scene {
    /// A hub with a small and a large file, and a server that takes branches for granted.
    fn start() -> Self {
        Self::start_with(|builder| builder.set("cache.ref_ttl", "1h"))
    }

    fn start_with(set: impl Fn(Builder) -> Builder) -> Self {
        let hub = ScriptedHub::start();
        let files = [File::small("config.json", "{}"), File::lfs("model.bin", vec![7; 3 * MIB])];
        let commit = hub.hf("acme/tiny").commit(files);
        hub.moz("acme/moz", "v1.0", "vocab.txt", "one two");
        let daemon = set(Daemon::builder().hub(&hub)).start();
        Self { hub, daemon, commit }
    }

    fn get(&self, path: &str) -> u16 {
        client::get(&format!("{}{path}", self.daemon.url())).status
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let output = self.daemon.command(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn text(&self, arguments: &[&str]) -> String {
        let output = self.daemon.command(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn status(&self) -> Value {
        self.json(&["status", "--json"])
    }

    /// What is explained, which must take no request to the hub.
    fn explain(&self, arguments: &[&str]) -> Value {
        self.hub.clear();
        let settings = self.settings();
        let told = self.json(&[&["explain", "--json", "--config", &settings], arguments].concat());
        assert!(self.hub.requests().is_empty(), "{}", self.hub.journal());
        told
    }

    /// A file with the settings of the server, for when there is none to ask.
    fn settings(&self) -> String {
        let file = self.daemon.data().with_file_name("explain.toml");
        let url = self.hub.url();
        let hubs = format!("[hub.mozilla]\nurl = {url:?}\n[hub.huggingface]\nurl = {url:?}\n");
        std::fs::write(&file, format!("[cache]\nref_ttl = \"1h\"\n{hubs}")).unwrap();
        file.to_str().unwrap().to_owned()
    }

    /// Runs a test with the server and, after it was stopped, without.
    fn both(mut self, test: impl Fn(&Self, &str)) {
        test(&self, "running");
        assert!(self.daemon.terminate().success());
        test(&self, "stopped");
    }
}

/// Action, status and `Cache-Status` of a step.
fn step(told: &Value, at: usize) -> Value {
    let step = &told["steps"][at];
    json!([step["action"], step["status"], step["cache_status"]])
}

#[test]
fn status_counts_what_clients_asked_and_what_it_cost() {
    let scene = Scene::start();
    let fresh = scene.status();
    assert_eq!((&fresh["total"]["requests"], &fresh["total"]["hit_ratio"]), (&0.into(), &Value::Null));
    for (path, status) in [
        (CONFIG, 200),
        (CONFIG, 200),
        (CONFIG, 200),
        ("/acme/moz/v1.0/vocab.txt", 200),
        ("/api/models/acme/tiny", 200),
        ("/../bad", 400),
        ("/acme/tiny/resolve/main/absent", 404),
    ] {
        assert_eq!(scene.get(path), status, "{path}");
    }
    scene.get("/api/models/acme/tiny/xet-read-token/main");
    let told = scene.status();
    assert_eq!(told["pid"], scene.daemon.pid());
    assert_eq!(format!("http://{}", told["listen"].as_str().unwrap()), scene.daemon.url());
    assert_eq!(format!("http://{}", told["admin"].as_str().unwrap()), scene.daemon.admin_url());
    assert_eq!((&told["version"], &told["offline"]), (&env!("CARGO_PKG_VERSION").into(), &false.into()));
    assert!(told["uptime_seconds"].is_u64(), "{told:#}");
    let (mozilla, huggingface) = (&told["hubs"][0], &told["hubs"][1]);
    assert_eq!((&mozilla["hub"], &mozilla["state"]), (&"mozilla".into(), &"up".into()));
    assert_eq!(huggingface["root"], scene.hub.url());
    let of = |hub: &Value| {
        ["requests", "asked", "answered_here", "passed"].map(|name| hub[name].as_u64().unwrap())
    };
    assert_eq!(of(mozilla), [1, 1, 0, 0], "{told:#}");
    // Two hits of five; the token was handed on.
    assert_eq!(of(huggingface), [6, 5, 2, 1], "{told:#}");
    assert_eq!(of(&told["total"]), [8, 6, 2, 1], "the bad path named no hub: {told:#}");
    assert_eq!(huggingface["hit_ratio"], 0.4);
    assert_eq!(told["xet_tokens"], 1);
    assert_eq!((&mozilla["served_bytes"], &mozilla["fetched_bytes"]), (&7.into(), &7.into()));
    assert_eq!(told["data"]["entries"], 2);
    assert!(
        told["data"]["free_bytes"].as_u64().unwrap() > 0 && told["data"]["disk_bytes"].as_u64().unwrap() > 0
    );
    assert_eq!(told["fills"], json!([]));

    let text = scene.text(&["status"]);
    for part in ["online, up ", "1 token asked for", "40.0 %", "2 files of 2 contents", "no downloads run"] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
}

#[test]
fn status_says_how_much_less_was_fetched_than_sent() {
    let scene = Scene::start();
    for _ in 0..4 {
        assert_eq!(scene.get("/acme/tiny/resolve/main/model.bin"), 200);
    }
    let total = &scene.status()["total"];
    let bytes = |name: &str| total[name].as_u64().unwrap();
    assert_eq!(bytes("served_bytes"), 12 * MIB as u64);
    assert_eq!(bytes("fetched_bytes"), 3 * MIB as u64);
    assert_eq!((bytes("saved_bytes"), &total["saved_ratio"]), (9 * MIB as u64, &0.75.into()));
    // What is handed on and what the API says are fetched, too.
    let body = client::get(&format!("{}/api/models/acme/tiny", scene.daemon.url())).body.len() as u64;
    let page = client::get(&format!("{}/api/unknown", scene.daemon.url())).body.len() as u64;
    let after = &scene.status()["total"];
    assert!(body > 0 && page > 0);
    assert_eq!(after["saved_bytes"], total["saved_bytes"], "{after:#}");
}

#[test]
fn status_shows_a_download_that_runs() {
    let scene = Scene::start();
    let gate = scene.hub.gate("model.bin", 2 * MIB as u64);
    let url = format!("{}/acme/tiny/resolve/{}/model.bin", scene.daemon.url(), scene.commit);
    let mut readers: Vec<_> = (0..2).map(|_| Request::get(&url).open().unwrap()).collect();
    for reader in &mut readers {
        reader.read_to(MIB);
    }
    gate.reached();
    let told = scene.status();
    let fill = &told["fills"][0];
    assert_eq!(fill["file"], format!("huggingface:acme/tiny@{}/model.bin", scene.commit));
    assert_eq!((&fill["size_bytes"], &fill["followers"]), (&(3 * MIB).into(), &2.into()), "{told:#}");
    let arrived = fill["arrived_bytes"].as_u64().unwrap();
    assert!(arrived >= MIB as u64 && arrived <= 2 * MIB as u64, "{arrived}");
    let text = scene.text(&["status"]);
    assert!(text.contains("1 running download:") && text.contains(", 2 followers, for "), "{text}");

    let running = scene.explain(&[&url]);
    assert_eq!(step(&running, 0), json!(["follow", null, "hubcache; fwd=uri-miss; stored; collapsed"]));
    assert_eq!(running["steps"].as_array().unwrap().len(), 1, "{running:#}");
    assert_eq!((&running["unfinished"]["running"], &running["held"]), (&true.into(), &Value::Null));
    gate.release();
    for reader in readers {
        assert_eq!(reader.finish().body.len(), 3 * MIB);
    }
    assert_eq!(scene.status()["fills"], json!([]));
}

#[test]
fn status_needs_a_server_and_tells_whether_it_is_offline() {
    let mut scene = Scene::start_with(|builder| builder.arg("--offline"));
    let told = scene.status();
    assert_eq!((&told["offline"], &told["hubs"][1]["state"]), (&true.into(), &"offline".into()));
    assert!(scene.text(&["status"]).contains("offline, up "));
    assert!(scene.daemon.terminate().success());
    let nobody = scene.daemon.command(&["status"]);
    assert_eq!(nobody.status.code(), Some(69));
    let said = String::from_utf8(nobody.stderr).unwrap();
    assert!(said.contains("no server runs") && said.contains("hubcache serve"), "{said}");
}

#[test]
fn explain_tells_of_a_held_file_what_it_is_and_why_it_is_served() {
    let scene = Scene::start();
    assert_eq!(scene.get("/acme/tiny/resolve/main/model.bin"), 200);
    scene.both(|scene, state| {
        let url = "http://127.0.0.1:8470/acme/tiny/resolve/main/model.bin?download=true";
        let told = scene.explain(&[url]);
        assert_eq!(step(&told, 0), json!(["serve", null, "hubcache; hit"]), "{state}: {told:#}");
        assert_eq!(told["steps"].as_array().unwrap().len(), 1);
        assert_eq!((&told["target"], &told["hub"]), (&"file".into(), &"huggingface".into()));
        assert_eq!((&told["root"], &told["repo"]), (&scene.hub.url().into(), &"acme/tiny".into()));
        let revision = &told["revision"];
        assert_eq!((&revision["name"], &revision["commit"]), (&"main".into(), &scene.commit.as_str().into()));
        assert_eq!((&revision["immutable"], &revision["trusted"]), (&false.into(), &true.into()));
        assert!(revision["checked_at"].as_str().unwrap().ends_with('Z'));
        let sha256 = digests::sha256(&vec![7; 3 * MIB]);
        assert_eq!(
            (&told["held"]["sha256"], &told["held"]["size_bytes"]),
            (&(*sha256).into(), &(3 * MIB).into())
        );
        assert_eq!(told["held"]["standing"], "verified");
        let promise = &told["held"]["promises"][0];
        assert_eq!((&promise["value"], &promise["compared"]), (&(*sha256).into(), &true.into()));

        let at_hub =
            scene.explain(&[&format!("{}/acme/tiny/resolve/{}/model.bin", scene.hub.url(), scene.commit)]);
        assert_eq!(step(&at_hub, 0), json!(["serve", null, "hubcache; hit"]));
        assert_eq!(at_hub["revision"]["immutable"], true);
        let text = scene.text(&["explain", "--config", &scene.settings(), url]);
        for part in
            ["stands for ", "sha256:", ", compared", "now         serve what is held, because it is held"]
        {
            assert!(text.contains(part), "{part} in\n{text}");
        }
    });
}

#[test]
fn explain_tells_what_would_be_asked_for_a_cold_file() {
    let mut scene = Scene::start();
    let branch = scene.explain(&[CONFIG]);
    assert_eq!(step(&branch, 0), json!(["ask", null, null]), "{branch:#}");
    assert_eq!(step(&branch, 1), json!(["download", null, "hubcache; fwd=uri-miss; stored"]));
    assert_eq!(branch["steps"][2]["action"], "refuse", "if the hub does not answer");
    assert_eq!((&branch["revision"]["commit"], &branch["held"]), (&Value::Null, &Value::Null));
    let pinned = format!("/acme/tiny/resolve/{}/config.json", scene.commit);
    assert_eq!(
        step(&scene.explain(&[&pinned]), 0),
        json!(["download", null, "hubcache; fwd=uri-miss; stored"])
    );
    let head = scene.explain(&["--method", "HEAD", &pinned]);
    assert_eq!(step(&head, 0), json!(["ask", null, "hubcache; fwd=uri-miss"]));
    let reply = client::head(&format!("{}{pinned}", scene.daemon.url()));
    assert_eq!(reply.header("cache-status"), Some("hubcache; fwd=uri-miss"), "as explained");
    let known = scene.explain(&["--method", "HEAD", &pinned]);
    assert_eq!(step(&known, 0), json!(["tell", 200, "hubcache; hit"]));
    assert_eq!(known["known"]["size_bytes"], 2);
    let caller = scene.explain(&["-H", "Authorization: Bearer hf_secret", &pinned]);
    assert_eq!(caller["steps"][1]["action"], "private");
    assert!(scene.daemon.terminate().success());
    assert!(!scene.daemon.log().contains("hf_secret"));
}

#[test]
fn explain_says_that_a_branch_is_stale_and_what_follows() {
    let scene = Scene::start_with(|builder| builder.set("cache.ref_ttl", "0s"));
    assert_eq!(scene.get(CONFIG), 200);
    let told = scene.explain(&[CONFIG]);
    assert_eq!(told["revision"]["trusted"], false);
    assert_eq!(step(&told, 0), json!(["ask", null, null]), "{told:#}");
    let why = told["steps"][0]["why"].as_str().unwrap();
    assert!(why.contains("cache.ref_ttl is 0 s") && why.contains("longer than 2 s"), "{why}");
    assert_eq!(step(&told, 1), json!(["serve", null, "hubcache; fwd=stale; detail=revalidated"]));
    assert_eq!(step(&told, 2), json!(["serve", null, "hubcache; hit; detail=stale"]));
    let mut trusting = scene;
    trusting.daemon.restart_with(&[("cache.ref_ttl", "1h")]);
    assert_eq!(step(&trusting.explain(&[CONFIG]), 0)[0], "serve");
    let insisting = trusting.explain(&["--header", "Cache-Control: no-cache", CONFIG]);
    assert_eq!(step(&insisting, 0), json!(["ask", null, null]));
    assert!(insisting["steps"][0]["why"].as_str().unwrap().contains("no-cache"));
}

#[test]
fn explain_tells_from_whom_it_is_known_that_a_file_is_absent() {
    let scene = Scene::start();
    let path = "/acme/tiny/resolve/main/absent.txt";
    assert_eq!(scene.get(path), 404);
    scene.both(|scene, state| {
        let told = scene.explain(&[path]);
        assert_eq!(step(&told, 0), json!(["absent", 404, "hubcache; hit; detail=absent"]), "{state}");
        assert_eq!(told["absent"]["by"], "hub", "{told:#}");
    });
    let scene = Scene::start();
    assert_eq!(scene.get("/api/models/acme/tiny/tree/main?recursive=true"), 200);
    let told = scene.explain(&[path]);
    assert_eq!((&told["absent"]["by"], &told["steps"][0]["action"]), (&"list".into(), &"absent".into()));
}

#[test]
fn explain_knows_both_layouts_and_the_api() {
    let scene = Scene::start();
    let (file, question) = ("/acme/moz/v1.0/vocab.txt", "/api/models/acme/tiny");
    assert_eq!(scene.explain(&[question])["steps"][0]["action"], "ask");
    assert_eq!((scene.get(file), scene.get(question)), (200, 200));
    scene.both(|scene, state| {
        let told = scene.explain(&[file]);
        assert_eq!(
            (&told["hub"], &told["revision"]["immutable"]),
            (&"mozilla".into(), &true.into()),
            "{state}"
        );
        assert_eq!(told["held"]["standing"], "verified");
        assert_eq!(told["held"]["promises"][0]["by"], "goog-hash");
        assert_eq!(step(&told, 0), json!(["serve", null, "hubcache; hit"]));

        let told = scene.explain(&[question]);
        assert_eq!((&told["target"], &told["name"]), (&"question".into(), &"info".into()));
        assert_eq!(step(&told, 0), json!(["serve", 200, "hubcache; hit"]), "{state}: {told:#}");
        assert_eq!(told["revision"]["commit"], scene.commit);
        let tree = scene.explain(&["/api/models/acme/tiny/tree/main"]);
        assert_eq!(step(&tree, 0), json!(["ask", null, "hubcache; fwd=uri-miss; stored"]), "{tree:#}");
    });
}

#[test]
fn explain_tells_what_is_handed_on_or_refused() {
    let scene = Scene::start();
    let passed = scene.explain(&["/api/whoami-v2"]);
    assert_eq!((&passed["target"], &passed["hub"]), (&"passed".into(), &"huggingface".into()));
    assert_eq!(step(&passed, 0), json!(["pass", null, "hubcache; fwd=bypass"]));
    let bad = scene.explain(&["/acme/tiny/resolve/main/../x"]);
    assert_eq!(step(&bad, 0), json!(["refuse", 400, "hubcache; detail=rejected"]));
    assert!(bad["steps"][0]["why"].as_str().unwrap().contains(".."), "{bad:#}");
    for url in ["https://example.org/a", "acme/tiny", "ftp://x/a"] {
        let refused = scene.daemon.command(&["explain", url]);
        assert_eq!(refused.status.code(), Some(64), "{url}");
        assert!(String::from_utf8_lossy(&refused.stderr).contains(url));
    }
}

#[test]
fn explain_says_what_an_offline_server_refuses() {
    let mut scene = Scene::start();
    assert_eq!(scene.get(CONFIG), 200);
    scene.daemon.restart_with(&[("upstream.offline", "true"), ("cache.ref_ttl", "0s")]);
    let held = scene.explain(&[CONFIG]);
    assert_eq!(step(&held, 0), json!(["serve", null, "hubcache; hit; detail=stale"]), "{held:#}");
    for path in ["/acme/tiny/resolve/main/model.bin", "/api/models/acme/tiny", "/api/whoami-v2"] {
        let told = scene.explain(&[path]);
        assert_eq!(step(&told, 0), json!(["refuse", 403, "hubcache; detail=offline"]), "{path}: {told:#}");
        assert_eq!(told["steps"].as_array().unwrap().len(), 1);
        assert_eq!(scene.get(path), 403, "as explained");
    }
}

#[test]
fn a_hub_that_is_down_is_told_of_and_so_is_what_that_means() {
    let scene = Scene::start_with(|builder| {
        let builder = builder.set("upstream.circuit_failures", "1").set("upstream.probe_interval", "10m");
        builder.set("cache.ref_ttl", "0s").set("upstream.backoff", "5ms")
    });
    assert_eq!(scene.get(CONFIG), 200);
    scene.hub.stop();
    let cold = format!("/acme/tiny/resolve/{}/model.bin", scene.commit);
    assert!(scene.get(&cold) >= 500);
    let huggingface = &scene.status()["hubs"][1];
    assert_eq!(huggingface["state"], "down", "{huggingface:#}");
    assert!(huggingface["down_seconds"].is_u64() && huggingface["last_failure"].is_string());
    assert!(scene.text(&["status"]).contains(", down for "));
    assert_eq!(step(&scene.explain(&[CONFIG]), 0), json!(["serve", null, "hubcache; hit; detail=stale"]));
    let told = scene.explain(&[&cold]);
    assert_eq!((step(&told, 0), told["steps"].as_array().unwrap().len()), (json!(["refuse", null, null]), 1));
}

#[test]
fn explain_knows_that_uploads_are_refused() {
    let scene = Scene::start_with(|builder| builder.set("cache.uploads", "refuse"));
    let told = scene.explain(&["--method", "PUT", "/acme/tiny/x"]);
    assert_eq!(step(&told, 0), json!(["refuse", 403, "hubcache; detail=no-uploads"]));
    assert_eq!(scene.explain(&["/acme/tiny/x"])["steps"][0]["action"], "pass");
}

#[test]
fn what_is_explained_is_what_happens() {
    let scene = Scene::start();
    for path in [CONFIG, "/acme/moz/v1.0/vocab.txt"] {
        assert_eq!(scene.get(path), 200);
    }
    assert_eq!(scene.get("/acme/tiny/resolve/main/absent"), 404);
    for path in [
        CONFIG,
        "/acme/moz/v1.0/vocab.txt",
        "/hub/mozilla/acme/moz/v1.0/vocab.txt",
        "/acme/tiny/resolve/main/absent",
        &format!("/acme/tiny/resolve/{}/model.bin", scene.commit),
        "/rs/v1",
        "/hub/nexus/x",
    ] {
        let told = scene.explain(&[path]);
        let reply = client::get(&format!("{}{path}", scene.daemon.url()));
        assert_eq!(
            told["steps"][0]["cache_status"].as_str(),
            reply.header("cache-status"),
            "{path}: {told:#}"
        );
        if let Some(status) = told["steps"][0]["status"].as_u64() {
            assert_eq!(status, u64::from(reply.status), "{path}");
        }
    }
}
