//! What a model is now, as a lock pins it.

use super::super::exit::{Exit, Failure};
use super::super::transfer::{self, Choice, Watcher};
use crate::admin::control::{Brought, Wanted};
use crate::config::Config;
use crate::model::{Commit, Digest};
use crate::transfer::lock::{Locked, LockedFile, Origin};
use crate::transfer::{ModelName, Selection};

/// Asks the hub what a model is, at this commit or at the one for which its revision stands now. What only its bytes can
/// tell is fetched, and kept.
pub fn resolve(
    config: &Config,
    name: &ModelName,
    commit: Option<&Commit>,
    choice: &Choice,
    quiet: bool,
) -> Result<Locked, Failure> {
    let say = |text: &str| {
        if !quiet {
            eprintln!("{text}");
        }
    };
    let revision = commit.map_or(name.revision.as_str(), Commit::as_str).to_owned();
    let survey = transfer::survey(config, &ModelName { revision, ..name.clone() }, choice, &say)?;
    let has_list = survey.commit.is_some();
    let (chosen, rest): (Vec<_>, Vec<_>) = survey.files.into_iter().partition(|file| choice.has(&file.path));
    let (include, exclude) = choice.patterns(chosen.iter().map(|file| file.path.as_str()));
    let mut locked = Locked {
        commit: survey.commit.clone(),
        include,
        exclude,
        left_out: has_list.then(|| rest.into_iter().map(|file| file.path).collect()),
        ..Locked::default()
    };
    let revision = locked.kept_at(name).to_owned();
    let mut unknown = Vec::new();
    for file in chosen {
        match (file.digest, file.size) {
            (Some(Digest::Sha256(sha256)), Some(size)) => {
                locked.files.insert(file.path, LockedFile { size, sha256, from: Origin::Lfs });
            }
            _ => unknown.push(Wanted {
                hub: name.hub,
                repo: name.repo.clone(),
                revision: revision.clone(),
                path: file.path,
                sha256: None,
            }),
        }
    }
    let brought = transfer::bring(config, &unknown, &mut Watcher::new(quiet, 0))?;
    let mut absent = 0;
    for (wanted, brought) in unknown.iter().zip(brought) {
        match brought {
            Brought { entry: Some(entry), trouble: None, .. } => {
                locked.files.insert(wanted.path.clone(), LockedFile::of(&entry));
            }
            Brought { is_missing: true, .. } if !survey.is_complete => absent += 1,
            Brought { trouble, is_missing, .. } => {
                let exit = if is_missing { Exit::NoInput } else { Exit::TryAgain };
                let why = trouble.unwrap_or_default();
                return Err(Failure::new(
                    exit,
                    format!("{name}/{}: {why}; nothing was written", wanted.path),
                ));
            }
        }
    }
    if !has_list && !survey.is_complete {
        say(&format!(
            "{name}: {} of {} names that were tried are there",
            unknown.len() - absent,
            unknown.len()
        ));
    }
    if locked.files.is_empty() {
        return Err(Failure::new(
            Exit::NoInput,
            format!("{name} has no file that is meant; nothing was written"),
        ));
    }
    Ok(locked)
}

/// The same by the choice that a lock has; what has not moved stays as it is.
pub fn update(config: &Config, name: &ModelName, locked: &Locked, quiet: bool) -> Result<Locked, Failure> {
    let selection = Selection::new(locked.include.clone(), locked.exclude.clone());
    let selection = selection.map_err(|why| Failure::new(Exit::Data, format!("{name}: {why}")))?;
    let choice = match locked.commit {
        Some(_) => Choice::these(selection, Vec::new()),
        None => Choice::these(selection, locked.files.keys().cloned().collect()),
    };
    if let Some(commit) = &locked.commit
        && transfer::survey(config, name, &choice, &|_| {})?.commit.as_ref() == Some(commit)
    {
        return Ok(locked.clone());
    }
    let features = locked.features.clone();
    Ok(Locked { features, ..resolve(config, name, None, &choice, quiet)? })
}
