//! A real Firefox, without a window and in a network of its own that leads nowhere, told only of a proxy and a
//! certificate, or of a hub on localhost.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::{drivers, support};
use serde_json::{Value, json};
use support::daemon::{Builder, Daemon};
use support::hub::{Fault, File, ScriptedHub, What, digests};
use support::netns;
use support::settings::ScriptedSettings;
use tempfile::TempDir;

pub const MOZILLA: &str = "https://model-hub.mozilla.org/";
const HF: &str = "https://huggingface.co/";
/// Longer than any answer takes, also of a download that breaks off and goes on.
const PATIENCE: Duration = Duration::from_secs(120);

/// A running Firefox; it ends when dropped.
pub struct Firefox {
    child: Child,
    stdin: Option<ChildStdin>,
    answers: mpsc::Receiver<String>,
    home: PathBuf,
}

impl Firefox {
    /// One with the profile below `home`, which is kept there for another start.
    fn start(home: &Path, flags: &[&str]) -> Self {
        let mut command: Command = drivers::clean(&drivers::installed("firefox/bin/python"), home);
        command
            .arg(drivers::driver("firefox/drive.py"))
            .arg("--profile")
            .arg(home.join("profile"))
            .args(flags);
        Self::driven_by(command, home)
    }

    /// One whose driver is run by this command.
    fn driven_by(mut command: Command, home: &Path) -> Self {
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the driver starts");
        let stdout = BufReader::new(child.stdout.take().expect("stdout is a pipe"));
        let (tell, answers) = mpsc::channel();
        thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| tell.send(line)));
        let stdin = child.stdin.take();
        let firefox = Self { child, stdin, answers, home: home.to_owned() };
        firefox.answer().expect("Firefox starts");
        firefox
    }

    fn answer(&self) -> Result<Value, String> {
        let line = self.answers.recv_timeout(PATIENCE).unwrap_or_else(|_| {
            let log = std::fs::read_to_string(self.home.join("profile/firefox.log")).unwrap_or_default();
            panic!("Firefox does not answer\n{log}")
        });
        let mut answer: Value = serde_json::from_str(&line).expect("an answer is JSON");
        match answer.get("error") {
            Some(error) => Err(error.as_str().unwrap_or_default().to_owned()),
            None => Ok(answer["ok"].take()),
        }
    }

    pub fn ask(&mut self, command: &Value) -> Result<Value, String> {
        let stdin = self.stdin.as_mut().expect("it was not told to end");
        writeln!(stdin, "{command}").expect("the driver reads commands");
        self.answer()
    }

    /// Loads a file of `model` as an engine would; its SHA-256.
    fn file(&mut self, place: &Place, model: &str, revision: &str, file: &str) -> Result<String, String> {
        let mut command = json!({"do": "file", "model": model, "revision": revision, "file": file});
        if let Some(root) = place.root {
            command["root"] = json!(root);
        }
        if let Some(template) = place.template {
            command["template"] = json!(template);
        }
        let answer = self.ask(&command)?;
        Ok(answer["sha256"].as_str().expect("a digest").to_owned())
    }

    /// Firefox ends in good order, so that its profile can be used again.
    fn quit(mut self) {
        self.stdin = None;
        self.child.wait().expect("the driver ends");
    }
}

impl Drop for Firefox {
    fn drop(&mut self) {
        self.stdin = None;
        let _ = self.child.wait();
    }
}

/// Where Firefox is told that a hub is.
#[derive(Clone, Copy, Default)]
struct Place {
    root: Option<&'static str>,
    template: Option<&'static str>,
}

const AT_MOZILLA: Place = Place { root: Some(MOZILLA), template: None };
const AT_HF: Place = Place { root: Some(HF), template: Some("{model}/resolve/{revision}") };
/// What the preference says.
const AT_LOCALHOST: Place = Place { root: None, template: None };

/// How Firefox reaches the program.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Proxy,
    Localhost,
}

struct Scene {
    hub: ScriptedHub,
    daemon: Daemon,
    mode: Mode,
}

impl Scene {
    /// Everything in a network namespace of its own.
    fn start(mode: Mode, more: impl FnOnce(Builder) -> Builder) -> Self {
        netns::enter();
        let hub = ScriptedHub::start();
        let builder = Daemon::builder().hub(&hub).set("cache.ref_ttl", "1ms").set("cache.negative_ttl", "0s");
        let builder = if mode == Mode::Proxy { builder.arg("--intercept") } else { builder };
        let daemon = more(builder).start();
        Self { hub, daemon, mode }
    }

