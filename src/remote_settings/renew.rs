//! What announcements ask for: jobs that fetch the files of a new revision before anybody asks for them, and let go of
//! what it replaces.
//!
//! Each step ends with one transaction, and may be repeated: a file that is held is not fetched again, and a revision
//! is superseded in the transaction that removes the job.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};

use super::announce::{Announcement, announcements};
use super::hold::{HELD, PARKED};
use super::{Held, Watcher, happening};
use crate::cache::{Checked, NotBrought, View};
use crate::model::{
    Collection, Digest, Entry, EntryKey, Event, Expectation, Happening, Hub, OnAnnounce, RefKey, Renewal,
    Repo, RepoKind, Resource, Revision, Snapshot, Superseded, Task, Timestamp,
};
use crate::store::{Decision, Selector, StoreError};

/// Files of one job that are fetched at a time.
pub(super) const AT_A_TIME: usize = 4;
/// Jobs that are carried out at a time.
const JOBS: usize = 4;
/// The longest pause between two tries.
const MAX_PAUSE: Duration = Duration::from_secs(3600);
/// How often it is looked whether something is due, where nothing says so.
pub(super) const LOOK: Duration = Duration::from_secs(600);

/// What was found out for a job, before anything is decided.
enum Found {
    /// What there is of the new revision is here.
    Fetched { files: u64, bytes: u64, missing: Vec<String> },
    /// The files were compared.
    Compared(String),
    /// Nothing is held any more of what the job is about.
    Nothing,
    /// It is to be tried again, because of this.
    Again(String),
}

impl Watcher {
    /// Carries out what is due, until it is dropped.
    pub async fn renew(self: Arc<Self>) {
        let mut seen = None;
        loop {
            // A download that began before the deny list matched it lands after that.
            let changes = self.remote.store.changes();
            if seen != Some(changes) {
                self.enforce_deny_list(&self.remote.held()).await;
                seen = Some(changes);
            }
            let next = self.carry_out().await;
            tokio::select! {
                () = tokio::time::sleep(next) => {}
                () = self.remote.renewals.notified() => {}
            }
        }
    }

    /// Does what is due now; how long there is time until something else is.
    async fn carry_out(&self) -> Duration {
        if let Err(error) = self.drop_due().await {
            tracing::warn!(%error, "superseded revisions cannot be dropped yet");
        }
        match self.remote.store.renewals() {
            Ok(renewals) => {
                let now = Timestamp::now();
                let due = renewals.into_iter().filter(|(_, renewal)| renewal.due_at <= now);
                let tried = stream::iter(due.map(|(key, renewal)| self.try_once(key, renewal)));
                tried.buffer_unordered(JOBS).for_each(|()| std::future::ready(())).await;
            }
            Err(error) => tracing::warn!(%error, "what announcements ask for cannot be read"),
        }
        self.until_due()
    }

    fn until_due(&self) -> Duration {
        let now = Timestamp::now();
        let renewals = self.remote.store.renewals().unwrap_or_default();
        let jobs = renewals.iter().map(|(_, renewal)| renewal.due_at);
        let decided = self.remote.store.all_decided().unwrap_or_default();
        let drops = decided.iter().filter_map(|(_, decided)| decided.superseded.as_ref()?.drop_at);
        let next = jobs.chain(drops).filter(|at| *at > now).min();
        next.map_or(LOOK, |at| now.age(at).min(LOOK))
    }

    /// Finds out what a job needs, and then decides by what is held at that moment.
    async fn try_once(&self, key: EntryKey, renewal: Renewal) {
        let is_ours = *self.fetcher.upstream().root(key.hub) == key.root;
        if !is_ours || renewal.under != self.settings().scope() {
            return;
        }
        let found = match &renewal.task {
            Task::Replace { to, how } => self.fetched(&key, to, *how).await,
            Task::Revalidate => self.compared(&key).await,
        };
        let found = found.unwrap_or_else(|error| Found::Again(error.to_string()));
        let _commit = self.remote.commit.lock().await;
        let decided = self.concluded(&key, &renewal, found);
        let done = match decided {
            Ok(decisions) if decisions.is_empty() => Ok(()),
            Ok(decisions) => self.remote.decide(decisions).await,
            Err(error) => Err(error),
        };
        if let Err(error) = done {
            tracing::warn!(%error, "how far an announcement was carried out cannot be stored");
        }
    }

