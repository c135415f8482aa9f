//! What is known not to be there, for how long, and to whom.

use crate::support;
use support::client::{self, Reply, Request};
use support::daemon::Daemon;
use support::hub::{File, ScriptedHub};

struct Scene {
    hub: ScriptedHub,
    daemon: Daemon,
    commit: String,
}

impl Scene {
    fn start() -> Self {
        let hub = ScriptedHub::start();
        let files = [File::small("config.json", "{}"), File::lfs("onnx/model.onnx", "weights")];
        let commit = hub.hf("acme/tiny").commit(files);
        let daemon = Daemon::builder().hub(&hub).set("cache.ref_ttl", "1h").start();
        Self { hub, daemon, commit }
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.daemon.url())
    }
}

fn assert_absent(reply: &Reply, commit: &str, status: &str) {
    assert_eq!(reply.status, 404, "{}", reply.text());
    assert_eq!(reply.header("x-error-code"), Some("EntryNotFound"));
    assert_eq!(reply.header("x-error-message"), Some("Entry not found"));
    assert_eq!(reply.header("x-repo-commit"), Some(commit));
    assert_eq!(reply.header("cache-status"), Some(status));
}

const KNOWN: &str = "hubcache; hit; detail=absent";

#[test]
fn that_a_commit_has_no_such_file_is_learned_once_and_for_good() {
    let mut scene = Scene::start();
    let at_commit = scene.url(&format!("/acme/tiny/resolve/{}/tokenizer.model", scene.commit));
    let at_branch = scene.url("/acme/tiny/resolve/main/added_tokens.json");
    for url in [&at_commit, &at_branch] {
        for ask in [client::head, client::get] {
            assert_eq!(ask(url).status, 404);
        }
    }
    scene.hub.clear();
    scene.hub.stop();
    scene.daemon.restart();
    for url in [&at_commit, &at_branch] {
        for ask in [client::head, client::get] {
            assert_absent(&ask(url), &scene.commit, KNOWN);
        }
        assert_eq!(client::get(url).body, b"Entry not found");
    }
    assert!(scene.hub.requests().is_empty(), "{}", scene.hub.journal());
}

#[test]
fn a_file_learned_absent_at_a_branch_appears_when_the_branch_moves() {
    let mut scene = Scene::start();
    let url = scene.url("/acme/tiny/resolve/main/new.json");
    assert_absent(&client::get(&url), &scene.commit, "hubcache; detail=refused");
    scene.hub.hf("acme/tiny").commit([File::small("new.json", "here")]);
    assert_absent(&client::get(&url), &scene.commit, KNOWN);
    scene.daemon.restart_with(&[("cache.ref_ttl", "0s")]);
    assert_eq!(client::get(&scene.url("/acme/tiny/resolve/main/new.json")).body, b"here");
}

#[test]
fn what_the_list_of_all_files_lacks_is_absent_without_asking() {
    let scene = Scene::start();
    scene.hub.page_size(2);
    let mut next = Some(scene.url("/api/models/acme/tiny/tree/main?recursive=true&expand=false"));
    let first_only = scene.url(&format!("/acme/tiny/resolve/{}/vocab.txt", scene.commit));
    let mut pages = 0;
    while let Some(url) = next {
        let page = client::get(&url);
        next = page.header("link").map(|link| link[1..].split_once('>').unwrap().0.to_owned());
        pages += 1;
        if next.is_some() {
            // A part of the list proves nothing.
            let asked = scene.hub.requests().len();
            let url = scene.url(&format!("/acme/tiny/resolve/{}/missing-{pages}", scene.commit));
            assert_absent(&client::get(&url), &scene.commit, "hubcache; detail=refused");
            assert_eq!(scene.hub.requests().len(), asked + 1);
        }
    }
    assert_eq!(pages, 2);
    scene.hub.clear();
    assert_absent(&client::get(&first_only), &scene.commit, KNOWN);
    assert_absent(&client::head(&scene.url("/acme/tiny/resolve/main/onnx")), &scene.commit, KNOWN);
    let folder = client::get(&scene.url("/api/models/acme/tiny/tree/main/additional_chat_templates"));
    assert_eq!((folder.status, folder.header("cache-status")), (404, Some("hubcache; hit")));
    let message = "additional_chat_templates does not exist on \"main\"";
    assert_eq!(folder.header("x-error-message"), Some(message));
    assert_eq!(folder.header("x-error-code"), Some("EntryNotFound"));
    assert!(scene.hub.requests().is_empty(), "{}", scene.hub.journal());
    assert_eq!(client::get(&scene.url("/acme/tiny/resolve/main/config.json")).body, b"{}");
    let there = client::get(&scene.url("/api/models/acme/tiny/tree/main/onnx"));
    assert_eq!(there.status, 200, "{}", there.text());
}

