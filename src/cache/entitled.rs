//! Whether a caller may read what not everybody may: asked of the hub with the caller's own credentials, once for all of
//! its requests at a time, and remembered for a while. The rules are those of [`crate::policy::Entitlement`].

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use moka::sync::Cache as Memory;

use super::asker::Asker;
use super::checks::{Checked, shared};
use super::{Cache, Fetcher, Settings};
use crate::hub::{Withdrawn, withdrawn};
use crate::model::{
    Commit, Entry, EntryKey, Expectation, Hub, Openness, Repo, Resource, Revision, Secret, Timestamp,
};
use crate::policy::{Entitlement, ModelPattern, Unasked, is_for_all};
use crate::store::{GrantRecord, StoreError};
use crate::upstream::Failure;

/// A grant that is kept is written down again when it is so much older than the new one.
const WRITTEN_EVERY: Duration = Duration::from_secs(3600);
/// How long it is remembered that a public file was asked for again, or that a repository was withdrawn.
const ONCE_IN: Duration = Duration::from_secs(60);
/// How many of those are remembered.
const MOST: u64 = 10_000;
/// Revisions of one path of which a grant remembers what the hub said.
const MAX_SAID: usize = 8;

/// What identifies credentials without telling them: a keyed hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct CallerId([u8; 32]);

/// What the hub said to one caller of one path, not long ago.
#[derive(Clone, Debug)]
struct Grant {
    at: Timestamp,
    said: HashMap<String, Arc<Expectation>>,
}

/// The answer to whether a caller may read a file.
#[derive(Clone, Debug)]
pub enum Entitled {
    /// It may.
    Granted {
        /// The file as the revision has it now: a branch resolved to its commit.
        subject: Resource,
        /// What the hub said of it, if that is remembered.
        said: Option<Arc<Expectation>>,
    },
    /// The hub says no.
    Refused(Arc<Failure>),
    /// The hub did not say.
    Unanswered(Option<Arc<Failure>>),
}

/// What is remembered of callers.
pub(super) struct Grants {
    rules: Entitlement,
    shared: Vec<ModelPattern>,
    key: hmac::Key,
    recent: Memory<(CallerId, EntryKey), Arc<Grant>>,
    rechecked: Memory<EntryKey, ()>,
    /// When the hub said last of a path, or of a repository (without a path), that not everybody may read it.
    withdrawn: Memory<EntryKey, Timestamp>,
}

impl Grants {
    pub(super) fn new(settings: &Settings, key: [u8; 32]) -> Self {
        let rechecked = Memory::builder().max_capacity(MOST).time_to_live(ONCE_IN).build();
        // What was said last is worth more than what was said often.
        let lru = moka::policy::EvictionPolicy::lru();
        let withdrawn = Memory::builder().max_capacity(MOST).eviction_policy(lru).build();
        let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
        let recent = Memory::new(settings.known_entries);
        let (rules, shared) = (settings.entitlement.clone(), settings.shared.clone());
        Self { rules, shared, key, recent, rechecked, withdrawn }
    }

    fn caller(&self, credential: &Secret) -> CallerId {
        let tag = hmac::sign(&self.key, credential.expose().as_bytes());
        CallerId(tag.as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }
}

impl Cache {
    /// How callers are told apart and for how long grants hold.
    pub fn entitlement(&self) -> &Entitlement {
        &self.grants.rules
    }

    /// Whether the operator lets everybody read a repository.
    pub fn is_shared(&self, hub: Hub, repo: &Repo) -> bool {
        self.grants.shared.iter().any(|pattern| pattern.matches(hub, repo))
    }

    /// The entry of `resource`, if everybody may read it.
    pub(super) fn entry_for_all(&self, resource: &Resource) -> Result<Option<Arc<Entry>>, StoreError> {
        Ok(self.entry(resource)?.filter(|entry| {
            is_for_all(resource.hub, entry.access) || self.is_shared(resource.hub, &resource.repo)
        }))
    }

    /// The entry of `resource`, for a caller to whom the hub grants it.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn entry_for_granted(&self, resource: &Resource) -> Result<Option<Arc<Entry>>, StoreError> {
        self.entry(resource)
    }

    /// The file that a caller was last granted, where no hub can be asked, and by the rules that is enough.
    pub fn last_granted(&self, asked: &Resource, credential: &Secret, now: Timestamp) -> Option<Arc<Entry>> {
        let rules = &self.grants.rules;
        if asked.hub != Hub::HuggingFace || rules.unasked == Unasked::Deny {
            return None;
        }
        let name = grant_name(self.grants.caller(credential), &self.path_key(asked));
        let grant = self.store.grant(&name).ok().flatten().filter(|grant| rules.will_do(grant.at, now))?;
        let subject = match &asked.revision {
            Revision::Named(name) => asked.at(Revision::Commit(grant.meaning(name)?.clone())),
            _ => asked.clone(),
        };
        self.entry(&subject).ok().flatten()
    }

