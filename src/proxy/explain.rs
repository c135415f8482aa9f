//! What would be answered to a request, and why: the request path up to where it would act, with the same parts.
//! Nothing is fetched, and nothing is noted.

mod facts;
mod gather;
mod place;
mod steps;

use http::request::Parts;

pub use facts::{Absence, Action, Addressed, Explanation, Facts, Holding, Known, Meaning, Step, Unfinished};
pub use place::{NotHere, place};

use steps::{Situation, private};

use super::api::{ask as ask_document, first_question};
use super::file::ask as ask_file;
use super::{Asked, Frozen, permit, rejected, status, upload, view};
use crate::cache::{Cache, Fetcher, FoundDocument, View};
use crate::model::{Hub, Outcome, Question, Resource, Timestamp, Topic};
use crate::policy::{Ask, Check, Plan, Rules, plan};
use crate::remote_settings::RemoteSettings;
use crate::request::{
    Named, Reject, SettingsAsk, SettingsTarget, Target, classify, client_is_firefox, is_preflight,
};
use crate::store::StoreError;

/// Where an explanation looks.
pub struct Sight<'a> {
    /// By which rules requests are answered.
    pub rules: &'a Rules,
    /// What is held and known.
    pub cache: &'a Cache,
    /// The way to the hubs, in a server that has one.
    pub fetcher: Option<&'a Fetcher>,
    /// Whether requests are answered without any hub.
    pub offline: bool,
    /// The lock that alone is served, if one is.
    pub frozen: Option<&'a Frozen>,
    /// Remote Settings, if it is mirrored.
    pub settings: Option<&'a RemoteSettings>,
}

