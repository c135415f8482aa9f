//! Adding to a lock file what a program asked for beyond it.

use std::io;
use std::path::Path;

use super::super::exit::{Exit, Failure};
use super::super::lock::{self, diff, resolve};
use super::super::preload;
use super::super::transfer::{self, Choice};
use crate::admin::control::Noted;
use crate::config::Config;
use crate::transfer::lock::{Lock, Locked};
use crate::transfer::{Addition, ModelName, Recorded, Selection, additions, widened};

/// Adds what was noted, brings here what of it is not here yet, and shows what has changed. Of a model about which the
/// hub cannot say enough nothing is added; the others are.
pub fn write(config: &Config, path: &Path, noted: &[Noted], quiet: bool) -> Result<(), Failure> {
    let before = if path.exists() { lock::read(path)? } else { Lock::default() };
    let recorded: Vec<Recorded> = noted.iter().filter_map(recorded).collect();
    let mut after = before.clone();
    let mut failures = Vec::new();
    for (name, addition) in additions(&before, &recorded) {
        let old = before.models.get(&name);
        match add(config, &name, old, &addition, quiet) {
            Ok(locked) => drop(after.models.insert(name, locked)),
            Err(failure) => failures.push(format!("{name}: {}", failure.message())),
        }
    }
    let new = after.models.iter().filter(|(name, locked)| before.models.get(name) != Some(locked));
    let new =
        Lock { models: new.map(|(name, locked)| (name.clone(), locked.clone())).collect(), ..before.clone() };
    preload::bring(config, &new, quiet)?;
    if !quiet {
        eprintln!("hubcache: {}:", path.display());
        // If nobody reads it, nothing is lost.
        let _ = diff::write(&mut io::stderr().lock(), &before, &after);
    }
    if before != after || !path.exists() {
        lock::write(path, &after)?;
    }
    match failures.is_empty() {
        true => Ok(()),
        false => {
            Err(Failure::new(Exit::TryAgain, format!("not everything was recorded\n{}", failures.join("\n"))))
        }
    }
}

/// What was noted, if it is a model that a lock file can have.
fn recorded(noted: &Noted) -> Option<Recorded> {
    let model = transfer::model(&noted.model).ok()?;
    Some(Recorded { model, commit: noted.commit.clone(), path: noted.path.clone() })
}

/// A model with what is added to it; what it had stays as it was.
fn add(
    config: &Config,
    name: &ModelName,
    old: Option<&Locked>,
    addition: &Addition,
    quiet: bool,
) -> Result<Locked, Failure> {
    let choice = match addition.commit {
        Some(_) => {
            let (include, exclude) = widened(old, &addition.paths);
            let selection = Selection::new(include, exclude);
            Choice::these(selection.map_err(|why| Failure::new(Exit::Data, why.to_string()))?, Vec::new())
        }
        None => {
            let held = old.into_iter().flat_map(|locked| locked.files.keys());
            Choice::these(Selection::default(), held.chain(&addition.paths).cloned().collect())
        }
    };
    let mut locked = resolve::resolve(config, name, addition.commit.as_ref(), &choice, quiet)?;
    if old.is_none() && locked.left_out.as_ref().is_some_and(std::collections::BTreeSet::is_empty) {
        // All of it was asked for: a list of its files would only grow old.
        locked.include.clear();
    }
    locked.files.extend(old.into_iter().flat_map(|old| old.files.clone()));
    Ok(locked)
}
