//! One fill for everybody: resumed, verified, broken off where it must be, and guarded against the resume trap.

use std::thread;
use std::time::Duration;

use crate::support;
use support::client::{self, Ended, Request};
use support::daemon::Daemon;
use support::hub::{Fault, File, Listener, ScriptedHub, What, digests};

const MIB: usize = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(20);

/// Bytes that differ everywhere, so that a shifted or joined file cannot look right.
fn noise(size: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut out = Vec::with_capacity(size + 8);
    while out.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out.truncate(size);
    out
}

/// A hub with one large file at `acme/tiny`, and a daemon with short waits before it.
fn set_up(size: usize) -> (ScriptedHub, Daemon, String, Vec<u8>) {
    // Long enough for whatever a test holds at a gate.
    set_up_stalling(size, "30s")
}

fn set_up_stalling(size: usize, stall: &str) -> (ScriptedHub, Daemon, String, Vec<u8>) {
    let hub = ScriptedHub::start();
    let bytes = noise(size, 1);
    let commit = hub.hf("acme/tiny").commit([File::lfs("model.bin", bytes.clone())]);
    let daemon = Daemon::builder()
        .hub(&hub)
        .set("upstream.backoff", "10ms")
        .set("upstream.stall_timeout", stall)
        .start();
    let url = format!("{}/acme/tiny/resolve/{commit}/model.bin", daemon.url());
    (hub, daemon, url, bytes)
}

#[test]
fn eight_clients_of_a_cold_file_whose_origin_dies_half_way_get_it_whole_and_it_is_sent_once() {
    let (hub, _daemon, url, bytes) = set_up(12 * MIB);
    hub.fault(Fault::on("model.bin", What::CutAt(6 * MIB as u64)).at(Listener::Cdn));
    let replies = client::at_once(8, |_| client::get(&url));
    for reply in &replies {
        assert_eq!(reply.status, 200);
        assert!(reply.is_whole() && reply.body == bytes, "{:?} after {}", reply.ended, reply.body.len());
    }
    assert_eq!(hub.body_bytes("model.bin"), bytes.len() as u64, "{}", hub.journal());
    hub.clear();
    assert_eq!(client::get(&url).body, bytes);
    assert!(hub.requests().is_empty(), "{}", hub.journal());
}

#[test]
fn every_way_of_breaking_off_is_resumed_from_the_last_good_byte() {
    let cuts =
        [What::CutAt(3_000_001), What::ResetAt(3_000_001), What::StallAt(3_000_001, Duration::from_secs(10))];
    for what in cuts {
        let (hub, _daemon, url, bytes) = set_up_stalling(5 * MIB, "500ms");
        hub.fault(Fault::on("model.bin", what.clone()).at(Listener::Cdn));
        let reply = client::get(&url);
        assert!(reply.is_whole() && reply.body == bytes, "{what:?}: {:?}", reply.ended);
        let ranges: Vec<_> = hub
            .requests()
            .iter()
            .filter(|s| s.listener == Listener::Cdn)
            .filter_map(|s| s.header("range").map(str::to_owned))
            .collect();
        assert_eq!(ranges, ["bytes=3000001-"], "{what:?}: {}", hub.journal());
    }
}

#[test]
fn an_expired_signature_is_renewed_by_a_fresh_redirect() {
    let (hub, _daemon, url, bytes) = set_up(3 * MIB);
    hub.fault(Fault::on("model.bin", What::ExpiredUrl).at(Listener::Cdn));
    let reply = client::get(&url);
    assert!(reply.is_whole() && reply.body == bytes, "{}: {}", reply.text(), hub.journal());

    let (hub, _daemon, url, bytes) = set_up(3 * MIB);
    hub.fault(Fault::on("model.bin", What::CutAt(MIB as u64)).at(Listener::Cdn));
    hub.fault(Fault::on("model.bin", What::ExpiredUrl).at(Listener::Cdn).after(1));
    let reply = client::get(&url);
    assert!(reply.is_whole() && reply.body == bytes, "{}", hub.journal());
}

