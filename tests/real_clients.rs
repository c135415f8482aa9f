//! Real clients on the main job: cold, warm, many at once, over an origin that corrupts, cuts or moves on, and
//! after a crash.

use std::thread;

use crate::{drivers, support, tiny_model};
use drivers::{Client, Layout, Loaded, finished, transformers_js};
use support::client::at_once;
use support::daemon::Daemon;
use support::hub::{Fault, File, Listener, ScriptedHub, What};
use tempfile::TempDir;

const REPOSITORY: &str = "acme/tiny";

/// The file at which tests aim their faults; the largest one.
const MODEL: &str = "model.bin";

/// What a test publishes: one file of each kind, as far as the client can name it.
struct Content(Vec<File>);

impl Content {
    fn of(client: Client) -> Self {
        Self::seeded(client, 1)
    }

    /// The same names and sizes with other bytes for another seed.
    fn seeded(client: Client, seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut noise = |length: usize| {
            let mut bytes = vec![0; length];
            random.fill(&mut bytes);
            bytes
        };
        // hf_transfer leaves files up to five of its 10 MiB parts to the ordinary way.
        let size = if client == Client::HfTransfer { 56_000_000 } else { 3_000_000 };
        let mut files = vec![
            File::lfs(MODEL, noise(size)),
            File::xet("weights.safetensors", noise(1_000_000)),
            File::small("config.json", format!("{{\"seed\": {seed}}}{}", " ".repeat(2_000))),
            File::small("tokenizer.model", noise(30_000)),
        ];
        // The crate writes names into URLs as they are.
        if client != Client::HfHub {
            files.push(File::small("odd names/a b#c+d%é.txt", "odd"));
        }
        Self(files)
    }

    fn paths(&self) -> Vec<&str> {
        self.0.iter().map(|f| &*f.path).collect()
    }

    fn bytes(&self) -> Vec<&[u8]> {
        self.0.iter().map(|f| &*f.bytes).collect()
    }

    fn publish(&self, hub: &ScriptedHub) -> String {
        hub.hf(REPOSITORY).commit(self.0.clone())
    }

    /// Downloads everything with a client that has nothing yet; what the client keeps is right in any case.
    fn fetch(&self, client: Client, endpoint: &str) -> Result<(), String> {
        self.fetch_into(client, endpoint, &scratch())
    }

    fn fetch_into(&self, client: Client, endpoint: &str, home: &TempDir) -> Result<(), String> {
        let fetched = client.fetch(endpoint, home.path(), REPOSITORY, &self.paths());
        for kept in finished(home.path()) {
            assert!(self.bytes().contains(&&*kept), "the client keeps {} bytes of no file", kept.len());
        }
        for ((got, want), path) in fetched?.iter().zip(self.bytes()).zip(self.paths()) {
            assert!(got == want, "{path} came with other bytes");
        }
        Ok(())
    }
}

fn scratch() -> TempDir {
    tempfile::tempdir().expect("a scratch directory can be made")
}

/// A hub with everything that `client` can fetch, and the program before it. What a ref means is asked once.
fn start(client: Client) -> (ScriptedHub, Daemon, Content) {
    let hub = ScriptedHub::start();
    let content = Content::of(client);
    content.publish(&hub);
    let daemon = Daemon::builder().hub(&hub).set("cache.ref_ttl", "1h").start();
    (hub, daemon, content)
}

/// Checks that the hub sent each byte of each file once, and that nobody followed a redirect but the program.
fn assert_sent_once(hub: &ScriptedHub, client: Client, content: &Content) {
    for file in &content.0 {
        let name = format!("{REPOSITORY}/{}", file.path);
        let size = file.bytes.len() as u64;
        let twice = hub.resent_bytes(&name);
        assert_eq!(hub.body_bytes(&name) - twice, size, "{name}\n{}", hub.journal());
        // Parts are fetched out of turn while an answer without an end runs. What of that is on its way when it
        // meets a part that is here already cannot be called back.
        let on_its_way = if client == Client::HfTransfer { size / 10 } else { 0 };
        assert!(twice <= on_its_way, "{twice} bytes of {name} were sent twice\n{}", hub.journal());
    }
    assert_eq!(hub.count_at(Listener::Cas), 0, "{}", hub.journal());
}

/// Checks that nothing reached the hub but what passes through: the question with which a fresh huggingface_hub
/// of the newer versions begins.
fn assert_undisturbed(hub: &ScriptedHub, client: Client) {
    let asks = matches!(client, Client::HuggingFaceHub("1.33.0" | "2.4.0"));
    let passed = hub.count("GET", "/api/agent-harnesses");
    assert!(passed <= usize::from(asks), "{}", hub.journal());
    assert_eq!(hub.requests().len(), passed, "{}", hub.journal());
}

