//! What is held of a target: its files, and what leads to them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::exit::Failure;
use super::reach::{self, Event};
use crate::admin::control::{self, Answer, Reference, Row, Selector};
use crate::config::Config;
use crate::model::{EntryKey, Hub, RefKey, Resource, Sha256};
use crate::transfer::ModelName;

/// What a command told.
#[derive(Debug, Default)]
pub struct Holdings {
    /// The files, in the order of their keys.
    pub files: Vec<Row>,
    /// The branches and tags of their repositories.
    pub references: Vec<Reference>,
    /// The answers of a hub's API.
    pub answers: Vec<Answer>,
    /// How many downloads are not finished.
    pub partials: u64,
    /// The branches and tags by what they stand for.
    names: BTreeMap<EntryKey, Vec<String>>,
}

impl Holdings {
    /// Carries out `ls` or `show`.
    ///
    /// # Errors
    /// When the command fails.
    pub fn read(config: &Config, command: control::Command) -> Result<Self, Failure> {
        let mut held = Self::default();
        let done = reach::execute(config, command, |event| held.add(event))?;
        held.partials = done.partials;
        Ok(held)
    }

    fn add(&mut self, event: Event) {
        match event {
            Event::Entry(row) => self.files.push(row),
            Event::Reference(reference) => self.add_reference(reference),
            Event::Answer(answer) => self.answers.push(answer),
            Event::Damaged(..)
            | Event::Progress(_)
            | Event::Status(_)
            | Event::Settings(_)
            | Event::Needed(_)
            | Event::Locked(_)
            | Event::Attached(..)
            | Event::Happened(_)
            | Event::Resolved(_)
            | Event::Listed(_)
            | Event::Moving(_)
            | Event::Brought(_)
            | Event::Taken(_)
            | Event::Text(_)
            | Event::Going(_)
            | Event::Space(_)
            | Event::Explained(_) => {}
        }
    }

    fn add_reference(&mut self, reference: Reference) {
        let RefKey { hub, root, repo, name } = reference.key.clone();
        let revision = reference.commit.as_str().to_owned();
        let stands_for = EntryKey { hub, root, repo, revision, path: String::new() };
        self.names.entry(stands_for).or_default().push(name);
        self.references.push(reference);
    }

    /// The branches and tags that stand for the revision of `key`, as far as is known.
    pub fn names(&self, key: &EntryKey) -> &[String] {
        self.names.get(&revision_of(key)).map_or(&[], Vec::as_slice)
    }
}

/// The revision that a key names, as a key without a path.
pub fn revision_of(key: &EntryKey) -> EntryKey {
    EntryKey { path: String::new(), ..key.clone() }
}

#[cfg(test)]
impl Holdings {
    /// These files and branches.
    pub fn of(files: Vec<Row>, references: Vec<Reference>) -> Self {
        let mut held = Self { files, ..Self::default() };
        references.into_iter().for_each(|reference| held.add_reference(reference));
        held
    }
}

/// Everything that is held of a model at a revision.
pub fn selector(model: &ModelName, revision: &str) -> Selector {
    Selector {
        hub: Some(model.hub),
        repo: Some(model.repo.to_string()),
        revision: Some(revision.to_owned()),
        path: None,
    }
}

/// The files of a model that are held, with the digests that they have: those from equivalents of the hub count as well.
pub fn held(
    config: &Config,
    model: &ModelName,
    revision: &str,
) -> Result<BTreeMap<String, BTreeSet<Sha256>>, Failure> {
    let roots = &config.upstream.roots;
    let (root, equivalents) = (roots.root(model.hub), roots.equivalents(model.hub));
    let held = Holdings::read(config, control::Command::Ls { selector: selector(model, revision) })?;
    let mut found: BTreeMap<String, BTreeSet<Sha256>> = BTreeMap::new();
    for row in
        held.files.into_iter().filter(|row| row.key.root == *root || equivalents.contains(&row.key.root))
    {
        found.entry(row.key.path).or_default().insert(row.entry.blob);
    }
    Ok(found)
}

/// The files that are held of Remote Settings, each as a lock names it.
pub fn held_settings(config: &Config) -> Result<HashMap<Resource, Row>, Failure> {
    let root = config.upstream.roots.root(Hub::Settings);
    let selector = Selector { hub: Some(Hub::Settings), ..Selector::default() };
    let held = Holdings::read(config, control::Command::Ls { selector })?;
    let ours = held.files.into_iter().filter(|row| row.key.root == *root);
    Ok(ours.map(|row| (row.key.resource(), row)).collect())
}