#[test]
fn a_hub_that_ignores_ranges_still_brings_a_cut_file_to_its_end() {
    let (hub, _daemon, url, bytes) = set_up(4 * MIB);
    hub.fault(Fault::on("model.bin", What::CutAt(2 * MIB as u64)).at(Listener::Cdn));
    hub.fault(Fault::on("model.bin", What::NoRange).always());
    let reply = client::get(&url);
    assert!(reply.is_whole() && reply.body == bytes, "{:?} {}", reply.ended, hub.journal());
}

#[test]
fn a_206_from_another_place_is_never_appended() {
    for admitted in [true, false] {
        let (hub, _daemon, url, bytes) = set_up(4 * MIB);
        hub.fault(Fault::on("model.bin", What::CutAt(2 * MIB as u64)).at(Listener::Cdn));
        hub.fault(
            Fault::on("model.bin", What::Shifted206 { by: 1, admitted }).ranged(true).at(Listener::Cdn),
        );
        let reply = client::get(&url);
        if admitted {
            assert!(reply.is_whole() && reply.body == bytes, "{:?} {}", reply.ended, hub.journal());
        } else {
            // The lie is found by the digest: the body that had sent some of it ends broken, never whole and wrong.
            assert_eq!(reply.ended, Ended::Broken);
            let again = client::get(&url);
            assert!(again.is_whole() && again.body == bytes, "{}", hub.journal());
        }
    }
}

#[test]
fn a_fill_goes_on_when_its_only_client_leaves() {
    let (hub, daemon, url, bytes) = set_up(8 * MIB);
    let gate = hub.gate("model.bin", 2 * MIB as u64);
    let mut client = Request::get(&url).open().unwrap();
    client.read_to(1000);
    gate.reached();
    client.abandon();
    daemon.wait_for_log("client-gone");
    gate.release();
    daemon.wait_for_log("file stored");
    hub.clear();
    assert_eq!(client::get(&url).body, bytes);
    assert!(hub.requests().is_empty(), "{}", hub.journal());
}

#[test]
fn a_setting_bounds_what_is_fetched_for_nobody() {
    let hub = ScriptedHub::start();
    let commit = hub.hf("acme/tiny").commit([File::lfs("model.bin", noise(8 * MIB, 1))]);
    let daemon = Daemon::builder().hub(&hub).set("cache.orphan_max", "1MiB").start();
    let gate = hub.gate("model.bin", 2 * MIB as u64);
    let url = format!("{}/acme/tiny/resolve/{commit}/model.bin", daemon.url());
    let mut client = Request::get(&url).open().unwrap();
    client.read_to(1000);
    gate.reached();
    client.abandon();
    daemon.wait_for_log("file left unfinished");
    assert!(hub.body_bytes("model.bin") <= 2 * MIB as u64, "{}", hub.journal());
}

#[test]
fn a_range_of_a_cold_file_is_answered_as_soon_as_its_bytes_are_there() {
    let (hub, _daemon, url, bytes) = set_up(8 * MIB);
    let gate = hub.gate("model.bin", 4 * MIB as u64);
    let part = client::get_range(&url, "1000-2000");
    assert_eq!((part.status, &part.body[..]), (206, &bytes[1000..=2000]));
    assert!(part.is_whole());
    assert!(part.header("cache-status").unwrap().contains("unverified"), "{:?}", part.headers);
    gate.release();
}

