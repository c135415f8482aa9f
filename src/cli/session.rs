//! A session of the process that owns the data directory.

use std::io;
use std::path::Path;

use super::exit::{Exit, Failure, io_failure};
use super::owner;
use crate::admin::control::{Command, Connection, Lacking, Noted, Place, Reply, Wish};
use crate::config::Config;
use crate::model::Hub;

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

/// A session as these settings want it, for the text of a lock file.
pub fn wish(config: &Config, file: &Path, lock: String) -> Wish {
    let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let roots = Hub::MODELS.map(|hub| (hub, config.upstream.roots.root(hub).clone())).to_vec();
    Wish { lock, file, records: false, intercepts: false, roots }
}

impl Session {
    /// Opens one.
    pub async fn open(config: &Config, wish: Wish) -> Result<Self, Failure> {
        let (connection, first) = owner::ask_or_start(config, &Command::Session { wish }).await?;
        match *first {
            Reply::Session { session } => Ok(Self { connection, place: session }),
            Reply::Failed(failure) => Err(failure.into()),
            _ => Err(Failure::new(Exit::Software, "the owner of the data directory is of another version")),
        }
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
