//! `hubcache doctor`: what is well is said to be, and what is not is found, with what helps.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use crate::support;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair};
use serde_json::{Value, json};
use support::client::get;
use support::daemon::{Builder, Daemon};
use support::hub::{Fault, File, ScriptedHub, What};
use support::settings::{Chain, ScriptedSettings, SettingsFault};

const DAY: Duration = Duration::from_secs(24 * 3600);
const OPTIONS: &str = "ml-inference-options";

/// What a run has told.
struct Told {
    code: Option<i32>,
    report: Value,
}

impl Told {
    fn of(command: &mut Command) -> Self {
        let output = command.arg("--json").output().expect("the program can be run");
        let report = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|why| panic!("{why}: {}", String::from_utf8_lossy(&output.stderr)));
        Self { code: output.status.code(), report }
    }

    fn all(&self) -> impl Iterator<Item = &Value> {
        self.report["checks"].as_array().expect("checks are a list").iter()
    }

    fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Value> {
        self.all().filter(move |check| check["name"] == name)
    }

    /// Checks what became of a check, and what is said, the fix included.
    #[track_caller]
    fn assert(&self, name: &str, verdict: &str, has: &str) {
        let is_it = |check: &Value| {
            let text = |name: &str| check[name].as_str().unwrap_or_default().to_owned();
            check["verdict"] == verdict && format!("{}\n{}", text("found"), text("fix")).contains(has)
        };
        assert!(self.named(name).any(is_it), "{name} {verdict} {has}\n{:#}", self.report);
        assert_eq!(self.report["ok"], self.code == Some(0), "{:#}", self.report);
        if verdict == "fails" {
            assert_eq!(self.code, Some(69), "{:#}", self.report);
        }
    }
}

/// The program without a server, in a home of its own, with hubs that are not asked.
fn alone(home: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hubcache"));
    command.env_clear().env("HOME", home).current_dir(home);
    // Ports that nobody has, unless a test says otherwise.
    command.args(["doctor", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]).args(arguments);
    command
}

/// The same for hubs that are asked and no Remote Settings.
fn asking(home: &Path, hub: &ScriptedHub) -> Command {
    let mut command = alone(home, &["--settings", "off"]);
    for name in ["mozilla", "huggingface"] {
        command.arg("--hub").arg(format!("{name}={}", hub.url()));
    }
    command
}

/// The place of a server that says only this, to everybody.
fn answering(bytes: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(bytes);
        }
    });
    place
}

struct Scene {
    hub: ScriptedHub,
    settings: ScriptedSettings,
    daemon: Daemon,
    home: tempfile::TempDir,
}

impl Scene {
    fn start() -> Self {
        Self::with(|builder| builder)
    }

    /// A server that holds a large file and the list of its commit, and a collection that is signed.
    fn with(set: impl Fn(Builder) -> Builder) -> Self {
        let (hub, settings) = (ScriptedHub::start(), ScriptedSettings::start());
        hub.hf("acme/tiny")
            .commit([File::small("config.json", "{}"), File::xet("model.bin", vec![7; 1 << 20])]);
        settings.publish(OPTIONS, json!([{"id": "a"}]));
        let builder = Daemon::builder().hub(&hub).remote_settings(&settings);
        let builder = builder.set("settings.collections", OPTIONS).set("settings.interval", "1h");
        let daemon = set(builder.set("cache.ref_ttl", "1h")).start();
        let scene = Self { hub, settings, daemon, home: tempfile::tempdir().unwrap() };
        assert_eq!(scene.daemon.command(&["settings", "sync"]).status.code(), Some(0));
        for path in ["/acme/tiny/resolve/main/model.bin", "/api/models/acme/tiny/tree/main?recursive=true"] {
            assert_eq!(get(&format!("{}{path}", scene.daemon.url())).status, 200, "{path}");
        }
        scene
    }

    /// With the settings of the server, and programs of this test only.
    fn doctor(&self, arguments: &[&str]) -> Command {
        let admin = self.daemon.admin_url();
        let admin = admin.strip_prefix("http://").unwrap();
        let mut command =
            self.daemon.program(&["doctor", "--listen", self.daemon.listen(), "--admin", admin]);
        command.args(arguments).env("PATH", self.home.path().join("bin")).current_dir(self.home.path());
        command
    }