#[test]
fn a_stretch_far_ahead_is_fetched_first_and_not_asked_for_again() {
    let (hub, daemon, url, bytes) = set_up(40 * MIB);
    // The front of the file comes to a stop; the far part must not wait for it.
    let gate = hub.gate("model.bin", 2 * MIB as u64);
    let front = thread::spawn({
        let url = url.clone();
        move || client::get(&url)
    });
    gate.reached();
    let (from, to) = (30 * MIB, 32 * MIB);
    let part = Request::get(&url).range(&format!("{from}-{to}")).patience(PATIENCE).send();
    assert_eq!((part.status, part.body.len()), (206, to - from + 1), "{}", hub.journal());
    assert!(part.body == bytes[from..=to], "wrong bytes");
    gate.release();
    let front = front.join().unwrap();
    assert!(front.is_whole() && front.body == bytes);
    daemon.wait_for_log("file stored");
    // What the hub had on the wire when the first request met the stretch that was here already is all it may
    // have sent in vain.
    let sent = hub.body_bytes("model.bin");
    assert!(sent <= bytes.len() as u64 + 6 * MIB as u64, "{sent}: {}", hub.journal());
}

#[test]
fn parallel_ranges_of_a_cold_file_are_one_download() {
    let (hub, daemon, url, bytes) = set_up(32 * MIB);
    hub.fault(Fault::on("model.bin", What::Rate(60 * MIB as u64)).always());
    let part = 4 * MIB;
    let replies = client::at_once(8, |i| {
        // The last range ends past the file, as hf_transfer asks it.
        client::get_range(&url, &format!("{}-{}", i * part, (i + 1) * part - usize::from(i < 7)))
    });
    for (i, reply) in replies.iter().enumerate() {
        assert_eq!(reply.status, 206);
        assert!(reply.body == bytes[i * part..(i + 1) * part], "part {i}");
    }
    daemon.wait_for_log("file stored");
    assert_eq!(hub.body_bytes("model.bin"), bytes.len() as u64, "{}", hub.journal());
}

#[test]
fn parts_of_a_cold_file_that_come_one_by_one_bring_each_byte_once() {
    let (hub, daemon, url, bytes) = set_up(40 * MIB);
    // hf_transfer asks for one byte to learn the size, and then for parts of 10 MB.
    let parts = (0..bytes.len()).step_by(10_000_000).map(|first| (first, first + 9_999_999));
    for (first, last) in [(0, 0)].into_iter().chain(parts) {
        let reply = client::get_range(&url, &format!("{first}-{last}"));
        assert_eq!(reply.status, 206);
        assert!(reply.body == bytes[first..=last.min(bytes.len() - 1)], "{first}");
    }
    daemon.wait_for_log("file stored");
    assert_eq!(hub.body_bytes("model.bin"), bytes.len() as u64, "{}", hub.journal());
}

#[test]
fn a_part_of_a_cold_file_is_asked_for_as_a_part() {
    let (hub, daemon, url, bytes) = set_up(40 * MIB);
    let part = client::get_range(&url, "30000000-30000999");
    assert!(part.status == 206 && part.body == bytes[30_000_000..=30_000_999], "{}", hub.journal());
    daemon.wait_for_log("file stored");
    let first = hub.requests()[0].range.clone().unwrap();
    let (from, to) = first.trim_start_matches("bytes=").split_once('-').unwrap();
    let (from, to): (usize, usize) = (from.parse().unwrap(), to.parse().unwrap());
    assert!(from <= 30_000_000 && 30_000_999 <= to && to - from < 10 * MIB, "{first}");
    assert_eq!(hub.body_bytes("model.bin"), bytes.len() as u64, "{}", hub.journal());
    assert!(client::get(&url).body == bytes);
}

#[test]
fn a_part_behind_the_end_of_a_cold_file_is_416_and_the_file_is_fetched() {
    for size in [0, 5 * MIB] {
        let (hub, daemon, url, bytes) = set_up(size);
        let part = client::get_range(&url, "90000000-90000999");
        assert_eq!(part.status, 416, "{}", hub.journal());
        assert_eq!(part.header("content-range"), Some(format!("bytes */{size}").as_str()));
        daemon.wait_for_log("file stored");
        assert_eq!(hub.body_bytes("model.bin"), bytes.len() as u64, "{}", hub.journal());
    }
}

