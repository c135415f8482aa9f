//! `hubcache lock import`: what other programs have downloaded is pinned, held and served, and not downloaded again.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Output;

use crate::support;
use serde_json::Value;
use support::client::{self, get};
use support::daemon::{Builder, Daemon};
use support::hub::digests::{git_sha1, sha256};
use support::hub::{File, ScriptedHub};

/// A hub with a model, a directory for what is imported, and a lock file.
struct Scene {
    hub: ScriptedHub,
    folder: tempfile::TempDir,
    commit: String,
}

fn weights() -> Vec<u8> {
    (0..700_000_u32).flat_map(u32::to_le_bytes).collect()
}

impl Scene {
    fn new() -> Self {
        let hub = ScriptedHub::start();
        let commit = hub.hf("acme/tiny").commit([
            File::small("config.json", "{}"),
            File::small("README.md", "read me"),
            File::small("empty.txt", ""),
            File::lfs("onnx/model.onnx", weights()),
        ]);
        hub.clear();
        Self { hub, folder: tempfile::tempdir().unwrap(), commit }
    }

    fn builder(&self) -> Builder {
        Daemon::builder().hub(&self.hub).set("upstream.backoff", "10ms").set("upstream.attempts", "2")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self) -> String {
        fs::read_to_string(self.path("hubcache.lock")).unwrap()
    }

    /// A cache directory in which the model is, but for its README.
    fn cache(&self) -> Cache {
        let cache = Cache { folder: self.path("hub/models--acme--tiny"), commit: self.commit.clone() };
        cache.file("config.json", b"{}", &git_sha1(b"{}"));
        cache.file("empty.txt", b"", &git_sha1(b""));
        cache.file("onnx/model.onnx", &weights(), &sha256(&weights()));
        write(&cache.folder.join("refs/main"), self.commit.as_bytes());
        write(&cache.folder.join("blobs/half.incomplete"), b"half");
        write(&cache.folder.join(".no_exist").join(&self.commit).join("adapter_config.json"), b"");
        cache
    }

    fn import(&self, daemon: &Daemon, source: &Path, arguments: &[&str]) -> Output {
        let lock = self.path("hubcache.lock");
        let own = ["lock", "import", source.to_str().unwrap(), "--lock", lock.to_str().unwrap()];
        daemon.command(&[&own[..], arguments].concat())
    }

    /// Serves what the lock file pins, with no hub.
    fn freeze(&self, daemon: &mut Daemon) {
        self.hub.stop();
        let lock = self.path("hubcache.lock");
        daemon.restart_with(&[("upstream.frozen", "true"), ("upstream.lock", lock.to_str().unwrap())]);
    }
}

/// One model in a cache directory of Hugging Face.
struct Cache {
    folder: PathBuf,
    commit: String,
}

impl Cache {
    fn snapshot(&self, path: &str) -> PathBuf {
        self.folder.join("snapshots").join(&self.commit).join(path)
    }

    /// Puts a file where a client puts it.
    fn file(&self, path: &str, bytes: &[u8], etag: &str) {
        let blob = self.folder.join("blobs").join(etag);
        write(&blob, bytes);
        let link = self.snapshot(path);
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        symlink(blob, link).unwrap();
    }
}

fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// What a command has written that ends with this status.
fn told(output: Output, status: i32) -> String {
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{text}");
    text
}

/// How many files are held.
fn held(daemon: &Daemon) -> usize {
    let output = daemon.command(&["ls", "--files", "--json"]);
    let rows: Value = serde_json::from_slice(&output.stdout).unwrap();
    rows.as_array().unwrap().len()
}

