//! Why a data directory cannot be used.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use redb::DatabaseError;

use super::error::StoreError;

/// Why a store could not be opened.
#[derive(Debug)]
pub enum OpenError {
    /// Another process has the directory.
    Owned {
        /// That process, if it wrote its id down.
        pid: Option<u32>,
        /// The data directory.
        dir: PathBuf,
    },
    /// The directory was written by a program that lays it out differently. Nothing was touched.
    Layout {
        /// The layout in the directory.
        found: u64,
        /// The layout that this program knows.
        supported: u64,
        /// The data directory.
        dir: PathBuf,
    },
    /// The directory lies on a network file system, where locks and syncs cannot be relied on.
    NetworkFileSystem {
        /// Its name.
        kind: &'static str,
        /// The data directory.
        dir: PathBuf,
    },
    /// The directory could not be created.
    Create {
        /// The data directory.
        dir: PathBuf,
        /// What the operating system said.
        io: io::Error,
    },
    /// A file could not be opened, read or written.
    Io {
        /// The file.
        file: PathBuf,
        /// What went wrong with it.
        source: Box<dyn Error + Send + Sync>,
    },
    /// A file is not what the store wrote.
    Damaged {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        source: Box<dyn Error + Send + Sync>,
    },
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Owned { pid: Some(pid), dir } => {
                write!(f, "{} is in use by process {pid}", dir.display())
            }
            Self::Owned { pid: None, dir } => write!(f, "{} is in use by another process", dir.display()),
            Self::Layout { found, supported, dir } => write!(
                f,
                "{} has layout {found}, and this program knows layout {supported}: use the program that wrote it, \
                 or another directory",
                dir.display()
            ),
            Self::NetworkFileSystem { kind, dir } => {
                write!(f, "{} lies on a network file system ({kind}): use a local disk", dir.display())
            }
            Self::Create { dir, .. } => write!(f, "cannot create {}", dir.display()),
            Self::Io { file, .. } => write!(f, "cannot open {}", file.display()),
            Self::Damaged { file, .. } => write!(f, "{} is damaged", file.display()),
        }
    }
}

impl Error for OpenError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Create { io, .. } => Some(io),
            Self::Io { source, .. } | Self::Damaged { source, .. } => Some(&**source),
            Self::Owned { .. } | Self::Layout { .. } | Self::NetworkFileSystem { .. } => None,
        }
    }
}

/// Sorts what went wrong inside of an open file.
pub(super) fn at_open(file: &Path, e: StoreError) -> OpenError {
    let file = file.to_owned();
    match e {
        StoreError::Damaged(_) => OpenError::Damaged { file, source: e.into() },
        _ => OpenError::Io { file, source: e.into() },
    }
}

/// Sorts what went wrong while redb opened a file.
pub(super) fn at_database(dir: &Path, file: &Path, e: DatabaseError) -> OpenError {
    let damaged = match &e {
        DatabaseError::DatabaseAlreadyOpen => return OpenError::Owned { pid: None, dir: dir.to_owned() },
        DatabaseError::Storage(redb::StorageError::Io(io)) => io.kind() == io::ErrorKind::InvalidData,
        DatabaseError::Storage(redb::StorageError::Corrupted(_)) => true,
        _ => false,
    };
    let (file, source) = (file.to_owned(), e.into());
    if damaged { OpenError::Damaged { file, source } } else { OpenError::Io { file, source } }
}
