//! `hubcache run`: a program against exactly what a lock file pins, and the first run, which writes that file.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use crate::support;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use support::daemon::{Builder, Daemon};
use support::eventually;
use support::hub::{File, ScriptedHub};

/// A hub with a model, and a data directory on which no server runs.
struct Scene {
    hub: ScriptedHub,
    folder: tempfile::TempDir,
    daemon: Daemon,
}

impl Scene {
    fn new() -> Self {
        let mut scene = Self::beside_a_server();
        assert!(scene.daemon.terminate().success());
        scene
    }

    fn beside_a_server() -> Self {
        let hub = ScriptedHub::start();
        hub.hf("acme/tiny").commit(files("first"));
        hub.moz("acme/small", "v1.0", "config.json", "{\"small\": 1}");
        let builder: Builder =
            Daemon::builder().hub(&hub).set("cache.negative_ttl", "0s").set("cache.ref_ttl", "0s");
        let daemon = builder.start();
        Self { hub, folder: tempfile::tempdir().unwrap(), daemon }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn lock(&self) -> String {
        fs::read_to_string(self.path("hubcache.lock")).unwrap()
    }

    /// `hubcache run FLAGS -- sh -c SCRIPT`, in which `get PATH` prints a status and a body.
    fn command(&self, flags: &[&str], script: &str) -> Command {
        const GET: &str = "get() { curl -sS -w ' %{http_code}\\n' \"$HF_ENDPOINT$1\"; }\n";
        let lock = self.path("hubcache.lock");
        let script = format!("{GET}{script}");
        let arguments = [&["run", "--lock", lock.to_str().unwrap()], flags, &["--", "sh", "-c", &script]];
        let mut command = self.daemon.program(&arguments.concat());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, flags: &[&str], script: &str) -> Output {
        self.command(flags, script).output().unwrap()
    }

    /// What a run has written that must succeed.
    fn told(&self, flags: &[&str], script: &str) -> String {
        let output = self.run(flags, script);
        assert!(output.status.success(), "{:?}\n{}", output.status.code(), errors(&output));
        text(&output)
    }

    /// Records what the script asks for, and has the hub move on.
    fn recorded(&self, script: &str) {
        self.told(&["--record"], script);
        self.hub.hf("acme/tiny").commit(files("second"));
        self.hub.clear();
    }

    /// Whether a process owns the data directory that was started on demand.
    fn has_owner(&self) -> bool {
        self.daemon.data().join("control").exists()
    }
}

fn files(weights: &str) -> [File; 4] {
    [
        File::small("config.json", format!("{{\"of\": \"{weights}\"}}")),
        File::small("README.md", "read me"),
        File::small("vocab.txt", "a b c"),
        File::lfs("onnx/model.onnx", weights.repeat(50_000).into_bytes()),
    ]
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

const CONFIG: &str = "get /acme/tiny/resolve/main/config.json";

/// A run that waits until its standard input ends, once it has printed a line.
fn waiting(scene: &Scene, flags: &[&str]) -> Child {
    let mut command =
        scene.command(flags, "echo $HUBCACHE_URL; read line; get /acme/tiny/resolve/main/config.json");
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut line = [0; 7];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut line).unwrap();
    assert_eq!(&line, b"http://");
    child
}

#[test]
fn the_first_run_writes_the_lock_file_and_the_next_needs_no_hub() {
    let scene = Scene::new();
    let wanted = format!(
        "{CONFIG}\nget /acme/tiny/resolve/main/onnx/model.onnx | tail -c 11\nget /acme/small/v1.0/config.json"
    );
    let first = scene.told(&["--record"], &wanted);
    assert_eq!(
        first,
        "{\"of\": \"first\"} 200\nrstfirst 200\n{\"small\": 1} 200\n".replace("rstf", "tf"),
        "{first}"
    );
    let lock = scene.lock();
    assert!(lock.contains("revision = \"main\"\ncommit = \""), "{lock}");
    assert!(lock.contains("include = [\"config.json\", \"onnx/model.onnx\"]"), "{lock}");
    assert!(lock.contains("left_out = [\n    \"README.md\",\n    \"vocab.txt\",\n]"), "{lock}");
    assert!(lock.contains("hub = \"mozilla\"\nid = \"acme/small\"\nrevision = \"v1.0\"\n"), "{lock}");

    scene.hub.hf("acme/tiny").commit(files("second"));
    scene.hub.stop();
    assert_eq!(scene.told(&[], &wanted), first);
    assert_eq!(scene.lock(), lock);
}

#[test]
fn what_is_pinned_stays_as_it_is_while_more_is_recorded() {
    let scene = Scene::new();
    scene.recorded(CONFIG);
    let before = scene.lock();
    assert_eq!(scene.told(&["--record"], CONFIG), "{\"of\": \"first\"} 200\n");
    assert_eq!(scene.lock(), before, "nothing was asked for beyond it");
    assert_eq!(scene.told(&["--record"], "get /acme/tiny/resolve/main/vocab.txt"), "a b c 200\n");
    let after = scene.lock();
    assert!(after.contains("include = [\"config.json\", \"vocab.txt\"]"), "{after}");
    let commit = |lock: &str| lock.lines().find(|line| line.starts_with("commit")).unwrap().to_owned();
    assert_eq!(commit(&after), commit(&before), "the hub has moved on, and the lock has not");
    // A model of which everything is asked for is pinned as a whole.
    scene.told(
        &["--record"],
        "for f in config.json README.md vocab.txt onnx/model.onnx; do get /acme/tiny/resolve/v9/$f; done",
    );
    assert!(!scene.lock().contains("v9"), "the hub has no such revision");
}

#[test]
fn all_of_a_model_is_pinned_as_all_of_it() {
    let scene = Scene::new();
    let all = "get /api/models/acme/tiny | tr , '\\n' | grep -q siblings || exit 9\n\
               for f in config.json README.md vocab.txt onnx/model.onnx; do get /acme/tiny/resolve/main/$f >/dev/null; done";
    scene.told(&["--record"], all);
    let lock = scene.lock();
    assert!(!lock.contains("include") && lock.contains("left_out = [\n]"), "{lock}");
    scene.hub.stop();
    scene.told(&[], all);
}

#[test]
fn what_was_only_looked_at_is_brought_as_well() {
    let scene = Scene::new();
    scene.recorded("curl -sSI -o /dev/null $HF_ENDPOINT/acme/tiny/resolve/main/onnx/model.onnx");
    scene.hub.stop();
    let told = scene.told(&[], "get /acme/tiny/resolve/main/onnx/model.onnx | tail -c 10");
    assert_eq!(told, "first 200\n");
}

#[test]
fn what_is_missing_is_refused_and_listed_with_what_helps() {
    let scene = Scene::new();
    scene.recorded(CONFIG);
    let missing = "get /acme/tiny/resolve/main/vocab.txt; get /acme/tiny/resolve/main/vocab.txt; get /acme/tiny/resolve/main/nothing.json";
    let report = scene.path("missing.txt");
    let output = scene.run(&["--missing-report", report.to_str().unwrap()], missing);
    let (said, errors) = (text(&output), errors(&output));
    assert_eq!(said.matches(" 403\n").count(), 2, "{said}");
    assert_eq!(said.matches(" 404\n").count(), 1, "the commit does not have it: {said}");
    assert!(output.status.success(), "the exit code is the program's");
    assert!(errors.contains("1 thing asked for and not served from "), "{errors}");
    assert!(
        errors.contains("hf:acme/tiny@main/vocab.txt is left out of the lock file (2 times)"),
        "{errors}"
    );
    // The command that it names helps, as it stands there.
    let command = errors.split('`').nth(1).unwrap().strip_prefix("hubcache ").unwrap();
    let arguments: Vec<&str> = command.split(' ').collect();
    assert!(scene.daemon.program(&arguments).output().unwrap().status.success(), "{command}");
    assert!(fs::read_to_string(report).unwrap().starts_with("hf:acme/tiny@main/vocab.txt\t2\tis left out"));

    let output = scene.run(&["--json"], "get /acme/other/resolve/main/config.json; exit 3");
    assert_eq!(output.status.code(), Some(3));
    let object: Value = serde_json::from_str(errors_line(&output).trim()).unwrap();
    assert_eq!(object["exit"], 3);
    assert_eq!(object["missing"][0]["what"], "hf:acme/other@main/config.json");
    assert!(
        scene.hub.requests().iter().all(|r| r.target.contains("vocab") || r.target.contains("/api/")),
        "{}",
        scene.hub.journal()
    );
}

fn errors_line(output: &Output) -> String {
    errors(output).lines().find(|line| line.starts_with('{')).unwrap_or_default().to_owned()
}

#[test]
fn the_program_has_a_cold_cache_and_its_own_exit_code() {
    let scene = Scene::new();
    scene.recorded(CONFIG);
    let said = scene.told(
        &[],
        "ls -A $HF_HOME | wc -l; echo $HF_TOKEN_PATH; echo ${HF_HUB_OFFLINE-unset}; echo ${HTTPS_PROXY-unset}",
    );
    let lines: Vec<&str> = said.lines().map(str::trim).collect();
    assert_eq!((lines[0], lines[2], lines[3]), ("0", "unset", "unset"), "{said}");
    assert!(lines[1].ends_with("/.cache/huggingface/token"), "{said}");
    let home = scene.told(&[], "echo $HF_HOME; touch $HF_HOME/x");
    assert!(!std::path::Path::new(home.trim()).exists(), "nothing of a run stays behind");
    let code = |script: &str| scene.run(&[], script).status.code();
    assert_eq!(code("exit 7"), Some(7));
    assert_eq!(code("kill -TERM $$"), Some(128 + 15));
    let lock = scene.path("hubcache.lock");
    let nothing = scene.daemon.program(&["run", "--lock", lock.to_str().unwrap(), "--", "no-such-program"]);
    assert_eq!({ nothing }.output().unwrap().status.code(), Some(127));
}

#[test]
fn a_lock_file_that_is_none_is_refused_before_the_program_starts() {
    let scene = Scene::new();
    let output = scene.run(&[], "echo started");
    assert_eq!((output.status.code(), text(&output).as_str()), (Some(66), ""));
    assert!(errors(&output).contains("with --record this run writes it"), "{}", errors(&output));
    fs::write(scene.path("hubcache.lock"), "version = 9\n").unwrap();
    for flags in [&[][..], &["--record"]] {
        let output = scene.run(flags, "echo started");
        assert_eq!((output.status.code(), text(&output).as_str()), (Some(65), ""), "{}", errors(&output));
        assert!(
            errors(&output).contains("hubcache.lock is no lock file: it has version 9"),
            "{}",
            errors(&output)
        );
    }
}

#[test]
fn a_signal_reaches_the_program() {
    let scene = Scene::new();
    scene.recorded(CONFIG);
    for (signal, name) in [(Signal::TERM, "TERM"), (Signal::INT, "INT"), (Signal::USR1, "USR1")] {
        let script =
            format!("trap 'echo caught; exit 5' {name}; echo ready; while :; do read -t 1 line; done");
        let lock = scene.path("hubcache.lock");
        let mut command =
            scene.daemon.program(&["run", "--lock", lock.to_str().unwrap(), "--", "bash", "-c", &script]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = [0; 6];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut line).unwrap();
        kill_process(Pid::from_child(&child), signal).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), output.status.signal()), (Some(5), None), "{name}");
        assert_eq!(text(&output), "caught\n", "{name}");
    }
}

