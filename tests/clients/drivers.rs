//! Runs real clients as child processes: `tests/run` installs them, and the drivers beside this file use each as a
//! program would.

// Every test binary compiles all of this and uses its own part of it.
#![allow(dead_code, unused_imports)]

mod huggingface_hub;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

pub use huggingface_hub::{HuggingFaceHub, Reach, Repository, Tokens};

/// How long one run of a client may take; the slowest retry for half a minute.
const PATIENCE: Duration = Duration::from_secs(120);

/// A client that downloads files of a Hugging Face repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// huggingface_hub of this version, with hf_xet installed.
    HuggingFaceHub(&'static str),
    /// huggingface_hub 0.36.2 with hf_transfer, which fetches parts of files above 50 MB side by side.
    HfTransfer,
    /// The hf-hub crate before its version 1.
    HfHub,
    /// Version 1 of the hf-hub crate, which is another program.
    HfHub1,
    /// curl, which knows URLs only.
    Curl,
}

impl Client {
    /// Downloads `paths` of `repository` at `main` from `endpoint`, keeping its state in `home`; the contents in
    /// the same order, or what the client said when it gave up.
    pub fn fetch(
        self,
        endpoint: &str,
        home: &Path,
        repository: &str,
        paths: &[&str],
    ) -> Result<Vec<Vec<u8>>, String> {
        let files = match self {
            Self::HuggingFaceHub(version) => HuggingFaceHub(version).fetch(endpoint, home, repository, paths),
            Self::HfTransfer => {
                let mut command = HuggingFaceHub("0.36.2").script(endpoint, home);
                command.env("HF_HUB_ENABLE_HF_TRANSFER", "1");
                run(command.args(["fetch", repository]).args(paths)).map(|out| lines(&out))
            }
            Self::HfHub | Self::HfHub1 => {
                run(self.crate_driver(endpoint, home).arg(repository).args(paths)).map(|out| lines(&out))
            }
            Self::Curl => return paths.iter().map(|path| curl(endpoint, home, repository, path)).collect(),
        };
        let files = files.map_err(|gave_up| gave_up.stderr)?;
        assert_eq!(files.len(), paths.len(), "one line for each file: {files:?}");
        Ok(files.iter().map(|file| std::fs::read(file).expect("the client names a file")).collect())
    }

    /// Downloads all of `repository` at `main` from `endpoint`, as the client does that by itself.
    ///
    /// # Panics
    /// When the client cannot list.
    pub fn whole(self, endpoint: &str, home: &Path, repository: &str) -> Result<Files, GaveUp> {
        match self {
            Self::HuggingFaceHub(version) => {
                HuggingFaceHub(version).snapshot(endpoint, home, Repository::model(repository))
            }
            Self::HfHub | Self::HfHub1 => {
                run(self.crate_driver(endpoint, home).arg(repository)).map(|out| below(out.trim()))
            }
            Self::HfTransfer | Self::Curl => panic!("{self:?} downloads single files only"),
        }
    }

    /// The same client where it asks for no closed ranges: those are held off for a while after wrong bytes were
    /// sent, as such a client writes whatever it gets to the part's place.
    pub fn in_one_piece(self) -> Self {
        if self == Self::HfTransfer { Self::HuggingFaceHub("0.36.2") } else { self }
    }

    fn crate_driver(self, endpoint: &str, home: &Path) -> Command {
        let version = if self == Self::HfHub1 { "hf-hub-1" } else { "hf-hub" };
        let mut command = clean(&installed(&format!("{version}/debug/{version}-driver")), home);
        command.env("HF_ENDPOINT", endpoint).env("HF_HOME", home.join("hf"));
        command
    }
}

/// The files of a repository: path and content.
pub type Files = BTreeMap<String, Vec<u8>>;

/// How a client ended that did not do what it was asked to.
#[derive(Clone, Debug)]
pub struct GaveUp {
    /// What it wrote to stderr.
    pub stderr: String,
    /// How long its process ran.
    pub after: Duration,
}

impl GaveUp {
    /// The exception of a client in Python, with the time from its first request on.
    ///
    /// # Panics
    /// When stderr does not end with one.
    pub fn exception(&self) -> Exception {
        let line = self.stderr.lines().last().unwrap_or_default();
        let told: Value =
            serde_json::from_str(line).unwrap_or_else(|_| panic!("an exception: {}", self.stderr));
        Exception::of(&told).expect("the driver names the exception")
    }
}

/// An exception of Python.
#[derive(Clone, Debug)]
pub struct Exception {
    /// Its class.
    pub class: String,
    /// Its text.
    pub text: String,
    /// From the call on until it was raised.
    pub after: Duration,
}

impl Exception {
    /// Reads `{"error", "text", "seconds"}`; `None` when it is something else.
    pub fn of(told: &Value) -> Option<Self> {
        let text = |key: &str| told[key].as_str().map(str::to_owned);
        let after = Duration::from_secs_f64(told["seconds"].as_f64()?);
        Some(Self { class: text("error")?, text: text("text")?, after })
    }
}

