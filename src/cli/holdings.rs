//! What is held of a target: its files, and what leads to them.

use std::collections::BTreeMap;

use super::exit::Failure;
use super::reach::{self, Event};
use crate::admin::control::{self, Answer, Reference, Row};
use crate::config::Config;
use crate::model::{EntryKey, RefKey};

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
            | Event::Happened(_)
            | Event::Resolved(_)
            | Event::Listed(_)
            | Event::Moving(_)
            | Event::Brought(_)
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
