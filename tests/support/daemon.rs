//! The program under test as a child process, with a data directory of its own.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::client;
use super::hub::ScriptedHub;
use super::settings::ScriptedSettings;

/// How long a start, a stop or an awaited log line may take.
const PATIENCE: Duration = Duration::from_secs(40);

/// What a daemon is started with.
#[derive(Clone, Debug, Default)]
pub struct Builder {
    hubs: Vec<(String, String)>,
    settings: Vec<(String, String)>,
    environment: Vec<(String, String)>,
    arguments: Vec<String>,
    data: Option<PathBuf>,
}

impl Builder {
    /// Points both layouts at `hub`.
    pub fn hub(self, hub: &ScriptedHub) -> Self {
        self.root("huggingface", hub.url()).root("mozilla", hub.url())
    }

    /// Points one layout at `url`.
    pub fn root(mut self, name: &str, url: &str) -> Self {
        self.hubs.retain(|(n, _)| n != name);
        self.hubs.push((name.to_owned(), url.to_owned()));
        self
    }

    /// Sets `section.key` by way of the environment.
    pub fn set(mut self, key: &str, value: &str) -> Self {
        self.settings.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Watches and mirrors `settings`.
    pub fn remote_settings(self, settings: &ScriptedSettings) -> Self {
        self.set("settings.server", &settings.url()).set("settings.root", &settings.fingerprint())
    }

    /// Sets an environment variable as such.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds an argument to `serve`.
    pub fn arg(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// Keeps the data there instead of in a scratch directory, and leaves it there.
    pub fn data(mut self, data: &Path) -> Self {
        self.data = Some(data.to_owned());
        self
    }

    /// Starts it and waits until it is ready.
    ///
    /// # Panics
    /// When it ends instead, or takes too long; the message has its log.
    pub fn start(self) -> Daemon {
        self.try_start().unwrap_or_else(|(status, log)| panic!("hubcache did not start: {status:?}\n{log}"))
    }

    /// A data directory on which no server runs any more.
    ///
    /// # Panics
    /// As [`Builder::start`], and when it does not end well.
    pub fn alone(self) -> Daemon {
        let mut daemon = self.start();
        assert!(daemon.terminate().success(), "{}", daemon.log());
        daemon
    }

    /// Starts it; how it ended, and its log, if that was instead of becoming ready.
    pub fn try_start(self) -> Result<Daemon, (Option<ExitStatus>, String)> {
        let home = tempfile::tempdir().expect("a scratch directory can be made");
        let data = self.data.clone().unwrap_or_else(|| home.path().join("data"));
        let process = Process::start(&self, home.path(), &data, None)?;
        Ok(Daemon { builder: self, home, data, process })
    }

    fn environment_of_settings(&self, command: &mut Command) {
        // Nothing that a test did not start is asked; what a test says comes later.
        command.env("HUBCACHE_SETTINGS__SERVER", "off");
        for (name, url) in &self.hubs {
            command.env(format!("HUBCACHE_HUB__{}__URL", name.to_uppercase()), url);
        }
        for (key, value) in &self.settings {
            let name = key.to_uppercase().replace('.', "__");
            command.env(format!("HUBCACHE_{name}"), value);
        }
    }

    /// `serve` without its process: arguments and environment.
    fn command(&self, home: &Path, data: &Path, addresses: Option<(&str, &str)>) -> Command {
        let mut command = program(home);
        let (listen, admin) = addresses.unwrap_or(("127.0.0.1:0", "127.0.0.1:0"));
        command.args(["serve", "--listen", listen, "--admin", admin, "--data"]).arg(data);
        for (name, url) in &self.hubs {
            command.arg("--hub").arg(format!("{name}={url}"));
        }
        self.environment_of_settings(&mut command);
        command.envs(self.environment.iter().map(|(n, v)| (n, v)));
        command.args(&self.arguments);
        command
    }
}

/// The binary with nothing of the user's environment and settings.
fn program(home: &Path) -> Command {
    // Another build of it, for what takes an optimised one.
    let other = std::env::var_os("HUBCACHE_TEST_PROGRAM");
    let mut command = Command::new(other.unwrap_or_else(|| env!("CARGO_BIN_EXE_hubcache").into()));
    command.env_clear().env("HOME", home).stdin(Stdio::null());
    // A coverage or sanitizer run names its files here.
    for name in ["PATH", "LLVM_PROFILE_FILE", "RUST_BACKTRACE"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
}

/// A running `hubcache serve`, killed when dropped; after a failed test its log goes to stderr.
pub struct Daemon {
    builder: Builder,
    home: TempDir,
    data: PathBuf,
    process: Process,
}

impl Daemon {
    /// What to start with.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Starts one for both layouts of `hub`, with the default settings.
    pub fn start(hub: &ScriptedHub) -> Self {
        Self::builder().hub(hub).start()
    }

    /// `http://127.0.0.1:PORT` of the proxy.
    pub fn url(&self) -> String {
        format!("http://{}", self.process.listen)
    }

    /// `127.0.0.1:PORT` of the proxy.
    pub fn listen(&self) -> &str {
        &self.process.listen
    }

    /// `127.0.0.1:PORT` where it speaks TLS.
    ///
    /// # Panics
    /// When it does nowhere.
    pub fn listen_tls(&self) -> &str {
        self.process.listen_tls.as_deref().expect("it speaks TLS")
    }

    /// `http://127.0.0.1:PORT` of the operators' door.
    pub fn admin_url(&self) -> String {
        format!("http://{}", self.process.admin)
    }

    /// The data directory.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The process id that the ready line named.
    pub fn pid(&self) -> u32 {
        self.process.pid
    }

    /// Kills it at once, as a crash would.
    pub fn kill9(&mut self) {
        self.process.kill();
    }

    /// Asks it to end, and waits.
    ///
    /// # Panics
    /// When it takes longer than 40 s.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// Sends a signal and does not wait.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.process.child);
        kill_process(pid, signal).expect("the child was not waited for yet");
    }

    /// Waits until it ends by itself.
    ///
    /// # Panics
    /// When it takes longer than 40 s.
    pub fn wait(&mut self) -> ExitStatus {
        self.process.wait(PATIENCE).unwrap_or_else(|| panic!("hubcache does not end\n{}", self.log()))
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.process.child.try_wait().expect("a child can be asked").is_none()
    }

    /// Starts it again on the same data and the same addresses; kills it first if it still runs.
    pub fn restart(&mut self) {
        self.process.kill();
        let addresses = (self.process.listen.as_str(), self.process.admin.as_str());
        self.process = Process::start(&self.builder, self.home.path(), &self.data, Some(addresses))
            .unwrap_or_else(|(status, log)| panic!("hubcache did not start again: {status:?}\n{log}"));
    }

    /// As [`Daemon::restart`], with `section.key` set to something else.
    pub fn restart_with(&mut self, settings: &[(&str, &str)]) {
        for (key, value) in settings {
            self.builder.settings.retain(|(k, _)| k != key);
            self.builder.settings.push(((*key).to_owned(), (*value).to_owned()));
        }
        self.restart();
    }

    /// Runs another command of the program on the same data directory: `&["ls", "--json"]`.
    pub fn command(&self, arguments: &[&str]) -> Output {
        let mut command = program(self.home.path());
        command.args(arguments).arg("--data").arg(&self.data);
        self.builder.environment_of_settings(&mut command);
        command.output().expect("the program can be run")
    }

    /// Another command of the program on the same data directory, yet to be run, as a process that ends with `--` and
    /// somebody's command line cannot be given flags at its end.
    pub fn program(&self, arguments: &[&str]) -> Command {
        let mut command = program(self.home.path());
        command.args(arguments).env("HUBCACHE_STORE__DIR", &self.data);
        self.builder.environment_of_settings(&mut command);
        command
    }

    /// The text of `/metrics`.
    pub fn metrics(&self) -> String {
        let reply = client::get(&format!("{}/metrics", self.admin_url()));
        assert_eq!(reply.status, 200, "{}", reply.text());
        String::from_utf8(reply.body).expect("metrics are text")
    }

    /// The sum of the samples called `name` that have all of `labels`.
    pub fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.metrics()
            .lines()
            .filter_map(|line| sample(line, name))
            .filter(|(has, _)| labels.iter().all(|(key, value)| has.contains(&format!("{key}=\"{value}\""))))
            .map(|(_, value)| value)
            .sum()
    }

    /// What it has logged since its last start.
    pub fn log(&self) -> String {
        self.process.log.text()
    }

    /// Waits for a log line that contains `text`, and returns the first.
    ///
    /// # Panics
    /// When none came in 40 s.
    pub fn wait_for_log(&self, text: &str) -> String {
        self.process
            .log
            .wait_for(text, PATIENCE)
            .unwrap_or_else(|| panic!("no log line with {text:?}\n{}", self.log()))
    }

    /// Memory of its own that it holds now, in bytes, without what it has mapped of files.
    ///
    /// # Panics
    /// Where the system does not tell.
    pub fn anonymous_memory_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it runs");
        let line = status.lines().find_map(|l| l.strip_prefix("RssAnon:")).expect("Linux tells");
        let kib = line.trim().strip_suffix(" kB").and_then(|n| n.parse::<u64>().ok());
        kib.expect("a number of KiB") * 1024
    }

