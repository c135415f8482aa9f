//! A lab without a network, end to end: a connected host preloads what Firefox's AI needs and models of Hugging Face,
//! and writes a bundle; a second host, behind whose link there is nothing, imports that, or serves it as it is. Real
//! clients do their work there.

use std::path::Path;

use crate::firefox::{Firefox, MOZILLA, ids, vectors, with_server};
use crate::{drivers, support, tiny_model};
use drivers::{HuggingFaceHub, Layout, Repository, Tokens, transformers_js};
use serde_json::{Value, json};
use support::daemon::{Builder, Daemon};
use support::hub::{File, ScriptedHub};
use support::netns;
use support::output::{object, told};
use support::settings::ScriptedSettings;
use tempfile::TempDir;

const ALLOWED: &str = "ml-model-allow-deny-list";
const OPTIONS: &str = "ml-inference-options";
const RUNTIME: &str = "ml-onnx-runtime";
/// Which collections both hosts watch.
const COLLECTIONS: &str = "ml-model-allow-deny-list,ml-inference-options,ml-onnx-runtime";
/// The model of Firefox, one that transformers load, and one that is a lot of files.
const FIREFOX: &str = "acme/embedder";
const TINY: &str = "acme/tiny";
const WHOLE: &str = "acme/whole";

/// The connected host, and all that it reaches.
struct Scene {
    hub: ScriptedHub,
    settings: ScriptedSettings,
    folder: TempDir,
    /// What Firefox is to run, and what must come of it.
    model: Value,
    wasm: Vec<u8>,
}

impl Scene {
    fn new() -> Self {
        let (hub, settings) = (ScriptedHub::start(), ScriptedSettings::start());
        let folder = tempfile::tempdir().unwrap();
        let model = embedder(folder.path());
        let files = model["files"].as_array().unwrap().iter().map(|path| path.as_str().unwrap());
        let files: Vec<(&str, Vec<u8>)> =
            files.map(|path| (path, std::fs::read(folder.path().join(path)).unwrap())).collect();
        for (path, bytes) in &files {
            hub.moz(FIREFOX, "v1.0", path, bytes.clone());
        }
        // That hub has no list; Hugging Face has one of the same model.
        hub.hf(FIREFOX).commit(files.iter().map(|(path, bytes)| File::lfs(path, bytes.clone())));
        hub.hf(TINY).commit(tiny_model::files().into_iter().map(
            |(path, bytes)| match path.ends_with(".onnx") {
                true => File::lfs(path, bytes),
                false => File::small(path, bytes),
            },
        ));
        hub.hf(WHOLE).commit(whole());
        let allowed = json!([{"id": "moz", "filter": "ALLOW", "urlPrefix": MOZILLA, "description": ""}]);
        settings.publish(ALLOWED, allowed);
        let record = json!([{"id": "r", "taskName": "text-embedding", "featureId": "lab-test",
            "backend": "static-embeddings", "modelId": FIREFOX, "modelRevision": "v1.0"}]);
        settings.publish(OPTIONS, record);
        let wasm = vec![7; 300_000];
        let attachment = settings.attach(RUNTIME, "ort", "ort.wasm", &wasm);
        settings.publish(
            RUNTIME,
            json!([{"id": "ort", "name": "ort", "version": "5.0", "attachment": attachment}]),
        );
        Self { hub, settings, folder, model, wasm }
    }

