//! A disk that loses bits: what is held is read again, and what is damaged is let go, told, and fetched again.

use std::fs::OpenOptions;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};

use serde_json::Value;

use crate::support;
use support::client::{self, Ended, Request};
use support::daemon::{Builder, Daemon};
use support::eventually;
use support::hub::{File, ScriptedHub, digests};
use support::noise;

const MIB: usize = 1 << 20;

/// A file under two names and a small one, which are held.
struct Scene {
    hub: ScriptedHub,
    daemon: Daemon,
    model: Vec<u8>,
    small: Vec<u8>,
    commit: String,
}

impl Scene {
    /// With a server that does not read anything again.
    fn held(size: usize) -> Self {
        Self::with(size, |b| b)
    }

    fn with(size: usize, settings: impl Fn(Builder) -> Builder) -> Self {
        let hub = ScriptedHub::start();
        let (model, small) = (noise(1, size), noise(2, 1000));
        let commit = hub.hf("acme/tiny").commit([
            File::lfs("model.bin", model.clone()),
            File::lfs("copy.bin", model.clone()),
            File::small("config.json", small.clone()),
        ]);
        let builder = Daemon::builder().hub(&hub).set("scrub.every", "none").set("upstream.backoff", "5ms");
        let daemon = settings(builder.set("cache.ref_ttl", "1h")).start();
        let scene = Self { hub, daemon, model, small, commit };
        for (name, bytes) in
            [("model.bin", &scene.model), ("copy.bin", &scene.model), ("config.json", &scene.small)]
        {
            client::get(&scene.url(name)).assert_is(200, bytes, name);
        }
        scene
    }

    fn url(&self, file: &str) -> String {
        format!("{}/acme/tiny/resolve/{}/{file}", self.daemon.url(), self.commit)
    }

    /// From now on everything is read again all the time.
    fn scrub(&mut self, more: &[(&str, &str)]) {
        self.daemon.restart_with(&[&[("scrub.every", "100ms"), ("scrub.rate", "1TiB")], more].concat());
    }