    /// What becomes of a job for which this was found. Nothing, if something else has become of it meanwhile.
    fn concluded(
        &self,
        key: &EntryKey,
        renewal: &Renewal,
        found: Found,
    ) -> Result<Vec<Decision>, StoreError> {
        if !self.remote.store.renewals()?.iter().any(|(of, job)| of == key && job == renewal) {
            return Ok(Vec::new());
        }
        let mut decisions = vec![Decision::Renewed(key.clone())];
        let to = to_of(&renewal.task);
        let told = |event, detail: String| {
            Decision::Note(Happening { to: to.clone(), ..of_revision(event, key, detail) })
        };
        let (files, bytes, missing) = match found {
            Found::Again(trouble) => return Ok(self.again(key.clone(), renewal.clone(), trouble)),
            Found::Nothing => return Ok(decisions),
            Found::Compared(detail) => {
                decisions.push(told(Event::Revalidated, detail));
                return Ok(decisions);
            }
            Found::Fetched { files, bytes, missing } => (files, bytes, missing),
        };
        let Task::Replace { to: by, how } = &renewal.task else { return Ok(decisions) };
        let held = self.remote.held();
        if *how != OnAnnounce::Mark {
            decisions.push(told(Event::Fetched, format!("{files} files, {bytes} bytes")));
            decisions.extend(missing.into_iter().map(|path| told(Event::Missing, path)));
        }
        if self.remote.store.holds()?.iter().any(|(repo, _)| *repo == key.repo.to_string()) {
            let trouble = Some(HELD.to_owned());
            let parked = Renewal { due_at: PARKED, trouble, ..renewal.clone() };
            return Ok(vec![Decision::Renew(key.clone(), parked)]);
        }
        if let Some(record) = self.live(key, &held)? {
            decisions.push(told(Event::Kept, format!("{record} names it")));
            return Ok(decisions);
        }
        if !held.revisions(&key.repo.id).any(|(revision, _)| revision == by) {
            decisions.push(told(Event::Kept, format!("no record names {by} any more")));
            return Ok(decisions);
        }
        let now = Timestamp::now();
        let drop_at = (*how == OnAnnounce::Evict).then(|| now.plus(self.settings().grace));
        let superseded = Superseded { by: by.clone(), at: now, drop_at, under: renewal.under.clone() };
        decisions.push(Decision::Supersede(key.of_revision(), superseded));
        decisions.push(told(Event::Superseded, renewal.reason.clone()));
        Ok(decisions)
    }

    /// How long to wait after so many tries: each pause is twice as long as the one before.
    pub(super) fn pause(&self, tried: u32) -> Duration {
        self.settings().retry.saturating_mul(1 << tried.min(16)).min(MAX_PAUSE)
    }

    /// A job is tried again later; the first time, that is told.
    fn again(&self, key: EntryKey, renewal: Renewal, trouble: String) -> Vec<Decision> {
        let pause = self.pause(renewal.tried);
        let note = Happening {
            to: to_of(&renewal.task),
            ..of_revision(Event::Delayed, &key, format!("{trouble}; it is tried again"))
        };
        let is_news = renewal.trouble.as_ref() != Some(&trouble);
        let due_at = Timestamp::now().plus(pause);
        let renewal = Renewal { tried: renewal.tried + 1, due_at, trouble: Some(trouble), ..renewal };
        let mut decisions = vec![Decision::Renew(key, renewal)];
        decisions.extend(is_news.then_some(Decision::Note(note)));
        decisions
    }

