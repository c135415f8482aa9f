//! How much of the disk is taken: a bound that is kept, what goes for it and what stays, and a disk that is full.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use bytes::Bytes;
use serde_json::Value;

use crate::support;
use support::client::{self, Ended, Reply};
use support::daemon::Daemon;
use support::hub::{File, ScriptedHub};
use support::netns::{own_mounts, run};
use support::output::{object, refused, told};

const MIB: usize = 1 << 20;
const FIREFOX: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:153.0) Gecko/20100101 Firefox/153.0";

const SIZE: usize = 2_500_000;
/// Room for a dozen of them or so.
const LIMIT: &str = "40MiB";
const LIMIT_BYTES: u64 = 40 << 20;

fn noise(seed: u64, length: usize) -> Bytes {
    support::noise(seed, length).into()
}

/// A hub with a repository `acme/ID` for each, with one file.
fn hub_with(ids: impl Iterator<Item = u64>, size: usize) -> ScriptedHub {
    let hub = ScriptedHub::start();
    for id in ids {
        hub.hf(&format!("acme/m{id:02}")).commit([File::lfs("model.bin", noise(id, size))]);
        hub.moz(&format!("acme/m{id:02}"), "v1.0", "model.onnx", noise(1_000 + id, size));
    }
    hub
}

fn get(daemon: &Daemon, id: u64) -> Reply {
    client::get(&format!("{}/acme/m{id:02}/resolve/main/model.bin", daemon.url()))
}

fn status(reply: &Reply) -> &str {
    reply.header("cache-status").expect("every answer says it")
}

/// What all files below a directory take on disk.
fn blocks(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries
        .map(|path| if path.is_dir() { blocks(&path) } else { path.metadata().unwrap().blocks() * 512 })
        .sum()
}

/// Which of them are held.
fn held(daemon: &Daemon) -> Vec<u64> {
    let rows = object(daemon.command(&["ls", "--json"]));
    let id = |row: &Value| row["repo"].as_str()?.strip_prefix("acme/m")?.parse().ok();
    rows.as_array().unwrap().iter().filter_map(id).collect()
}

#[test]
fn at_the_bound_what_was_used_least_goes_and_what_is_pinned_stays() {
    let hub = hub_with(0..30, SIZE);
    let daemon = Daemon::builder().hub(&hub).arg("--max-size").arg(LIMIT).start();
    get(&daemon, 0).assert_is(200, &noise(0, SIZE), "the first");
    let pinned = ["pin", "acme/m00", "--owner", "search", "--reason", "release 12", "--for", "30d", "--json"];
    let told_of = object(daemon.command(&pinned));
    assert_eq!(told_of[0]["event"], "pinned");
    assert_eq!(told_of[0]["detail"], "by search, for 30 d: release 12");
    for id in 1..30 {
        let reply = get(&daemon, id);
        reply.assert_is(200, &noise(id, SIZE), "one more");
        assert_eq!(status(&reply), "hubcache; fwd=uri-miss; stored", "{id}");
        assert!(blocks(daemon.data()) <= LIMIT_BYTES, "{} after {id}", blocks(daemon.data()));
    }
    let left = held(&daemon);
    assert!(left.contains(&0) && left.contains(&29) && !left.contains(&1), "{left:?}");
    assert!(left.len() > 8, "more went than had to: {left:?}");
    for id in left {
        hub.clear();
        get(&daemon, id).assert_is(200, &noise(id, SIZE), "what is held");
        assert_eq!(hub.body_bytes("model.bin"), 0, "{id} is served from here");
    }

    assert_eq!(daemon.metric("hubcache_cache_limit_bytes", &[]), LIMIT_BYTES as f64);
    let went = daemon.metric("hubcache_evicted_files_total", &[("reason", "once")]);
    assert!(went >= 15.0, "{went}");
    assert!(daemon.metric("hubcache_evicted_bytes_total", &[("reason", "once")]) >= went * SIZE as f64);
    assert!(told(daemon.command(&["status"])).contains(" on disk of 40.0 MiB, "));
    let history = object(daemon.command(&["history", "acme/m01", "--json"]));
    assert_eq!(history[0]["event"], "evicted");
    assert_eq!(history[0]["detail"], "1 file of 2500000 bytes, for want of room: not used again");
    let row = object(daemon.command(&["ls", "acme/m00", "--json"]))[0].clone();
    let words = ["pinned_by", "pinned_for"].map(|key| row[key].as_str().unwrap().to_owned());
    assert_eq!((row["pinned"].as_bool(), words), (Some(true), ["search", "release 12"].map(String::from)));
    assert!(row["pinned_until"].as_str().unwrap() > row["pinned_at"].as_str().unwrap());
    assert!(told(daemon.command(&["show", "acme/m00"])).contains(" by search, until "));
}

