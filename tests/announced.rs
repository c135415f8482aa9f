//! What announcements in signed collections do: the files of a new revision are here before anybody asks, and the old
//! one goes when it may.

use std::time::Duration;

use crate::support;
use serde_json::{Value, json};
use support::client::{self, get};
use support::daemon::{Builder, Daemon};
use support::eventually;
use support::hub::{Fault, File, ScriptedHub, What};
use support::settings::ScriptedSettings;

const OPTIONS: &str = "ml-inference-options";
const DENY: &str = "ml-model-allow-deny-list";

/// A hub with two files of each version, and a server that has announced the first.
struct Scene {
    hub: ScriptedHub,
    settings: ScriptedSettings,
}

impl Scene {
    fn new() -> Self {
        let (hub, settings) = (ScriptedHub::start(), ScriptedSettings::start());
        let scene = Self { hub, settings };
        scene.publish("v1.0");
        scene.settings.publish(DENY, json!([]));
        scene.announce("v1.0");
        scene
    }

    /// The hub has this version.
    fn publish(&self, version: &str) {
        for path in ["config.json", "onnx/model.onnx"] {
            self.hub.moz("acme/tiny", version, path, bytes(version, path));
        }
    }

    /// Mozilla says that Firefox uses this version.
    fn announce(&self, version: &str) -> u64 {
        self.settings.publish(OPTIONS, json!([record("a", version)]))
    }

    fn builder(&self) -> Builder {
        Daemon::builder()
            .hub(&self.hub)
            .remote_settings(&self.settings)
            .set("settings.collections", &format!("{OPTIONS},{DENY}"))
            .set("settings.interval", "100ms")
            .set("settings.retry", "50ms")
            .set("cache.negative_ttl", "0s")
    }

    /// A server that has the first version in use, and knows that it is announced.
    fn in_use(&self, builder: Builder) -> Daemon {
        let daemon = builder.start();
        for path in ["config.json", "onnx/model.onnx"] {
            get(&url(&daemon, "v1.0", path)).assert_is(200, &bytes("v1.0", path), path);
        }
        eventually(|| held(&daemon, OPTIONS));
        daemon
    }
}

fn record(id: &str, version: &str) -> Value {
    json!({"id": id, "taskName": "x", "modelId": "acme/tiny", "modelRevision": version})
}

fn bytes(version: &str, path: &str) -> Vec<u8> {
    format!("{version} {path} ").repeat(1000).into_bytes()
}

fn url(daemon: &Daemon, version: &str, path: &str) -> String {
    format!("{}/acme/tiny/{version}/{path}", daemon.url())
}

fn json_of(daemon: &Daemon, arguments: &[&str]) -> Value {
    let output = daemon.command(&[arguments, &["--json"]].concat());
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{arguments:?}: {}", String::from_utf8_lossy(&output.stderr)))
}

/// The moment of a collection that is held.
fn held(daemon: &Daemon, collection: &str) -> Option<u64> {
    let status = json_of(daemon, &["settings", "status"]);
    let collections = status["collections"].as_array().unwrap().clone();
    let one = collections.into_iter().find(|c| c["collection"] == format!("main/{collection}").as_str())?;
    one["timestamp"].as_u64()
}

/// The state of a version, by its files: `current`, `superseded`; none where nothing is held.
fn state(daemon: &Daemon, version: &str) -> Option<String> {
    let files = json_of(daemon, &["ls"]);
    let files = files.as_array().unwrap();
    let file = files.iter().find(|f| f["revision"] == version && f["hub"] == "mozilla")?;
    Some(file["state"].as_str().unwrap().to_owned())
}

fn superseded(daemon: &Daemon, version: &str) -> Option<()> {
    (state(daemon, version).as_deref() == Some("superseded")).then_some(())
}

/// The events of a model, in their order.
fn events(daemon: &Daemon) -> Vec<String> {
    let history = json_of(daemon, &["history", "acme/tiny"]);
    let word = |h: &Value| h["event"].as_str().unwrap().to_owned();
    history.as_array().unwrap().iter().map(word).collect()
}

