//! Commands to the process that owns the data directory.
//!
//! One process owns a data directory, and every other one asks it over a Unix socket: one line of JSON with a
//! [`Command`], then lines of JSON with a [`Reply`] each, of which the last is `{"done":..}` or
//! `{"error":..,"exit":..}`. Behind a [`Reply::Chunk`] come as many bytes as it says. Where nobody owns the directory,
//! the command line opens the store and calls [`execute()`] itself; only a server can say what [`Command::Status`] asks.

mod client;
mod command;
mod context;
mod execute;
mod line;
mod place;
mod reply;
mod server;
mod session;
mod status;

pub use client::{Connection, connect};
pub use command::{Command, Found, MAX_BLOBS, MAX_FOUND, MAX_READ, MAX_WANTED, Request, Selector, Wanted};
pub use context::{Context, Server};
pub use execute::execute;
pub use place::{Bound, bind, located};
pub use reply::{
    Answer, Brought, Failure, Listed, Moving, Progress, Reference, Reply, Row, Said, Space, Summary, chain,
};
pub use server::serve;
pub use session::{Lacking, Noted, Opened, Opening, Place, Refused, SessionAsked, Wish};
pub use status::{Condition, FillStatus, HubStatus, ScrubStatus, Status, Traffic};

#[cfg(test)]
pub(super) mod tests;
