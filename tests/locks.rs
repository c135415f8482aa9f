//! What `hubcache lock` pins, and how `hubcache preload` brings it here: beside a server and alone.

use std::fs;
use std::path::PathBuf;
use std::process::Output;

use crate::support;
use serde_json::{Value, json};
use support::client::get;
use support::daemon::{Builder, Daemon};
use support::hub::{Fault, File, ScriptedHub, What};
use support::output::{object, refused, told};

/// A hub with a model of three files, and a data directory; whether a server runs is the test's.
struct Scene {
    hub: ScriptedHub,
    folder: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let scene = Self { hub: ScriptedHub::start(), folder: tempfile::tempdir().unwrap() };
        scene.commit("first");
        scene
    }

    /// A new commit on `main`, of which only the weights are other bytes.
    fn commit(&self, weights: &str) -> String {
        let files = [
            File::small("config.json", "{}"),
            File::small("README.md", "read me"),
            File::lfs("onnx/model.onnx", self::weights(weights)),
        ];
        self.hub.hf("acme/tiny").commit(files)
    }

    fn builder(&self) -> Builder {
        Daemon::builder()
            .hub(&self.hub)
            .set("cache.negative_ttl", "0s")
            .set("upstream.backoff", "10ms")
            .set("upstream.attempts", "2")
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("hubcache.lock")
    }

    fn text(&self) -> String {
        fs::read_to_string(self.path()).unwrap()
    }

    /// Runs `hubcache lock ... --lock FILE`.
    fn lock(&self, daemon: &Daemon, arguments: &[&str]) -> Output {
        let path = self.path();
        daemon.command(&[&["lock"], arguments, &["--lock", path.to_str().unwrap()]].concat())
    }

    /// Runs `hubcache preload ... --lock FILE`.
    fn preload(&self, daemon: &Daemon, arguments: &[&str]) -> Output {
        let path = self.path();
        daemon.command(&[&["preload", "--lock", path.to_str().unwrap()], arguments].concat())
    }
}

fn weights(name: &str) -> Vec<u8> {
    name.repeat(10_000).into_bytes()
}

#[test]
fn a_model_is_pinned_by_commit_size_and_digest_without_fetching_large_files() {
    let scene = Scene::new();
    let commit = scene.commit("second");
    let daemon = scene.builder().start();
    let shown = told(scene.lock(&daemon, &["add", "hf:acme/tiny", "--exclude", "*.md"]));
    assert!(shown.contains("hf:acme/tiny@main  new") && shown.contains("+ onnx/model.onnx"), "{shown}");
    let text = scene.text();
    for line in [
        "hub = \"huggingface\"".to_owned(),
        "id = \"acme/tiny\"".to_owned(),
        "revision = \"main\"".to_owned(),
        format!("commit = \"{commit}\""),
        "exclude = [\"*.md\"]".to_owned(),
        "    \"README.md\",".to_owned(),
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
    }
    let line = |path: &str| text.lines().find(|l| l.contains(path)).unwrap().to_owned();
    assert!(line("config.json").ends_with("size = 2, sha256 = \"44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a\", from = \"git\" },"), "{text}");
    assert!(line("onnx/model.onnx").contains("size = 60000,") && line("onnx/model.onnx").contains("\"lfs\""));
    assert_eq!(scene.hub.body_bytes("onnx/model.onnx"), 0, "{}", scene.hub.journal());
}

#[test]
fn a_lock_changes_where_the_model_has_moved_and_nowhere_else() {
    let scene = Scene::new();
    let daemon = scene.builder().start();
    told(scene.lock(&daemon, &["add", "hf:acme/tiny"]));
    let before = scene.text();
    assert_eq!(told(scene.lock(&daemon, &["update"])), "nothing has changed\n");
    assert_eq!(scene.text(), before);
    told(scene.lock(&daemon, &["add", "hf:acme/tiny"]));
    assert_eq!(scene.text(), before, "pinning it anew changes nothing");

    let commit = scene.commit("second");
    told(scene.lock(&daemon, &["add", "hf:acme/tiny"]));
    assert_eq!(scene.text(), before, "only update moves the commit");
    let shown = told(scene.lock(&daemon, &["update", "--dry-run"]));
    assert!(shown.contains("~ onnx/model.onnx") && shown.contains(&commit[..12]), "{shown}");
    assert_eq!(scene.text(), before, "a dry run writes nothing");
    let shown = object(scene.lock(&daemon, &["update", "--json"]));
    assert_eq!(shown["models"][0]["to"], json!(commit));
    assert_eq!(shown["models"][0]["files"].as_array().unwrap().len(), 1, "{shown:#}");
    let after = scene.text();
    let differing = before.lines().zip(after.lines()).filter(|(old, new)| old != new).count();
    assert_eq!(differing, 2, "the commit and one file:\n{before}\n{after}");

    // The two files, and the two revisions, differ in the same.
    let old = scene.folder.path().join("old.lock");
    fs::write(&old, &before).unwrap();
    let (old, new) = (old.to_str().unwrap().to_owned(), scene.path());
    let of_files = object(daemon.command(&["lock", "diff", &old, new.to_str().unwrap(), "--json"]));
    assert_eq!(of_files["models"][0]["files"], shown["models"][0]["files"]);

    told(scene.lock(&daemon, &["remove", "hf:acme/tiny"]));
    assert!(!scene.text().contains("[[model]]"));
    refused(scene.lock(&daemon, &["remove", "hf:acme/tiny"]), 66);
}

