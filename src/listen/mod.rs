//! Sockets and connections: accepting, limits on them, and the end of them.
//!
//! Nothing here knows what a request means. A connection is plain or TLS; a plain one becomes a tunnel when a CONNECT
//! request is answered with a [`Passage`](crate::proxy::Passage): bytes are relayed both ways, or TLS is spoken with a
//! certificate of the local authority ([`authority`]), and requests are read from that as from any other. A connection
//! has at any moment at most one deadline, which depends on what it is doing (`clock`); a permit is held as long as the
//! connection lives, and beyond the limit new ones wait in the kernel's queue instead of in memory.

pub mod authority;
mod clock;
mod connection;
mod given;
mod passage;
mod server;
mod stream;
mod strict;
mod tls;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use connection::{Handler, Service};
pub use given::Given;
pub use server::{Drained, serve};
pub use tls::Interceptor;

/// The settings of the listener that clients talk to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where to listen; port 0 lets the system choose.
    pub address: SocketAddr,
    /// Where to speak TLS.
    pub tls: Option<Tls>,
    /// Whether tunnels to hubs are intercepted, and with whose certificates.
    pub intercept: Intercept,
    /// The limits of each connection.
    pub limits: Limits,
    /// How long connections may go on after the stop.
    pub drain: Duration,
}

/// The settings of the listener that speaks TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Where to listen.
    pub address: SocketAddr,
    /// PEM: the certificate with its chain.
    pub certificate: PathBuf,
    /// PEM: its key.
    pub key: PathBuf,
    /// Whether clients are asked for a certificate, and by whom that must be vouched for.
    pub clients: Option<ClientCertificates>,
}

/// What certificates of clients must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificates {
    /// PEM: the authorities that vouch for them.
    pub authorities: PathBuf,
    /// Whether a client without one is turned away.
    pub required: bool,
}

/// The settings of interception.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intercept {
    /// Whether it is done.
    pub enabled: bool,
    /// The authority that issues certificates.
    pub files: authority::Files,
    /// Whether it is made where there is none; one that the operator named is not.
    pub is_own: bool,
}

/// What is spoken on the connections of a listener.
#[derive(Clone)]
pub enum Speaks {
    /// HTTP, and within tunnels what they are for; hubs' tunnels are intercepted if there is something to do it with.
    Plain(Option<Arc<Interceptor>>),
    /// HTTP within TLS.
    Tls(Arc<Given>),
}

/// What bounds connections, singly and together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// From the first byte of a request's head to its last.
    pub header_timeout: Duration,
    /// Between two requests, and between two reads of a request's body.
    pub idle_timeout: Duration,
    /// How long a client may take no byte of what is ready for it.
    pub write_timeout: Duration,
    /// Connections at a time.
    pub max_connections: usize,
    /// Connections at a time from one address; what comes beyond is closed at once.
    pub max_per_client: usize,
}