#[test]
fn without_room_stream_passes_a_file_on_and_verified_says_so() {
    let hub = hub_with(0..20, SIZE);
    let daemon = Daemon::builder().hub(&hub).set("store.max_size", LIMIT).start();
    let stored = |id| {
        let reply = get(&daemon, id);
        reply.assert_is(200, &noise(id, SIZE), "kept or passed on");
        status(&reply).to_owned()
    };
    let mut last = 0;
    while stored(last) == "hubcache; fwd=uri-miss; stored" {
        told(daemon.command(&["pin", &format!("acme/m{last:02}")]));
        last += 1;
    }
    assert!(last > 9, "{last}");
    let before = held(&daemon);
    assert_eq!(before.len() as u64, last);
    assert_eq!(stored(last), "hubcache; fwd=uri-miss; detail=unstored");
    let mozilla = format!("{}/acme/m{last:02}/v1.0/model.onnx", daemon.url());
    let refused = client::Request::get(&mozilla).header("User-Agent", FIREFOX).send();
    assert_eq!((refused.status, status(&refused)), (507, "hubcache; detail=no-space"));
    assert_eq!(held(&daemon), before, "what is pinned stays");
    assert!(blocks(daemon.data()) <= LIMIT_BYTES);

    // The last byte waits for the verdict, kept or not.
    let mut wrong = noise(77, SIZE).to_vec();
    wrong[0] ^= 1;
    let commit = hub.hf("acme/wrong").commit([File::lfs("model.bin", wrong)]);
    let wrong_end = support::hub::What::WrongByteAt(SIZE as u64 - 1);
    hub.fault(support::hub::Fault::on("acme/wrong", wrong_end).get());
    let broken = client::get(&format!("{}/acme/wrong/resolve/{commit}/model.bin", daemon.url()));
    assert!(broken.ended == Ended::Broken && broken.body.len() < SIZE, "{}", broken.body.len());

    told(daemon.command(&["unpin", "acme/m03"]));
    assert_eq!(stored(last), "hubcache; fwd=uri-miss; stored");
    assert!(!held(&daemon).contains(&3));
}