/// The client takes the scripted hub for the real one; otherwise no other test here would mean much.
fn direct(client: Client) {
    let hub = ScriptedHub::start();
    let mut content = Content::of(client);
    content.publish(&hub);
    let knows_xet = matches!(client, Client::HuggingFaceHub(_) | Client::HfTransfer | Client::HfHub1);
    if knows_xet {
        let refused = content.fetch(client, hub.url()).expect_err("the Xet store is out of order");
        let drawn = hub.count_at(Listener::Cas) > 0;
        assert!(drawn, "the client goes there nevertheless: {refused}\n{}", hub.journal());
    }
    content.0.retain(|file| !knows_xet || file.storage != support::hub::Storage::Xet);
    hub.clear();
    content.fetch(client, hub.url()).expect("the client is content");
    assert!(hub.count_at(Listener::Cdn) > 0, "{}", hub.journal());
    if client == Client::HfTransfer {
        let parts = hub.requests().iter().filter(|s| s.is("GET", MODEL) && s.range.is_some()).count();
        assert!(parts > 5, "hf_transfer asks for parts\n{}", hub.journal());
    }
}

fn cold_then_warm(client: Client) {
    let (hub, daemon, content) = start(client);
    content.fetch(client, &daemon.url()).expect("cold");
    assert_sent_once(&hub, client, &content);
    hub.clear();
    content.fetch(client, &daemon.url()).expect("warm");
    assert_undisturbed(&hub, client);
}

fn eight_at_once(client: Client) {
    let (hub, daemon, content) = start(client);
    let url = daemon.url();
    for fetched in at_once(8, |_| content.fetch(client, &url)) {
        fetched.expect("one of eight");
    }
    assert_sent_once(&hub, client, &content);
}

/// A due revalidation asks about the ref, and fetches nothing.
fn revalidated(client: Client) {
    let hub = ScriptedHub::start();
    let content = Content::of(client);
    content.publish(&hub);
    let daemon = Daemon::builder().hub(&hub).set("cache.ref_ttl", "1ms").start();
    content.fetch(client, &daemon.url()).expect("cold");
    hub.clear();
    content.fetch(client, &daemon.url()).expect("revalidated");
    assert_eq!(hub.body_bytes(""), 0, "{}", hub.journal());
    assert!(hub.count("", "/resolve/main/") + hub.count("", "/revision/main") > 0, "{}", hub.journal());
}

fn corrupted_first_fill(client: Client) {
    for at in [10, 1_400_000, 2_999_990] {
        let (hub, daemon, content) = start(client);
        let fault = hub.fault(Fault::on(MODEL, What::WrongByteAt(at)));
        // Right bytes or an error: the fetch itself sees to it that there is nothing else.
        let first = content.fetch(client, &daemon.url());
        assert_eq!(fault.fired(), 1, "the first fill was corrupted at {at}: {first:?}");
        content.fetch(client.in_one_piece(), &daemon.url()).expect("a client that begins anew");
        assert_eq!(hub.count_at(Listener::Cas), 0);
    }
}

/// A client that kept a part of a corrupted file comes back to it.
fn corrupted_and_resumed(client: Client) {
    let (hub, daemon, content) = start(client);
    hub.fault(Fault::on(MODEL, What::WrongByteAt(1_400_000)));
    let home = scratch();
    let first = content.fetch_into(client, &daemon.url(), &home);
    let again = content.fetch_into(client, &daemon.url(), &home);
    assert!(first.is_ok() || again.is_ok(), "{first:?}\n{again:?}");
}

fn corrupted_for_good(client: Client) {
    let (hub, daemon, content) = start(client);
    hub.fault(Fault::on(MODEL, What::WrongByteAt(1_400_000)).always());
    content.fetch(client, &daemon.url()).expect_err("nobody has the right bytes");
    hub.behave();
    // The first ones may meet an attempt that began before the hub mended.
    let client = client.in_one_piece();
    support::eventually(|| content.fetch(client, &daemon.url()).ok());
}

fn cut_origin(client: Client) {
    let (hub, daemon, content) = start(client);
    let cut = hub.fault(Fault::on(MODEL, What::CutAt(1_500_000)));
    content.fetch(client, &daemon.url()).expect("the fill goes on where it was cut");
    assert_eq!(cut.fired(), 1);
    assert_sent_once(&hub, client, &content);
}