#[test]
fn runs_at_once_share_one_owner_that_leaves_with_the_last() {
    let scene = Scene::new();
    scene.recorded(CONFIG);
    eventually(|| (!scene.has_owner()).then_some(()));
    let mut runs: Vec<Child> = support::client::at_once(4, |_| waiting(&scene, &[]));
    assert!(scene.has_owner());
    // Other commands go through it too, while it is there.
    let held = scene.daemon.command(&["ls", "--json"]);
    assert!(held.status.success() && String::from_utf8_lossy(&held.stdout).contains("acme/tiny"));
    let owners = fs::read_to_string(scene.daemon.data().join("owner.log")).unwrap();
    assert_eq!(owners.matches("a run asks for what a lock file pins").count(), 1 + 4, "{owners}");
    for run in &mut runs {
        drop(run.stdin.take());
    }
    for run in runs {
        let output = run.wait_with_output().unwrap();
        assert!(text(&output).ends_with("{\"of\": \"first\"} 200\n"), "{}{}", text(&output), errors(&output));
    }
    eventually(|| (!scene.has_owner()).then_some(()));
    assert!(scene.hub.requests().is_empty(), "{}", scene.hub.journal());
}

#[test]
fn a_run_with_other_hubs_than_the_owner_has_is_refused() {
    let scene = Scene::new();
    scene.recorded(CONFIG);
    let first = waiting(&scene, &[]);
    let output = scene.run(&["--hub", "huggingface=http://127.0.0.1:9"], "echo started");
    assert_eq!((output.status.code(), text(&output).as_str()), (Some(78), ""));
    let errors = errors(&output);
    assert!(errors.contains("and this run has it at http://127.0.0.1:9"), "{errors}");
    drop(first);
}