#[test]
fn a_part_of_a_cold_file_whose_hub_ignores_ranges_comes_with_the_whole() {
    for file in ["redirected", "direct"] {
        let hub = ScriptedHub::start();
        let bytes = noise(20 * MIB, 1);
        let file = match file {
            "direct" => File::direct("model.bin", bytes.clone()),
            _ => File::lfs("model.bin", bytes.clone()),
        };
        let commit = hub.hf("acme/tiny").commit([file]);
        hub.fault(Fault::on("model.bin", What::NoRange).always());
        let daemon = Daemon::start(&hub);
        let url = format!("{}/acme/tiny/resolve/{commit}/model.bin", daemon.url());
        let part = client::get_range(&url, "15000000-15000999");
        assert!(part.status == 206 && part.body == bytes[15_000_000..=15_000_999], "{}", hub.journal());
        daemon.wait_for_log("file stored");
        assert_eq!(hub.body_bytes("model.bin"), bytes.len() as u64, "{}", hub.journal());
    }
}

#[test]
fn a_part_of_a_cold_file_of_unknown_length_comes_with_the_whole() {
    for what in [What::Chunked, What::NoContentLength] {
        let hub = ScriptedHub::start();
        let bytes = noise(12 * MIB + 17, 4);
        let commit = hub.hf("acme/tiny").commit([File::direct("a.bin", bytes.clone())]);
        hub.fault(Fault::on("a.bin", what.clone()).always());
        hub.fault(Fault::on("a.bin", What::NoRange).always());
        let daemon = Daemon::start(&hub);
        let url = format!("{}/acme/tiny/resolve/{commit}/a.bin", daemon.url());
        let part = client::get_range(&url, "10000000-10000999");
        assert!(part.status == 206 && part.body == bytes[10_000_000..=10_000_999], "{what:?}");
        daemon.wait_for_log("file stored");
        assert!(client::get(&url).body == bytes);
    }
}

/// A hub that gives each connection little of a file, for which one alone takes some seconds.
fn set_up_far(size: usize, settings: &[(&str, &str)]) -> (ScriptedHub, Daemon, String, Vec<u8>) {
    let hub = ScriptedHub::start();
    let bytes = noise(size, 1);
    let commit = hub.hf("acme/tiny").commit([File::lfs("model.bin", bytes.clone())]);
    hub.fault(Fault::on("model.bin", What::Rate(8 * MIB as u64)).always());
    let daemon = settings.iter().fold(Daemon::builder().hub(&hub), |b, (key, value)| b.set(key, value));
    let daemon = daemon.set("upstream.backoff", "10ms").start();
    let url = format!("{}/acme/tiny/resolve/{commit}/model.bin", daemon.url());
    (hub, daemon, url, bytes)
}

/// The ranges that the content network was asked for; `None` for the whole.
fn ranges(hub: &ScriptedHub) -> Vec<Option<String>> {
    hub.requests().into_iter().filter(|s| s.listener == Listener::Cdn).map(|s| s.range).collect()
}

#[test]
fn a_far_hub_is_asked_over_several_connections() {
    let (hub, daemon, url, bytes) = set_up_far(48 * MIB, &[]);
    hub.fault(Fault::on("model.bin", What::DelayHead(Duration::from_millis(25))).always());
    let reply = client::get(&url);
    assert!(reply.is_whole() && reply.body == bytes, "{:?} {}", reply.ended, hub.journal());
    daemon.wait_for_log("file stored");
    let ranges = ranges(&hub);
    assert_eq!(ranges[0], None, "{}", hub.journal());
    assert!(ranges.len() >= 4 && ranges[1..].iter().all(Option::is_some), "{}", hub.journal());
    // What was on the wire to the first lane when the others began.
    let sent = hub.body_bytes("model.bin");
    assert!(sent <= bytes.len() as u64 + 2 * MIB as u64, "{sent}: {}", hub.journal());
    hub.clear();
    assert!(client::get(&url).body == bytes && hub.requests().is_empty());
}