fn killed_in_mid_download(client: Client) {
    let (hub, mut daemon, content) = start(client);
    let gate = hub.gate(MODEL, 2_000_000);
    let url = daemon.url();
    thread::scope(|scope| {
        let cut_off = scope.spawn(|| content.fetch(client, &url));
        gate.reached();
        daemon.kill9();
        gate.release();
        daemon.restart();
        // It may have come through by resuming, or have given up; what it keeps is right.
        let _ = cut_off.join().expect("right bytes or an error");
    });
    content.fetch(client, &url).expect("after the crash");
    daemon.kill9();
    hub.clear();
    daemon.restart();
    content.fetch(client, &url).expect("after another");
    assert_undisturbed(&hub, client);
}

/// A branch moves right after the hub has told what it means.
fn moved_branch(client: Client) {
    let hub = ScriptedHub::start();
    let old = Content::of(client);
    let first = old.publish(&hub);
    let new = Content::seeded(client, 2);
    let second = hub.hf(REPOSITORY).commit_aside(new.0.clone());
    let daemon = Daemon::builder().hub(&hub).set("cache.ref_ttl", "1ms").start();
    let moves = What::MoveBranch {
        repository: REPOSITORY.to_owned(),
        branch: "main".to_owned(),
        commit: second.clone(),
    };
    let moved = hub.fault(Fault::on(&format!("/resolve/main/{MODEL}"), moves));
    let home = scratch();
    let got = client.fetch(&daemon.url(), home.path(), REPOSITORY, &[MODEL]).expect("one of the two");
    assert_eq!(moved.fired(), 1);
    let snapshot = |commit: &str| {
        let folder = home.path().join("hf/hub/models--acme--tiny/snapshots").join(commit);
        folder.join(MODEL).exists()
    };
    let (was, is) = (got[0] == old.0[0].bytes, got[0] == new.0[0].bytes);
    assert!(was || is, "bytes of neither commit");
    assert_eq!(
        (snapshot(&first), snapshot(&second)),
        (was, is),
        "the commit is the one whose bytes they are"
    );
}

