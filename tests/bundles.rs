//! Bundles: written the same each time, found out when damaged, taken in whole, by deltas and again; and read by others.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support;
use serde_json::Value;
use support::client::{get, head};
use support::daemon::{Builder, Daemon};
use support::hub::digests::sha256;
use support::hub::{File, ScriptedHub};
use support::output::{object, refused, told};

/// Two models at a hub, pinned in a lock file.
struct Scene {
    hub: ScriptedHub,
    folder: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let scene = Self { hub: ScriptedHub::start(), folder: tempfile::tempdir().unwrap() };
        scene.commit("first");
        scene.hub.moz("acme/tiny", "v1.0", "config.json", "{\"a\": 1}");
        scene.hub.moz("acme/tiny", "v1.0", "onnx/model_quantized.onnx", weights("mozilla"));
        scene
    }

    fn commit(&self, text: &str) -> String {
        let files = [
            File::small("config.json", "{}"),
            File::small("empty", ""),
            File::small("a b/\u{e9}.json", "[]"),
            File::small("README.md", "read me"),
            File::lfs("model.safetensors", weights(text)),
            File::lfs("onnx/model.onnx", weights("the same")),
        ];
        self.hub.hf("acme/tiny").commit(files)
    }

    fn builder(&self) -> Builder {
        Daemon::builder().hub(&self.hub).set("upstream.backoff", "10ms").set("upstream.attempts", "2")
    }

    /// The same with all models in it, and the lock file that pins them.
    fn connected(&self) -> Daemon {
        let daemon = self.builder().alone();
        let lock = self.path("lab.lock");
        let add = |more: &[&str]| {
            told(daemon.command(&[&["lock", "add", "--lock", lock.to_str().unwrap()], more].concat()));
        };
        add(&["hf:acme/tiny", "--exclude", "README.md"]);
        add(&["moz:acme/tiny@v1.0", "--file", "config.json", "--file", "onnx/model_quantized.onnx"]);
        told(daemon.command(&["preload", "--lock", lock.to_str().unwrap()]));
        daemon
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Exports to a file of this name.
    fn export(&self, daemon: &Daemon, name: &str, more: &[&str]) -> Output {
        let (lock, path) = (self.path("lab.lock"), self.path(name));
        let arguments = ["export", "--lock", lock.to_str().unwrap(), "-o", path.to_str().unwrap()];
        daemon.command(&[&arguments, more].concat())
    }

    fn import(&self, daemon: &Daemon, name: &str, more: &[&str]) -> Output {
        daemon.command(&[&["import", self.path(name).to_str().unwrap()], more].concat())
    }
}

fn weights(name: &str) -> Vec<u8> {
    name.repeat(200_000).into_bytes()
}

/// What is held: of each file what must be the same wherever it is held.
fn entries(daemon: &Daemon) -> BTreeMap<String, Value> {
    let listed: Value = object(daemon.command(&["ls", "--files", "--json"]));
    let same = ["size", "sha256", "standing", "etag", "commit", "pinned"];
    let row = |row: &Value| {
        let name = ["hub", "kind", "repo", "revision", "path"].map(|field| row[field].to_string()).concat();
        let mut promised: Vec<String> =
            row["promises"].as_array().unwrap().iter().map(|p| p["value"].to_string()).collect();
        promised.sort();
        let mut kept: serde_json::Map<String, Value> =
            same.iter().map(|field| ((*field).to_owned(), row[*field].clone())).collect();
        kept.insert("promised".to_owned(), promised.into());
        (name, Value::Object(kept))
    };
    listed.as_array().unwrap().iter().map(row).collect()
}

fn bytes(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap()
}