#[test]
fn a_cache_directory_is_pinned_and_served_without_a_download() {
    let scene = Scene::new();
    let cache = scene.cache();
    let mut daemon = scene.builder().start();
    let shown = told(scene.import(&daemon, &scene.path("hub"), &["--shareable"]), 0);
    assert!(shown.contains("hf:acme/tiny@main  new") && shown.contains("+ onnx/model.onnx"), "{shown}");
    let text = scene.text();
    let line = |path: &str| text.lines().find(|line| line.contains(path)).unwrap().to_owned();
    assert!(line("config.json").contains("from = \"git\""), "{text}");
    assert!(line("onnx/model.onnx").contains("from = \"lfs\""), "{text}");
    // The hub was asked for its list, from which what is not here can be told from what there is not.
    assert!(text.contains("left_out = [\n    \"README.md\",\n]") && !text.contains("absent ="), "{text}");
    let asked: Vec<String> = scene.hub.requests().into_iter().map(|seen| seen.target).collect();
    assert!(asked.iter().all(|target| target.contains("/tree/")), "{asked:?}");

    told(scene.import(&daemon, cache.folder.parent().unwrap(), &[]), 0);
    assert_eq!(scene.text(), text, "importing it anew changes nothing");

    scene.freeze(&mut daemon);
    for revision in ["main", &scene.commit] {
        let config = get(&format!("{}/acme/tiny/resolve/{revision}/config.json", daemon.url()));
        config.assert_is(200, b"{}", revision);
        assert_eq!(config.header("etag"), Some(format!("\"{}\"", git_sha1(b"{}")).as_str()));
        assert_eq!(config.header("x-repo-commit"), Some(scene.commit.as_str()));
        let model = get(&format!("{}/acme/tiny/resolve/{revision}/onnx/model.onnx", daemon.url()));
        model.assert_is(200, &weights(), revision);
        assert_eq!(model.header("etag"), Some(format!("\"{}\"", sha256(&weights())).as_str()));
        get(&format!("{}/acme/tiny/resolve/{revision}/empty.txt", daemon.url()))
            .assert_is(200, b"", revision);
        let probed = format!("{}/acme/tiny/resolve/{revision}/adapter_config.json", daemon.url());
        assert_eq!(client::head(&probed).header("x-error-code"), Some("EntryNotFound"));
        let left_out = format!("{}/acme/tiny/resolve/{revision}/README.md", daemon.url());
        assert_eq!(client::head(&left_out).status, 403);
    }
}

#[test]
fn an_import_without_a_hub_pins_what_is_known_and_says_what_is_not() {
    let scene = Scene::new();
    scene.cache();
    let mut daemon = scene.builder().alone();
    scene.hub.stop();
    let shown = told(scene.import(&daemon, scene.folder.path(), &["--shareable"]), 0);
    assert!(shown.contains("is not known") && shown.contains("lock add hf:acme/tiny@main"), "{shown}");
    let text = scene.text();
    assert!(
        !text.contains("left_out =") && text.contains("absent = [\n    \"adapter_config.json\",\n]"),
        "{text}"
    );

    // Any server without a hub has the branch, its files, and what is known not to be there.
    daemon.restart_with(&[("upstream.offline", "true")]);
    let model = get(&format!("{}/acme/tiny/resolve/main/onnx/model.onnx", daemon.url()));
    model.assert_is(200, &weights(), "the weights");
    let probed = client::head(&format!("{}/acme/tiny/resolve/main/adapter_config.json", daemon.url()));
    assert_eq!((probed.status, probed.header("x-error-code")), (404, Some("EntryNotFound")));

    scene.freeze(&mut daemon);
    get(&format!("{}/acme/tiny/resolve/main/config.json", daemon.url())).assert_is(200, b"{}", "frozen");
    let status = |path: &str| client::head(&format!("{}/acme/tiny/resolve/main/{path}", daemon.url())).status;
    assert_eq!((status("adapter_config.json"), status("generation_config.json")), (404, 403));
    told(daemon.command(&["lock", "check", "--lock", scene.path("hubcache.lock").to_str().unwrap()]), 0);
}

#[test]
fn what_is_damaged_or_leads_away_is_named_and_nothing_else_is_lost() {
    let scene = Scene::new();
    let cache = scene.cache();
    let blob = cache.folder.join("blobs").join(sha256(&weights()));
    let mut damaged = weights();
    damaged[1_500_000] ^= 1;
    fs::write(&blob, &damaged).unwrap();
    let outside = scene.path("outside.txt");
    fs::write(&outside, "secret").unwrap();
    symlink(&outside, cache.snapshot("README.md")).unwrap();
    symlink("nowhere", cache.snapshot("gone.txt")).unwrap();
    write(&cache.snapshot("odd\\name"), b"x");
    let daemon = scene.builder().start();
    let shown = told(scene.import(&daemon, &scene.path("hub"), &[]), 65);
    for words in [
        "hf:acme/tiny@main/onnx/model.onnx",
        "it is damaged: sha256:",
        "README.md: it leads to",
        "gone.txt: it leads to nothing",
        "odd\\name: no lock file can have this name",
        "4 files not taken",
    ] {
        assert!(shown.contains(words), "{words} is not in\n{shown}");
    }
    let text = scene.text();
    assert!(
        text.contains("path = \"config.json\"") && !text.contains("path = \"onnx/model.onnx\""),
        "{text}"
    );
    assert_eq!(held(&daemon), 2);

    // When it is mended it is taken.
    fs::write(&blob, weights()).unwrap();
    told(scene.import(&daemon, &scene.path("hub"), &[]), 65);
    assert!(scene.text().contains("path = \"onnx/model.onnx\""));
    assert_eq!(held(&daemon), 3);
    assert_eq!(scene.hub.body_bytes("onnx/model.onnx"), 0, "{}", scene.hub.journal());
}