    fn ca(&self) -> PathBuf {
        self.daemon.data().join("ca/ca.pem")
    }

    fn firefox(&self, home: &Path) -> Firefox {
        let port = self.daemon.listen().rsplit(':').next().unwrap();
        match self.mode {
            Mode::Proxy => {
                let ca = self.ca();
                let flags = ["--proxy", self.daemon.listen(), "--ca", ca.to_str().unwrap()];
                let mut firefox = Firefox::start(home, &flags);
                // Which hubs are allowed, Firefox has from Remote Settings, to which no way leads here.
                firefox.ask(&json!({"do": "settings", "allow": [MOZILLA, HF]})).expect("hubs are allowed");
                firefox
            }
            Mode::Localhost => {
                let pref = format!("browser.ml.modelHubRootUrl=\"http://localhost:{port}/\"");
                Firefox::start(home, &["--pref", &pref])
            }
        }
    }

    /// Where files of the Mozilla hub are for this Firefox.
    fn mozilla(&self) -> Place {
        if self.mode == Mode::Proxy { AT_MOZILLA } else { AT_LOCALHOST }
    }
}

fn scratch() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..length).map(|_| random.u8(..)).collect()
}

fn sha256(bytes: &[u8]) -> Result<String, String> {
    Ok(digests::sha256(bytes))
}

/// A pinned file cold and warm, `main` after it moved, a missing file, and everything again without the hub.
fn files_of_the_mozilla_hub(mode: Mode) {
    let scene = Scene::start(mode, |b| b);
    let [pinned, before, after, late] = [1, 2, 3, 4].map(|seed| noise(seed, 300_000));
    scene.hub.moz("acme/tiny", "v1.0", "onnx/model.onnx", pinned.clone());
    scene.hub.moz("acme/tiny", "main", "config.json", before.clone());
    let (home, at) = (scratch(), scene.mozilla());
    let mut firefox = scene.firefox(home.path());
    let pinned_file = |firefox: &mut Firefox| firefox.file(&at, "acme/tiny", "v1.0", "onnx/model.onnx");
    let main_file = |firefox: &mut Firefox| firefox.file(&at, "acme/tiny", "main", "config.json");
    assert_eq!(pinned_file(&mut firefox), sha256(&pinned));
    assert_eq!(main_file(&mut firefox), sha256(&before));
    scene.hub.clear();
    assert_eq!(pinned_file(&mut firefox), sha256(&pinned), "warm");
    assert_eq!(scene.hub.requests().len(), 0, "a pinned file is asked for once\n{}", scene.hub.journal());

    scene.hub.moz("acme/tiny", "main", "config.json", after.clone());
    assert_eq!(main_file(&mut firefox), sha256(&after), "main has moved\n{}", scene.hub.journal());

    // What is missing leaves nothing behind that would stand in the way later.
    firefox.file(&at, "acme/tiny", "v1.0", "late.json").expect_err("it is not there");
    let held = firefox.ask(&json!({"do": "models"})).unwrap().to_string();
    assert!(held.contains("model.onnx") && !held.contains("late.json"), "{held}");
    scene.hub.moz("acme/tiny", "v1.0", "late.json", late.clone());
    let got = support::eventually(|| firefox.file(&at, "acme/tiny", "v1.0", "late.json").ok());
    assert_eq!(Ok(got), sha256(&late));
    firefox.quit();

    scene.hub.stop();
    let home = scratch();
    let mut firefox = scene.firefox(home.path());
    assert_eq!(pinned_file(&mut firefox), sha256(&pinned), "without the hub, from a fresh profile");
    assert_eq!(main_file(&mut firefox), sha256(&after), "without the hub");
}

#[test]
fn as_its_proxy_it_gets_files_of_the_mozilla_hub() {
    files_of_the_mozilla_hub(Mode::Proxy);
}

#[test]
fn on_localhost_it_gets_files_of_the_mozilla_hub() {
    files_of_the_mozilla_hub(Mode::Localhost);
}

