//! A session of the process that owns the data directory, which is started where there is none.
//!
//! **States.** Nobody owns the directory: an owner is started, and says on its standard output that it can be asked, or
//! why it cannot start. Somebody owns it: the session is asked for. That owner may just be leaving, and then the
//! connection ends before anything was said: all begins anew, for [`PATIENCE`] at most. A command may own the directory
//! for a moment without being one who can be asked: then its end is waited for, as long.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command as Process;
use tokio::time::{Instant, sleep};

use super::exit::{Exit, Failure, io_failure};
use super::own;
use super::reach;
use crate::admin::control::{Command, Connection, Lacking, Noted, Place, Reply, Wish};
use crate::config::Config;
use crate::model::Hub;

/// How long an owner is waited for that can be asked.
const PATIENCE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);

/// A session that is open, until it is ended or dropped.
pub struct Session {
    connection: Connection,
    /// Where its clients connect.
    pub place: Place,
}

/// What a session was asked for beyond its lock.
#[derive(Default)]
pub struct Beyond {
    /// And did not serve.
    pub lacking: Vec<Lacking>,
    /// And had from the hub.
    pub noted: Vec<Noted>,
}

/// What an owner that was started says first.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "event")]
pub enum Started {
    /// It can be asked.
    Ready,
    /// It cannot own the directory.
    Failed {
        /// Why.
        error: String,
        /// As what it ended.
        exit: u8,
    },
}

/// A session as these settings want it, for the text of a lock file.
pub fn wish(config: &Config, file: &Path, lock: String) -> Wish {
    let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let roots = Hub::MODELS.map(|hub| (hub, config.upstream.roots.root(hub).clone())).to_vec();
    Wish { lock, file, records: false, intercepts: false, roots }
}

/// Lists what was asked for and not served, a line each: what, how often, why, and what would help; with tabs between.
pub fn report(out: &mut impl io::Write, lacking: &[Lacking]) -> io::Result<()> {
    for Lacking { what, times, why, remedy } in lacking {
        writeln!(out, "{what}\t{times}\t{why}\t{remedy}")?;
    }
    out.flush()
}

impl Session {
    /// Opens one; `flags` are those with which an owner is started.
    pub async fn open(config: &Config, flags: &[OsString], wish: Wish) -> Result<Self, Failure> {
        let command = Command::Session { wish };
        let began = Instant::now();
        let mut last = None;
        while began.elapsed() < PATIENCE {
            let Some(mut connection) = reach::owner(config, &command).await? else {
                match start_owner(flags).await? {
                    Started::Ready => {}
                    Started::Failed { error, exit } if exit == Exit::TryAgain.code() => {
                        last = Some(error);
                        sleep(POLL).await;
                    }
                    Started::Failed { error, exit } => return Err(Failure::new(Exit::Other(exit), error)),
                }
                continue;
            };
            match connection.first().await {
                Some(Reply::Session { session }) => return Ok(Self { connection, place: session }),
                Some(Reply::Failed(failure)) => return Err(failure.into()),
                Some(_) => {
                    return Err(Failure::new(
                        Exit::Software,
                        "the owner of the data directory is of another version",
                    ));
                }
                None => sleep(POLL).await,
            }
        }
        let why = last.unwrap_or_else(|| "no owner of the data directory stays".to_owned());
        Err(Failure::new(Exit::TryAgain, why))
    }

    /// Ends it, and tells what it was asked for beyond the lock.
    pub async fn end(mut self) -> Result<Beyond, Failure> {
        let gone = |error: io::Error| io_failure("the owner of the data directory is gone", &error);
        self.connection.finish().await.map_err(gone)?;
        let mut beyond = Beyond::default();
        loop {
            match self.connection.next().await {
                Reply::Lacking { lacking } => beyond.lacking.push(lacking),
                Reply::Noted { noted } => beyond.noted.push(noted),
                Reply::Failed(failure) => return Err(failure.into()),
                _ => return Ok(beyond),
            }
        }
    }
}

/// Starts an owner, in the background and without a terminal, and waits for its first word.
async fn start_owner(flags: &[OsString]) -> Result<Started, Failure> {
    let failed = |error: io::Error| io_failure("an owner of the data directory cannot be started", &error);
    let program = std::env::current_exe().map_err(failed)?;
    let mut process = Process::new(program);
    process.arg(own::NAME).args(flags).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = process.spawn().map_err(failed)?;
    let stdout = child.stdout.take().expect("it was piped");
    let line = BufReader::new(stdout).lines().next_line().await.map_err(failed)?.unwrap_or_default();
    serde_json::from_str(&line).map_err(|_| {
        let error = "an owner of the data directory was started and ended without a word; owner.log in it may tell why";
        Failure::new(Exit::Unavailable, error)
    })
}
