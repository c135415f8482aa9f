//! `hubcache export` into directories, and `hubcache import` of them: other tools take what is written for what they have
//! written themselves, and what they have written is held without a download.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support;
use serde_json::Value;
use support::client::get;
use support::daemon::Daemon;
use support::hub::digests::{git_sha1, sha256};
use support::hub::{File, ScriptedHub};
use support::{eventually, netns};
use tempfile::TempDir;

pub const MODEL: &str = "acme/tiny";
const PROPOSED: &str = "hf:acme/tiny@refs%2Fpr%2F1";
const DATASET: &str = "hf:datasets/acme/d";

/// A hub, a data directory before it on which no server runs, and a place for directories and lock files.
pub struct Scene {
    pub hub: ScriptedHub,
    pub daemon: Daemon,
    pub folder: TempDir,
    pub commit: String,
}

pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..length).map(|_| random.u8(..)).collect()
}

/// Files of each kind, names that are easily decoded once too often, and the same bytes in several places.
pub fn files() -> Vec<File> {
    vec![
        File::lfs("model.safetensors", noise(1, 2_500_000)),
        File::lfs("onnx/model.onnx", noise(2, 300_000)),
        File::lfs("onnx/copy.onnx", noise(2, 300_000)),
        File::small("config.json", "{\"model_type\": \"bert\"}"),
        File::small(".gitattributes", "*.bin filter=lfs\n"),
        File::small("empty.txt", ""),
        File::small("a/b/c/deep.txt", "deep"),
        File::small("odd names/a b#c+d%é 😀.txt", "odd"),
        File::small("100%25 sure?.md", "odd"),
    ]
}

pub fn daemon(hub: &ScriptedHub) -> Daemon {
    let set = Daemon::builder().hub(hub).set("upstream.backoff", "10ms").set("upstream.attempts", "2");
    set.alone()
}

impl Scene {
    /// Everything is locked and held: a model at `main` and as it is proposed, a dataset, a model of Mozilla.
    pub fn held() -> Self {
        let scene = Self::with(&files());
        let aside = [
            File::small("config.json", "{\"model_type\": \"gpt2\"}"),
            File::lfs("w.bin", noise(1, 2_500_000)),
        ];
        let proposed = scene.hub.hf(MODEL).commit_aside(aside);
        scene.hub.hf(MODEL).branch("refs/pr/1", &proposed);
        scene
            .hub
            .hf("datasets/acme/d")
            .commit([File::small("train.csv", "odd"), File::lfs("big.bin", noise(3, 90_000))]);
        scene.lock(&["hf:acme/tiny", PROPOSED, DATASET]);
        let own =
            [("config.json", "{}".into()), ("onnx/model.onnx", noise(2, 300_000)), (".hidden/x", "x".into())];
        for (path, bytes) in own {
            scene.hub.moz(MODEL, "v1.0", path, bytes);
        }
        let named = ["--file", "config.json", "--file", "onnx/model.onnx", "--file", ".hidden/x"];
        told(scene.run("lock", &[&["add", "moz:acme/tiny@v1.0"], &named[..]].concat()), 0);
        told(scene.run("preload", &[]), 0);
        scene
    }

    /// One model.
    pub fn with(files: &[File]) -> Self {
        let hub = ScriptedHub::start();
        let commit = hub.hf(MODEL).commit(files.to_vec());
        Self { daemon: daemon(&hub), hub, folder: tempfile::tempdir().unwrap(), commit }
    }

