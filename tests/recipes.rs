//! The recipes of `recipes/`, each with the real clients that it names: recorded once, then run with the hub gone.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::{drivers, support, tiny_model};
use serde::Deserialize;
use support::daemon::Daemon;
use support::hub::{File, ScriptedHub};

const PYTHON: &str = "huggingface_hub-2.4.0/bin";
const MODEL: &str = "onnx/model.onnx";

/// A project made by a recipe, on a machine with a data directory on which no server runs.
struct Project {
    hub: ScriptedHub,
    daemon: Daemon,
    folder: tempfile::TempDir,
    /// What is looked for here first.
    path: Vec<PathBuf>,
}

impl Project {
    fn new(recipe: &str, path: &[&str]) -> Self {
        let hub = ScriptedHub::start();
        commit(&hub);
        let daemon = Daemon::builder().hub(&hub).set("cache.negative_ttl", "0s").alone();
        let folder = tempfile::tempdir().unwrap();
        copy(&recipes().join(recipe), folder.path());
        let own = Path::new(env!("CARGO_BIN_EXE_hubcache")).parent().unwrap().to_owned();
        let path = path.iter().map(|path| drivers::installed(path)).chain([own]).collect();
        Self { hub, daemon, folder, path }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn lock(&self) -> String {
        fs::read_to_string(self.path("hubcache.lock")).unwrap()
    }

    /// `hubcache ARGUMENTS`, in the project.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.daemon.program(arguments);
        let theirs = std::env::var_os("PATH").unwrap_or_default();
        let path = self.path.iter().cloned().chain(std::env::split_paths(&theirs));
        command.env("PATH", std::env::join_paths(path).unwrap()).current_dir(self.folder.path());
        command
    }

    fn run(&self, flags: &[&str], program: &[&str]) -> Output {
        self.command(&[&["run"], flags, &["--"], program].concat()).output().unwrap()
    }

    fn succeeds(&self, flags: &[&str], program: &[&str]) {
        let output = self.run(flags, program);
        assert!(output.status.success(), "{}", told(&output));
    }

    /// Records the lock file, has `main` move on, and then the hub vanish; the program goes on as before.
    fn recorded_then_frozen(&self, program: &[&str]) {
        self.succeeds(&["--record"], program);
        let lock = self.lock();
        self.hub.hf("acme/tiny").commit([File::small("config.json", "{}")]);
        self.hub.clear();
        self.succeeds(&[], program);
        assert!(self.hub.requests().is_empty(), "{}", self.hub.journal());
        self.hub.stop();
        self.succeeds(&[], program);
        assert_eq!(self.lock(), lock, "only a recording writes it");
    }

    /// Takes a file out of the lock, as if it had never been asked for.
    fn take_out(&self, path: &str) {
        let lock = self.lock();
        let begins = format!("    {{ path = \"{path}\",");
        let (line, rest): (Vec<&str>, Vec<&str>) = lock.lines().partition(|line| line.starts_with(&begins));
        assert_eq!(line.len(), 1, "{lock}");
        let left_out = format!("left_out = [\n    \"{path}\",");
        let lock = rest.join("\n").replacen("left_out = [", &left_out, 1) + "\n";
        fs::write(self.path("hubcache.lock"), lock).unwrap();
    }

    /// A file that is not in the lock is refused at once: the program fails, says its name, and has not asked again and
    /// again.
    fn fails_without(&self, path: &str, program: &[&str], said: &str) {
        self.take_out(path);
        let report = self.path("missing.txt");
        let output = self.run(&["--missing-report", report.to_str().unwrap()], program);
        assert!(!output.status.success(), "{}", told(&output));
        assert!(told(&output).contains(said), "{}", told(&output));
        let report = fs::read_to_string(report).unwrap();
        let fields: Vec<&str> = report.trim().split('\t').collect();
        assert_eq!(fields[0], format!("hf:acme/tiny@main/{path}"), "{report}");
        assert!(fields[1].parse::<u32>().unwrap() <= 2, "HEAD and GET at most: {report}");
        assert!(fields[3].starts_with("`hubcache lock add hf:acme/tiny@main"), "{report}");
    }
}

fn recipes() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes")
}