#[test]
fn one_lock_makes_one_bundle_and_what_it_holds_is_held_where_it_is_imported() {
    let scene = Scene::new();
    let daemon = scene.connected();
    let said = told(scene.export(&daemon, "one.tar", &[]));
    assert!(said.contains("2 models"), "{said}");
    told(scene.export(&daemon, "two.tar", &[]));
    assert_eq!(bytes(&scene.path("one.tar")), bytes(&scene.path("two.tar")));

    scene.hub.stop();
    let lab = scene.builder().alone();
    scene.hub.clear();
    let lock = scene.path("imported.lock");
    let said = told(scene.import(&lab, "one.tar", &["--lock", lock.to_str().unwrap()]));
    assert!(said.contains("hf:acme/tiny@main\n") && said.contains("took 7 files"), "{said}");
    assert_eq!(entries(&lab), entries(&daemon), "import of export is the identity");
    assert_eq!(bytes(&lock), bytes(&scene.path("lab.lock")), "and the lock file comes along");
    told(scene.export(&lab, "three.tar", &[]));
    assert_eq!(bytes(&scene.path("one.tar")), bytes(&scene.path("three.tar")), "from another store, too");
    let said = told(scene.import(&lab, "one.tar", &[]));
    assert!(said.contains("took 0 files, 0 B; 7 files held already"), "{said}");

    let mut lab = lab;
    lab.restart_with(&[("offline", "true")]);
    for (path, want) in [
        ("acme/tiny/resolve/main/config.json", "{}".to_owned().into_bytes()),
        ("acme/tiny/resolve/main/empty", Vec::new()),
        ("acme/tiny/resolve/main/a%20b/%C3%A9.json", "[]".into()),
        ("acme/tiny/resolve/main/onnx/model.onnx", weights("the same")),
        ("acme/tiny/v1.0/onnx/model_quantized.onnx", weights("mozilla")),
    ] {
        get(&format!("{}/{path}", lab.url())).assert_is(200, &want, path);
    }
    assert_eq!(
        head(&format!("{}/acme/tiny/resolve/main/no.json", lab.url())).status,
        404,
        "known to be absent"
    );
    assert_eq!(head(&format!("{}/acme/tiny/resolve/main/README.md", lab.url())).status, 403, "left out");
    assert!(scene.hub.requests().is_empty(), "{}", scene.hub.journal());
}

#[test]
fn every_byte_that_is_damaged_is_found_and_changes_nothing() {
    let scene = Scene::new();
    let daemon = scene.connected();
    told(scene.export(&daemon, "lab.tar", &[]));
    let whole = bytes(&scene.path("lab.tar"));
    let lab = scene.builder().alone();
    let empty = entries(&lab);
    let damaged = |at: usize, flip: u8| {
        let mut bytes = whole.clone();
        bytes[at] ^= flip;
        fs::write(scene.path("damaged.tar"), bytes).unwrap();
        let said = refused(scene.import(&lab, "damaged.tar", &["--dry-run"]), 65);
        assert!(said.contains("damaged.tar: it is"), "byte {at}: {said}");
        said
    };
    // Headers, texts and the zeros between them lie in front; each run takes a moment, so it is a sweep and not all.
    let texts = whole.windows(8).position(|bytes| bytes == b"mozillam").unwrap();
    let step = 127;
    for at in (0..texts.min(20_000)).step_by(step) {
        damaged(at, 1 << (at % 8));
    }
    for at in (texts..whole.len()).step_by(whole.len() / 12) {
        damaged(at, 0x10);
    }
    let said = damaged(texts, 1);
    assert!(said.contains("moz:acme/tiny@v1.0/onnx/model_quantized.onnx"), "the part is named: {said}");
    damaged(whole.len() - 1, 1);
    for length in [0, 100, 512, texts, whole.len() - 1024, whole.len() - 1] {
        fs::write(scene.path("cut.tar"), &whole[..length]).unwrap();
        refused(scene.import(&lab, "cut.tar", &[]), 65);
    }
    assert_eq!(entries(&lab), empty);
    fs::write(scene.path("other.tar"), "no archive at all".repeat(100)).unwrap();
    assert!(refused(scene.import(&lab, "other.tar", &[]), 65).contains("it is no bundle"));
    refused(scene.import(&lab, "none.tar", &[]), 66);
}