#[test]
fn a_server_that_runs_serves_the_run() {
    let scene = Scene::beside_a_server();
    scene.recorded(&format!("{CONFIG}; get /acme/tiny/resolve/main/onnx/model.onnx >/dev/null"));
    assert_eq!(scene.told(&[], CONFIG), "{\"of\": \"first\"} 200\n");
    assert!(!scene.daemon.data().join("owner.log").exists(), "no process was started");
    let asked = support::client::get(&format!("{}/acme/tiny/resolve/main/config.json", scene.daemon.url()));
    asked.assert_is(200, b"{\"of\": \"second\"}", "the server itself goes with the hub");
    let output = scene.run(&["--hub", "mozilla=http://127.0.0.1:9"], "echo started");
    assert_eq!(output.status.code(), Some(78), "{}", errors(&output));
}

#[test]
fn a_run_whose_owner_dies_says_so_and_the_next_one_works() {
    let scene = Scene::new();
    scene.recorded(CONFIG);
    eventually(|| (!scene.has_owner()).then_some(()));
    let run = waiting(&scene, &[]);
    let data = scene.daemon.data().to_str().unwrap();
    let ours =
        fs::read_dir("/proc").unwrap().filter_map(|process| process.ok()?.file_name().to_str()?.parse().ok());
    let ours = { ours }.find(|pid: &i32| {
        let read = |name: &str| fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
        let has = |bytes: Vec<u8>, text: &str| String::from_utf8_lossy(&bytes).contains(text);
        has(read("cmdline"), "hubcache\0own\0") && has(read("environ"), data)
    });
    kill_process(Pid::from_raw(ours.expect("it runs")).unwrap(), Signal::KILL).unwrap();
    let output = run.wait_with_output().unwrap();
    assert!(errors(&output).contains("the owner of the data directory"), "{}", errors(&output));
    assert_eq!(scene.told(&[], CONFIG), "{\"of\": \"first\"} 200\n");
}