    fn told(&self, arguments: &[&str]) -> Told {
        Told::of(&mut self.doctor(arguments))
    }

    fn ca(&self) -> PathBuf {
        self.daemon.data().join("ca/ca.pem")
    }

    /// A Firefox that is led to the server by policies which have it trust this certificate.
    fn install_firefox(&self, certificate: &Path) -> PathBuf {
        let install = self.home.path().join("firefox");
        fs::create_dir_all(install.join("distribution")).unwrap();
        fs::write(install.join("application.ini"), "[App]\nName=Firefox\nVersion=999.0\n").unwrap();
        fs::write(install.join("firefox"), "").unwrap();
        fs::create_dir_all(self.home.path().join("bin")).unwrap();
        std::os::unix::fs::symlink(install.join("firefox"), self.home.path().join("bin/firefox")).unwrap();
        let pac = format!("{}/proxy.pac", self.daemon.url());
        let policies = json!({"policies": {
            "Proxy": {"Mode": "autoConfig", "AutoConfigURL": pac},
            "Certificates": {"Install": [certificate]},
        }});
        fs::write(install.join("distribution/policies.json"), policies.to_string()).unwrap();
        install.canonicalize().unwrap()
    }

    /// A Python environment with huggingface_hub.
    fn install_huggingface_hub(&self, version: &str) -> PathBuf {
        let environment = self.home.path().join("venv");
        let packages = environment.join("lib/python3.11/site-packages");
        fs::create_dir_all(packages.join(format!("huggingface_hub-{version}.dist-info"))).unwrap();
        environment
    }
}

#[test]
fn a_healthy_server_is_good_in_every_respect() {
    let scene = Scene::start();
    let venv = scene.install_huggingface_hub("2.4.0");
    let told =
        |endpoint: &str| Told::of(scene.doctor(&[]).env("VIRTUAL_ENV", &venv).env("HF_ENDPOINT", endpoint));
    let healthy = told(&scene.daemon.url());
    assert_eq!((healthy.code, &healthy.report["ok"]), (Some(0), &json!(true)), "{:#}", healthy.report);
    for check in healthy.all() {
        // A Firefox of this machine goes where it likes, and a busy machine is slow.
        let may_warn = ["client-firefox", "head-latency"].contains(&check["name"].as_str().unwrap());
        let is_fine = ["good", "skipped"].contains(&check["verdict"].as_str().unwrap());
        assert!(is_fine || may_warn, "{check:#}\n{:#}", healthy.report);
        assert!(
            check["found"].as_str().is_some_and(|found| !found.is_empty() && !found.contains('\n')),
            "{check}"
        );
    }
    for (name, has) in [
        ("settings", "0 files"),
        ("data-directory", "open in the server that runs"),
        ("clock", "agrees"),
        ("port-listen", "as listen.address says"),
        ("server", "it answers"),
        ("ready", "/readyz"),
        ("upstream-huggingface", scene.hub.url()),
        ("upstream-settings", &scene.settings.origin()),
        ("xet-leak", "neither HEAD nor the list of files"),
        ("redirect-leak", "acme/tiny/model.bin"),
        ("remote-settings", "answered"),
        ("collection-ml-inference-options", "Firefox takes it until"),
        ("client-huggingface-hub", "huggingface_hub 2.4.0"),
    ] {
        healthy.assert(name, "good", has);
    }
    // The same client, led elsewhere.
    told("http://127.0.0.1:1").assert(
        "client-huggingface-hub",
        "fails",
        &format!("HF_ENDPOINT={}", scene.daemon.url()),
    );
    told("").assert("client-huggingface-hub", "warns", "hubcache setup hf");
    // The text says the same, and with --quiet only what is not as it should be.
    let text = |arguments: &[&str]| {
        let output =
            scene.doctor(arguments).env("HF_ENDPOINT", "").env("VIRTUAL_ENV", &venv).output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        assert!(String::from_utf8_lossy(&output.stderr).contains("with a warning"));
        String::from_utf8(output.stdout).unwrap()
    };
    let (all, quiet) = (text(&[]), text(&["--quiet"]));
    assert!(all.contains("good     xet-leak: ") && !quiet.contains("xet-leak"), "{all}\n{quiet}");
    assert!(
        quiet.contains("warns    client-huggingface-hub: ") && quiet.contains("\n         eval "),
        "{quiet}"
    );
}