#[test]
fn a_delta_and_its_base_are_the_whole() {
    let scene = Scene::new();
    let daemon = scene.connected();
    told(scene.export(&daemon, "base.tar", &[]));
    fs::copy(scene.path("lab.lock"), scene.path("base.lock")).unwrap();
    let commit = scene.commit("second");
    told(daemon.command(&["lock", "update", "--lock", scene.path("lab.lock").to_str().unwrap()]));
    refused(scene.export(&daemon, "whole.tar", &[]), 65);
    told(daemon.command(&["preload", "--lock", scene.path("lab.lock").to_str().unwrap()]));
    told(scene.export(&daemon, "whole.tar", &[]));
    let base = scene.path("base.lock");
    let said = told(scene.export(&daemon, "delta.tar", &["--since", base.to_str().unwrap()]));
    assert!(said.contains("a delta: 6 files"), "{said}");
    assert!(bytes(&scene.path("delta.tar")).len() < bytes(&scene.path("whole.tar")).len() * 2 / 3);

    let (by_delta, at_once) = (scene.builder().alone(), scene.builder().alone());
    let said = refused(scene.import(&by_delta, "delta.tar", &[]), 65);
    assert!(said.contains("is a delta") && said.contains("onnx/model.onnx"), "{said}");
    assert!(entries(&by_delta).is_empty());
    told(scene.import(&by_delta, "base.tar", &[]));
    told(scene.import(&by_delta, "delta.tar", &[]));
    told(scene.import(&at_once, "whole.tar", &[]));
    let mut new = entries(&by_delta);
    let old = entries(&at_once);
    new.retain(|name, _| old.contains_key(name));
    assert_eq!(new, old);
    told(scene.export(&by_delta, "again.tar", &[]));
    assert_eq!(bytes(&scene.path("again.tar")), bytes(&scene.path("whole.tar")));
    let mut by_delta = by_delta;
    by_delta.restart_with(&[("offline", "true")]);
    let url = format!("{}/acme/tiny/resolve/main/model.safetensors", by_delta.url());
    let reply = get(&url);
    reply.assert_is(200, &weights("second"), "main has moved");
    assert_eq!(reply.header("x-repo-commit"), Some(commit.as_str()));
}

#[test]
fn an_export_that_was_interrupted_goes_on_where_it_stopped() {
    let scene = Scene::new();
    let daemon = scene.connected();
    told(scene.export(&daemon, "lab.tar", &[]));
    let whole = bytes(&scene.path("lab.tar"));
    let weights = whole.windows(8).position(|bytes| bytes == b"mozillam").unwrap();
    for length in [0, 100, 700, weights + 5, weights + 600_000, whole.len() - 1200, whole.len()] {
        fs::write(scene.path("again.tar.partial"), &whole[..length]).unwrap();
        let said = told(scene.export(&daemon, "again.tar", &["--json"]));
        let said: Value = serde_json::from_str(&said).unwrap();
        let resumed = said["resumed_bytes"].as_u64().unwrap();
        assert!(resumed as usize <= length && (length < weights || resumed as usize > weights), "{said}");
        assert!(bytes(&scene.path("again.tar")) == whole, "after {length} bytes");
        assert!(!scene.path("again.tar.partial").exists());
    }
    // What is not as it would be written is written anew.
    for at in [5, 600, weights + 100] {
        let mut other = whole[..weights + 200_000].to_vec();
        other[at] ^= 1;
        fs::write(scene.path("again.tar.partial"), other).unwrap();
        told(scene.export(&daemon, "again.tar", &[]));
        assert!(bytes(&scene.path("again.tar")) == whole, "byte {at}");
    }
}

#[test]
fn what_is_not_held_or_damaged_is_not_exported_and_other_bytes_are_not_imported() {
    let scene = Scene::new();
    let daemon = scene.connected();
    told(scene.export(&daemon, "lab.tar", &[]));
    // The same revision with other bytes.
    let lab = scene.builder().alone();
    scene.hub.moz("acme/tiny", "v1.0", "config.json", "{\"a\": 2}");
    told(daemon.command(&["rm", "mozilla:acme/tiny@v1.0/config.json"]));
    told(lab.command(&["preload", "moz:acme/tiny@v1.0", "--file", "config.json"]));
    let before = entries(&lab);
    let said = refused(scene.import(&lab, "lab.tar", &[]), 65);
    for text in ["{\"a\": 1}", "{\"a\": 2}"] {
        let digest = sha256(text.as_bytes());
        assert!(said.contains(&format!("sha256:{digest}")), "both digests are named: {said}");
    }
    assert_eq!(entries(&lab), before);
    let said = refused(scene.export(&daemon, "new.tar", &[]), 65);
    assert!(said.contains("moz:acme/tiny@v1.0/config.json"), "{said}");
    assert!(!scene.path("new.tar").exists() && !scene.path("new.tar.partial").exists());
}