    /// What a caller was granted not long ago.
    fn remembered(&self, caller: CallerId, asked: &Resource, now: Timestamp) -> Option<Entitled> {
        let rules = &self.grants.rules;
        let grant = self.grants.recent.get(&(caller, self.path_key(asked)))?;
        let said = grant.said.get(asked.revision.as_str());
        let said = said.filter(|said| rules.is_fresh(said.learned_at, now)).map(Arc::clone);
        if !rules.is_fresh(grant.at, now) || (said.is_none() && !asked.revision.is_immutable()) {
            return None;
        }
        Some(granted(asked, said))
    }

    /// Notes what the hub said to a caller; where grants outlive the hub, on disk.
    async fn note_grant(&self, caller: CallerId, asked: &Resource, said: &Arc<Expectation>) {
        let (now, key) = (said.learned_at, (caller, self.path_key(asked)));
        let before = self.grants.recent.get(&key);
        let mut known = before.map(|grant| grant.said.clone()).unwrap_or_default();
        known.retain(|_, said| self.grants.rules.is_fresh(said.learned_at, now));
        if known.len() >= MAX_SAID {
            known.clear();
        }
        known.insert(asked.revision.as_str().to_owned(), Arc::clone(said));
        self.grants.recent.insert(key.clone(), Arc::new(Grant { at: now, said: known }));
        if self.grants.rules.unasked == Unasked::LastKnown {
            let commit = said.representation.commit.clone().filter(|_| !asked.revision.is_immutable());
            self.write_grant(grant_name(caller, &key.1), asked.revision.as_str(), commit, now).await;
        }
    }

    async fn write_grant(&self, name: Vec<u8>, revision: &str, commit: Option<Commit>, now: Timestamp) {
        let held = self.store.grant(&name).ok().flatten().unwrap_or_default();
        let says_the_same = commit.as_ref().is_none_or(|commit| held.meaning(revision) == Some(commit));
        if says_the_same && held.at.age(now) < WRITTEN_EVERY {
            return;
        }
        let mut grant = GrantRecord { at: now, ..held };
        if let Some(commit) = commit {
            grant.learn(revision, commit);
        }
        if let Err(error) = self.store.put_grant(name, grant).await {
            tracing::warn!(%error, "what a caller may read cannot be stored");
        }
    }

    /// Takes back what a caller was granted, in memory and on disk.
    pub(super) async fn forget_grant(&self, credential: &Secret, asked: &Resource) {
        let caller = self.grants.caller(credential);
        let key = (caller, self.path_key(asked));
        self.grants.recent.invalidate(&key);
        let name = grant_name(caller, &key.1);
        if matches!(self.store.grant(&name), Ok(Some(_)))
            && let Err(error) = self.store.put_grant(name, GrantRecord::default()).await
        {
            tracing::warn!(%error, "that a caller may no longer read a file cannot be stored");
        }
    }

    /// Notes what the hub's refusal of a request without credentials takes back.
    pub(super) async fn note_withdrawal(&self, asked: &Resource, failure: &Failure) {
        let Failure::Refused(refusal) = failure else { return };
        let Some(of) = withdrawn(asked.hub, refusal.status, &refusal.headers)
            .filter(|_| refusal.at_hub && !refusal.by_mirror)
        else {
            return;
        };
        let path = match of {
            Withdrawn::Path => asked.path.as_str(),
            Withdrawn::Repository => "",
        };
        let key = EntryKey { path: path.to_owned(), ..self.path_key(asked) };
        let now = Timestamp::now();
        let before = self.grants.withdrawn.get(&key);
        self.grants.withdrawn.insert(key.clone(), now);
        // Whoever asks for what is private must not have the index read through each time.
        if before.is_some_and(|at| at.age(now) < ONCE_IN) {
            return;
        }
        for root in self.roots_of(asked.hub) {
            let of = EntryKey { root: root.clone(), ..key.clone() };
            match self.store.withdraw(&of, Some(path).filter(|path| !path.is_empty())).await {
                Ok(0) => {}
                Ok(files) => tracing::warn!(
                    repo = %asked.repo,
                    path,
                    files,
                    "the hub no longer gives to everybody what is held"
                ),
                Err(error) => {
                    tracing::error!(%error, repo = %asked.repo, "who may read files cannot be stored")
                }
            }
        }
    }

    /// Whether the hub has said since `at` that not everybody may read a file: then what it said to everybody until then
    /// is nobody's any more.
    pub(super) fn is_withdrawn_since(&self, file: &Resource, at: Timestamp) -> bool {
        if file.hub != Hub::HuggingFace {
            return false;
        }
        let path = self.path_key(file);
        let repository = path.of_revision();
        [path, repository].iter().any(|key| self.grants.withdrawn.get(key).is_some_and(|said| said >= at))
    }

    /// Who may read what the hub gave to everybody at `at`.
    pub(super) fn openness_of_all(&self, file: &Resource, at: Timestamp) -> Openness {
        match self.is_withdrawn_since(file, at) {
            true => Openness::Restricted,
            false => {
                // From now on another refusal says something new.
                let path = self.path_key(file);
                self.grants.withdrawn.invalidate(&path.of_revision());
                self.grants.withdrawn.invalidate(&path);
                Openness::Public { confirmed_at: at }
            }
        }
    }

