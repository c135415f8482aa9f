//! `hubcache preload --firefox`: what it brings, what it pins, and what of Remote Settings stays here because it is locked.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use crate::support;
use hubcache::model::Resource;
use hubcache::transfer::lock::Lock;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use support::client::get;
use support::daemon::{Builder, Daemon};
use support::eventually;
use support::hub::{Fault, File, ScriptedHub, What};
use support::output::{object, refused, told};
use support::settings::{ScriptedSettings, SettingsFault};

const OPTIONS: &str = "ml-inference-options";
const RUNTIME: &str = "ml-onnx-runtime";
const DENY: &str = "ml-model-allow-deny-list";
const WASM: &[u8] = b"\0asm the runtime";

/// A hub with three models, of which one has a twin at Hugging Face, and a server that announces them.
struct Scene {
    hub: ScriptedHub,
    settings: ScriptedSettings,
    folder: tempfile::TempDir,
}

/// A model whose tokenizer is another repository, with the kind of its weights.
fn captions() -> Value {
    json!({
        "id": "alt", "featureId": "pdfjs-alt-text", "taskName": "image-to-text",
        "modelId": "acme/captions", "modelRevision": "v1.0", "dtype": "q8",
        "tokenizerId": "acme/words", "tokenizerRevision": "v2.0",
        "processorId": "acme/captions", "processorRevision": "v1.0",
    })
}

/// A model at `main` that has no feature of its own, with another kind of weights.
fn embedding() -> Value {
    json!({"id": "embed", "taskName": "embedding", "modelId": "acme/embed", "dtype": "fp16"})
}

/// A model that another backend runs than ONNX.
fn of_backend() -> Value {
    json!({"id": "s", "featureId": "static", "modelId": "acme/static", "modelRevision": "v1.0",
           "backend": "static-embeddings"})
}

impl Scene {
    fn new() -> Self {
        let (hub, settings) = (ScriptedHub::start(), ScriptedSettings::start());
        let scene = Self { hub, settings, folder: tempfile::tempdir().unwrap() };
        for (model, revision, paths) in [
            (
                "acme/captions",
                "v1.0",
                &["config.json", "onnx/model.onnx", "onnx/model_quantized.onnx", "pytorch_model.bin"][..],
            ),
            ("acme/words", "v2.0", &["onnx/model_quantized.onnx", "tokenizer.json"]),
            ("acme/embed", "main", &["config.json", "onnx/model_fp16.onnx", "onnx/model_quantized.onnx"]),
        ] {
            paths.iter().for_each(|path| drop(scene.hub.moz(model, revision, path, bytes(model, path))));
        }
        let listed = ["README.md", "config.json", "onnx/model.onnx", "onnx/model_quantized.onnx"];
        let listed = listed.into_iter().chain(["preprocessor_config.json", "pytorch_model.bin"]);
        let twin = listed.map(|path| File::lfs(path, path.repeat(9).into_bytes()));
        scene.hub.hf("acme/captions").commit(twin.collect::<Vec<_>>());
        scene
            .hub
            .hf("acme/tiny")
            .commit([File::small("config.json", "{}"), File::small("README.md", "read me")]);
        scene.announce(json!([captions(), embedding()]));
        let attachment = scene.settings.attach(RUNTIME, "wasm", "ort.wasm", WASM);
        scene.settings.publish(RUNTIME, json!([{"id": "wasm", "name": "onnx", "attachment": attachment}]));
        scene.settings.startup(&[("main", OPTIONS)]);
        scene
    }

    fn announce(&self, records: Value) -> u64 {
        self.settings.publish(OPTIONS, records)
    }

    /// Asks the server, and fetches attachments, only where a command wants it.
    fn builder(&self) -> Builder {
        Daemon::builder()
            .hub(&self.hub)
            .remote_settings(&self.settings)
            .set("settings.collections", &format!("{OPTIONS},{RUNTIME}"))
            .set("settings.interval", "1h")
            .set("settings.attachments", "false")
            .set("cache.negative_ttl", "0s")
            .set("upstream.backoff", "10ms")
            .set("upstream.attempts", "2")
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("lab.lock")
    }

    fn lock(&self) -> Lock {
        Lock::parse(&self.text()).unwrap()
    }