#[test]
fn a_new_revision_is_here_before_anybody_asks_and_the_old_one_still_serves() {
    let scene = Scene::new();
    let daemon = scene.in_use(scene.builder());
    scene.publish("v2.0");
    scene.hub.clear();
    scene.announce("v2.0");
    eventually(|| superseded(&daemon, "v1.0"));
    let fetched = scene.hub.requests().len();
    assert_eq!(state(&daemon, "v2.0").as_deref(), Some("current"));
    for path in ["config.json", "onnx/model.onnx"] {
        let first = get(&url(&daemon, "v2.0", path));
        first.assert_is(200, &bytes("v2.0", path), path);
        assert_eq!(first.header("cache-status"), Some("hubcache; hit"));
        get(&url(&daemon, "v1.0", path)).assert_is(200, &bytes("v1.0", path), "the old one");
    }
    assert_eq!(scene.hub.requests().len(), fetched, "{}", scene.hub.journal());
    let verified = json_of(&daemon, &["ls", "acme/tiny@v2.0"]);
    assert!(verified.as_array().unwrap().iter().all(|f| f["standing"] == "verified"), "{verified}");
    assert_eq!(events(&daemon), ["announced", "fetched", "superseded"]);
    let history = json_of(&daemon, &["history", "acme/tiny"]);
    assert_eq!((&history[2]["revision"], &history[2]["to"]), (&json!("v1.0"), &json!("v2.0")));
    assert_eq!(daemon.metric("hubcache_settings_superseded_total", &[]), 1.0);
    // Nobody uses files that the new revision has beside those.
    assert_eq!(scene.hub.count("GET", "other"), 0);
}

#[test]
fn after_the_grace_the_old_revision_is_gone_and_its_space_is_used_again() {
    let scene = Scene::new();
    let builder = scene.builder().set("hub.mozilla.on_announce", "evict").set("settings.grace", "300ms");
    let daemon = scene.in_use(builder);
    scene.publish("v2.0");
    scene.announce("v2.0");
    eventually(|| (state(&daemon, "v1.0").is_none() && state(&daemon, "v2.0").is_some()).then_some(()));
    assert_eq!(events(&daemon), ["announced", "fetched", "superseded", "dropped"]);
    let held = json_of(&daemon, &["status"])["data"].clone();
    assert_eq!((&held["entries"], &held["blobs"]), (&json!(2), &json!(2)), "{held}");
    // Who still asks for it is served by the hub.
    get(&url(&daemon, "v1.0", "config.json")).assert_is(200, &bytes("v1.0", "config.json"), "v1.0");
}

#[test]
fn a_pinned_revision_stays() {
    let scene = Scene::new();
    let builder = scene.builder().set("hub.mozilla.on_announce", "evict").set("settings.grace", "1ms");
    let daemon = scene.in_use(builder);
    assert!(daemon.command(&["pin", "mozilla:acme/tiny@v1.0"]).status.success());
    scene.publish("v2.0");
    scene.announce("v2.0");
    eventually(|| superseded(&daemon, "v1.0"));
    // Something that comes later has been carried out, so dropping would have been.
    scene.publish("v3.0");
    scene.announce("v3.0");
    eventually(|| (state(&daemon, "v3.0").is_some() && state(&daemon, "v2.0").is_none()).then_some(()));
    let files = json_of(&daemon, &["ls", "acme/tiny@v1.0"]);
    assert_eq!(files.as_array().unwrap().len(), 2);
    assert!(files.as_array().unwrap().iter().all(|f| f["pinned"] == true), "{files}");
    assert!(daemon.command(&["unpin", "acme/tiny@v1.0"]).status.success());
    scene.announce("v3.0");
    scene.publish("v4.0");
    scene.announce("v4.0");
    eventually(|| state(&daemon, "v1.0").is_none().then_some(()));
}

