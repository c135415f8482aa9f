//! Why something leaves a store that is full.

use serde::{Deserialize, Serialize};

/// Why something goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WhyGone {
    /// Another revision has superseded all that it belongs to.
    Superseded,
    /// It is unfinished, and nobody goes on with it.
    Unfinished,
    /// It was not used again while it was new.
    Once,
    /// It was used often, and not lately.
    Stale,
}

impl WhyGone {
    /// All of them, for the registry of metrics.
    pub const ALL: [Self; 4] = [Self::Superseded, Self::Unfinished, Self::Once, Self::Stale];

    /// The name in metric labels and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Superseded => "superseded",
            Self::Unfinished => "unfinished",
            Self::Once => "once",
            Self::Stale => "stale",
        }
    }

    /// The same for people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Superseded => "superseded",
            Self::Unfinished => "unfinished",
            Self::Once => "not used again",
            Self::Stale => "not used lately",
        }
    }
}