#[test]
fn as_its_proxy_it_gets_files_of_hugging_face() {
    let scene = Scene::start(Mode::Proxy, |b| b);
    let (small, large) = (noise(1, 2_000), noise(2, 500_000));
    scene
        .hub
        .hf("acme/tiny")
        .commit([File::small("config.json", small.clone()), File::xet("onnx/model.onnx", large.clone())]);
    for stopped in [false, true] {
        let home = scratch();
        let mut firefox = scene.firefox(home.path());
        assert_eq!(firefox.file(&AT_HF, "acme/tiny", "main", "config.json"), sha256(&small));
        assert_eq!(firefox.file(&AT_HF, "acme/tiny", "main", "onnx/model.onnx"), sha256(&large));
        if !stopped {
            let past = scene.hub.past("hubcache");
            assert!(past.is_empty(), "{past:#?}");
            scene.hub.stop();
        }
    }
}

/// The hub dies half-way through a file that nobody has, and comes back: nothing has to be deleted in Firefox.
fn the_hub_dies_half_way(mode: Mode, at: Place, revision: &str) {
    let scene = Scene::start(mode, |b| b.set("upstream.probe_interval", "100ms"));
    let bytes = noise(5, 3_000_000);
    scene.hub.moz("acme/tiny", revision, "model.onnx", bytes.clone());
    scene.hub.hf("acme/tiny").commit([File::lfs("model.onnx", bytes.clone())]);
    let home = scratch();
    let mut firefox = scene.firefox(home.path());
    let file = |firefox: &mut Firefox| firefox.file(&at, "acme/tiny", revision, "model.onnx");
    let cut = scene.hub.fault(Fault::on("model.onnx", What::CutAt(1_500_000)).get());
    scene.hub.fault(Fault::on("model.onnx", What::hang_up()).get().after(1).times(20));
    let first = file(&mut firefox);
    assert_eq!(cut.fired(), 1, "{}", scene.hub.journal());
    scene.hub.behave();
    if let Err(error) = &first {
        let held = firefox.ask(&json!({"do": "models"})).unwrap().to_string();
        assert!(!held.contains("model.onnx"), "{error}: {held}");
    }
    let got = support::eventually(|| file(&mut firefox).ok());
    assert_eq!(Ok(got), sha256(&bytes));
    firefox.quit();
    // It is whole after a restart too.
    let mut firefox = scene.firefox(home.path());
    scene.hub.stop();
    assert_eq!(file(&mut firefox), sha256(&bytes));
}

#[test]
fn as_its_proxy_it_survives_a_hub_that_dies_half_way() {
    the_hub_dies_half_way(Mode::Proxy, AT_MOZILLA, "v1.0");
}

#[test]
fn as_its_proxy_it_survives_when_hugging_face_dies_half_way() {
    the_hub_dies_half_way(Mode::Proxy, AT_HF, "main");
}

#[test]
fn on_localhost_it_survives_a_hub_that_dies_half_way() {
    the_hub_dies_half_way(Mode::Localhost, AT_LOCALHOST, "v1.0");
}

pub fn vectors(told: &Value) -> Vec<Vec<f64>> {
    serde_json::from_value(told["vectors"].clone()).expect("lists of numbers")
}

/// A whole inference, of a model that is here and nowhere else any more.
fn an_inference_from_the_cache_alone(mode: Mode) {
    let scene = Scene::start(mode, |b| b);
    let dir = scratch();
    let mut python = drivers::clean(&drivers::installed("firefox/bin/python"), dir.path());
    let made = python.arg(drivers::driver("firefox/tiny_model.py")).arg(dir.path()).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let model: Value = serde_json::from_slice(&made.stdout).unwrap();
    for file in model["files"].as_array().unwrap() {
        let path = file.as_str().unwrap();
        scene.hub.moz("acme/tiny", "v1.0", path, std::fs::read(dir.path().join(path)).unwrap());
    }
    let mut options = model["options"].clone();
    options["modelId"] = json!("acme/tiny");
    options["modelRevision"] = json!("v1.0");
    if mode == Mode::Proxy {
        options["modelHubRootUrl"] = json!(MOZILLA);
    }
    let command = json!({"do": "engine", "options": options, "run": model["run"]});
    for stopped in [false, true] {
        let home = scratch();
        let answer = scene.firefox(home.path()).ask(&command).expect("the engine runs");
        assert_eq!(vectors(&answer), vectors(&model), "stopped: {stopped}");
        scene.hub.stop();
    }
}

#[test]
fn as_its_proxy_it_gives_what_an_inference_needs() {
    an_inference_from_the_cache_alone(Mode::Proxy);
}

#[test]
fn on_localhost_it_gives_what_an_inference_needs() {
    an_inference_from_the_cache_alone(Mode::Localhost);
}