#[test]
fn an_announcement_before_its_files_supersedes_nothing() {
    let scene = Scene::new();
    let daemon = scene.in_use(scene.builder());
    scene.announce("v2.0");
    eventually(|| events(&daemon).contains(&"delayed".to_owned()).then_some(()));
    assert_eq!((state(&daemon, "v1.0").as_deref(), state(&daemon, "v2.0")), (Some("current"), None));
    let job = json_of(&daemon, &["settings", "status"])["renewals"][0].clone();
    assert!(job["trouble"].as_str().unwrap().contains("has no file of v2.0 yet"), "{job}");
    // Half of it comes: what is missing is reported.
    scene.hub.moz("acme/tiny", "v2.0", "config.json", bytes("v2.0", "config.json"));
    eventually(|| superseded(&daemon, "v1.0"));
    assert_eq!(events(&daemon), ["announced", "delayed", "fetched", "missing", "superseded"]);
    let history = json_of(&daemon, &["history", "acme/tiny"]);
    assert_eq!(history[3]["detail"], "onnx/model.onnx");
    assert_eq!(json_of(&daemon, &["settings", "status"])["renewals"], json!([]));
}

#[test]
fn a_revision_that_another_record_names_is_not_superseded() {
    let scene = Scene::new();
    scene.settings.publish(OPTIONS, json!([record("a", "v1.0"), record("b", "v1.0")]));
    let daemon = scene.in_use(scene.builder());
    scene.publish("v2.0");
    scene.settings.publish(OPTIONS, json!([record("a", "v2.0"), record("b", "v1.0")]));
    eventually(|| events(&daemon).contains(&"kept".to_owned()).then_some(()));
    assert_eq!(state(&daemon, "v2.0").as_deref(), Some("current"), "it is here all the same");
    assert_eq!(state(&daemon, "v1.0").as_deref(), Some("current"));
    scene.settings.publish(OPTIONS, json!([record("a", "v2.0"), record("b", "v2.0")]));
    eventually(|| superseded(&daemon, "v1.0"));
    // And back again.
    scene.settings.publish(OPTIONS, json!([record("a", "v2.0"), record("b", "v1.0")]));
    eventually(|| (state(&daemon, "v1.0").as_deref() == Some("current")).then_some(()));
    assert_eq!(state(&daemon, "v2.0").as_deref(), Some("current"));
}

#[test]
fn an_operator_holds_a_model_and_releases_it() {
    let scene = Scene::new();
    let builder = scene.builder().set("hub.mozilla.on_announce", "evict").set("settings.grace", "7d");
    let daemon = scene.in_use(builder);
    scene.publish("v2.0");
    scene.announce("v2.0");
    eventually(|| superseded(&daemon, "v1.0"));
    let told = json_of(&daemon, &["settings", "hold", "acme/tiny"]);
    assert_eq!(told.as_array().unwrap().len(), 2, "{told}");
    assert_eq!(state(&daemon, "v1.0").as_deref(), Some("current"), "the supersession is taken back");
    scene.publish("v3.0");
    scene.announce("v3.0");
    eventually(|| state(&daemon, "v3.0"));
    let parked = || {
        let status = json_of(&daemon, &["settings", "status"]);
        let renewals = status["renewals"].as_array().unwrap().clone();
        (renewals.len() == 2 && renewals.iter().all(|r| r["due_at"].is_null())).then_some(status)
    };
    let status = eventually(parked);
    assert_eq!(status["holds"][0]["model"], "acme/tiny");
    for version in ["v1.0", "v2.0", "v3.0"] {
        assert_eq!(state(&daemon, version).as_deref(), Some("current"), "{version}");
    }
    assert!(daemon.command(&["settings", "release", "acme/tiny"]).status.success());
    eventually(|| superseded(&daemon, "v1.0").and(superseded(&daemon, "v2.0")));
    assert_eq!(state(&daemon, "v3.0").as_deref(), Some("current"));
    let again = daemon.command(&["settings", "release", "acme/tiny"]);
    assert_eq!(again.status.code(), Some(66), "{}", String::from_utf8_lossy(&again.stderr));
}

