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
use super::{Held, Watcher, denied_at, happening};
use crate::cache::{NotBrought, View};
use crate::hub;
use crate::model::{
    Collection, Decided, EntryKey, Event, Happening, Hub, OnAnnounce, RefKey, Renewal, Repo, RepoKind,
    Resource, Revision, Snapshot, Superseded, Task, Timestamp,
};
use crate::store::{Decision, Selector, StoreError};

/// Files of one job that are fetched at a time.
const AT_A_TIME: usize = 4;
/// The longest pause between two tries.
const MAX_PAUSE: Duration = Duration::from_secs(3600);
/// How often it is looked whether something is due, where nothing says so.
const LOOK: Duration = Duration::from_secs(600);

/// How far a job has come.
enum Step {
    /// It is done.
    Done(Vec<Decision>),
    /// It is to be tried again, because of this.
    Again(String),
    /// It waits until an operator lets it go on.
    Parked,
}

impl Watcher {
    /// Carries out what is due, until it is dropped.
    pub async fn renew(self: Arc<Self>) {
        loop {
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
                for (key, renewal) in renewals {
                    if renewal.due_at <= Timestamp::now() {
                        self.try_once(key, renewal).await;
                    }
                }
            }
            Err(error) => tracing::warn!(%error, "what announcements ask for cannot be read"),
        }
        if self.settings().attachments {
            self.fetch_attachments().await;
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

    async fn try_once(&self, key: EntryKey, renewal: Renewal) {
        let is_ours = *self.fetcher.upstream().root(key.hub) == key.root;
        if !is_ours || renewal.under != self.settings().scope() {
            return;
        }
        let step = match &renewal.task {
            Task::Replace { to, how } => self.replace(&key, &renewal, to, *how).await,
            Task::Revalidate => self.revalidate(&key).await,
        };
        let decisions = match step {
            Ok(Step::Done(mut decisions)) => {
                decisions.insert(0, Decision::Renewed(key));
                decisions
            }
            Ok(Step::Parked) => vec![Decision::Renew(
                key,
                Renewal { due_at: PARKED, trouble: Some(HELD.to_owned()), ..renewal },
            )],
            Ok(Step::Again(trouble)) => self.again(key, renewal, trouble),
            Err(error) => self.again(key, renewal, error.to_string()),
        };
        if let Err(error) = self.remote.decide(decisions).await {
            tracing::warn!(%error, "how far an announcement was carried out cannot be stored");
        }
    }

    /// A job is tried again later; the first time, that is told.
    fn again(&self, key: EntryKey, renewal: Renewal, trouble: String) -> Vec<Decision> {
        let pause = self.settings().retry.saturating_mul(1 << renewal.tried.min(16)).min(MAX_PAUSE);
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

    /// Fetches of the new revision what was in use of the old one, and supersedes that.
    async fn replace(
        &self,
        key: &EntryKey,
        renewal: &Renewal,
        to: &str,
        how: OnAnnounce,
    ) -> Result<Step, StoreError> {
        let store = &self.remote.store;
        let paths = store.paths_at(key.hub, &key.root, &key.repo, &key.revision)?;
        if paths.is_empty() {
            return Ok(Step::Done(Vec::new()));
        }
        let told = |event, detail: String| {
            Decision::Note(Happening { to: Some(to.to_owned()), ..of_revision(event, key, detail) })
        };
        let mut decisions = Vec::new();
        if matches!(how, OnAnnounce::Prefetch | OnAnnounce::Evict) {
            let revision = Revision::parse(key.hub, to);
            let (hub, repo) = (key.hub, &key.repo);
            let asked = |path: String| Resource { hub, repo: repo.clone(), revision: revision.clone(), path };
            let (mut files, mut bytes, mut missing) = (0_u64, 0, Vec::new());
            let mut brought = stream::iter(paths.into_iter().map(asked).map(|resource| async move {
                let brought = self.fetcher.bring(&resource).await;
                (resource, brought)
            }))
            .buffer_unordered(AT_A_TIME);
            while let Some((resource, brought)) = brought.next().await {
                match brought {
                    Ok(entry) => (files, bytes) = (files + 1, bytes + entry.size),
                    Err(NotBrought::Missing) => missing.push(resource.path),
                    Err(error) => return Ok(Step::Again(format!("{resource}: {error}"))),
                }
            }
            if files == 0 {
                return Ok(Step::Again(format!("the hub has no file of {to} yet")));
            }
            missing.sort();
            decisions.push(told(Event::Fetched, format!("{files} files, {bytes} bytes")));
            decisions.extend(missing.into_iter().map(|path| told(Event::Missing, path)));
        }
        if self.remote.store.holds()?.iter().any(|(repo, _)| *repo == key.repo.to_string()) {
            return Ok(Step::Parked);
        }
        if let Some(record) = self.live(key, &self.remote.held())? {
            decisions.push(told(Event::Kept, format!("{record} names it")));
            return Ok(Step::Done(decisions));
        }
        let now = Timestamp::now();
        let drop_at = (how == OnAnnounce::Evict).then(|| now.plus(self.settings().grace));
        decisions.push(Decision::Supersede(
            key.of_revision(),
            Superseded { by: to.to_owned(), at: now, drop_at, under: renewal.under.clone() },
        ));
        decisions.push(told(Event::Superseded, renewal.reason.clone()));
        Ok(Step::Done(decisions))
    }

    /// Asks the hub whether the files of a revision are still the same, and fetches those that are not.
    async fn revalidate(&self, key: &EntryKey) -> Result<Step, StoreError> {
        let stored = self.stored(key.hub, &key.repo, &key.revision)?;
        let store = &self.remote.store;
        let paths = store.paths_at(key.hub, &key.root, &key.repo, &stored)?;
        let revision = Revision::parse(key.hub, &key.revision);
        let (mut same, mut changed, mut gone) = (0_u64, 0_u64, 0_u64);
        for path in paths {
            let resource =
                Resource { hub: key.hub, repo: key.repo.clone(), revision: revision.clone(), path };
            let held = |found: crate::cache::Found| found.current.or(found.older).map(|entry| entry.blob);
            let before = held(self.fetcher.cache().look_up(&resource, View::Latest)?);
            let after = if revision.is_immutable() {
                match self.fetcher.check(&resource, None).await {
                    crate::cache::Checked::Answered(Ok(_)) => Ok(before),
                    crate::cache::Checked::Answered(Err(e)) if e.is_denied() => Err(NotBrought::Missing),
                    crate::cache::Checked::Answered(Err(e)) => Err(NotBrought::Failed(e)),
                    crate::cache::Checked::Late => return Ok(Step::Again("the hub is late".to_owned())),
                }
            } else {
                self.fetcher.bring(&resource).await.map(|entry| Some(entry.blob))
            };
            match after {
                Ok(after) if after == before => same += 1,
                Ok(_) => changed += 1,
                Err(NotBrought::Missing) => gone += 1,
                Err(error) => return Ok(Step::Again(format!("{resource}: {error}"))),
            }
        }
        let detail = format!("{same} files are the same, {changed} others were fetched, {gone} are gone");
        Ok(Step::Done(vec![Decision::Note(of_revision(Event::Revalidated, key, detail))]))
    }

    /// Drops superseded revisions whose time is over, unless somebody keeps them or a record names them again.
    async fn drop_due(&self) -> Result<(), StoreError> {
        let now = Timestamp::now();
        let store = &self.remote.store;
        let holds = store.holds()?;
        for (key, decided) in store.all_decided()? {
            let Decided {
                pinned_at: None,
                superseded: Some(Superseded { by, drop_at: Some(at), under, .. }),
            } = decided
            else {
                continue;
            };
            let is_held = holds.iter().any(|(repo, _)| *repo == key.repo.to_string());
            if at > now
                || under != self.settings().scope()
                || is_held
                || self.live(&key, &self.remote.held())?.is_some()
            {
                continue;
            }
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
            let to = Some(by).filter(|by| !by.is_empty());
            let note = Happening { to, ..of_revision(Event::Dropped, &key, detail) };
            self.remote.decide(vec![Decision::Reinstate(key), Decision::Note(note)]).await?;
        }
        Ok(())
    }

    /// Fetches attachments of watched collections, and marks those that no record has any more for being dropped.
    async fn fetch_attachments(&self) {
        let held = self.remote.held();
        let root = self.settings().server.clone();
        let missing =
            held.attachments().filter(|file| matches!(self.remote.store.entry(&file.key(&root)), Ok(None)));
        let missing: Vec<Resource> = missing.collect();
        let mut brought = stream::iter(missing.into_iter().map(|file| async move {
            let brought = self.fetcher.bring(&file).await;
            (file, brought)
        }))
        .buffer_unordered(AT_A_TIME);
        while let Some((file, brought)) = brought.next().await {
            if let Err(error) = brought {
                tracing::warn!(%file, %error, "an attachment of remote settings cannot be fetched; it is tried again");
            }
        }
        if let Err(error) = self.let_go_of_attachments(&held).await {
            tracing::warn!(%error, "attachments that no record has cannot be marked");
        }
    }

    async fn let_go_of_attachments(&self, held: &Held) -> Result<(), StoreError> {
        let mut keys = Vec::new();
        let of_server = Selector {
            hub: Some(Hub::Settings),
            root: Some(self.settings().server.clone()),
            ..Selector::default()
        };
        self.remote.store.entries(&of_server, &mut |key, _, _| {
            keys.push(key);
            std::ops::ControlFlow::Continue(())
        })?;
        let now = Timestamp::now();
        let mut decisions = Vec::new();
        for key in keys {
            let is_synced =
                key.repo.id.parse::<Collection>().is_ok_and(|c| held.collections.contains_key(&c));
            let decided = self.remote.store.decided(&key)?;
            if is_synced && decided.superseded.is_none() && self.live(&key, held)?.is_none() {
                let drop_at = Some(now.plus(self.settings().grace));
                let (by, under) = (String::new(), self.settings().scope());
                let superseded = Superseded { by, at: now, drop_at, under };
                decisions.push(Decision::Supersede(key.of_revision(), superseded));
            }
        }
        if decisions.is_empty() { Ok(()) } else { self.remote.decide(decisions).await }
    }

    /// A record that names a revision, which therefore is not superseded.
    fn live(&self, key: &EntryKey, held: &Held) -> Result<Option<String>, StoreError> {
        match key.hub {
            Hub::Settings => {
                let is_attached = held.attachments().any(|file| file.revision.as_str() == key.revision);
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

    /// Drops what the deny list matches, but what is pinned; `before` is what was held until now.
    pub(super) async fn enforce_deny_list(&self, before: &Held) {
        let held = self.remote.held();
        if held.denied == before.denied {
            return;
        }
        if let Err(error) = self.drop_denied(&held, before).await {
            tracing::warn!(%error, "what the deny list matches is blocked, and cannot be dropped yet");
        }
    }

    async fn drop_denied(&self, held: &Held, before: &Held) -> Result<(), StoreError> {
        let store = &self.remote.store;
        let mut found: Vec<(EntryKey, String)> = Vec::new();
        let mut opened: Vec<EntryKey> = Vec::new();
        for hub in Hub::MODELS.into_iter().filter(|hub| self.settings().deny_for.concerns(*hub)) {
            store.entries(&Selector { hub: Some(hub), ..Selector::default() }, &mut |key, _, _| {
                let path = hub::file_path(&key.resource());
                let was = denied_at(before, hub, &key.root, &path);
                match denied_at(held, hub, &key.root, &path) {
                    Some(denied) => found.push((key, denied.id)),
                    None if was.is_some() && opened.last() != Some(&key.of_revision()) => {
                        opened.push(key.of_revision())
                    }
                    None => {}
                }
                std::ops::ControlFlow::Continue(())
            })?;
        }
        let mut notes: Vec<Happening> = Vec::new();
        for (key, record) in found {
            let is_kept = store.decided(&key)?.pinned_at.is_some();
            if !is_kept {
                let EntryKey { hub, root, repo, revision, path } = key.clone();
                let (repo, revision, path) = (Some(repo.to_string()), Some(revision), Some(path));
                store.remove(&Selector { hub: Some(hub), root: Some(root), repo, revision, path }).await?;
            }
            let what = if is_kept { "blocked and kept, as it is pinned" } else { "blocked and dropped" };
            let note =
                of_revision(Event::Blocked, &key, format!("{what}, by record {record} of the deny list"));
            let is_told = notes
                .last()
                .is_some_and(|last| (&last.model, &last.revision) == (&note.model, &note.revision));
            if !is_told {
                notes.push(note);
            }
        }
        notes.extend(
            opened.iter().map(|key| of_revision(Event::Opened, key, "the deny list no longer matches it")),
        );
        if notes.is_empty() {
            Ok(())
        } else {
            self.remote.decide(notes.into_iter().map(Decision::Note).collect()).await
        }
    }
}

/// The revision that a job puts in the place of another.
fn to_of(task: &Task) -> Option<String> {
    match task {
        Task::Replace { to, .. } => Some(to.clone()),
        Task::Revalidate => None,
    }
}

fn of_revision(event: Event, key: &EntryKey, detail: impl Into<String>) -> Happening {
    Happening {
        hub: Some(key.hub),
        revision: Some(key.revision.clone()),
        ..happening(event, &key.repo.to_string(), detail)
    }
}