/// A Firefox whose Remote Settings come from `server`.
pub fn with_server(home: &Path, server: &str, more: &[&str]) -> Firefox {
    let pref = format!("services.settings.server={}", json!(server));
    Firefox::start(home, &[&["--pref", &pref], more].concat())
}

pub fn ids(answer: &Value) -> Vec<String> {
    let mut ids: Vec<_> =
        answer["records"].as_array().unwrap().iter().map(|r| r["id"].as_str().unwrap().to_owned()).collect();
    ids.sort();
    ids
}

fn watching(settings: &ScriptedSettings) -> impl FnOnce(Builder) -> Builder + '_ {
    |builder| builder.remote_settings(settings).set("settings.interval", "200ms")
}

/// Waits until the program holds this moment of a collection.
fn held(daemon: &Daemon, collection: &str, moment: u64) {
    support::eventually(|| {
        let output = daemon.command(&["settings", "status", "--json"]);
        let status: Value = serde_json::from_slice(&output.stdout).ok()?;
        let name = format!("main/{collection}");
        let all = status["collections"].as_array()?.clone();
        all.into_iter().find(|c| c["collection"] == name.as_str() && c["timestamp"] == moment)
    });
}

/// Collections, what is deleted in them, and attachments, from the mirror on localhost; in the end without its server.
#[test]
fn on_localhost_it_has_its_remote_settings_from_the_mirror() {
    const RUNTIME: &str = "ml-onnx-runtime";
    netns::enter();
    let (hub, settings) = (ScriptedHub::start(), ScriptedSettings::start());
    let wasm = noise(8, 200_000);
    let attachment = settings.attach(RUNTIME, "ort", "ort.wasm", &wasm);
    let runtime = json!({"id": "ort", "name": "ort", "version": "5.0", "attachment": attachment});
    let first = settings.publish(RUNTIME, json!([runtime, {"id": "old", "name": "x"}]));
    let daemon = watching(&settings)(Daemon::builder().hub(&hub)).start();
    held(&daemon, RUNTIME, first);
    let port = daemon.listen().rsplit(':').next().unwrap();
    let server = format!("http://localhost:{port}/rs/v1");
    let home = scratch();
    let mut firefox = with_server(home.path(), &server, &[]);
    let told = firefox.ask(&json!({"do": "server"})).unwrap();
    assert_eq!(told["attachments"], format!("http://localhost:{port}/rs/attachments/"));
    let sync = |firefox: &mut Firefox| firefox.ask(&json!({"do": "sync", "collection": RUNTIME})).unwrap();
    assert_eq!(ids(&sync(&mut firefox)), ["old", "ort"]);
    let second = settings.publish(RUNTIME, json!([runtime, {"id": "new", "name": "y"}]));
    held(&daemon, RUNTIME, second);
    let synced = sync(&mut firefox);
    assert_eq!(
        (ids(&synced), synced["timestamp"].as_u64()),
        (vec!["new".into(), "ort".into()], Some(second))
    );
    let attached = |firefox: &mut Firefox| {
        let got = firefox.ask(&json!({"do": "attachment", "collection": RUNTIME, "id": "ort"})).unwrap();
        got["sha256"].as_str().unwrap().to_owned()
    };
    assert_eq!(Ok(attached(&mut firefox)), sha256(&wasm));
    // Where signatures count, Firefox asks the mirror for their chain, and finds that it is not Mozilla's.
    let error =
        firefox.ask(&json!({"do": "sync", "collection": "ml-inference-words-block-list", "verify": true}));
    error.expect_err("nothing of that name is published");
    settings.publish("ml-inference-words-block-list", json!([{"id": "w"}]));
    let error = support::eventually(|| {
        let answer = firefox
            .ask(&json!({"do": "sync", "collection": "ml-inference-words-block-list", "verify": true}));
        answer.err().filter(|error| error.contains("ignature"))
    });
    daemon.wait_for_log("/rs/chains/");
    assert!(error.contains("InvalidSignatureError"), "{error}");
    firefox.quit();

    settings.stop();
    let home = scratch();
    let mut firefox = with_server(home.path(), &server, &[]);
    assert_eq!(ids(&sync(&mut firefox)), ["new", "ort"], "without the server, from a fresh profile");
    assert_eq!(Ok(attached(&mut firefox)), sha256(&wasm));
}