    fn text(&self) -> String {
        fs::read_to_string(self.path()).unwrap()
    }

    /// `hubcache preload --firefox --lock FILE`, and what else is given.
    fn pin(&self, daemon: &Daemon, arguments: &[&str]) -> Output {
        let path = self.path();
        preload(daemon, &[&["--lock", path.to_str().unwrap()], arguments].concat())
    }
}

/// `hubcache preload --firefox`, and what else is given.
fn preload(daemon: &Daemon, arguments: &[&str]) -> Output {
    daemon.command(&[&["preload", "--firefox"], arguments].concat())
}

fn bytes(model: &str, path: &str) -> Vec<u8> {
    format!("{model} {path} ").repeat(50).into_bytes()
}

/// Model and path of each file that a command lists.
fn files(object: &Value) -> Vec<String> {
    let files = object["files"].as_array().unwrap().iter();
    let name =
        |file: &Value| format!("{}/{}", file["model"].as_str().unwrap(), file["path"].as_str().unwrap());
    files.map(name).filter(|name| !name.starts_with("settings:")).collect()
}

/// The models of a lock, each with its features and files.
fn models(lock: &Lock) -> Vec<String> {
    let paths = |files: Vec<&String>| files.into_iter().cloned().collect::<Vec<_>>().join(" ");
    let line = |(name, locked): (&hubcache::transfer::ModelName, &hubcache::transfer::lock::Locked)| {
        let features = paths(locked.features.iter().collect());
        format!("{name} [{features}] {}", paths(locked.files.keys().collect()))
    };
    lock.models.iter().map(line).collect()
}

/// What is held of Remote Settings as a file: repository, digest, and whether it is pinned.
fn held(daemon: &Daemon) -> Vec<(String, String, bool)> {
    let files: Value =
        serde_json::from_str(&told(daemon.command(&["ls", "settings:", "--files", "--json"]))).unwrap();
    let text = |file: &Value, field: &str| file[field].as_str().unwrap().to_owned();
    let files = files.as_array().unwrap().iter();
    files.map(|file| (text(file, "repo"), text(file, "sha256"), file["pinned"] == true)).collect()
}

/// That all that a lock pins of Remote Settings is here, under its digest, and pinned.
fn assert_kept(daemon: &Daemon, lock: &Lock) {
    let held = held(daemon);
    for (Resource { repo, revision, path, .. }, _) in lock.settings.as_ref().unwrap().files() {
        let want = (repo.id.clone(), revision.as_str().to_owned(), true);
        assert!(held.contains(&want), "{path}: {want:?} is not among {held:#?}");
    }
}

