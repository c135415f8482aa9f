//! Whole repositories, and what programs make of them, through the program: cold, warm, many at once, over a hub
//! that cuts, and without a hub. Whatever the client, everything comes from here and nothing from the Xet store.

use std::time::{Duration, Instant};

use crate::{drivers, support, tiny_model};
use drivers::{Client, Files, HuggingFaceHub, Repository, Tokens};
use support::client::at_once;
use support::daemon::{Builder, Daemon};
use support::hub::{Fault, File, Listener, ScriptedHub, What};
use tempfile::TempDir;

const MODEL: &str = "acme/tiny";

/// The file at which tests aim their faults; the largest one, and the Xet store has it.
const WEIGHTS: &str = "model.safetensors";

/// A file that a lock leaves out.
const LEFT_OUT: &str = "left-out.bin";

/// Longer than any test: what a branch means is asked once.
const FOR_GOOD: &str = "1h";

/// Every answer is due for a question to the hub at once.
const AT_ONCE: &str = "1ms";

/// Clients that try again wait for more than twenty seconds in all.
const WITHOUT_RETRIES: Duration = Duration::from_secs(10);

/// Files of each kind, and names that are easily decoded once too often.
fn files(seed: u64) -> Vec<File> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut noise = |length: usize| -> Vec<u8> { (0..length).map(|_| random.u8(..)).collect() };
    vec![
        File::xet(WEIGHTS, noise(3_000_000)),
        File::lfs("onnx/model.bin", noise(300_000)),
        File::small("config.json", format!("{{\"seed\": {seed}}}{}", " ".repeat(2_000))),
        File::direct(".gitattributes", "*.bin filter=lfs\n"),
        File::small("empty.txt", ""),
        File::small("a/b/c/deep.txt", format!("deep {seed}")),
        File::small("odd names/a b#c+d%é.txt", format!("odd {seed}")),
        File::small("100%25 sure?.md", format!("twice encoded {seed}")),
    ]
}

/// Those of them that the client can bear: the hf-hub crate before its version 1 writes names into URLs as they are,
/// and asks for the first byte of every file.
fn files_for(client: Client) -> Vec<File> {
    let mut files = files(1);
    if client == Client::HfHub {
        files.retain(|file| !file.bytes.is_empty() && !file.path.contains([' ', '%']));
    }
    files
}

fn contents(files: &[File]) -> Files {
    files.iter().map(|file| (file.path.clone(), file.bytes.to_vec())).collect()
}

/// Checks names and bytes, and tells names instead of bytes.
#[track_caller]
fn assert_files(got: &Files, wanted: &[File]) {
    let wanted = contents(wanted);
    let names = |files: &Files| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(got), names(&wanted));
    for (name, bytes) in got {
        assert!(*bytes == wanted[name], "{name} has other bytes");
    }
}

fn scratch() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn before(hub: &ScriptedHub, ref_ttl: &str) -> Builder {
    Daemon::builder().hub(hub).set("cache.ref_ttl", ref_ttl)
}

/// A hub with one model, and the program before it.
fn start(files: &[File], ref_ttl: &str) -> (ScriptedHub, Daemon) {
    let hub = ScriptedHub::start();
    hub.hf(MODEL).commit(files.to_vec());
    let daemon = before(&hub, ref_ttl).start();
    (hub, daemon)
}

/// Checks that only the program spoke with the hub, and nobody with the Xet store.
#[track_caller]
fn assert_kept_inside(hub: &ScriptedHub) {
    let past: Vec<_> = hub.past("hubcache").into_iter().map(|seen| seen.target).collect();
    assert!(past.is_empty(), "{past:#?} went past\n{}", hub.journal());
    assert_eq!(hub.count_at(Listener::Cas), 0, "{}", hub.journal());
}

/// Checks that each byte of each file was sent once.
#[track_caller]
fn assert_sent_once(hub: &ScriptedHub, files: &[File]) {
    for file in files {
        let name = format!("{MODEL}/{}", file.path);
        assert_eq!(hub.body_bytes(&name), file.bytes.len() as u64, "{name}\n{}", hub.journal());
    }
}

/// Checks that the hub was asked nothing but what a fresh huggingface_hub of the newer versions begins with, which no
/// cache may answer.
#[track_caller]
fn assert_undisturbed(hub: &ScriptedHub) {
    let passed = hub.count("GET", "/api/agent-harnesses");
    assert_eq!(hub.requests().len(), passed, "{}", hub.journal());
}

