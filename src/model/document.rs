//! An answer of a hub's API, as it is kept.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Commit, Timestamp};

/// What a hub said about a repository when it was asked without credentials, made fit to be said from here: nothing
/// of Xet is in it, and no absolute URL of the hub.
///
/// Kept under an [`EntryKey`](super::EntryKey) whose path is the question: `info?blobs=true`, `tree/onnx`,
/// `resolve/config.json` (that there is no such file).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// 200, or 404 for what the hub says is not there.
    pub status: u16,
    /// `Content-Type` as the hub gave it.
    pub content_type: Option<String>,
    /// `X-Repo-Commit`, where the hub gave it.
    pub commit: Option<Commit>,
    /// `X-Error-Code` as the hub gave it, behind a 404.
    pub error_code: Option<String>,
    /// `X-Error-Message` as the hub gave it, behind a 404.
    pub error_message: Option<String>,
    /// Path and query, below the hub's root, of the page that follows this one.
    pub next: Option<String>,
    /// `X-Total-Count` as the hub gave it.
    pub total: Option<String>,
    /// The entity tag of the body as it is here, with its quotes.
    pub etag: String,
    /// The hub's own entity tag, of the body before it was rewritten.
    pub validator: Option<String>,
    /// When the hub last said so.
    pub learned_at: Timestamp,
    /// The body as it is served.
    pub body: Bytes,
}