    /// Fetches of the new revision what was in use of the old one.
    async fn fetched(&self, key: &EntryKey, to: &str, how: OnAnnounce) -> Result<Found, StoreError> {
        let paths = self.remote.store.paths_at(key.hub, &key.root, &key.repo, &key.revision)?;
        if paths.is_empty() {
            return Ok(Found::Nothing);
        }
        let (mut files, mut bytes, mut missing) = (0_u64, 0, Vec::new());
        if how == OnAnnounce::Mark {
            return Ok(Found::Fetched { files, bytes, missing });
        }
        // What is withdrawn while it waits is not fetched.
        if !self.remote.held().revisions(&key.repo.id).any(|(revision, _)| revision == to) {
            return Ok(Found::Fetched { files, bytes, missing });
        }
        let revision = Revision::parse(key.hub, to);
        let asked = |path: String| Resource {
            hub: key.hub,
            repo: key.repo.clone(),
            revision: revision.clone(),
            path,
        };
        let resources: Vec<Resource> = paths.into_iter().map(asked).collect();
        for resource in &resources {
            if let Some(denied) = self.remote.denied(resource, &key.root, false) {
                return Ok(Found::Again(format!("record {} of the deny list forbids {resource}", denied.id)));
            }
        }
        let mut brought = stream::iter(resources.into_iter().map(|resource| async move {
            let brought = self.fetcher.bring(&resource).await;
            (resource, brought)
        }))
        .buffer_unordered(AT_A_TIME);
        while let Some((resource, brought)) = brought.next().await {
            match brought {
                Ok(entry) => (files, bytes) = (files + 1, bytes + entry.size),
                Err(NotBrought::Missing) => missing.push(resource.path),
                Err(error) => return Ok(Found::Again(format!("{resource}: {error}"))),
            }
        }
        if files == 0 {
            return Ok(Found::Again(format!("the hub has no file of {to} yet")));
        }
        missing.sort();
        Ok(Found::Fetched { files, bytes, missing })
    }

    /// Asks the hub whether the files of a revision are still the same, and fetches those that are not.
    async fn compared(&self, key: &EntryKey) -> Result<Found, StoreError> {
        let stored = self.stored(key.hub, &key.repo, &key.revision)?;
        let store = &self.remote.store;
        let paths = store.paths_at(key.hub, &key.root, &key.repo, &stored)?;
        let revision = Revision::parse(key.hub, &key.revision);
        let (mut same, mut changed, mut gone) = (0_u64, 0_u64, 0_u64);
        for path in paths {
            let resource =
                Resource { hub: key.hub, repo: key.repo.clone(), revision: revision.clone(), path };
            let found = self.fetcher.cache().look_up(&resource, View::Latest)?;
            let Some(before) = found.current.or(found.older) else { continue };
            let after = match revision.is_immutable() {
                true => match self.fetcher.check(&resource, None).await {
                    Checked::Answered(Ok(said)) => Ok(is_still(&before, &said)),
                    Checked::Answered(Err(e)) if e.is_denied() => Err(NotBrought::Missing),
                    Checked::Answered(Err(e)) => Err(NotBrought::Failed(e)),
                    Checked::Late => return Ok(Found::Again("the hub is late".to_owned())),
                },
                false => self.fetcher.bring(&resource).await.map(|entry| entry.blob == before.blob),
            };
            match after {
                Ok(true) => same += 1,
                Ok(false) => changed += 1,
                Err(NotBrought::Missing) => gone += 1,
                Err(error) => return Ok(Found::Again(format!("{resource}: {error}"))),
            }
        }
        let others = match revision.is_immutable() {
            // Other bytes for an immutable revision are refused, whoever announces them.
            true => "are others at the hub, and stay as they are here",
            false => "others were fetched",
        };
        let detail = format!("{same} files are the same, {changed} {others}, {gone} are gone");
        Ok(Found::Compared(detail))
    }