/// The files below a folder that a client has made, also those that are links.
pub fn below(folder: &str) -> Files {
    let root = PathBuf::from(folder);
    let mut files = Files::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("the client names a folder") {
            let path = entry.expect("the folder can be listed").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(&root).expect("it lies below").to_string_lossy().into_owned();
                files.insert(name, std::fs::read(&path).expect("the client keeps what it can read"));
            }
        }
    }
    files
}

/// The finished files in the cache of a Hugging Face client, by content: what it would use without asking again.
pub fn finished(home: &Path) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let mut folders = vec![home.join("hf")];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries.map(|e| e.expect("the cache can be listed")) {
            let kind = entry.file_type().expect("the cache can be listed");
            if kind.is_dir() {
                folders.push(entry.path());
            } else if folder.ends_with("blobs") && !entry.file_name().to_string_lossy().contains('.') {
                // Unfinished ones and locks have a suffix behind the digest.
                found.push(std::fs::read(entry.path()).expect("the cache can be read"));
            }
        }
    }
    found
}

fn curl(endpoint: &str, home: &Path, repository: &str, path: &str) -> Result<Vec<u8>, String> {
    let encode =
        |s: &str| percent_encoding::utf8_percent_encode(s, percent_encoding::NON_ALPHANUMERIC).to_string();
    let encoded: Vec<String> = path.split('/').map(encode).collect();
    let url = format!("{endpoint}/{repository}/resolve/main/{}", encoded.join("/"));
    let file = home.join("curl.out");
    let mut command = clean(Path::new("curl"), home);
    command.args(["--fail", "--silent", "--show-error", "--location", "--output"]).arg(&file).arg(&url);
    run(&mut command).map_err(|gave_up| gave_up.stderr)?;
    // curl makes no file for an empty body.
    Ok(std::fs::read(&file).unwrap_or_default())
}

/// What transformers.js made of a model and a text.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The tokens of the text.
    pub tokens: Vec<u64>,
    /// The shape of the last hidden state.
    pub dims: Vec<u64>,
    /// The last hidden state.
    pub values: Vec<f64>,
}

/// Which URLs transformers.js makes.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// The path below the root.
    pub template: &'static str,
    /// The revision.
    pub revision: &'static str,
}

/// Loads `model` from `root` with transformers.js, keeping its files in `cache`, and runs it on `text`.
pub fn transformers_js(
    root: &str,
    layout: Layout,
    cache: &Path,
    model: &str,
    text: &str,
) -> Result<Loaded, String> {
    // Modules are found from the place of the script.
    let folder = installed("node");
    let script = folder.join("load.mjs");
    let mut command = clean(Path::new("node"), cache);
    command.current_dir(&folder).arg(script).arg(format!("{root}/")).args([layout.template, layout.revision]);
    command.arg(cache.join("models")).args([model, text]);
    let out = run(&mut command).map_err(|gave_up| gave_up.stderr)?;
    let out: Value = serde_json::from_str(out.trim()).expect("the driver prints JSON");
    let numbers = |key: &str| out[key].as_array().expect("an array").clone();
    let whole = |key: &str| numbers(key).iter().map(|n| n.as_u64().expect("a whole number")).collect();
    let values = numbers("values").iter().map(|n| n.as_f64().expect("a number")).collect();
    Ok(Loaded { tokens: whole("tokens"), dims: whole("dims"), values })
}

/// Something that `tests/run` has put beside the build.
pub fn installed(path: &str) -> PathBuf {
    let binary = Path::new(env!("CARGO_BIN_EXE_hubcache"));
    let target = binary.ancestors().nth(2).expect("the binary lies in target/PROFILE");
    let path = target.join("clients").join(path);
    assert!(path.exists(), "{} is missing: tests/run installs it", path.display());
    path
}

/// A file of the drivers' sources.
pub fn driver(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(path)
}

/// A command with nothing of the user's environment: no proxy, no token, no cache.
pub fn clean(program: &Path, home: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("HOME", home).env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs it to its end; its stdout, if it did not fail.
fn run(command: &mut Command) -> Result<String, GaveUp> {
    let begun = Instant::now();
    let child = command.spawn().expect("the client can be run");
    let pid = Pid::from_child(&child);
    let (done, ended) = mpsc::channel();
    thread::spawn(move || done.send(child.wait_with_output()));
    let Ok(output) = ended.recv_timeout(PATIENCE) else {
        let _ = kill_process(pid, Signal::KILL);
        panic!("the client is not done after {PATIENCE:?}: {command:?}");
    };
    let output = output.expect("a child can be waited for");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    if output.status.success() {
        Ok(text(output.stdout))
    } else {
        Err(GaveUp { stderr: text(output.stderr), after: begun.elapsed() })
    }
}

fn lines(text: &str) -> Vec<PathBuf> {
    text.lines().map(PathBuf::from).collect()
}
