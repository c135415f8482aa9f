//! With whose credentials a hub is asked, and what follows from that for who may read the answer.

use std::sync::Arc;

use crate::model::{Expectation, Secret};

/// Who asks a hub for a file.
#[derive(Clone, Debug)]
pub(super) enum Asker {
    /// Nobody in particular: without credentials.
    Anyone,
    /// The operator, for everybody.
    Operator(Secret),
    /// One caller, to whom the hub grants the file, and what it said of that, if that is remembered.
    Caller(Secret, Option<Arc<Expectation>>),
}

/// For whom a fill runs: those of callers are not joined by others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Whose {
    Everybody,
    Callers,
}

impl Asker {
    pub(super) fn credential(&self) -> Option<&Secret> {
        match self {
            Self::Anyone => None,
            Self::Operator(secret) | Self::Caller(secret, _) => Some(secret),
        }
    }

    pub(super) fn whose(&self) -> Whose {
        match self {
            Self::Anyone | Self::Operator(_) => Whose::Everybody,
            Self::Caller(..) => Whose::Callers,
        }
    }

    /// Whether what it has begun is gone on with by those alone who ask with credentials.
    pub(super) fn is_restricted(&self) -> bool {
        !matches!(self, Self::Anyone)
    }

    /// Whether what the hub says may be remembered for everybody.
    pub(super) fn is_for_everybody(&self) -> bool {
        self.whose() == Whose::Everybody
    }
}