    pub fn lock(&self, models: &[&str]) {
        told(self.run("lock", &[&["add"], models].concat()), 0);
        told(self.run("preload", &[]), 0);
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs a command with the lock file.
    pub fn run(&self, command: &str, arguments: &[&str]) -> Output {
        run(&self.daemon, &self.path("hubcache.lock"), command, arguments)
    }

    /// Exports all that is in the lock file.
    fn export(&self, kind: &str, dir: &Path) -> Output {
        self.run("export", &[kind, dir.to_str().unwrap(), "--json"])
    }

    /// The same, where that must succeed.
    pub fn exported(&self, kind: &str, dir: &Path) -> Value {
        let output = self.export(kind, dir);
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Changes one byte of a file as it is stored.
    fn damage(&mut self, bytes: &[u8]) {
        // The server takes the directory from whoever has served the commands until now, and leaves it.
        self.daemon.restart();
        assert!(self.daemon.terminate().success());
        let volume = self.daemon.data().join("volumes/blobs-0001.redb");
        let mut content = fs::read(&volume).unwrap();
        let needle = &bytes[1000..1032];
        let places = content.windows(needle.len()).enumerate().filter(|(_, w)| *w == needle);
        let places: Vec<usize> = places.map(|(at, _)| at).collect();
        assert!(!places.is_empty(), "the bytes are stored as they are");
        places.into_iter().for_each(|at| content[at] ^= 1);
        fs::write(&volume, content).unwrap();
    }

    /// Where the file of the repository is that is called by this digest.
    fn blob(&self, dir: &Path, digest: &str) -> PathBuf {
        dir.join("models--acme--tiny/blobs").join(digest)
    }
}

pub fn run(daemon: &Daemon, lock: &Path, command: &str, arguments: &[&str]) -> Output {
    daemon.command(&[&[command], arguments, &["--lock", lock.to_str().unwrap()]].concat())
}

/// What a command has written that ends with this status.
#[track_caller]
pub fn told(output: Output, status: i32) -> String {
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{text}");
    text
}

/// What is in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    Link(PathBuf),
    File(String),
}

/// Everything below a directory but empty folders, by its path; files by their digests.
pub fn listing(root: &Path) -> BTreeMap<String, Item> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let kind = fs::symlink_metadata(&path).unwrap().file_type();
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_symlink() {
                found.insert(name, Item::Link(fs::read_link(&path).unwrap()));
            } else {
                found.insert(name, Item::File(sha256(&fs::read(&path).unwrap())));
            }
        }
    }
    found
}

#[test]
fn a_cache_is_what_the_lock_says_and_its_import_and_export_change_nothing() {
    let scene = Scene::held();
    let dir = scene.path("first/hub");
    let done = scene.exported("--hf-cache", &dir);
    // In one repository the same bytes have one name, whatever the paths and the commits.
    assert_eq!((&done["files"], &done["kept"]), (&Value::from(10), &Value::from(0)), "{done:#}");
    assert_eq!(done["left_out"], serde_json::json!(["moz:acme/tiny@v1.0"]));
    let first = listing(&dir);
    let at =
        |path: &str| first.get(&format!("models--acme--tiny/{path}")).unwrap_or_else(|| panic!("{path}"));
    let commit = &scene.commit;
    assert_eq!(*at("refs/main"), Item::File(sha256(commit.as_bytes())));
    let deep = format!("../../../../../blobs/{}", git_sha1(b"deep"));
    assert_eq!(*at(&format!("snapshots/{commit}/a/b/c/deep.txt")), Item::Link(deep.into()));
    assert_eq!(*at(&format!("blobs/{}", git_sha1(b""))), Item::File(sha256(b"")));
    assert!(first.contains_key("models--acme--tiny/refs/refs/pr/1"), "{first:#?}");

    // Another data directory that has never seen the hub takes it, and writes the same.
    let other = daemon(&scene.hub);
    scene.hub.stop();
    scene.hub.clear();
    let lock = scene.path("other.lock");
    told(run(&other, &lock, "import", &["--hf-cache", dir.to_str().unwrap()]), 0);
    let again = scene.path("again");
    let export = ["--hf-cache", again.to_str().unwrap()];
    let refused = support::output::refused(run(&other, &lock, "export", &export), 77);
    assert!(refused.contains("config.json") && refused.contains("--shareable"), "{refused}");
    assert!(!again.exists(), "nothing was written");
    told(run(&other, &lock, "export", &[&export[..], &["--shareable"]].concat()), 0);
    assert_eq!(listing(&again), first);
    assert!(scene.hub.requests().is_empty(), "{}", scene.hub.journal());
}

#[test]
fn what_a_client_knew_not_to_exist_is_noted_for_the_next() {
    let scene = Scene::with(&[File::small("config.json", "{}")]);
    scene.lock(&["hf:acme/tiny"]);
    let dir = scene.path("hub");
    scene.exported("--hf-cache", &dir);
    let noted = dir.join(format!("models--acme--tiny/.no_exist/{}/a/adapter_config.json", scene.commit));
    fs::create_dir_all(noted.parent().unwrap()).unwrap();
    fs::write(&noted, "").unwrap();
    scene.hub.stop();
    let (other, lock) = (daemon(&scene.hub), scene.path("other.lock"));
    told(run(&other, &lock, "import", &["--hf-cache", dir.to_str().unwrap(), "--shareable"]), 0);
    let again = scene.path("again");
    told(run(&other, &lock, "export", &["--hf-cache", again.to_str().unwrap()]), 0);
    assert_eq!(listing(&again), listing(&dir));
}