#[test]
fn with_interception_certificates_and_clients_of_the_proxy_are_looked_at() {
    let scene = Scene::with(|builder| builder.arg("--intercept"));
    let firefox = scene.install_firefox(&scene.ca());
    let venv = scene.install_huggingface_hub("0.36.2");
    let told = |variables: &[(&str, &str)]| {
        let mut command = scene.doctor(&["--intercept"]);
        Told::of(command.env("VIRTUAL_ENV", &venv).envs(variables.iter().copied()))
    };
    let proxy = scene.daemon.url();
    let ca = scene.ca();
    let trusting = told(&[
        ("HTTPS_PROXY", &proxy),
        ("REQUESTS_CA_BUNDLE", ca.to_str().unwrap()),
        ("NO_PROXY", "127.0.0.1"),
    ]);
    assert_eq!(trusting.code, Some(0), "{:#}", trusting.report);
    trusting.assert("tunnel", "good", "its own certificate");
    trusting.assert("certificate-authority", "good", "valid until");
    trusting.assert("certificate-system", "warns", "update-ca-certificates");
    trusting.assert("certificate-requests-ca-bundle", "good", "has the authority");
    trusting.assert("client-firefox", "good", firefox.to_str().unwrap());
    trusting.assert("client-huggingface-hub", "good", "HTTPS_PROXY");
    // The variable is for clients: the hubs are reached without.
    trusting.assert("settings", "warns", "HTTPS_PROXY names this server itself");
    trusting.assert("upstream-huggingface", "good", scene.hub.url());
    let nobody =
        told(&[("HTTPS_PROXY", &proxy), ("SSL_CERT_FILE", "/nowhere.pem"), ("NO_PROXY", "huggingface.co")]);
    nobody.assert("certificate-ssl-cert-file", "fails", "hubcache setup shell");
    nobody.assert("client-huggingface-hub", "fails", "REQUESTS_CA_BUNDLE is not set");
    nobody.assert("client-huggingface-hub", "fails", "take huggingface.co out of NO_PROXY");
    // The server goes on with the authority that it began with.
    fs::remove_dir_all(scene.daemon.data().join("ca")).unwrap();
    told(&[]).assert("certificate-authority", "fails", "hubcache ca init");
    assert_eq!(scene.daemon.command(&["ca", "init"]).status.code(), Some(0));
    told(&[]).assert("tunnel", "fails", "start the server anew");
    assert!(!told(&[]).named("client-firefox").any(|check| check["verdict"] == "fails"));
}

#[test]
fn an_authority_that_is_missing_or_has_expired_is_found() {
    let home = tempfile::tempdir().unwrap();
    let base = ["--offline", "--intercept"];
    Told::of(&mut alone(home.path(), &base)).assert("certificate-authority", "warns", "hubcache ca init");
    assert!(fs::read_dir(home.path()).unwrap().next().is_none(), "nothing is made");
    let (cert, key) = (home.path().join("ca.pem"), home.path().join("ca.key"));
    let made = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "An old authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.not_before = (SystemTime::now() - 30 * DAY).into();
    params.not_after = (SystemTime::now() - DAY).into();
    fs::write(&cert, params.self_signed(&made).unwrap().pem()).unwrap();
    fs::write(&key, made.serialize_pem()).unwrap();
    let told = || {
        let named =
            ["--intercept-ca-cert", cert.to_str().unwrap(), "--intercept-ca-key", key.to_str().unwrap()];
        Told::of(&mut alone(home.path(), &[&base[..], &named].concat()))
    };
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    told().assert("certificate-authority", "fails", "chmod 600");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    told().assert("certificate-authority", "fails", "has expired");
}

#[test]
fn an_empty_machine_without_a_network_is_told_what_helps_and_stays_empty() {
    let home = tempfile::tempdir().unwrap();
    // Names that are certain to have no address, whatever the network.
    let hubs =
        ["--hub", "mozilla=https://a.invalid", "--hub", "huggingface=https://b.invalid", "--settings", "off"];
    let told = Told::of(&mut alone(home.path(), &hubs));
    told.assert("data-directory", "good", "can be made");
    told.assert("clock", "skipped", "no hub");
    told.assert("server", "skipped", "hubcache serve");
    told.assert("head-latency", "skipped", "no server");
    told.assert("remote-settings", "skipped", "settings.server");
    for name in ["upstream-mozilla", "upstream-huggingface"] {
        told.assert(name, "fails", "--offline");
    }
    Told::of(&mut alone(home.path(), &["--offline"])).assert(
        "upstream-mozilla",
        "skipped",
        "upstream.offline",
    );
    assert!(fs::read_dir(home.path()).unwrap().next().is_none(), "nothing is made");
    // What is wrong with the settings is a finding as well.
    let wrong = Told::of(&mut alone(home.path(), &["--listen", "nonsense"]));
    wrong.assert("settings", "fails", "hubcache config check");
    wrong.assert("disk", "skipped", "settings");
}

