//! The process that owns the data directory, asked, and started where there is none.
//!
//! **States.** Nobody owns the directory: an owner is started, and says on its standard output that it can be asked, or
//! why it cannot start. Somebody owns it, and answers. That one may just be leaving, and then the connection ends before
//! anything was said: all begins anew. A command may own the directory for a moment without being one who can be asked:
//! its end is waited for.

use std::io;
use std::process::Stdio;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command as Process;
use tokio::time::{Instant, sleep};

use super::exit::{Exit, Failure, io_failure};
use crate::admin::control::{self, Command, Connection, Reply};
use crate::config::Config;

/// The command that owns the data directory for others.
pub const OWN: &str = "own";
/// How long an owner is waited for that can be asked.
const PATIENCE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);

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

/// What became of a command that was sent to the owner.
pub enum Asked {
    /// The first line of the answer.
    Answered(Connection, Box<Reply>),
    /// It has left without a word.
    Left,
    /// Nobody is there who could be asked.
    Nobody,
}

/// Sends a command to the owner of the data directory.
pub async fn ask(config: &Config, command: &Command) -> Result<Asked, Failure> {
    let dir = &config.store.dir;
    let unreachable =
        |error| io_failure(format_args!("the owner of {} cannot be asked", dir.display()), &error);
    let Some(mut connection) = control::connect(dir).await.map_err(unreachable)? else {
        return Ok(Asked::Nobody);
    };
    if connection.send(command).await.is_err() {
        return Ok(Asked::Left);
    }
    Ok(match connection.first().await {
        Some(first) => Asked::Answered(connection, Box::new(first)),
        None => Asked::Left,
    })
}

/// Sends a command to the owner of the data directory, which is started if there is none.
pub async fn ask_or_start(config: &Config, command: &Command) -> Result<(Connection, Box<Reply>), Failure> {
    let began = Instant::now();
    let mut last = None;
    while began.elapsed() < PATIENCE {
        match ask(config, command).await? {
            Asked::Answered(connection, first) => return Ok((connection, first)),
            Asked::Left => sleep(POLL).await,
            Asked::Nobody => match start(config).await? {
                Started::Ready => {}
                Started::Failed { error, exit } if exit == Exit::TryAgain.code() => {
                    last = Some(error);
                    sleep(POLL).await;
                }
                Started::Failed { error, exit } => return Err(Failure::new(Exit::Other(exit), error)),
            },
        }
    }
    let why = last.unwrap_or_else(|| "no owner of the data directory stays".to_owned());
    Err(Failure::new(Exit::TryAgain, why))
}

/// Starts an owner, in the background and without a terminal, and waits for its first word.
async fn start(config: &Config) -> Result<Started, Failure> {
    let failed = |error: io::Error| io_failure("an owner of the data directory cannot be started", &error);
    let program = std::env::current_exe().map_err(failed)?;
    let mut process = Process::new(program);
    process.arg(OWN).args(&config.again).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = process.spawn().map_err(failed)?;
    let stdout = child.stdout.take().expect("it was piped");
    let line = BufReader::new(stdout).lines().next_line().await.map_err(failed)?.unwrap_or_default();
    serde_json::from_str(&line).map_err(|_| {
        let error = "an owner of the data directory was started and ended without a word; owner.log in it may tell why";
        Failure::new(Exit::Unavailable, error)
    })
}
