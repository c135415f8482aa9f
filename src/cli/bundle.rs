//! Bundles as files: how one is written, and how one is read.

mod lend;
mod read;
mod settings;
mod verify;
mod write;

use std::path::Path;
use std::{fs, io};

use super::exit::{Exit, Failure, io_failure};

pub use read::Bundle;
pub use settings::Until;
pub use write::{Written, write};

/// Reads the file of a key.
pub fn key(path: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Failure::new(Exit::NoInput, format!("there is no {}", path.display())),
        _ => io_failure(format_args!("{} cannot be read", path.display()), &error),
    })
}