#[test]
fn a_touched_record_has_mutable_files_compared_at_once() {
    let scene = Scene::new();
    let record = |n: u32| json!([{"id": "a", "modelId": "acme/tiny", "modelRevision": "main", "n": n}]);
    scene.settings.publish(OPTIONS, record(1));
    scene.hub.moz("acme/tiny", "main", "config.json", "before");
    let daemon = scene.builder().set("cache.ref_ttl", "1h").start();
    get(&url(&daemon, "main", "config.json")).assert_is(200, b"before", "cold");
    eventually(|| held(&daemon, OPTIONS));
    scene.hub.moz("acme/tiny", "main", "config.json", "after");
    get(&url(&daemon, "main", "config.json")).assert_is(200, b"before", "trusted for an hour");
    scene.settings.publish(OPTIONS, record(2));
    eventually(|| events(&daemon).contains(&"revalidated".to_owned()).then_some(()));
    scene.hub.clear();
    get(&url(&daemon, "main", "config.json")).assert_is(200, b"after", "renewed");
    assert_eq!(scene.hub.requests().len(), 0, "{}", scene.hub.journal());
}

#[test]
fn what_each_policy_does() {
    for (policy, fetched, state_after) in [("mark", false, "superseded"), ("ignore", false, "current")] {
        let scene = Scene::new();
        let daemon = scene.in_use(scene.builder().set("hub.mozilla.on_announce", policy));
        scene.publish("v2.0");
        let moment = scene.announce("v2.0");
        eventually(|| (held(&daemon, OPTIONS) == Some(moment)).then_some(()));
        eventually(|| (state(&daemon, "v1.0").as_deref() == Some(state_after)).then_some(()));
        assert_eq!(state(&daemon, "v2.0").is_some(), fetched, "{policy}");
    }
}

#[test]
fn a_model_of_hugging_face_is_renewed_by_its_commits() {
    let scene = Scene::new();
    let repo = scene.hub.hf("acme/tiny");
    let first = repo.commit([File::small("config.json", "one"), File::lfs("model.onnx", "first")]);
    repo.tag("v1.0", &first);
    let daemon = scene.builder().start();
    let file = |tag: &str, path: &str| format!("{}/acme/tiny/resolve/{tag}/{path}", daemon.url());
    get(&file("v1.0", "model.onnx")).assert_is(200, b"first", "cold");
    eventually(|| held(&daemon, OPTIONS));
    let second = repo.commit([File::small("config.json", "two"), File::lfs("model.onnx", "second")]);
    repo.tag("v2.0", &second);
    scene.announce("v2.0");
    let states = || {
        let files = json_of(&daemon, &["ls", "huggingface:acme/tiny"]);
        let one =
            |f: &Value| (f["revision"].as_str().unwrap().to_owned(), f["state"].as_str().unwrap().to_owned());
        let mut states: Vec<_> = files.as_array().unwrap().iter().map(one).collect();
        states.sort_by_key(|(revision, _)| *revision != first);
        states
    };
    let want = vec![(first.clone(), "superseded".to_owned()), (second.clone(), "current".to_owned())];
    eventually(|| (states() == want).then_some(()));
    scene.hub.clear();
    get(&file(&second, "model.onnx")).assert_is(200, b"second", "brought");
    assert_eq!(scene.hub.requests().len(), 0, "{}", scene.hub.journal());
}

#[test]
fn a_record_names_three_repositories() {
    let scene = Scene::new();
    let record = |model: &str, tokenizer: &str| {
        json!([{"id": "a", "modelId": "acme/tiny", "modelRevision": model,
                "tokenizerId": "acme/words", "tokenizerRevision": tokenizer}])
    };
    scene.settings.publish(OPTIONS, record("v1.0", "v1.0"));
    for version in ["v1.0", "v2.0"] {
        scene.hub.moz("acme/words", version, "tokenizer.json", format!("words {version}"));
    }
    let daemon = scene.in_use(scene.builder());
    let words = |version: &str| format!("{}/acme/words/{version}/tokenizer.json", daemon.url());
    get(&words("v1.0")).assert_is(200, b"words v1.0", "cold");
    scene.settings.publish(OPTIONS, record("v1.0", "v2.0"));
    eventually(|| json_of(&daemon, &["ls", "acme/words@v2.0"]).get(0).cloned());
    assert_eq!(get(&words("v2.0")).header("cache-status"), Some("hubcache; hit"));
    assert_eq!(state(&daemon, "v1.0").as_deref(), Some("current"), "the model has not moved");
}

