//! Collections of Remote Settings: what is taken over, what is refused, and what clients are told.

use std::time::{Duration, SystemTime};

use crate::support;
use serde_json::{Value, json};
use support::client::{self, Reply, get};
use support::daemon::{Builder, Daemon};
use support::hub::ScriptedHub;
use support::settings::{Chain, ScriptedSettings, SettingsFault};
use support::{eventually, tls};

const OPTIONS: &str = "ml-inference-options";
const RUNTIME: &str = "ml-onnx-runtime";
const DAY: Duration = Duration::from_secs(24 * 3600);

struct Scene {
    hub: ScriptedHub,
    settings: ScriptedSettings,
}

impl Scene {
    fn new() -> Self {
        let scene = Self { hub: ScriptedHub::start(), settings: ScriptedSettings::start() };
        scene.settings.publish(RUNTIME, json!([]));
        scene
    }

    fn builder(&self) -> Builder {
        Daemon::builder()
            .hub(&self.hub)
            .remote_settings(&self.settings)
            .set("settings.collections", &format!("{OPTIONS},{RUNTIME}"))
            .set("settings.interval", "100ms")
    }

    /// Polls only when it is told to.
    fn quiet(&self) -> Builder {
        self.builder().set("settings.interval", "1h")
    }
}

fn records(n: u64) -> Value {
    json!([
        {"id": "b", "n": n, "modelId": "acme/tiny", "modelRevision": "v1.0"},
        {"id": "a", "text": "\u{e9}\u{7f}\u{8}\u{c}\n\r\t\"\\\u{1}\u{2028}\u{1f600} / 'x'", "nested": {"z": [1, -2], "a": null}},
    ])
}

fn status(daemon: &Daemon) -> Value {
    let output = daemon.command(&["settings", "status", "--json"]);
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
}

fn collection(daemon: &Daemon, name: &str) -> Value {
    let status = status(daemon);
    let all = status["collections"].as_array().unwrap();
    all.iter().find(|c| c["collection"] == format!("main/{name}").as_str()).unwrap().clone()
}

fn held(daemon: &Daemon, name: &str) -> Option<u64> {
    collection(daemon, name)["timestamp"].as_u64()
}

fn sync(daemon: &Daemon) -> Option<i32> {
    daemon.command(&["settings", "sync"]).status.code()
}

fn changeset(daemon: &Daemon, name: &str, query: &str) -> Reply {
    get(&format!("{}/rs/v1/buckets/main/collections/{name}/changeset?{query}", daemon.url()))
}

fn body(reply: &Reply) -> Value {
    serde_json::from_slice(&reply.body).unwrap_or_else(|_| panic!("{}", reply.text()))
}

fn ids(reply: &Reply) -> Vec<String> {
    let word = |change: &Value| {
        let sign = if change["deleted"] == true { "-" } else { "" };
        format!("{sign}{}", change["id"].as_str().unwrap())
    };
    let mut ids: Vec<_> = body(reply)["changes"].as_array().unwrap().iter().map(word).collect();
    ids.sort();
    ids
}

#[test]
fn a_signed_collection_is_taken_over_and_told_as_it_is() {
    let scene = Scene::new();
    let first = scene.settings.publish(OPTIONS, records(1));
    let daemon = scene.builder().start();
    eventually(|| held(&daemon, OPTIONS).filter(|at| *at == first));
    let theirs =
        get(&format!("{}/buckets/main/collections/{OPTIONS}/changeset?_expected=0", scene.settings.url()));
    let told = changeset(&daemon, OPTIONS, "_expected=0");
    assert_eq!(told.header("cache-status"), Some("hubcache; hit"));
    let (mut ours, mut original) = (body(&told), body(&theirs));
    // All but where the chain is.
    let chain = ours["metadata"]["signatures"][0]["x5u"].take();
    original["metadata"]["signatures"][0]["x5u"].take();
    for set in [&mut ours, &mut original] {
        set["metadata"]["signature"]["x5u"].take();
        set["changes"].as_array_mut().unwrap().sort_by_key(|c| c["id"].to_string());
    }
    assert_eq!(ours, original);
    let chain = chain.as_str().unwrap();
    assert!(chain.starts_with(&format!("{}/rs/chains/", daemon.url())), "{chain}");
    let original = get(body(&theirs)["metadata"]["signatures"][0]["x5u"].as_str().unwrap());
    assert_eq!(get(chain).body, original.body);
    // Without the server everything is still told.
    scene.settings.stop();
    changeset(&daemon, OPTIONS, "_expected=0").assert_is(200, &told.body, "without the server");
    assert_eq!(get(chain).body, original.body);
    let tag = told.header("etag").unwrap();
    let url = format!("{}/rs/v1/buckets/main/collections/{OPTIONS}/changeset?_expected=0", daemon.url());
    assert_eq!(client::Request::get(&url).header("If-None-Match", tag).send().status, 304);
    assert_eq!(client::head(&url).header("content-length"), Some(told.body.len().to_string().as_str()));
}

