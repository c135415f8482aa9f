//! What huggingface_hub makes of each fault: hubcache serves, the spoiler stands before it, and each version downloads
//! one file in an environment of its own.

use std::fs;

use crate::{drivers, support};
use drivers::HuggingFaceHub;
use support::client::{at_once, get};
use support::daemon::Daemon;
use support::hub::{File, ScriptedHub};

use super::Spoiled;

const MODEL: &str = "acme/tiny";
const WEIGHTS: &str = "model.bin";

/// Waits of a second instead of ten.
const IMPATIENT: [(&str, &str); 2] = [("HF_HUB_DOWNLOAD_TIMEOUT", "1"), ("HF_HUB_ETAG_TIMEOUT", "1")];

/// What came of a download.
#[derive(Debug, PartialEq, Eq)]
enum Came {
    /// The right file.
    Right,
    /// A file with other bytes, which the client takes for the right one.
    Wrong,
    /// An exception of this class.
    Failed(String),
}

use Came::{Right, Wrong};

fn failed(class: &str) -> Came {
    Came::Failed(class.to_owned())
}

/// hubcache with one model in its store.
struct Scene {
    _hub: ScriptedHub,
    daemon: Daemon,
    bytes: Vec<u8>,
}

impl Scene {
    fn new() -> Self {
        Self::of_size(300_000)
    }

    fn of_size(size: usize) -> Self {
        let hub = ScriptedHub::start();
        let mut random = fastrand::Rng::with_seed(7);
        let bytes: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(size).collect();
        hub.hf(MODEL).commit([File::lfs(WEIGHTS, bytes.clone())]);
        let daemon = Daemon::start(&hub);
        get(&format!("{}/{MODEL}/resolve/main/{WEIGHTS}", daemon.url())).assert_is(
            200,
            &bytes,
            "without a fault",
        );
        Self { _hub: hub, daemon, bytes }
    }

    /// What each version makes of one fault of the file, oldest first, and how often it struck. No rule behind it may.
    fn all(&self, fault: &str) -> [(Came, u64); 3] {
        let all = at_once(3, |n| {
            let rules = format!("[[fault]]\npath = \"*/{WEIGHTS}\"\n{fault}");
            let spoiled = Spoiled::before(&self.daemon.url(), &rules);
            let came = self.download(HuggingFaceHub::ALL[n], &spoiled.url);
            let struck = spoiled.struck();
            assert!(struck[1..].iter().all(|times| *times == 0), "{struck:?}");
            (came, struck[0])
        });
        all.try_into().expect("three versions")
    }

    fn download(&self, client: HuggingFaceHub, endpoint: &str) -> Came {
        let home = tempfile::tempdir().unwrap();
        match client.fetch_with(&IMPATIENT, endpoint, home.path(), MODEL, &[WEIGHTS]) {
            Ok(files) if fs::read(&files[0]).unwrap() == self.bytes => Right,
            Ok(_) => Wrong,
            Err(gave_up) => Came::Failed(gave_up.exception().class),
        }
    }
}

const ONCE_AFTER_A_SECOND: &str = "times = 1\nstatus = 429\nheaders = { Retry-After = \"1\" }";

#[test]
fn the_newer_versions_wait_as_a_429_says_and_0_36_gives_up() {
    let scene = Scene::new();
    let got = scene.all(&format!("method = \"GET\"\n{ONCE_AFTER_A_SECOND}"));
    assert_eq!(got, [(failed("HfHubHTTPError"), 1), (Right, 1), (Right, 1)]);
    let got = scene.all(&format!("method = \"HEAD\"\n{ONCE_AFTER_A_SECOND}"));
    assert_eq!(got, [(failed("LocalEntryNotFoundError"), 1), (Right, 1), (Right, 1)]);
}

#[test]
fn a_503_is_borne_by_all_at_head_and_by_0_36_at_get() {
    let scene = Scene::new();
    let got = scene.all("method = \"GET\"\ntimes = 1\nstatus = 503");
    assert_eq!(got, [(Right, 1), (failed("HfHubHTTPError"), 1), (failed("HfHubHTTPError"), 1)]);
    let got = scene.all("method = \"HEAD\"\ntimes = 1\nstatus = 503");
    assert_eq!(got, [(Right, 1), (Right, 1), (Right, 1)]);
}

#[test]
fn silence_is_waited_out_and_then_asked_again() {
    let scene = Scene::new();
    for fault in [
        "method = \"HEAD\"\ntimes = 1\ndelay = \"2s\"",
        "method = \"GET\"\ntimes = 1\ndelay = \"2s\"",
        "times = 1\nstall = 100_000",
        "times = 1\nslow = \"300KB/s\"",
    ] {
        assert_eq!(scene.all(fault), [(Right, 1), (Right, 1), (Right, 1)], "{fault}");
    }
}

#[test]
fn the_newer_versions_go_on_where_they_were_cut_and_0_36_gives_up() {
    let scene = Scene::new();
    let got = scene.all("times = 1\ncut = 100_000");
    assert_eq!(got, [(failed("ChunkedEncodingError"), 1), (Right, 1), (Right, 1)]);
    // They keep pieces of 10 MiB: what follows has no first byte that could be wrong.
    let scene = Scene::of_size(12_000_000);
    let mark = format!("[[fault]]\npath = \"*/{WEIGHTS}\"\nwrong_byte = 0");
    let got = scene.all(&format!("times = 1\ncut = 11_000_000\n{mark}"));
    assert_eq!(got, [(failed("ChunkedEncodingError"), 1), (Right, 1), (Right, 1)]);
}

#[test]
fn a_wrong_byte_is_taken_by_all() {
    let got = Scene::new().all("wrong_byte = 100_000");
    assert_eq!(got, [(Wrong, 1), (Wrong, 1), (Wrong, 1)]);
}

#[test]
fn a_wrong_length_is_noticed_unless_everybody_tells_the_same() {
    let scene = Scene::new();
    for fault in ["method = \"HEAD\"\nwrong_length = +10", "method = \"GET\"\nwrong_length = -10"] {
        let failed = || (failed("OSError"), 1);
        assert_eq!(scene.all(fault), [failed(), failed(), failed()], "{fault}");
    }
    let got = scene.all("method = \"GET\"\nwrong_length = +10");
    // Five times more, and each time the end comes too early.
    let too_early = || (failed("RemoteProtocolError"), 6);
    assert_eq!(got, [(failed("ChunkedEncodingError"), 1), too_early(), too_early()]);
    assert_eq!(scene.all("wrong_length = -10"), [(Wrong, 2), (Wrong, 2), (Wrong, 2)]);
}

#[test]
fn a_tag_that_changes_before_the_bytes_come_is_noticed_by_none() {
    let got = Scene::new().all("etag = \"changes\"");
    assert_eq!(got, [(Right, 2), (Right, 2), (Right, 2)]);
}
