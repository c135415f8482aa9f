//! Questions to the Hub's API: asked once, of one commit in one load, and answered without the hub where it said all.

use crate::support;
use serde_json::Value;
use support::client::{self, Reply, Request};
use support::daemon::Daemon;
use support::hub::{File, ScriptedHub};

const REPO: &str = "/api/models/acme/tiny";

struct Scene {
    hub: ScriptedHub,
    daemon: Daemon,
    commit: String,
}

fn files(seed: &str) -> [File; 4] {
    [
        File::xet("model.bin", format!("weights {seed}")),
        File::small("config.json", format!("{{\"seed\": \"{seed}\"}}")),
        File::small("odd names/a b#c+d%é.txt", "odd"),
        File::small("empty", ""),
    ]
}

impl Scene {
    fn start(ttl: &str) -> Self {
        let hub = ScriptedHub::start();
        let commit = hub.hf("acme/tiny").commit(files("one"));
        let daemon = Daemon::builder().hub(&hub).set("cache.ref_ttl", ttl).start();
        Self { hub, daemon, commit }
    }

    fn get(&self, path: &str) -> Reply {
        client::get(&format!("{}{path}", self.daemon.url()))
    }

    /// The status, the commit that an answer names, and how it came about.
    fn sha(&self, path: &str) -> String {
        let reply = self.get(path);
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
        json(&reply)["sha"].as_str().unwrap().to_owned()
    }

    fn resolved(&self, path: &str) -> String {
        let reply = self.get(path);
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
        reply.header("x-repo-commit").unwrap().to_owned()
    }
}

fn json(reply: &Reply) -> Value {
    serde_json::from_slice(&reply.body).unwrap()
}

fn status_of(reply: &Reply) -> &str {
    reply.header("cache-status").expect("every answer has one")
}

#[test]
fn every_answer_is_asked_for_once() {
    let scene = Scene::start("1h");
    let commit = &scene.commit;
    scene.hub.hf("acme/tiny").branch("refs/pr/1", commit);
    let questions = [
        REPO.to_owned(),
        format!("{REPO}/revision/main?blobs=true"),
        format!("{REPO}/revision/refs%2Fpr%2F1"),
        format!("{REPO}/tree/main?recursive=true&expand=false"),
        format!("{REPO}/tree/{commit}/odd%20names"),
        format!("{REPO}/refs"),
        format!("{REPO}/commits/main"),
    ];
    for question in &questions {
        let first = scene.get(question);
        assert_eq!(first.status, 200, "{question}: {}", first.text());
        let direct = client::get(&format!("{}{question}", scene.hub.url()));
        let mut said = json(&direct);
        without_xet(&mut said);
        assert_eq!(json(&first), said, "{question}");
    }
    scene.hub.clear();
    for question in &questions {
        let again = scene.get(question);
        assert_eq!((again.status, status_of(&again)), (200, "hubcache; hit"), "{question}");
        assert!(again.header("age").is_some() && again.header("etag").is_some(), "{question}");
    }
    assert!(scene.hub.requests().is_empty(), "{}", scene.hub.journal());
}

fn without_xet(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.remove("xetHash");
            members.remove("xetEnabled");
            members.values_mut().for_each(without_xet);
        }
        Value::Array(items) => items.iter_mut().for_each(without_xet),
        _ => {}
    }
}

#[test]
fn many_who_ask_at_once_cost_one_question() {
    let scene = Scene::start("1h");
    let gate = scene.hub.gate_head("GET", "/api/models/");
    let url = format!("{}{REPO}", scene.daemon.url());
    std::thread::scope(|scope| {
        let all = scope.spawn(|| client::at_once(8, |_| client::get(&url)));
        gate.reached();
        gate.release();
        assert!(all.join().unwrap().iter().all(|r| r.status == 200));
    });
    assert_eq!(scene.hub.requests().len(), 1, "{}", scene.hub.journal());
}

