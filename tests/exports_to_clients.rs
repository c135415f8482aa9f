//! Cache directories between the program and real clients of Hugging Face: each takes what the other has written for what
//! it has written itself.

use std::collections::BTreeMap;
use std::path::Path;

use crate::exports::{Item, MODEL, Scene, daemon, files, listing, run, told};
use crate::support::client::get;
use crate::support::hub::File;
use crate::{drivers, support, tiny_model};
use drivers::{Files, HuggingFaceHub, Reach, Repository, Tokens};
use support::hub::ScriptedHub;

macro_rules! clients {
    ($($name:ident = $version:literal;)*) => {$(
        mod $name {
            use super::HuggingFaceHub;
            #[test] fn is_written_as_the_client_writes() { super::is_written_as_the_client_writes(HuggingFaceHub($version)); }
            #[test] fn is_used_offline() { super::is_used_offline(HuggingFaceHub($version)); }
            #[test] fn is_imported_without_a_download() { super::is_imported_without_a_download(HuggingFaceHub($version)); }
        }
    )*};
}

clients! {
    huggingface_hub_0_36_2 = "0.36.2";
    huggingface_hub_1_33_0 = "1.33.0";
    huggingface_hub_2_4_0 = "2.4.0";
}

const DATASET: Repository<'_> = Repository { kind: "dataset", id: "acme/d", revision: None };

/// What clients use of a cache directory: blobs, links to them, and for what names stand. The newer ones note lists of
/// files as well, to ask for them no more.
fn cache(dir: &Path) -> BTreeMap<String, Item> {
    let mut found = listing(dir);
    found.retain(|path, _| ["/blobs/", "/refs/", "/snapshots/"].iter().any(|part| path.contains(part)));
    found.retain(|path, _| !path.starts_with(".locks"));
    assert!(!found.is_empty(), "{}", dir.display());
    found
}

fn contents(files: &[File]) -> Files {
    files.iter().map(|file| (file.path.clone(), file.bytes.to_vec())).collect()
}

/// Byte for byte and link for link, of models, proposed changes and data sets.
fn is_written_as_the_client_writes(client: HuggingFaceHub) {
    let mut scene = Scene::held();
    let dir = scene.path("hub");
    scene.exported("--hf-cache", &dir);
    scene.daemon.restart();
    let home = scene.path("home");
    for of in [Repository::model(MODEL), Repository::model(MODEL).at("refs/pr/1"), DATASET] {
        client.snapshot(&scene.daemon.url(), &home, of).expect("the client downloads");
    }
    assert_eq!(cache(&dir), cache(&home.join("hf/hub")));
}

/// Nobody is there who could be asked.
fn is_used_offline(client: HuggingFaceHub) {
    let scene = Scene::held();
    let dir = scene.path("hub");
    scene.exported("--hf-cache", &dir);
    scene.hub.stop();
    let (offline, home) = (Reach::Cache(&dir), scene.path("home"));
    let whole = client.snapshot(offline, &home, Repository::model(MODEL)).expect("all of it");
    assert!(whole == contents(&files()), "{:?}", whole.keys());
    let proposed =
        client.snapshot(offline, &home, Repository::model(MODEL).at("refs/pr/1")).expect("a proposal");
    assert!(proposed.keys().eq(["config.json", "w.bin"]), "{:?}", proposed.keys());
    let pinned = client.snapshot(offline, &home, Repository::model(MODEL).at(&scene.commit));
    // 1.33 asks the hub for the list of a commit that is named as such, offline too, unless it has noted it itself.
    match client {
        HuggingFaceHub("1.33.0") => assert!(pinned.expect_err("a question").stderr.contains("/tree/")),
        HuggingFaceHub(_) => assert!(pinned.expect("a commit") == whole),
    }
    assert_eq!(client.snapshot(offline, &home, DATASET).expect("a data set").len(), 2);
    let paths = ["config.json", "odd names/a b#c+d%é 😀.txt", "onnx/copy.onnx"];
    let fetched = client.fetch(offline, &home, MODEL, &paths).expect("single files");
    for (path, at) in paths.into_iter().zip(fetched) {
        assert!(std::fs::read(at).unwrap() == whole[path], "{path}");
    }

    // transformers asks for files that the model does not have.
    let model = tiny_model::files().into_iter().filter(|(path, _)| !path.ends_with(".onnx"));
    let scene = Scene::with(&model.map(|(path, bytes)| File::small(path, bytes)).collect::<Vec<_>>());
    scene.lock(&["hf:acme/tiny"]);
    let dir = scene.path("hub");
    scene.exported("--hf-cache", &dir);
    scene.hub.stop();
    let loaded = client.load(Reach::Cache(&dir), &scene.path("home"), MODEL, tiny_model::TEXT);
    let right = Tokens { model_type: "bert".to_owned(), tokens: tiny_model::TOKENS.to_vec() };
    assert_eq!(loaded.expect("loaded"), right);
}

/// With the hub gone; what is exported then is what the client had written.
fn is_imported_without_a_download(client: HuggingFaceHub) {
    let hub = ScriptedHub::start();
    hub.hf(MODEL).commit(files());
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    client.snapshot(hub.url(), &home, Repository::model(MODEL)).expect("the client downloads");
    hub.stop();
    hub.clear();
    let (mut daemon, lock) = (daemon(&hub), folder.path().join("hubcache.lock"));
    // The directory of the client, which has the cache in it.
    let home = home.join("hf");
    told(run(&daemon, &lock, "import", &["--hf-cache", home.to_str().unwrap(), "--shareable"]), 0);
    let again = folder.path().join("again");
    told(run(&daemon, &lock, "export", &["--hf-cache", again.to_str().unwrap()]), 0);
    assert_eq!(cache(&again), cache(&home.join("hub")));
    daemon.restart_with(&[("upstream.offline", "true")]);
    for file in files().iter().filter(|file| !file.path.contains([' ', '%'])) {
        let got = get(&format!("{}/{MODEL}/resolve/main/{}", daemon.url(), file.path));
        got.assert_is(200, &file.bytes, &file.path);
    }
    assert!(hub.requests().is_empty(), "{}", hub.journal());
}
