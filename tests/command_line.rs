//! The program as an operator meets it: arguments, exit codes, signals, and who owns a data directory.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, which is all that is asked of it")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// The program, in a home of its own.
struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hubcache"));
        command.env_clear().env("HOME", self.0.path()).args(args);
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    fn serve(&self, args: &[&str]) -> Server {
        let fixed = ["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
        let mut command = self.command(&[&fixed, args].concat());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        Server { child, stdout, ready: serde_json::from_str(&line).expect("a line of JSON") }
    }
}

struct Server {
    child: Child,
    stdout: BufReader<ChildStdout>,
    ready: Value,
}

impl Server {
    fn address(&self, door: &str) -> String {
        self.ready[door].as_str().unwrap().to_owned()
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap();
    }

    /// The exit code, which must come soon.
    fn exit(&mut self) -> Option<i32> {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(began.elapsed() < Duration::from_secs(20), "the server does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn get(address: &str, host: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn is_empty_dir(path: &Path) -> bool {
    std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none())
}

#[test]
fn serve_tells_its_real_ports_in_one_line_and_ends_with_0_on_a_signal() {
    for signal in [Signal::TERM, Signal::INT] {
        let home = Home::new();
        let mut server = home.serve(&[]);
        assert_eq!(server.ready["event"], "ready");
        assert_eq!(server.ready["pid"], server.child.id());
        let admin = server.address("admin");
        assert!(!server.address("listen").ends_with(":0") && !admin.ends_with(":0"));
        assert!(get(&admin, "localhost", "/readyz").starts_with("HTTP/1.1 200 "));
        assert!(get(&admin, "evil.example", "/readyz").starts_with("HTTP/1.1 421 "));
        let metrics = get(&admin, "127.0.0.1", "/metrics");
        assert!(metrics.contains("hubcache_build_info{version="), "{metrics}");
        server.signal(signal);
        assert_eq!(server.exit(), Some(0));
        let mut rest = String::new();
        server.stdout.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "", "stdout has the one line only");
        assert!(!home.path(".local/state/hubcache/control").exists());
    }
}

#[test]
fn a_second_signal_ends_the_drain() {
    let home = Home::new();
    let mut server = home.serve(&["--listen-header-timeout", "1h", "--listen-drain", "1h"]);
    let mut busy = TcpStream::connect(server.address("listen")).unwrap();
    busy.write_all(b"GET / HTTP/1.1\r\nHost: ").unwrap();
    // Served behind the first connection, so that one was accepted.
    get(&server.address("listen"), "localhost", "/../x");
    server.signal(Signal::TERM);
    let began = Instant::now();
    while !get(&server.address("admin"), "localhost", "/readyz").ends_with("stopping\n") {
        assert!(began.elapsed() < Duration::from_secs(10));
    }
    assert!(server.child.try_wait().unwrap().is_none(), "a request is still under way");
    server.signal(Signal::TERM);
    assert_eq!(server.exit(), Some(143));
}