#[test]
fn what_no_lock_file_can_have_is_not_written() {
    let scene = Scene::new();
    let daemon = scene.builder().start();
    told(scene.lock(&daemon, &["add", "hf:acme/tiny"]));
    let before = scene.text();
    scene.hub.hf("acme/odd").commit([File::lfs("data\\a.bin", "odd")]);
    let why = refused(scene.lock(&daemon, &["add", "hf:acme/odd"]), 65);
    assert!(why.contains("acme/odd") && why.contains("nothing was written"), "{why}");
    assert_eq!(scene.text(), before);
    assert_eq!(fs::read_dir(scene.folder.path()).unwrap().count(), 1, "nothing is left over");
}

#[test]
fn two_revisions_are_compared_without_a_lock() {
    let scene = Scene::new();
    let old = scene.hub.hf("acme/tiny").commit([File::small("a", "1"), File::small("b", "1")]);
    let new = scene.hub.hf("acme/tiny").commit([File::small("b", "2"), File::small("c", "1")]);
    let daemon = scene.builder().start();
    let shown = told(daemon.command(&[
        "lock",
        "diff",
        &format!("hf:acme/tiny@{old}"),
        &format!("hf:acme/tiny@{new}"),
    ]));
    let changes: Vec<&str> =
        shown.lines().filter_map(|line| line.strip_prefix("  ")).map(|l| &l[..3]).collect();
    assert_eq!(changes, ["- a", "~ b", "+ c"], "{shown}");
}

#[test]
fn a_model_of_the_hub_of_firefox_is_pinned_by_names_by_its_twin_or_by_a_kind_of_weights() {
    let scene = Scene::new();
    for path in ["config.json", "onnx/model_quantized.onnx", "odd.bin"] {
        scene.hub.moz("acme/tiny", "v1.0", path, format!("bytes of {path}"));
    }
    scene.hub.hf("acme/twin").commit([File::small("config.json", "{}"), File::small("odd.bin", "x")]);
    let daemon = scene.builder().start();
    let pinned = |arguments: &[&str]| -> Vec<String> {
        let _ = fs::remove_file(scene.path());
        told(scene.lock(&daemon, &[&["add", "moz:acme/tiny@v1.0"], arguments].concat()));
        let text = scene.text();
        let files = text.lines().filter_map(|l| l.split("path = \"").nth(1));
        files.map(|l| l.split('"').next().unwrap().to_owned()).collect()
    };
    assert_eq!(pinned(&["--file", "odd.bin"]), ["odd.bin"]);
    assert_eq!(pinned(&["--like", "hf:acme/twin"]), ["config.json", "odd.bin"]);
    assert_eq!(pinned(&["--dtype", "q8"]), ["config.json", "onnx/model_quantized.onnx"]);
    // The model of the same name at Hugging Face has config.json, README.md and onnx/model.onnx.
    assert_eq!(pinned(&[]), ["config.json"]);
    assert!(
        scene.text().contains("from = \"bucket\"") && !scene.text().contains("commit ="),
        "{}",
        scene.text()
    );
    // A name that was given must be there.
    let why = refused(scene.lock(&daemon, &["add", "moz:acme/tiny@v1.0", "--file", "gone.bin"]), 66);
    assert!(why.contains("moz:acme/tiny@v1.0/gone.bin"), "{why}");
}