#[test]
fn a_far_hub_is_asked_once_if_it_takes_no_ranges_or_the_operator_says_so() {
    let (hub, _daemon, url, bytes) = set_up_far(24 * MIB, &[]);
    hub.fault(Fault::on("model.bin", What::Header("accept-ranges".into(), Some("none".into()))).always());
    assert!(client::get(&url).body == bytes);
    assert_eq!(ranges(&hub), [None], "{}", hub.journal());

    let (hub, _daemon, url, bytes) = set_up_far(24 * MIB, &[("cache.lanes_far", "1")]);
    assert!(client::get(&url).body == bytes);
    assert_eq!(ranges(&hub), [None], "{}", hub.journal());
}

#[test]
fn a_far_hub_that_ignores_ranges_goes_on_over_the_first_connection() {
    let (hub, _daemon, url, bytes) = set_up_far(24 * MIB, &[]);
    hub.fault(Fault::on("model.bin", What::NoRange).always());
    assert!(client::get(&url).body == bytes, "{}", hub.journal());
    let first = hub.requests().into_iter().find(|s| s.listener == Listener::Cdn).unwrap();
    assert_eq!(first.body_sent, bytes.len() as u64, "{}", hub.journal());
    assert!(ranges(&hub).len() <= 4, "{}", hub.journal());
}

#[test]
fn a_far_hub_that_limits_requests_goes_on_over_the_first_connection() {
    let limits: [(u16, &[(&str, &str)]); 3] =
        [(429, &[("retry-after", "60")]), (503, &[("retry-after", "60")]), (503, &[])];
    for (status, headers) in limits {
        let (hub, _daemon, url, bytes) = set_up_far(24 * MIB, &[]);
        let refusal = What::status_with(status, headers, "too many");
        hub.fault(Fault::on("model.bin", refusal).at(Listener::Hub).ranged(true).always());
        let reply = client::get(&url);
        assert!(reply.is_whole() && reply.body == bytes, "{status}: {:?} {}", reply.ended, hub.journal());
        assert_eq!(ranges(&hub), [None], "{}", hub.journal());
        assert!(hub.count_at(Listener::Hub) <= 4, "{}", hub.journal());
        assert_eq!(hub.body_bytes("model.bin"), bytes.len() as u64, "{}", hub.journal());
    }
}

#[test]
fn a_far_hub_that_refuses_one_lane_still_brings_the_file_whole() {
    let (hub, daemon, url, bytes) = set_up_far(48 * MIB, &[]);
    hub.fault(Fault::on("model.bin", What::status(429)).at(Listener::Cdn).ranged(true).after(1));
    hub.fault(Fault::on("model.bin", What::CutAfter(3_000_001)).at(Listener::Cdn).ranged(true).times(2));
    let reply = client::get(&url);
    assert!(reply.is_whole() && reply.body == bytes, "{:?} {}", reply.ended, hub.journal());
    daemon.wait_for_log("file stored");
    let sent = hub.body_bytes("model.bin");
    assert!(sent <= bytes.len() as u64 + 4 * MIB as u64, "{sent}: {}", hub.journal());
}

#[test]
fn promised_bytes_that_are_held_are_linked_and_not_fetched() {
    let hub = ScriptedHub::start();
    let (large, small) = (noise(3 * MIB, 1), noise(2000, 2));
    let files = || [File::lfs("a.bin", large.clone()), File::small("config.json", small.clone())];
    let one = hub.hf("acme/one").commit(files());
    let two = hub.hf("acme/two").commit(files());
    let daemon = Daemon::start(&hub);
    for file in ["a.bin", "config.json"] {
        client::get(&format!("{}/acme/one/resolve/{one}/{file}", daemon.url()));
    }
    hub.clear();
    for (file, bytes) in [("a.bin", &large), ("config.json", &small)] {
        let url = format!("{}/acme/two/resolve/{two}/{file}", daemon.url());
        client::head(&url);
        let reply = client::get(&url);
        assert!(reply.body == *bytes);
        // What HEAD told was enough to link it, so that GET may find it held.
        let status = reply.header("cache-status").unwrap();
        assert!(status.contains("linked") || status == "hubcache; hit", "{status}");
        assert_eq!(reply.header("x-repo-commit"), Some(two.as_str()));
    }
    assert_eq!(hub.body_bytes("a.bin") + hub.body_bytes("config.json"), 0, "{}", hub.journal());
}