fn commit(hub: &ScriptedHub) {
    let files = tiny_model::files().into_iter().map(|(path, bytes)| match path {
        MODEL => File::lfs(path, bytes),
        _ => File::small(path, bytes),
    });
    hub.hf("acme/tiny").commit(files.chain([File::small("README.md", "read me")]).collect::<Vec<_>>());
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            fs::create_dir_all(&target).unwrap();
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn told(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{:?}\n{}\n{}", output.status.code(), text(&output.stdout), text(&output.stderr))
}

const PYTEST: [&str; 4] = ["pytest", "-q", "-p", "no:cacheprovider"];

#[test]
fn pytest_with_transformers() {
    let project = Project::new("pytest", &[PYTHON]);
    project.recorded_then_frozen(&PYTEST);
    let lock = project.lock();
    assert!(!lock.contains("\"README.md\", size"), "nobody has asked for it: {lock}");
    project.fails_without(MODEL, &PYTEST, "hf:acme/tiny@main/onnx/model.onnx is left out of the lock file");
}

#[test]
fn a_changed_byte_reaches_no_test() {
    let project = Project::new("pytest", &[PYTHON]);
    project.succeeds(&["--record"], &PYTEST);
    project.hub.stop();
    let volume = project.daemon.data().join("volumes").join("blobs-0001.redb");
    support::eventually(|| (!project.daemon.data().join("control").exists()).then_some(()));
    let mut content = fs::read(&volume).unwrap();
    let files = tiny_model::files();
    let (_, model) = files.iter().find(|(path, _)| *path == MODEL).unwrap();
    let needle = &model[200_000..200_064];
    let at =
        content.windows(needle.len()).position(|window| window == needle).expect("the bytes lie as they are");
    content[at] ^= 1;
    fs::write(&volume, content).unwrap();
    let output = project.run(&[], &PYTEST);
    assert!(!output.status.success(), "{}", told(&output));
    let said = told(&output);
    assert!(said.contains("1 passed, 1 error"), "the tokenizer is as it was: {said}");
    assert!(said.contains("onnx/model.onnx has other bytes on the disk than those stored"), "{said}");
}

#[test]
fn node_with_transformers_js() {
    let project = Project::new("node", &[]);
    std::os::unix::fs::symlink(drivers::installed("node/node_modules"), project.path("node_modules"))
        .unwrap();
    let program = ["node", "--test"];
    project.recorded_then_frozen(&program);
    project.fails_without(MODEL, &program, "/acme/tiny/resolve/main/onnx/model.onnx");
}

#[test]
fn rust_with_hf_hub() {
    let project = Project::new("rust", &[]);
    // What its lock file names has been fetched for the driver, and is built there.
    fs::copy(drivers::driver("hf-hub-1/Cargo.lock"), project.path("Cargo.lock")).unwrap();
    let target = drivers::installed("hf-hub-1");
    let home = |name: &str, folder: &str| {
        std::env::var(name).unwrap_or_else(|_| format!("{}/{folder}", std::env::var("HOME").unwrap()))
    };
    let variables = [
        format!("CARGO_HOME={}", home("CARGO_HOME", ".cargo")),
        format!("RUSTUP_HOME={}", home("RUSTUP_HOME", ".rustup")),
        format!("CARGO_TARGET_DIR={}", target.display()),
    ];
    let mut program = vec!["env"];
    program.extend(variables.iter().map(String::as_str));
    program.extend(["cargo", "test", "--offline", "--quiet"]);
    project.recorded_then_frozen(&program);
    project.fails_without("config.json", &program, "hf:acme/tiny@main/config.json");
}

/// What a CI's file says.
#[derive(Deserialize)]
struct Said {
    variables: BTreeMap<String, String>,
    commands: Vec<String>,
}

/// Runs the commands of a CI's file as a runner would, on a checkout of the project.
fn pipeline(file: &str) {
    let project = Project::new("pytest", &[PYTHON]);
    project.succeeds(&["--record"], &PYTEST);
    let python = drivers::installed(PYTHON).join("python");
    let steps =
        Command::new(python).arg(drivers::driver("python/steps.py")).arg(recipes().join(file)).output();
    let said: Said = serde_json::from_slice(&steps.unwrap().stdout).unwrap();
    let checkout = project.folder.path().to_str().unwrap();
    let here =
        |text: &str| text.replace("${{ github.workspace }}", checkout).replace("$CI_PROJECT_DIR", checkout);
    assert_eq!(here(&said.variables["HUBCACHE_DATA"]), format!("{checkout}/.hubcache"));
    let installs = |command: &String| command.starts_with("cargo install");
    assert_eq!(
        said.commands.iter().filter(|command| installs(command)).count(),
        1,
        "the program is here already"
    );
    let steps: Vec<&String> = said.commands.iter().filter(|command| !installs(command)).collect();
    assert_eq!(steps.len(), 2, "{steps:?}");
    // The first pipeline finds no cache; the second has what the first has left, and no hub.
    for has_cache in [false, true] {
        assert_eq!(project.path(".hubcache").exists(), has_cache);
        for step in &steps {
            let mut command = project.command(&[]);
            let environment: Vec<_> =
                command.get_envs().map(|(n, v)| (n.to_owned(), v.map(ToOwned::to_owned))).collect();
            command = Command::new("bash");
            command.env_clear().args(["-e", "-c", step]).current_dir(project.folder.path());
            command.envs(environment.into_iter().filter_map(|(name, value)| Some((name, value?))));
            command.env_remove("HUBCACHE_STORE__DIR");
            command.envs(said.variables.iter().map(|(name, value)| (name, here(value))));
            let output = command.output().unwrap();
            assert!(output.status.success(), "{step}\n{}", told(&output));
        }
        project.hub.stop();
    }
}

#[test]
fn github_actions() {
    pipeline("github-actions.yml");
}

#[test]
fn gitlab() {
    pipeline("gitlab-ci.yml");
}
