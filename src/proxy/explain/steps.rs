//! What would be done, in words.

use crate::model::{Hub, Outcome, Timestamp, lasting};
use crate::policy::{Ask, Check, Plan, Rules};

use super::super::offline::is_possible;
use super::{Absence, Action, Facts, Holding, Step};

/// Everything that decides.
pub(super) struct Situation<'a> {
    pub(super) rules: &'a Rules,
    pub(super) ask: Ask,
    pub(super) facts: &'a Facts,
    pub(super) offline: bool,
    pub(super) now: Timestamp,
}

impl Situation<'_> {
    /// A plan as a step.
    pub(super) fn step(&self, plan: Plan, check: Check) -> Step {
        if self.offline && !is_possible(plan) {
            let why = "it is not held, and this server is offline".to_owned();
            return Step::ending(Action::Refuse, Outcome::Offline, why).status(403);
        }
        match plan {
            Plan::Serve { older, outcome } => {
                let step = Step::ending(Action::Serve, outcome, self.why_served(older, outcome));
                let holding = if older { &self.facts.older } else { &self.facts.held };
                match holding {
                    Some(Holding::Answer { status, .. }) => step.status(*status),
                    _ => step,
                }
            }
            Plan::Absent => Step::ending(Action::Absent, Outcome::Absent, self.why_absent()).status(404),
            Plan::Refuse => {
                let said = self.facts.refused.as_deref().unwrap_or("no");
                Step::ending(Action::Repeat, Outcome::Refused, format!("a moment ago the hub said: {said}"))
            }
            Plan::Tell => {
                let why = "it is not held, but the hub has said what it is".to_owned();
                Step::ending(Action::Tell, Outcome::Known, why).status(200)
            }
            Plan::Check { within } => Step::new(Action::Ask, self.why_checked(within)),
            Plan::Inquire { .. } => {
                let why = "it is not held, and HEAD needs no byte of it".to_owned();
                Step::ending(Action::Ask, Outcome::Asked, why)
            }
            Plan::Fill => self.fill(check),
            Plan::Fail => Step::new(Action::Refuse, self.why_failed()),
        }
    }

    fn fill(&self, check: Check) -> Step {
        let asked = if check == Check::Made { "; the hub has just said what it is" } else { "" };
        if self.facts.is_question {
            return Step::ending(Action::Ask, Outcome::Miss, format!("the answer is not held{asked}"));
        }
        match &self.facts.unfinished {
            Some(unfinished) if unfinished.running => {
                let why = "it is being downloaded already".to_owned();
                Step::ending(Action::Follow, Outcome::Collapsed, why)
            }
            Some(_) => {
                let why = "it is not held whole; its download goes on where it ended".to_owned();
                Step::ending(Action::Download, Outcome::Miss, why)
            }
            None => Step::ending(Action::Download, Outcome::Miss, format!("it is not held{asked}")),
        }
    }

    fn why_served(&self, older: bool, outcome: Outcome) -> String {
        let what = if older { "that of an earlier commit is held" } else { "it is held" };
        match (outcome, &self.facts.revision) {
            (Outcome::Revalidated, _) => format!("{what}, and the hub has just confirmed it"),
            (Outcome::Stale, _) if self.offline => {
                format!("{what}, and this server is offline; {}", self.last_word())
            }
            (Outcome::Stale, _) => format!("{what}, and the hub does not answer; {}", self.last_word()),
            (_, Some(meaning)) if meaning.immutable => {
                format!("{what}, and {} never changes", self.kind_of_revision())
            }
            _ => format!("{what}, and {}, which is within cache.ref_ttl", self.last_word()),
        }
    }

    fn kind_of_revision(&self) -> &'static str {
        match self.facts.hub {
            Hub::HuggingFace => "a commit",
            Hub::Mozilla => "a version",
            Hub::Settings => "the digest of an attachment",
        }
    }

    fn why_absent(&self) -> String {
        match &self.facts.absent {
            Some(Absence::NotListed) => "it is not in the list of all files of the commit".to_owned(),
            _ => "the hub has said that the commit has no such file".to_owned(),
        }
    }

    fn why_checked(&self, within: Option<std::time::Duration>) -> String {
        let ttl = lasting(self.rules.ref_ttl);
        let mut why = match self.checked_at() {
            None => "the hub has not yet said what this revision is".to_owned(),
            Some(_) if self.ask.no_cache => "the request says Cache-Control: no-cache".to_owned(),
            Some(_) => format!("{}, and cache.ref_ttl is {ttl}", self.last_word()),
        };
        if let Some(within) = within {
            why.push_str(&format!("; if it takes longer than {}, what is held is served", lasting(within)));
        }
        why
    }

    fn why_failed(&self) -> String {
        let anything = self.facts.held.is_some() || self.facts.older.is_some();
        match self.rules.stale_max {
            Some(max) if anything => {
                format!(
                    "the hub does not answer, and {}, longer than cache.stale_max ({})",
                    self.last_word(),
                    lasting(max)
                )
            }
            _ => "it is not held, and the hub does not answer".to_owned(),
        }
    }

    /// How old the hub's last word is.
    fn last_word(&self) -> String {
        match self.checked_at() {
            Some(at) => format!("the hub's last word on it is {} old", lasting(at.age(self.now))),
            None => "the hub's last word on it needs no renewal".to_owned(),
        }
    }

    fn checked_at(&self) -> Option<Timestamp> {
        self.facts.revision.as_ref()?.checked_at
    }
}

/// How a request that depends on the caller would end.
pub(super) fn private() -> Step {
    let why = "the request has credentials of its own, and the hub says whether they open it".to_owned();
    Step::ending(Action::Private, Outcome::Granted, why).when("if the hub refuses it to others")
}

impl Step {
    pub(super) fn new(action: Action, why: String) -> Self {
        Self { when: None, action, why, status: None, cache_status: None }
    }

    /// A step that ends the request so.
    pub(in crate::proxy) fn ending(action: Action, outcome: Outcome, why: String) -> Self {
        Self { cache_status: Some(outcome.cache_status(None)), ..Self::new(action, why) }
    }

    pub(in crate::proxy) fn status(self, status: u16) -> Self {
        Self { status: Some(status), ..self }
    }

    pub(super) fn when(self, when: &str) -> Self {
        Self { when: Some(when.to_owned()), ..self }
    }
}
