//! A directory for as long as this process lives: what a program that is run takes for its own cache, and the index of a
//! bundle that is served.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;

use super::exit::{Exit, Failure, io_failure};
use super::setup;

/// A fresh directory for this user alone, gone with its owner.
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes one where temporary files go.
    pub fn new() -> Result<Self, Failure> {
        let path = std::env::temp_dir().join(format!("hubcache-{:016x}", fastrand::u64(..)));
        let made = DirBuilder::new().mode(0o700).create(&path);
        let made = made.and_then(|()| DirBuilder::new().create(path.join("home")));
        made.map_err(|error| {
            Failure::new(Exit::CantCreate, format!("{} cannot be made: {error}; set TMPDIR", path.display()))
        })?;
        Ok(Self(path))
    }

    /// The data directory of a server that has none.
    pub fn data(&self) -> PathBuf {
        self.0.join("data")
    }

    /// What is HF_HOME to the program.
    pub fn home(&self) -> PathBuf {
        self.0.join("home")
    }

    /// Writes what the program has to trust: this authority, what the system trusts, and what the user's own file has.
    pub fn certificates(&self, own: &str) -> Result<PathBuf, Failure> {
        let path = self.0.join("certificates.pem");
        let theirs = std::env::var_os("REQUESTS_CA_BUNDLE").map(PathBuf::from).unwrap_or_default();
        let theirs = fs::read_to_string(theirs).unwrap_or_default();
        let written = fs::write(&path, format!("{}{theirs}", setup::bundle(own)));
        written.map_err(|error| io_failure(format_args!("{} cannot be written", path.display()), &error))?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A program that goes on in the background may hold files in it; the system clears what is left.
        let _ = fs::remove_dir_all(&self.0);
    }
}