/// Runs one thing for each client that there is, under a name of its own.
macro_rules! scenarios {
    ($($client:ident = $which:expr => [$($scenario:ident),*];)*) => {$(
        mod $client {
            #[allow(unused_imports)]
            use super::{Client, HuggingFaceHub};
            $(#[test] fn $scenario() { super::$scenario($which); })*
        }
    )*};
}

scenarios! {
    whole_repositories_huggingface_hub_0_36_2 = Client::HuggingFaceHub("0.36.2") => [
        cold_then_warm, eight_at_once, revalidated, without_the_hub, offline, frozen, cut_and_resumed
    ];
    whole_repositories_huggingface_hub_1_33_0 = Client::HuggingFaceHub("1.33.0") => [
        drawn_to_the_xet_store, cold_then_warm, eight_at_once, revalidated, without_the_hub, offline, frozen, cut_and_resumed
    ];
    whole_repositories_huggingface_hub_2_4_0 = Client::HuggingFaceHub("2.4.0") => [
        drawn_to_the_xet_store, cold_then_warm, eight_at_once, revalidated, without_the_hub, offline, frozen, cut_and_resumed
    ];
    whole_repositories_hf_hub = Client::HfHub => [
        cold_then_warm, eight_at_once, revalidated, without_the_hub, offline, frozen, cut_and_resumed
    ];
    whole_repositories_hf_hub_1 = Client::HfHub1 => [
        drawn_to_the_xet_store, cold_then_warm, eight_at_once, revalidated, without_the_hub, offline, frozen, cut_and_resumed
    ];
    huggingface_hub_0_36_2 = HuggingFaceHub("0.36.2") => [
        hf_download, dataset_and_pull_request, auto_classes, told_when_offline, told_when_frozen
    ];
    huggingface_hub_1_33_0 = HuggingFaceHub("1.33.0") => [
        hf_download, dataset_and_pull_request, auto_classes, told_when_offline, told_when_frozen
    ];
    huggingface_hub_2_4_0 = HuggingFaceHub("2.4.0") => [
        hf_download, dataset_and_pull_request, auto_classes, told_when_offline, told_when_frozen, many_files
    ];
}

/// Without the program the client goes to the Xet store; otherwise that it does not with it would mean nothing.
fn drawn_to_the_xet_store(client: Client) {
    let hub = ScriptedHub::start();
    hub.hf(MODEL).commit(files_for(client));
    client.whole(hub.url(), scratch().path(), MODEL).expect_err("the Xet store is out of order");
    assert!(hub.count_at(Listener::Cas) > 0, "{}", hub.journal());
}

fn cold_then_warm(client: Client) {
    let files = files_for(client);
    let (hub, daemon) = start(&files, FOR_GOOD);
    let cold = client.whole(&daemon.url(), scratch().path(), MODEL).expect("cold");
    assert_files(&cold, &files);
    assert_sent_once(&hub, &files);
    assert_kept_inside(&hub);
    hub.clear();
    let warm = client.whole(&daemon.url(), scratch().path(), MODEL).expect("warm");
    assert_files(&warm, &files);
    assert_undisturbed(&hub);
}

fn eight_at_once(client: Client) {
    let files = files_for(client);
    let (hub, daemon) = start(&files, FOR_GOOD);
    for got in at_once(8, |_| client.whole(&daemon.url(), scratch().path(), MODEL)) {
        assert_files(&got.expect("one of eight"), &files);
    }
    assert_sent_once(&hub, &files);
    assert_kept_inside(&hub);
}

/// A due check asks what the branch means, and nothing else.
fn revalidated(client: Client) {
    let files = files_for(client);
    let (hub, daemon) = start(&files, AT_ONCE);
    client.whole(&daemon.url(), scratch().path(), MODEL).expect("cold");
    hub.clear();
    let again = client.whole(&daemon.url(), scratch().path(), MODEL).expect("revalidated");
    assert_files(&again, &files);
    let asked = hub.count("", "/main");
    assert!(asked > 0, "{}", hub.journal());
    assert_eq!(hub.requests().len(), asked + hub.count("GET", "/api/agent-harnesses"), "{}", hub.journal());
    assert_eq!(hub.body_bytes(""), 0, "{}", hub.journal());
}

fn without_the_hub(client: Client) {
    let files = files_for(client);
    let (hub, daemon) = start(&files, AT_ONCE);
    client.whole(&daemon.url(), scratch().path(), MODEL).expect("cold");
    hub.stop();
    let warm = client.whole(&daemon.url(), scratch().path(), MODEL).expect("warm");
    assert_files(&warm, &files);
}

/// What was ever loaded is there after a restart without a network, also what clients did not fetch because it is
/// empty or they have the same under another name; who wants something else is not kept waiting.
fn offline(client: Client) {
    let mut files = files_for(client);
    let same =
        |path: &str| files.iter().find(|file| file.path == path).expect("a published file").bytes.clone();
    let copies = [
        File::small("copies/deep.txt", same("a/b/c/deep.txt")),
        File::lfs("copies/model.bin", same("onnx/model.bin")),
    ];
    files.extend(copies);
    let (hub, mut daemon) = start(&files, AT_ONCE);
    client.whole(&daemon.url(), scratch().path(), MODEL).expect("cold");
    daemon.restart_with(&[("upstream.offline", "true")]);
    hub.clear();
    let warm = client.whole(&daemon.url(), scratch().path(), MODEL).expect("warm");
    assert_files(&warm, &files);
    let gave_up = client.whole(&daemon.url(), scratch().path(), "acme/other").expect_err("it is not held");
    assert!(gave_up.after < WITHOUT_RETRIES, "{gave_up:?}");
    assert_eq!(hub.requests().len(), 0, "{}", hub.journal());
}

/// The program `hf` shows the reason, with the command that would bring what is missing.
fn told_when_offline(client: HuggingFaceHub) {
    let (hub, mut daemon) = start(&files(1), FOR_GOOD);
    client.fetch(&daemon.url(), scratch().path(), MODEL, &["config.json"]).expect("cold");
    daemon.restart_with(&[("upstream.offline", "true")]);
    hub.clear();
    // Of one repository nothing is held, and of the other one a file.
    for repository in ["acme/other", MODEL] {
        let of = Repository::model(repository);
        let told = client.hf_download(&daemon.url(), scratch().path(), of).expect_err("it is not held");
        assert!(told.after < WITHOUT_RETRIES, "{told:?}");
        for words in ["offline", "curl -fsS", repository] {
            assert!(told.stderr.contains(words), "{words:?} is not in\n{}", told.stderr);
        }
    }
    assert_eq!(hub.requests().len(), 0, "{}", hub.journal());
}

/// Everything but one file is locked and held, the hub has moved on, and the server is frozen.
fn freeze(hub: &ScriptedHub, daemon: &mut Daemon, lock: &TempDir) {
    let path = lock.path().join("hubcache.lock");
    let path = path.to_str().expect("a path of ours");
    let model = format!("hf:{MODEL}");
    for arguments in [&["lock", "add", &model, "--exclude", LEFT_OUT][..], &["preload"]] {
        let output = daemon.command(&[arguments, &["--lock", path]].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    hub.hf(MODEL).commit([File::small("moved.txt", "on")]);
    daemon.restart_with(&[("upstream.frozen", "true"), ("upstream.lock", path)]);
    hub.clear();
}

/// What the lock pins is loaded as a whole, whatever the hub has now; what it leaves out fails at once, and by name.
fn frozen(client: Client) {
    let files = files_for(client);
    let more = [File::small(LEFT_OUT, "not pinned")];
    let all: Vec<File> = files.iter().cloned().chain(more).collect();
    let (hub, mut daemon) = start(&all, FOR_GOOD);
    freeze(&hub, &mut daemon, &scratch());
    let got = client.whole(&daemon.url(), scratch().path(), MODEL).expect("all that is pinned");
    assert_files(&got, &files);
    let began = Instant::now();
    let told = client.fetch(&daemon.url(), scratch().path(), MODEL, &[LEFT_OUT]).expect_err("it is left out");
    assert!(began.elapsed() < WITHOUT_RETRIES, "{told}");
    // The older clients keep what they were told to themselves: hf-hub tells the status only, and huggingface_hub 0.36
    // puts it into the cause of its exception. The server's own log names the file in any case.
    let is_silent = matches!(client, Client::HfHub | Client::HuggingFaceHub("0.36.2"));
    assert!(is_silent || told.contains(LEFT_OUT), "{told}");
    daemon.wait_for_log(&format!("{MODEL}@main/{LEFT_OUT}"));
    assert_eq!(hub.requests().len(), 0, "{}", hub.journal());
}

/// The program `hf` shows the command that would add what is left out.
fn told_when_frozen(client: HuggingFaceHub) {
    let (hub, mut daemon) = start(&files(1), FOR_GOOD);
    freeze(&hub, &mut daemon, &scratch());
    let of = Repository::model("acme/other");
    let told = client.hf_download(&daemon.url(), scratch().path(), of).expect_err("it is not locked");
    assert!(told.after < WITHOUT_RETRIES, "{told:?}");
    for words in ["hubcache lock add hf:acme/other@main", "the lock file does not have"] {
        assert!(told.stderr.contains(words), "{words:?} is not in\n{}", told.stderr);
    }
    assert_eq!(hub.requests().len(), 0, "{}", hub.journal());
}

fn cut_and_resumed(client: Client) {
    let files = files_for(client);
    let (hub, daemon) = start(&files, FOR_GOOD);
    let cut = hub.fault(Fault::on(WEIGHTS, What::CutAt(1_500_000)));
    let got =
        client.whole(&daemon.url(), scratch().path(), MODEL).expect("the fill goes on where it was cut");
    assert_eq!(cut.fired(), 1);
    assert_files(&got, &files);
    assert_sent_once(&hub, &files);
    assert_kept_inside(&hub);
}

/// The program `hf` fills, `snapshot_download` is served from it, and the other way round.
fn hf_download(client: HuggingFaceHub) {
    let files = files(1);
    let (hub, daemon) = start(&files, FOR_GOOD);
    let model = Repository::model(MODEL);
    let cold = client.hf_download(&daemon.url(), scratch().path(), model).expect("cold");
    assert_files(&cold, &files);
    assert_kept_inside(&hub);
    hub.clear();
    let warm = client.snapshot(&daemon.url(), scratch().path(), model).expect("warm");
    assert_files(&warm, &files);
    assert_undisturbed(&hub);
    hub.stop();
    let warm = client.hf_download(&daemon.url(), scratch().path(), model).expect("without the hub");
    assert_files(&warm, &files);
}

/// Repositories and revisions of the same name stay apart.
fn dataset_and_pull_request(client: HuggingFaceHub) {
    let hub = ScriptedHub::start();
    let [main, proposed, dataset] = [1, 2, 3].map(files);
    hub.hf(MODEL).commit(main.clone());
    let commit = hub.hf(MODEL).commit_aside(proposed.clone());
    hub.hf(MODEL).branch("refs/pr/1", &commit);
    hub.hf(&format!("datasets/{MODEL}")).commit(dataset.clone());
    let daemon = before(&hub, FOR_GOOD).start();
    let wanted = [
        (Repository::model(MODEL), &main),
        (Repository::model(MODEL).at("refs/pr/1"), &proposed),
        (Repository::dataset(MODEL), &dataset),
        (Repository::model(MODEL).at(&commit), &proposed),
    ];
    for (of, files) in wanted {
        let cold = client.snapshot(&daemon.url(), scratch().path(), of).expect("cold");
        assert_files(&cold, files);
    }
    assert_kept_inside(&hub);
    hub.clear();
    for (of, files) in wanted {
        let warm = client.snapshot(&daemon.url(), scratch().path(), of).expect("warm");
        assert_files(&warm, files);
    }
    assert_undisturbed(&hub);
}

/// transformers asks for files that are not there, and takes no for an answer from here.
fn auto_classes(client: HuggingFaceHub) {
    let model = tiny_model::files().into_iter().filter(|(path, _)| !path.ends_with(".onnx"));
    let files: Vec<File> = model.map(|(path, bytes)| File::small(path, bytes)).collect();
    let (hub, daemon) = start(&files, FOR_GOOD);
    let load = || client.load(&daemon.url(), scratch().path(), MODEL, tiny_model::TEXT);
    let right = Tokens { model_type: "bert".to_owned(), tokens: tiny_model::TOKENS.to_vec() };
    assert_eq!(load().expect("cold"), right);
    assert_sent_once(&hub, &files);
    assert_kept_inside(&hub);
    hub.clear();
    assert_eq!(load().expect("warm"), right);
    assert_undisturbed(&hub);
    hub.stop();
    assert_eq!(load().expect("without the hub"), right);
}

/// A list of more than one page, of which each leads to the next one here.
fn many_files(client: HuggingFaceHub) {
    let files = File::many(2_500);
    let (hub, daemon) = start(&files, FOR_GOOD);
    let got = client.snapshot(&daemon.url(), scratch().path(), Repository::model(MODEL)).expect("cold");
    assert_files(&got, &files);
    assert_kept_inside(&hub);
    assert_eq!(hub.count("GET", "cursor="), 2, "{}", hub.journal());
    hub.stop();
    let api = client.calls(
        &daemon.url(),
        scratch().path(),
        &serde_json::json!([["list_repo_files", { "repo_id": MODEL }]]),
    );
    let listed = &api.expect("the driver runs")[0]["value"];
    let names: Vec<_> =
        listed.as_array().expect("a list").iter().map(|name| name.as_str().unwrap()).collect();
    assert!(names.iter().copied().eq(files.iter().map(|file| &*file.path)), "{} names", names.len());
}
