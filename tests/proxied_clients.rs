//! Clients that go on naming the hub and use the program as their proxy: huggingface_hub through `HTTPS_PROXY`.

use std::path::PathBuf;

use crate::{drivers, support};
use drivers::{Files, HuggingFaceHub, Reach, Repository};
use support::client;
use support::daemon::Daemon;
use support::hub::{File, Listener, ScriptedHub};

const MODEL: &str = "acme/tiny";

fn files() -> Vec<File> {
    let noise = |length: usize| -> Vec<u8> { (0..length).map(|i| (i * 7 / 3) as u8).collect() };
    vec![
        File::xet("model.safetensors", noise(2_000_000)),
        File::lfs("onnx/model.bin", noise(300_000)),
        File::small("config.json", "{}"),
        File::small("odd names/a b#c+d%é.txt", "odd"),
    ]
}

struct Scene {
    hub: ScriptedHub,
    daemon: Daemon,
    ca: PathBuf,
}

impl Scene {
    fn start() -> Self {
        let hub = ScriptedHub::start();
        hub.hf(MODEL).commit(files());
        let daemon = Daemon::builder().hub(&hub).arg("--intercept").set("cache.ref_ttl", "1h").start();
        let ca = daemon.data().join("ca/ca.pem");
        Self { hub, daemon, ca }
    }

    fn snapshot(&self, client: HuggingFaceHub) -> Files {
        let home = tempfile::tempdir().unwrap();
        let reach = Reach::Proxy { url: &self.daemon.url(), ca: &self.ca };
        client.snapshot(reach, home.path(), Repository::model(MODEL)).expect("a snapshot")
    }
}

fn assert_files(got: &Files) {
    let wanted = files();
    assert_eq!(got.len(), wanted.len());
    for file in wanted {
        assert!(got[&file.path] == file.bytes, "{} has other bytes", file.path);
    }
}

/// Everything comes from here: the client names the hub and nothing else, and only the program speaks with it.
fn everything_is_cached(client: HuggingFaceHub) {
    let scene = Scene::start();
    assert_files(&scene.snapshot(client));
    let past: Vec<_> = scene.hub.past("hubcache").into_iter().map(|seen| seen.target).collect();
    assert!(past.is_empty(), "{past:#?} went past\n{}", scene.hub.journal());
    assert_eq!(scene.hub.count_at(Listener::Cas), 0, "{}", scene.hub.journal());
    for file in files() {
        assert_eq!(scene.hub.body_bytes(&format!("{MODEL}/{}", file.path)), file.bytes.len() as u64);
    }
    let log = scene.daemon.log();
    let tunnels: Vec<_> = log.lines().filter(|line| line.contains("method=CONNECT")).collect();
    assert!(
        !tunnels.is_empty() && tunnels.iter().all(|line| line.contains("huggingface.co:443")),
        "{tunnels:#?}"
    );

    // What came one way is there the other way.
    scene.hub.stop();
    assert_files(&scene.snapshot(client));
    let home = tempfile::tempdir().unwrap();
    let endpoint = scene.daemon.url();
    assert_files(&client.snapshot(&endpoint, home.path(), Repository::model(MODEL)).expect("as an endpoint"));
    let absolute = client::Request::get(&endpoint)
        .target(&format!("http://huggingface.co/{MODEL}/resolve/main/config.json"))
        .send();
    absolute.assert_is(200, b"{}", "in absolute form");
}

#[test]
fn huggingface_hub_0_36_2() {
    everything_is_cached(HuggingFaceHub("0.36.2"));
}

#[test]
fn huggingface_hub_1_33_0() {
    everything_is_cached(HuggingFaceHub("1.33.0"));
}

#[test]
fn huggingface_hub_2_4_0() {
    everything_is_cached(HuggingFaceHub("2.4.0"));
}