#[test]
fn a_kill_at_any_step_leaves_one_state_or_the_other() {
    let scene = Scene::new();
    let builder = scene.builder().set("hub.mozilla.on_announce", "evict").set("settings.grace", "100ms");
    let mut daemon = scene.in_use(builder);
    scene.publish("v2.0");
    // While the new revision is fetched.
    let gate = scene.hub.gate("v2.0/onnx/model.onnx", 100);
    scene.announce("v2.0");
    scene.hub.wait_for(Duration::from_secs(20), "the new revision is fetched", |seen| {
        seen.iter().any(|s| s.is("GET", "v2.0/onnx/model.onnx"))
    });
    daemon.kill9();
    gate.release();
    daemon.restart();
    get(&url(&daemon, "v1.0", "config.json")).assert_is(200, &bytes("v1.0", "config.json"), "the old one");
    // It is carried out after all.
    eventually(|| (state(&daemon, "v1.0").is_none() && state(&daemon, "v2.0").is_some()).then_some(()));
    // At random moments of further announcements.
    let mut random = fastrand::Rng::with_seed(7);
    for n in 3..11 {
        let (old, new) = (format!("v{}.0", n - 1), format!("v{n}.0"));
        scene.publish(&new);
        scene.announce(&new);
        std::thread::sleep(Duration::from_millis(random.u64(..400)));
        daemon.kill9();
        daemon.restart();
        // Of each revision all files are there, or none, or as many as were fetched of one that nothing has replaced yet.
        let count = |version: &str| {
            json_of(&daemon, &["ls", &format!("acme/tiny@{version}")]).as_array().unwrap().len()
        };
        let (of_old, of_new) = (count(&old), count(&new));
        assert!(of_new == 2 || of_old == 2, "{old}: {of_old}, {new}: {of_new}");
        eventually(|| (count(&old) == 0 && count(&new) == 2).then_some(()));
        for path in ["config.json", "onnx/model.onnx"] {
            get(&url(&daemon, &new, path)).assert_is(200, &bytes(&new, path), path);
        }
        assert!(daemon.command(&["verify"]).status.success());
    }
}

