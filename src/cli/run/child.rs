//! The program of a run: started, told of signals, and waited for.
//!
//! The program stays in the process group of this one, so that the terminal can stop and go on with both. What is typed
//! there reaches both; what is sent to this process alone is handed on.

use std::ffi::OsString;
use std::io::{self, IsTerminal as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Command;
use tokio::signal::unix::{Signal as Caught, SignalKind, signal};

use super::super::exit::{Exit, Failure, io_failure};
use super::environment::Change;

/// As what a shell ends when there is no such program, and when it cannot be run.
const NOT_FOUND: u8 = 127;
const NOT_RUNNABLE: u8 = 126;
/// What a shell adds to the number of a signal that ended a program.
const BY_SIGNAL: u8 = 128;

/// Runs a program with a changed environment, until it ends; as what.
pub async fn run(program: &[OsString], changes: &[Change]) -> Result<u8, Failure> {
    // Before it runs, so that no signal ends this process alone.
    let mut signals =
        Signals::install().map_err(|error| io_failure("signals cannot be handed on", &error))?;
    let (name, arguments) = program.split_first().expect("clap requires a program");
    let mut command = Command::new(name);
    command.args(arguments);
    for (name, value) in changes {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let mut child = command.spawn().map_err(|error| {
        let code = if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NOT_RUNNABLE };
        Failure::new(Exit::Other(code), format!("{} cannot be run: {error}", name.display()))
    })?;
    let id = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    loop {
        tokio::select! {
            status = child.wait() => return status.map(code).map_err(|error| io_failure("the program is lost", &error)),
            signal = signals.next() => if let Some(id) = id {
                // It may have ended in this moment, which the wait tells.
                let _ = kill_process(id, signal);
            },
        }
    }
}

/// As what a shell would say that a program ended.
fn code(status: ExitStatus) -> u8 {
    let by_signal = || status.signal().map(|signal| i32::from(BY_SIGNAL) + signal);
    let code = status.code().or_else(by_signal).unwrap_or(i32::from(Exit::Software.code()));
    u8::try_from(code).unwrap_or(u8::MAX)
}

/// The signals that are handed on.
struct Signals(Vec<(Caught, Option<Signal>)>);

impl Signals {
    fn install() -> io::Result<Self> {
        // Whoever types these at a terminal sends them to the program as well.
        let typed = |signal| (!has_terminal()).then_some(signal);
        let all = [
            (SignalKind::interrupt(), typed(Signal::INT)),
            (SignalKind::quit(), typed(Signal::QUIT)),
            (SignalKind::terminate(), Some(Signal::TERM)),
            (SignalKind::hangup(), Some(Signal::HUP)),
            (SignalKind::user_defined1(), Some(Signal::USR1)),
            (SignalKind::user_defined2(), Some(Signal::USR2)),
        ];
        all.into_iter().map(|(kind, sent)| Ok((signal(kind)?, sent))).collect::<io::Result<_>>().map(Self)
    }

    /// The next one that is to be handed on.
    async fn next(&mut self) -> Signal {
        std::future::poll_fn(|cx| {
            for (caught, sent) in &mut self.0 {
                if caught.poll_recv(cx).is_ready() {
                    cx.waker().wake_by_ref();
                    if let Some(signal) = sent {
                        return std::task::Poll::Ready(*signal);
                    }
                }
            }
            std::task::Poll::Pending
        })
        .await
    }
}

/// Whether this process is in the foreground of a terminal.
fn has_terminal() -> bool {
    let stdin = io::stdin();
    stdin.is_terminal()
        && rustix::termios::tcgetpgrp(&stdin).is_ok_and(|group| group == rustix::process::getpgrp())
}