#[test]
fn a_tree_is_the_bucket_and_its_import_and_export_change_nothing() {
    let scene = Scene::held();
    let dir = scene.path("models");
    let done = scene.exported("--tree", &dir);
    assert_eq!(
        (&done["files"], done["left_out"].as_array().unwrap().len()),
        (&Value::from(3), 3),
        "{done:#}"
    );
    let first = listing(&dir);
    // The same paths lead to the same bytes at the hub.
    for path in first.keys() {
        get(&format!("{}/{path}", scene.hub.url())).assert_is(200, &fs::read(dir.join(path)).unwrap(), path);
    }
    assert_eq!(first.len(), 3, "{first:#?}");

    let mut other = daemon(&scene.hub);
    scene.hub.stop();
    scene.hub.clear();
    let lock = scene.path("other.lock");
    told(run(&other, &lock, "import", &["--tree", dir.to_str().unwrap()]), 0);
    let again = scene.path("again");
    told(run(&other, &lock, "export", &["--tree", again.to_str().unwrap()]), 0);
    assert_eq!(listing(&again), first);
    other.restart_with(&[("upstream.offline", "true")]);
    for path in first.keys() {
        get(&format!("{}/{path}", other.url())).assert_is(200, &fs::read(dir.join(path)).unwrap(), path);
    }
    assert!(scene.hub.requests().is_empty(), "{}", scene.hub.journal());
}

#[test]
fn an_import_needs_no_lock_file_and_shows_what_it_took() {
    let scene = Scene::held();
    let dir = scene.path("hub");
    scene.exported("--hf-cache", &dir);
    let mut other = daemon(&scene.hub);
    scene.hub.stop();
    let import = ["import", "--hf-cache", dir.to_str().unwrap()];
    let shown = told(other.command(&[&import[..], &["--dry-run"]].concat()), 0);
    assert!(shown.contains("hf:acme/tiny@main  new") && shown.contains("+ onnx/model.onnx"), "{shown}");
    assert_eq!(other.command(&["ls", "--json"]).stdout, b"[]\n", "nothing was held");
    let shown = other.command(&[&import[..], &["--json", "--quiet", "--shareable"]].concat());
    let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(shown["models"].as_array().unwrap().len(), 3, "{shown:#}");
    other.restart_with(&[("upstream.offline", "true")]);
    let model = get(&format!("{}/acme/tiny/resolve/main/onnx/model.onnx", other.url()));
    model.assert_is(200, &noise(2, 300_000), "the weights");
    assert!(
        fs::read_dir(scene.folder.path()).unwrap().all(|entry| entry.unwrap().file_name() != "other.lock")
    );

    // What is damaged is named, and not taken.
    let blob = scene.blob(&dir, &git_sha1(b"deep"));
    fs::write(&blob, "keep").unwrap();
    let third = daemon(&scene.hub);
    let shown = told(third.command(&import), 65);
    assert!(shown.contains("a/b/c/deep.txt") && shown.contains("it is damaged"), "{shown}");
    assert!(!String::from_utf8_lossy(&third.command(&["ls", "--files"]).stdout).contains("deep.txt"));
}

#[test]
fn what_is_not_held_is_named_before_anything_is_written() {
    let scene = Scene::held();
    let config = format!("huggingface:acme/tiny@{}/config.json", scene.commit);
    for file in [config.as_str(), "huggingface:datasets/acme/d/train.csv"] {
        told(scene.daemon.command(&["rm", file]), 0);
    }
    let dir = scene.path("hub");
    let shown = told(scene.export("--hf-cache", &dir), 65);
    for words in
        ["2 files", "hf:acme/tiny@main/config.json", "hf:datasets/acme/d@main/train.csv", "hubcache preload"]
    {
        assert!(shown.contains(words), "{words} is not in\n{shown}");
    }
    assert!(!dir.exists());
}