#[test]
fn a_second_owner_is_told_who_the_first_is_and_what_to_do() {
    let home = Home::new();
    let server = home.serve(&[]);
    let second = home.run(&["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    assert_eq!(code(&second), 75);
    let said = stderr(&second);
    assert!(said.contains(&server.child.id().to_string()) && said.contains("--data"), "{said}");
}

#[test]
fn commands_ask_the_owner_and_without_one_open_the_directory() {
    let home = Home::new();
    for data in [home.path("data"), home.path(&"long/".repeat(40))] {
        let data = data.to_str().unwrap();
        let all = || {
            let ls = home.run(&["ls", "--json", "--data", data]);
            assert_eq!((code(&ls), ls.stdout.as_slice()), (0, &b"[]\n"[..]), "{}", stderr(&ls));
            let verify = home.run(&["verify", "--data", data]);
            assert_eq!((code(&verify), stderr(&verify)), (0, String::new()));
            let missing = home.run(&["show", "acme/tiny", "--data", data]);
            assert_eq!(code(&missing), 66);
            let everything = home.run(&["rm", "--all", "--json", "--data", data]);
            let removed: Value = serde_json::from_slice(&everything.stdout).unwrap();
            assert_eq!((code(&everything), &removed["files"]), (0, &Value::from(0)));
        };
        all();
        assert!(!Path::new(data).exists(), "looking makes no directory");
        let mut server = home.serve(&["--data", data]);
        all();
        server.signal(Signal::TERM);
        assert_eq!(server.exit(), Some(0));
        all();
    }
}

#[test]
fn an_owner_that_was_killed_leaves_a_directory_that_can_be_used() {
    let home = Home::new();
    let long = home.path(&"long/".repeat(40));
    let runtime = home.path("run");
    std::fs::create_dir(&runtime).unwrap();
    let start = || {
        let mut command = home.command(&["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
        command.env("XDG_RUNTIME_DIR", &runtime).env("HUBCACHE_STORE__DIR", &long);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut line).unwrap();
        Server { child, stdout, ready: serde_json::from_str(&line).unwrap() }
    };
    let mut killed = start();
    killed.signal(Signal::KILL);
    killed.exit();
    assert!(!is_empty_dir(&runtime));
    let ls = home.run(&["ls", "--data", long.to_str().unwrap()]);
    assert_eq!(code(&ls), 0, "{}", stderr(&ls));
    let mut server = start();
    server.signal(Signal::TERM);
    assert_eq!(server.exit(), Some(0));
    assert!(is_empty_dir(&runtime), "what both left there is gone");
}

#[test]
fn a_taken_port_is_named_with_a_remedy() {
    let home = Home::new();
    let server = home.serve(&[]);
    let taken = server.address("listen");
    let other = home.path("other");
    let args = ["serve", "--listen", &taken, "--admin", "127.0.0.1:0", "--data", other.to_str().unwrap()];
    let second = home.run(&args);
    assert_eq!(code(&second), 69);
    let said = stderr(&second);
    assert!(said.contains(&taken) && said.contains("--listen"), "{said}");
}

#[test]
fn all_mistakes_in_settings_are_told_at_once_with_their_places() {
    let home = Home::new();
    std::fs::write(home.path("mine.toml"), "[cache]\nref_tl = 1\n\n[listen]\ndrain = \"long\"\n").unwrap();
    let file = home.path("mine.toml");
    let file = file.to_str().unwrap();
    for command in [&["serve"][..], &["config", "check"], &["config", "show"]] {
        let args = [command, &["--config", file, "--hub", "nexus=http://x"]].concat();
        let refused = home.command(&args).env("HUBCACHE_LOG__LEVEL", "loud").output().unwrap();
        assert_eq!(code(&refused), 78);
        let said = stderr(&refused);
        let places = [
            "mine.toml:2: cache.ref_tl: no such setting; did you mean cache.ref_ttl?",
            "mine.toml:5: listen.drain = \"long\": expected a duration",
            "HUBCACHE_LOG__LEVEL: log.level = \"loud\": expected",
            "--hub: there is no hub \"nexus\"",
        ];
        for place in places {
            assert!(said.contains(place), "{place} in\n{said}");
        }
    }
    let missing = home.run(&["serve", "--config", "/nowhere.toml"]);
    assert_eq!(code(&missing), 78);
}

#[test]
fn settings_in_force_are_shown_with_where_they_came_from() {
    let home = Home::new();
    let mut shown = home.command(&["config", "show", "--origin", "--listen", "127.0.0.1:1"]);
    let shown = shown.env("HUBCACHE_CACHE__HOLD", "9s").output().unwrap();
    let text = String::from_utf8(shown.stdout).unwrap();
    let line = |start: &str| text.lines().find(|l| l.starts_with(start)).unwrap_or_else(|| panic!("{text}"));
    assert!(line("address").ends_with("# --listen"));
    assert!(line("hold").ends_with("# HUBCACHE_CACHE__HOLD"));
    assert!(line("drip").ends_with("# default"));
    // What is shown is a settings file.
    std::fs::write(home.path("again.toml"), &text).unwrap();
    let again = home.run(&["config", "check", "--config", home.path("again.toml").to_str().unwrap()]);
    assert_eq!(code(&again), 0, "{}", stderr(&again));
}

#[test]
fn wrong_usage_ends_with_64() {
    let home = Home::new();
    for args in [&[][..], &["explode"], &["serve", "--nope"], &["rm"], &["ls", "nexus:a/b"], &["ls", "a/b@"]]
    {
        let refused = home.run(args);
        assert_eq!(code(&refused), 64, "{args:?}");
        assert!(!refused.stderr.is_empty());
    }
    let help = home.run(&["serve", "--help"]);
    assert_eq!(code(&help), 0);
    assert!(help.stderr.is_empty() && help.stdout.starts_with(b"Serve model files"));
}