    /// The most memory that it has held, in bytes, where the system tells.
    pub fn peak_memory_bytes(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).ok()?;
        let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
        Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.process.kill();
        if thread::panicking() {
            eprintln!("--- log of hubcache ---\n{}", self.log());
        }
    }
}

/// The labels and the value of a line of the Prometheus text format, if it is a sample called `name`.
fn sample<'a>(line: &'a str, name: &str) -> Option<(&'a str, f64)> {
    let rest = line.strip_prefix(name)?;
    let (labels, value) = match rest.strip_prefix('{') {
        Some(rest) => rest.split_once("} ")?,
        None => ("", rest.strip_prefix(' ')?),
    };
    // A timestamp may follow.
    let value = value.split(' ').next()?.parse().ok()?;
    Some((labels, value))
}

/// One start of the program.
struct Process {
    child: Child,
    listen: String,
    listen_tls: Option<String>,
    admin: String,
    pid: u32,
    log: Arc<Log>,
}

impl Process {
    fn start(
        builder: &Builder,
        home: &Path,
        data: &Path,
        addresses: Option<(&str, &str)>,
    ) -> Result<Self, (Option<ExitStatus>, String)> {
        let mut child = builder
            .command(home, data, addresses)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program can be run");
        let stderr = child.stderr.take().expect("stderr is a pipe");
        let stdout = child.stdout.take().expect("stdout is a pipe");
        let log = Arc::new(Log::default());
        let kept = log.clone();
        let logging = thread::spawn(move || kept.read(BufReader::new(stderr)));
        let (first, ready) = std::sync::mpsc::sync_channel(1);
        thread::spawn(move || {
            let mut lines = BufReader::new(stdout).lines();
            // Dropping the sender tells that there will be no line.
            if let Some(Ok(line)) = lines.next() {
                let _ = first.send(line);
            }
            // A full pipe would block the program.
            for _ in lines {}
        });
        let mut process =
            Self { child, listen: String::new(), listen_tls: None, admin: String::new(), pid: 0, log };
        let line = ready.recv_timeout(PATIENCE);
        let ready: Option<serde_json::Value> = line.ok().and_then(|l| serde_json::from_str(&l).ok());
        let text = |key: &str| ready.as_ref()?.get(key)?.as_str().map(str::to_owned);
        let (Some("ready"), Some(listen), Some(admin)) =
            (text("event").as_deref(), text("listen"), text("admin"))
        else {
            let status = process.wait(Duration::from_secs(5));
            process.kill();
            // The pipe has ended with the process, so this has an end, and the log is whole.
            let _ = logging.join();
            return Err((status, process.log.text()));
        };
        process.listen = listen;
        process.listen_tls = text("listen_tls");
        process.admin = admin;
        let pid = ready.as_ref().and_then(|r| r["pid"].as_u64()).and_then(|p| u32::try_from(p).ok());
        process.pid = pid.expect("the ready line names the pid");
        Ok(process)
    }