#[test]
fn a_signature_is_checked_against_the_key_that_is_given() {
    let scene = Scene::new();
    let daemon = scene.connected();
    let key = |name: &str| {
        let (private, public) = (scene.path(&format!("{name}.pem")), scene.path(&format!("{name}.pub")));
        let run = |arguments: &[&str]| {
            assert!(Command::new("openssl").args(arguments).output().unwrap().status.success());
        };
        run(&["genpkey", "-algorithm", "ed25519", "-out", private.to_str().unwrap()]);
        run(&["pkey", "-in", private.to_str().unwrap(), "-pubout", "-out", public.to_str().unwrap()]);
        (private.to_str().unwrap().to_owned(), public.to_str().unwrap().to_owned())
    };
    let ((private, public), (_, other)) = (key("ours"), key("theirs"));
    told(scene.export(&daemon, "plain.tar", &[]));
    told(scene.export(&daemon, "signed.tar", &["--sign", &private]));
    told(scene.export(&daemon, "again.tar", &["--sign", &private]));
    assert_eq!(bytes(&scene.path("signed.tar")), bytes(&scene.path("again.tar")));
    let lab = scene.builder().alone();
    assert!(
        refused(scene.import(&lab, "plain.tar", &["--verify-key", &public]), 65).contains("it is not signed")
    );
    let said = refused(scene.import(&lab, "signed.tar", &["--verify-key", &other]), 65);
    assert!(said.contains("it is signed with the key"), "{said}");
    refused(scene.import(&lab, "signed.tar", &["--verify-key", &private]), 78);
    refused(scene.export(&daemon, "x.tar", &["--sign", &public]), 78);
    assert!(entries(&lab).is_empty());
    told(scene.import(&lab, "signed.tar", &["--verify-key", &public]));
    assert_eq!(entries(&lab), entries(&daemon));
}