#[test]
fn the_deny_list_blocks_and_drops_what_it_matches() {
    let scene = Scene::new();
    let daemon = scene.in_use(scene.builder());
    let repo = scene.hub.hf("acme/tiny");
    repo.commit([File::small("config.json", "hf")]);
    let hf = format!("{}/acme/tiny/resolve/main/config.json", daemon.url());
    get(&hf).assert_is(200, b"hf", "cold");
    let pinned = url(&daemon, "v1.0", "config.json");
    // Asked for often enough to be answered from memory.
    for _ in 0..3 {
        get(&pinned).assert_is(200, &bytes("v1.0", "config.json"), "warm");
    }
    let deny = |prefixes: &[&str]| {
        let rule = |(at, prefix): (usize, &&str)| json!({"id": format!("rule-{at}"), "filter": "DENY", "urlPrefix": prefix, "description": "too large"});
        scene.settings.publish(DENY, prefixes.iter().enumerate().map(rule).collect())
    };
    let moment = deny(&["https://model-hub.mozilla.org/ACME/tiny/", "https://huggingface.co/acme/"]);
    eventually(|| (held(&daemon, DENY) == Some(moment)).then_some(()));
    let refused = get(&pinned);
    assert_eq!(refused.status, 403);
    assert!(refused.text().contains("rule-0") && refused.text().contains("too large"), "{}", refused.text());
    assert!(refused.header("cache-status").unwrap().contains("denied"));
    let told = json_of(&daemon, &["explain", "https://model-hub.mozilla.org/acme/tiny/v1.0/config.json"]);
    assert!(told["steps"][0]["why"].as_str().unwrap().contains("rule-0"), "{told}");
    eventually(|| state(&daemon, "v1.0").is_none().then_some(()));
    // Of another hub only what Firefox asks for is forbidden, and nothing is dropped.
    get(&hf).assert_is(200, b"hf", "not Firefox");
    let firefox = "Mozilla/5.0 (X11; Linux x86_64; rv:153.0) Gecko/20100101 Firefox/153.0";
    let as_firefox = client::Request::get(&hf).header("User-Agent", firefox).send();
    assert_eq!(as_firefox.status, 403);
    let moment = deny(&[]);
    eventually(|| (held(&daemon, DENY) == Some(moment)).then_some(()));
    get(&pinned).assert_is(200, &bytes("v1.0", "config.json"), "lifted");
    // What is pinned is blocked, and kept.
    assert!(daemon.command(&["pin", "mozilla:acme/tiny@v1.0"]).status.success());
    let moment = deny(&["https://model-hub.mozilla.org/acme/"]);
    eventually(|| (held(&daemon, DENY) == Some(moment)).then_some(()));
    assert_eq!(get(&pinned).status, 403);
    assert_eq!(state(&daemon, "v1.0").as_deref(), Some("current"));
    scene.hub.clear();
    let moment = deny(&[]);
    eventually(|| (held(&daemon, DENY) == Some(moment)).then_some(()));
    get(&pinned).assert_is(200, &bytes("v1.0", "config.json"), "opened again");
    assert_eq!(scene.hub.count("GET", "config.json"), 0, "{}", scene.hub.journal());
    let told = events(&daemon);
    assert_eq!(told.iter().filter(|e| *e == "blocked").count(), 2, "{told:?}");
    assert_eq!(told.iter().filter(|e| *e == "opened").count(), 1, "{told:?}");
}

#[test]
fn no_spelling_and_no_way_of_asking_passes_the_deny_list() {
    let scene = Scene::new();
    let daemon = scene.in_use(scene.builder().set("settings.deny_for", "all"));
    let rule = |prefix: &str| json!({"id": prefix, "filter": "DENY", "urlPrefix": prefix, "description": ""});
    let denied = [
        "https://model-hub.mozilla.org/acme/",
        "https://huggingface.co/acme/",
        "https://huggingface.co/api/models/acme/",
    ];
    let moment = scene.settings.publish(DENY, denied.iter().map(|prefix| rule(prefix)).collect());
    eventually(|| (held(&daemon, DENY) == Some(moment)).then_some(()));
    scene.hub.hf("acme/tiny").commit([File::small("config.json", "hf")]);
    scene.hub.clear();
    for path in [
        "/acme/tiny/v1.0/config.json",
        "/%61cme/tiny/v1.0/config.json",
        "/ACME/tiny/v1.0/config.json",
        "/acme/tiny/main/config.json?download=true",
        "/hub/mozilla/acme/tiny/v1.0/config.json",
        "/hub/mozilla/acme/%74iny",
        "/acme/tiny/resolve/main/config.json",
        "/hub/huggingface/acme/tiny/resolve/main/config.json",
        "/acme/tiny/raw/main/config.json",
        "/%61cme/tiny/raw/main/config.json",
        "/api/models/acme/tiny",
        "/api/models/acme/tiny/tree/main?recursive=true",
    ] {
        let url = format!("{}{path}", daemon.url());
        assert_eq!(get(&url).status, 403, "GET {path}");
        assert_eq!(client::head(&url).status, 403, "HEAD {path}");
        assert_eq!(client::get_range(&url, "0-0").status, 403, "range of {path}");
    }
    assert_eq!(scene.hub.requests().len(), 0, "{}", scene.hub.journal());
    // What is announced and denied is not fetched either, and nothing is superseded by it.
    let moment = scene.settings.publish(DENY, json!([rule("https://model-hub.mozilla.org/acme/tiny/v2.0/")]));
    eventually(|| (held(&daemon, DENY) == Some(moment)).then_some(()));
    for path in ["config.json", "onnx/model.onnx"] {
        get(&url(&daemon, "v1.0", path)).assert_is(200, &bytes("v1.0", path), path);
    }
    scene.publish("v2.0");
    scene.hub.clear();
    scene.announce("v2.0");
    eventually(|| events(&daemon).contains(&"delayed".to_owned()).then_some(()));
    assert_eq!(scene.hub.count("GET", "v2.0"), 0, "{}", scene.hub.journal());
    assert_eq!(state(&daemon, "v1.0").as_deref(), Some("current"));
}