#[test]
fn clients_are_told_what_changed_since() {
    let scene = Scene::new();
    let first = scene.settings.publish(OPTIONS, json!([{"id": "a"}, {"id": "b"}]));
    let daemon = scene.quiet().start();
    eventually(|| held(&daemon, OPTIONS));
    let second = scene.settings.publish(OPTIONS, json!([{"id": "b"}, {"id": "c"}]));
    // Whoever has heard of the new state has it fetched.
    let told = changeset(&daemon, OPTIONS, &format!("_expected={second}&_since={first}"));
    assert_eq!(
        (ids(&told), body(&told)["timestamp"].as_u64()),
        (vec!["-a".into(), "c".into()], Some(second))
    );
    let quoted = changeset(&daemon, OPTIONS, &format!("_expected={second}&_since=%22{first}%22"));
    assert_eq!(quoted.body, told.body);
    for since in [second, second + 5] {
        let nothing = changeset(&daemon, OPTIONS, &format!("_expected={second}&_since={since}"));
        assert_eq!((nothing.status, ids(&nothing)), (200, vec![]), "never 204");
        assert!(body(&nothing)["metadata"]["signatures"][0]["signature"].is_string());
        assert_eq!(body(&nothing)["timestamp"].as_u64(), Some(second));
    }
    let old = changeset(&daemon, OPTIONS, &format!("_expected={second}&_since={}&x=1", first - 1));
    assert_eq!(old.status, 307, "{}", old.text());
    let location = old.header("location").unwrap();
    assert!(!location.contains("_since") && location.contains(&format!("_expected={second}")), "{location}");
    assert_eq!(ids(&get(&format!("{}{location}", daemon.url()))), ["b", "c"]);
}

#[test]
fn what_nobody_has_yet_is_asked_for_once_by_all_who_expect_it() {
    let scene = Scene::new();
    scene.settings.publish(OPTIONS, json!([{"id": "a"}]));
    let daemon = scene.quiet().start();
    let first = eventually(|| held(&daemon, OPTIONS));
    scene.settings.clear();
    let second = scene.settings.publish(OPTIONS, json!([{"id": "a"}, {"id": "b"}]));
    let replies =
        client::at_once(30, |_| changeset(&daemon, OPTIONS, &format!("_expected={second}&_since={first}")));
    for reply in replies {
        assert_eq!(ids(&reply), ["b"]);
    }
    assert_eq!(scene.settings.count("/changes/changeset"), 1, "{:?}", scene.settings.requests());
    assert_eq!(scene.settings.count(OPTIONS), 1, "{:?}", scene.settings.requests());
    // A moment that does not exist is asked for once, and then not again and again.
    let far = second + 1_000_000;
    for _ in 0..3 {
        let told = changeset(&daemon, OPTIONS, &format!("_expected={far}&_since={second}"));
        assert_eq!((told.status, body(&told)["timestamp"].as_u64()), (200, Some(second)));
    }
    assert_eq!(scene.settings.count("/changes/changeset"), 2, "{:?}", scene.settings.requests());
}