#[test]
fn all_that_is_announced_is_brought_and_pinned_with_the_state_of_remote_settings() {
    let scene = Scene::new();
    let daemon = scene.builder().start();
    let first = scene.pin(&daemon, &[]);
    let said = String::from_utf8_lossy(&first.stderr).into_owned();
    told(first);
    for line in ["moz:acme/captions@v1.0  new", "+ main/ml-onnx-runtime  ", "+ attachment main-workspace/"] {
        assert!(said.contains(line), "{line} is not in\n{said}");
    }
    let (lock, text) = (scene.lock(), scene.text());
    assert_eq!(
        models(&lock),
        [
            "moz:acme/captions@v1.0 [pdfjs-alt-text] config.json onnx/model_quantized.onnx",
            "moz:acme/embed@main [embedding] config.json onnx/model_fp16.onnx",
            "moz:acme/words@v2.0 [pdfjs-alt-text] tokenizer.json",
        ]
    );
    let weights = bytes("acme/captions", "onnx/model_quantized.onnx");
    let digest = hubcache::model::hex(&Sha256::digest(&weights));
    let line = format!(
        "    {{ path = \"onnx/model_quantized.onnx\", size = {}, sha256 = \"{digest}\", from = \"bucket\" }},",
        weights.len()
    );
    assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
    assert!(text.contains("features = [\"pdfjs-alt-text\"]\n") && text.contains("\n[settings]\n"), "{text}");
    assert_eq!(lock.print(), text);

    let settings = lock.settings.as_ref().unwrap();
    assert_eq!(settings.server.as_str(), scene.settings.url());
    let collections: Vec<String> = settings.snapshots.keys().map(ToString::to_string).collect();
    assert_eq!(collections, [format!("main/{OPTIONS}"), format!("main/{RUNTIME}")]);
    assert_eq!(settings.chains.len(), 1);
    assert!(settings.root.is_some() && settings.startup.is_some());
    let root = get(&format!("{}/", scene.settings.url())).body;
    assert_eq!(
        settings.root.unwrap().sha256.to_string(),
        hubcache::model::hex(&Sha256::digest(&root)),
        "as it came"
    );
    let runtime = settings.attachments.values().next().unwrap().part;
    assert_eq!(runtime.sha256.to_string(), hubcache::model::hex(&Sha256::digest(WASM)));
    assert_kept(&daemon, &lock);
    // Five files, two snapshots, one chain, root, bundle and attachment.
    assert_eq!(
        told(daemon.command(&["lock", "check", "--lock", scene.path().to_str().unwrap()])),
        "11 files as pinned\n"
    );

    // Once more: nothing is fetched, and no byte of the lock changes.
    let again = object(scene.pin(&daemon, &["--json"]));
    assert_eq!((&again["fetched"], &again["held"]), (&json!(0), &json!(6)), "{again:#}");
    assert_eq!(again["lock"], json!({"models": [], "settings": []}), "{again:#}");
    assert_eq!(scene.text(), text);
    let history = told(daemon.command(&["history", "locked/snapshots"]));
    assert_eq!(history.matches("pinned").count(), 2, "each once: {history}");
    for unwanted in ["captions/v1.0/onnx/model.onnx", "pytorch_model.bin", "words/v2.0/onnx/"] {
        assert_eq!(scene.hub.body_bytes(unwanted), 0, "{unwanted}: {}", scene.hub.journal());
    }
}

#[test]
fn a_feature_or_a_task_narrows_it() {
    let scene = Scene::new();
    let daemon = scene.builder().start();
    let plan = |arguments: &[&str]| object(preload(&daemon, &[arguments, &["--plan", "--json"]].concat()));
    let of_feature = files(&plan(&["--feature", "pdfjs-alt-text"]));
    assert!(of_feature.iter().all(|file| !file.contains("acme/embed")), "{of_feature:?}");
    assert!(of_feature.contains(&"moz:acme/captions@v1.0/onnx/model_quantized.onnx".to_owned()));
    assert_eq!(files(&plan(&["--feature", "image-to-text"])), of_feature, "its task");
    let both = files(&plan(&["--feature", "pdfjs-alt-text", "--feature", "embedding"]));
    assert_eq!(both, files(&plan(&[])));
    let why = refused(preload(&daemon, &["--feature", "gone"]), 64);
    assert!(why.contains("\"gone\"; there are embedding, pdfjs-alt-text"), "{why}");
    refused(daemon.command(&["preload", "--feature", "embedding", "hf:acme/tiny"]), 64);

    // A feature is added to those that the lock has.
    told(scene.pin(&daemon, &["--feature", "embedding"]));
    assert_eq!(models(&scene.lock()).len(), 1);
    told(scene.pin(&daemon, &["--feature", "pdfjs-alt-text"]));
    assert_eq!(models(&scene.lock()).len(), 3);
}

#[test]
fn a_plan_shows_models_attachments_and_collections_and_does_nothing() {
    let scene = Scene::new();
    let daemon = scene.builder().start();
    let shown = told(scene.pin(&daemon, &["--plan", "hf:acme/tiny"]));
    for line in [
        "hf:acme/tiny@main\n",
        "moz:acme/captions@v1.0\n  config.json",
        "settings:main/ml-onnx-runtime\n  main-workspace/",
        "main/ml-inference-options        2  20",
    ] {
        assert!(shown.contains(line), "{line} is not in\n{shown}");
    }
    let plan = object(scene.pin(&daemon, &["--plan", "--json"]));
    let attachment = plan["files"].as_array().unwrap().iter().find(|f| f["size"] == WASM.len()).unwrap();
    assert!(attachment["model"].as_str().unwrap().starts_with("settings:main/ml-onnx-runtime@"), "{plan:#}");
    assert_eq!(attachment["held"], false);
    let collection = &plan["collections"][1];
    assert_eq!(
        (&collection["collection"], &collection["signed"]),
        (&json!("main/ml-onnx-runtime"), &json!("good"))
    );
    assert!(collection["timestamp"].is_u64() && collection["firefox_until"].is_string(), "{plan:#}");
    assert!(!scene.path().exists());
    assert_eq!(held(&daemon), [], "nothing is kept");
    assert_eq!(scene.hub.body_bytes("/v1.0/"), 0, "{}", scene.hub.journal());
}