    /// Drops superseded revisions whose time is over, unless somebody keeps them or a record names them again.
    async fn drop_due(&self) -> Result<(), StoreError> {
        let store = &self.remote.store;
        for (key, _) in store.all_decided()? {
            // Pins, holds and what records name are looked at as they are while nobody can change them.
            let _commit = self.remote.commit.lock().await;
            let Some(superseded) = self.is_due_to_go(&key)? else { continue };
            let EntryKey { hub, root, repo, revision, .. } = key.clone();
            let selector = Selector {
                hub: Some(hub),
                root: Some(root),
                repo: Some(repo.to_string()),
                revision: Some(revision),
                path: None,
            };
            let removed = store.remove(&selector).await?;
            let detail = format!("{} files, {} bytes of them are free", removed.entries, removed.bytes);
            let to = Some(superseded.by).filter(|by| !by.is_empty());
            let note = Happening { to, ..of_revision(Event::Dropped, &key, detail) };
            self.remote.decide(vec![Decision::Reinstate(key), Decision::Note(note)]).await?;
        }
        Ok(())
    }

    /// What superseded a revision that is to be dropped now.
    fn is_due_to_go(&self, key: &EntryKey) -> Result<Option<Superseded>, StoreError> {
        let store = &self.remote.store;
        let decided = store.decided(key)?;
        let is_pinned = decided.pin(Timestamp::now()).is_some();
        let Some(superseded) = decided.superseded.filter(|_| !is_pinned) else {
            return Ok(None);
        };
        let is_held = store.holds()?.iter().any(|(repo, _)| *repo == key.repo.to_string());
        let is_late = superseded.drop_at.is_some_and(|at| at <= Timestamp::now());
        let is_ours = superseded.under == self.settings().scope();
        let goes = is_late && is_ours && !is_held && self.live(key, &self.remote.held())?.is_none();
        Ok(goes.then_some(superseded))
    }

    /// A record that names a revision, which therefore is not superseded.
    pub(super) fn live(&self, key: &EntryKey, held: &Held) -> Result<Option<String>, StoreError> {
        match key.hub {
            Hub::Settings => {
                let is_attached = held.attachments().any(|(file, _)| file.revision.as_str() == key.revision);
                Ok(is_attached.then(|| key.repo.to_string()))
            }
            hub => {
                for (revision, record) in held.revisions(&key.repo.id) {
                    if revision == key.revision || self.stored(hub, &key.repo, revision)? == key.revision {
                        return Ok(Some(record.to_owned()));
                    }
                }
                Ok(None)
            }
        }
    }

    /// Under which revision the files are kept that are asked for at `revision`.
    fn stored(&self, hub: Hub, repo: &Repo, revision: &str) -> Result<String, StoreError> {
        match Revision::parse(hub, revision) {
            Revision::Named(name) if hub == Hub::HuggingFace => {
                let root = self.fetcher.upstream().root(hub).clone();
                let key = RefKey { hub, root, repo: repo.clone(), name: name.clone() };
                Ok(self
                    .remote
                    .store
                    .reference(&key)?
                    .map_or(name, |record| record.commit.as_str().to_owned()))
            }
            other => Ok(other.as_str().to_owned()),
        }
    }

    /// What the new state of a collection announces, as jobs and as lines of the history.
    pub(super) fn announced(
        &self,
        before: Option<&Snapshot>,
        collection: &Collection,
        held: &Held,
    ) -> Result<Vec<Decision>, StoreError> {
        let (Some(before), Some(after)) = (before, held.collections.get(collection)) else {
            return Ok(Vec::new());
        };
        let pending = self.remote.store.renewals()?;
        let mut decisions = Vec::new();
        for announcement in announcements(before, after) {
            let (repo, from, to, record) = match &announcement {
                Announcement::Moved { repo, from, to, record } => (repo, from, Some(to), record),
                Announcement::Touched { repo, revision, record } => (repo, revision, None, record),
            };
            let reason = format!("{collection}/{record}");
            decisions.push(Decision::Note(Happening {
                revision: Some(from.clone()),
                to: to.cloned(),
                ..happening(Event::Announced, repo, reason.clone())
            }));
            for hub in Hub::MODELS {
                let how = self.settings().on_announce(hub);
                if how != OnAnnounce::Ignore {
                    let repo = Repo { kind: RepoKind::Model, id: repo.clone() };
                    decisions.extend(self.jobs(hub, &repo, from, to, how, &reason, &pending)?);
                }
            }
        }
        Ok(decisions)
    }

