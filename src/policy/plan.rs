//! What to do for a request for a file.

use std::time::Duration;

use super::Rules;
use crate::model::{Outcome, Timestamp};

/// What a request asks, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// HEAD, as opposed to GET.
    pub head: bool,
    /// `Cache-Control: no-cache`.
    pub no_cache: bool,
    /// The revision can never change.
    pub immutable: bool,
    /// The meaning of the revision must be known before the file can be asked for: a branch or tag of
    /// Hugging Face stands for a commit, Mozilla's `main` for nothing but itself.
    pub needs_meaning: bool,
}

/// What is held for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// When the hub last said what the revision means; `None` if it never did.
    pub checked_at: Option<Timestamp>,
    /// The file, as the revision's last known meaning has it.
    pub current: bool,
    /// The file, as an earlier meaning of the revision had it.
    pub older: bool,
    /// Not the file, but what the hub said of it.
    pub known: bool,
    /// Not the file, but that the revision's meaning has none of this name.
    pub absent: bool,
    /// Not the file, but that the hub would not give it a moment ago.
    pub refused: bool,
}

/// How asking the hub what a revision means has gone, within this request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// Not asked yet.
    NotMade,
    /// It answered, and what is held was looked up again since.
    Made,
    /// No answer within the budget; it goes on.
    Late,
    /// Unreachable, 429 or 5xx.
    Down,
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Serve what is held: the current file, or the older one.
    Serve {
        /// The older one.
        older: bool,
        /// How this is called.
        outcome: Outcome,
    },
    /// Say that there is no such file, as the hub did.
    Absent,
    /// Hand on once more what the hub said a moment ago instead of giving the file.
    Refuse,
    /// Answer a HEAD from what the hub said.
    Tell,
    /// Ask the hub what the revision means, then plan again.
    Check {
        /// How long to wait for it; `None` for as long as the upstream's own limits let it take.
        within: Option<Duration>,
    },
    /// Ask the hub about the file alone (HEAD).
    Inquire {
        /// As for a check.
        within: Option<Duration>,
    },
    /// Fetch the file, or follow those who already do.
    Fill,
    /// Hand on how asking the hub has failed.
    Fail,
}

/// Decides. Total: every combination has an answer, and after at most one `Check` and one `Inquire` it is final.
pub fn plan(rules: &Rules, ask: Ask, held: Held, check: Check, now: Timestamp) -> Plan {
    let anything = held.current || held.older || held.absent;
    let trusted = ask.immutable || (!ask.no_cache && is_within(held.checked_at, rules.ref_ttl, now));
    if matches!(check, Check::Late | Check::Down) {
        return alone(rules, held, trusted, now);
    }
    let within = anything.then_some(if ask.head { rules.head_budget } else { rules.revalidate_budget });
    if trusted || check == Check::Made {
        return match (held.current, ask.head) {
            (true, _) => {
                let asked = check == Check::Made && !ask.immutable;
                Plan::Serve { older: false, outcome: if asked { Outcome::Revalidated } else { Outcome::Hit } }
            }
            _ if held.absent => Plan::Absent,
            _ if held.refused && !ask.no_cache => Plan::Refuse,
            (false, true) if held.known => Plan::Tell,
            (false, true) => Plan::Inquire { within },
            (false, false) => Plan::Fill,
        };
    }
    if held.refused && !ask.no_cache {
        return Plan::Refuse;
    }
    if !ask.head && !anything && !ask.needs_meaning {
        return Plan::Fill;
    }
    Plan::Check { within }
}

/// No hub answers: what is held is served if it is not too old, and what is known to be absent stays so.
fn alone(rules: &Rules, held: Held, trusted: bool, now: Timestamp) -> Plan {
    let bearable =
        rules.stale_max.is_none_or(|max| held.checked_at.is_none() || is_within(held.checked_at, max, now));
    match held {
        Held { current: true, .. } if trusted => Plan::Serve { older: false, outcome: Outcome::Hit },
        Held { current, older, .. } if (current || older) && bearable => {
            Plan::Serve { older: !current, outcome: Outcome::Stale }
        }
        Held { absent: true, .. } => Plan::Absent,
        _ => Plan::Fail,
    }
}

