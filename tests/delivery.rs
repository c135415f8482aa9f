//! How the bytes of a file that is still on its way are sent.

use std::thread;
use std::time::Duration;

use crate::support;
use support::client::{self, Ended, Request};
use support::daemon::Daemon;
use support::hub::{Fault, File, Listener, ScriptedHub, What};

const FIREFOX: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:153.0) Gecko/20100101 Firefox/153.0";
const SIZE: usize = 3_000_000;

fn bytes() -> Vec<u8> {
    (0..SIZE).map(|i| (i * i % 251).to_le_bytes()[0]).collect()
}

fn onnx() -> Vec<u8> {
    // Other bytes than the other hub's, which would be linked.
    bytes().into_iter().rev().collect()
}

fn hub_with_both_layouts() -> (ScriptedHub, String) {
    let hub = ScriptedHub::start();
    hub.moz("acme/m", "v1.0", "model.onnx", onnx());
    let commit = hub.hf("acme/tiny").commit([File::lfs("model.bin", bytes())]);
    (hub, commit)
}

#[test]
fn stream_sends_bytes_as_they_arrive_and_withholds_the_last_one_until_the_verdict() {
    let (hub, commit) = hub_with_both_layouts();
    let daemon = Daemon::start(&hub);
    let gate = hub.gate("model.bin", 1_500_000);
    let url = format!("{}/acme/tiny/resolve/{commit}/model.bin", daemon.url());
    let mut body = Request::get(&url).open().unwrap();
    assert_eq!(body.read_to(1_400_000), &bytes()[..1_400_000]);
    gate.release();
    assert_eq!(body.finish().body, bytes());

    // The same with a wrong last byte: everything but the end may have left, the end never does.
    let mut other = bytes();
    other[0] ^= 1;
    let wrong = hub.hf("acme/wrong").commit([File::lfs("model.bin", other)]);
    hub.fault(Fault::on("acme/wrong", What::WrongByteAt(SIZE as u64 - 1)).get());
    let reply = client::get(&format!("{}/acme/wrong/resolve/{wrong}/model.bin", daemon.url()));
    assert_eq!(reply.ended, Ended::Broken);
    assert!(reply.body.len() < SIZE, "{}", reply.body.len());
}

#[test]
fn verified_sends_nothing_before_the_verdict() {
    let (hub, commit) = hub_with_both_layouts();
    let daemon = Daemon::start(&hub);
    let cases = [
        ("model.onnx", Request::get(&format!("{}/acme/m/v1.0/model.onnx?download=true", daemon.url()))),
        (
            "model.bin",
            Request::get(&format!("{}/acme/tiny/resolve/{commit}/model.bin", daemon.url()))
                .header("User-Agent", FIREFOX),
        ),
    ];
    for ((name, request), bytes) in cases.into_iter().zip([onnx(), bytes()]) {
        let gate = hub.gate(name, SIZE as u64 - 1);
        let answer = thread::spawn(move || request.send());
        gate.reached();
        assert!(!answer.is_finished(), "{name} was answered before its last byte was here");
        gate.release();
        let reply = answer.join().unwrap();
        assert!(reply.status == 200 && reply.body == bytes);
        assert!(reply.header("content-type").is_some() && reply.header("etag").is_some());
    }
}

#[test]
fn verified_streams_after_its_hold() {
    let (hub, _) = hub_with_both_layouts();
    let daemon = Daemon::builder().hub(&hub).set("cache.hold", "200ms").start();
    let gate = hub.gate("model.onnx", 1_000_000);
    let mut body = Request::get(&format!("{}/acme/m/v1.0/model.onnx", daemon.url())).open().unwrap();
    assert_eq!(body.read_to(900_000), &onnx()[..900_000]);
    gate.release();
    let reply = body.finish();
    assert!(reply.is_whole() && reply.body == onnx());
}

#[test]
fn a_body_that_waits_for_the_hub_drips_what_it_holds() {
    let (hub, commit) = hub_with_both_layouts();
    let daemon = Daemon::builder().hub(&hub).set("cache.drip", "100ms").start();
    let gate = hub.gate("model.bin", 1_000_000);
    let mut body =
        Request::get(&format!("{}/acme/tiny/resolve/{commit}/model.bin", daemon.url())).open().unwrap();
    body.read_to(990_000);
    gate.reached();
    // Five single bytes of the reserve, while the hub sends nothing.
    let held = 1_000_000 - 256;
    body.read_to(held);
    for more in 1..=5 {
        assert_eq!(body.read_to(held + more).len(), held + more);
    }
    gate.release();
    let reply = body.finish();
    assert!(reply.is_whole() && reply.body == bytes());
}

#[test]
fn a_follower_of_a_slow_origin_is_never_silent_for_ten_seconds() {
    let hub = ScriptedHub::start();
    let slow: Vec<u8> = bytes()[..1_500_000].to_vec();
    let commit = hub.hf("acme/tiny").commit([File::lfs("model.bin", slow.clone())]);
    hub.fault(Fault::on("model.bin", What::Rate(500_000)).at(Listener::Cdn).always());
    // One stall that is longer than clients wait, and shorter than the hub is given.
    hub.fault(Fault::on("model.bin", What::StallAt(700_000, Duration::from_secs(11))).at(Listener::Cdn));
    let daemon = Daemon::start(&hub);
    let url = format!("{}/acme/tiny/resolve/{commit}/model.bin", daemon.url());
    for reply in client::at_once(3, |_| Request::get(&url).patience(Duration::from_secs(30)).send()) {
        assert!(reply.is_whole() && reply.body == slow);
        assert!(reply.longest_silence() < Duration::from_secs(5), "{:?}", reply.longest_silence());
    }
}

#[test]
fn an_empty_file_is_served_by_both_deliveries() {
    let hub = ScriptedHub::start();
    hub.moz("acme/m", "v1.0", "empty", "");
    let commit = hub.hf("acme/tiny").commit([File::small("empty", "")]);
    let daemon = Daemon::start(&hub);
    for path in ["/acme/m/v1.0/empty".to_owned(), format!("/acme/tiny/resolve/{commit}/empty")] {
        for _cold_then_warm in 0..2 {
            let reply = client::get(&format!("{}{path}", daemon.url()));
            assert_eq!((reply.status, reply.header("content-length"), reply.body.len()), (200, Some("0"), 0));
        }
        let part = client::get_range(&format!("{}{path}", daemon.url()), "0-0");
        assert_eq!((part.status, part.header("content-range")), (416, Some("bytes */0")));
    }
}

#[test]
fn a_client_that_reads_slowly_gets_every_byte_of_a_fill_that_has_long_ended() {
    let hub = ScriptedHub::start();
    let large: Vec<u8> =
        (0..24u32 << 20).map(|i| (i.wrapping_mul(2_654_435_761) >> 24).to_le_bytes()[0]).collect();
    let commit = hub.hf("acme/tiny").commit([File::lfs("model.bin", large.clone())]);
    let daemon = Daemon::start(&hub);
    let url = format!("{}/acme/tiny/resolve/{commit}/model.bin", daemon.url());
    let mut slow = Request::get(&url).open().unwrap();
    slow.read_to(10);
    assert!(client::get(&url).body == large);
    daemon.wait_for_log("file stored");
    let reply = slow.finish();
    assert!(reply.is_whole() && reply.body == large);
}