    /// The jobs at one hub that follow from an announcement: nothing where nothing of it is held.
    #[allow(clippy::too_many_arguments)]
    fn jobs(
        &self,
        hub: Hub,
        repo: &Repo,
        from: &str,
        to: Option<&String>,
        how: OnAnnounce,
        reason: &str,
        pending: &[(EntryKey, Renewal)],
    ) -> Result<Vec<Decision>, StoreError> {
        let root = self.fetcher.upstream().root(hub).clone();
        let now = Timestamp::now();
        let job = |task| Renewal {
            task,
            reason: reason.to_owned(),
            under: self.settings().scope(),
            begun_at: now,
            tried: 0,
            due_at: now,
            trouble: None,
        };
        let stored = self.stored(hub, repo, from)?;
        let is_held = !self.remote.store.paths_at(hub, &root, repo, &stored)?.is_empty();
        let key = |revision: &str, path: &str| EntryKey {
            hub,
            root: root.clone(),
            repo: repo.clone(),
            revision: revision.to_owned(),
            path: path.to_owned(),
        };
        let mut decisions = Vec::new();
        match to {
            None => decisions.extend(is_held.then(|| Decision::Renew(key(from, ""), job(Task::Revalidate)))),
            Some(to) => {
                let replace = || job(Task::Replace { to: to.clone(), how });
                decisions.extend(is_held.then(|| Decision::Renew(key(&stored, to), replace())));
                // What waits for the revision that is replaced now waits for this one.
                let waiting = pending.iter().filter(|(waiting, renewal)| {
                    (waiting.hub, &waiting.repo) == (hub, repo)
                        && to_of(&renewal.task).as_deref() == Some(from)
                });
                for (waiting, _) in waiting {
                    decisions.push(Decision::Renewed(waiting.clone()));
                    if waiting.revision != *to {
                        decisions.push(Decision::Renew(key(&waiting.revision, to), replace()));
                    }
                }
            }
        }
        Ok(decisions)
    }

    /// Superseded revisions that records name again.
    pub(super) fn reinstated(&self, held: &Held) -> Result<Vec<Decision>, StoreError> {
        let mut decisions = Vec::new();
        for (key, decided) in self.remote.store.all_decided()? {
            if decided.superseded.is_some()
                && let Some(record) = self.live(&key, held)?
            {
                let note = of_revision(Event::Kept, &key, format!("{record} names it again"));
                decisions.extend([Decision::Reinstate(key), Decision::Note(note)]);
            }
        }
        Ok(decisions)
    }
}

/// Whether what a hub says of a file is true of the one that is held.
fn is_still(held: &Entry, said: &Expectation) -> bool {
    let is_size = said.representation.size.is_none_or(|size| size == held.size);
    let agrees = |digest: &Digest| match digest {
        Digest::Sha256(sha256) => *sha256 == held.blob,
        other => {
            let mut same =
                held.promises.iter().filter(|p| p.digest.algorithm() == other.algorithm()).peekable();
            same.peek().is_none() || same.any(|p| p.digest == *other)
        }
    };
    is_size && said.promises.iter().all(|promise| agrees(&promise.digest))
}

/// The revision that a job puts in the place of another.
fn to_of(task: &Task) -> Option<String> {
    match task {
        Task::Replace { to, .. } => Some(to.clone()),
        Task::Revalidate => None,
    }
}

pub(super) fn of_revision(event: Event, key: &EntryKey, detail: impl Into<String>) -> Happening {
    Happening {
        hub: Some(key.hub),
        revision: Some(key.revision.clone()),
        ..happening(event, &key.repo.to_string(), detail)
    }
}