#[test]
fn what_is_locked_is_still_here_after_a_newer_state_and_goes_when_it_is_unpinned() {
    let scene = Scene::new();
    let mut daemon = scene.builder().set("settings.grace", "1ms").start();
    told(scene.pin(&daemon, &[]));
    let lock = scene.lock();
    // A state without the runtime; from now on attachments that no record has are let go of.
    scene.announce(json!([captions()]));
    scene.settings.publish(RUNTIME, json!([]));
    daemon.restart_with(&[("settings.attachments", "true")]);
    told(daemon.command(&["settings", "sync"]));
    daemon.restart();
    told(daemon.command(&["settings", "sync"]));
    assert_kept(&daemon, &lock);
    let check = told(daemon.command(&["lock", "check", "--lock", scene.path().to_str().unwrap()]));
    assert_eq!(check, "11 files as pinned\n");
    let shown = told(daemon.command(&["ls", "settings:"]));
    assert!(shown.contains("locked/snapshots"), "{shown}");

    told(daemon.command(&["unpin", "settings:locked/snapshots"]));
    eventually(|| {
        told(daemon.command(&["settings", "sync"]));
        let held = held(&daemon);
        (!held.iter().any(|(repo, ..)| repo == "locked/snapshots")).then_some(())
    });
    let left = held(&daemon);
    assert!(left.iter().all(|(.., pinned)| *pinned) && left.len() == 4, "the others stay: {left:?}");
    let missing = refused(daemon.command(&["lock", "check", "--lock", scene.path().to_str().unwrap()]), 65);
    assert!(missing.contains("missing  settings:locked/snapshots@"), "{missing}");
    assert!(missing.contains("hubcache preload --firefox --lock FILE"), "the remedy: {missing}");
}

#[test]
fn what_is_announced_no_longer_is_taken_out_and_what_people_have_named_stays() {
    let scene = Scene::new();
    let daemon = scene.builder().start();
    told(scene.pin(&daemon, &["hf:acme/tiny", "--exclude", "*.md"]));
    let path = scene.path();
    let add = ["lock", "add", "moz:acme/words@v2.0", "--file", "onnx/model_quantized.onnx", "--lock"];
    told(daemon.command(&[&add[..], &[path.to_str().unwrap()]].concat()));
    let tiny = models(&scene.lock())[3].clone();
    assert_eq!(tiny, "hf:acme/tiny@main [] config.json");
    let old = scene.folder.path().join("old.lock");
    fs::copy(&path, &old).unwrap();

    scene.hub.moz("acme/captions", "v1.1", "config.json", "{}");
    let mut moved = captions();
    moved["modelRevision"] = json!("v1.1");
    let at = scene.announce(json!([moved]));
    let json = object(scene.pin(&daemon, &["--json"]));
    assert_eq!(
        models(&scene.lock()),
        [
            "moz:acme/captions@v1.0 [pdfjs-alt-text] config.json",
            "moz:acme/captions@v1.1 [pdfjs-alt-text] config.json",
            // A person's, which is announced as a tokenizer.
            "moz:acme/words@v2.0 [] onnx/model_quantized.onnx tokenizer.json",
            &tiny,
        ]
    );
    let settings = json["lock"]["settings"].as_array().unwrap();
    let snapshot = settings.iter().find(|one| one["kind"] == "snapshot").unwrap();
    assert_eq!(
        (&snapshot["name"], &snapshot["after"]["timestamp"]),
        (&json!("main/ml-inference-options"), &json!(at))
    );
    let diff = told(daemon.command(&["lock", "diff", old.to_str().unwrap(), path.to_str().unwrap()]));
    assert!(diff.contains("moz:acme/embed@main  removed"), "{diff}");
    assert!(
        diff.contains("  ~ main/ml-inference-options  20") && !diff.contains("ml-onnx-runtime"),
        "{diff}"
    );
}

