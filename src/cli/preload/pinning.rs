//! What a lock file says after `preload --firefox --lock`.
//!
//! Models that people have named stay as they are; one that is announced as well has the files of both, and stays a
//! person's. Of the others those stay that records still name, and that are not denied; those that came whole are pinned
//! as they came. One that did not is left as it was.

use std::collections::{BTreeMap, BTreeSet};

use super::super::exit::Exit;
use super::announced::Announced;
use super::needs::Needs;
use super::outcome::{Trouble, is_excused};
use super::plan::Planned;
use crate::admin::control::Brought;
use crate::model::{Hub, LockedSettings};
use crate::transfer::lock::{Lock, Locked, LockedFile};
use crate::transfer::{Class, ModelName};

/// The models that people have named.
pub fn of_people(lock: &Lock) -> Lock {
    let named = lock.models.iter().filter(|(_, locked)| locked.features.is_empty());
    Lock { models: named.map(|(name, locked)| (name.clone(), locked.clone())).collect(), settings: None }
}

/// What came of models.
pub struct Came<'a> {
    files: BTreeMap<&'a ModelName, BTreeMap<String, LockedFile>>,
    /// Models of which something is not here that should be.
    broken: BTreeSet<&'a ModelName>,
}

impl<'a> Came<'a> {
    pub fn of(plan: &'a [Planned], brought: &[Brought]) -> Self {
        let mut came = Self { files: BTreeMap::new(), broken: BTreeSet::new() };
        for file in brought {
            let Planned { model, wanted, .. } = &plan[file.at];
            match (&file.entry, &file.trouble) {
                (Some(entry), None) => {
                    came.files.entry(model).or_default().insert(wanted.path.clone(), LockedFile::of(entry));
                }
                _ if is_excused(plan, file) => {}
                _ => drop(came.broken.insert(model)),
            }
        }
        came
    }

    /// What is wrong with a model of which no file is there.
    pub fn nothing_of(&self, found: &Announced) -> Option<Trouble> {
        let is_there = self.files.contains_key(&found.name) || self.broken.contains(&found.name);
        let line = format!("{}: the hub has none of the files that were looked for", found.name);
        (!is_there).then_some(Trouble { exit: Exit::NoInput, line })
    }

    /// Whether there are files of a model, and no weights among them that it should have.
    pub fn lacks_weights(&self, found: &Announced) -> bool {
        let is_weights = |path: &String| matches!(Class::of(path), Class::Onnx(_));
        found.reads.has_weights()
            && self.files.get(&found.name).is_some_and(|files| !files.keys().any(is_weights))
    }

    /// The files of a model that came whole.
    fn whole(&self, name: &ModelName) -> Option<&BTreeMap<String, LockedFile>> {
        self.files.get(name).filter(|_| !self.broken.contains(name))
    }
}

/// What is pinned afterwards.
pub fn after(before: &Lock, people: Lock, announced: &[Announced], came: &Came<'_>, needs: &Needs) -> Lock {
    let is_named = |name: &ModelName| {
        let is_it = |id: &str, revision: &str| name.repo.id == id && name.revision == revision;
        let mut named = needs.models.iter().filter(|needed| needed.denied.is_none());
        name.hub == Hub::Mozilla && named.any(|needed| is_it(&needed.repo, &needed.revision))
    };
    let mut after = people;
    for (name, locked) in &before.models {
        if !locked.features.is_empty() && is_named(name) && !after.models.contains_key(name) {
            after.models.insert(name.clone(), locked.clone());
        }
    }
    for found in announced {
        let Some(files) = came.whole(&found.name) else { continue };
        match after.models.get_mut(&found.name).filter(|locked| locked.features.is_empty()) {
            Some(of_person) => of_person.files.extend(files.clone()),
            None => {
                let features = found.features().collect();
                let locked = Locked { files: files.clone(), features, ..Locked::default() };
                after.models.insert(found.name.clone(), locked);
            }
        }
    }
    after.settings = Some(settings(before.settings.as_ref(), &needs.settings));
    after
}

/// What is held, but for when the same bytes were verified: that was before, and is so still.
fn settings(before: Option<&LockedSettings>, held: &LockedSettings) -> LockedSettings {
    let mut settings = held.clone();
    for (collection, snapshot) in &mut settings.snapshots {
        let earlier = before.and_then(|before| before.snapshots.get(collection));
        if let Some(earlier) = earlier.filter(|earlier| earlier.part == snapshot.part) {
            snapshot.verified_at = earlier.verified_at;
        }
    }
    settings
}