    fn wait(&mut self, patience: Duration) -> Option<ExitStatus> {
        let until = Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child can be asked") {
                return Some(status);
            }
            if Instant::now() >= until {
                return None;
            }
            // The standard library has no wait with a deadline.
            thread::sleep(Duration::from_millis(2));
        }
    }

    fn kill(&mut self) {
        // Both fail only for a child that was waited for already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The last lines of a log.
#[derive(Default)]
struct Log {
    lines: Mutex<VecDeque<String>>,
    more: Condvar,
}

impl Log {
    const LINES: usize = 20_000;

    fn read(&self, from: impl std::io::BufRead) {
        for line in from.lines().map_while(Result::ok) {
            let mut lines = self.lines();
            if lines.len() == Self::LINES {
                lines.pop_front();
            }
            lines.push_back(line);
            self.more.notify_all();
        }
    }

    fn text(&self) -> String {
        self.lines().iter().fold(String::new(), |text, line| text + line + "\n")
    }

    fn wait_for(&self, text: &str, patience: Duration) -> Option<String> {
        let find = |lines: &VecDeque<String>| lines.iter().find(|l| l.contains(text)).cloned();
        let (lines, _) = self
            .more
            .wait_timeout_while(self.lines(), patience, |lines| find(lines).is_none())
            .expect("no thread panics while it holds the log");
        find(&lines)
    }

    fn lines(&self) -> MutexGuard<'_, VecDeque<String>> {
        self.lines.lock().expect("no thread panics while it holds the log")
    }
}