#[test]
fn what_is_damaged_is_named_and_not_written_and_the_rest_is() {
    let mut scene = Scene::held();
    scene.damage(&noise(2, 300_000));
    let dir = scene.path("hub");
    let shown = told(scene.export("--hf-cache", &dir), 65);
    assert!(shown.contains("hf:acme/tiny@main/onnx/copy.onnx") && shown.contains("damaged"), "{shown}");
    let all = files();
    let digest = sha256(&noise(2, 300_000));
    assert!(!scene.blob(&dir, &digest).exists());
    let snapshot = dir.join(format!("models--acme--tiny/snapshots/{}", scene.commit));
    assert!(fs::symlink_metadata(snapshot.join("onnx/model.onnx")).is_err());
    assert!(!dir.join("models--acme--tiny/refs/main").exists(), "no branch leads to half a model");
    assert!(!dir.join(".hubcache-export.new").exists());
    assert_eq!(fs::read(snapshot.join("model.safetensors")).unwrap(), all[0].bytes);
    let shown = told(scene.export("--tree", &scene.path("models")), 65);
    assert!(shown.contains("moz:acme/tiny@v1.0/onnx/model.onnx"), "{shown}");
    assert_eq!(listing(&scene.path("models")).len(), 2);

    // Mended, it goes on.
    for file in ["acme/tiny/onnx/model.onnx", "acme/tiny/onnx/copy.onnx"] {
        told(scene.daemon.command(&["rm", file]), 0);
    }
    told(scene.run("preload", &[]), 0);
    let done = scene.exported("--hf-cache", &dir);
    assert_eq!((&done["kept"], &done["written"]), (&Value::from(9), &Value::from(1)), "{done:#}");
    assert_eq!(fs::read(snapshot.join("onnx/model.onnx")).unwrap(), all[1].bytes);
}

#[test]
fn what_is_there_is_kept_and_what_is_wrong_is_replaced() {
    let scene = Scene::held();
    let dir = scene.path("hub");
    scene.exported("--hf-cache", &dir);
    let first = listing(&dir);
    let [weights, config, deep] = [
        scene.blob(&dir, &sha256(&noise(1, 2_500_000))),
        scene.blob(&dir, &git_sha1(b"{\"model_type\": \"bert\"}")),
        scene.blob(&dir, &git_sha1(b"deep")),
    ];
    let inode = |path: &Path| fs::metadata(path).unwrap().ino();
    let (kept, replaced) = (inode(&weights), inode(&config));
    // Somebody reads the wrong bytes; they do not change under them.
    fs::write(&config, "{\"model_type\": \"evil\"}").unwrap();
    let mut reading = fs::File::open(&config).unwrap();
    fs::write(&deep, "de").unwrap();
    fs::remove_file(dir.join("models--acme--tiny/refs/main")).unwrap();
    fs::write(dir.join("models--acme--tiny/refs/refs/pr/1"), "0".repeat(40)).unwrap();
    let link = dir.join(format!("models--acme--tiny/snapshots/{}/empty.txt", scene.commit));
    fs::remove_file(&link).unwrap();
    fs::write(&link, "no link").unwrap();
    fs::write(dir.join(".hubcache-export.new"), "left behind").unwrap();
    let done = scene.exported("--hf-cache", &dir);
    assert_eq!((&done["kept"], &done["written"]), (&Value::from(8), &Value::from(2)), "{done:#}");
    assert_eq!(listing(&dir), first);
    assert_eq!(inode(&weights), kept);
    assert_ne!(inode(&config), replaced);
    let mut text = String::new();
    std::io::Read::read_to_string(&mut reading, &mut text).unwrap();
    assert_eq!(text, "{\"model_type\": \"evil\"}");

    // Of two exports at once one has to wait.
    let held = fs::File::open(&dir).unwrap();
    rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive).unwrap();
    assert!(told(scene.export("--hf-cache", &dir), 75).contains("another export"));
}

#[test]
fn an_export_that_was_killed_goes_on() {
    let scene = Scene::held();
    scene.exported("--hf-cache", &scene.path("whole"));
    let dir = scene.path("hub");
    let lock = scene.path("hubcache.lock");
    let arguments = ["export", "--hf-cache", dir.to_str().unwrap(), "--lock", lock.to_str().unwrap(), "-q"];
    let mut running = scene.daemon.program(&arguments).spawn().unwrap();
    eventually(|| dir.join("models--acme--tiny/blobs").exists().then_some(()));
    running.kill().unwrap();
    running.wait().unwrap();
    scene.exported("--hf-cache", &dir);
    assert_eq!(listing(&dir), listing(&scene.path("whole")));
}