#[test]
fn a_list_of_files_promises_what_they_hash_to() {
    let scene = Scene::start();
    client::get(&scene.url("/api/models/acme/tiny/tree/main?recursive=true"));
    client::get(&scene.url("/acme/tiny/resolve/main/config.json"));
    let shown = scene.daemon.command(&["show", "acme/tiny", "--json"]);
    let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(shown[0]["standing"], "verified", "{shown}");
}

#[test]
fn other_absences_are_remembered_for_moments_only() {
    let hub = ScriptedHub::start();
    hub.hf("acme/tiny").commit([File::small("config.json", "{}")]);
    let mut daemon = Daemon::builder().hub(&hub).set("cache.negative_ttl", "1h").start();
    let paths = [
        "/hub/mozilla/acme/m/v1.0/config.json",
        "/hub/mozilla/acme/m/main/config.json",
        "/acme/tiny/resolve/nosuch/config.json",
        "/api/models/acme/tiny/revision/nosuch",
    ];
    let ask = |daemon: &Daemon| {
        let replies = paths.map(|path| client::get(&format!("{}{path}", daemon.url())));
        replies.map(|r| (r.status, r.header("x-error-code").map(str::to_owned)))
    };
    let revision = || Some("RevisionNotFound".to_owned());
    let said = [(404, None), (404, None), (404, revision()), (404, revision())];
    assert_eq!(ask(&daemon), said);
    hub.clear();
    assert_eq!(ask(&daemon), said);
    assert!(hub.requests().is_empty(), "{}", hub.journal());
    // Whoever insists is not fobbed off.
    let url = format!("{}{}", daemon.url(), paths[2]);
    assert_eq!(Request::get(&url).header("Cache-Control", "no-cache").send().status, 404);
    assert_eq!(hub.requests().len(), 1);
    hub.moz("acme/m", "v1.0", "config.json", "copied later");
    daemon.restart_with(&[("cache.negative_ttl", "1ms")]);
    let late = client::get(&format!("{}{}", daemon.url(), paths[0]));
    assert_eq!(late.body, b"copied later");
}

#[test]
fn what_depends_on_the_caller_is_never_remembered() {
    let hub = ScriptedHub::start();
    hub.hf("acme/guarded").commit([File::small("config.json", "{}")]);
    hub.hf("acme/guarded").gated(&["hf_reader"]);
    hub.hf("acme/hidden").commit([File::small("config.json", "{}")]);
    hub.hf("acme/hidden").private(&["hf_reader"]);
    hub.accept_token("hf_stranger");
    let daemon = Daemon::builder().hub(&hub).set("cache.negative_ttl", "1h").start();
    for repo in ["guarded", "hidden", "missing"] {
        for path in ["resolve/main/config.json", "resolve/main/nosuch"] {
            let url = format!("{}/acme/{repo}/{path}", daemon.url());
            for _ in 0..2 {
                hub.clear();
                assert_eq!(client::get(&url).status, 401, "{url}");
                assert_eq!(hub.requests().len(), 1, "{}", hub.journal());
                let there = repo != "missing" && path.ends_with("config.json");
                let reader = Request::get(&url).token("hf_reader").send();
                assert_eq!(reader.status, if there { 200 } else { 404 }, "{url}");
                let stranger = Request::get(&url).token("hf_stranger").send();
                assert!([403, 404].contains(&stranger.status), "{url}: {}", stranger.status);
            }
        }
    }
}