#[test]
fn preload_brings_what_is_pinned_and_goes_on_where_it_stopped() {
    let scene = Scene::new();
    let daemon = scene.builder().start();
    told(scene.lock(&daemon, &["add", "hf:acme/tiny"]));
    let plan = object(scene.preload(&daemon, &["--plan", "--json"]));
    assert_eq!(
        (&plan["files_count"], &plan["to_fetch_bytes"], &plan["fits"]),
        (&json!(3), &json!(50_000), &json!(true)),
        "{plan:#}"
    );
    assert_eq!(scene.hub.body_bytes("onnx/model.onnx"), 0, "a plan fetches nothing");

    // The hub breaks off; the next preload fetches the rest.
    scene.hub.fault(Fault::on("onnx/model.onnx", What::status(500)).times(100));
    let why = refused(scene.preload(&daemon, &[]), 75);
    assert!(why.contains("hf:acme/tiny@main/onnx/model.onnx"), "{why}");
    scene.hub.behave();
    assert!(told(scene.preload(&daemon, &[])).starts_with("fetched 1 file, "));
    let held = object(scene.preload(&daemon, &["--json"]));
    assert_eq!((&held["fetched"], &held["held"]), (&json!(0), &json!(3)), "{held:#}");
    assert_eq!(told(scene.lock(&daemon, &["check"])), "3 files as pinned\n");

    // It is what clients are served when the hub is gone.
    scene.hub.stop();
    let url = format!("{}/acme/tiny/resolve/main/onnx/model.onnx", daemon.url());
    get(&url).assert_is(200, &weights("first"), "the weights");
}

#[test]
fn all_of_it_works_without_a_server() {
    let scene = Scene::new();
    scene.hub.moz("acme/other", "v1.0", "config.json", "{}");
    let mut daemon = scene.builder().alone();
    told(scene.lock(&daemon, &["add", "hf:acme/tiny", "--include", "onnx/"]));
    refused(scene.lock(&daemon, &["check"]), 65);
    assert!(
        told(scene.preload(&daemon, &["moz:acme/other@v1.0", "--file", "config.json"]))
            .starts_with("fetched 2 files")
    );
    assert_eq!(told(scene.lock(&daemon, &["check"])), "1 file as pinned\n");
    told(daemon.command(&["lock", "diff", "hf:acme/tiny@main", "hf:acme/tiny@main"]));
    daemon.restart();
    scene.hub.stop();
    get(&format!("{}/acme/other/v1.0/config.json", daemon.url())).assert_is(200, b"{}", "it is held");
}

#[test]
fn what_is_not_as_pinned_is_listed() {
    let scene = Scene::new();
    let daemon = scene.builder().start();
    told(scene.lock(&daemon, &["add", "hf:acme/tiny"]));
    let missing = refused(scene.lock(&daemon, &["check"]), 65);
    assert!(missing.contains("missing  hf:acme/tiny@main/onnx/model.onnx"), "{missing}");
    assert!(missing.contains("hubcache preload --lock"), "the remedy: {missing}");
    told(scene.preload(&daemon, &[]));

    // A lock that says otherwise.
    let text = scene.text();
    let digest = text.lines().find(|l| l.contains("model.onnx")).unwrap();
    let digest = digest.split("sha256 = \"").nth(1).unwrap().split('"').next().unwrap();
    fs::write(scene.path(), text.replace(digest, &"ab".repeat(32))).unwrap();
    let differs = refused(scene.lock(&daemon, &["check", "--quick"]), 65);
    assert!(differs.contains("differs  hf:acme/tiny@main/onnx/model.onnx"), "{differs}");
    let brought = refused(scene.preload(&daemon, &[]), 65);
    assert!(brought.contains("onnx/model.onnx: it is sha256:"), "{brought}");
}

#[test]
fn what_cannot_be_done_is_said_and_writes_nothing() {
    let scene = Scene::new();
    let daemon = scene.builder().start();
    for (arguments, status, why) in [
        (&["add", "acme/tiny"][..], 64, "it must begin with hf: or moz:"),
        (&["add", "hf:acme/gone"], 66, "acme/gone"),
        (&["add", "hf:acme/tiny", "--include", "["], 64, "is no pattern"),
        (&["add", "hf:acme/tiny", "--include", "*.gguf"], 66, "no file that is meant"),
        (&["update"], 66, "hubcache lock add"),
        (&["check"], 66, "hubcache lock add"),
    ] {
        let said = refused(scene.lock(&daemon, arguments), status);
        assert!(said.contains(why), "{arguments:?}: {said}");
        assert!(!scene.path().exists(), "{arguments:?}");
    }
    fs::write(scene.path(), "version = 9\n").unwrap();
    assert!(refused(scene.lock(&daemon, &["check"]), 65).contains("version 9"));
    refused(daemon.command(&["preload"]), 64);
    refused(daemon.command(&["preload", "hf:acme/gone"]), 66);
}