#[test]
fn other_programs_read_every_model() {
    let scene = Scene::new();
    let daemon = scene.connected();
    told(scene.export(&daemon, "lab.tar", &[]));
    let bundle = scene.path("lab.tar");
    let skopeo = |arguments: &[&str]| {
        let output = Command::new("skopeo").args(arguments).output().expect("skopeo is installed");
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {errors}");
        output.stdout
    };
    let named = ["huggingface/acme/tiny:main", "mozilla/acme/tiny:v1.0", "hubcache/lock"];
    for (number, name) in named.into_iter().enumerate() {
        let from = format!("oci-archive:{}:{name}", bundle.display());
        let manifest: Value = serde_json::from_slice(&skopeo(&["inspect", "--raw", &from])).unwrap();
        let layers = manifest["layers"].as_array().unwrap();
        assert!(!layers.is_empty(), "{manifest:#}");
        let copy = scene.path(&format!("copy{number}"));
        skopeo(&["copy", &from, &format!("oci:{}:copied", copy.display())]);
        for layer in layers {
            let digest = layer["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
            let blob = bytes(&copy.join("blobs/sha256").join(digest));
            assert_eq!(sha256(&blob), digest);
        }
    }
    let raw = skopeo(&["inspect", "--raw", &format!("oci-archive:{}:{}", bundle.display(), named[1])]);
    let manifest: Value = serde_json::from_slice(&raw).unwrap();
    assert_eq!(manifest["artifactType"], "application/vnd.cncf.model.manifest.v1+json");
    let paths: Vec<&str> = manifest["layers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|layer| layer["annotations"]["org.cncf.model.filepath"].as_str().unwrap())
        .collect();
    assert_eq!(paths, ["config.json", "onnx/model_quantized.onnx"]);

    // Packed anew by tar, with an order and headers of its own.
    let (layout, repacked) = (scene.path("layout"), scene.path("repacked.tar"));
    fs::create_dir(&layout).unwrap();
    let tar = |arguments: &[&str]| {
        let output = Command::new("tar").args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    tar(&["-C", layout.to_str().unwrap(), "-xf", bundle.to_str().unwrap()]);
    let index: Value = serde_json::from_slice(&bytes(&layout.join("index.json"))).unwrap();
    fs::write(layout.join("index.json"), format!("{index:#}")).unwrap();
    tar(&["-C", layout.to_str().unwrap(), "-cf", repacked.to_str().unwrap(), "."]);
    let lab = scene.builder().alone();
    assert!(refused(scene.import(&lab, "repacked.tar", &[]), 65).contains("--repacked"));
    told(scene.import(&lab, "repacked.tar", &["--repacked"]));
    assert_eq!(entries(&lab), entries(&daemon));
}

#[test]
fn a_bundle_is_served_as_it_is_and_nothing_else() {
    let scene = Scene::new();
    let connected = scene.connected();
    told(scene.export(&connected, "lab.tar", &[]));
    scene.hub.stop();
    scene.hub.clear();
    let bundle = scene.path("lab.tar");
    let serve = |bundle: &Path| scene.builder().arg("--bundle").arg(bundle.to_str().unwrap());
    let report = scene.path("missing.txt");
    let mut lab = serve(&bundle).arg("--missing-report").arg(report.to_str().unwrap()).start();
    let at = |path: &str| format!("{}/acme/tiny/{path}", lab.url());
    for (path, want) in [
        ("resolve/main/config.json", "{}".to_owned().into_bytes()),
        ("resolve/main/empty", Vec::new()),
        ("resolve/main/model.safetensors", weights("first")),
        ("v1.0/onnx/model_quantized.onnx", weights("mozilla")),
    ] {
        get(&at(path)).assert_is(200, &want, path);
        get(&at(path)).assert_is(200, &want, "once more");
    }
    let reply = head(&at("resolve/main/config.json"));
    let git = "\"9e26dfeeb6e641a33dae4961196235bdb965b21b\"";
    assert_eq!(reply.header("etag"), Some(git), "its git blob id, as the hub has it");
    let tree = get(&format!("{}/api/models/acme/tiny/tree/main?recursive=true", lab.url()));
    assert!(tree.text().contains("model.safetensors") && !tree.text().contains("README"), "{}", tree.text());
    assert_eq!(head(&at("resolve/main/no.json")).status, 404);
    let left_out = get(&at("resolve/main/README.md"));
    assert_eq!(left_out.status, 403);
    assert!(left_out.text().contains("a new lab.tar"), "{}", left_out.text());
    assert!(lab.terminate().success());
    let said = fs::read_to_string(&report).unwrap();
    assert!(said.contains("hf:acme/tiny@main/README.md"), "{said}");
    assert!(!lab.data().join("index.redb").exists(), "the data directory is not touched");
    assert!(scene.hub.requests().is_empty(), "{}", scene.hub.journal());

    // A delta is not whole, and a wrong lock file beside it is a mistake.
    let lock = scene.path("lab.lock");
    told(scene.export(&connected, "delta.tar", &["--since", lock.to_str().unwrap()]));
    let (status, log) = serve(&scene.path("delta.tar")).try_start().err().unwrap();
    assert_eq!(status.and_then(|status| status.code()), Some(65), "{log}");
    assert!(log.contains("is a delta"), "{log}");
    let (status, log) = serve(&bundle).arg("--lock").arg(lock.to_str().unwrap()).try_start().err().unwrap();
    assert_eq!(status.and_then(|status| status.code()), Some(78), "{log}");
}

#[test]
fn a_damaged_file_of_a_bundle_that_is_served_never_reaches_a_client_whole() {
    let scene = Scene::new();
    told(scene.export(&scene.connected(), "lab.tar", &[]));
    let mut bytes = bytes(&scene.path("lab.tar"));
    for name in ["mozillam", "firstfir"] {
        let at = bytes.windows(8).position(|window| window == name.as_bytes()).unwrap();
        bytes[at + 300_000] ^= 1;
    }
    fs::write(scene.path("damaged.tar"), &bytes).unwrap();
    let bundle = scene.path("damaged.tar");
    let lab = scene.builder().arg("--bundle").arg(bundle.to_str().unwrap()).start();
    let at = |path: &str| format!("{}/acme/tiny/{path}", lab.url());
    get(&at("resolve/main/onnx/model.onnx")).assert_is(200, &weights("the same"), "what is whole is served");
    for (path, whole) in [
        ("resolve/main/model.safetensors", weights("first")),
        ("v1.0/onnx/model_quantized.onnx", weights("mozilla")),
    ] {
        let first = get(&at(path));
        assert!(first.status == 403 || !first.is_whole(), "{path}: {}", first.status);
        let again = get(&at(path));
        assert_eq!(again.status, 403, "{path}");
        assert!(again.body.len() < whole.len());
        assert!(again.text().contains("other bytes"), "{}", again.text());
    }
}

/// Files of every kind and of sizes around those that matter, some of them the same, with odd names.
fn random_files(random: &mut fastrand::Rng) -> Vec<File> {
    // The store keeps bytes in chunks of this length.
    const CHUNK: usize = (1 << 20) - 64;
    let words = ["a", "config.json", "\u{e9}", "x y", "100%25", "onnx", "#1", "model.onnx", "q+d", ".hidden"];
    let sizes = [0, 1, 511, 512, 513, 65_536, 65_537, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 77];
    let count = random.usize(5..15);
    let mut files: Vec<File> = Vec::new();
    for number in 0..count {
        let depth = random.usize(1..4);
        let folders: Vec<&str> = (1..depth).map(|_| words[random.usize(..words.len())]).collect();
        let path = [folders.join("/"), format!("{}{number}", words[random.usize(..words.len())])];
        let path = path.iter().filter(|part| !part.is_empty()).cloned().collect::<Vec<_>>().join("/");
        // A folder is no file.
        let path = if number == 0 { path } else { format!("f{number}/{path}") };
        let size = sizes[random.usize(..sizes.len())];
        // Few different bytes, so that files are the same now and then.
        let bytes = vec![random.u8(..3); size];
        files.push(match random.u8(..4) {
            0 => File::small(&path, bytes),
            1 => File::direct(&path, bytes),
            2 => File::xet(&path, bytes),
            _ => File::lfs(&path, bytes),
        });
    }
    files
}

#[test]
fn whatever_is_exported_is_the_same_where_it_is_imported() {
    for seed in 0..4 {
        let mut random = fastrand::Rng::with_seed(seed);
        let scene = Scene::new();
        let (lock, daemon) = (scene.path("lab.lock"), scene.builder().alone());
        let mut models: Vec<String> = Vec::new();
        for number in 0..random.usize(1..4) {
            let id = format!("acme/{}_{number}", ["m", "M.x", "a-b"][random.usize(..3)]);
            scene.hub.hf(&id).commit(random_files(&mut random));
            models.push(format!("hf:{id}"));
        }
        scene.hub.hf("datasets/acme/data").commit(random_files(&mut random));
        models.push("hf:datasets/acme/data".to_owned());
        let names: Vec<&str> = models.iter().map(String::as_str).collect();
        let with_lock = ["--lock", lock.to_str().unwrap()];
        told(daemon.command(&[&["lock", "add"], &names[..], &with_lock].concat()));
        let add = [
            "lock",
            "add",
            "moz:acme/tiny@v1.0",
            "--file",
            "config.json",
            "--file",
            "onnx/model_quantized.onnx",
        ];
        told(daemon.command(&[&add[..], &with_lock].concat()));
        told(daemon.command(&["preload", with_lock[0], with_lock[1]]));
        told(scene.export(&daemon, "lab.tar", &[]));
        scene.hub.stop();
        let lab = scene.builder().alone();
        told(scene.import(&lab, "lab.tar", &[]));
        assert_eq!(entries(&lab), entries(&daemon), "seed {seed}");
        told(scene.export(&lab, "again.tar", &[]));
        assert!(bytes(&scene.path("again.tar")) == bytes(&scene.path("lab.tar")), "seed {seed}");
    }
}

#[test]
fn an_import_that_is_interrupted_leaves_what_was_there_and_goes_on() {
    let scene = Scene::new();
    let daemon = scene.connected();
    told(scene.export(&daemon, "lab.tar", &[]));
    let lab = scene.builder().alone();
    told(lab.command(&["preload", "hf:acme/tiny", "--include", "README.md"]));
    let before = entries(&lab);
    scene.hub.stop();
    let bundle = scene.path("lab.tar");
    let mut import = lab.program(&["import", bundle.to_str().unwrap()]);
    let mut import = import.stderr(std::process::Stdio::piped()).spawn().unwrap();
    let told_first = std::io::BufReader::new(import.stderr.take().unwrap());
    let first = std::io::BufRead::lines(told_first).next().unwrap().unwrap();
    assert!(first.ends_with(", taken"), "{first}");
    import.kill().unwrap();
    import.wait().unwrap();
    let after = entries(&lab);
    assert!(before.iter().all(|(name, entry)| after.get(name) == Some(entry)), "{after:#?}");
    let whole = entries(&daemon);
    let is_whole = |(name, entry): (&String, &Value)| {
        before.contains_key(name) || whole.get(name).is_some_and(|whole| whole["sha256"] == entry["sha256"])
    };
    assert!(after.iter().all(is_whole), "no half of a file is held: {after:#?}");
    told(scene.import(&lab, "lab.tar", &[]));
    let mut after = entries(&lab);
    after.retain(|name, _| !before.contains_key(name));
    assert_eq!(after, whole);
    told(lab.command(&["verify"]));
}