#[test]
fn where_the_server_cannot_be_asked_what_is_held_is_taken() {
    let scene = Scene::new();
    let mut daemon = scene.builder().start();
    told(scene.pin(&daemon, &[]));
    let text = scene.text();
    scene.settings.stop();
    fs::remove_file(scene.path()).unwrap();
    let output = scene.pin(&daemon, &[]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    told(output);
    assert!(said.contains("Remote Settings is taken as it is held: the server cannot be asked"), "{said}");
    assert_eq!(scene.text(), text);
    // Offline no hub is asked either.
    daemon.restart_with(&[("upstream.offline", "true")]);
    scene.hub.clear();
    let output = scene.pin(&daemon, &[]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    told(output);
    assert!(said.contains("moz:acme/embed@main: what is held of it is taken"), "{said}");
    assert_eq!(scene.text(), text);
    assert_eq!(scene.hub.requests().len(), 0, "{}", scene.hub.journal());
}

#[test]
fn where_nothing_is_held_and_nobody_can_be_asked_it_says_so() {
    let scene = Scene::new();
    scene.settings.stop();
    let mut daemon = scene.builder().start();
    for (settings, status, why) in [
        (&[][..], 75, "nothing is held of main/ml-inference-options: the server cannot be asked"),
        (&[("settings.collections", RUNTIME)], 78, "is not among settings.collections"),
        (&[("settings.collections", OPTIONS), ("upstream.offline", "true")], 69, "this is offline"),
        (&[("settings.server", "off")], 69, "Remote Settings is off"),
    ] {
        daemon.restart_with(settings);
        let said = refused(scene.pin(&daemon, &[]), status);
        assert!(said.contains(why), "{status}: {said}");
        assert!(!scene.path().exists(), "{status}");
    }
}

#[test]
fn a_collection_that_is_not_signed_is_never_locked() {
    let scene = Scene::new();
    let wrong =
        |collection: &str| SettingsFault::WrongSignature { collection: collection.into(), times: None };
    let daemon = scene.builder().start();
    eventually(|| (scene.settings.count(OPTIONS) > 0).then_some(()));
    told(scene.pin(&daemon, &["--feature", "embedding"]));
    let first = scene.lock().settings.unwrap();
    // A newer state that is not signed is not taken over; the last good one stays, here and in the lock.
    scene.announce(json!([]));
    scene.settings.fault(wrong(OPTIONS));
    let output = scene.pin(&daemon, &[]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    told(output);
    assert!(said.contains("main/ml-inference-options: the signature is of other records"), "{said}");
    assert_eq!(scene.lock().settings.unwrap().snapshots, first.snapshots);

    // Without a good one there is nothing to lock; the rest is brought all the same.
    fs::remove_file(scene.path()).unwrap();
    let fresh = scene.builder();
    scene.settings.behave();
    scene.announce(json!([embedding()]));
    scene.settings.fault(wrong(RUNTIME));
    let fresh = fresh.start();
    let said = refused(scene.pin(&fresh, &[]), 75);
    assert!(said.contains("main/ml-onnx-runtime: the signature is of other records"), "{said}");
    let lock = scene.lock();
    assert_eq!(models(&lock), ["moz:acme/embed@main [embedding] config.json onnx/model_fp16.onnx"]);
    let settings = lock.settings.unwrap();
    assert_eq!((settings.snapshots.len(), settings.attachments.len()), (1, 0));
}

#[test]
fn a_model_that_cannot_be_had_is_named_after_the_others_are_here() {
    let scene = Scene::new();
    for path in ["embeddings.npy", "tokenizer.json"] {
        scene.hub.moz("acme/static", "v1.0", path, bytes("acme/static", path));
    }
    let early = json!({"id": "e", "featureId": "early", "modelId": "acme/early", "modelRevision": "v9.0"});
    let odd = json!({"id": "o", "featureId": "odd", "modelId": "../odd", "modelRevision": "v1.0"});
    let service = json!({"id": "c", "featureId": "chat", "modelId": "acme/chat", "backend": "openai"});
    scene.announce(json!([embedding(), of_backend(), early, service]));
    let daemon = scene.builder().start();
    let said = refused(scene.pin(&daemon, &[]), 66);
    assert!(said.contains("moz:acme/early@v9.0: the hub has none of the files"), "{said}");
    let remedy = "`hubcache lock add moz:acme/static@v1.0 --file PATH --lock FILE`";
    assert!(said.contains("moz:acme/static@v1.0: nobody lists its files") && said.contains(remedy), "{said}");
    let embed = "moz:acme/embed@main [embedding] config.json onnx/model_fp16.onnx";
    assert_eq!(models(&scene.lock()), [embed]);

    // The remedy helps; and a record with a name that cannot be one does no harm to the others.
    let path = scene.path();
    let add = ["lock", "add", "moz:acme/static@v1.0", "--file", "embeddings.npy", "--file", "tokenizer.json"];
    told(daemon.command(&[&add[..], &["--lock", path.to_str().unwrap()]].concat()));
    scene.announce(json!([embedding(), of_backend(), odd]));
    let said = refused(scene.pin(&daemon, &[]), 65);
    assert!(said.contains("\"../odd\", which record o names"), "{said}");
    assert!(!said.contains("acme/static@v1.0: nobody"), "{said}");
    assert_eq!(models(&scene.lock()), [embed, "moz:acme/static@v1.0 [] embeddings.npy tokenizer.json"]);

    // With a twin it is known what there is: all but what others read.
    fs::remove_file(&path).unwrap();
    let listed = ["README.md", "embeddings.npy", "pytorch_model.bin", "tokenizer.json"];
    scene.hub.hf("acme/static").commit(listed.map(|path| File::small(path, path)));
    scene.announce(json!([of_backend()]));
    told(scene.pin(&daemon, &[]));
    assert_eq!(models(&scene.lock()), ["moz:acme/static@v1.0 [static] embeddings.npy tokenizer.json"]);
}

#[test]
fn what_the_deny_list_forbids_is_not_brought() {
    let scene = Scene::new();
    scene.settings.publish(DENY, json!([]));
    let collections = format!("{OPTIONS},{RUNTIME},{DENY}");
    let daemon = scene.builder().set("settings.collections", &collections).start();
    told(scene.pin(&daemon, &[]));
    assert_eq!(models(&scene.lock()).len(), 3);
    let prefix = "https://model-hub.mozilla.org/acme/embed";
    scene.settings.publish(DENY, json!([{"id": "no", "filter": "DENY", "urlPrefix": prefix}]));
    let output = scene.pin(&daemon, &[]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    told(output);
    assert!(said.contains("acme/embed@main: record no of the deny list forbids it"), "{said}");
    assert!(models(&scene.lock()).iter().all(|model| !model.contains("acme/embed")), "{}", scene.text());
}

#[test]
fn a_model_that_comes_in_part_leaves_the_lock_as_it_was_for_it() {
    let scene = Scene::new();
    let daemon = scene.builder().start();
    scene.hub.fault(Fault::on("onnx/model_fp16.onnx", What::status(500)).times(100));
    let said = refused(scene.pin(&daemon, &[]), 75);
    assert!(said.contains("moz:acme/embed@main/onnx/model_fp16.onnx"), "{said}");
    assert!(models(&scene.lock()).iter().all(|model| !model.contains("acme/embed")), "{}", scene.text());
    scene.hub.behave();
    told(scene.pin(&daemon, &[]));
    assert_eq!(models(&scene.lock()).len(), 3);
}

#[test]
fn another_machine_brings_what_can_be_fetched_and_says_what_cannot() {
    let scene = Scene::new();
    let mut daemon = scene.builder().start();
    told(scene.pin(&daemon, &[]));
    // Without a server, too, and on another data directory.
    assert!(daemon.terminate().success());
    told(preload(&daemon, &[]));
    let path = scene.path();
    let path = path.to_str().unwrap();
    let other = scene.builder().start();
    eventually(|| told(other.command(&["settings", "status"])).contains("good").then_some(()));
    let said = refused(other.command(&["preload", "--lock", path]), 65);
    assert!(said.contains("fetched 6 files"), "{said}");
    assert!(said.contains("settings:locked/snapshots@") && said.contains("is not here"), "{said}");
    assert!(said.contains("hubcache preload --firefox --lock FILE"), "the remedy: {said}");
    let pinned = held(&other);
    assert!(matches!(&pinned[..], [(repo, _, true)] if repo == "main/ml-onnx-runtime"), "{pinned:?}");
    // It is the same state there, so the same command has all of it.
    let text = scene.text();
    told(scene.pin(&other, &[]));
    assert_eq!(scene.text(), text);
    told(other.command(&["preload", "--lock", path]));
    runs_with(&other, Path::new(path));
}

/// That a program runs with what a lock pins that has more than models, and that a server can be frozen on it.
fn runs_with(daemon: &Daemon, lock: &Path) {
    let model = "$HUBCACHE_URL/acme/captions/v1.0/config.json";
    let script = format!("curl -sf {model}");
    let lock = lock.to_str().unwrap();
    let output =
        daemon.program(&["run", "--lock", lock, "--", "sh", "-c", &script]).output().expect("it can be run");
    assert_eq!(told(output).into_bytes(), bytes("acme/captions", "config.json"));
}

/// The moment at which a collection is held.
fn moment(daemon: &Daemon, collection: &str) -> u64 {
    let status = object(daemon.command(&["settings", "status", "--json"]));
    let name = format!("main/{collection}");
    let all = status["collections"].as_array().unwrap();
    all.iter().find(|one| one["collection"] == name.as_str()).unwrap()["timestamp"].as_u64().unwrap_or(0)
}

#[test]
fn what_a_bundle_brings_of_remote_settings_replaces_what_is_older_and_nothing_else() {
    let scene = Scene::new();
    let connected = scene.builder().start();
    let export = |name: &str| {
        told(scene.pin(&connected, &[]));
        let (lock, path) = (scene.path(), scene.folder.path().join(name));
        told(connected.command(&["export", "--lock", lock.to_str().unwrap(), "-o", path.to_str().unwrap()]));
        path.to_str().unwrap().to_owned()
    };
    let old = export("old.tar");
    let first = moment(&connected, OPTIONS);
    let later = scene.announce(json!([captions(), embedding(), of_backend()]));
    let new = scene.folder.path().join("new.tar").to_str().unwrap().to_owned();
    scene.pin(&connected, &[]);
    let lock = scene.path();
    told(connected.command(&["export", "--lock", lock.to_str().unwrap(), "-o", &new]));
    assert!(first < later && moment(&connected, OPTIONS) == later);
    scene.hub.stop();
    scene.settings.stop();

    // Under another root nothing of it is signed.
    let stranger = scene.builder().set("settings.root", &"ab".repeat(32)).alone();
    let said = refused(stranger.command(&["import", &old]), 65);
    assert!(said.contains("of Remote Settings is refused"), "{said}");
    assert!(told(stranger.command(&["ls", "--json"])).starts_with("[]"), "nothing was taken");

    // A server that runs takes it over, and tells clients.
    let lab = scene.builder().set("upstream.offline", "true").start();
    let clients_see = || {
        let url = format!("{}/rs/v1/buckets/main/collections/{OPTIONS}/changeset?_expected=0", lab.url());
        serde_json::from_slice::<Value>(&get(&url).body).unwrap_or_default()["timestamp"].as_u64()
    };
    for (bundle, held) in [(&old, first), (&new, later), (&old, later)] {
        let said = told(lab.command(&["import", bundle]));
        assert_eq!((moment(&lab, OPTIONS), clients_see()), (held, Some(held)), "{said}");
        let stays = said.contains(&format!("main/{OPTIONS} is held as it was later, and stays"));
        assert_eq!(stays, bundle == &old && held == later, "{said}");
        assert!(said.contains("which Firefox takes until"), "{said}");
    }
    let url = format!("{}/rs/attachments/", lab.url());
    let location = scene.lock().settings.unwrap().attachments.keys().next().unwrap().clone();
    get(&format!("{url}{location}")).assert_is(200, WASM, "the runtime");
}
