//! How asking a hub can fail, by what the asker does about it.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, StatusCode, header};

use super::connect::ConnectError;
use super::holdoff::{named_wait, retry_after};
use super::trouble::{Trouble, chain};
use crate::hub::Misread;
use crate::policy::Denial;
use crate::telemetry::Limit;

/// Why a request to a hub gave no file.
#[derive(Debug)]
pub enum Failure {
    /// No connection, or one that broke before the head of a response.
    Unreachable(Box<dyn std::error::Error + Send + Sync>),
    /// A connection that the egress rules forbid.
    Denied(Denial),
    /// No head within the time limit.
    TimedOut,
    /// Not asked, because all connections to the host that may be are in use.
    Crowded,
    /// Not asked, because the hub is down.
    Down {
        /// How it failed last.
        last: Arc<str>,
    },
    /// An answer that says too little to be used.
    Misread(Misread),
    /// A redirect without a usable target, to a weaker scheme, or one too many.
    BadRedirect(&'static str),
    /// A body in an encoding that was not asked for and is not known.
    Encoding(String),
    /// A 206 that does not begin where it was asked to.
    Shifted,
    /// 416: the file is shorter than it was.
    OutOfRange,
    /// An answer of the API that is longer than is read at once, in bytes.
    TooLong {
        /// The limit.
        limit: usize,
    },
    /// Any other status.
    Refused(Box<Refusal>),
}

impl Failure {
    /// What a failed request was, told by what lies behind its error.
    pub(super) fn of_connection(error: Box<dyn std::error::Error + Send + Sync>) -> Self {
        let denied = chain(error.as_ref()).find_map(|e| match e.downcast_ref() {
            Some(ConnectError::Denied(denial)) => Some(denial.clone()),
            _ => None,
        });
        denied.map_or(Self::Unreachable(error), Self::Denied)
    }

    /// Whether the hub is down or overloaded, so that stale is better than this.
    pub fn is_down(&self) -> bool {
        match self {
            Self::Refused(r) => {
                !r.at_hub || r.status.is_server_error() || r.status == StatusCode::TOO_MANY_REQUESTS
            }
            _ => true,
        }
    }

    /// Whether nobody answered, or one who is out of order: another may answer in its place.
    pub(super) fn is_unanswered(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::TimedOut | Self::Down { .. } => true,
            Self::Refused(r) => r.status.is_server_error() || r.status == StatusCode::TOO_MANY_REQUESTS,
            _ => false,
        }
    }

    /// Whether the hub says that the caller may not read the file, or that there is none.
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Refused(r) if r.at_hub && matches!(r.status.as_u16(), 401 | 403 | 404))
    }

    /// Whether the hub was asked too often.
    pub fn is_limited(&self) -> bool {
        matches!(self, Self::Refused(r) if r.at_hub && r.status == StatusCode::TOO_MANY_REQUESTS)
    }

    /// Whether with other credentials the answer may be another: access is denied, or asked for too often.
    pub fn depends_on_caller(&self) -> bool {
        self.is_denied() || self.is_limited()
    }

    /// Whether what came was not HTTP, as opposed to nothing.
    pub fn is_garbled(&self) -> bool {
        self.trouble() == Some(Trouble::Garbled)
    }

    /// The name of it in `Proxy-Status` (RFC 9209, section 2.3).
    pub fn proxy_error(&self) -> &'static str {
        match (self, self.trouble()) {
            (_, Some(trouble)) => trouble.name(),
            (Self::TimedOut, None) => "http_response_timeout",
            (Self::Denied(Denial::Own(_)), None) => "proxy_loop_detected",
            (Self::Denied(_), None) => "destination_ip_prohibited",
            (Self::Down { .. }, None) => "destination_unavailable",
            (Self::Crowded, None) => "connection_limit_reached",
            (_, None) => "http_protocol_error",
        }
    }

    /// What stood between the request and its answer, where none came.
    pub fn trouble(&self) -> Option<Trouble> {
        match self {
            Self::Unreachable(e) => Some(Trouble::of(e.as_ref())),
            _ => None,
        }
    }

    /// How long the hub asked to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused(r) => r.retry_after(),
            _ => None,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(_) => f.write_str("the hub cannot be reached"),
            Self::Denied(denial) => write!(f, "the connection is not allowed: {denial}"),
            Self::TimedOut => f.write_str("the hub did not answer in time"),
            Self::Crowded => f.write_str(Limit::HubConnections.phrase()),
            Self::Down { last } => {
                write!(f, "the hub is down and not asked until it answers a probe (last: {last})")
            }
            Self::Misread(_) => f.write_str("the hub's answer cannot be used"),
            Self::BadRedirect(why) => write!(f, "the hub's redirect {why}"),
            Self::Encoding(name) => write!(f, "the hub sent the encoding {name:?}, which was not asked for"),
            Self::Shifted => f.write_str("the hub sent another range than it was asked for"),
            Self::OutOfRange => f.write_str("the hub's file is shorter than it was"),
            Self::TooLong { limit } => write!(f, "the hub's answer is longer than {limit} bytes"),
            Self::Refused(r) => {
                let whose = if r.at_hub { "hub" } else { "hub's content network" };
                write!(f, "the {whose} answered {}", r.status)
            }
        }
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreachable(e) => Some(e.as_ref()),
            Self::Misread(e) => Some(e),
            _ => None,
        }
    }
}

/// A hub's own answer that brings no file, as far as it may be handed on.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// The status.
    pub status: StatusCode,
    /// Whether the hub itself said so, and not its content network.
    pub at_hub: bool,
    /// Whether a mirror said so in the hub's place: then it says nothing about who may read.
    pub by_mirror: bool,
    /// The fields that clients read.
    pub headers: HeaderMap,
    /// The text, at most 16 KiB.
    pub body: Bytes,
}

/// Fields of a refusal that are handed on.
const HANDED_ON: [HeaderName; 9] = [
    header::CONTENT_TYPE,
    header::RETRY_AFTER,
    header::WWW_AUTHENTICATE,
    HeaderName::from_static("x-error-code"),
    HeaderName::from_static("x-error-message"),
    HeaderName::from_static("x-repo-commit"),
    HeaderName::from_static("ratelimit"),
    HeaderName::from_static("ratelimit-policy"),
    HeaderName::from_static("x-request-id"),
];

impl Refusal {
    pub(super) fn new(status: StatusCode, at_hub: bool, headers: &HeaderMap, body: Bytes) -> Self {
        let mut kept = HeaderMap::new();
        for name in &HANDED_ON {
            if let Some(value) = headers.get(name) {
                kept.insert(name, value.clone());
            }
        }
        Self { status, at_hub, by_mirror: false, headers: kept, body }
    }

    /// How long the hub asked to be left alone.
    fn retry_after(&self) -> Option<Duration> {
        let now = SystemTime::now();
        match self.status {
            StatusCode::TOO_MANY_REQUESTS => named_wait(&self.headers, now),
            _ => retry_after(&self.headers, now),
        }
    }
}
