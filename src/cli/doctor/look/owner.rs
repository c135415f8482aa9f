//! Who has the data directory open, and what that tells. Nobody is started for it.

use super::super::announced::Announced;
use super::in_time;
use crate::admin::control::{self, Command, Reply, Status};
use crate::cli::owner::{self, Asked};
use crate::config::Config;
use crate::store::Look;

/// Who has a data directory open.
#[derive(Debug)]
pub enum Owner {
    /// A server.
    Server(Box<Status>),
    /// A process that was started for commands.
    Other,
    /// Nobody.
    Nobody,
    /// Nobody any more; the last one left without closing it.
    Stale,
    /// A process that does not answer; its id, if that is known.
    Silent(Option<u32>),
    /// Somebody whom this user cannot ask.
    Unreachable(String),
}

impl Owner {
    /// What the server says of itself.
    pub fn server(&self) -> Option<&Status> {
        match self {
            Self::Server(status) => Some(status),
            _ => None,
        }
    }
}

/// Asks whoever has the directory open.
pub async fn owner(config: &Config, look: Result<&Look, &str>) -> Owner {
    let held_by = || look.ok().and_then(|look| look.held_by.as_ref().ok()).copied().flatten();
    let asked =
        in_time(async { owner::ask(config, &Command::Status).await.map_err(|f| f.message().to_owned()) });
    match asked.await {
        Ok(Asked::Answered(_, first)) => match *first {
            Reply::Status { status } => Owner::Server(status),
            _ => Owner::Other,
        },
        Ok(Asked::Left | Asked::Nobody) => match held_by() {
            Some(pid) => Owner::Silent(pid),
            None if matches!(control::located(&config.store.dir), Ok(Some(_))) => Owner::Stale,
            None => Owner::Nobody,
        },
        Err(_) if held_by().is_some() => Owner::Silent(held_by().flatten()),
        Err(why) => Owner::Unreachable(why),
    }
}

/// What whoever has the directory open tells of Remote Settings.
pub async fn announced(config: &Config, owner: &Owner) -> Announced {
    if config.settings.is_none() {
        return Announced::Off;
    }
    if !matches!(owner, Owner::Server(_) | Owner::Other) {
        return Announced::Nobody;
    }
    let asked =
        in_time(async { owner::ask(config, &Command::Settings).await.map_err(|f| f.message().to_owned()) });
    match asked.await {
        Ok(Asked::Answered(_, first)) => match *first {
            Reply::Settings { settings } => Announced::Known(settings),
            // It watches nothing, whatever the settings of this command say.
            Reply::Done { .. } => Announced::Off,
            Reply::Failed(failure) => Announced::Unknown(failure.error),
            other => Announced::Unknown(format!("an answer that is none: {other:?}")),
        },
        Ok(Asked::Left | Asked::Nobody) => Announced::Nobody,
        Err(why) => Announced::Unknown(why),
    }
}
