//! What can go wrong in a store that is open.

use std::fmt;
use std::io;
use std::sync::Arc;

/// Why an operation on the store failed. Cheap to clone, because one failure can reach many readers.
#[derive(Clone, Debug)]
pub enum StoreError {
    /// The disk, or a quota, has no room for it; nothing that was acknowledged is lost.
    NoSpace,
    /// The operating system or redb failed.
    Io(Arc<dyn std::error::Error + Send + Sync>),
    /// What the store holds is not what its index says: a missing or short chunk, an unreadable record.
    Damaged(String),
    /// The partial fill was discarded, replaced or removed in the meantime.
    Gone,
    /// The caller broke a rule of the interface.
    Misuse(&'static str),
    /// The store is closed.
    Closed,
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSpace => f.write_str("no space left for the store"),
            Self::Io(_) => f.write_str("the store could not read or write its files"),
            Self::Damaged(what) => write!(f, "the store is damaged: {what}"),
            Self::Gone => f.write_str("the partial fill is no longer in the store"),
            Self::Misuse(rule) => write!(f, "the store was used wrongly: {rule}"),
            Self::Closed => f.write_str("the store is closed"),
        }
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(e) => Some(&**e),
            _ => None,
        }
    }
}

impl From<io::Error> for StoreError {
    fn from(e: io::Error) -> Self {
        if is_full(&e) { Self::NoSpace } else { Self::Io(Arc::new(e)) }
    }
}

/// A failure inside a transaction: either the handle refuses everything because of an earlier failure, and a new
/// handle may succeed, or this operation itself failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// redb latched an earlier I/O error; the database must be opened anew.
    Latched,
    /// This operation failed.
    Failed(StoreError),
}

impl From<StoreError> for Failure {
    fn from(e: StoreError) -> Self {
        Self::Failed(e)
    }
}

impl Failure {
    /// For where there is no second attempt.
    pub(super) fn into_error(self) -> StoreError {
        match self {
            Self::Failed(e) => e,
            Self::Latched => StoreError::Io(Arc::new(redb::Error::PreviousIo)),
        }
    }
}

/// Every error of redb, sorted by what can be done about it.
pub(super) fn classify(e: redb::Error) -> Failure {
    match e {
        redb::Error::PreviousIo | redb::Error::DatabaseClosed | redb::Error::LockPoisoned(_) => {
            Failure::Latched
        }
        redb::Error::Io(e) => Failure::Failed(e.into()),
        redb::Error::Corrupted(what) => Failure::Failed(StoreError::Damaged(what)),
        other => Failure::Failed(StoreError::Io(Arc::new(other))),
    }
}

macro_rules! from_redb {
    ($($error:ty),+) => {$(
        impl From<$error> for Failure {
            fn from(e: $error) -> Self {
                classify(e.into())
            }
        }
    )+};
}

from_redb!(
    redb::StorageError,
    redb::TableError,
    redb::TransactionError,
    redb::CommitError,
    redb::SetDurabilityError,
    redb::DatabaseError
);

/// Whether an I/O error means that there is no room, on the disk or in a quota.
pub(super) fn is_full(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
