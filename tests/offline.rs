//! Without a hub: stopped in mid-operation, or never there because the server is offline.

use crate::support;
use serde_json::Value;
use support::client::{self, Reply, Request};
use support::daemon::Daemon;
use support::hub::{File, ScriptedHub};

const INFO: &str = "/api/models/acme/tiny";
const TREE: &str = "/api/models/acme/tiny/tree/main?recursive=true";

struct Scene {
    hub: ScriptedHub,
    daemon: Daemon,
}

impl Scene {
    fn start() -> Self {
        let hub = ScriptedHub::start();
        let daemon = Daemon::builder().hub(&hub).set("cache.ref_ttl", "0s").start();
        Self { hub, daemon }
    }

    /// Commits files with one content each.
    fn commit(&self, paths: &[&str], content: &str) -> String {
        self.hub.hf("acme/tiny").commit(paths.iter().map(|path| File::small(path, content.to_owned())))
    }

    fn get(&self, path: &str) -> Reply {
        client::get(&format!("{}{path}", self.daemon.url()))
    }

    fn load(&self, paths: &[&str]) {
        for path in paths {
            let reply = self.get(&at_main(path));
            assert_eq!(reply.status, 200, "{path}: {}", reply.text());
        }
    }

    fn load_all(&self, paths: &[&str]) {
        for question in [INFO, TREE] {
            assert_eq!(self.get(question).status, 200);
        }
        self.load(paths);
    }

    /// The commit that everything agrees on.
    fn stands(&self, paths: &[&str]) -> String {
        let info: Value = serde_json::from_slice(&self.get(INFO).body).unwrap();
        let commit = info["sha"].as_str().unwrap().to_owned();
        for path in paths {
            let reply = self.get(&at_main(path));
            assert_eq!((reply.status, reply.header("x-repo-commit")), (200, Some(commit.as_str())), "{path}");
            let head = client::head(&format!("{}{}", self.daemon.url(), at_main(path)));
            assert_eq!((head.status, head.header("x-repo-commit")), (200, Some(commit.as_str())), "{path}");
        }
        commit
    }

    /// Goes on without a hub: first while it is down, then offline.
    fn alone(&mut self, check: impl Fn(&Self)) {
        self.hub.stop();
        check(self);
        self.daemon.restart_with(&[("upstream.offline", "true")]);
        check(self);
        self.daemon.restart_with(&[("upstream.offline", "false")]);
        self.hub.restart();
    }
}

fn at_main(path: &str) -> String {
    format!("/acme/tiny/resolve/main/{path}")
}

#[test]
fn what_was_loaded_is_there_with_all_that_was_said_of_it() {
    let mut scene = Scene::start();
    let commit = scene.commit(&["a", "b"], "one");
    scene.load_all(&["a", "b"]);
    let online = [INFO, TREE].map(|question| scene.get(question));
    let missing = scene.get(&at_main("nosuch"));
    assert_eq!(missing.status, 404);
    scene.alone(|scene| {
        assert_eq!(scene.stands(&["a", "b"]), commit);
        for (question, before) in [INFO, TREE].iter().zip(&online) {
            let now = scene.get(question);
            assert_eq!(
                (now.status, &now.body, now.header("etag")),
                (200, &before.body, before.header("etag"))
            );
            assert_eq!(now.header("cache-status"), Some("hubcache; hit; detail=stale"));
        }
        let absent = scene.get(&at_main("nosuch"));
        assert_eq!((absent.status, absent.header("x-error-code")), (404, Some("EntryNotFound")));
        assert_eq!(absent.header("x-repo-commit"), Some(commit.as_str()));
        let pinned = scene.get(&format!("/acme/tiny/resolve/{commit}/a"));
        assert_eq!((pinned.status, pinned.header("cache-status")), (200, Some("hubcache; hit")));
    });
}

#[test]
fn a_branch_that_was_hardly_loaded_stands_where_everything_is_here() {
    let mut scene = Scene::start();
    let old = scene.commit(&["a", "b", "dropped"], "one");
    scene.load_all(&["a", "b", "dropped"]);
    let new = scene.commit(&["a", "b", "added"], "two");
    // The move is known, and one of three files is here.
    scene.load_all(&["a"]);
    scene.alone(|scene| assert_eq!(scene.stands(&["a", "b", "dropped"]), old));
    // Nothing is missing any more: what was dropped is known to be absent.
    scene.load_all(&["b"]);
    scene.alone(|scene| {
        assert_eq!(scene.stands(&["a", "b"]), new);
        assert_eq!(scene.get(&at_main("dropped")).status, 404);
        let text = scene.get(&at_main("added")).status;
        assert!([403, 504].contains(&text), "{text}");
    });
}