#[test]
fn a_port_that_another_has_is_found_and_who_has_it() {
    let home = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let told = || Told::of(&mut alone(home.path(), &["--offline", "--listen", &address]));
    told().assert("port-listen", "fails", &format!("pid {}", std::process::id()));
    told().assert("port-listen", "fails", "--listen ADDR (listen.address)");
    drop(taken);
    told().assert("port-listen", "good", "is free");
    // As of a server with another data directory.
    let scene = Scene::start();
    let listen = scene.daemon.listen();
    let told = Told::of(&mut alone(home.path(), &["--offline", "--listen", listen]));
    told.assert("port-listen", "fails", "another hubcache");
}

#[test]
fn a_disk_below_its_floor_and_an_open_directory_are_found() {
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::set_permissions(&data, fs::Permissions::from_mode(0o755)).unwrap();
    let base = ["--offline", "--data", data.to_str().unwrap(), "--store-min-free", "900TiB"];
    let told = Told::of(&mut alone(home.path(), &base));
    told.assert("disk", "fails", "lower store.min_free");
    told.assert("data-directory", "warns", "chmod 700");
    fs::write(home.path().join("file"), "").unwrap();
    let told = Told::of(&mut alone(
        home.path(),
        &["--offline", "--data", home.path().join("file").to_str().unwrap()],
    ));
    told.assert("data-directory", "fails", "not a directory");
}

#[test]
fn a_server_that_was_killed_has_left_its_traces() {
    let mut scene = Scene::start();
    scene.daemon.kill9();
    let told = scene.told(&[]);
    told.assert("data-directory", "warns", "killed");
    told.assert("port-listen", "good", "is free");
    told.assert("remote-settings", "skipped", "hubcache settings status");
    scene.daemon.restart();
    assert!(scene.daemon.terminate().success());
    scene.told(&[]).assert("data-directory", "good", "nobody");
}