#[test]
fn a_link_in_the_directory_leads_nowhere() {
    let scene = Scene::held();
    let outside = scene.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "precious").unwrap();
    // In place of a folder.
    let folders = ["models--acme--tiny", "models--acme--tiny/blobs", "models--acme--tiny/snapshots"];
    for (number, folder) in folders.into_iter().enumerate() {
        let dir = scene.path(&format!("folder-{number}"));
        fs::create_dir_all(dir.join(folder).parent().unwrap()).unwrap();
        symlink(&outside, dir.join(folder)).unwrap();
        let shown = told(scene.export("--hf-cache", &dir), 73);
        assert!(shown.contains("is a link") && shown.contains("hf:acme/tiny@"), "{shown}");
    }
    let dir = scene.path("folder-tree");
    fs::create_dir_all(dir.join("acme/tiny")).unwrap();
    symlink(&outside, dir.join("acme/tiny/v1.0")).unwrap();
    assert!(told(scene.export("--tree", &dir), 73).contains("is a link"));

    // In place of a file.
    let dir = scene.path("files");
    scene.exported("--hf-cache", &dir);
    let first = listing(&dir);
    let repository = "models--acme--tiny";
    let files = [
        format!("{repository}/refs/main"),
        format!("{repository}/blobs/{}", git_sha1(b"deep")),
        format!("{repository}/blobs/{}", sha256(&noise(1, 2_500_000))),
        format!("{repository}/snapshots/{}/config.json", scene.commit),
        ".hubcache-export.new".to_owned(),
    ];
    for file in files {
        let _ = fs::remove_file(dir.join(&file));
        symlink(outside.join("file"), dir.join(&file)).unwrap();
    }
    scene.exported("--hf-cache", &dir);
    assert_eq!(listing(&dir), first);
    assert_eq!(listing(&outside), [("file".to_owned(), Item::File(sha256(b"precious")))].into());
}

#[test]
fn a_lock_file_cannot_lead_out_of_the_directory() {
    let scene = Scene::held();
    let lock = scene.path("hubcache.lock");
    let text = fs::read_to_string(&lock).unwrap();
    for (from, to) in
        [("revision = \"main\"", "revision = \"../../../x\""), ("revision = \"v1.0\"", "revision = \"..\"")]
    {
        fs::write(&lock, text.replacen(from, to, 1)).unwrap();
        let kind = if from.contains("main") { "--hf-cache" } else { "--tree" };
        let shown = told(scene.export(kind, &scene.path("dir")), 65);
        assert!(shown.contains("cannot be the name of a file"), "{shown}");
    }
    assert!(!scene.path("dir").exists());
}

#[test]
fn what_has_no_place_in_a_directory_is_said() {
    let scene = Scene::held();
    let dir = scene.path("hub");
    let shown = told(scene.run("export", &["--hf-cache", dir.to_str().unwrap()]), 0);
    assert!(shown.contains("moz:acme/tiny@v1.0 is left out") && shown.contains("10 files"), "{shown}");
    assert!(shown.contains("hf:acme/tiny@main/config.json: 22 B, written"), "{shown}");
    let quiet = told(scene.run("export", &["--hf-cache", dir.to_str().unwrap(), "--quiet"]), 0);
    assert_eq!(quiet, "");
    told(scene.run("lock", &["remove", "moz:acme/tiny@v1.0"]), 0);
    let shown = told(scene.export("--tree", &scene.path("models")), 64);
    assert!(shown.contains("models of the hub of Firefox only"), "{shown}");
    assert!(!scene.path("models").exists());
    told(scene.run("export", &[]), 64);
    told(scene.run("export", &["--tree", "a", "--hf-cache", "b"]), 64);
    told(scene.daemon.command(&["export", "--tree", "a", "--lock", "/nowhere.lock"]), 66);
}

/// A file system of a test's own; gone with the guard, and in any case with the thread.
struct Mounted(PathBuf);

impl Mounted {
    /// In memory, of this size.
    fn tmpfs(at: PathBuf, size: &str) -> Self {
        netns::own_mounts();
        fs::create_dir(&at).unwrap();
        netns::run("mount", &["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs", at.to_str().unwrap()]);
        Self(at)
    }