fn is_within(at: Option<Timestamp>, limit: Duration, now: Timestamp) -> bool {
    at.is_some_and(|at| at.age(now) <= limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000_000);
    const BRANCH: Ask = Ask { head: false, no_cache: false, immutable: false, needs_meaning: true };
    const BUCKET: Ask = Ask { needs_meaning: false, ..BRANCH };
    const PINNED: Ask = Ask { immutable: true, ..BRANCH };
    const NOTHING: Held =
        Held { checked_at: None, current: false, older: false, known: false, absent: false, refused: false };

    fn seconds_ago(s: u64) -> Option<Timestamp> {
        Some(Timestamp(NOW.0 - s * 1000))
    }

    fn decide(ask: Ask, held: Held, check: Check) -> Plan {
        plan(&Rules::default(), ask, held, check, NOW)
    }

    fn head(ask: Ask) -> Ask {
        Ask { head: true, ..ask }
    }

    #[test]
    fn an_immutable_file_is_a_hit_whatever_the_client_demands() {
        let held = Held { current: true, ..NOTHING };
        for ask in [PINNED, head(PINNED), Ask { no_cache: true, ..PINNED }] {
            assert_eq!(
                decide(ask, held, Check::NotMade),
                Plan::Serve { older: false, outcome: Outcome::Hit }
            );
        }
    }

    #[test]
    fn a_cold_file_is_filled_by_get_and_only_asked_about_by_head() {
        assert_eq!(decide(PINNED, NOTHING, Check::NotMade), Plan::Fill);
        assert_eq!(decide(head(PINNED), NOTHING, Check::NotMade), Plan::Inquire { within: None });
        assert_eq!(decide(head(PINNED), Held { known: true, ..NOTHING }, Check::NotMade), Plan::Tell);
        assert_eq!(decide(BRANCH, NOTHING, Check::NotMade), Plan::Check { within: None });
        assert_eq!(decide(BUCKET, NOTHING, Check::NotMade), Plan::Fill);
        assert_eq!(decide(head(BUCKET), NOTHING, Check::NotMade), Plan::Check { within: None });
        assert_eq!(decide(BRANCH, NOTHING, Check::Made), Plan::Fill);
        assert_eq!(decide(BRANCH, NOTHING, Check::Down), Plan::Fail);
    }

    #[test]
    fn a_branch_is_trusted_for_its_ttl_and_then_checked_within_a_budget() {
        let held = Held { checked_at: seconds_ago(60), current: true, ..NOTHING };
        assert_eq!(decide(BRANCH, held, Check::NotMade), Plan::Serve { older: false, outcome: Outcome::Hit });
        let held = Held { checked_at: seconds_ago(61), ..held };
        let within = |s| Plan::Check { within: Some(s) };
        assert_eq!(decide(BRANCH, held, Check::NotMade), within(Duration::from_secs(2)));
        assert_eq!(decide(head(BRANCH), held, Check::NotMade), within(Duration::from_millis(800)));
        let fresh = Held { checked_at: seconds_ago(1), ..held };
        assert_eq!(
            decide(Ask { no_cache: true, ..BRANCH }, fresh, Check::NotMade),
            within(Duration::from_secs(2))
        );
        assert_eq!(
            decide(BRANCH, held, Check::Made),
            Plan::Serve { older: false, outcome: Outcome::Revalidated }
        );
    }

    #[test]
    fn after_a_move_get_fetches_and_head_tells_the_new_state() {
        let held = Held { checked_at: seconds_ago(1), older: true, known: true, ..NOTHING };
        assert_eq!(decide(BRANCH, held, Check::NotMade), Plan::Fill);
        assert_eq!(decide(head(BRANCH), held, Check::NotMade), Plan::Tell);
        let unknown = Held { known: false, ..held };
        let within = Some(Duration::from_millis(800));
        assert_eq!(decide(head(BRANCH), unknown, Check::NotMade), Plan::Inquire { within });
    }

    #[test]
    fn a_silent_hub_means_stale_within_the_bound() {
        let held = Held { checked_at: seconds_ago(3600), older: true, ..NOTHING };
        for check in [Check::Late, Check::Down] {
            assert_eq!(decide(BRANCH, held, check), Plan::Serve { older: true, outcome: Outcome::Stale });
        }
        let rules = Rules { stale_max: Some(Duration::from_secs(60)), ..Rules::default() };
        assert_eq!(plan(&rules, BRANCH, held, Check::Down, NOW), Plan::Fail);
    }

    #[test]
    fn absence_is_told_as_long_as_the_meaning_is_trusted() {
        let held = Held { checked_at: seconds_ago(1), absent: true, ..NOTHING };
        for ask in [BRANCH, head(BRANCH), PINNED, head(PINNED)] {
            assert_eq!(decide(ask, held, Check::NotMade), Plan::Absent);
            assert_eq!(decide(ask, held, Check::Down), Plan::Absent);
        }
        let held = Held { checked_at: seconds_ago(61), ..held };
        let within = Some(Duration::from_secs(2));
        assert_eq!(decide(BRANCH, held, Check::NotMade), Plan::Check { within });
        assert_eq!(decide(BRANCH, held, Check::Made), Plan::Absent);
    }

    #[test]
    fn a_refusal_is_repeated_until_the_client_insists() {
        let held = Held { refused: true, ..NOTHING };
        for ask in [BRANCH, BUCKET, head(BUCKET), PINNED] {
            assert_eq!(decide(ask, held, Check::NotMade), Plan::Refuse);
            assert_ne!(decide(Ask { no_cache: true, ..ask }, held, Check::NotMade), Plan::Refuse);
        }
        assert_eq!(decide(BRANCH, held, Check::Down), Plan::Fail);
    }

    #[test]
    fn without_a_hub_what_is_trusted_is_a_hit_and_the_rest_is_stale() {
        let held = Held { checked_at: seconds_ago(1), current: true, ..NOTHING };
        let served = |outcome| Plan::Serve { older: false, outcome };
        assert_eq!(decide(BRANCH, held, Check::Down), served(Outcome::Hit));
        assert_eq!(decide(Ask { no_cache: true, ..BRANCH }, held, Check::Down), served(Outcome::Stale));
        assert_eq!(decide(PINNED, Held { checked_at: None, ..held }, Check::Down), served(Outcome::Hit));
        let known = Held { known: true, ..NOTHING };
        assert_eq!(decide(head(PINNED), known, Check::Down), Plan::Fail, "the bytes could not follow");
    }
}
