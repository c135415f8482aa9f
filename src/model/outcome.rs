//! Every way in which a request can end, by name.

use std::fmt::Write as _;

/// What became of a request: the log field, the metric label, and the ground of `Cache-Status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    /// Answered from the store, without asking the hub.
    Hit,
    /// Answered from the store after the hub confirmed it.
    Revalidated,
    /// Answered from the store because the hub did not answer in time, or badly.
    Stale,
    /// A HEAD answered from what the hub said earlier of a file that is not held.
    Known,
    /// 404, as the hub said earlier that there is no such file.
    Absent,
    /// The first to ask for a file: a fill began.
    Miss,
    /// Followed a fill that another request began.
    Collapsed,
    /// The promised bytes were already held under another name; nothing was fetched.
    Linked,
    /// A HEAD answered by asking the hub.
    Asked,
    /// Handed to the hub with the caller's own credentials, because the answer depends on them; kept nowhere.
    Private,
    /// A file that was fetched or asked for with the caller's own credentials; it is kept for those whom the hub grants it.
    Granted,
    /// Answered from the store, because the hub accepts the caller's own credentials for it.
    Entitled,
    /// Fetched, verified and sent, but not kept, because there was no room.
    Unstored,
    /// Passed through to the hub: not a file, or not GET or HEAD.
    Passed,
    /// A tunnel to a place that is nothing to this server was opened.
    Relayed,
    /// A tunnel to a hub was opened, in which requests are answered here.
    Intercepted,
    /// Something of this server's own: the file for browsers' automatic proxy configuration.
    Own,
    /// A cross-origin preflight answered here.
    Preflight,
    /// 403: the egress rules do not allow to connect there.
    Forbidden,
    /// 403: the deny list of Remote Settings, or the operator's rules for models, have it.
    Denied,
    /// 401 or 407: who asks is not known; 403: and cannot be known over this connection.
    Unauthorized,
    /// 403: who asks is known and may not have it.
    NotPermitted,
    /// 508: the request has passed this server before.
    Looped,
    /// 400 or 421: the request is malformed, or for another host than its connection leads to.
    Rejected,
    /// 404, 405 or 501: nothing here has that name or does that.
    Unsupported,
    /// 403: it could change something at a hub, and this server hands no such request on.
    NoUploads,
    /// The hub's own 401, 403, 404 or other refusal, handed on.
    Refused,
    /// 416: the range lies outside the file.
    OutOfRange,
    /// 503: a range that could join wrong bytes to right ones was not served.
    Guarded,
    /// 403: not held, and there is no way to a hub.
    Offline,
    /// 403: frozen, and the lock file does not pin it, or it is not held as pinned.
    Unpinned,
    /// 504: the hub could not be reached, or is down; 502: it did not speak HTTP as it must.
    Unreachable,
    /// 504: the hub did not answer in time.
    TimedOut,
    /// 502: the bytes were not what was promised, twice.
    Corrupt,
    /// 502: an immutable revision came with other bytes than those held.
    Conflict,
    /// 507: no room for a file that must be verified before it is sent.
    NoSpace,
    /// 503: a limit of this server was reached.
    Busy,
    /// 429: the client has as many requests under way as it may.
    TooMany,
    /// 500: the store failed.
    StoreFailed,
    /// The body was broken by us: bytes already sent were found wrong, or the hub stopped for good.
    Broken,
    /// The client went away before the end of the body.
    ClientGone,
}

/// Who answered a request, as far as a hit ratio goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnsweredBy {
    /// This server alone.
    Here,
    /// The hub; or it would have had to.
    Hub,
    /// It asked for no file and no answer that is kept, or nobody was there to the end.
    Nobody,
}

impl Outcome {
    /// All of them, for the registry of metrics.
    pub const ALL: [Self; 41] = [
        Self::Hit,
        Self::Revalidated,
        Self::Stale,
        Self::Known,
        Self::Absent,
        Self::Miss,
        Self::Collapsed,
        Self::Linked,
        Self::Asked,
        Self::Private,
        Self::Granted,
        Self::Entitled,
        Self::Unstored,
        Self::Passed,
        Self::Relayed,
        Self::Intercepted,
        Self::Own,
        Self::Preflight,
        Self::Forbidden,
        Self::Denied,
        Self::Unauthorized,
        Self::NotPermitted,
        Self::Looped,
        Self::Rejected,
        Self::Unsupported,
        Self::NoUploads,
        Self::Refused,
        Self::OutOfRange,
        Self::Guarded,
        Self::Offline,
        Self::Unpinned,
        Self::Unreachable,
        Self::TimedOut,
        Self::Corrupt,
        Self::Conflict,
        Self::NoSpace,
        Self::Busy,
        Self::TooMany,
        Self::StoreFailed,
        Self::Broken,
        Self::ClientGone,
    ];