#[test]
fn every_kind_of_digest_is_recorded_with_who_promised_it() {
    let hub = ScriptedHub::start();
    let bytes = noise(5000, 3);
    let commit = hub
        .hf("acme/tiny")
        .commit([File::lfs("lfs.bin", bytes.clone()), File::small("small.json", bytes.clone())]);
    hub.moz("acme/m", "v1.0", "moz.onnx", bytes.clone());
    let daemon = Daemon::start(&hub);
    for path in ["lfs.bin", "small.json"] {
        client::get(&format!("{}/acme/tiny/resolve/{commit}/{path}", daemon.url()));
    }
    client::get(&format!("{}/acme/m/v1.0/moz.onnx", daemon.url()));
    let listed = daemon.command(&["ls", "--json"]);
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    for (path, promises) in [
        ("lfs.bin", vec![("sha256", digests::sha256(&bytes), "linked-etag")]),
        ("small.json", vec![("git-sha1", digests::git_sha1(&bytes), "etag")]),
        ("moz.onnx", vec![("md5", digests::md5_hex(&bytes), "goog-hash")]),
    ] {
        let entry = listed.as_array().unwrap().iter().find(|e| e["path"] == path).unwrap();
        assert_eq!(entry["standing"], "verified", "{entry}");
        assert_eq!(entry["sha256"], digests::sha256(&bytes), "{entry}");
        let said = entry["promises"].to_string();
        for (algorithm, value, by) in promises {
            assert!(said.contains(algorithm) && said.contains(&value) && said.contains(by), "{said}");
        }
    }
}

#[test]
fn what_nobody_vouched_for_is_recorded_and_says_so() {
    let hub = ScriptedHub::start();
    let bytes = noise(5000, 3);
    let commit = hub.hf("acme/tiny").commit([File::direct("a.bin", bytes.clone())]);
    hub.fault(Fault::on("a.bin", What::NoPromises).always());
    let daemon = Daemon::start(&hub);
    assert_eq!(client::get(&format!("{}/acme/tiny/resolve/{commit}/a.bin", daemon.url())).body, bytes);
    let listed = daemon.command(&["ls", "--json"]);
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(listed[0]["standing"], "recorded", "{listed}");
}

#[test]
fn a_digest_of_an_encoded_form_is_not_compared() {
    let hub = ScriptedHub::start();
    let bytes = noise(50_000, 3);
    hub.moz("acme/m", "v1.0", "a.json", bytes.clone());
    hub.fault(Fault::on("a.json", What::StoredGzip).always());
    let daemon = Daemon::start(&hub);
    let reply = client::get(&format!("{}/acme/m/v1.0/a.json", daemon.url()));
    assert!(reply.status == 200 && reply.body == bytes, "{}", hub.journal());
    let listed = daemon.command(&["ls", "--json"]);
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(listed[0]["standing"], "recorded", "{listed}");
}

#[test]
fn gzip_that_was_not_asked_for_is_decoded_and_checked() {
    let hub = ScriptedHub::start();
    let bytes = b"{\"a\": 1}\n".repeat(200_000);
    let commit = hub.hf("acme/tiny").commit([File::small("tokenizer.json", bytes.clone())]);
    hub.fault(Fault::on("tokenizer.json", What::GzipAnyway).always());
    let daemon = Daemon::start(&hub);
    let url = format!("{}/acme/tiny/resolve/{commit}/tokenizer.json", daemon.url());
    let reply = client::get(&url);
    assert!(reply.is_whole() && reply.body == bytes, "{} {}", reply.status, hub.journal());
    assert_eq!(reply.header("content-encoding"), None);
    let again = client::get(&url);
    assert_eq!(again.header("content-length"), Some(bytes.len().to_string().as_str()));
    daemon.wait_for_log("standing=\"verified\"");
}

