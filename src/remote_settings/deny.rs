//! What the deny list does to what is held.

use super::renew::of_revision;
use super::{Held, Watcher, denied_at};
use crate::hub;
use crate::model::{EntryKey, Event, Happening, Hub, Timestamp};
use crate::store::{Decision, Selector, StoreError};

impl Watcher {
    /// Drops what the deny list matches, but what is pinned, and tells what it no longer matches that it did `before`.
    pub(super) async fn enforce_deny_list(&self, before: &Held) {
        let held = self.remote.held();
        if held.denied.is_empty() && before.denied.is_empty() {
            return;
        }
        let _commit = self.remote.commit.lock().await;
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
        let is_new = held.denied != before.denied;
        for (key, record) in found {
            let is_kept = store.decided(&key)?.pin(Timestamp::now()).is_some();
            if is_kept && !is_new {
                continue;
            }
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
