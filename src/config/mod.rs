//! Settings: the only place that reads them.
//!
//! Every key is declared once, in [`KEYS`]. From that one table come the sections of the files, the names of
//! environment variables, and the flags. A value is looked for in layers, and a later layer wins:
//! defaults, `/etc/hubcache/config.toml`, `/etc/hubcache/conf.d/*.toml` in order, the user's
//! `$XDG_CONFIG_HOME/hubcache/config.toml`, the file of `--config`, the environment, flags.
//! Every layer is read to its end before anything is refused, so all mistakes are told at once, each with its place.

mod compose;
mod file;
mod keys;
mod layers;
mod parent;
mod problem;
mod setting;

use std::ffi::OsString;
use std::path::PathBuf;

pub use keys::{KEYS, Key};
pub use layers::{Chosen, FlagValue, Sources, Values};
pub use problem::{Origin, Problem, Problems};
pub use setting::Raw;

use crate::model::Hub;
use crate::{admin, cache, listen, policy, proxy, remote_settings, store, telemetry, upstream};

/// The settings of every module.
#[derive(Clone, Debug)]
pub struct Config {
    /// Whether there is no way to the hubs.
    pub offline: bool,
    /// The lock that alone is served, if one is.
    pub frozen: Option<Frozen>,
    /// The listener that clients talk to.
    pub listen: listen::Settings,
    /// Who may use it.
    pub access: Access,
    /// The audit log, if there is one.
    pub audit: Option<PathBuf>,
    /// Where connections may go.
    pub egress: policy::Egress,
    /// The operators' door.
    pub admin: admin::Settings,
    /// The data directory.
    pub store: store::Settings,
    /// The hubs and how they are asked.
    pub upstream: upstream::Settings,
    /// Fills and what they keep in memory.
    pub cache: cache::Settings,
    /// What bounds requests and the bytes to clients.
    pub bounds: proxy::BoundSettings,
    /// How what is held is read again.
    pub scrub: cache::ScrubSettings,
    /// Remote Settings, if it is watched and mirrored.
    pub settings: Option<remote_settings::Settings>,
    /// What may be served, and how.
    pub policy: policy::Rules,
    /// The log on stderr.
    pub log: telemetry::log::Settings,
    /// The flags that give another process the same settings, in the same environment.
    pub again: Vec<OsString>,
}

/// Who may use the listeners.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// How that is found out.
    pub keeper: proxy::KeeperSettings,
    /// The file of tokens and rules.
    pub tokens: Option<PathBuf>,
}

/// What a frozen server works with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frozen {
    /// What is served.
    pub pinned: Pinned,
    /// Where to write at the end what was asked for and not served.
    pub missing_report: Option<PathBuf>,
    /// Rules by which answers go wrong on purpose.
    pub faults: Option<PathBuf>,
}

/// Where what is served stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pinned {
    /// In a lock file, over the data directory.
    Lock(PathBuf),
    /// In a bundle, over that.
    Bundle(PathBuf),
}

/// Settings that were read, and where each of them came from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What the program runs with.
    pub config: Config,
    /// The same as it was written, with origins.
    pub values: Values,
    /// The files that were read, in order.
    pub files: Vec<PathBuf>,
}

/// Reads all layers.
///
/// # Errors
/// Everything that is wrong in any of them.
pub fn load(sources: &Sources) -> Result<Loaded, Problems> {
    let layers::Read { values, files, mut problems } = layers::read(sources);
    if problems.is_empty() {
        problems = compose::contradictions(&values);
    }
    if !problems.is_empty() {
        return Err(Problems(problems));
    }
    let parent = parent::parent(&values, sources).map_err(|problem| Problems(vec![problem]))?;
    let token = parent::token(&values).map_err(|problem| Problems(vec![problem]))?;
    let mut config = compose::config(&values);
    config.upstream.parent = parent;
    config.upstream.credentials.extend(token.map(|token| (Hub::HuggingFace, token)));
    config.again = sources.again();
    Ok(Loaded { config, values, files })
}

#[cfg(test)]
mod tests;
