//! A frozen server: exactly what a lock file names, with no hub.

use std::fs;
use std::path::PathBuf;

use crate::support;
use serde_json::{Value, json};
use support::client::{self, Reply, Request, get};
use support::daemon::{Builder, Daemon};
use support::eventually;
use support::hub::{File, ScriptedHub};

/// A hub whose model is locked and held; `README.md` of it is left out.
struct Scene {
    hub: ScriptedHub,
    folder: tempfile::TempDir,
    daemon: Daemon,
    commit: String,
}

fn weights() -> Vec<u8> {
    (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect()
}

impl Scene {
    /// Locks and fetches everything, and then serves it frozen, while the hub has moved on.
    fn frozen() -> Self {
        let mut scene = Self::held();
        scene.hub.hf("acme/tiny").commit([File::small("config.json", "{\"new\": 1}")]);
        scene.freeze();
        scene
    }

    fn held() -> Self {
        let hub = ScriptedHub::start();
        let commit = hub.hf("acme/tiny").commit([
            File::small("config.json", "{}"),
            File::small("README.md", "read me"),
            File::small("docs/more.md", "more"),
            File::lfs("onnx/model.onnx", weights()),
        ]);
        hub.moz("acme/small", "v1.0", "config.json", "{}");
        let builder: Builder = Daemon::builder().hub(&hub);
        let daemon = builder.start();
        let scene = Self { hub, folder: tempfile::tempdir().unwrap(), daemon, commit };
        for arguments in [
            &["lock", "add", "hf:acme/tiny", "--exclude", "*.md"][..],
            &["lock", "add", "moz:acme/small@v1.0", "--file", "config.json"],
            &["preload"],
        ] {
            let path = scene.path("hubcache.lock");
            let output = scene.daemon.command(&[arguments, &["--lock", path.to_str().unwrap()]].concat());
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        scene
    }

    fn freeze(&mut self) {
        let (lock, report) = (self.path("hubcache.lock"), self.path("missing.txt"));
        self.hub.clear();
        self.daemon.restart_with(&[
            ("upstream.frozen", "true"),
            ("upstream.lock", lock.to_str().unwrap()),
            ("upstream.missing_report", report.to_str().unwrap()),
        ]);
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.daemon.url())
    }

    fn get(&self, path: &str) -> Reply {
        get(&self.url(path))
    }

    fn json(&self, path: &str) -> Value {
        let reply = self.get(path);
        assert_eq!(
            (reply.status, reply.header("x-repo-commit")),
            (200, Some(self.commit.as_str())),
            "{path}"
        );
        serde_json::from_slice(&reply.body).unwrap()
    }

    /// That something is refused in a way that no client takes for an absent file or tries again; what is said.
    fn refused(&self, path: &str) -> String {
        let reply = self.get(path);
        assert_eq!((reply.status, reply.header("x-error-code")), (403, None), "{path}: {}", reply.text());
        assert_eq!(reply.header("cache-status"), Some("hubcache; detail=unpinned"), "{path}");
        assert_eq!(client::head(&self.url(path)).status, 403, "{path}");
        reply.header("x-error-message").unwrap().to_owned()
    }
}

fn names(tree: &Value) -> Vec<&str> {
    tree.as_array().unwrap().iter().map(|item| item["path"].as_str().unwrap()).collect()
}

#[test]
fn a_branch_is_the_locked_commit_whatever_the_hub_says_now() {
    let scene = Scene::frozen();
    for revision in ["main", &scene.commit] {
        let config = scene.get(&format!("/acme/tiny/resolve/{revision}/config.json"));
        config.assert_is(200, b"{}", revision);
        assert_eq!(config.header("x-repo-commit"), Some(scene.commit.as_str()));
        let model = format!("/acme/tiny/resolve/{revision}/onnx/model.onnx");
        scene.get(&model).assert_is(200, &weights(), revision);
        let head = client::head(&scene.url(&model));
        assert_eq!((head.status, head.header("content-length")), (200, Some("12000000")));
        let part = Request::new("GET", &scene.url(&model)).header("Range", "bytes=8-15").send();
        part.assert_is(206, &weights()[8..16], revision);
        assert_eq!(
            scene.json(&format!("/api/models/acme/tiny/revision/{revision}"))["sha"],
            json!(scene.commit)
        );
    }
    scene.get("/acme/small/v1.0/config.json").assert_is(200, b"{}", "the hub of Firefox");
    assert!(scene.hub.requests().is_empty(), "{}", scene.hub.journal());
}

#[test]
fn the_api_lists_what_is_pinned_and_nothing_else() {
    let scene = Scene::frozen();
    let info = scene.json("/api/models/acme/tiny?blobs=true");
    let siblings: Vec<&Value> =
        info["siblings"].as_array().unwrap().iter().map(|s| &s["rfilename"]).collect();
    assert_eq!(siblings, ["config.json", "onnx/model.onnx"]);
    let tree = scene.json("/api/models/acme/tiny/tree/main?recursive=true");
    assert_eq!(names(&tree), ["onnx", "config.json", "onnx/model.onnx"]);
    assert_eq!(tree[1]["oid"], "9e26dfeeb6e641a33dae4961196235bdb965b21b", "as git has it");
    assert_eq!(tree[2]["lfs"]["size"], 12_000_000);
    assert_eq!(names(&scene.json("/api/models/acme/tiny/tree/main/onnx")), ["onnx/model.onnx"]);
    let paths = Request::new("POST", &scene.url("/api/models/acme/tiny/paths-info/main"))
        .header("Content-Type", "application/json")
        .body(br#"{"paths": ["onnx", "config.json", "gone"]}"#)
        .send();
    assert_eq!(names(&serde_json::from_slice(&paths.body).unwrap()), ["onnx", "config.json"]);
    let refs: Value = serde_json::from_slice(&scene.get("/api/models/acme/tiny/refs").body).unwrap();
    assert_eq!(refs["branches"][0]["targetCommit"], json!(scene.commit));
    assert!(scene.hub.requests().is_empty(), "{}", scene.hub.journal());
}

#[test]
fn what_the_commit_does_not_have_is_absent_and_no_lack() {
    let mut scene = Scene::frozen();
    for path in ["/acme/tiny/resolve/main/adapter_config.json", "/api/models/acme/tiny/tree/main/additional"]
    {
        let reply = scene.get(path);
        assert_eq!((reply.status, reply.header("x-error-code")), (404, Some("EntryNotFound")), "{path}");
        assert_eq!(reply.header("x-repo-commit"), Some(scene.commit.as_str()));
    }
    assert!(scene.daemon.terminate().success());
    assert_eq!(fs::read_to_string(scene.path("missing.txt")).unwrap(), "");
}

#[test]
fn what_is_left_out_is_refused_with_the_command_that_adds_it_and_listed_at_the_end() {
    let mut scene = Scene::frozen();
    let lock = scene.path("hubcache.lock").display().to_string();
    let said = scene.refused("/acme/tiny/resolve/main/README.md");
    assert!(said.contains("hf:acme/tiny@main/README.md is left out of the lock file"), "{said}");
    assert!(said.contains(&format!("`hubcache lock add hf:acme/tiny@main --lock {lock} --data ")), "{said}");
    // Whatever is asked for, what is told and remembered of it is short.
    let long = format!("/hub/mozilla/acme/small/v1.0/{}", "'".repeat(3_000));
    assert!(scene.refused(&long).len() < 4096);
    let said = scene.refused("/acme/small/v1.0/tokenizer.json");
    let command = "`hubcache lock add moz:acme/small@v1.0 --file config.json --file tokenizer.json --lock ";
    assert!(said.contains(command), "{said}");
    for path in [
        "/acme/other/resolve/main/config.json",
        "/api/models/acme/other",
        "/acme/tiny/resolve/v2/config.json",
    ] {
        let said = scene.refused(path);
        assert!(said.contains("of a model that the lock file does not have"), "{said}");
    }
    let paths = Request::new("POST", &scene.url("/api/models/acme/tiny/paths-info/main"))
        .header("Content-Type", "application/json")
        .body(br#"{"paths": ["docs"]}"#)
        .send();
    assert_eq!(paths.status, 403, "left out is not absent: {}", paths.text());
    // A request is counted when its response has ended.
    let counted = || scene.daemon.metric("hubcache_requests_total", &[("result", "unpinned")]) >= 13.0;
    eventually(|| counted().then_some(()));
    let explained = scene.daemon.command(&["explain", &scene.url("/acme/tiny/resolve/main/README.md")]);
    let explained = String::from_utf8(explained.stdout).unwrap();
    assert!(explained.contains("403") && explained.contains("left out of the lock file"), "{explained}");
    scene.daemon.wait_for_log("README.md");
    assert!(scene.hub.requests().is_empty(), "{}", scene.hub.journal());

    assert!(scene.daemon.terminate().success());
    let report = fs::read_to_string(scene.path("missing.txt")).unwrap();
    let lines: Vec<Vec<&str>> = report.lines().map(|line| line.split('\t').collect()).collect();
    let whats: Vec<&str> = lines.iter().map(|line| line[0]).filter(|what| !what.contains('\'')).collect();
    assert_eq!(
        whats,
        [
            "hf:acme/other@main info",
            "hf:acme/other@main/config.json",
            "hf:acme/tiny@main/README.md",
            "hf:acme/tiny@main/docs/more.md",
            "hf:acme/tiny@v2/config.json",
            "moz:acme/small@v1.0/tokenizer.json"
        ],
        "{report}"
    );
    assert_eq!(lines[2][1], "2", "GET and HEAD: {report}");
}

#[test]
fn a_byte_that_changed_on_the_disk_reaches_nobody() {
    let mut scene = Scene::held();
    assert!(scene.daemon.terminate().success());
    let volume = scene.daemon.data().join("volumes").join("blobs-0001.redb");
    let mut content = fs::read(&volume).unwrap();
    let needle = &weights()[400_000..400_064];
    let at =
        content.windows(needle.len()).position(|window| window == needle).expect("the bytes lie as they are");
    content[at] ^= 1;
    fs::write(&volume, content).unwrap();
    let model = "/acme/tiny/resolve/main/onnx/model.onnx";
    let refused = |reply: &Reply| {
        assert_eq!(reply.status, 403, "{}", reply.text());
        assert!(reply.text().contains("onnx/model.onnx has other bytes on the disk"), "{}", reply.text());
    };
    // Until the verdict it is delivered like a fill, and that never ends cleanly.
    scene.freeze();
    for reply in client::at_once(4, |_| scene.get(model)) {
        match reply.status {
            200 => assert!(!reply.is_whole() && reply.body.len() < weights().len(), "{}", reply.body.len()),
            _ => refused(&reply),
        }
    }
    refused(&scene.get(model));
    refused(&Request::get(&scene.url(model)).range("0-7").send());
    // A part may end before the verdict, and Firefox cannot cope with a body that breaks: both wait for it.
    scene.daemon.restart();
    refused(&Request::get(&scene.url(model)).range("0-7").send());
    scene.daemon.restart();
    refused(
        &Request::get(&scene.url(model))
            .header("User-Agent", "Mozilla/5.0 Gecko/20100101 Firefox/153.0")
            .send(),
    );
    scene.get("/acme/tiny/resolve/main/config.json").assert_is(200, b"{}", "the others are served");
}

#[test]
fn the_first_body_is_whole_and_comes_while_its_bytes_are_checked() {
    let mut scene = Scene::frozen();
    let model = "/acme/tiny/resolve/main/onnx/model.onnx";
    for reply in client::at_once(4, |_| scene.get(model)) {
        reply.assert_is(200, &weights(), "at first use");
        assert!(reply.is_whole());
    }
    scene.daemon.restart();
    let rest = Request::get(&scene.url(model)).range("11999990-").send();
    rest.assert_is(206, &weights()[11_999_990..], "an open range at first use");
    scene.daemon.restart();
    let rest = Request::get(&scene.url(model)).range("-4").send();
    rest.assert_is(206, &weights()[11_999_996..], "the end at first use");
}

#[test]
fn what_is_pinned_and_not_held_says_how_to_bring_it() {
    let mut scene = Scene::held();
    let removed = scene.daemon.command(&["rm", "huggingface:acme/tiny"]);
    assert!(removed.status.success());
    scene.freeze();
    let said = scene.refused("/acme/tiny/resolve/main/config.json");
    assert!(said.contains("`hubcache preload --lock "), "{said}");
}

#[test]
fn what_the_lock_pins_stays_when_room_is_wanted_though_nobody_else_pins_it() {
    let mut scene = Scene::held();
    assert_eq!(scene.get("/acme/tiny/resolve/main/README.md").status, 200);
    for model in ["acme/tiny", "mozilla:acme/small"] {
        let output = scene.daemon.command(&["unpin", model]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    scene.freeze();
    let output = scene.daemon.command(&["prune", "--to", "0"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.contains("/README.md"), "{said}");
    let served = scene.get("/acme/tiny/resolve/main/onnx/model.onnx");
    assert!(served.status == 200 && served.body == weights());
    assert_eq!(scene.get("/acme/small/v1.0/config.json").status, 200);
    scene.refused("/acme/tiny/resolve/main/README.md");
}

#[test]
fn a_lock_that_is_none_is_refused_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let lock = folder.path().join("hubcache.lock");
    let path = lock.to_str().unwrap();
    let start = |arguments: &[&str]| {
        let builder = arguments.iter().fold(Daemon::builder(), |builder, argument| builder.arg(argument));
        let Err((status, log)) = builder.try_start() else { panic!("it has started") };
        (status.and_then(|status| status.code()), log)
    };
    let (status, log) = start(&["--frozen"]);
    assert_eq!(status, Some(78));
    assert!(log.contains("--lock FILE"), "{log}");
    assert_eq!(start(&["--lock", path]).0, Some(78));
    let (status, log) = start(&["--frozen", "--lock", path]);
    assert_eq!(status, Some(66));
    assert!(log.contains("hubcache lock add"), "{log}");
    fs::write(&lock, "version = 1\n[[model]]\n").unwrap();
    assert_eq!(start(&["--frozen", "--lock", path]).0, Some(65));
}