    /// XFS in a file.
    fn xfs(at: PathBuf) -> Self {
        netns::own_mounts();
        let image = at.with_extension("img");
        fs::create_dir(&at).unwrap();
        // The least that XFS is made on.
        fs::File::create(&image).unwrap().set_len(320 << 20).unwrap();
        let (image, place) = (image.to_str().unwrap(), at.to_str().unwrap());
        netns::run("mkfs.xfs", &["-q", "-m", "reflink=1", image]);
        // Needs root and loop devices; without them nothing would show that bytes are shared.
        netns::run("mount", &["-o", "loop", image, place]);
        Self(at)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // What the thread has mounted goes with it if this fails.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// Whether all the extents of a file are shared with another one.
fn is_shared(file: &Path) -> bool {
    let output = Command::new("xfs_io").args(["-r", "-c", "fiemap -v"]).arg(file).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    // A line for each extent behind two of heads; the last column has the flags of linux/fiemap.h.
    let flags = text.lines().skip(2).filter_map(|line| line.split_whitespace().last());
    let flags: Vec<u32> =
        flags.map(|text| u32::from_str_radix(text.trim_start_matches("0x"), 16).expect(text)).collect();
    assert!(!flags.is_empty(), "{text}");
    flags.iter().all(|flags| flags & 0x2000 != 0)
}

/// Bytes that are in three repositories, and in one of them as a large and as a small file.
fn scene_of_twins() -> Scene {
    let scene = Scene::with(&[
        File::lfs("model.bin", noise(4, 3_000_000)),
        File::small("model.txt", noise(4, 3_000_000)),
        File::lfs("other.bin", noise(5, 1_000_000)),
    ]);
    scene.hub.hf("acme/twin").commit([File::lfs("weights.bin", noise(4, 3_000_000))]);
    scene.lock(&["hf:acme/tiny", "hf:acme/twin"]);
    scene
}

#[test]
fn the_same_bytes_are_there_once_where_the_file_system_can() {
    let scene = scene_of_twins();
    let mounted = Mounted::xfs(scene.path("xfs"));
    let dir = mounted.0.join("hub");
    let done = scene.exported("--hf-cache", &dir);
    assert_eq!(
        (&done["written"], &done["reflinked"], &done["copied"]),
        (&2.into(), &2.into(), &0.into()),
        "{done:#}"
    );
    let (bytes, digest) = (noise(4, 3_000_000), sha256(&noise(4, 3_000_000)));
    let twin = dir.join("models--acme--twin/blobs").join(&digest);
    for file in [scene.blob(&dir, &digest), scene.blob(&dir, &git_sha1(&bytes)), twin.clone()] {
        assert!(is_shared(&file), "{}", file.display());
        assert_eq!(fs::read(&file).unwrap(), bytes);
    }
    assert!(!is_shared(&scene.blob(&dir, &sha256(&noise(5, 1_000_000)))));

    // One that is missing is made of those that are there.
    fs::remove_file(&twin).unwrap();
    let done = scene.exported("--hf-cache", &dir);
    assert_eq!(
        (&done["kept"], &done["reflinked"], &done["written"]),
        (&3.into(), &1.into(), &0.into()),
        "{done:#}"
    );
    assert!(is_shared(&twin));
}

#[test]
fn the_same_bytes_are_copied_where_the_file_system_cannot() {
    let scene = scene_of_twins();
    let mounted = Mounted::tmpfs(scene.path("tmpfs"), "64m");
    let dir = mounted.0.join("hub");
    let done = scene.exported("--hf-cache", &dir);
    assert_eq!(
        (&done["written"], &done["reflinked"], &done["copied"]),
        (&2.into(), &0.into(), &2.into()),
        "{done:#}"
    );
    let bytes = noise(4, 3_000_000);
    let twin = dir.join("models--acme--twin/blobs").join(sha256(&bytes));
    assert_eq!(fs::read(scene.blob(&dir, &git_sha1(&bytes))).unwrap(), bytes);
    assert_eq!(fs::read(twin).unwrap(), bytes);
}

#[test]
fn a_full_disk_is_told_and_with_room_it_goes_on() {
    let scene = scene_of_twins();
    let mounted = Mounted::tmpfs(scene.path("tmpfs"), "5m");
    let dir = mounted.0.join("hub");
    let shown = told(scene.export("--hf-cache", &dir), 74);
    assert!(shown.contains("hf:acme/") && shown.contains("No space left"), "{shown}");
    assert!(!dir.join(".hubcache-export.new").exists());
    netns::run("mount", &["-o", "remount,size=64m", mounted.0.to_str().unwrap()]);
    let done = scene.exported("--hf-cache", &dir);
    assert_eq!(done["files"], 4, "{done:#}");
    assert_eq!(done["kept"], 1, "{done:#}");
}
