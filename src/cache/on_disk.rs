//! Files that lie on the disk of this machine: read and hashed in pieces, and held against what is promised of them.

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use rustix::fs::OFlags;
use tokio::task::JoinHandle;

use crate::model::{Expectation, Promise, Sha256, Standing, Timestamp};
use crate::store::{CHUNK, StoreError};
use crate::verify::{self, Digester, Digests, Flaw, Verdict};

/// A file on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnDisk {
    /// Where it lies; no link.
    pub path: PathBuf,
    /// What its bytes must hash to, by the word of whoever put it there.
    pub promise: Option<Promise>,
    /// Since when it lies there.
    pub since: Timestamp,
}

/// Reads a file that is to be taken, and takes nothing. Blocks.
///
/// # Errors
/// See [`NotTaken`].
pub fn examine(path: &str, file: &OnDisk) -> Result<(Digests, Standing), NotTaken> {
    let opened = Opened::of(&file.path)?;
    let expected = Expectation { promises: file.promise.into_iter().collect(), ..Expectation::default() };
    let digests = opened.read(&expected.promises, |_| ControlFlow::Continue(()))?;
    judged(path, &expected, &digests).map(|standing| (digests, standing))
}

/// A file that is read, whatever its name stands for meanwhile.
pub(super) struct Opened {
    file: Arc<File>,
    pub(super) size: u64,
}

impl Opened {
    /// A link in its place is refused, and something that is no file is not waited for.
    pub(super) fn of(path: &Path) -> Result<Self, NotTaken> {
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let flags = i32::try_from(flags.bits()).expect("the flags of open are small numbers");
        let opened = File::options().read(true).custom_flags(flags).open(path);
        let file = opened.map_err(NotTaken::Unreadable)?;
        let about = file.metadata().map_err(NotTaken::Unreadable)?;
        if !about.is_file() {
            return Err(NotTaken::Unreadable(io::Error::other("it is no regular file")));
        }
        Ok(Self { size: about.len(), file: Arc::new(file) })
    }

    /// Reads and hashes all of it on a thread that may block, and hands on each chunk with the size of the whole.
    pub(super) fn reading(
        &self,
        promises: Vec<Promise>,
        mut each: impl FnMut(Bytes, u64) -> ControlFlow<()> + Send + 'static,
    ) -> JoinHandle<Result<Digests, NotTaken>> {
        let (file, size) = (Arc::clone(&self.file), self.size);
        let opened = Self { file, size };
        tokio::task::spawn_blocking(move || opened.read(&promises, |chunk| each(chunk, size)))
    }

    fn read(
        &self,
        promises: &[Promise],
        mut each: impl FnMut(Bytes) -> ControlFlow<()>,
    ) -> Result<Digests, NotTaken> {
        let mut digester = Digester::new(promises, Some(self.size));
        let mut at = 0;
        while at < self.size {
            let length = usize::try_from(self.size - at).unwrap_or(CHUNK).min(CHUNK);
            let mut chunk = BytesMut::zeroed(length);
            self.file.read_exact_at(&mut chunk, at).map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => NotTaken::Changed,
                _ => NotTaken::Unreadable(error),
            })?;
            digester.update(&chunk);
            at += length as u64;
            if each(chunk.freeze()).is_break() {
                return Err(NotTaken::Stopped);
            }
        }
        match self.file.read_at(&mut [0], at) {
            Ok(0) => Ok(digester.finish()),
            Ok(_) => Err(NotTaken::Changed),
            Err(error) => Err(NotTaken::Unreadable(error)),
        }
    }
}

/// Does work on a thread that may block.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, NotTaken> + Send + 'static,
) -> Result<T, NotTaken> {
    joined(tokio::task::spawn_blocking(work)).await
}

/// What came of work on a thread that may block.
pub(super) async fn joined<T>(work: JoinHandle<Result<T, NotTaken>>) -> Result<T, NotTaken> {
    work.await.unwrap_or(Err(NotTaken::Stopped))
}

/// Whether what was read may be kept.
pub(super) fn judged(path: &str, expected: &Expectation, found: &Digests) -> Result<Standing, NotTaken> {
    match verify::judge(path, expected, found) {
        Verdict::Good(standing) => Ok(standing),
        Verdict::Wrong(flaw) => Err(NotTaken::Wrong(flaw)),
    }
}

/// Why a file was not taken.
#[derive(Debug)]
pub enum NotTaken {
    /// It cannot be read here.
    Unreadable(io::Error),
    /// Its bytes are not what they must be.
    Wrong(Flaw),
    /// It became another while it was read.
    Changed,
    /// The revision, which cannot change, has other bytes here already.
    Conflict {
        /// What is held.
        held: Sha256,
        /// What the file has.
        offered: Sha256,
    },
    /// A client asked for the same file meanwhile, and what had been written gave way.
    Overtaken,
    /// It was no longer wanted.
    Stopped,
    /// The store failed.
    Store(StoreError),
}

impl fmt::Display for NotTaken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(error) => {
                write!(f, "whoever owns the data directory cannot read the file: {error}")
            }
            Self::Wrong(Flaw::Digest { promised, found }) => {
                write!(f, "it is damaged: {found}, and not {}", promised.digest)
            }
            Self::Wrong(Flaw::Html) => f.write_str("it is an HTML page in place of the file"),
            Self::Wrong(Flaw::LfsPointer) => f.write_str("it is a large-file pointer in place of the file"),
            Self::Wrong(Flaw::Length { .. }) | Self::Changed => f.write_str("it changed while it was read"),
            Self::Conflict { held, offered } => {
                write!(f, "it is sha256:{offered}, and this revision is held with sha256:{held}")
            }
            Self::Overtaken => f.write_str("a client asked for it meanwhile; the same command goes on"),
            Self::Stopped => f.write_str("it was no longer wanted"),
            Self::Store(_) => f.write_str("it could not be stored"),
        }
    }
}

impl std::error::Error for NotTaken {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Store(error) => Some(error),
            _ => None,
        }
    }
}

impl From<StoreError> for NotTaken {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}
