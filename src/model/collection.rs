//! Collections of Remote Settings, as they are held once their signature was found good.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Hub, Repo, RepoKind, Resource, Revision, Sha256, Timestamp};

/// Longest name of a bucket or a collection.
const MAX_NAME: usize = 128;

/// A collection: a bucket and a name in it, `main/ml-inference-options`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Collection {
    /// The bucket.
    pub bucket: String,
    /// The name.
    pub name: String,
}

impl Collection {
    /// Takes letters, digits, `-` and `_`, which is what the server takes.
    pub fn new(bucket: &str, name: &str) -> Option<Self> {
        let fits = |text: &str| {
            (1..=MAX_NAME).contains(&text.len())
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        (fits(bucket) && fits(name)).then(|| Self { bucket: bucket.to_owned(), name: name.to_owned() })
    }
}

impl fmt::Display for Collection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.bucket, self.name)
    }
}

impl FromStr for Collection {
    type Err = ();

    /// Reads `bucket/name`, or a name of the bucket `main`.
    fn from_str(text: &str) -> Result<Self, ()> {
        let (bucket, name) = text.split_once('/').unwrap_or(("main", text));
        Self::new(bucket, name).ok_or(())
    }
}

impl Serialize for Collection {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Collection {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        text.parse().map_err(|()| serde::de::Error::custom("expected the name of a collection"))
    }
}

/// Records by their ids.
pub type Records = BTreeMap<String, Value>;

/// Everything that is in a collection at one moment, under a signature that was found good.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Which collection.
    pub collection: Collection,
    /// The moment, in milliseconds as the server counts them.
    pub timestamp: u64,
    /// What the server says of the collection, the signatures among it.
    pub metadata: Map<String, Value>,
    /// All records.
    pub records: Records,
    /// Records that were deleted, with when.
    pub tombstones: BTreeMap<String, u64>,
    /// Every record that was deleted after this moment is among the tombstones.
    pub complete_since: u64,
    /// When the signature was found good.
    pub verified_at: Timestamp,
    /// When the server last said that this is the present state.
    pub checked_at: Timestamp,
    /// From when on the chain of that signature is valid.
    pub valid_from: Timestamp,
    /// Until when it is: after it Firefox refuses the signature.
    pub valid_until: Timestamp,
}

/// A file that is attached to a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// Where it is, below the base of all attachments.
    pub location: String,
    /// Its length in bytes.
    pub size: u64,
    /// What it hashes to.
    pub sha256: Sha256,
}

impl Attachment {
    /// The attachment of a record, if it has one with a name that can be asked for.
    pub fn of(record: &Value) -> Option<Self> {
        let attachment = record.get("attachment")?;
        let location = attachment.get("location")?.as_str()?.trim_start_matches('/');
        let sha256 = Sha256::parse(attachment.get("hash")?.as_str()?)?;
        let size = attachment.get("size")?.as_u64()?;
        Self::is_location(location).then(|| Self { location: location.to_owned(), size, sha256 })
    }

    /// Whether a text can be where an attachment is.
    pub fn is_location(text: &str) -> bool {
        let is_plain = |segment: &str| !segment.is_empty() && segment != "." && segment != "..";
        text.len() <= 1024
            && text.split('/').all(is_plain)
            && !text.contains(|c: char| c.is_control() || c == '\\')
    }

    /// The file, for a record of this collection.
    pub fn file(&self, collection: &Collection) -> Resource {
        Resource {
            hub: Hub::Settings,
            repo: Repo { kind: RepoKind::Model, id: collection.to_string() },
            revision: Revision::Version(self.sha256.to_string()),
            path: self.location.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_collection_is_a_bucket_and_a_name() {
        for (text, want) in
            [("ml-onnx-runtime", "main/ml-onnx-runtime"), ("security-state/onecrl", "security-state/onecrl")]
        {
            assert_eq!(text.parse::<Collection>().unwrap().to_string(), want);
        }
        for bad in ["", "a/b/c", "a b", "../x", "a/", "é", &"x".repeat(129)] {
            assert!(bad.parse::<Collection>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_attachment_has_a_place_a_size_and_a_digest() {
        let hash = "ab".repeat(32);
        let of = |location: &str, hash: &str| {
            Attachment::of(&json!({"attachment": {"location": location, "hash": hash, "size": 3}}))
        };
        assert_eq!(of("main/x/a.wasm", &hash).unwrap().location, "main/x/a.wasm");
        for (location, hash) in
            [("../x", &*hash), ("a//b", &hash), ("a/\u{7f}", &hash), ("", &hash), ("a", "zz")]
        {
            assert_eq!(of(location, hash), None, "{location}");
        }
        assert_eq!(Attachment::of(&json!({"id": "x"})), None);
    }
}