/// Publishes a second state under a fault: it is not taken over, and the first stays.
fn refused(fault: impl FnOnce(&Scene, u64) -> Option<SettingsFault>, why: &str) {
    let scene = Scene::new();
    let first = scene.settings.publish(OPTIONS, records(1));
    let daemon = scene.quiet().start();
    eventually(|| held(&daemon, OPTIONS));
    let before = changeset(&daemon, OPTIONS, "_expected=0");
    if let Some(fault) = fault(&scene, first) {
        scene.settings.fault(fault);
    }
    assert_eq!(sync(&daemon), Some(65), "{why}");
    let one = collection(&daemon, OPTIONS);
    assert_eq!(
        (one["timestamp"].as_u64(), one["signed"].as_str()),
        (Some(first), Some("good")),
        "{why}: {one}"
    );
    assert!(one["trouble"].as_str().is_some_and(|t| t.contains(why)), "{why}: {one}");
    assert_eq!(changeset(&daemon, OPTIONS, "_expected=0").body, before.body, "{why}");
    daemon.wait_for_log("main/ml-inference-options");
    // Nothing was announced by it.
    let history = daemon.command(&["history", "--json"]);
    assert_eq!(serde_json::from_slice::<Value>(&history.stdout).unwrap(), json!([]), "{why}");
    // When the server behaves again, it is taken over.
    scene.settings.behave();
    scene.settings.use_chain(Chain::default());
    let good = scene.settings.publish(OPTIONS, records(3));
    assert_eq!(sync(&daemon), Some(0), "{why}");
    assert_eq!(held(&daemon, OPTIONS), Some(good), "{why}");
}

fn under(chain: Chain) -> impl FnOnce(&Scene, u64) -> Option<SettingsFault> {
    move |scene, _| {
        scene.settings.use_chain(chain);
        scene.settings.publish(OPTIONS, records(2));
        None
    }
}

fn with(fault: SettingsFault) -> impl FnOnce(&Scene, u64) -> Option<SettingsFault> {
    move |scene, _| {
        scene.settings.publish(OPTIONS, records(2));
        Some(fault)
    }
}

#[test]
fn a_wrong_signature_is_refused() {
    refused(with(SettingsFault::WrongSignature { collection: OPTIONS.into(), times: None }), "other records");
}

#[test]
fn an_expired_leaf_is_refused() {
    let now = SystemTime::now();
    refused(under(Chain { not_before: now - 3 * DAY, not_after: now - DAY, ..Chain::default() }), "not good");
}

#[test]
fn a_leaf_that_is_not_valid_yet_is_refused() {
    let now = SystemTime::now();
    refused(under(Chain { not_before: now + DAY, not_after: now + 3 * DAY, ..Chain::default() }), "not good");
}

#[test]
fn another_signer_is_refused() {
    refused(
        under(Chain { name: "onecrl.content-signature.mozilla.org".into(), ..Chain::default() }),
        "is not for",
    );
}

#[test]
fn a_leaf_that_is_not_for_the_signing_of_code_is_refused() {
    refused(under(Chain { code_signing: false, ..Chain::default() }), "not good");
}

#[test]
fn a_truncated_chain_is_refused() {
    refused(under(Chain { truncated: true, ..Chain::default() }), "no root that is trusted");
}

#[test]
fn a_chain_under_another_root_is_refused() {
    refused(under(Chain { foreign: true, ..Chain::default() }), "no root that is trusted");
}

#[test]
fn a_page_in_place_of_a_collection_is_refused() {
    refused(with(SettingsFault::Html { on: format!("{OPTIONS}/changeset") }), "not JSON");
}

#[test]
fn an_empty_collection_that_is_not_signed_is_refused() {
    refused(with(SettingsFault::EmptyUnsigned { collection: OPTIONS.into() }), "other records");
}

