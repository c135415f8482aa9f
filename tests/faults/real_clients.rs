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
        let hub = ScriptedHub::start();
        let mut random = fastrand::Rng::with_seed(7);
        let bytes: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(300_000).collect();
        hub.hf(MODEL).commit([File::lfs(WEIGHTS, bytes.clone())]);
        let daemon = Daemon::start(&hub);
        get(&format!("{}/{MODEL}/resolve/main/{WEIGHTS}", daemon.url())).assert_is(
            200,
            &bytes,
            "without a fault",
        );
        Self { _hub: hub, daemon, bytes }
    }

    /// What each version makes of one fault of the file, oldest first, and how often it struck.
    fn all(&self, fault: &str) -> [(Came, u64); 3] {
        let all = at_once(3, |n| {
            let rules = format!("[[fault]]\npath = \"*/{WEIGHTS}\"\n{fault}");
            let spoiled = Spoiled::before(&self.daemon.url(), &rules);
            let came = self.download(HuggingFaceHub::ALL[n], &spoiled.url);
            (came, spoiled.struck()[0])
        });
        all.try_into().expect("three versions")
    }

    fn download(&self, client: HuggingFaceHub, endpoint: &str) -> Came {
        let home = tempfile::tempdir().unwrap();
        match client.fetch_with(&IMPATIENT, endpoint, home.path(), MODEL, &[WEIGHTS]) {
            Ok(files) if fs::read(&files[0]).unwrap() == self.bytes => Right,
            Ok(_) => Wrong,
            Err(gave_up) => {
                eprintln!("{client:?}: {:?}", gave_up.exception());
                Came::Failed(gave_up.exception().class)
            }
        }
    }
}

#[test]
fn zz_explore() {
    let scene = Scene::new();
    for fault in [
        "method = \"GET\"\ntimes = 1\nstatus = 429\nheaders = { Retry-After = \"1\" }",
        "method = \"HEAD\"\ntimes = 1\nstatus = 429\nheaders = { Retry-After = \"1\" }",
        "method = \"GET\"\ntimes = 1\nstatus = 503",
        "method = \"HEAD\"\ntimes = 1\nstatus = 503",
        "method = \"GET\"\ntimes = 1\ndelay = \"2s\"",
        "method = \"HEAD\"\ntimes = 1\ndelay = \"2s\"",
        "slow = \"300KB/s\"",
        "times = 1\nstall = 100_000",
        "times = 1\ncut = 100_000",
        "cut = 100_000",
        "wrong_byte = 100_000",
        "method = \"GET\"\nwrong_length = +10",
        "method = \"GET\"\nwrong_length = -10",
        "wrong_length = +10",
        "wrong_length = -10",
        "method = \"HEAD\"\nwrong_length = +10",
        "etag = \"changes\"",
    ] {
        let begun = std::time::Instant::now();
        eprintln!("{fault:?} -> {:?} in {:?}", scene.all(fault), begun.elapsed());
    }
}
