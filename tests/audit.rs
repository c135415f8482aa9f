//! The audit log: who was given, refused and changed what.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use serde_json::Value;

use crate::support;
use support::client::Request;
use support::daemon::Daemon;
use support::hub::{File, ScriptedHub, digests};
use support::tokens::Tokens;

const CONFIG: &str = "/acme/tiny/resolve/main/config.json";

struct Scene {
    hub: ScriptedHub,
    tokens: Tokens,
    token: String,
    daemon: Daemon,
    dir: tempfile::TempDir,
}

impl Scene {
    fn start() -> Self {
        let hub = ScriptedHub::start();
        hub.hf("acme/tiny")
            .commit([File::small("config.json", "{}"), File::lfs("model.bin", vec![7; 300_000])]);
        let tokens = Tokens::new();
        let token = tokens.add("ci", &["--models", "acme/*"]);
        let dir = tempfile::tempdir().unwrap();
        let audit = format!("--audit={}", dir.path().join("audit.jsonl").display());
        let builder = Daemon::builder().hub(&hub).set("cache.ref_ttl", "1h").arg(&audit);
        let daemon = tokens.guard(builder).start();
        Self { hub, tokens, token, daemon, dir }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("audit.jsonl")
    }

    fn get(&self, path: &str) -> u16 {
        Request::get(&format!("{}{path}", self.daemon.url()))
            .header("X-Hubcache-Token", &self.token)
            .send()
            .status
    }
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect()
}

/// The lines about this.
fn of<'a>(lines: &'a [Value], event: &str, outcome: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["event"] == event && line["outcome"] == outcome).collect()
}

#[test]
fn each_deed_is_a_line_with_who_what_and_how_it_ended() {
    let mut scene = Scene::start();
    let commit = scene
        .hub
        .hf("acme/tiny")
        .commit([File::small("config.json", "{}"), File::lfs("model.bin", vec![7; 300_000])]);
    let at_commit = format!("/acme/tiny/resolve/{commit}/config.json");
    assert_eq!(scene.get("/acme/tiny/resolve/main/model.bin?download=true"), 200);
    assert_eq!(
        [scene.get(CONFIG), scene.get(&at_commit), scene.get(&at_commit), scene.get(&at_commit)],
        [200; 4]
    );
    assert_eq!((scene.get("/other/x/resolve/main/y"), scene.get("/acme/tiny/resolve/main/none")), (403, 404));
    let unknown = Request::get(&format!("{}{CONFIG}?sig=canary", scene.daemon.url())).send();
    assert_eq!(unknown.status, 401);
    for command in [&["pin", "acme/tiny"][..], &["rm", "acme/tiny@main/config.json"], &["rm", "--all"]] {
        scene.daemon.command(command);
    }
    let id = scene.tokens.id("ci");
    scene.tokens.write(&format!("{}\n[[rule]]\ngroup = \"x\"\nmay = [\"read\"]\n", scene.tokens.text()));
    scene.daemon.wait_for_log("tokens=1 rules=1");
    assert!(scene.daemon.terminate().success());

    let all = lines(&scene.path());
    let mode = std::fs::metadata(scene.path()).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    let text = std::fs::read_to_string(scene.path()).unwrap();
    assert!(!text.contains("canary") && !text.contains(&scene.token) && !text.contains("download"), "{text}");
    for line in &all {
        let at = line["at"].as_str().unwrap();
        assert!(at.len() == 24 && at.ends_with('Z'), "{at}");
    }
    let sha256 = digests::sha256(&[7; 300_000]);
    let filled = of(&all, "filled", "stored");
    let model = filled.iter().find(|line| line["path"] == "model.bin").unwrap();
    assert_eq!((&model["sha256"], &model["bytes"]), (&sha256.as_str().into(), &300_000.into()));
    assert_eq!(
        (&model["hub"], &model["repo"], &model["revision"]),
        (&"huggingface".into(), &"acme/tiny".into(), &commit.as_str().into())
    );
    assert!(model.get("who").is_none(), "{model}");

    let miss = of(&all, "served", "miss");
    let miss = miss.iter().find(|line| line["path"] == "model.bin").unwrap();
    assert_eq!((&miss["who"]["token"], &miss["who"]["name"]), (&id.as_str().into(), &"ci".into()));
    assert!(miss["from"].as_str().unwrap().starts_with("127.0.0.1:"));
    assert_eq!(
        (&miss["method"], &miss["status"], &miss["bytes"]),
        (&"GET".into(), &200.into(), &300_000.into())
    );
    assert_eq!((&miss["revision"], &miss["sha256"]), (&"main".into(), &sha256.as_str().into()));
    let hits = of(&all, "served", "hit");
    let config = digests::sha256(b"{}");
    let ready =
        hits.iter().filter(|line| line["path"] == "config.json" && line["revision"] == commit.as_str());
    assert!(
        ready.clone().count() >= 2 && ready.clone().all(|line| line["sha256"] == config.as_str()),
        "{hits:#?}"
    );

    assert_eq!(of(&all, "refused", "not-permitted")[0]["repo"], "other/x");
    assert_eq!(of(&all, "refused", "refused").len() + of(&all, "refused", "absent").len(), 1);
    let unknown = of(&all, "refused", "unauthorized");
    assert!(unknown[0].get("who").is_none() && unknown[0]["from"].is_string(), "{unknown:#?}");
    let pinned = of(&all, "changed", "pinned");
    assert!(!pinned.is_empty() && pinned[0]["who"]["operator"] == true && pinned[0]["repo"] == "acme/tiny");
    let removed = of(&all, "evicted", "removed");
    assert!(
        removed
            .last()
            .is_some_and(|line| line["who"]["operator"] == true && line["bytes"].as_u64() > Some(0))
    );
    assert!(of(&all, "changed", "access")[0]["detail"].as_str().unwrap().contains("1 tokens, 1 rules"));
}