#[test]
fn bodies_of_unknown_length_arrive_whole() {
    for what in [What::Chunked, What::NoContentLength] {
        let hub = ScriptedHub::start();
        let bytes = noise(3 * MIB + 17, 4);
        let commit = hub.hf("acme/tiny").commit([File::direct("a.bin", bytes.clone())]);
        hub.fault(Fault::on("a.bin", what.clone()).always());
        let daemon = Daemon::start(&hub);
        let url = format!("{}/acme/tiny/resolve/{commit}/a.bin", daemon.url());
        let reply = client::get(&url);
        assert!(reply.is_whole() && reply.body == bytes, "{what:?}: {} {:?}", reply.status, reply.ended);
        hub.clear();
        let part = client::get_range(&url, "3-9");
        assert_eq!(part.body, bytes[3..=9]);
        assert!(hub.requests().is_empty());
    }
}

#[test]
fn wrong_bytes_break_the_body_that_has_some_and_are_fetched_once_more_for_the_others() {
    let (hub, daemon, url, bytes) = set_up(4 * MIB);
    hub.fault(Fault::on("model.bin", What::WrongByteAt(100)).at(Listener::Cdn));
    let first = client::get(&url);
    assert_eq!((first.status, first.ended), (200, Ended::Broken), "a wrong byte never ends cleanly");
    assert!(first.body.len() < bytes.len());
    let second = client::get(&url);
    assert!(second.is_whole() && second.body == bytes, "{}", hub.journal());
    assert!(daemon.metric("hubcache_verify_failures_total", &[]) >= 1.0);
}

#[test]
fn a_request_that_has_sent_nothing_waits_for_the_second_attempt() {
    let hub = ScriptedHub::start();
    let bytes = noise(3 * MIB, 5);
    hub.moz("acme/m", "v1.0", "model.onnx", bytes.clone());
    hub.fault(Fault::on("model.onnx", What::WrongByteAt(7)));
    let daemon = Daemon::start(&hub);
    let url = format!("{}/acme/m/v1.0/model.onnx", daemon.url());
    for reply in client::at_once(4, |_| client::get(&url)) {
        assert!(reply.status == 200 && reply.body == bytes, "{} {}", reply.status, hub.journal());
    }
}

#[test]
fn bytes_that_are_wrong_twice_are_502_and_never_a_row_in_the_index() {
    let hub = ScriptedHub::start();
    let bytes = noise(2 * MIB, 5);
    hub.moz("acme/m", "v1.0", "model.onnx", bytes.clone());
    hub.fault(Fault::on("model.onnx", What::WrongByteAt(7)).times(2));
    let daemon = Daemon::start(&hub);
    let url = format!("{}/acme/m/v1.0/model.onnx", daemon.url());
    let reply = client::get(&url);
    assert_eq!(reply.status, 502, "{}", reply.text());
    assert!(reply.text().contains("md5:") || reply.text().contains("crc32c:"), "{}", reply.text());
    assert_eq!(daemon.command(&["ls", "--json"]).stdout.trim_ascii(), b"[]");
    assert_eq!(client::get(&url).body, bytes, "the next request tries again");
}

