//! The index record of one verified file.

use serde::{Deserialize, Serialize};

use super::{Expectation, Openness, Promise, Representation, Sha256, Timestamp};

/// One named file whose bytes are durable: which blob it is, what clients are told of it, and on whose word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The blob that holds the bytes.
    pub blob: Sha256,
    /// Length of the blob in bytes.
    pub size: u64,
    /// What clients are told; its `size` is always known here and equals the entry's.
    pub representation: Representation,
    /// The hub's own entity tag of the bytes, for revalidation of mutable revisions.
    pub validator: Option<String>,
    /// Every digest that was promised, compared or not.
    pub promises: Vec<Promise>,
    /// Whether a promise was compared.
    pub standing: Standing,
    /// When the bytes became durable under this key.
    pub stored_at: Timestamp,
    /// When the hub last confirmed that this is what the key names.
    pub checked_at: Timestamp,
    /// Who may read it.
    pub access: Openness,
}

impl Entry {
    /// The entry of bytes that were held against what was expected, and are durable now.
    pub fn of(
        expected: &Expectation,
        (blob, size): (Sha256, u64),
        standing: Standing,
        access: Openness,
        now: Timestamp,
    ) -> Self {
        let mut representation = expected.representation.clone();
        representation.size = Some(size);
        // A hub without tags still gives clients something to compare and resume by.
        representation.etag.get_or_insert_with(|| format!("\"{blob}\""));
        Self {
            blob,
            size,
            representation,
            validator: expected.validator.clone(),
            promises: expected.promises.clone(),
            standing,
            stored_at: now,
            checked_at: expected.learned_at,
            access,
        }
    }
}

/// How much is known about the bytes of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// At least one promised digest was compared, and all that could be compared agree.
    Verified,
    /// Nobody promised a digest of these bytes; their SHA-256 was recorded at the first download.
    Recorded,
}

impl Standing {
    /// `verified` or `recorded`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Verified => "verified",
            Self::Recorded => "recorded",
        }
    }
}