/// A stock Firefox and its proxy, and nothing else: which hubs are allowed, which model it is, and the model.
#[test]
fn as_its_proxy_it_gives_all_that_an_inference_needs_with_no_network() {
    const ALLOWED: &str = "ml-model-allow-deny-list";
    const OPTIONS: &str = "ml-inference-options";
    let settings_slot: std::cell::OnceCell<ScriptedSettings> = std::cell::OnceCell::new();
    let mut scene = Scene::start(Mode::Proxy, |builder| {
        watching(settings_slot.get_or_init(ScriptedSettings::start))(builder)
    });
    let settings = settings_slot.into_inner().unwrap();
    let dir = scratch();
    let mut python = drivers::clean(&drivers::installed("firefox/bin/python"), dir.path());
    let made = python.arg(drivers::driver("firefox/tiny_model.py")).arg(dir.path()).output().unwrap();
    let model: Value = serde_json::from_slice(&made.stdout).unwrap();
    for file in model["files"].as_array().unwrap() {
        let path = file.as_str().unwrap();
        scene.hub.moz("acme/tiny", "v1.0", path, std::fs::read(dir.path().join(path)).unwrap());
    }
    settings
        .publish(ALLOWED, json!([{"id": "moz", "filter": "ALLOW", "urlPrefix": MOZILLA, "description": ""}]));
    let record = json!([{"id": "r", "taskName": "text-embedding", "featureId": "tiny-test",
        "modelId": "acme/tiny", "modelRevision": "v1.0"}]);
    let moment = settings.publish(OPTIONS, record);
    held(&scene.daemon, OPTIONS, moment);
    let mut options = model["options"].clone();
    for (name, value) in [("modelId", "acme/tiny"), ("modelRevision", "v1.0"), ("modelHubRootUrl", MOZILLA)] {
        options[name] = json!(value);
    }
    let command = json!({"do": "engine", "options": options, "run": model["run"]});
    for offline in [false, true] {
        if offline {
            settings.stop();
            scene.hub.stop();
            scene.daemon.restart_with(&[("upstream.offline", "true")]);
        }
        let home = scratch();
        let ca = scene.ca();
        let flags = ["--proxy", scene.daemon.listen(), "--ca", ca.to_str().unwrap()];
        let mut firefox =
            with_server(home.path(), "https://firefox.settings.services.mozilla.com/v1", &flags);
        for collection in [ALLOWED, OPTIONS] {
            let synced = firefox.ask(&json!({"do": "sync", "collection": collection})).unwrap();
            assert_eq!(ids(&synced).len(), 1, "{collection}");
        }
        let answer = firefox.ask(&command).expect("the engine runs");
        assert_eq!(vectors(&answer), vectors(&model), "offline: {offline}");
    }
}

/// What `hubcache setup firefox` writes is all that an administrator has to put in place.
#[test]
fn policies_as_they_are_written_lead_a_stock_firefox_here() {
    let scene = Scene::start(Mode::Proxy, |b| b);
    let bytes = noise(6, 100_000);
    scene.hub.moz("acme/tiny", "v1.0", "model.onnx", bytes.clone());
    let dir = scratch();
    let written = scene.daemon.command(&[
        "setup",
        "firefox",
        "--write",
        dir.path().to_str().unwrap(),
        "--at",
        scene.daemon.listen(),
    ]);
    assert!(written.status.success(), "{}", String::from_utf8_lossy(&written.stderr));
    let policies = dir.path().join("policies.json");
    let home = scratch();
    let mut firefox = Firefox::start(home.path(), &["--policies", policies.to_str().unwrap()]);
    firefox.ask(&json!({"do": "settings", "allow": [MOZILLA]})).unwrap();
    let got = firefox.file(&AT_MOZILLA, "acme/tiny", "v1.0", "model.onnx");
    assert_eq!(got, sha256(&bytes), "{}", firefox.ask(&json!({"do": "policies"})).unwrap());
}