#[test]
fn an_older_state_that_is_signed_is_refused_as_a_replay() {
    let scene = Scene::new();
    let first = scene.settings.publish(OPTIONS, records(1));
    let second = scene.settings.publish(OPTIONS, records(2));
    let daemon = scene.quiet().start();
    eventually(|| held(&daemon, OPTIONS).filter(|at| *at == second));
    scene.settings.fault(SettingsFault::Replay { collection: OPTIONS.into(), timestamp: first });
    assert_eq!(sync(&daemon), Some(65));
    assert_eq!(held(&daemon, OPTIONS), Some(second));
    let trouble = collection(&daemon, OPTIONS)["trouble"].clone();
    assert!(trouble.as_str().unwrap().contains("a replay"), "{trouble}");
    assert!(daemon.metric("hubcache_settings_bad_signatures_total", &[]) >= 1.0);
    let third = scene.settings.publish(OPTIONS, records(3));
    scene.settings.behave();
    assert_eq!(sync(&daemon), Some(0));
    assert_eq!(held(&daemon, OPTIONS), Some(third));
}

#[test]
fn an_empty_collection_that_is_signed_is_taken_over() {
    let scene = Scene::new();
    scene.settings.publish(OPTIONS, records(1));
    let daemon = scene.quiet().start();
    eventually(|| held(&daemon, OPTIONS));
    scene.settings.publish(OPTIONS, json!([]));
    assert_eq!(sync(&daemon), Some(0));
    assert_eq!(ids(&changeset(&daemon, OPTIONS, "_expected=0")), Vec::<String>::new());
}

#[test]
fn a_bad_signature_is_fetched_once_more_from_scratch() {
    let scene = Scene::new();
    scene.settings.publish(OPTIONS, records(1));
    let daemon = scene.quiet().start();
    eventually(|| held(&daemon, OPTIONS));
    let second = scene.settings.publish(OPTIONS, records(2));
    scene.settings.fault(SettingsFault::WrongSignature { collection: OPTIONS.into(), times: Some(1) });
    scene.settings.clear();
    assert_eq!(sync(&daemon), Some(0));
    assert_eq!(held(&daemon, OPTIONS), Some(second));
    let asked: Vec<_> = scene.settings.requests().into_iter().filter(|r| r.contains(OPTIONS)).collect();
    assert!(asked.len() == 2 && asked[0].contains("_since") && !asked[1].contains("_since"), "{asked:?}");
    scene.settings.fault(SettingsFault::WrongSignature { collection: OPTIONS.into(), times: None });
    scene.settings.publish(OPTIONS, records(3));
    assert_eq!(sync(&daemon), Some(65));
    assert!(daemon.metric("hubcache_settings_bad_signatures_total", &[]) >= 1.0);
}

#[test]
fn records_in_any_order_and_a_moment_too_long_ago_are_no_trouble() {
    let scene = Scene::new();
    scene.settings.publish(OPTIONS, records(1));
    let daemon = scene.quiet().start();
    eventually(|| held(&daemon, OPTIONS));
    for (n, fault) in [
        (2, SettingsFault::Unsorted { collection: OPTIONS.into() }),
        (3, SettingsFault::SinceTooOld { collection: OPTIONS.into() }),
    ] {
        scene.settings.fault(fault);
        let moment = scene.settings.publish(OPTIONS, records(n));
        assert_eq!(sync(&daemon), Some(0));
        assert_eq!(held(&daemon, OPTIONS), Some(moment));
        scene.settings.behave();
    }
    // What was deleted while only the whole was to be had is a tombstone for clients all the same.
    let before = held(&daemon, OPTIONS).unwrap();
    scene.settings.fault(SettingsFault::SinceTooOld { collection: OPTIONS.into() });
    scene.settings.publish(OPTIONS, json!([{"id": "c"}]));
    assert_eq!(sync(&daemon), Some(0));
    assert_eq!(ids(&changeset(&daemon, OPTIONS, &format!("_expected=0&_since={before}"))), ["-a", "-b", "c"]);
}