#[test]
fn offline_a_lock_can_be_checked_and_not_made() {
    let scene = Scene::new();
    let mut daemon = scene.builder().start();
    told(scene.lock(&daemon, &["add", "hf:acme/tiny"]));
    told(scene.preload(&daemon, &[]));
    daemon.restart_with(&[("upstream.offline", "true")]);
    scene.hub.clear();
    assert_eq!(told(scene.lock(&daemon, &["check"])), "3 files as pinned\n");
    assert!(told(scene.preload(&daemon, &[])).contains("3 files"));
    let why = refused(scene.lock(&daemon, &["add", "hf:acme/tiny@v1"]), 69);
    assert!(why.contains("offline"), "{why}");
    assert_eq!(scene.hub.requests().len(), 0, "{}", scene.hub.journal());
}

#[test]
fn commands_at_once_on_one_data_directory_do_not_fight() {
    let scene = Scene::new();
    scene.hub.hf("acme/other").commit([File::small("config.json", "{\"other\": 1}")]);
    let daemon = scene.builder().alone();
    let path = |name: &str| scene.folder.path().join(name).to_str().unwrap().to_owned();
    let add = |at: usize| {
        let (model, lock) =
            [("hf:acme/tiny", path("a.lock")), ("hf:acme/other", path("b.lock"))][at % 2].clone();
        let lock = format!("{lock}{at}");
        told(daemon.command(&["lock", "add", model, "--lock", &lock]));
        told(daemon.command(&["preload", "--lock", &lock]))
    };
    let all = support::client::at_once(6, add);
    assert!(all.iter().all(|said| said.contains("fetched")), "{all:?}");
    // Whoever owned the directory for them is soon gone, and a server need not be told to wait.
    let mut server = scene.builder().data(daemon.data()).start();
    get(&format!("{}/acme/tiny/resolve/main/config.json", server.url())).assert_is(200, b"{}", "held");
    assert!(server.terminate().success());
}

#[test]
fn what_came_from_an_equivalent_of_the_hub_counts_as_held() {
    let scene = Scene::new();
    let mirror = ScriptedHub::start();
    let data = scene.folder.path().join("data");
    let daemon = scene.builder().set("hub.huggingface.equivalent", mirror.url()).data(&data).start();
    told(scene.lock(&daemon, &["add", "hf:acme/tiny"]));
    told(scene.preload(&daemon, &[]));
    // The same data, for a process that knows the two the other way round.
    let other =
        Daemon::builder().hub(&mirror).set("hub.huggingface.equivalent", scene.hub.url()).data(daemon.data());
    drop(daemon);
    let other = other.start();
    assert!(told(scene.lock(&other, &["check"])).contains("3 files as pinned"));
    let plan: Value = serde_json::from_str(&told(scene.preload(&other, &["--plan", "--json"]))).unwrap();
    assert_eq!(plan["to_fetch_bytes"], 0, "{plan}");
}

#[test]
fn a_kind_of_weights_brings_what_a_runtime_reads_that_has_them() {
    let scene = Scene::new();
    let used =
        ["config.json", "onnx/model_quantized.onnx", "onnx/model_quantized.onnx_data", "tokenizer.json"];
    let rest =
        ["README.md", "onnx/model.onnx", "onnx/model_q4.onnx", "pytorch_model.bin", "training_args.bin"];
    let files = used.iter().chain(&rest).map(|path| File::lfs(path, path.repeat(100).into_bytes()));
    scene.hub.hf("acme/many").commit(files.collect::<Vec<_>>());
    let daemon = scene.builder().start();
    let brought = told(daemon.command(&["preload", "hf:acme/many", "--dtype", "q8", "--json"]));
    let brought: Value = serde_json::from_str(&brought).unwrap();
    let paths: Vec<&str> =
        brought["files"].as_array().unwrap().iter().map(|file| file["path"].as_str().unwrap()).collect();
    assert_eq!(paths, used);

    told(scene.lock(&daemon, &["add", "hf:acme/many", "--dtype", "q8"]));
    let lock = scene.text();
    let include = "include = [\"config.json\", \"onnx/model_quantized.onnx\", ";
    assert!(lock.contains(include) && lock.contains("    \"pytorch_model.bin\",\n"), "{lock}");
    told(scene.lock(&daemon, &["update"]));
    assert_eq!(scene.text(), lock, "the same files are chosen again");

    let shown = told(daemon.command(&["show", "acme/many"]));
    let headings: Vec<&str> = shown.lines().filter(|line| line.ends_with(':')).collect();
    assert_eq!(headings, ["ONNX weights, q8:", "configuration:", "tokenizer:"], "{shown}");
    let listed: Value =
        serde_json::from_str(&told(daemon.command(&["show", "acme/many", "--json"]))).unwrap();
    let class = |at: usize| (listed[at]["class"].as_str().unwrap(), listed[at]["dtype"].as_str());
    assert_eq!([class(0), class(1)], [("configuration", None), ("onnx", Some("q8"))]);
}