    /// The name in logs and metric labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Revalidated => "revalidated",
            Self::Stale => "stale",
            Self::Known => "known",
            Self::Absent => "absent",
            Self::Miss => "miss",
            Self::Collapsed => "collapsed",
            Self::Linked => "linked",
            Self::Asked => "asked",
            Self::Private => "private",
            Self::Granted => "granted",
            Self::Entitled => "entitled",
            Self::Unstored => "unstored",
            Self::Passed => "passed",
            Self::Relayed => "relayed",
            Self::Intercepted => "intercepted",
            Self::Own => "own",
            Self::Preflight => "preflight",
            Self::Forbidden => "forbidden",
            Self::Denied => "denied",
            Self::Unauthorized => "unauthorized",
            Self::NotPermitted => "not-permitted",
            Self::Looped => "looped",
            Self::Rejected => "rejected",
            Self::Unsupported => "unsupported",
            Self::NoUploads => "no-uploads",
            Self::Refused => "refused",
            Self::OutOfRange => "out-of-range",
            Self::Guarded => "guarded",
            Self::Offline => "offline",
            Self::Unpinned => "unpinned",
            Self::Unreachable => "unreachable",
            Self::TimedOut => "timed-out",
            Self::Corrupt => "corrupt",
            Self::Conflict => "conflict",
            Self::NoSpace => "no-space",
            Self::Busy => "busy",
            Self::TooMany => "too-many",
            Self::StoreFailed => "store-failed",
            Self::Broken => "broken",
            Self::ClientGone => "client-gone",
        }
    }

    /// Who answered a request that ended so.
    pub fn answered_by(self) -> AnsweredBy {
        match self {
            Self::Hit | Self::Stale | Self::Known | Self::Absent | Self::OutOfRange => AnsweredBy::Here,
            Self::Revalidated
            | Self::Miss
            | Self::Collapsed
            | Self::Linked
            | Self::Asked
            | Self::Private
            | Self::Granted
            | Self::Entitled
            | Self::Unstored
            | Self::Refused
            | Self::Guarded
            | Self::Offline
            | Self::Unpinned
            | Self::Unreachable
            | Self::TimedOut
            | Self::Corrupt
            | Self::Conflict
            | Self::NoSpace
            | Self::Busy
            | Self::StoreFailed => AnsweredBy::Hub,
            Self::Passed
            | Self::Relayed
            | Self::Intercepted
            | Self::Own
            | Self::Preflight
            | Self::Forbidden
            | Self::Denied
            | Self::Unauthorized
            | Self::NotPermitted
            | Self::Looped
            | Self::Rejected
            | Self::Unsupported
            | Self::NoUploads
            | Self::TooMany
            | Self::Broken
            | Self::ClientGone => AnsweredBy::Nobody,
        }
    }

    /// The value of `Cache-Status` (RFC 9211); `detail` becomes its parameter of that name.
    pub fn cache_status(self, detail: Option<&str>) -> String {
        let parameters = match self {
            Self::Hit | Self::Known | Self::OutOfRange => "hit",
            Self::Revalidated => "fwd=stale; detail=revalidated",
            Self::Stale => "hit; detail=stale",
            Self::Absent => "hit; detail=absent",
            Self::Linked => "fwd=uri-miss; stored; detail=linked",
            Self::Miss => "fwd=uri-miss; stored",
            Self::Collapsed => "fwd=uri-miss; stored; collapsed",
            Self::Asked => "fwd=uri-miss",
            Self::Private => "fwd=bypass; detail=private",
            Self::Granted => "fwd=uri-miss; detail=granted",
            Self::Entitled => "hit; detail=entitled",
            Self::Unstored => "fwd=uri-miss; detail=unstored",
            Self::Passed | Self::Relayed => "fwd=bypass",
            other => {
                let mut out = String::from("hubcache");
                let _ = write!(out, "; detail={}", detail.unwrap_or(other.name()));
                return out;
            }
        };
        match detail {
            Some(detail) if !parameters.contains("detail=") => {
                format!("hubcache; {parameters}; detail={detail}")
            }
            _ => format!("hubcache; {parameters}"),
        }
    }
}