#[test]
fn as_a_proxy_it_answers_programs_that_name_the_hub() {
    let scene = Scene::new();
    scene.recorded(CONFIG);
    let url = "https://huggingface.co/acme/tiny/resolve/main/config.json";
    let said = scene.told(&["--proxy"], &format!("curl -sSL {url}; curl -sS -o /dev/null https://example.org || echo no; grep -c BEGIN $SSL_CERT_FILE"));
    let (body, rest) = said.split_once('}').unwrap();
    assert_eq!(body, "{\"of\": \"first\"", "{said}");
    assert!(rest.starts_with("no\n"), "nothing else is let through: {said}");
    assert!(
        rest.trim().lines().last().unwrap().parse::<u32>().unwrap() > 1,
        "and the system's own roots: {said}"
    );
}

#[test]
fn a_recording_without_a_way_to_the_hub_is_refused() {
    let mut scene = Scene::beside_a_server();
    scene.daemon.restart_with(&[("upstream.offline", "true")]);
    let output = scene.run(&["--record"], "echo started");
    assert_eq!((output.status.code(), text(&output).as_str()), (Some(69), ""), "{}", errors(&output));
}

const FAULTS: &str = "[[fault]]\npath = \"*/config.json\"\ntimes = 1\nstatus = 503\n\n[[fault]]\npath = \"*/nobody-asks\"\ncut = \"1KiB\"\n";

