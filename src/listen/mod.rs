//! Sockets and connections: accepting, limits on them, and the end of them.
//!
//! Nothing here knows what a request means. A connection has at any moment at most one deadline, which depends on
//! what it is doing (`clock`); a permit is held as long as the connection lives, and beyond the limit new ones
//! wait in the kernel's queue instead of in memory.

mod clock;
mod connection;
mod server;
mod stream;

use std::net::SocketAddr;
use std::time::Duration;

pub use server::{Drained, serve};

/// The settings of the listener that clients talk to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where to listen; port 0 lets the system choose.
    pub address: SocketAddr,
    /// The limits of each connection.
    pub limits: Limits,
    /// How long connections may go on after the stop.
    pub drain: Duration,
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
}

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its address.
    pub addr: SocketAddr,
}
