//! Why a server does not start, or does not end well.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::tokens::TokensError;
use crate::listen::authority;
use crate::policy::Denial;
use crate::remote_settings::Undeliverable;
use crate::store::{self, StoreError};
use crate::upstream;

/// Why the program did not start, or did not end well.
#[derive(Debug)]
pub enum Error {
    /// The data directory could not be opened.
    Open(store::OpenError),
    /// The hubs cannot be asked, because what their certificates are checked with cannot be read.
    Upstream(upstream::BuildError),
    /// There is no certificate to speak TLS with.
    Certificate(authority::CaError),
    /// The file of tokens and rules is no use.
    Tokens(TokensError),
    /// The audit log cannot be written.
    Audit(PathBuf, io::Error),
    /// What is held of Remote Settings cannot be read.
    Settings(StoreError),
    /// The index of the bundle cannot be written.
    Lend(StoreError),
    /// What the bundle has of Remote Settings is refused.
    Delivered(Undeliverable),
    /// The parent proxy is this server.
    OwnParent(Denial),
    /// An address could not be listened on.
    Bind {
        /// Its setting.
        setting: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Commands cannot be taken.
    Control(io::Error),
    /// Signals cannot be waited for.
    Signals(io::Error),
    /// A part that runs until the end failed.
    Task(tokio::task::JoinError),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(_) => write!(f, "the data directory cannot be used"),
            Self::Upstream(_) => write!(f, "connections to the hubs cannot be set up"),
            Self::Certificate(_) => write!(f, "TLS cannot be spoken with clients"),
            Self::Tokens(_) => write!(f, "nobody can be known (access.tokens)"),
            Self::Audit(path, _) => {
                write!(f, "the audit log {} cannot be written (audit.file)", path.display())
            }
            Self::Settings(_) => write!(f, "what is held of Remote Settings cannot be read"),
            Self::Lend(_) => write!(f, "the index of the bundle cannot be written"),
            Self::Delivered(_) => write!(f, "the bundle cannot be served"),
            Self::OwnParent(_) => write!(f, "the parent proxy (upstream.proxy, HTTPS_PROXY) cannot be used"),
            Self::Bind { setting, address, .. } => write!(f, "cannot listen on {address} ({setting})"),
            Self::Control(_) => write!(f, "the control socket cannot be made"),
            Self::Signals(_) => write!(f, "signals cannot be waited for"),
            Self::Task(_) => write!(f, "a task that should run until the end failed"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Open(e) => Some(e),
            Self::Upstream(e) => Some(e),
            Self::Certificate(e) => Some(e),
            Self::Tokens(e) => Some(e),
            Self::Settings(e) | Self::Lend(e) => Some(e),
            Self::Delivered(e) => Some(e),
            Self::OwnParent(e) => Some(e),
            Self::Bind { source: e, .. } | Self::Control(e) | Self::Signals(e) | Self::Audit(_, e) => Some(e),
            Self::Task(e) => Some(e),
        }
    }
}
