//! Why something of the server was not taken over.

use std::fmt;
use std::time::Duration;

use http::StatusCode;

use super::wire::Unreadable;
use crate::store::StoreError;
use crate::upstream::Failure;
use crate::verify::signature::BadSignature;

/// Why a state of a collection, or anything else of the server, was not taken over.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The server asked to be left alone for so long yet.
    LeftAlone(Duration),
    /// It could not be asked.
    Failure(Failure),
    /// It answered with another status than 200.
    Status(StatusCode),
    /// Its answer cannot be used.
    Unreadable(Unreadable),
    /// What it sent is not signed.
    Unsigned(BadSignature),
    /// It is signed, and older than what is held.
    Replay { held: u64, offered: u64 },
    /// The list of changes does not have it.
    Unlisted,
    /// It could not be stored.
    Store(StoreError),
}

impl Trouble {
    /// Whether the server itself is out of order, and not one collection.
    pub(super) fn is_of_server(&self) -> bool {
        match self {
            Self::Failure(Failure::Down { .. }) => true,
            Self::Status(status) => {
                matches!(*status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE)
            }
            _ => false,
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LeftAlone(left) => {
                write!(f, "the server asked to be left alone for {} s more", left.as_secs().max(1))
            }
            Self::Failure(failure) => {
                let cause = std::error::Error::source(failure).map(|cause| format!(": {cause}"));
                write!(f, "the server cannot be asked: {failure}{}", cause.unwrap_or_default())
            }
            Self::Status(status) => write!(f, "the server answered {status}"),
            Self::Unreadable(why) => why.fmt(f),
            Self::Unsigned(why) => why.fmt(f),
            Self::Replay { held, offered } => {
                write!(f, "a replay: the state of {offered} was offered, and that of {held} is held")
            }
            Self::Unlisted => f.write_str("the server does not list the collection"),
            Self::Store(why) => write!(f, "it cannot be stored: {why}"),
        }
    }
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl From<Unreadable> for Trouble {
    fn from(why: Unreadable) -> Self {
        Self::Unreadable(why)
    }
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}
