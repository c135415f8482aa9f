//! What the commands tell and do about files that were really fetched, with a running server and without one.

use std::fs;
use std::path::PathBuf;
use std::process::Output;

use crate::support;
use serde_json::Value;
use support::client;
use support::daemon::Daemon;
use support::hub::{Fault, File, ScriptedHub, What, digests};

fn noise(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    fastrand::Rng::with_seed(23).fill(&mut bytes);
    bytes
}

struct Scene {
    hub: ScriptedHub,
    daemon: Daemon,
    model: Vec<u8>,
    commit: String,
}

impl Scene {
    /// Files of both layouts, fetched: a large one under two names, a small one, and one of which nobody promised
    /// anything.
    fn warm() -> Self {
        let hub = ScriptedHub::start();
        let model = noise(2_500_000);
        let commit = hub.hf("acme/tiny").commit([
            File::lfs("onnx/model.bin", model.clone()),
            File::lfs("copy.bin", model.clone()),
            File::small("config.json", "{}"),
        ]);
        hub.hf("datasets/acme/set").commit([File::small("data.csv", "a,b\n1,2\n")]);
        hub.moz("acme/tiny", "v1.0", "vocab.txt", "unpromised");
        hub.fault(Fault::on("vocab.txt", What::NoPromises).always());
        let daemon = Daemon::builder().hub(&hub).set("cache.ref_ttl", "1h").start();
        for path in [
            "/acme/tiny/resolve/main/onnx/model.bin",
            "/acme/tiny/resolve/main/copy.bin",
            "/acme/tiny/resolve/main/config.json",
            "/datasets/acme/set/resolve/main/data.csv",
            "/acme/tiny/v1.0/vocab.txt",
        ] {
            assert_eq!(client::get(&format!("{}{path}", daemon.url())).status, 200, "{path}");
        }
        Self { hub, daemon, model, commit }
    }