/// Firefox and OpenSSL take from the authority what it may vouch for, and nothing else.
#[test]
fn the_authority_vouches_for_nothing_outside_of_its_constraints() {
    use rcgen::{CertificateParams, Issuer, KeyPair};

    let scene = Scene::start(Mode::Proxy, |b| b);
    let read = |name: &str| std::fs::read_to_string(scene.daemon.data().join("ca").join(name)).unwrap();
    let issuer =
        Issuer::from_ca_cert_pem(&read("ca.pem"), KeyPair::from_pem(&read("ca.key")).unwrap()).unwrap();
    let home = scratch();
    let ca = scene.ca();
    // Every name is this machine, so that a server with the certificate is found under each.
    let names = ["model-hub.mozilla.org", "below.huggingface.co", "example.org", "evil-huggingface.co"];
    let here = format!("network.dns.localDomains={:?}", names.join(","));
    let mut firefox = Firefox::start(home.path(), &["--ca", ca.to_str().unwrap(), "--pref", &here]);
    for (host, also, good) in [
        ("model-hub.mozilla.org", None, true),
        ("below.huggingface.co", None, true),
        ("example.org", None, false),
        ("evil-huggingface.co", None, false),
        ("model-hub.mozilla.org", Some("example.org"), false),
        ("127.0.0.1", None, false),
        ("model-hub.mozilla.org", Some("127.0.0.1"), false),
    ] {
        let subjects: Vec<String> = [Some(host), also].into_iter().flatten().map(str::to_owned).collect();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(subjects).unwrap();
        params.not_before = (std::time::SystemTime::now() - Duration::from_secs(60)).into();
        params.not_after = (std::time::SystemTime::now() + Duration::from_secs(3600)).into();
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
        let leaf = params.signed_by(&key, &issuer).unwrap();
        let dir = scratch();
        let (cert, private) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
        std::fs::write(&cert, leaf.pem()).unwrap();
        std::fs::write(&private, key.serialize_pem()).unwrap();
        std::fs::set_permissions(&private, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();

        let openssl =
            Command::new("openssl").arg("verify").arg("-CAfile").arg(&ca).arg(&cert).output().unwrap();
        assert_eq!(
            openssl.status.success(),
            good,
            "{host} {also:?}: {}",
            String::from_utf8_lossy(&openssl.stderr)
        );

        let server = Daemon::builder().hub(&scene.hub).arg("--listen-tls").arg("127.0.0.1:0");
        let server =
            server.arg("--cert").arg(cert.to_str().unwrap()).arg("--key").arg(private.to_str().unwrap());
        let server = server.start();
        let port = server.listen_tls().rsplit(':').next().unwrap().to_owned();
        let told =
            firefox.ask(&json!({"do": "tls", "url": format!("https://{host}:{port}/healthz")})).unwrap();
        assert_eq!(told["error"].is_null(), good, "{host} {also:?}: {told}");
    }
}

#[test]
fn under_a_run_it_gets_what_the_lock_file_pins_from_moz_models_hub() {
    netns::enter();
    let hub = ScriptedHub::start();
    let [config, model] = [1, 2].map(|seed| noise(seed, 300_000));
    hub.moz("acme/tiny", "v1.0", "config.json", config.clone());
    hub.moz("acme/tiny", "v1.0", "onnx/model.onnx", model.clone());
    hub.moz("acme/tiny", "v1.0", "other.json", "{}");
    let mut daemon = Daemon::builder().hub(&hub).start();
    assert!(daemon.terminate().success());
    let (folder, home) = (scratch(), scratch());
    let lock = folder.path().join("hubcache.lock");
    let add =
        ["lock", "add", "moz:acme/tiny@v1.0", "--file", "config.json", "--file", "onnx/model.onnx", "--lock"];
    assert!(daemon.command(&[&add[..], &[lock.to_str().unwrap()]].concat()).status.success());
    hub.stop();

    let python = drivers::installed("firefox/bin/python");
    let script =
        "exec \"$0\" \"$1\" --profile \"$2\" --pref \"browser.ml.modelHubRootUrl=\\\"$MOZ_MODELS_HUB\\\"\"";
    let (driver, profile) = (drivers::driver("firefox/drive.py"), home.path().join("profile"));
    let report = folder.path().join("missing.txt");
    let mut command = daemon.program(&["run", "--lock", lock.to_str().unwrap(), "--missing-report"]);
    command
        .arg(&report)
        .args(["--", "sh", "-c", script])
        .args([python, driver, profile])
        .env("HOME", home.path());
    let mut firefox = Firefox::driven_by(command, home.path());
    let place = AT_LOCALHOST;
    assert_eq!(firefox.file(&place, "acme/tiny", "v1.0", "config.json"), sha256(&config));
    assert_eq!(firefox.file(&place, "acme/tiny", "v1.0", "onnx/model.onnx"), sha256(&model));
    firefox.file(&place, "acme/tiny", "v1.0", "other.json").expect_err("it is not pinned");
    firefox.quit();
    let report = std::fs::read_to_string(report).unwrap();
    assert!(report.starts_with("moz:acme/tiny@v1.0/other.json\t"), "{report}");
}