    /// Changes one bit of `needle` where the volume has it.
    fn damage(&self, needle: &[u8]) {
        let path = self.daemon.data().join("volumes").join("blobs-0001.redb");
        let mut file = OpenOptions::new().read(true).write(true).open(path).unwrap();
        let mut content = Vec::new();
        file.read_to_end(&mut content).unwrap();
        let places: Vec<_> = content
            .windows(needle.len())
            .enumerate()
            .filter(|(_, w)| *w == needle)
            .map(|(at, _)| at)
            .collect();
        assert!(!places.is_empty(), "the volume has the bytes as they are");
        for at in places {
            file.seek(SeekFrom::Start(at as u64)).unwrap();
            file.write_all(&[content[at] ^ 4]).unwrap();
        }
        file.sync_all().unwrap();
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let output = self.daemon.command(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// What the history tells of an event, of each file once.
    fn told(&self, event: &str) -> Vec<String> {
        let told = self.daemon.command(&["history", "--json", "acme/tiny"]);
        if String::from_utf8_lossy(&told.stderr).contains("nothing has happened") {
            return Vec::new();
        }
        let told: Value = serde_json::from_slice(&told.stdout).unwrap();
        let told = told.as_array().unwrap().iter().filter(|h| h["event"] == event);
        let mut told: Vec<String> = told.map(|h| h["detail"].as_str().unwrap().to_owned()).collect();
        told.sort();
        told
    }
}

#[test]
fn what_is_held_is_read_again_and_again_and_intact_files_stay() {
    let mut scene = Scene::held(3 * MIB);
    scene.hub.clear();
    scene.scrub(&[]);
    let read = |scene: &Scene| scene.daemon.metric("hubcache_scrubbed_blobs_total", &[]);
    eventually(|| (read(&scene) >= 6.0).then_some(()));
    let status = scene.json(&["status", "--json"]);
    assert_eq!(status["scrub"]["damaged_blobs"], 0);
    assert!(status["scrub"]["read_bytes"].as_u64().unwrap() >= 6 * MIB as u64, "{}", status["scrub"]);
    client::get(&scene.url("model.bin")).assert_is(200, &scene.model, "held");
    assert!(scene.hub.requests().is_empty(), "{}", scene.hub.journal());
    assert!(scene.told("damaged").is_empty());
}

#[test]
fn what_was_read_a_moment_ago_is_not_read_again_at_the_next_start() {
    let mut scene = Scene::held(3 * MIB);
    scene.daemon.restart_with(&[("scrub.every", "1h")]);
    client::get(&scene.url("model.bin")).assert_is(200, &scene.model, "held");
    assert_eq!(scene.daemon.metric("hubcache_scrubbed_bytes_total", &[]), 0.0, "a fill has hashed it");
    // What a command has read counts, and is written down.
    let verified = scene.daemon.command(&["verify"]);
    assert!(verified.status.success());
    scene.daemon.restart();
    client::get(&scene.url("config.json")).assert_is(200, &scene.small, "held");
    assert_eq!(scene.daemon.metric("hubcache_scrubbed_bytes_total", &[]), 0.0);
}

#[test]
fn a_damaged_file_is_fetched_again_and_whoever_reads_it_is_broken_off_and_cannot_resume() {
    let mut scene = Scene::held(48 * MIB);
    scene.scrub(&[]);
    let gate = scene.hub.gate("model.bin", 0);
    let copy = scene.hub.gate("copy.bin", 0);
    scene.hub.clear();
    let mut reading = Request::get(&scene.url("copy.bin")).open().unwrap();
    let sent = reading.read_to(MIB).len();
    scene.damage(&scene.model[44 * MIB..44 * MIB + 64]);
    // Whichever name is asked for first; its bytes are not sent yet.
    scene.hub.wait_for(std::time::Duration::from_secs(40), "a download", |seen| {
        seen.iter().any(|s| s.is("GET", "model.bin") || s.is("GET", "copy.bin"))
    });
    let part = client::get_range(&scene.url("model.bin"), "1000-1999");
    assert_eq!(
        (part.status, part.header("cache-status")),
        (503, Some("hubcache; detail=guarded")),
        "{}",
        part.text()
    );
    let broken = reading.finish();
    assert!(
        broken.ended == Ended::Broken && broken.body.len() < scene.model.len(),
        "{} bytes",
        broken.body.len()
    );
    assert!(broken.body.len() >= sent && scene.model.starts_with(&broken.body), "what it had was right");
    gate.release();
    copy.release();
    for name in ["model.bin", "copy.bin"] {
        let rest = Request::get(&scene.url(name)).range(&format!("{sent}-")).send();
        rest.assert_is(200, &scene.model, "whoever would go on gets all of it");
    }
    eventually(|| (scene.told("fetched").len() >= 2).then_some(()));
    let damaged = scene.told("damaged");
    let expected = digests::sha256(&scene.model);
    assert_eq!(damaged.len(), 2, "{damaged:?}");
    for (told, name) in damaged.iter().zip(["copy.bin", "model.bin"]) {
        assert!(
            told.starts_with(name) && told.contains(&expected) && told.contains("fetched again"),
            "{told}"
        );
    }
    assert_eq!(scene.daemon.metric("hubcache_damaged_blobs_total", &[]), 1.0);
    assert_eq!(scene.json(&["status", "--json"])["scrub"]["damaged_blobs"], 1);
    assert!(scene.daemon.command(&["verify"]).status.success());
    client::get(&scene.url("model.bin")).assert_is(200, &scene.model, "held again");
}

#[test]
fn without_a_hub_a_damaged_file_is_gone_and_that_is_said() {
    let mut scene = Scene::held(3 * MIB);
    assert!(scene.daemon.terminate().success());
    scene.damage(&scene.small[100..164]);
    scene.damage(&scene.model[MIB + 100..MIB + 164]);
    scene.scrub(&[("upstream.offline", "true")]);
    eventually(|| (scene.daemon.metric("hubcache_damaged_blobs_total", &[]) == 2.0).then_some(()));
    eventually(|| (scene.told("damaged").len() == 3).then_some(()));
    for name in ["model.bin", "copy.bin", "config.json"] {
        let gone = client::get(&scene.url(name));
        assert_eq!(
            (gone.status, gone.header("cache-status")),
            (403, Some("hubcache; detail=offline")),
            "{name}"
        );
    }
    let told = scene.told("damaged");
    assert!(told.iter().all(|told| told.contains("it is gone")), "{told:?}");
    scene.daemon.wait_for_log("a damaged file was let go");
    let status = scene.daemon.command(&["status"]);
    let status = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(status.contains("2 DAMAGED and let go"), "{status}");
    // It stays gone, and the hub brings it back.
    scene.daemon.restart_with(&[("upstream.offline", "false"), ("scrub.every", "none")]);
    for (name, bytes) in [("model.bin", &scene.model), ("config.json", &scene.small)] {
        client::get(&scene.url(name)).assert_is(200, bytes, "fetched by whoever asks");
    }
}

#[test]
fn a_command_that_finds_damage_leaves_it_to_the_operator() {
    let mut scene = Scene::held(3 * MIB);
    assert!(scene.daemon.terminate().success());
    scene.damage(&scene.model[100..164]);
    for _ in 0..2 {
        let output = scene.daemon.command(&["verify"]);
        assert_eq!(output.status.code(), Some(65), "{}", String::from_utf8_lossy(&output.stdout));
    }
    // A server that reads it again does not.
    scene.scrub(&[]);
    eventually(|| (scene.told("fetched").len() >= 2).then_some(()));
    assert!(scene.daemon.command(&["verify"]).status.success());
}