#[test]
fn pages_pointers_and_wrong_lengths_count_as_wrong() {
    let faults = [What::Html, What::LfsPointer, What::ContentLength(-10), What::ContentLength(10)];
    for what in faults {
        let hub = ScriptedHub::start();
        let bytes = noise(100_000, 6);
        hub.moz("acme/m", "v1.0", "model.onnx", bytes.clone());
        hub.fault(Fault::on("model.onnx", what.clone()));
        let daemon = Daemon::builder().hub(&hub).set("upstream.backoff", "10ms").start();
        let reply = client::get(&format!("{}/acme/m/v1.0/model.onnx", daemon.url()));
        let right = reply.status == 200 && reply.is_whole() && reply.body == bytes;
        assert!(right, "{what:?}: {} {:?} {}", reply.status, reply.ended, hub.journal());
    }
}

#[test]
fn a_validator_that_changes_restarts_the_fill_and_breaks_what_was_begun() {
    let hub = ScriptedHub::start();
    let (old, new) = (noise(4 * MIB, 7), noise(4 * MIB, 8));
    hub.moz("acme/m", "main", "model.onnx", old.clone());
    let daemon = Daemon::builder()
        .hub(&hub)
        .set("cache.delivery_mozilla", "stream")
        .set("upstream.backoff", "10ms")
        .start();
    let url = format!("{}/acme/m/main/model.onnx", daemon.url());
    let gate = hub.gate("model.onnx", 2 * MIB as u64);
    hub.fault(Fault::on("model.onnx", What::CutAt(2 * MIB as u64 + 10)));
    let mut begun = Request::get(&url).open().unwrap();
    begun.read_to(MIB);
    gate.reached();
    hub.moz("acme/m", "main", "model.onnx", new.clone());
    gate.release();
    let begun = begun.finish();
    assert_eq!(begun.ended, Ended::Broken, "{} bytes", begun.body.len());
    let next = client::get(&url);
    assert!(next.is_whole() && next.body == new, "{}", hub.journal());
}

#[test]
fn after_wrong_bytes_a_range_that_would_continue_them_is_not_served() {
    let (hub, mut daemon, url, bytes) = set_up(4 * MIB);
    hub.fault(Fault::on("model.bin", What::WrongByteAt(100)).at(Listener::Cdn));
    let first = client::get(&url);
    assert_eq!(first.ended, Ended::Broken);
    daemon.wait_for_log("file stored");
    let etag = format!("\"{}\"", digests::sha256(&bytes));
    let check = |url: &str| {
        let resumed = Request::get(url).range("1000-").header("If-Range", &etag).send();
        assert_eq!(resumed.status, 200, "the whole file makes clients start again");
        assert!(resumed.body == bytes);
        let part = client::get_range(url, "1000-2000");
        assert_eq!(part.status, 503, "{}", part.text());
        assert!(part.header("retry-after").is_some());
        for range in ["0-0", "0-999", "0-"] {
            let reply = client::get_range(url, range);
            assert_eq!(reply.status, 206, "{range}");
            assert_eq!(reply.body[..], bytes[..reply.body.len()], "{range}");
        }
    };
    check(&url);
    // The mark is durable.
    daemon.kill9();
    daemon.restart();
    let path = url.split_once("/acme").unwrap().1;
    check(&format!("{}/acme{path}", daemon.url()));
}

#[test]
fn the_mark_against_resuming_expires() {
    let hub = ScriptedHub::start();
    let bytes = noise(2 * MIB, 1);
    let commit = hub.hf("acme/tiny").commit([File::lfs("model.bin", bytes.clone())]);
    let daemon = Daemon::builder().hub(&hub).set("cache.mark_for", "1s").start();
    let url = format!("{}/acme/tiny/resolve/{commit}/model.bin", daemon.url());
    hub.fault(Fault::on("model.bin", What::WrongByteAt(100)).at(Listener::Cdn));
    assert_eq!(client::get(&url).ended, Ended::Broken);
    daemon.wait_for_log("file stored");
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let part = client::get_range(&url, "1000-2000");
        if part.status == 206 {
            assert_eq!(part.body, bytes[1000..=2000]);
            break;
        }
        assert_eq!(part.status, 503);
        assert!(std::time::Instant::now() < deadline, "the mark stands for ever");
        thread::sleep(Duration::from_millis(50));
    }
}
