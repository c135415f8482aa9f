//! Who may read a file that is held.

use serde::{Deserialize, Serialize};

use super::Timestamp;

/// Who may read a file, and on whose word. It belongs to an entry: blobs are shared between entries, rights never are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Openness {
    /// Everybody: the hub gave it to a request without credentials.
    Public {
        /// When it last did.
        confirmed_at: Timestamp,
    },
    /// Everybody who may use this cache: its operator has said so.
    Shared,
    /// Those whose own credentials the hub accepts for it.
    Restricted,
}

impl Openness {
    /// What two words on the same bytes under the same name come to: the operator's stands over the hub's, and what
    /// everybody may read is not closed by a caller who needed no credentials for it.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        match (self, other) {
            (Self::Shared, _) | (_, Self::Shared) => Self::Shared,
            (Self::Public { confirmed_at: a }, Self::Public { confirmed_at: b }) => {
                Self::Public { confirmed_at: a.max(b) }
            }
            (public @ Self::Public { .. }, Self::Restricted)
            | (Self::Restricted, public @ Self::Public { .. }) => public,
            (Self::Restricted, Self::Restricted) => Self::Restricted,
        }
    }

    /// `public`, `shared` or `restricted`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Public { .. } => "public",
            Self::Shared => "shared",
            Self::Restricted => "restricted",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operators_word_stands_and_the_hubs_is_not_taken_back_by_a_caller() {
        let public = |at| Openness::Public { confirmed_at: Timestamp(at) };
        for (a, b, both) in [
            (public(1), public(2), public(2)),
            (public(1), Openness::Restricted, public(1)),
            (public(1), Openness::Shared, Openness::Shared),
            (Openness::Restricted, Openness::Shared, Openness::Shared),
            (Openness::Restricted, Openness::Restricted, Openness::Restricted),
        ] {
            assert_eq!((a.with(b), b.with(a)), (both, both), "{a:?} {b:?}");
        }
    }
}
