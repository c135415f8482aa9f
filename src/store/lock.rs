//! One owner for a data directory.

use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::Path;

use super::disk::private;

/// The lock on a data directory, until it is dropped or the process ends.
#[derive(Debug)]
pub(super) struct DirLock(File);

impl Drop for DirLock {
    fn drop(&mut self) {
        // Closing alone is not enough: a child that another thread has just forked shares the lock until it execs.
        let _ = self.0.unlock();
    }
}

/// Who has the directory, told without taking it: `Some(None)` where that process has not written its id.
///
/// The lock is shared for a moment. A process that tries to own the directory right then may be refused, and those that
/// matter try for longer than that.
pub(super) fn holder(dir: &Path) -> io::Result<Option<Option<u32>>> {
    let mut file = match File::open(dir.join("lock")) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    match file.try_lock_shared() {
        Ok(()) => file.unlock().map(|()| None),
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let _ = file.read_to_string(&mut text);
            Ok(Some(text.trim().parse().ok()))
        }
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Who has the directory instead.
pub(super) enum Refused {
    /// Another process, by its own account this one.
    Owned(Option<u32>),
    /// The lock file could not be opened or written.
    Io(io::Error),
}

impl DirLock {
    /// Takes the lock and writes this process's id into it.
    pub(super) fn take(dir: &Path) -> Result<Self, Refused> {
        let mut file = private().create(true).open(dir.join("lock")).map_err(Refused::Io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                // The owner may be about to write it; then it is not known.
                let _ = file.read_to_string(&mut text);
                return Err(Refused::Owned(text.trim().parse().ok()));
            }
            Err(TryLockError::Error(e)) => return Err(Refused::Io(e)),
        }
        let written = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()));
        match written {
            // The id serves an error message only; a full disk must not keep the store from being read.
            Err(e) if !super::error::is_full(&e) => Err(Refused::Io(e)),
            _ => Ok(Self(file)),
        }
    }
}