#[test]
fn what_arrives_while_it_is_denied_does_not_stay() {
    let scene = Scene::new();
    let daemon = scene.in_use(scene.builder());
    scene.publish("v2.0");
    let gate = scene.hub.gate("v2.0/onnx/model.onnx", 100);
    let asking = std::thread::spawn({
        let url = url(&daemon, "v2.0", "onnx/model.onnx");
        move || get(&url)
    });
    scene.hub.wait_for(Duration::from_secs(20), "it is fetched", |seen| {
        seen.iter().any(|s| s.is("GET", "v2.0/onnx/model.onnx"))
    });
    let rule =
        json!([{"id": "r", "filter": "DENY", "urlPrefix": "https://model-hub.mozilla.org/acme/tiny/v2.0/"}]);
    let moment = scene.settings.publish(DENY, rule);
    eventually(|| (held(&daemon, DENY) == Some(moment)).then_some(()));
    gate.release();
    asking.join().unwrap();
    eventually(|| {
        (state(&daemon, "v2.0").is_none() && daemon.log().contains("file stored file=mozilla:acme/tiny@v2.0"))
            .then_some(())
    });
}

#[test]
fn an_announcement_that_is_withdrawn_supersedes_nothing() {
    let scene = Scene::new();
    let daemon = scene.in_use(scene.builder());
    scene.announce("v2.0");
    eventually(|| events(&daemon).contains(&"delayed".to_owned()).then_some(()));
    scene.settings.publish(OPTIONS, json!([]));
    eventually(|| events(&daemon).contains(&"kept".to_owned()).then_some(()));
    scene.publish("v2.0");
    let status = json_of(&daemon, &["settings", "status"]);
    assert_eq!(status["renewals"], json!([]));
    assert_eq!((state(&daemon, "v1.0").as_deref(), state(&daemon, "v2.0")), (Some("current"), None));
}

#[test]
fn widened_to_all_the_deny_list_is_for_every_hub_and_client() {
    let scene = Scene::new();
    scene.settings.publish(
        DENY,
        json!([{"id": "r", "filter": "DENY", "urlPrefix": "https://huggingface.co/acme/", "description": ""}]),
    );
    let daemon = scene.builder().set("settings.deny_for", "all").start();
    eventually(|| held(&daemon, DENY));
    scene.hub.hf("acme/tiny").commit([File::small("config.json", "hf")]);
    assert_eq!(get(&format!("{}/acme/tiny/resolve/main/config.json", daemon.url())).status, 403);
    scene.hub.hf("other/tiny").commit([File::small("config.json", "hf")]);
    get(&format!("{}/other/tiny/resolve/main/config.json", daemon.url())).assert_is(200, b"hf", "another");
}