#[test]
fn a_server_that_asks_to_be_left_alone_is() {
    for fault in [
        SettingsFault::Backoff(3600),
        SettingsFault::Status {
            on: "changes".into(),
            status: 503,
            headers: vec![("Retry-After".into(), "3600".into())],
            times: None,
        },
    ] {
        let scene = Scene::new();
        scene.settings.publish(OPTIONS, records(1));
        let daemon = scene.builder().start();
        eventually(|| held(&daemon, OPTIONS));
        scene.settings.fault(fault);
        eventually(|| status(&daemon)["left_alone_until"].as_str().map(str::to_owned));
        std::thread::sleep(Duration::from_millis(200));
        scene.settings.clear();
        assert_eq!(sync(&daemon), Some(75), "an operator cannot overrule it");
        changeset(&daemon, OPTIONS, "_expected=99999999999999");
        let trouble = status(&daemon)["trouble"].as_str().unwrap_or_default().to_owned();
        assert!(trouble.contains("left alone"), "{trouble}");
        // Clients that poll do with what was listed last.
        let list =
            get(&format!("{}/rs/v1/buckets/monitor/collections/changes/changeset?_expected=0", daemon.url()));
        assert_eq!(list.status, 200, "{}", list.text());
        assert_eq!(scene.settings.requests(), Vec::<String>::new());
    }
}

#[test]
fn a_wish_to_be_left_alone_on_every_answer_only_slows_polls_down() {
    let scene = Scene::new();
    scene.settings.fault(SettingsFault::Backoff(1));
    scene.settings.publish(OPTIONS, records(1));
    let daemon = scene.builder().start();
    eventually(|| held(&daemon, OPTIONS));
    let moment = scene.settings.publish(OPTIONS, records(2));
    eventually(|| held(&daemon, OPTIONS).filter(|at| *at == moment));
}

#[test]
fn one_collection_that_cannot_be_had_does_not_stop_the_others() {
    let scene = Scene::new();
    scene.settings.fault(SettingsFault::Status {
        on: format!("{OPTIONS}/changeset"),
        status: 500,
        headers: vec![],
        times: None,
    });
    scene.settings.publish(OPTIONS, records(1));
    let moment = scene.settings.publish(RUNTIME, json!([{"id": "x"}]));
    // The other comes behind it.
    let daemon = scene.builder().start();
    eventually(|| held(&daemon, RUNTIME).filter(|at| *at == moment));
    let trouble = collection(&daemon, OPTIONS)["trouble"].clone();
    assert!(trouble.as_str().unwrap().contains("500"), "{trouble}");
}

#[test]
fn a_signature_that_lasts_longer_replaces_the_one_held() {
    let scene = Scene::new();
    let now = SystemTime::now();
    // More than half of its life is over.
    scene.settings.use_chain(Chain { not_before: now - 3 * DAY, not_after: now + DAY, ..Chain::default() });
    let moment = scene.settings.publish(OPTIONS, records(1));
    let daemon = scene.quiet().start();
    eventually(|| held(&daemon, OPTIONS));
    let until = collection(&daemon, OPTIONS)["firefox_until"].clone();
    scene.settings.use_chain(Chain::default());
    scene.settings.resign(OPTIONS);
    scene.settings.clear();
    changeset(&daemon, OPTIONS, "_expected=1");
    assert_eq!(scene.settings.requests(), Vec::<String>::new(), "nothing has changed");
    // An operator has it asked for; by itself that is done every day, and every hour towards the end.
    assert_eq!(sync(&daemon), Some(0));
    assert_ne!(collection(&daemon, OPTIONS)["firefox_until"], until);
    let good = collection(&daemon, OPTIONS)["firefox_until"].clone();
    scene.settings.use_chain(Chain { not_after: now + DAY, ..Chain::default() });
    scene.settings.resign(OPTIONS);
    assert_eq!(sync(&daemon), Some(0));
    assert_eq!(collection(&daemon, OPTIONS)["firefox_until"], good, "one that lasts no longer does not");
    assert_eq!(held(&daemon, OPTIONS), Some(moment));
    let history = daemon.command(&["history", "--json"]);
    assert_eq!(serde_json::from_slice::<Value>(&history.stdout).unwrap(), json!([]), "no change of records");
}

