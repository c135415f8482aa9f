//! How a fill can fail.

use std::fmt;

use crate::model::Sha256;
use crate::policy::Barred;
use crate::store::StoreError;
use crate::telemetry::Limit;
use crate::upstream::Failure;
use crate::verify::Flaw;

/// Why a file did not arrive; one variant for each thing that is said to clients.
#[derive(Debug)]
pub enum FillError {
    /// The hub gave no file.
    Upstream(Failure),
    /// The hub broke off again and again without progress.
    Interrupted(Box<dyn std::error::Error + Send + Sync>),
    /// The bytes were not what was promised.
    Corrupt(Flaw),
    /// An immutable revision came with other bytes than those held.
    Conflict {
        /// What is held.
        held: Sha256,
        /// What came.
        offered: Sha256,
    },
    /// The hub's file kept changing while it was fetched.
    Unsteady,
    /// The attempt that a body had begun to send was given up.
    Replaced,
    /// The operator has nobody given it.
    Barred(Barred),
    /// The file is larger than the limit, in bytes.
    TooLarge {
        /// The limit.
        limit: u64,
    },
    /// There is no room for the file.
    NoSpace,
    /// What a late reader needs was not kept.
    Gone,
    /// The store failed otherwise.
    Store(StoreError),
    /// A limit on fills or their followers is reached.
    Busy(Limit),
    /// The program stops.
    Stopped,
    /// Nobody follows the fill, and what is left is more than is fetched for nobody.
    Orphaned,
    /// The fill's task ended without a word.
    Abandoned,
}

impl fmt::Display for FillError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Upstream(_) => f.write_str("the file could not be had from the hub"),
            Self::Interrupted(_) => f.write_str("the hub broke off repeatedly"),
            Self::Corrupt(_) => f.write_str("the hub sent wrong bytes"),
            Self::Conflict { held, offered } => write!(
                f,
                "this immutable revision is held as sha256:{held} and was offered as sha256:{offered}; \
                 remove the held one if the hub is right"
            ),
            Self::Unsteady => f.write_str("the hub's file kept changing"),
            Self::Replaced => f.write_str("the bytes sent so far were given up"),
            Self::Barred(why) => why.fmt(f),
            Self::TooLarge { limit } => {
                write!(f, "the file is larger than {limit} bytes (upstream.max_file)")
            }
            Self::NoSpace => f.write_str("there is no room for the file"),
            Self::Gone => f.write_str("the beginning of the file was not kept"),
            Self::Store(_) => f.write_str("the store failed"),
            Self::Busy(limit) => write!(f, "{} ({})", limit.phrase(), limit.setting()),
            Self::Stopped => f.write_str("the server stops"),
            Self::Orphaned => f.write_str("nobody waited for the file any more"),
            Self::Abandoned => f.write_str("the download ended unexpectedly"),
        }
    }
}

impl std::error::Error for FillError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Upstream(e) => Some(e),
            Self::Interrupted(e) => Some(e.as_ref()),
            Self::Corrupt(e) => Some(e),
            Self::Store(e) => Some(e),
            _ => None,
        }
    }
}

impl From<StoreError> for FillError {
    fn from(e: StoreError) -> Self {
        match e {
            StoreError::NoSpace => Self::NoSpace,
            other => Self::Store(other),
        }
    }
}
