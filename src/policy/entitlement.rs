//! Whom a file may be given that not everybody may read.
//!
//! **States of an entry.** *Public*: an anonymous request for that very path at its commit has succeeded. *Shared*: the
//! operator declared it so. *Restricted*: it was fetched with a caller's credentials, or came from a directory, and
//! nobody has said that everybody may read it. A public entry becomes restricted when the hub, asked without credentials,
//! says so ([`crate::hub::withdrawn`]), and a restricted one public when the hub gives it to such a request. At the Mozilla
//! hub and of Remote Settings nothing is private.
//!
//! **Who asks.** To everybody a restricted entry is as one that is not held: the hub is asked as if it were not. A caller
//! whom the hub has refused so, and who has credentials, is asked for in person (HEAD with these), and what the hub says is
//! the caller's *grant*: for this credential, repository and path, for [`Entitlement::remembered`].
//!
//! **Failure cases.** The hub refuses: its refusal is handed on, the same whether the file is held or not. It does not
//! answer within [`Entitlement::wait`], or answers 429 or 5xx, or there is no way to it: nothing is given
//! ([`Unasked::Deny`]), or what this caller was granted last, if that is not too long ago ([`Unasked::LastKnown`]).

use std::time::Duration;

use crate::model::{Hub, Openness, Timestamp};

/// How long a grant is good enough where the hub cannot be asked.
pub const LAST_KNOWN_FOR: Duration = Duration::from_secs(7 * 24 * 3600);

/// What an operator can set of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entitlement {
    /// How long a grant is remembered, and the hub not asked again for it.
    pub remembered: Duration,
    /// How long a request waits to be told whether its caller may read; clients give up after 10 s.
    pub wait: Duration,
    /// After how long a public entry that is in use is asked for without credentials again.
    pub recheck: Duration,
    /// What becomes of callers while the hub cannot be asked.
    pub unasked: Unasked,
    /// How old a grant may be then.
    pub last_known_for: Duration,
}

impl Default for Entitlement {
    fn default() -> Self {
        Self {
            remembered: Duration::from_secs(60),
            wait: Duration::from_secs(8),
            recheck: Duration::from_secs(3600),
            unasked: Unasked::Deny,
            last_known_for: LAST_KNOWN_FOR,
        }
    }
}

/// What becomes of those who ask for a restricted file while the hub cannot be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unasked {
    /// Nobody is given it.
    Deny,
    /// Whoever was last granted it is given it.
    LastKnown,
}

impl Entitlement {
    /// Whether a grant that was given at `at` spares the hub a question.
    pub fn is_fresh(&self, at: Timestamp, now: Timestamp) -> bool {
        at.age(now) < self.remembered
    }

    /// Whether a grant that was given at `at` will do while the hub cannot be asked.
    pub fn will_do(&self, at: Timestamp, now: Timestamp) -> bool {
        self.unasked == Unasked::LastKnown && at.age(now) <= self.last_known_for
    }

    /// Whether the hub should be asked again whether everybody may read a file.
    pub fn is_due(&self, hub: Hub, access: Openness, now: Timestamp) -> bool {
        match access {
            Openness::Public { confirmed_at } => {
                hub == Hub::HuggingFace && confirmed_at.age(now) > self.recheck
            }
            Openness::Shared | Openness::Restricted => false,
        }
    }
}

/// Whether a file with this access at this hub may be given to everybody.
pub fn is_for_all(hub: Hub, access: Openness) -> bool {
    hub != Hub::HuggingFace || access != Openness::Restricted
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(10_000_000_000);

    fn ago(seconds: u64) -> Timestamp {
        Timestamp(NOW.0 - seconds * 1000)
    }

    #[test]
    fn a_grant_is_good_for_its_time_and_longer_only_without_a_hub() {
        let rules = Entitlement::default();
        assert!(rules.is_fresh(ago(59), NOW) && !rules.is_fresh(ago(60), NOW));
        assert!(!rules.will_do(ago(1), NOW), "denied by default");
        let known = Entitlement { unasked: Unasked::LastKnown, ..rules };
        assert!(known.will_do(ago(7 * 24 * 3600), NOW) && !known.will_do(ago(7 * 24 * 3600 + 1), NOW));
    }

    #[test]
    fn only_what_is_public_at_hugging_face_is_asked_for_again() {
        let rules = Entitlement::default();
        let public = |seconds| Openness::Public { confirmed_at: ago(seconds) };
        for (hub, access, due) in [
            (Hub::HuggingFace, public(3600), false),
            (Hub::HuggingFace, public(3601), true),
            (Hub::Mozilla, public(1_000_000), false),
            (Hub::HuggingFace, Openness::Shared, false),
            (Hub::HuggingFace, Openness::Restricted, false),
        ] {
            assert_eq!(rules.is_due(hub, access, NOW), due, "{hub} {access:?}");
        }
    }

    #[test]
    fn what_is_restricted_is_so_at_hugging_face_alone() {
        let public = Openness::Public { confirmed_at: NOW };
        assert!(is_for_all(Hub::HuggingFace, public) && is_for_all(Hub::HuggingFace, Openness::Shared));
        assert!(!is_for_all(Hub::HuggingFace, Openness::Restricted));
        assert!(
            is_for_all(Hub::Mozilla, Openness::Restricted) && is_for_all(Hub::Settings, Openness::Restricted)
        );
    }
}