#[test]
fn under_another_root_or_server_nothing_is_held() {
    let scene = Scene::new();
    scene.settings.publish(OPTIONS, records(1));
    let mut daemon = scene.quiet().start();
    let moment = eventually(|| held(&daemon, OPTIONS));
    let fingerprint = scene.settings.fingerprint();
    daemon.restart_with(&[("settings.root", &"ab".repeat(32))]);
    assert_eq!(sync(&daemon), Some(65));
    assert_eq!(collection(&daemon, OPTIONS)["signed"], "missing");
    assert_eq!(changeset(&daemon, OPTIONS, "_expected=0").status, 503);
    let other = ScriptedSettings::start();
    let other_moment = other.publish(OPTIONS, records(9));
    daemon.restart_with(&[("settings.root", &other.fingerprint()), ("settings.server", &other.url())]);
    eventually(|| held(&daemon, OPTIONS).filter(|at| *at == other_moment));
    scene.settings.stop();
    daemon.restart_with(&[("settings.root", &fingerprint), ("settings.server", &scene.settings.url())]);
    assert_eq!(held(&daemon, OPTIONS), Some(moment), "what was verified under these is there again");
}

#[test]
fn everything_is_served_offline() {
    let scene = Scene::new();
    scene.settings.publish(OPTIONS, records(1));
    let wasm = vec![7; 300_000];
    let attachment = scene.settings.attach(RUNTIME, "ort", "ort.wasm", &wasm);
    scene
        .settings
        .publish(RUNTIME, json!([{"id": "ort", "name": "ort", "version": "5.0", "attachment": attachment}]));
    scene.settings.publish_in("security-state", "onecrl", json!([{"id": "x"}]));
    scene.settings.startup(&[("main", OPTIONS)]);
    let mut daemon = scene.builder().start();
    eventually(|| held(&daemon, RUNTIME).and(held(&daemon, OPTIONS)));
    let location = attachment["location"].as_str().unwrap();
    eventually(|| {
        let files = daemon.command(&["ls", "settings:", "--json"]);
        serde_json::from_slice::<Value>(&files.stdout).unwrap().get(0).cloned()
    });
    let online = get(&format!("{}/rs/v1/", daemon.url()));
    let base = body(&online)["capabilities"]["attachments"]["base_url"].as_str().unwrap().to_owned();
    assert_eq!(base, format!("{}/rs/attachments/", daemon.url()));
    let bundle = get(&format!("{base}bundles/startup.json.mozlz4"));
    assert!(bundle.body.starts_with(b"mozLz40\0"), "{}", bundle.status);
    scene.settings.stop();
    daemon.restart_with(&[("upstream.offline", "true")]);
    get(&format!("{}/rs/v1/", daemon.url())).assert_is(200, &online.body, "what the server is");
    get(&format!("{base}{location}")).assert_is(200, &wasm, "the attachment");
    get(&format!("{base}bundles/startup.json.mozlz4")).assert_is(200, &bundle.body, "the bundle");
    let part = client::get_range(&format!("{base}{location}"), "0-9");
    part.assert_is(206, &wasm[..10], "a part");
    let list =
        get(&format!("{}/rs/v1/buckets/monitor/collections/changes/changeset?_expected=0", daemon.url()));
    let names: Vec<_> =
        body(&list)["changes"].as_array().unwrap().iter().map(|c| c["collection"].clone()).collect();
    assert!(names.contains(&json!(OPTIONS)) && names.contains(&json!(RUNTIME)), "{names:?}");
    assert!(list.header("cache-status").unwrap().contains("stale"));
    assert_eq!(ids(&changeset(&daemon, OPTIONS, "_expected=0")), ["a", "b"]);
    assert_eq!(get(&format!("{base}no/such.wasm")).status, 403);
}