    /// Runs a test with the server and, after it was stopped, without.
    fn both(mut self, test: impl Fn(&Self, &str)) {
        test(&self, "running");
        assert!(self.daemon.terminate().success());
        test(&self, "stopped");
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.daemon.command(arguments)
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// The paths that `ls` lists, sorted.
    fn paths(&self, target: &[&str]) -> Vec<String> {
        let listed = self.json(&[&["ls", "--json"], target].concat());
        let mut paths: Vec<String> =
            listed.as_array().unwrap().iter().map(|f| f["path"].as_str().unwrap().to_owned()).collect();
        paths.sort();
        paths
    }
}

#[test]
fn ls_lists_what_was_fetched_with_what_is_known_of_it() {
    Scene::warm().both(|scene, state| {
        let all = ["config.json", "copy.bin", "data.csv", "onnx/model.bin", "vocab.txt"];
        assert_eq!(scene.paths(&[]), all, "{state}");
        assert_eq!(scene.paths(&["acme/tiny"]), ["config.json", "copy.bin", "onnx/model.bin", "vocab.txt"]);
        assert_eq!(scene.paths(&["mozilla:"]), ["vocab.txt"]);
        assert_eq!(scene.paths(&["acme/tiny@v1.0"]), ["vocab.txt"]);
        assert_eq!(scene.paths(&["datasets/acme/set"]), ["data.csv"]);
        assert_eq!(scene.paths(&["acme/tiny/onnx/model.bin"]), ["onnx/model.bin"]);
        assert_eq!(scene.paths(&["acme/none"]), Vec::<String>::new());

        let listed = scene.json(&["ls", "--json", "acme/tiny/onnx/model.bin"]);
        let file = &listed[0];
        let sha256 = digests::sha256(&scene.model);
        assert_eq!(file["sha256"], *sha256);
        assert_eq!(file["size"], scene.model.len());
        assert_eq!(file["hub"], "huggingface");
        assert_eq!(file["root"], scene.hub.url());
        assert_eq!(
            (&file["revision"], &file["commit"]),
            (&Value::from(&*scene.commit), &Value::from(&*scene.commit))
        );
        assert_eq!(file["standing"], "verified");
        assert_eq!(file["etag"], format!("\"{sha256}\""));
        assert_eq!(file["promises"][0]["value"], *sha256);
        let unpromised = scene.json(&["ls", "--json", "mozilla:"]);
        assert_eq!(
            (&unpromised[0]["standing"], &unpromised[0]["promises"]),
            (&"recorded".into(), &Value::Array(vec![]))
        );

        let text = String::from_utf8(scene.run(&["ls"]).stdout).unwrap();
        assert_eq!(text.lines().count(), 4, "a head and a line for each revision:\n{text}");
        assert!(text.contains(&scene.commit[..12]) && text.contains("mozilla:acme/tiny"), "{text}");
    });
}

#[test]
fn ls_and_show_tell_what_leads_to_the_files() {
    let scene = Scene::warm();
    let question = format!("{}/api/models/acme/tiny/revision/main", scene.daemon.url());
    assert_eq!(client::get(&question).status, 200);
    let absent = format!("{}/acme/tiny/resolve/main/absent.txt", scene.daemon.url());
    assert_eq!(client::get(&absent).status, 404);
    scene.both(|scene, state| {
        let text = |arguments: &[&str]| {
            let text = String::from_utf8(scene.run(arguments).stdout).unwrap();
            text.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>()
        };
        let short = &scene.commit[..12];
        let line = format!("huggingface:acme/tiny {short} main 3 4.7 MiB verified 2 ");
        assert!(text(&["ls"]).iter().any(|l| l.starts_with(&line)), "{line} {state}\n{:?}", text(&["ls"]));

        let files = text(&["ls", "--files", "huggingface:acme/tiny"]);
        assert!(files[1].starts_with(&format!("huggingface:acme/tiny@{short} (main)")), "{files:?}");
        let sha256 = &digests::sha256(&scene.model)[..12];
        assert!(files[3].starts_with(&format!("copy.bin 2.3 MiB {sha256} verified ")), "{files:?}");
        assert_eq!(files.len(), 5, "a head, a heading and three files: {files:?}");
        let target = format!("acme/tiny@{}", scene.commit);
        assert_eq!(text(&["ls", &target]), files, "naming a revision lists its files");
        assert_eq!(text(&["ls", "acme/tiny/copy.bin"]).len(), 3);
        assert_eq!(
            scene.json(&["ls", "--json", "acme/tiny/copy.bin"])[0]["refs"],
            serde_json::json!(["main"])
        );

        let shown = text(&["show", "acme/tiny"]);
        for begin in [
            format!("huggingface:acme/tiny@main stands for {}, confirmed ", scene.commit),
            format!("API answer huggingface:acme/tiny@{} info: ", scene.commit),
            format!("API answer huggingface:acme/tiny@{} resolve/absent.txt: not there, ", scene.commit),
            "refs main".to_owned(),
        ] {
            assert!(shown.iter().any(|l| l.starts_with(&begin)), "{begin} in {shown:#?}");
        }
        assert_eq!(scene.json(&["show", "--json", "acme/tiny"]).as_array().unwrap().len(), 4);
    });
}

#[test]
fn show_tells_of_one_file_or_that_nothing_is_held() {
    Scene::warm().both(|scene, state| {
        let shown = String::from_utf8(scene.run(&["show", "acme/tiny/copy.bin"]).stdout).unwrap();
        assert!(shown.contains(&digests::sha256(&scene.model)) && shown.contains("X-Linked-ETag"), "{shown}");
        let json = scene.json(&["show", "--json", "acme/tiny/copy.bin"]);
        assert_eq!(json[0]["path"], "copy.bin", "{state}");
        let none = scene.run(&["show", "acme/none"]);
        assert_eq!(none.status.code(), Some(66));
        assert!(String::from_utf8_lossy(&none.stderr).contains("acme/none"));
    });
}

#[test]
fn verify_reads_every_byte_again() {
    Scene::warm().both(|scene, state| {
        let verified = scene.json(&["verify", "--json"]);
        assert_eq!(verified["files"], 5, "{state}");
        assert_eq!(verified["blobs"], 4, "the same bytes are stored once");
        let bytes = scene.model.len() + "{}".len() + "a,b\n1,2\n".len() + "unpromised".len();
        assert_eq!(verified["bytes"], bytes);
        assert_eq!(verified["damaged"], Value::Array(vec![]));
        let quiet = scene.run(&["verify", "--quiet"]);
        assert_eq!((quiet.status.code(), quiet.stdout.len()), (Some(0), 0));
    });
}

#[test]
fn rm_removes_what_it_names_and_what_is_asked_for_later_is_fetched_again() {
    let mut scene = Scene::warm();
    let dry = scene.json(&["rm", "--dry-run", "--json", "acme/tiny/copy.bin"]);
    assert_eq!((&dry["files"], &dry["entries"][0]["path"]), (&1.into(), &"copy.bin".into()));
    assert_eq!(scene.paths(&[]).len(), 5, "nothing was removed");

    let removed = scene.json(&["rm", "--json", "acme/tiny/copy.bin"]);
    assert_eq!((&removed["files"], &removed["blobs"]), (&1.into(), &0.into()), "the bytes are shared");
    let url = format!("{}/acme/tiny/resolve/main/", scene.daemon.url());
    scene.hub.clear();
    client::get(&format!("{url}onnx/model.bin")).assert_is(200, &scene.model, "the other name stays");
    assert!(scene.hub.requests().is_empty(), "{}", scene.hub.journal());

    let removed = scene.json(&["rm", "--json", "acme/tiny"]);
    assert_eq!((&removed["files"], &removed["bytes"]), (&3.into(), &(scene.model.len() + 2 + 10).into()));
    assert_eq!(scene.paths(&[]), ["data.csv"]);
    assert_eq!(scene.run(&["rm", "acme/tiny"]).status.code(), Some(66));
    client::get(&format!("{url}onnx/model.bin")).assert_is(200, &scene.model, "again");
    assert_eq!(scene.hub.body_bytes("model.bin"), scene.model.len() as u64, "{}", scene.hub.journal());

    assert!(scene.daemon.terminate().success());
    let removed = scene.json(&["rm", "--all", "--json"]);
    assert_eq!(removed["files"], 2, "without a server too");
    assert_eq!(scene.paths(&[]), Vec::<String>::new());
    scene.hub.clear();
    scene.daemon.restart();
    client::get(&format!("{url}onnx/model.bin")).assert_is(200, &scene.model, "after all was removed");
    assert_eq!(scene.hub.body_bytes("model.bin"), scene.model.len() as u64);
}

#[test]
fn rm_leaves_a_response_that_is_being_sent_alone() {
    let scene = Scene::warm();
    let url = format!("{}/acme/tiny/resolve/main/onnx/model.bin", scene.daemon.url());
    let mut reading = client::Request::get(&url).open().unwrap();
    reading.read_to(1000);
    let removed = scene.json(&["rm", "--json", "acme/tiny"]);
    assert_eq!(removed["files"], 4);
    reading.finish().assert_is(200, &scene.model, "to its end");
}

/// Changes one byte of the first chunk of `bytes` in the volume; the server must not run.
fn damage(scene: &Scene, bytes: &[u8]) {
    let volume: PathBuf = scene.daemon.data().join("volumes").join("blobs-0001.redb");
    let mut content = fs::read(&volume).unwrap();
    let needle = &bytes[1000..1032];
    let at = content
        .windows(needle.len())
        .position(|w| w == needle)
        .expect("the volume holds the bytes as they are");
    content[at] ^= 1;
    fs::write(&volume, content).unwrap();
}

#[test]
fn verify_names_damaged_files_and_ends_with_65_until_they_are_removed() {
    let mut scene = Scene::warm();
    assert!(scene.daemon.terminate().success());
    damage(&scene, &scene.model);
    let check = |scene: &Scene, state: &str| {
        let output = scene.run(&["verify", "--json"]);
        assert_eq!(output.status.code(), Some(65), "{state}");
        let told: Value = serde_json::from_slice(&output.stdout).unwrap();
        let mut damaged: Vec<&str> =
            told["damaged"].as_array().unwrap().iter().map(|d| d["path"].as_str().unwrap()).collect();
        damaged.sort_unstable();
        assert_eq!(damaged, ["copy.bin", "onnx/model.bin"], "both names of the bytes, {state}");
        let text = scene.run(&["verify", "acme/tiny/copy.bin"]);
        assert_eq!(text.status.code(), Some(65));
        assert!(String::from_utf8_lossy(&text.stdout).contains(&digests::sha256(&scene.model)));
        assert!(String::from_utf8_lossy(&text.stderr).contains("rm"), "the remedy is named");
        assert_eq!(scene.run(&["verify", "datasets/acme/set"]).status.code(), Some(0), "others are intact");
    };
    check(&scene, "stopped");
    scene.daemon.restart();
    check(&scene, "running");
    assert!(scene.run(&["rm", "acme/tiny"]).status.success());
    assert!(scene.run(&["verify"]).status.success());
    let url = format!("{}/acme/tiny/resolve/main/onnx/model.bin", scene.daemon.url());
    client::get(&url).assert_is(200, &scene.model, "fetched again");
    assert!(scene.run(&["verify"]).status.success());
}