#[test]
fn prune_has_files_go_with_a_server_and_without_and_tells_beforehand_which() {
    let hub = hub_with(0..8, SIZE);
    let mut daemon = Daemon::builder().hub(&hub).set("store.max_size", "64MiB").start();
    for id in 0..8 {
        get(&daemon, id).assert_is(200, &noise(id, SIZE), "a file");
    }
    told(daemon.command(&["pin", "acme/m00"]));
    // By the time of the next command it is over.
    told(daemon.command(&["pin", "acme/m01", "--for", "1ms"]));
    let before = blocks(daemon.data());
    let nothing = object(daemon.command(&["prune", "--json"]));
    assert_eq!((nothing["files"].as_u64(), &nothing["going"]), (Some(0), &serde_json::json!([])));
    let to = (before - 5 * MIB as u64).to_string();
    let plan = object(daemon.command(&["prune", "--plan", "--to", &to, "--json"]));
    let ids = |of: &Value| -> Vec<String> {
        let repo = |one: &Value| one["files"][0]["repo"].as_str().unwrap().to_owned();
        of["going"].as_array().unwrap().iter().map(repo).collect()
    };
    assert_eq!(ids(&plan)[..2], ["acme/m01", "acme/m02"], "{plan}");
    assert_eq!((plan["plan"].as_bool(), held(&daemon).len()), (Some(true), 8));
    assert_eq!(plan["limit_bytes"].as_u64(), Some(64 << 20));
    let text = told(daemon.command(&["prune", "--plan", "--to", &to]));
    assert!(text.contains("not used again") && text.contains("would remove"), "{text}");

    let pruned = object(daemon.command(&["prune", "--to", &to, "--json"]));
    // One more may go, where the index has grown meanwhile.
    assert!(ids(&pruned).starts_with(&ids(&plan)), "{pruned}");
    let after = blocks(daemon.data());
    assert!(after <= before - 5 * MIB as u64, "{before} -> {after}");
    assert_eq!(held(&daemon).len(), 8 - ids(&pruned).len());

    assert!(daemon.terminate().success());
    let rest = told(daemon.command(&["prune", "--to", "0"]));
    assert!(rest.contains("acme/m07") && rest.contains("removed "), "{rest}");
    assert_eq!(held(&daemon), [0], "what is pinned stays");
    assert!(blocks(daemon.data()) < 5 * MIB as u64, "{}", blocks(daemon.data()));
    let said = refused(daemon.command(&["prune", "--to", "64M"]), 64);
    assert!(said.contains("did you mean 64MiB?"), "{said}");
}

#[test]
fn a_bound_that_is_too_small_to_work_with_is_refused() {
    let hub = ScriptedHub::start();
    let refused = Daemon::builder().hub(&hub).arg("--max-size").arg("4MiB").try_start();
    let (status, log) = refused.err().expect("it does not start");
    assert_eq!(status.and_then(|status| status.code()), Some(78));
    assert!(log.contains("--max-size") && log.contains("from 32MiB to 1000TiB"), "{log}");
}

#[test]
fn a_server_whose_disk_is_full_goes_on_and_loses_nothing() {
    const LARGE: usize = 6_000_000;
    own_mounts();
    let dir = tempfile::tempdir().unwrap();
    run("mount", &["-t", "tmpfs", "-o", "size=64m", "hubcache-test", dir.path().to_str().unwrap()]);
    let hub = hub_with(0..16, LARGE);
    let data = dir.path().join("data");
    let builder = Daemon::builder().hub(&hub).data(&data);
    // The disk is full long before the bound.
    let mut daemon = builder.set("store.min_free", "1MiB").set("store.max_size", "1GiB").start();
    let mut kept = Vec::new();
    for id in 0..16 {
        let reply = get(&daemon, id);
        reply.assert_is(200, &noise(id, LARGE), "kept or passed on");
        match status(&reply) {
            "hubcache; fwd=uri-miss; stored" => kept.push(id),
            "hubcache; fwd=uri-miss; detail=unstored" => {}
            other => panic!("{other}"),
        }
    }
    assert!((6..=10).contains(&kept.len()), "{kept:?}");
    assert_eq!(held(&daemon), kept);
    let mozilla = client::get(&format!("{}/acme/m15/v1.0/model.onnx", daemon.url()));
    assert_eq!((mozilla.status, status(&mozilla)), (507, "hubcache; detail=no-space"));
    for restarts in 0..2 {
        hub.clear();
        for id in &kept {
            get(&daemon, *id).assert_is(200, &noise(*id, LARGE), "what is held");
        }
        assert_eq!(hub.body_bytes("model.bin"), 0, "all of it was served from here");
        get(&daemon, 15).assert_is(200, &noise(15, LARGE), "and what is not is passed on");
        told(daemon.command(&["verify"]));
        if restarts == 0 {
            daemon.restart();
        }
    }
    let pruned = object(daemon.command(&["prune", "--to", "20MiB", "--json"]));
    assert!(pruned["files"].as_u64() > Some(3), "{pruned}");
    let reply = get(&daemon, 15);
    reply.assert_is(200, &noise(15, LARGE), "there is room again");
    assert_eq!(status(&reply), "hubcache; fwd=uri-miss; stored");
}