#[test]
fn the_list_has_watched_collections_whatever_a_client_has_seen() {
    let scene = Scene::new();
    let moment = scene.settings.publish(OPTIONS, records(1));
    let runtime = scene.settings.publish(RUNTIME, json!([{"id": "y"}]));
    let other = scene.settings.publish("cfr", json!([{"id": "x"}]));
    let daemon = scene.quiet().start();
    eventually(|| held(&daemon, OPTIONS).and(held(&daemon, RUNTIME)));
    let list = |query: &str| {
        let url = format!("{}/rs/v1/buckets/monitor/collections/changes/changeset?{query}", daemon.url());
        let reply = get(&url);
        let entry =
            |c: &Value| (c["collection"].as_str().unwrap().to_owned(), c["last_modified"].as_u64().unwrap());
        let mut entries: Vec<_> = body(&reply)["changes"].as_array().unwrap().iter().map(entry).collect();
        entries.sort();
        (entries, body(&reply)["timestamp"].as_u64().unwrap())
    };
    let ours = (OPTIONS.to_owned(), moment);
    let runtime = (RUNTIME.to_owned(), runtime);
    let theirs = ("cfr".to_owned(), other);
    assert_eq!(list("_expected=0"), (vec![theirs.clone(), ours.clone(), runtime.clone()], other));
    let ours_alone = vec![ours.clone(), runtime];
    assert_eq!(list(&format!("_expected=0&_since={other}")), (ours_alone, other));
    assert_eq!(list("_expected=0&bucket=main&collection=cfr"), (vec![theirs], other));
    assert_eq!(
        list(&format!("_expected=0&_since={other}&collection={OPTIONS}&bucket=main")),
        (vec![ours], other)
    );
}

#[test]
fn other_collections_are_handed_on_and_kept_for_bad_times() {
    let scene = Scene::new();
    scene.settings.publish("cfr", json!([{"id": "x"}]));
    scene.settings.publish_in("security-state", "intermediates", json!([{"id": "y"}]));
    let daemon = scene.quiet().start();
    let told = changeset(&daemon, "cfr", "_expected=0");
    assert_eq!((ids(&told), told.header("cache-status")), (vec!["x".into()], Some("hubcache; fwd=bypass")));
    let chain = body(&told)["metadata"]["signatures"][0]["x5u"].as_str().unwrap().to_owned();
    assert_eq!(get(&chain).status, 200);
    eventually(|| (status(&daemon)["others"] == 1).then_some(()));
    // What the server says is told, not what is kept.
    scene.settings.publish("cfr", json!([{"id": "x"}, {"id": "z"}]));
    assert_eq!(ids(&changeset(&daemon, "cfr", "_expected=0")), ["x", "z"]);
    eventually(|| (scene.settings.count("cfr/changeset") >= 4).then_some(()));
    let kept = || {
        scene.settings.stop();
        let told = changeset(&daemon, "cfr", "_expected=0");
        scene.settings.restart();
        (ids(&told) == ["x", "z"]).then_some(told)
    };
    let stale = eventually(kept);
    assert!(stale.header("cache-status").unwrap().contains("stale"));
    scene.settings.stop();
    let unknown = changeset(&daemon, "never-asked-for", "_expected=0");
    assert_eq!(unknown.status, 504, "{}", unknown.text());
    assert_eq!(get(&chain).status, 200);
}

#[test]
fn an_attachment_with_other_bytes_is_refused() {
    let scene = Scene::new();
    let wasm = vec![7; 50_000];
    let attachment = scene.settings.attach(RUNTIME, "ort", "ort.wasm", &wasm);
    let location = attachment["location"].as_str().unwrap().to_owned();
    scene.settings.corrupt_attachment(&location);
    scene.settings.publish(RUNTIME, json!([{"id": "ort", "attachment": attachment}]));
    let daemon = scene.builder().start();
    eventually(|| held(&daemon, RUNTIME));
    let url = format!("{}/rs/attachments/{location}", daemon.url());
    let firefox = "Mozilla/5.0 (X11; Linux x86_64; rv:153.0) Gecko/20100101 Firefox/153.0";
    let refused = client::Request::get(&url).header("User-Agent", firefox).send();
    assert_eq!(refused.status, 502, "{}", refused.text());
    let files = daemon.command(&["ls", "settings:", "--json"]);
    assert_eq!(serde_json::from_slice::<Value>(&files.stdout).unwrap(), json!([]));
    scene.settings.attach(RUNTIME, "ort", "ort.wasm", &wasm);
    get(&url).assert_is(200, &wasm, "right again");
}