#[test]
fn answers_of_a_run_go_wrong_on_purpose() {
    let scene = Scene::new();
    scene.recorded(CONFIG);
    let faults = scene.path("faults.toml");
    fs::write(&faults, FAULTS).unwrap();
    let output = scene.run(&["--faults", faults.to_str().unwrap()], &format!("{CONFIG}; {CONFIG}"));
    assert_eq!(text(&output), "a fault on purpose\n 503\n{\"of\": \"first\"} 200\n", "{}", errors(&output));
    let never = "(cut, */nobody-asks) never struck; 0 requests met it";
    assert!(errors(&output).contains(never), "{}", errors(&output));
    assert_eq!(scene.told(&[], CONFIG), "{\"of\": \"first\"} 200\n", "nothing of it is kept");
    for (flag, why) in [("--record", "cannot be used with"), ("--proxy", "cannot be used with")] {
        let output = scene.run(&["--faults", faults.to_str().unwrap(), flag], "echo started");
        assert_eq!((output.status.code(), text(&output).as_str()), (Some(64), ""));
        assert!(errors(&output).contains(why), "{}", errors(&output));
    }
    fs::write(&faults, "[[fault]]\npath = \"*\"\n").unwrap();
    let output = scene.run(&["--faults", faults.to_str().unwrap()], "echo started");
    assert_eq!((output.status.code(), text(&output).as_str()), (Some(78), ""));
    assert!(errors(&output).contains("faults.toml: rule 1, at line 1"), "{}", errors(&output));
}

#[test]
fn a_server_of_faults_opens_no_store() {
    let scene = Scene::new();
    scene.recorded(CONFIG);
    let (lock, faults) = (scene.path("hubcache.lock"), scene.path("faults.toml"));
    fs::write(&faults, FAULTS).unwrap();
    let arguments = ["serve", "--listen", "127.0.0.1:0", "--lock", lock.to_str().unwrap()];
    let report = scene.path("missing.txt");
    let frozen =
        ["--frozen", "--faults", faults.to_str().unwrap(), "--missing-report", report.to_str().unwrap()];
    let mut command = scene.daemon.program(&[&arguments[..], &frozen].concat());
    let mut server = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    let mut stdout = std::io::BufReader::new(server.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut stdout, &mut line).unwrap();
    let ready: Value = serde_json::from_str(&line).unwrap();
    let url =
        |path: &str| format!("http://{}/acme/tiny/resolve/main/{path}", ready["listen"].as_str().unwrap());
    let first = support::client::get(&url("config.json"));
    assert_eq!((first.status, first.header("x-hubcache-fault")), (503, Some("status; rule=1")));
    support::client::get(&url("config.json")).assert_is(200, b"{\"of\": \"first\"}", "the second time");
    assert_eq!(support::client::get(&url("vocab.txt")).status, 403);
    let open = fs::read_dir(format!("/proc/{}/fd", server.id())).unwrap();
    let open: Vec<PathBuf> = open.filter_map(|file| fs::read_link(file.unwrap().path()).ok()).collect();
    assert!(open.iter().all(|file| !file.starts_with(scene.daemon.data())), "{open:?}");
    kill_process(Pid::from_child(&server), Signal::TERM).unwrap();
    assert!(server.wait().unwrap().success());
    assert!(fs::read_to_string(report).unwrap().starts_with("hf:acme/tiny@main/vocab.txt\t1\t"));

    let lives = scene.daemon.program(&["serve", "--faults", faults.to_str().unwrap()]).output().unwrap();
    assert_eq!(lives.status.code(), Some(78));
    assert!(errors(&lives).contains("upstream.faults is only for a frozen server"), "{}", errors(&lives));
}
