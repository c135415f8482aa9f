//! Which files there may be of a model that a record names.
//!
//! The hub of Firefox has no list of files. The model of the same name at Hugging Face has, and of it what Firefox reads
//! is looked for; where there is none, what Transformers.js may ask for. Where no hub is asked, it is what is held. Files
//! that are not there are excused.

use super::super::exit::{Exit, Failure};
use super::super::holdings::held;
use super::super::transfer;
use super::outcome::Trouble;
use super::plan::{Planned, wanted};
use crate::config::Config;
use crate::model::{Hub, Needed, Repo, RepoKind, Use};
use crate::transfer::{Class, ModelName, Reads};

/// A model that records name, and its files, as far as they can be known before they are asked for.
pub struct Announced {
    pub name: ModelName,
    pub needed: Needed,
    pub reads: Reads,
    files: Vec<String>,
}

impl Announced {
    /// The features that it is for, or tasks where records are for none.
    pub fn features(&self) -> impl Iterator<Item = String> {
        self.needed.uses.iter().map(|of| of.purpose().to_owned())
    }

    /// Its files.
    pub fn plan(&self, config: &Config) -> Result<Vec<Planned>, Failure> {
        let Self { name, files, .. } = self;
        let held = held(config, name, &name.revision)?;
        let is_immutable = name.revision().is_immutable();
        let planned = files.iter().map(|path| Planned {
            model: name.clone(),
            wanted: wanted(name, &name.revision, path, None),
            size: None,
            held: held.contains_key(path) && is_immutable,
            is_optional: true,
        });
        Ok(planned.collect())
    }
}

/// Looks for the files of what records name; none where that has no files, or is denied. What is wrong comes with the name, where that
/// can be one.
pub fn look_for(
    config: &Config,
    needed: &Needed,
    say: &dyn Fn(&str),
) -> Result<Option<Announced>, (Option<ModelName>, Trouble)> {
    if let Some(record) = &needed.denied {
        let Needed { repo, revision, .. } = needed;
        say(&format!("{repo}@{revision}: record {record} of the deny list forbids it to Firefox"));
        return Ok(None);
    }
    let reads = Reads::of(needed);
    if reads.is_nothing() {
        say(&format!("{}: a service runs it, and it has no files", needed.repo));
        return Ok(None);
    }
    let repo = Repo { kind: RepoKind::Model, id: needed.repo.clone() };
    let name = ModelName::new(Hub::Mozilla, repo, &needed.revision).map_err(|why| {
        let records: Vec<&str> = needed.uses.iter().map(|Use { record, .. }| record.as_str()).collect();
        let line = format!("{:?}, which record {} names: {why}", needed.repo, records.join(", "));
        (None, Trouble { exit: Exit::Data, line })
    })?;
    let unknown = Vec::from_iter(reads.unknown()).join(", ");
    if !unknown.is_empty() {
        say(&format!("{name}: {unknown} is no kind of weights that is known; those of all kinds are taken"));
    }
    match files(config, &name, &reads, say) {
        Ok(files) => Ok(Some(Announced { name, needed: needed.clone(), reads, files })),
        Err(failure) => {
            let trouble = Trouble::of(&name, &failure);
            Err((Some(name), trouble))
        }
    }
}

fn files(
    config: &Config,
    name: &ModelName,
    reads: &Reads,
    say: &dyn Fn(&str),
) -> Result<Vec<String>, Failure> {
    let twin = ModelName { hub: Hub::HuggingFace, revision: "main".to_owned(), ..name.clone() };
    let is_weights = |path: &String| matches!(Class::of(path), Class::Onnx(_));
    match transfer::listed(config, &twin) {
        Ok(found) => {
            let listed = found.files.into_iter().map(|file| file.path);
            let mut files: Vec<String> = listed.filter(|path| reads.has(path)).collect();
            // Of some models only the hub of Firefox has such weights.
            if reads.has_weights() && !files.iter().any(is_weights) {
                files.extend(reads.candidates().into_iter().flatten().filter(is_weights));
            }
            Ok(files)
        }
        Err(failure) if failure.code() == Exit::Unavailable.code() => {
            say(&format!("{name}: what is held of it is taken, as no hub is asked"));
            let held = held(config, name, &name.revision)?;
            Ok(held.into_keys().filter(|path| reads.has(path)).collect())
        }
        Err(failure) => match reads.candidates() {
            Some(candidates) => {
                let why = failure.message();
                say(&format!(
                    "{name}: what Transformers.js asks for is looked for, as nobody lists its files: {why}"
                ));
                Ok(candidates)
            }
            None => {
                let exit = if failure.is_of_the_name() { Exit::NoInput } else { Exit::TryAgain };
                let remedy = format!(
                    "`hubcache lock add {} --file PATH --lock FILE` pins those that are named",
                    name.argument()
                );
                Err(Failure::new(exit, format!("nobody lists its files: {}; {remedy}", failure.message())))
            }
        },
    }
}