#[test]
fn attachments_of_every_record_are_kept_and_those_of_none_let_go() {
    let scene = Scene::new();
    let record = |id: &str, bytes: &[u8]| json!({"id": id, "version": id, "attachment": scene.settings.attach(RUNTIME, id, "ort.wasm", bytes)});
    let (four, five) = (record("4.0", &[4; 5000]), record("5.0", &[5; 5000]));
    scene.settings.publish(RUNTIME, json!([four.clone(), five]));
    let daemon = scene.builder().set("settings.grace", "100ms").start();
    let files = || {
        let files = daemon.command(&["ls", "settings:", "--json"]);
        serde_json::from_slice::<Value>(&files.stdout).unwrap().as_array().unwrap().len()
    };
    eventually(|| (files() == 2).then_some(()));
    scene.settings.publish(RUNTIME, json!([four.clone(), record("6.0", &[6; 5000])]));
    eventually(|| (files() == 3).then_some(()));
    eventually(|| (files() == 2).then_some(()));
    let location = four["attachment"]["location"].as_str().unwrap();
    get(&format!("{}/rs/attachments/{location}", daemon.url())).assert_is(200, &[4; 5000], "still there");
}

#[test]
fn a_proxied_client_reaches_it_by_the_public_names() {
    let scene = Scene::new();
    scene.settings.publish(OPTIONS, records(1));
    let wasm = vec![9; 10_000];
    let attachment = scene.settings.attach(RUNTIME, "ort", "ort.wasm", &wasm);
    scene.settings.publish(RUNTIME, json!([{"id": "ort", "attachment": attachment}]));
    let daemon = scene.builder().arg("--intercept").start();
    eventually(|| held(&daemon, OPTIONS).and(held(&daemon, RUNTIME)));
    let ca = daemon.data().join("ca/ca.pem");
    let server = "firefox.settings.services.mozilla.com";
    let ask = |host: &str, path: &str| tls::get(daemon.listen(), host, path, "", &ca);
    let root: Value = serde_json::from_slice(&ask(server, "/v1/").body).unwrap();
    let base = root["capabilities"]["attachments"]["base_url"].as_str().unwrap();
    assert_eq!(base, "https://firefox-settings-attachments.cdn.mozilla.net/");
    let set = ask(server, &format!("/v1/buckets/main/collections/{OPTIONS}/changeset?_expected=0"));
    let set: Value = serde_json::from_slice(&set.body).unwrap();
    let chain = set["metadata"]["signatures"][0]["x5u"].as_str().unwrap();
    let path = chain.strip_prefix("https://content-signature-2.cdn.mozilla.net").unwrap();
    assert!(ask("content-signature-2.cdn.mozilla.net", path).text().contains("BEGIN CERTIFICATE"));
    let location = attachment["location"].as_str().unwrap();
    let file = ask("firefox-settings-attachments.cdn.mozilla.net", &format!("/{location}"));
    assert_eq!((file.status, file.body.len()), (200, wasm.len()));
    assert!(ask(server, "/").status == 400, "no version");
    // Off, its hosts are nothing to this server.
    let off = Daemon::builder().hub(&scene.hub).start();
    assert_eq!(get(&format!("{}/rs/v1/", off.url())).status, 404);
}

#[test]
fn a_server_that_does_not_answer_keeps_nobody_waiting_for_long() {
    let scene = Scene::new();
    scene.settings.publish(OPTIONS, records(1));
    // The server's own time to answer is longer than any client waits.
    let daemon = scene.quiet().set("upstream.head_timeout", "20s").start();
    let moment = eventually(|| held(&daemon, OPTIONS));
    scene.settings.fault(SettingsFault::Hang { on: "changeset".into() });
    let told = changeset(&daemon, OPTIONS, &format!("_expected={}", moment + 1));
    assert_eq!((told.status, body(&told)["timestamp"].as_u64()), (200, Some(moment)));
    let list =
        get(&format!("{}/rs/v1/buckets/monitor/collections/changes/changeset?_expected=0", daemon.url()));
    assert_eq!((list.status, body(&list)["changes"][0]["collection"].as_str()), (200, Some(OPTIONS)));
}