/// One module for each client, so that each run has a name of its own.
macro_rules! scenarios {
    ($($client:ident = $which:expr => [$($scenario:ident),*];)*) => {$(
        mod $client {
            use super::Client;
            $(#[test] fn $scenario() { super::$scenario($which); })*
        }
    )*};
}

scenarios! {
    huggingface_hub_0_36_2 = Client::HuggingFaceHub("0.36.2") => [
        direct, cold_then_warm, eight_at_once, revalidated, corrupted_first_fill, corrupted_and_resumed,
        corrupted_for_good, cut_origin, killed_in_mid_download, moved_branch
    ];
    huggingface_hub_1_33_0 = Client::HuggingFaceHub("1.33.0") => [
        direct, cold_then_warm, eight_at_once, revalidated, corrupted_first_fill, corrupted_and_resumed,
        corrupted_for_good, cut_origin, killed_in_mid_download, moved_branch
    ];
    huggingface_hub_2_4_0 = Client::HuggingFaceHub("2.4.0") => [
        direct, cold_then_warm, eight_at_once, revalidated, corrupted_first_fill, corrupted_and_resumed,
        corrupted_for_good, cut_origin, killed_in_mid_download, moved_branch
    ];
    hf_transfer = Client::HfTransfer => [
        direct, cold_then_warm, eight_at_once, corrupted_first_fill, corrupted_for_good, cut_origin
    ];
    hf_hub = Client::HfHub => [
        direct, cold_then_warm, eight_at_once, revalidated, corrupted_first_fill, corrupted_for_good,
        cut_origin, killed_in_mid_download
    ];
    hf_hub_1 = Client::HfHub1 => [
        direct, cold_then_warm, eight_at_once, revalidated, corrupted_first_fill, corrupted_for_good,
        cut_origin, killed_in_mid_download
    ];
    curl = Client::Curl => [
        direct, cold_then_warm, eight_at_once, revalidated, corrupted_first_fill, corrupted_for_good,
        cut_origin, killed_in_mid_download
    ];
}

/// transformers.js, which loads a model and runs it.
mod transformers_js_4_3_1 {
    use super::*;

    const HUGGING_FACE: Layout = Layout { template: "{model}/resolve/{revision}/", revision: "main" };
    const MOZILLA: Layout = Layout { template: "{model}/{revision}/", revision: "v1.0.0" };
    const NAME: &str = "acme/tiny-model";

    fn publish(hub: &ScriptedHub) {
        let files = tiny_model::files();
        for (path, bytes) in &files {
            hub.moz(NAME, "v1.0.0", path, bytes.clone());
            // Whether there is a tokenizer is asked of this revision, whatever revision is loaded.
            hub.moz(NAME, "main", path, bytes.clone());
        }
        hub.hf(NAME).commit(files.into_iter().map(|(path, bytes)| {
            if path.ends_with(".onnx") { File::xet(path, bytes) } else { File::small(path, bytes) }
        }));
    }

    fn load(root: &str, layout: Layout) -> Result<Loaded, String> {
        transformers_js(root, layout, scratch().path(), NAME, tiny_model::TEXT)
    }

    /// The model ran, and its numbers are those of the file that was published.
    fn assert_right(loaded: Result<Loaded, String>) {
        let tokens = tiny_model::TOKENS.to_vec();
        let values = tiny_model::expected(&tokens);
        assert_eq!(loaded, Ok(Loaded { tokens, dims: vec![1, 3, 4], values }));
    }

    fn assert_each_file_sent_once(hub: &ScriptedHub, layout: Layout) {
        for (path, bytes) in tiny_model::files() {
            let name = match layout.revision {
                "main" => format!("{NAME}/{path}"),
                revision => format!("{NAME}/{revision}/{path}"),
            };
            assert_eq!(hub.body_bytes(&name), bytes.len() as u64, "{path}\n{}", hub.journal());
        }
        assert_eq!(hub.count_at(Listener::Cas), 0);
    }

    fn start() -> (ScriptedHub, Daemon) {
        let hub = ScriptedHub::start();
        publish(&hub);
        let daemon = Daemon::builder().hub(&hub).set("cache.ref_ttl", "1h").start();
        (hub, daemon)
    }

    #[test]
    fn direct() {
        let hub = ScriptedHub::start();
        publish(&hub);
        assert_right(load(hub.url(), HUGGING_FACE));
        assert!(hub.count_at(Listener::Cdn) > 0);
        assert_right(load(hub.url(), MOZILLA));
    }

    #[test]
    fn cold_then_warm() {
        for layout in [HUGGING_FACE, MOZILLA] {
            let (hub, daemon) = start();
            assert_right(load(&daemon.url(), layout));
            assert_each_file_sent_once(&hub, layout);
            hub.clear();
            assert_right(load(&daemon.url(), layout));
            // Whether there is a tokenizer is asked with `no-cache`, which revalidates one file.
            let asked = hub.count("HEAD", "/tokenizer_config.json");
            assert_eq!(hub.requests().len(), asked, "{}", hub.journal());
            assert_eq!(hub.body_bytes(""), 0, "{}", hub.journal());
        }
    }

    #[test]
    fn with_the_hub_stopped_and_then_offline() {
        for layout in [HUGGING_FACE, MOZILLA] {
            let (hub, mut daemon) = start();
            assert_right(load(&daemon.url(), layout));
            hub.stop();
            assert_right(load(&daemon.url(), layout));
            daemon.restart_with(&[("upstream.offline", "true")]);
            assert_right(load(&daemon.url(), layout));
        }
    }

    #[test]
    fn eight_at_once() {
        for layout in [HUGGING_FACE, MOZILLA] {
            let (hub, daemon) = start();
            let url = daemon.url();
            at_once(8, |_| load(&url, layout)).into_iter().for_each(assert_right);
            assert_each_file_sent_once(&hub, layout);
        }
    }

    #[test]
    fn corrupted_first_fill() {
        for layout in [HUGGING_FACE, MOZILLA] {
            let (hub, daemon) = start();
            let fault = hub.fault(Fault::on("/onnx/model.onnx", What::WrongByteAt(200_000)));
            let first = load(&daemon.url(), layout);
            assert_eq!(fault.fired(), 1);
            // Nothing of this layout is sent before it is verified, so the client notices nothing.
            if first.is_ok() || layout.revision == MOZILLA.revision {
                assert_right(first);
            }
            assert_right(load(&daemon.url(), layout));
        }
    }

    #[test]
    fn cut_origin() {
        for layout in [HUGGING_FACE, MOZILLA] {
            let (hub, daemon) = start();
            let cut = hub.fault(Fault::on("/onnx/model.onnx", What::CutAt(150_000)));
            assert_right(load(&daemon.url(), layout));
            assert_eq!(cut.fired(), 1);
            assert_each_file_sent_once(&hub, layout);
        }
    }
}