/// Python clients ask for no bytes of a file that is empty, or that they have from another commit.
#[test]
fn what_clients_only_ask_about_is_here_where_that_costs_nothing() {
    let mut scene = Scene::start();
    scene.commit(&["a", "b"], "same");
    scene.load(&["a", "b"]);
    let files = [("a", "same"), ("b", "same"), ("empty", ""), ("large", "never fetched")];
    let new = scene.hub.hf("acme/tiny").commit(files.map(|(path, text)| File::small(path, text)));
    scene.hub.clear();
    for path in ["a", "b", "empty", "large"] {
        assert_eq!(client::head(&format!("{}{}", scene.daemon.url(), at_main(path))).status, 200);
    }
    assert_eq!(scene.get(INFO).status, 200);
    for path in ["a", "b", "empty"] {
        scene.daemon.wait_for_log(&format!("file=huggingface:acme/tiny@{new}/{path}"));
    }
    assert_eq!(scene.hub.body_bytes(""), 0, "{}", scene.hub.journal());
    scene.alone(|scene| {
        assert_eq!(scene.stands(&["a", "b", "empty"]), new);
        assert_eq!(scene.get(&at_main("empty")).body, b"");
        assert_ne!(scene.get(&at_main("large")).status, 200);
    });
}

#[test]
fn of_files_with_the_same_bytes_one_download_brings_all_that_were_asked_about() {
    let mut scene = Scene::start();
    let commit = scene.commit(&["a", "copies/a", "copies/b"], "the same bytes");
    let url = |path: &str| format!("{}/acme/tiny/resolve/{commit}/{path}", scene.daemon.url());
    for path in ["a", "copies/a"] {
        assert_eq!(client::head(&url(path)).status, 200);
    }
    assert_eq!(client::get(&url("a")).status, 200);
    scene.daemon.wait_for_log(&format!("file=huggingface:acme/tiny@{commit}/copies/a"));
    assert_eq!(scene.hub.body_bytes(""), 14, "{}", scene.hub.journal());
    scene.alone(|scene| {
        let get = |path: &str| scene.get(&format!("/acme/tiny/resolve/{commit}/{path}"));
        assert_eq!((get("copies/a").status, get("a").status), (200, 200));
        assert_ne!(get("copies/b").status, 200, "nobody asked about it");
    });
}

#[test]
fn what_is_not_here_is_refused_with_the_way_to_bring_it() {
    let hub = ScriptedHub::start();
    hub.hf("acme/tiny").commit([File::small("config.json", "{}"), File::small("ü'$(x).txt", "{}")]);
    let daemon = Daemon::builder().hub(&hub).arg("--offline").start();
    for path in [
        "/acme/tiny/resolve/main/config.json",
        "/acme/tiny/resolve/main/%C3%BC'$(x).txt",
        "/api/models/acme/tiny",
        "/api/models/acme/tiny/tree/main?recursive=true",
        "/hub/mozilla/acme/tiny/v1.0/config.json",
    ] {
        let url = format!("{}{path}", daemon.url());
        let reply = client::get(&url);
        assert_eq!(reply.status, 403, "{path}");
        assert_eq!(reply.header("x-error-code"), None, "never taken for the hub's word");
        assert_eq!(reply.header("cache-status"), Some("hubcache; detail=offline"));
        let said = reply.header("x-error-message").unwrap();
        let remedy = format!("curl -fsS -o /dev/null '{}'", url.replace('\'', "%27"));
        assert!(said.contains(&remedy), "{said}");
        assert!(said.contains("acme/tiny") && said.contains("offline"), "{said}");
        assert!(reply.text().contains(&remedy), "{}", reply.text());
        assert_eq!(client::head(&url).status, 403);
    }
    // A list of paths is asked for with a body, and so is the command.
    let paths = Request::new("POST", &format!("{}/api/models/acme/tiny/paths-info/main", daemon.url()))
        .header("Content-Type", "application/x-www-form-urlencoded")
        .body(b"paths=it%27s&paths=b")
        .send();
    let said = paths.header("x-error-message").unwrap();
    assert!(said.contains(r#"-d '{"expand":false,"paths":["it\u0027s","b"]}' 'http://"#), "{said}");
    for (method, path) in [("GET", "/api/whoami-v2"), ("PUT", "/x"), ("POST", "/api/models/a/b/commit/main")]
    {
        let reply = Request::new(method, &format!("{}{path}", daemon.url())).body(b"x").send();
        assert_eq!((reply.status, reply.header("cache-status")), (403, Some("hubcache; detail=offline")));
    }
    assert!(hub.requests().is_empty(), "{}", hub.journal());
}

#[test]
fn offline_is_a_flag_a_variable_and_a_line_of_a_file() {
    let hub = ScriptedHub::start();
    hub.hf("acme/tiny").commit([File::small("config.json", "{}")]);
    let starts = [
        Daemon::builder().hub(&hub).arg("--offline"),
        Daemon::builder().hub(&hub).arg("--offline=true"),
        Daemon::builder().hub(&hub).env("HUBCACHE_OFFLINE", "1"),
        Daemon::builder().hub(&hub).set("upstream.offline", "true"),
    ];
    for start in starts {
        let daemon = start.start();
        assert_eq!(client::get(&format!("{}{}", daemon.url(), at_main("config.json"))).status, 403);
    }
    let daemon = Daemon::builder().hub(&hub).env("HUBCACHE_OFFLINE", "1").arg("--offline=false").start();
    assert_eq!(client::get(&format!("{}{}", daemon.url(), at_main("config.json"))).status, 200);
}