    fn builder(&self) -> Builder {
        let builder = Daemon::builder().hub(&self.hub).remote_settings(&self.settings);
        builder.set("settings.collections", COLLECTIONS).set("settings.interval", "1h")
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    /// The connected host preloads and exports; then neither hub nor server is there any more.
    fn bundle(&self) -> String {
        let connected = self.builder().alone();
        let (lock, bundle) = (self.path("lab.lock"), self.path("lab.tar"));
        let models = [format!("hf:{TINY}"), format!("hf:{WHOLE}")];
        told(connected.command(&["preload", "--firefox", &models[0], &models[1], "--lock", &lock]));
        let said = told(connected.command(&["export", "--lock", &lock, "-o", &bundle]));
        assert!(said.contains("3 models") && said.contains("which Firefox takes until"), "{said}");
        self.hub.stop();
        self.settings.stop();
        bundle
    }

    /// Every client does its work with this server, and nothing else.
    fn clients_work(&self, lab: &Daemon, ca: &Path) {
        for version in ["0.36.2", "1.33.0", "2.4.0"] {
            let client = HuggingFaceHub(version);
            let got = client.snapshot(&lab.url(), scratch().path(), Repository::model(WHOLE));
            let got = got.unwrap_or_else(|gave_up| panic!("{version}: {}", gave_up.stderr));
            let want: drivers::Files =
                whole().into_iter().map(|file| (file.path.clone(), file.bytes.to_vec())).collect();
            assert!(got == want, "{version}: {:?}", got.keys());
            let loaded = client.load(&lab.url(), scratch().path(), TINY, tiny_model::TEXT);
            let right = Tokens { model_type: "bert".to_owned(), tokens: tiny_model::TOKENS.to_vec() };
            assert_eq!(loaded.unwrap_or_else(|gave_up| panic!("{version}: {}", gave_up.stderr)), right);
        }
        let home = scratch();
        let layout = Layout { template: "{model}/resolve/{revision}/", revision: "main" };
        let loaded = transformers_js(&lab.url(), layout, home.path(), TINY, tiny_model::TEXT);
        assert_eq!(loaded.expect("transformers.js runs").values, tiny_model::expected(&tiny_model::TOKENS));
        self.firefox_works(lab, ca);
    }

    /// A stock Firefox and its proxy: which hubs are allowed, the runtime, and a whole inference.
    fn firefox_works(&self, lab: &Daemon, ca: &Path) {
        let home = scratch();
        let flags = ["--proxy", lab.listen(), "--ca", ca.to_str().unwrap()];
        let server = "https://firefox.settings.services.mozilla.com/v1";
        let mut firefox: Firefox = with_server(home.path(), server, &flags);
        for collection in [ALLOWED, OPTIONS, RUNTIME] {
            let synced = firefox.ask(&json!({"do": "sync", "collection": collection})).unwrap();
            assert_eq!(ids(&synced).len(), 1, "{collection}");
        }
        let got = firefox.ask(&json!({"do": "attachment", "collection": RUNTIME, "id": "ort"})).unwrap();
        assert_eq!(got["sha256"], support::hub::digests::sha256(&self.wasm));
        let mut options = self.model["options"].clone();
        for (name, value) in [("modelId", FIREFOX), ("modelRevision", "v1.0"), ("modelHubRootUrl", MOZILLA)] {
            options[name] = json!(value);
        }
        let command = json!({"do": "engine", "options": options, "run": self.model["run"]});
        let answer = firefox.ask(&command).expect("the engine runs");
        assert_eq!(vectors(&answer), vectors(&self.model));
    }
}

/// Writes a model that Firefox runs by itself.
fn embedder(folder: &Path) -> Value {
    let mut python = drivers::clean(&drivers::installed("firefox/bin/python"), folder);
    let made = python.arg(drivers::driver("firefox/tiny_model.py")).arg(folder).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    serde_json::from_slice(&made.stdout).unwrap()
}

fn whole() -> Vec<File> {
    vec![
        File::lfs("model.safetensors", vec![5; 3_000_000]),
        File::small("config.json", "{\"model_type\": \"bert\"}"),
        File::small("a/b/deep.txt", "deep"),
        File::small("odd names/a b#c+d\u{e9}.txt", "odd"),
    ]
}

fn scratch() -> TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn a_lab_that_imports_a_bundle_works_as_if_it_were_online() {
    let scene = Scene::new();
    let bundle = scene.bundle();
    netns::enter();
    let mut lab = scene.builder().arg("--intercept").set("upstream.offline", "true").start();
    assert!(lab.terminate().success());
    let said = told(lab.command(&["import", &bundle]));
    assert!(said.contains("which Firefox takes until"), "{said}");
    lab.restart();
    let ca = lab.data().join("ca/ca.pem");
    scene.clients_work(&lab, &ca);
    let status: Value = object(lab.command(&["settings", "status", "--json"]));
    assert!(
        status["collections"].as_array().unwrap().iter().all(|one| one["signed"] == "good"),
        "{status:#}"
    );
}

#[test]
fn a_lab_that_serves_a_bundle_as_it_is_works_as_well() {
    let scene = Scene::new();
    let bundle = scene.bundle();
    let before = std::fs::read(&bundle).unwrap();
    netns::enter();
    let lab = scene.builder().arg("--intercept").arg("--bundle").arg(&bundle).start();
    let ca = lab.data().join("ca/ca.pem");
    scene.clients_work(&lab, &ca);
    let held: Vec<_> =
        std::fs::read_dir(lab.data()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(held, ["ca"], "nothing was imported");
    assert!(std::fs::read(&bundle).unwrap() == before);
}