#[test]
fn a_hub_that_is_down_or_that_is_none_is_found() {
    let (hub, home) = (ScriptedHub::start(), tempfile::tempdir().unwrap());
    let told = || Told::of(&mut asking(home.path(), &hub));
    assert_eq!(told().code, Some(0), "{:#}", told().report);
    let page = What::status_with(200, &[("Content-Type", "text/html")], "<html>Sign in</html>");
    hub.fault(Fault::on("/api/models/", page).always());
    let portal = What::status_with(302, &[("Location", "http://portal.example/login")], "");
    hub.fault(Fault::on("/Mozilla/", portal).always());
    told().assert("upstream-huggingface", "fails", "captive portal");
    told().assert("upstream-mozilla", "fails", "portal.example");
    hub.behave();
    hub.fault(Fault::on("/api/models/", What::status(503)).always());
    told().assert("upstream-huggingface", "fails", "out of order");
    hub.stop();
    told().assert("upstream-huggingface", "fails", "the connection is refused");
    hub.restart();
    // Where plain HTTP is spoken in place of TLS.
    let place = answering(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
    let tls = Told::of(asking(home.path(), &hub).arg("--hub").arg(format!("mozilla=https://{place}")));
    tls.assert("upstream-mozilla", "fails", "upstream.ca_bundle");
    let bundle = Told::of(asking(home.path(), &hub).args(["--ca-bundle", "/nowhere.pem"]));
    bundle.assert("upstream-mozilla", "fails", "--ca-bundle FILE");
}

#[test]
fn a_parent_proxy_that_refuses_is_named() {
    let home = tempfile::tempdir().unwrap();
    let place = answering(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n");
    let hubs =
        ["--hub", "mozilla=https://a.invalid", "--hub", "huggingface=http://b.invalid", "--settings", "off"];
    let told = Told::of(alone(home.path(), &hubs).args(["--upstream-proxy", &place]));
    for name in ["upstream-mozilla", "upstream-huggingface"] {
        told.assert(name, "fails", &format!("the parent proxy {place} does not lead to"));
        told.assert(name, "fails", "upstream.proxy_credentials");
    }
}

#[test]
fn a_clock_that_is_off_is_found_by_what_the_hubs_say() {
    let (hub, home) = (ScriptedHub::start(), tempfile::tempdir().unwrap());
    let told = |off: Duration| {
        hub.behave();
        let date = httpdate::fmt_http_date(SystemTime::now() - off);
        hub.fault(Fault::on("", What::Header("Date".to_owned(), Some(date))).always());
        Told::of(&mut asking(home.path(), &hub))
    };
    told(Duration::ZERO).assert("clock", "good", "agrees");
    let warned = told(Duration::from_secs(120));
    warned.assert("clock", "warns", "timedatectl");
    assert_eq!(warned.code, Some(0), "{:#}", warned.report);
    told(Duration::from_secs(900)).assert("clock", "fails", "ahead of");
}

#[test]
fn what_leads_clients_past_the_server_is_found_at_the_place_that_they_name() {
    let scene = Scene::start();
    let place = scene.hub.url().strip_prefix("http://").unwrap();
    let told = scene.told(&["--at", place]);
    told.assert("server", "fails", "not hubcache");
    told.assert("xet-leak", "fails", "x-xet-hash");
    told.assert("redirect-leak", "fails", scene.hub.cdn_url().strip_prefix("http://").unwrap());
    scene.hub.fault(Fault::on("model.bin", What::Header("X-Xet-Hash".to_owned(), None)).always());
    scene.hub.fault(Fault::on("model.bin", What::Header("X-Xet-Refresh-Route".to_owned(), None)).always());
    scene.told(&["--at", place]).assert("xet-leak", "fails", "rel=xet-auth");
    scene.hub.fault(Fault::on("model.bin", What::Header("Link".to_owned(), None)).always());
    scene.told(&["--at", place]).assert("xet-leak", "fails", "xetHash of model.bin");
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let told = scene.told(&["--at", &nobody]);
    told.assert("server", "fails", "nobody answers");
    told.assert("head-latency", "fails", "no answer");
}

#[test]
fn an_empty_server_says_what_to_bring_first() {
    let hub = ScriptedHub::start();
    let daemon = Daemon::start(&hub);
    let told = Told::of(&mut daemon.program(&["doctor"]));
    told.assert("head-latency", "skipped", "hubcache preload");
    told.assert("port-listen", "warns", daemon.listen());
}

#[test]
fn collections_that_firefox_takes_no_longer_or_not_for_long_are_found() {
    let scene = Scene::start();
    let soon = Chain { not_after: SystemTime::now() + 3 * DAY, ..Chain::default() };
    scene.settings.use_chain(soon);
    scene.settings.publish(OPTIONS, json!([{"id": "b"}]));
    assert_eq!(scene.daemon.command(&["settings", "sync"]).status.code(), Some(0));
    scene.told(&[]).assert("collection-ml-inference-options", "warns", "hubcache settings sync");
    scene.settings.fault(SettingsFault::WrongSignature { collection: OPTIONS.to_owned(), times: None });
    scene.settings.publish(OPTIONS, json!([{"id": "c"}]));
    scene.daemon.command(&["settings", "sync"]);
    scene.told(&[]).assert("collection-ml-inference-options", "warns", "is refused");
    scene.settings.stop();
    scene.daemon.command(&["settings", "sync"]);
    let told = scene.told(&[]);
    told.assert("remote-settings", "warns", "cannot be asked");
    told.assert("upstream-settings", "fails", "refused");
    // Where none was ever good there is none.
    let (hub, settings) = (ScriptedHub::start(), ScriptedSettings::start());
    settings.fault(SettingsFault::WrongSignature { collection: OPTIONS.to_owned(), times: None });
    settings.publish(OPTIONS, json!([]));
    let builder = Daemon::builder().hub(&hub).remote_settings(&settings);
    let daemon = builder.set("settings.collections", OPTIONS).set("settings.interval", "1h").start();
    daemon.command(&["settings", "sync"]);
    let told = Told::of(&mut daemon.program(&["doctor"]));
    told.assert("collection-ml-inference-options", "fails", "nothing is held of it");
}