impl Sight<'_> {
    /// What would be answered at `now` to a request with this head, and why.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn explain(&self, head: &Parts, now: Timestamp) -> Result<Explanation, StoreError> {
        let asked = Asked::new(head);
        let (target, steps) = match classify(&head.method, &head.uri, &Named::Endpoint) {
            _ if is_preflight(&head.method, &head.headers) => preflight(),
            Err(reject) => refused(&reject),
            Ok(Target::File(resource)) => {
                match self.barred(&Target::File(resource.clone())).or_else(|| self.denied(&resource, head)) {
                    Some(step) => (self.file(&resource, &asked, now)?.0, vec![step]),
                    None => self.file(&resource, &asked, now)?,
                }
            }
            Ok(Target::Question(question)) => {
                let (addressed, steps) = self.question(&question, &asked, now)?;
                let barred = self.barred(&Target::Question(question));
                (addressed, barred.map_or(steps, |step| vec![step]))
            }
            Ok(target @ Target::Pass { hub, .. }) if let Some(step) = self.barred(&target) => {
                (self.passed(hub), vec![step])
            }
            Ok(Target::Pass { hub, path_and_query }) => {
                let refused = upload::is_refused(self.rules, &head.method, &path_and_query);
                (self.passed(hub), vec![if refused { no_uploads() } else { self.passing() }])
            }
            Ok(Target::Settings(target)) => self.mirrored(&target, &asked, now)?,
            Ok(Target::Pac | Target::Elsewhere(_) | Target::Tunnel(_)) => own(),
        };
        Ok(Explanation { method: head.method.to_string(), path: head.uri.path().to_owned(), target, steps })
    }

    /// Why nobody is given what is asked for, if nobody is.
    fn barred(&self, target: &Target) -> Option<Step> {
        let (hub, repo, path) = permit::model_of(target)?;
        let barred = self.rules.models.bar(hub, &repo, path.as_deref())?;
        Some(Step::ending(Action::Refuse, Outcome::Denied, barred.to_string()).status(403))
    }

    /// Why the deny list forbids a file, if it does.
    fn denied(&self, resource: &Resource, head: &Parts) -> Option<Step> {
        let root = self.cache.roots().root(resource.hub);
        let denied = self.settings?.denied(resource, root, client_is_firefox(&head.headers))?;
        let why = format!("record {} of the deny list of Remote Settings forbids it", denied.id);
        Some(Step::ending(Action::Refuse, Outcome::Denied, why).status(403))
    }

    /// What is answered to a question to Remote Settings.
    fn mirrored(
        &self,
        target: &SettingsTarget,
        asked: &Asked<'_>,
        now: Timestamp,
    ) -> Result<(Addressed, Vec<Step>), StoreError> {
        let Some(settings) = self.settings else {
            let why = "Remote Settings is not mirrored (settings.server)".to_owned();
            let step = Step::ending(Action::Refuse, Outcome::Unsupported, why).status(404);
            return Ok((Addressed::Refused, vec![step]));
        };
        let held = settings.held();
        let is_held = match &target.ask {
            SettingsAsk::Attachment(location) => match held.attachment(location) {
                Some((resource, _)) => return self.file(&resource, asked, now),
                None => false,
            },
            SettingsAsk::Changeset(collection, _) => held.collections.contains_key(collection),
            SettingsAsk::Chain(path) => held.chain(path).is_some(),
            SettingsAsk::Server => held.server.is_some(),
            SettingsAsk::Bundle => true,
            SettingsAsk::Changes(..) | SettingsAsk::Other => false,
        };
        let step = match is_held {
            true => {
                let why = "it is held, as Remote Settings signed it".to_owned();
                Step::ending(Action::Serve, Outcome::Hit, why)
            }
            false => self.passing(),
        };
        Ok((self.passed(Hub::Settings), vec![step]))
    }

    fn passed(&self, hub: Hub) -> Addressed {
        Addressed::Passed { hub, root: self.cache.roots().root(hub).clone() }
    }

    fn passing(&self) -> Step {
        if self.offline {
            let why = "only the hub can answer it, and this server is offline".to_owned();
            Step::ending(Action::Refuse, Outcome::Offline, why).status(403)
        } else {
            let why = "it is neither a file nor a question whose answer is kept".to_owned();
            Step::ending(Action::Pass, Outcome::Passed, why)
        }
    }

    fn file(
        &self,
        resource: &Resource,
        asked: &Asked<'_>,
        now: Timestamp,
    ) -> Result<(Addressed, Vec<Step>), StoreError> {
        let (ask, check) = (ask_file(resource, asked), self.first_check(resource.hub));
        let found = self.cache.look_up(resource, view(check))?;
        let alone = self.cache.look_up(resource, View::Alone)?;
        let facts = self.file_facts(resource, &found, ask, now)?;
        let held = [found.facts(), alone.facts()];
        let steps =
            self.steps(&facts, ask, asked, |check| plan(self.rules, ask, held[at(check)], check, now), now);
        let frozen = self.frozen.filter(|_| Hub::MODELS.contains(&resource.hub));
        let steps = match frozen {
            Some(frozen) => vec![frozen.file_step(self.cache, resource)?],
            None => steps,
        };
        Ok((Addressed::File(Box::new(facts)), steps))
    }

    fn question(
        &self,
        question: &Question,
        asked: &Asked<'_>,
        now: Timestamp,
    ) -> Result<(Addressed, Vec<Step>), StoreError> {
        let (ask, check) = (ask_document(question, asked), self.first_check(Hub::HuggingFace));
        let found = self.cache.look_up_document(question, view(check))?;
        let alone = self.cache.look_up_document(question, View::Alone)?;
        let facts = self.question_facts(question, &found, ask, now);
        let held = [found.facts(), alone.facts()];
        let mut steps =
            self.steps(&facts, ask, asked, |check| plan(self.rules, ask, held[at(check)], check, now), now);
        if let Some(frozen) = self.frozen {
            steps = vec![frozen.question_step(question)];
        } else if let Topic::Paths { .. } = question.topic {
            let why = "which paths are meant stands in the body of the request, which is not known here";
            steps = vec![Step::new(Action::Ask, why.to_owned()).when("unless the answer is held")];
        } else if let Some(first) = self.first(question, ask, &found, &steps) {
            steps[0].why.push_str(&first);
        }
        Ok((Addressed::Question(Box::new(facts)), steps))
    }

    /// What is asked of the hub first, where that is not the question itself.
    fn first(&self, question: &Question, ask: Ask, found: &FoundDocument, steps: &[Step]) -> Option<String> {
        let asks =
            steps.first().is_some_and(|step| step.action == Action::Ask && step.cache_status.is_none());
        let first = first_question(self.rules, question, ask, found);
        (asks && first.name() != question.name()).then(|| format!("; first comes the question {first}"))
    }

    /// How the request path begins: a hub that is known to be down is not asked.
    fn first_check(&self, hub: Hub) -> Check {
        let down = self.offline || self.fetcher.is_some_and(|fetcher| fetcher.upstream().is_down(hub));
        if down { Check::Down } else { Check::NotMade }
    }

    /// What would be done at once, and how it would go on where a hub is asked.
    fn steps(
        &self,
        facts: &Facts,
        ask: Ask,
        asked: &Asked<'_>,
        plan: impl Fn(Check) -> Plan,
        now: Timestamp,
    ) -> Vec<Step> {
        let situation = Situation { rules: self.rules, ask, facts, offline: self.offline, now };
        let begin = self.first_check(facts.hub);
        let first = plan(begin);
        let mut steps = vec![situation.step(first, begin)];
        let asks = matches!(first, Plan::Check { .. } | Plan::Inquire { .. } | Plan::Fill);
        // A download that runs has been answered already.
        if !asks || self.offline || steps[0].action == Action::Follow {
            return steps;
        }
        if matches!(first, Plan::Check { .. }) {
            let known = facts.revision.as_ref().is_some_and(|meaning| meaning.checked_at.is_some());
            let when = if known { "if nothing has changed" } else { "if the hub has it" };
            steps.push(situation.step(plan(Check::Made), Check::Made).when(when));
        }
        if asked.parts.headers.contains_key(http::header::AUTHORIZATION) {
            steps.push(private());
        }
        steps.push(situation.step(plan(Check::Down), Check::Down).when("if the hub does not answer"));
        steps
    }
}

/// Which look-up a plan is made from, of the latest and the one that needs no hub.
fn at(check: Check) -> usize {
    match view(check) {
        View::Latest => 0,
        View::Alone => 1,
    }
}

fn preflight() -> (Addressed, Vec<Step>) {
    let why = "a browser asks whether a page of another origin may read files; it may".to_owned();
    let step = Step::ending(Action::Preflight, Outcome::Preflight, why).status(204);
    (Addressed::Preflight, vec![step])
}

fn own() -> (Addressed, Vec<Step>) {
    let why = "it tells browsers which hosts to reach through this server".to_owned();
    (Addressed::Own, vec![Step::ending(Action::Own, Outcome::Own, why).status(200)])
}

fn no_uploads() -> Step {
    let reply = status::no_uploads();
    let why = "it could change something at the hub, and cache.uploads is refuse".to_owned();
    Step::ending(Action::Refuse, reply.outcome, why).status(reply.response.status().as_u16())
}

fn refused(reject: &Reject) -> (Addressed, Vec<Step>) {
    let reply = rejected(reject);
    let step = Step::ending(Action::Refuse, reply.outcome, reject.to_string());
    (Addressed::Refused, vec![step.status(reply.response.status().as_u16())])
}