#[test]
fn whoever_listens_at_the_door_learns_of_an_announcement() {
    let scene = Scene::new();
    let daemon = scene.in_use(scene.builder().set("settings.interval", "1h"));
    let mut events = client::Request::get(&format!("{}/-/events", daemon.admin_url())).open().unwrap();
    assert_eq!((events.status(), events.reply().header("content-type")), (200, Some("text/event-stream")));
    events.read_to(10);
    scene.publish("v2.0");
    scene.announce("v2.0");
    // The interval is an hour: it is this that has the server asked.
    let door = format!("{}/api/v1/settings/sync", daemon.admin_url());
    let synced = client::Request::new("POST", &door).send();
    assert_eq!(synced.status, 200, "{}", synced.text());
    let mut wanted = 100;
    let text = loop {
        let text = String::from_utf8_lossy(events.read_to(wanted)).into_owned();
        if text.contains("event: superseded") {
            break text;
        }
        wanted = text.len() + 1;
    };
    let announced = text.lines().skip_while(|line| *line != "event: announced").nth(1).unwrap();
    let announced: Value = serde_json::from_str(announced.strip_prefix("data: ").unwrap()).unwrap();
    assert_eq!((&announced["model"], &announced["to"]), (&json!("acme/tiny"), &json!("v2.0")));
    for path in ["/-/events", "/api/v1/settings/sync"] {
        let method = if path == "/-/events" { "GET" } else { "POST" };
        let page = client::Request::new(method, &format!("{}{path}", daemon.admin_url()));
        assert_eq!(page.header("Origin", "http://evil.example").send().status, 403, "{path}");
    }
    events.abandon();
}

#[test]
fn commands_work_without_a_server() {
    let scene = Scene::new();
    let mut daemon = scene.in_use(scene.builder().set("settings.interval", "1h"));
    assert!(daemon.terminate().success());
    scene.publish("v2.0");
    scene.announce("v2.0");
    let synced = daemon.command(&["settings", "sync"]);
    assert!(synced.status.success(), "{}", String::from_utf8_lossy(&synced.stderr));
    let text = String::from_utf8(synced.stdout).unwrap();
    assert!(text.contains("main/ml-inference-options") && text.contains("v1.0 -> v2.0"), "{text}");
    assert_eq!(events(&daemon), ["announced"]);
    assert!(daemon.command(&["settings", "hold", "acme/tiny"]).status.success());
    assert!(daemon.command(&["settings", "release", "acme/tiny"]).status.success());
    // It is carried out at the next start.
    daemon.restart();
    eventually(|| superseded(&daemon, "v1.0"));
    scene.settings.stop();
    assert!(daemon.terminate().success());
    let failed = daemon.command(&["settings", "sync"]);
    assert_eq!(failed.status.code(), Some(75), "{}", String::from_utf8_lossy(&failed.stdout));
}

#[test]
fn a_hub_that_is_down_is_waited_for() {
    let scene = Scene::new();
    let daemon = scene.in_use(scene.builder().set("upstream.probe_interval", "100ms"));
    scene.publish("v2.0");
    scene.hub.fault(Fault::on("v2.0", What::hang_up()).times(100));
    scene.announce("v2.0");
    eventually(|| events(&daemon).contains(&"delayed".to_owned()).then_some(()));
    assert_eq!(state(&daemon, "v1.0").as_deref(), Some("current"));
    scene.hub.behave();
    eventually(|| superseded(&daemon, "v1.0"));
}

#[test]
fn what_a_lock_pins_stays_whatever_is_announced() {
    let scene = Scene::new();
    let builder = scene.builder().set("hub.mozilla.on_announce", "evict").set("settings.grace", "1ms");
    let daemon = scene.in_use(builder);
    let folder = tempfile::tempdir().unwrap();
    let lock = folder.path().join("hubcache.lock");
    let lock = lock.to_str().unwrap();
    let add = ["lock", "add", "moz:acme/tiny@v1.0", "--file", "config.json", "--lock", lock];
    for arguments in [&add[..], &["preload", "--lock", lock], &["preload", "--lock", lock]] {
        let output = daemon.command(arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    assert_eq!(events(&daemon).iter().filter(|event| *event == "pinned").count(), 1, "pinned once");
    for version in ["v2.0", "v3.0"] {
        scene.publish(version);
        scene.announce(version);
        eventually(|| state(&daemon, version).is_some().then_some(()));
    }
    // What came between has been dropped, so the locked one would have been.
    eventually(|| state(&daemon, "v2.0").is_none().then_some(()));
    assert!(superseded(&daemon, "v1.0").is_some());
}