#[test]
fn real_files_in_a_snapshot_are_held_against_the_list_of_the_hub() {
    let scene = Scene::new();
    let cache = scene.cache();
    for path in ["config.json", "onnx/model.onnx"] {
        let bytes = fs::read(cache.snapshot(path)).unwrap();
        fs::remove_file(cache.snapshot(path)).unwrap();
        fs::write(cache.snapshot(path), bytes).unwrap();
    }
    fs::remove_dir_all(cache.folder.join("blobs")).unwrap();
    fs::remove_file(cache.snapshot("empty.txt")).unwrap();
    write(&cache.snapshot("README.md"), b"other words");
    let daemon = scene.builder().alone();
    let shown = told(scene.import(&daemon, &scene.path("hub"), &[]), 65);
    assert!(shown.contains("README.md") && shown.contains("it is damaged: git-sha1:"), "{shown}");
    let text = scene.text();
    let line = |path: &str| text.lines().find(|line| line.contains(path)).unwrap().to_owned();
    assert!(line("config.json").contains("from = \"git\"") && line("model.onnx").contains("from = \"lfs\""));
}

#[test]
fn a_dry_run_shows_everything_and_writes_nothing() {
    let scene = Scene::new();
    scene.cache();
    let daemon = scene.builder().start();
    let shown = told(scene.import(&daemon, &scene.path("hub"), &["--dry-run", "--json"]), 0);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["models"][0]["files"].as_array().unwrap().len(), 3, "{shown:#}");
    assert!(!scene.path("hubcache.lock").exists());
    assert_eq!((held(&daemon), scene.hub.requests().len()), (0, 0), "{}", scene.hub.journal());
}

#[test]
fn bytes_that_are_held_are_not_written_twice() {
    let scene = Scene::new();
    scene.cache();
    let daemon = scene.builder().start();
    // The same weights under another name, and again in folders where nobody promises anything.
    scene.hub.hf("acme/twin").commit([File::lfs("weights.bin", weights())]);
    get(&format!("{}/acme/twin/resolve/main/weights.bin", daemon.url())).assert_is(200, &weights(), "twin");
    write(&scene.path("models/acme/tiny/v1.0/model.onnx"), &weights());
    let stored = || daemon.metric("hubcache_cache_bytes", &[]);
    let before = stored();
    told(scene.import(&daemon, &scene.path("hub"), &[]), 0);
    told(scene.import(&daemon, &scene.path("models"), &[]), 0);
    assert!(stored() - before < 1_000_000.0, "{before} became {}", stored());
}

#[test]
fn folders_are_models_of_the_hub_of_firefox() {
    let scene = Scene::new();
    write(&scene.path("models/acme/tiny/v1.0/onnx/model.onnx"), &weights());
    write(&scene.path("models/acme/tiny/main/config.json"), b"{\"main\": 1}");
    write(&scene.path("models/acme/tiny/v1.0/.git/HEAD"), b"x");
    write(&scene.path("models/acme/note.txt"), b"x");
    write(&scene.path("models/acme/page/v1.0/model.onnx"), b"<!DOCTYPE html><title>busy</title>");
    let mut daemon = scene.builder().alone();
    let shown = told(scene.import(&daemon, &scene.path("models"), &[]), 65);
    for words in [".git: hidden; skipped", "note.txt: not below", "it is an HTML page"] {
        assert!(shown.contains(words), "{words} is not in\n{shown}");
    }
    let text = scene.text();
    assert!(text.contains("hub = \"mozilla\"") && text.contains("from = \"first-download\""), "{text}");
    assert!(!text.contains("acme/page") && !text.contains("commit ="), "{text}");
    assert!(scene.hub.requests().is_empty(), "{}", scene.hub.journal());
    scene.freeze(&mut daemon);
    let model = get(&format!("{}/acme/tiny/v1.0/onnx/model.onnx", daemon.url()));
    model.assert_is(200, &weights(), "a version");
    get(&format!("{}/acme/tiny/main/config.json", daemon.url())).assert_is(200, b"{\"main\": 1}", "main");
}