    /// Notes that the hub gave a file at its commit to a request without credentials.
    pub(super) async fn note_public(&self, subject: &Resource, at: Timestamp) {
        if !subject.revision.is_immutable() || subject.hub != Hub::HuggingFace {
            return;
        }
        for root in self.roots_of(subject.hub) {
            let key = subject.key(root);
            let Ok(Some(entry)) = self.store.entry(&key) else { continue };
            // What is public and not due says nothing new.
            let is_news = self.grants.rules.is_due(subject.hub, entry.access, at);
            if is_news
                && let Err(error) = self.store.set_access(&key, self.openness_of_all(subject, at)).await
            {
                tracing::warn!(%error, file = %subject, "that a file is public cannot be stored");
            }
        }
    }

    /// The key of a path in its repository, whatever the revision.
    fn path_key(&self, file: &Resource) -> EntryKey {
        EntryKey { revision: String::new(), ..self.key(file) }
    }
}

fn granted(asked: &Resource, said: Option<Arc<Expectation>>) -> Entitled {
    let commit = said.as_ref().and_then(|said| said.representation.commit.clone());
    let subject = match (&asked.revision, commit) {
        (Revision::Named(_), Some(commit)) => asked.at(Revision::Commit(commit)),
        _ => asked.clone(),
    };
    Entitled::Granted { subject, said }
}

fn grant_name(caller: CallerId, path: &EntryKey) -> Vec<u8> {
    [&caller.0[..], &path.encode()].concat()
}

impl Fetcher {
    /// Asks the hub whether the holder of `credential` may read a file, unless it has said so a moment ago and the
    /// client does not insist; waits `within` for it.
    pub async fn entitle(
        self: &Arc<Self>,
        asked: &Resource,
        credential: &Secret,
        insists: bool,
        within: Duration,
    ) -> Entitled {
        let caller = self.cache.grants.caller(credential);
        if !insists && let Some(remembered) = self.cache.remembered(caller, asked, Timestamp::now()) {
            return remembered;
        }
        let (about, secret) = (asked.clone(), credential.clone());
        let ask = move |fetcher: Arc<Self>| async move { fetcher.ask_for(caller, &about, &secret).await };
        let key = (caller, self.cache.key(asked));
        match shared(self, |f| &f.entitling, key, Some(within), ask).await {
            Checked::Late => Entitled::Unanswered(None),
            Checked::Answered(Ok(said)) => granted(asked, Some(said)),
            Checked::Answered(Err(failure)) if failure.is_down() => Entitled::Unanswered(Some(failure)),
            Checked::Answered(Err(failure)) => Entitled::Refused(failure),
        }
    }

    /// Asks the hub about a file that a caller was granted.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn tell_granted(
        &self,
        file: &Resource,
        credential: &Secret,
    ) -> Result<Arc<Expectation>, Arc<Failure>> {
        self.ask_for(self.cache.grants.caller(credential), file, credential).await
    }

    async fn ask_for(
        &self,
        caller: CallerId,
        asked: &Resource,
        credential: &Secret,
    ) -> Result<Arc<Expectation>, Arc<Failure>> {
        match self.upstream.inquire(asked, Some(credential)).await {
            Ok(said) => {
                let said = Arc::new(said);
                self.cache.note_grant(caller, asked, &said).await;
                Ok(said)
            }
            Err(failure) => {
                if failure.is_denied() {
                    self.cache.forget_grant(credential, asked).await;
                }
                Err(Arc::new(failure))
            }
        }
    }

    /// Has the hub asked in the background, and at most once in a while, whether it still gives everybody a file that
    /// is served.
    pub fn recheck(self: &Arc<Self>, file: &Resource, entry: &Entry) {
        let rules = self.cache.entitlement();
        if !rules.is_due(file.hub, entry.access, Timestamp::now()) {
            return;
        }
        let commit = entry.representation.commit.clone();
        let at_commit = commit.map_or_else(|| file.clone(), |commit| file.at(Revision::Commit(commit)));
        let key = self.cache.key(&at_commit);
        if self.cache.grants.rechecked.contains_key(&key) {
            return;
        }
        self.cache.grants.rechecked.insert(key, ());
        let fetcher = Arc::clone(self);
        tokio::spawn(async move {
            // What it says is noted.
            let _ = fetcher.check(&at_commit, None).await;
        });
    }

    /// As whom the hub is asked for what everybody may read.
    pub(super) fn asker(&self, file: &Resource) -> Asker {
        self.credential(file.hub, &file.repo).map_or(Asker::Anyone, Asker::Operator)
    }

    /// The operator's own credentials, for what it lets everybody read.
    pub(super) fn credential(&self, hub: Hub, repo: &Repo) -> Option<Secret> {
        self.upstream.own_credential(hub).filter(|_| self.cache.is_shared(hub, repo))
    }
}
