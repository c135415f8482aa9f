//! Runs real clients as child processes: `tests/run` installs them, and the drivers beside this file use each as a
//! program would.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// How long one run of a client may take; the slowest retry for half a minute.
const PATIENCE: Duration = Duration::from_secs(120);

/// A client that downloads files of a Hugging Face repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// huggingface_hub of this version, with hf_xet installed.
    HuggingFaceHub(&'static str),
    /// huggingface_hub 0.36.2 with hf_transfer, which fetches parts of files above 50 MB side by side.
    HfTransfer,
    /// The hf-hub crate.
    HfHub,
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
            Self::HuggingFaceHub(version) => self.python(version, endpoint, home, repository, paths)?,
            Self::HfTransfer => self.python("0.36.2", endpoint, home, repository, paths)?,
            Self::HfHub => {
                let mut command = clean(&installed("hf-hub/debug/hf-hub-driver"), home);
                command.env("HF_ENDPOINT", endpoint).env("HF_HOME", home.join("hf"));
                lines(&run(command.arg(repository).args(paths))?)
            }
            Self::Curl => return paths.iter().map(|path| curl(endpoint, home, repository, path)).collect(),
        };
        assert_eq!(files.len(), paths.len(), "one line for each file: {files:?}");
        Ok(files.iter().map(|file| std::fs::read(file).expect("the client names a file")).collect())
    }

    /// The same client where it asks for no closed ranges: those are held off for a while after wrong bytes were
    /// sent, as such a client writes whatever it gets to the part's place.
    pub fn in_one_piece(self) -> Self {
        if self == Self::HfTransfer { Self::HuggingFaceHub("0.36.2") } else { self }
    }

    fn python(
        self,
        version: &str,
        endpoint: &str,
        home: &Path,
        repository: &str,
        paths: &[&str],
    ) -> Result<Vec<PathBuf>, String> {
        let python = installed(&format!("huggingface_hub-{version}/bin/python"));
        let mut command = clean(&python, home);
        command
            .arg(driver("python/fetch.py"))
            .arg(repository)
            .args(paths)
            .env("CLIENT_VERSION", version)
            .env("HF_ENDPOINT", endpoint)
            .env("HF_HOME", home.join("hf"))
            .env("HF_HUB_DISABLE_PROGRESS_BARS", "1")
            .env("PYTHONDONTWRITEBYTECODE", "1");
        if self == Self::HfTransfer {
            command.env("HF_HUB_ENABLE_HF_TRANSFER", "1");
        }
        Ok(lines(&run(&mut command)?))
    }
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
    run(command.args(["--fail", "--silent", "--show-error", "--location", "--output"]).arg(&file).arg(&url))?;
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
    let out = run(&mut command)?;
    let out: Value = serde_json::from_str(out.trim()).expect("the driver prints JSON");
    let numbers = |key: &str| out[key].as_array().expect("an array").clone();
    let whole = |key: &str| numbers(key).iter().map(|n| n.as_u64().expect("a whole number")).collect();
    let values = numbers("values").iter().map(|n| n.as_f64().expect("a number")).collect();
    Ok(Loaded { tokens: whole("tokens"), dims: whole("dims"), values })
}

/// Something that `tests/run` has put beside the build.
fn installed(path: &str) -> PathBuf {
    let binary = Path::new(env!("CARGO_BIN_EXE_hubcache"));
    let target = binary.ancestors().nth(2).expect("the binary lies in target/PROFILE");
    let path = target.join("clients").join(path);
    assert!(path.exists(), "{} is missing: tests/run installs it", path.display());
    path
}

/// A file of the drivers' sources.
fn driver(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(path)
}

/// A command with nothing of the user's environment: no proxy, no token, no cache.
fn clean(program: &Path, home: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("HOME", home).env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs it to its end; its stdout, or its stderr when it failed.
fn run(command: &mut Command) -> Result<String, String> {
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
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

fn lines(text: &str) -> Vec<PathBuf> {
    text.lines().map(PathBuf::from).collect()
}
