//! What operators decide of revisions: to keep all of a model, or one of them.

use super::happening;
use super::renew::of_revision;
use crate::model::{
    Decided, EntryKey, Event, Happening, Hub, OnAnnounce, Pin, Renewal, Task, Timestamp, lasting,
};
use crate::store::{Decision, Selector, Store, StoreError};

/// A job that waits until it is told to go on.
pub(super) const PARKED: Timestamp = Timestamp(u64::MAX);

/// Keeps all revisions of a repository, those too that another has superseded. Says what happened: nothing where they are
/// kept already.
///
/// # Errors
/// When the store fails.
pub async fn hold(store: &Store, repo: &str, now: Timestamp) -> Result<Vec<Happening>, StoreError> {
    if store.holds()?.iter().any(|(held, _)| held == repo) {
        return Ok(Vec::new());
    }
    let mut decisions = vec![Decision::Hold(repo.to_owned(), Some(now))];
    let mut told = vec![happening(Event::Held, repo, "all its revisions are kept")];
    for (key, decided) in of_repo(store.all_decided()?, repo) {
        let Decided { superseded: Some(superseded), .. } = decided else { continue };
        if key.hub == Hub::Settings {
            continue;
        }
        // Its successor was fetched, where that was wanted.
        let how = if superseded.drop_at.is_some() { OnAnnounce::Evict } else { OnAnnounce::Mark };
        let to = superseded.by;
        told.push(Happening {
            hub: Some(key.hub),
            revision: Some(key.revision.clone()),
            to: Some(to.clone()),
            ..happening(Event::Kept, repo, "an operator holds the model")
        });
        let renewal = Renewal {
            task: Task::Replace { to: to.clone(), how },
            reason: "taken back by an operator".to_owned(),
            under: superseded.under,
            begun_at: now,
            tried: 0,
            due_at: PARKED,
            trouble: Some(HELD.to_owned()),
        };
        decisions.push(Decision::Reinstate(key.clone()));
        decisions.push(Decision::Renew(EntryKey { path: to, ..key }, renewal));
    }
    write(store, decisions, told).await
}

/// For what revisions are pinned that a lock names.
pub const LOCKED: &str = "it is locked";

/// Why a job waits that an operator stopped.
pub(super) const HELD: &str = "an operator holds the model";

/// No longer keeps all revisions of a repository: what was announced meanwhile is carried out. Nothing happens when they
/// were not kept.
///
/// # Errors
/// When the store fails.
pub async fn release(store: &Store, repo: &str, now: Timestamp) -> Result<Vec<Happening>, StoreError> {
    if !store.holds()?.iter().any(|(held, _)| held == repo) {
        return Ok(Vec::new());
    }
    let mut decisions = vec![Decision::Hold(repo.to_owned(), None)];
    for (key, renewal) in store.renewals()?.into_iter().filter(|(key, _)| key.repo.to_string() == repo) {
        decisions.push(Decision::Renew(key, Renewal { due_at: now, trouble: None, ..renewal }));
    }
    write(store, decisions, vec![happening(Event::Released, repo, "what was announced is carried out")]).await
}

/// Pins the selected revisions, so that nothing drops them; one that is pinned already is pinned anew. Those of which
/// nothing is held cannot be pinned.
///
/// # Errors
/// When the store fails.
pub async fn pin(store: &Store, selector: &Selector, pin: Pin) -> Result<Vec<Happening>, StoreError> {
    let keys = revisions(store, selector)?;
    let detail = said(&pin);
    set_pins(store, keys, Some(pin), &detail).await
}

/// What a pin says, for the history.
fn said(pin: &Pin) -> String {
    let owner = if pin.owner.is_empty() { "an operator" } else { &pin.owner };
    let reason = if pin.reason.is_empty() { String::new() } else { format!(": {}", pin.reason) };
    let lasts = pin.until.map(|until| format!(", for {}", lasting(pin.at.age(until)))).unwrap_or_default();
    format!("by {owner}{lasts}{reason}")
}

/// The reverse of [`pin`].
///
/// # Errors
/// When the store fails.
pub async fn unpin(store: &Store, selector: &Selector) -> Result<Vec<Happening>, StoreError> {
    let pinned = store.all_decided()?.into_iter().filter(|(_, decided)| decided.pinned.is_some());
    let of_revision = Selector { path: None, ..selector.clone() };
    let keys = pinned.map(|(key, _)| key).filter(|key| of_revision.matches(key)).collect();
    set_pins(store, keys, None, "by an operator").await
}

/// Takes away pins whose time is over.
///
/// # Errors
/// When the store fails.
pub async fn end_pins(store: &Store, now: Timestamp) -> Result<Vec<Happening>, StoreError> {
    let is_over = |decided: &Decided| decided.pinned.as_ref().is_some_and(|pin| !pin.stands(now));
    let over = store.all_decided()?.into_iter().filter(|(_, decided)| is_over(decided));
    set_pins(store, over.map(|(key, _)| key).collect(), None, "its time is over").await
}

/// Pins these revisions, of which files are held, where they are not pinned yet, and takes back that anything superseded
/// them.
///
/// # Errors
/// When the store fails.
pub async fn keep(store: &Store, keys: &[EntryKey], now: Timestamp) -> Result<Vec<Happening>, StoreError> {
    let (mut decisions, mut told) = (Vec::new(), Vec::new());
    for key in keys {
        let decided = store.decided(key)?;
        if decided.superseded.is_some() {
            decisions.push(Decision::Reinstate(key.of_revision()));
        }
        let pin = Pin::lasting(now, LOCKED);
        if decided.pin(now).is_none_or(|pin| pin.until.is_some()) {
            decisions.push(Decision::Pin(key.of_revision(), Some(pin)));
            told.push(of_revision(Event::Pinned, key, LOCKED));
        }
    }
    write(store, decisions, told).await
}

async fn set_pins(
    store: &Store,
    keys: Vec<EntryKey>,
    pin: Option<Pin>,
    detail: &str,
) -> Result<Vec<Happening>, StoreError> {
    let event = if pin.is_some() { Event::Pinned } else { Event::Unpinned };
    let told = keys.iter().map(|key| Happening {
        hub: Some(key.hub),
        revision: Some(key.revision.clone()),
        ..happening(event, &key.repo.to_string(), detail)
    });
    let told = told.collect();
    write(store, keys.into_iter().map(|key| Decision::Pin(key, pin.clone())).collect(), told).await
}

/// The revisions of which files are selected.
fn revisions(store: &Store, selector: &Selector) -> Result<Vec<EntryKey>, StoreError> {
    let mut keys: Vec<EntryKey> = Vec::new();
    store.entries(selector, &mut |key, _, _| {
        let key = key.of_revision();
        if keys.last() != Some(&key) {
            keys.push(key);
        }
        std::ops::ControlFlow::Continue(())
    })?;
    Ok(keys)
}

async fn write(
    store: &Store,
    mut decisions: Vec<Decision>,
    told: Vec<Happening>,
) -> Result<Vec<Happening>, StoreError> {
    decisions.extend(told.iter().cloned().map(Decision::Note));
    store.decide(decisions).await?;
    Ok(told)
}

fn of_repo(all: Vec<(EntryKey, Decided)>, repo: &str) -> impl Iterator<Item = (EntryKey, Decided)> {
    all.into_iter().filter(move |(key, _)| key.repo.to_string() == repo)
}