#[test]
fn it_is_opened_again_on_a_signal_and_added_to_by_the_next_start() {
    let mut scene = Scene::start();
    assert_eq!(scene.get(CONFIG), 200);
    let old = scene.dir.path().join("audit.jsonl.1");
    std::fs::rename(scene.path(), &old).unwrap();
    scene.daemon.signal(Signal::USR1);
    scene.daemon.wait_for_log("the audit log was opened again");
    assert_eq!(scene.get("/acme/tiny/resolve/main/model.bin"), 200);
    scene.daemon.restart();
    assert_eq!(scene.get("/other/x/resolve/main/y"), 403);
    assert!(scene.daemon.terminate().success());
    let (before, after) = (lines(&old), lines(&scene.path()));
    assert!(before.iter().any(|line| line["path"] == "config.json"));
    assert!(after.iter().any(|line| line["repo"] == "other/x"), "{after:#?}");
}

#[test]
fn a_log_that_cannot_be_written_stops_nobody() {
    let hub = ScriptedHub::start();
    hub.hf("acme/tiny").commit([File::small("config.json", "{}")]);
    let daemon = Daemon::builder().hub(&hub).arg("--audit=/dev/full").start();
    let get = || Request::get(&format!("{}{CONFIG}", daemon.url())).send().status;
    assert_eq!([get(), get()], [200; 2]);
    daemon.wait_for_log("the audit log cannot be written");
    assert!(daemon.metric("hubcache_audit_unwritten_total", &[]) >= 1.0);
    let (status, log) = Daemon::builder().hub(&hub).arg("--audit=/nowhere/x").try_start().err().unwrap();
    assert_eq!(status.and_then(|status| status.code()), Some(73), "{log}");
    assert!(log.contains("--audit FILE"), "{log}");
}

#[test]
fn what_goes_for_want_of_room_is_told_file_by_file() {
    const SIZE: usize = 4 << 20;
    let hub = ScriptedHub::start();
    let bytes = |n: usize| vec![u8::try_from(n).unwrap(); SIZE];
    for n in 0..12 {
        hub.hf(&format!("acme/m{n}")).commit([File::lfs("model.bin", bytes(n))]);
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    let mut daemon = Daemon::builder()
        .hub(&hub)
        .set("store.max_size", "32MiB")
        .arg(&format!("--audit={}", path.display()))
        .start();
    for n in 0..12 {
        let url = format!("{}/acme/m{n}/resolve/main/model.bin", daemon.url());
        Request::get(&url).send().assert_is(200, &bytes(n), "kept, and others go for it");
    }
    assert!(daemon.terminate().success());
    let lines = lines(&path);
    let gone: Vec<_> = lines.iter().filter(|line| line["event"] == "evicted").collect();
    let files: Vec<_> = gone.iter().filter(|line| line["path"] == "model.bin").collect();
    assert!(files.len() >= 4, "{lines:?}");
    for line in files {
        let repo = line["repo"].as_str().unwrap();
        let n: usize = repo.strip_prefix("acme/m").unwrap().parse().unwrap();
        assert_eq!(line["sha256"], digests::sha256(&bytes(n)), "{line}");
        assert_eq!(line["bytes"], SIZE);
    }
}
