//! Files that are on this machine already: read and hashed in pieces, and held against what is promised of them.

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

use crate::model::{Expectation, Openness, Promise, Sha256, Standing, Timestamp};
use crate::store::{Blob, CHUNK, StoreError};
use crate::verify::{self, Digester, Digests, Flaw, Verdict};

/// A file that needs no hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offered {
    /// Where its bytes are.
    pub source: Source,
    /// What they must hash to, by the word of whoever put them there.
    pub promises: Vec<Promise>,
    /// What blob they must be; none if that is to be found out.
    pub sha256: Option<Sha256>,
    /// Since when they are there.
    pub since: Timestamp,
    /// Who may read them, by the word of whoever brings them.
    pub access: Openness,
}

/// Where the bytes of a file are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// They are a file; no link.
    File(PathBuf),
    /// They are a stretch of a larger file.
    Stretch {
        /// That file; no link.
        file: PathBuf,
        /// Where in it they begin.
        at: u64,
        /// How many they are.
        length: u64,
    },
    /// They are in memory.
    Memory(Bytes),
    /// They are held already, under another name.
    Held,
}

/// Reads a file that is to be taken, and takes nothing. Blocks.
///
/// # Errors
/// See [`NotTaken`].
pub fn examine(path: &str, file: &Offered) -> Result<(Digests, Standing), NotTaken> {
    let opened = Opened::of(&file.source)?;
    let expected = Expectation { promises: file.promises.clone(), ..Expectation::default() };
    let digests = opened.read(&expected.promises, |_| ControlFlow::Continue(()))?;
    judged(path, &expected, &digests).map(|standing| (digests, standing))
}

/// A file that is read, whatever its name stands for meanwhile.
#[derive(Clone)]
pub(super) struct Opened {
    bytes: Readable,
    pub(super) size: u64,
}

#[derive(Clone)]
enum Readable {
    /// A whole file, which must not be longer either.
    Whole(Arc<File>),
    /// What begins there in a file.
    Stretch(Arc<File>, u64),
    Memory(Bytes),
    Blob(Blob),
}

impl Opened {
    /// Bytes that are held.
    pub(super) fn held(blob: Blob) -> Result<Self, NotTaken> {
        let size = blob.size().ok_or(NotTaken::Changed)?;
        Ok(Self { bytes: Readable::Blob(blob), size })
    }

    /// A link in its place is refused, and something that is no file is not waited for.
    pub(super) fn of(source: &Source) -> Result<Self, NotTaken> {
        Ok(match source {
            Source::File(path) => {
                let (file, size) = open(path)?;
                Self { bytes: Readable::Whole(file), size }
            }
            Source::Stretch { file, at, length } => {
                let (file, size) = open(file)?;
                if at.checked_add(*length).is_none_or(|end| end > size) {
                    return Err(NotTaken::Changed);
                }
                Self { bytes: Readable::Stretch(file, *at), size: *length }
            }
            // Which bytes only the store can say.
            Source::Held => return Err(NotTaken::NotHeld),
            Source::Memory(bytes) => {
                Self { bytes: Readable::Memory(bytes.clone()), size: bytes.len() as u64 }
            }
        })
    }

    /// Reads and hashes all of it on a thread that may block, and hands on each chunk with the size of the whole.
    pub(super) fn reading(
        &self,
        promises: Vec<Promise>,
        mut each: impl FnMut(Bytes, u64) -> ControlFlow<()> + Send + 'static,
    ) -> JoinHandle<Result<Digests, NotTaken>> {
        let (opened, size) = (self.clone(), self.size);
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
            let chunk = self.bytes.chunk(at, self.size)?;
            digester.update(&chunk);
            at += chunk.len() as u64;
            if each(chunk).is_break() {
                return Err(NotTaken::Stopped);
            }
        }
        if self.bytes.goes_on(at)? { Err(NotTaken::Changed) } else { Ok(digester.finish()) }
    }
}

impl Readable {
    /// The chunk that begins at `at`, of all `size` bytes.
    fn chunk(&self, at: u64, size: u64) -> Result<Bytes, NotTaken> {
        let length = usize::try_from(size - at).unwrap_or(CHUNK).min(CHUNK);
        let (file, at) = match self {
            Self::Memory(bytes) => {
                let at = usize::try_from(at).expect("what is in memory has an address");
                return Ok(bytes.slice(at..at + length));
            }
            Self::Blob(blob) => {
                let index = u32::try_from(at / CHUNK as u64).unwrap_or(u32::MAX);
                return Ok(blob.read(index)?);
            }
            Self::Whole(file) => (file, at),
            Self::Stretch(file, from) => (file, from + at),
        };
        let mut chunk = BytesMut::zeroed(length);
        file.read_exact_at(&mut chunk, at).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => NotTaken::Changed,
            _ => NotTaken::Unreadable(error),
        })?;
        Ok(chunk.freeze())
    }

    /// Whether a whole file has become longer than it was.
    fn goes_on(&self, at: u64) -> Result<bool, NotTaken> {
        let Self::Whole(file) = self else { return Ok(false) };
        file.read_at(&mut [0], at).map(|read| read > 0).map_err(NotTaken::Unreadable)
    }
}

fn open(path: &Path) -> Result<(Arc<File>, u64), NotTaken> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).expect("the flags of open are small numbers");
    let opened = File::options().read(true).custom_flags(flags).open(path);
    let file = opened.map_err(NotTaken::Unreadable)?;
    let about = file.metadata().map_err(NotTaken::Unreadable)?;
    if !about.is_file() {
        return Err(NotTaken::Unreadable(io::Error::other("it is no regular file")));
    }
    Ok((Arc::new(file), about.len()))
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
    /// Its bytes were said to be here, and are not.
    NotHeld,
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
            Self::NotHeld => f.write_str("its bytes are not held under another name either"),
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