#[test]
fn paths_are_asked_for_as_a_form_or_as_json_and_kept_at_the_commit() {
    let scene = Scene::start("1h");
    let ask = |kind: &str, body: &str| {
        let url = format!("{}{REPO}/paths-info/main", scene.daemon.url());
        Request::new("POST", &url).header("Content-Type", kind).body(body.as_bytes()).send()
    };
    let form = ask("application/x-www-form-urlencoded", "paths=config.json&paths=empty&expand=False");
    assert_eq!(form.status, 200, "{}", form.text());
    assert_eq!(json(&form).as_array().unwrap().len(), 2);
    scene.hub.clear();
    let same = ask("application/json", r#"{"paths": ["config.json", "empty"], "expand": false}"#);
    assert_eq!((same.status, &same.body, status_of(&same)), (200, &form.body, "hubcache; hit"));
    assert!(scene.hub.requests().is_empty(), "{}", scene.hub.journal());
    let other = ask("application/json", r#"{"paths": ["empty"]}"#);
    assert_eq!(json(&other).as_array().unwrap().len(), 1);
    assert_eq!(scene.hub.requests().len(), 1, "{}", scene.hub.journal());
    let long = format!("paths={}", "x".repeat(2 << 20));
    assert_eq!(ask("application/x-www-form-urlencoded", &long).status, 413);
}

#[test]
fn a_load_is_of_one_commit_while_the_branch_moves_and_of_the_next_after_the_ttl() {
    let mut scene = Scene::start("1h");
    let old = scene.commit.clone();
    let tree = format!("{REPO}/tree/main?recursive=true");
    assert_eq!(scene.sha(REPO), old);
    let new = scene.hub.hf("acme/tiny").commit(files("two"));
    let listed = |scene: &Scene| json(&scene.get(&tree)).to_string();
    let before = listed(&scene);
    assert_eq!(scene.resolved("/acme/tiny/resolve/main/config.json"), old);
    assert_eq!(scene.resolved("/acme/tiny/resolve/main/model.bin"), old);
    assert_eq!(scene.sha(&format!("{REPO}/revision/main?blobs=true")), old);
    scene.daemon.restart_with(&[("cache.ref_ttl", "0s")]);
    assert_eq!(scene.sha(REPO), new);
    scene.daemon.restart_with(&[("cache.ref_ttl", "1h")]);
    assert_eq!(scene.resolved("/acme/tiny/resolve/main/config.json"), new);
    assert_ne!(listed(&scene), before);
}

#[test]
fn what_a_file_told_of_the_branch_holds_for_the_api() {
    let scene = Scene::start("1h");
    client::head(&format!("{}/acme/tiny/resolve/main/config.json", scene.daemon.url()));
    scene.hub.hf("acme/tiny").commit(files("two"));
    scene.hub.clear();
    assert_eq!(scene.sha(REPO), scene.commit);
    let asked: Vec<_> = scene.hub.requests().iter().map(|s| s.target.clone()).collect();
    assert_eq!(asked, [format!("{REPO}/revision/{}", scene.commit)]);
}

#[test]
fn a_due_revalidation_asks_with_the_hubs_own_tag() {
    let scene = Scene::start("0s");
    let first = scene.get(REPO);
    let again = scene.get(REPO);
    assert_eq!(first.body, again.body);
    assert_eq!(status_of(&again), "hubcache; fwd=stale; detail=revalidated");
    let asked = scene.hub.requests();
    assert_eq!(asked.len(), 2, "{}", scene.hub.journal());
    assert!(asked[1].header("if-none-match").is_some_and(|tag| Some(tag) != first.header("etag")));
}

#[test]
fn conditions_and_head_are_answered_here() {
    let scene = Scene::start("1h");
    let url = format!("{}{REPO}", scene.daemon.url());
    let full = client::get(&url);
    let tag = full.header("etag").unwrap();
    let unchanged = Request::get(&url).header("If-None-Match", tag).send();
    assert_eq!((unchanged.status, unchanged.body.len()), (304, 0));
    let head = client::head(&url);
    assert_eq!((head.status, head.header("etag")), (200, Some(tag)));
    assert_eq!(head.header("content-length"), Some(full.body.len().to_string().as_str()));
}

#[test]
fn pages_lead_back_here_and_stay_at_one_commit() {
    let scene = Scene::start("1h");
    scene.hub.page_size(2);
    for prefix in ["", "/hub/huggingface"] {
        let mut next = Some(format!("{}{prefix}{REPO}/tree/main?recursive=true", scene.daemon.url()));
        let mut paths = Vec::new();
        while let Some(url) = next {
            let page = client::get(&url);
            let items = json(&page);
            paths.extend(items.as_array().unwrap().iter().map(|i| i["path"].as_str().unwrap().to_owned()));
            next = page.header("link").map(|link| {
                let (target, rest) = link.strip_prefix('<').unwrap().split_once('>').unwrap();
                assert_eq!(rest, "; rel=\"next\"");
                assert!(target.starts_with(&format!("{}{prefix}/api/", scene.daemon.url())), "{link}");
                target.to_owned()
            });
            scene.hub.hf("acme/tiny").commit(files("moved in between"));
        }
        let all = ["config.json", "empty", "model.bin", "odd names", "odd names/a b#c+d%é.txt"];
        assert_eq!(paths, all);
    }
    assert_eq!(scene.hub.count("GET", "/tree/"), 3, "{}", scene.hub.journal());
}

#[test]
fn small_files_are_served_under_the_path_of_the_hubs_redirect() {
    let scene = Scene::start("1h");
    let path = format!("/api/resolve-cache/models/acme/tiny/{}/config.json", scene.commit);
    let with_query = format!("{path}?%2Facme%2Ftiny%2Fresolve%2Fmain%2Fconfig.json=&etag=%22x%22");
    for path in [&path, &with_query] {
        let reply = scene.get(path);
        assert_eq!((reply.status, reply.header("x-repo-commit")), (200, Some(scene.commit.as_str())));
    }
    assert_eq!(scene.hub.body_bytes("config.json"), 15, "{}", scene.hub.journal());
}

#[test]
fn a_caller_who_sees_more_is_asked_for_in_person_and_nothing_is_kept() {
    let hub = ScriptedHub::start();
    hub.hf("acme/hidden").commit(files("one"));
    hub.hf("acme/hidden").private(&["hf_reader"]);
    hub.accept_token("hf_stranger");
    let daemon = Daemon::builder().hub(&hub).set("cache.ref_ttl", "1h").start();
    for path in ["", "/revision/main", "/tree/main?recursive=true", "/refs"] {
        let url = format!("{}/api/models/acme/hidden{path}", daemon.url());
        for _ in 0..2 {
            let mine = Request::get(&url).token("hf_reader").send();
            assert_eq!(
                (mine.status, status_of(&mine)),
                (200, "hubcache; fwd=bypass; detail=private"),
                "{path}"
            );
            assert_eq!(client::get(&url).status, 401, "{path}");
            let stranger = Request::get(&url).token("hf_stranger").send();
            assert_eq!((stranger.status, stranger.header("x-error-code")), (404, Some("RepoNotFound")));
        }
    }
    // A token that the hub would not take opens nothing and closes nothing either.
    hub.hf("acme/open").commit(files("one"));
    let url = format!("{}/api/models/acme/open", daemon.url());
    assert_eq!(Request::get(&url).token("hf_nonsense").send().status, 200);
}

#[test]
fn what_is_not_known_to_be_the_same_for_all_passes_uncached() {
    let scene = Scene::start("1h");
    scene.hub.accept_token("hf_me");
    for path in [
        "/api/whoami-v2",
        "/api/agent-harnesses",
        &format!("{REPO}?unknown=1"),
        &format!("{REPO}/tree/main?recursive=perhaps"),
        "/api/models?search=tiny",
    ] {
        scene.hub.clear();
        for _ in 0..2 {
            let reply = Request::get(&format!("{}{path}", scene.daemon.url())).token("hf_me").send();
            assert_eq!(status_of(&reply), "hubcache; fwd=bypass", "{path}");
            let direct = Request::get(&format!("{}{path}", scene.hub.url())).token("hf_me").send();
            assert_eq!(reply.status, direct.status, "{path}");
            match serde_json::from_slice(&direct.body) {
                Ok(mut said) => {
                    without_xet(&mut said);
                    assert_eq!(json(&reply), said, "{path}");
                }
                Err(_) => assert_eq!(reply.body, direct.body, "{path}"),
            }
        }
        assert_eq!(scene.hub.requests().len(), 4, "{path}");
    }
}

#[test]
fn a_renamed_repository_is_found_and_asked_under_its_new_name_from_then_on() {
    let hub = ScriptedHub::start();
    let commit = hub.hf("acme/new").commit(files("one"));
    hub.rename("acme/old", "acme/new");
    let daemon = Daemon::builder().hub(&hub).set("cache.ref_ttl", "1h").start();
    let get = |path: &str| client::get(&format!("{}{path}", daemon.url()));
    let info = get("/api/models/acme/old");
    assert_eq!((info.status, json(&info)["sha"].as_str()), (200, Some(commit.as_str())));
    assert_eq!(hub.count("GET", "/acme/old"), 1, "{}", hub.journal());
    for path in ["/api/models/acme/old/tree/main", "/acme/old/resolve/main/config.json"] {
        assert_eq!(get(path).status, 200, "{path}");
    }
    assert_eq!(hub.count("", "/acme/old"), 1, "{}", hub.journal());
    hub.stop();
    for path in ["/api/models/acme/old", "/acme/old/resolve/main/config.json"] {
        assert_eq!(get(path).status, 200, "{path}");
    }
}