#[test]
fn folders_of_hugging_face_are_named_by_commits() {
    let scene = Scene::new();
    write(&scene.path("models/acme/tiny/main/config.json"), b"{}");
    write(&scene.path(&format!("models/acme/tiny/{}/config.json", scene.commit)), b"{}");
    let daemon = scene.builder().start();
    let shown = told(scene.import(&daemon, &scene.path("models"), &["--as", "hf"]), 65);
    assert!(shown.contains("the revision is no commit"), "{shown}");
    assert!(scene.text().contains(&format!("revision = \"{}\"", scene.commit)), "{}", scene.text());
}

#[test]
fn a_lock_of_hermeto_is_pinned_as_lock_add_does() {
    let scene = Scene::new();
    let daemon = scene.builder().start();
    let yaml = scene.path("huggingface.lock.yaml");
    let entry =
        format!("{{repository: acme/tiny, revision: {}, include_patterns: ['*.json']}}", scene.commit);
    write(&yaml, format!("metadata: {{version: '1.0'}}\nmodels: [{entry}]\n").as_bytes());
    told(scene.import(&daemon, &yaml, &[]), 0);
    let imported = scene.text();
    fs::remove_file(scene.path("hubcache.lock")).unwrap();
    let lock = scene.path("hubcache.lock");
    let model = format!("hf:acme/tiny@{}", scene.commit);
    let add = ["lock", "add", &model, "--include", "*.json", "--lock", lock.to_str().unwrap()];
    told(daemon.command(&add), 0);
    assert_eq!(imported, scene.text());
    write(&yaml, b"metadata: {version: '9'}\nmodels: []\n");
    assert!(told(scene.import(&daemon, &yaml, &[]), 65).contains("version"));
}

#[test]
fn what_holds_no_models_is_refused() {
    let scene = Scene::new();
    let daemon = scene.builder().alone();
    told(scene.import(&daemon, &scene.path("nowhere"), &[]), 66);
    fs::create_dir(scene.path("empty")).unwrap();
    assert!(told(scene.import(&daemon, &scene.path("empty"), &[]), 66).contains("no models"));
    told(scene.import(&daemon, &scene.path("empty"), &["--layout", "hermeto"]), 64);
    let cache = scene.cache();
    assert!(told(scene.import(&daemon, &cache.folder, &[]), 64).contains("one model of a cache directory"));
    assert!(!scene.path("hubcache.lock").exists());
}

/// What huggingface_hub has downloaded past this program is served to it from here, without a download in between.
#[cfg(feature = "real-clients")]
#[test]
fn the_cache_that_huggingface_hub_has_written_is_taken() {
    use crate::drivers::{HuggingFaceHub, Repository};
    let scene = Scene::new();
    scene.hub.hf("acme/real").commit([
        File::small("config.json", "{}"),
        File::small("odd names/a b#c+d%é.txt", "odd"),
        File::direct(".gitattributes", "*.bin filter=lfs\n"),
        File::lfs("onnx/model.bin", weights()),
    ]);
    let client = HuggingFaceHub("1.33.0");
    let (first, second) = (scene.path("first"), scene.path("second"));
    let of = || Repository::model("acme/real");
    let downloaded = client.snapshot(scene.hub.url(), &first, of()).expect("from the hub");
    scene.hub.clear();
    let mut daemon = scene.builder().alone();
    told(scene.import(&daemon, &first.join("hf"), &["--shareable"]), 0);
    let asked: Vec<String> = scene.hub.requests().into_iter().map(|seen| seen.target).collect();
    assert!(!asked.is_empty() && asked.iter().all(|target| target.contains("/tree/")), "{asked:?}");
    scene.freeze(&mut daemon);
    let served = client.snapshot(&daemon.url(), &second, of()).expect("from the frozen server");
    assert!(served == downloaded && served.len() == 4, "{:?}", served.keys());
}
