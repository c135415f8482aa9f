//! What is known of a file besides its bytes.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Commit, Digest, Timestamp};

/// Representation metadata (RFC 9110, section 8) as clients of this resource are told it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Representation {
    /// Length of the identity encoding in bytes; absent while a hub sends a body of unknown length.
    pub size: Option<u64>,
    /// The entity tag with its quotes; on Hugging Face the linked one, never the content network's.
    pub etag: Option<String>,
    /// `X-Repo-Commit`, on Hugging Face.
    pub commit: Option<Commit>,
    /// `Content-Type` as the hub gave it.
    pub content_type: Option<String>,
    /// `Last-Modified` as the hub gave it.
    pub last_modified: Option<String>,
}

impl Representation {
    /// Whether a body of `self` and one of `other` may be parts of one file: same tag, size and commit.
    pub fn same_file(&self, other: &Self) -> bool {
        self.etag == other.etag && self.size == other.size && self.commit == other.commit
    }
}

/// The size and digests that a file must have, as far as known before its bytes are here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expectation {
    /// What clients are told of the file.
    pub representation: Representation,
    /// Every digest that anybody promised for the identity encoding.
    pub promises: Vec<Promise>,
    /// The hub's own entity tag of the bytes it sends, for If-Range and If-None-Match.
    pub validator: Option<String>,
    /// When the hub said so.
    pub learned_at: Timestamp,
    /// Where the hub says the file is in its Xet store; known as long as it is fresh in memory, and in no record.
    #[serde(skip)]
    pub xet: Option<Arc<XetHints>>,
}

/// What a hub tells of a file's place in its Xet store, from where clients fetch it past this cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct XetHints {
    /// What the store calls the file.
    pub hash: String,
    /// Where access to it is asked for; a path, or a URL.
    pub refresh_route: Option<String>,
    /// The same, as a link.
    pub auth: Option<String>,
    /// The link to what the file is made of.
    pub reconstruction: Option<String>,
}

impl Expectation {
    /// The promised SHA-256, if there is one.
    pub fn sha256(&self) -> Option<super::Sha256> {
        self.promises.iter().find_map(|p| match p.digest {
            Digest::Sha256(d) => Some(d),
            _ => None,
        })
    }

    /// The promised git blob id, if there is one.
    pub fn git_sha1(&self) -> Option<[u8; 20]> {
        self.promises.iter().find_map(|p| match p.digest {
            Digest::GitSha1(d) => Some(d),
            _ => None,
        })
    }
}

/// One digest and who vouched for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Promise {
    /// What the bytes must hash to.
    pub digest: Digest,
    /// Who said so.
    pub by: Promiser,
}

/// Where a promise was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Promiser {
    /// `X-Linked-ETag` of Hugging Face.
    LinkedEtag,
    /// `ETag` of the hub itself (not of a content network behind it).
    Etag,
    /// `x-goog-hash` of Google Cloud Storage.
    GoogHash,
    /// The list of files that the API of Hugging Face gives.
    Tree,
    /// A record of a signed collection of Remote Settings.
    Record,
}
