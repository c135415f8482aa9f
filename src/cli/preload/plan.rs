//! What is to be here: of a lock file, of a hub, and shown before anything is fetched.

use std::collections::BTreeSet;
use std::io::{self, Write};

use serde_json::{Value, json};

use super::super::exit::{Exit, Failure, output};
use super::super::holdings::{held, held_settings};
use super::super::print::{self, Table};
use super::super::settings;
use super::super::transfer::{self, Choice};
use crate::admin::control::Wanted;
use crate::config::Config;
use crate::model::{Digest, Hub, LockedSettings, Resource, Sha256, Timestamp, is_of_locked};
use crate::remote_settings::CollectionStatus;
use crate::transfer::ModelName;
use crate::transfer::lock::Lock;

/// A file that is to be here.
pub struct Planned {
    /// The model, by what was asked for; or an attachment of Remote Settings.
    pub model: ModelName,
    /// The file.
    pub wanted: Wanted,
    /// Its length, as far as it is known.
    pub size: Option<u64>,
    /// Whether it is here already.
    pub held: bool,
    /// Whether it may be missing at the hub.
    pub is_optional: bool,
}

/// What a lock file pins of models.
pub fn of_lock(config: &Config, lock: &Lock) -> Result<Vec<Planned>, Failure> {
    let mut plan = Vec::new();
    for (model, locked) in &lock.models {
        let revision = locked.kept_at(model);
        let held = held(config, model, revision)?;
        for (path, file) in &locked.files {
            plan.push(Planned {
                model: model.clone(),
                wanted: wanted(model, revision, path, Some(file.sha256)),
                size: Some(file.size),
                held: held.get(path).is_some_and(|digests| digests.contains(&file.sha256)),
                is_optional: false,
            });
        }
    }
    Ok(plan)
}

/// What a lock file pins of Remote Settings: its attachments, and the parts that are not here and that nobody can be
/// asked for.
pub fn of_settings(
    config: &Config,
    settings: &LockedSettings,
) -> Result<(Vec<Planned>, Vec<Resource>), Failure> {
    let held = held_settings(config)?;
    let is_held = |file: &Resource| held.contains_key(file);
    let (parts, attachments): (Vec<_>, Vec<_>) =
        settings.files().into_iter().partition(|(file, _)| is_of_locked(&file.repo));
    let planned = attachments.into_iter().map(|(file, size)| {
        let held = is_held(&file);
        let Resource { hub, repo, revision, path } = file;
        let model = ModelName { hub, repo, revision: revision.as_str().to_owned() };
        let sha256 = Sha256::parse(&model.revision);
        let wanted = wanted(&model, &model.revision, &path, sha256);
        Planned { wanted, model, size: Some(size), held, is_optional: false }
    });
    let planned = planned.collect();
    Ok((planned, parts.into_iter().map(|(file, _)| file).filter(|file| !is_held(file)).collect()))
}

/// What a hub has of a model.
pub fn of_hub(
    config: &Config,
    model: &ModelName,
    choice: &Choice,
    say: &dyn Fn(&str),
) -> Result<Vec<Planned>, Failure> {
    let survey = transfer::survey(config, model, choice, say)?;
    let revision = survey.commit.as_ref().map_or(model.revision.as_str(), |commit| commit.as_str());
    let held = held(config, model, revision)?;
    let chosen = survey.files.into_iter().filter(|file| choice.has(&file.path));
    let planned = chosen.map(|file| {
        let sha256 = match file.digest {
            Some(Digest::Sha256(sha256)) => Some(sha256),
            _ => None,
        };
        Planned {
            model: model.clone(),
            held: held.contains_key(&file.path) && model.revision().is_immutable() || file.held.is_some(),
            wanted: wanted(model, revision, &file.path, sha256),
            size: file.size,
            is_optional: !survey.is_complete,
        }
    });
    Ok(planned.collect())
}

/// A file of a model.
pub fn wanted(model: &ModelName, revision: &str, path: &str, sha256: Option<Sha256>) -> Wanted {
    Wanted {
        hub: model.hub,
        repo: model.repo.clone(),
        revision: revision.to_owned(),
        path: path.to_owned(),
        sha256,
    }
}

/// Two names of one commit have the same files: each file once.
pub fn once(plan: &mut Vec<Planned>) {
    let mut seen = BTreeSet::new();
    plan.retain(|Planned { model, wanted, .. }| {
        let name = (model.hub, model.repo.clone(), wanted.revision.clone(), wanted.path.clone());
        seen.insert(name)
    });
}

/// How many bytes are to come, as far as it is known.
pub fn to_come(plan: &[Planned]) -> u64 {
    plan.iter().filter(|file| !file.held).filter_map(|file| file.size).fold(0, u64::saturating_add)
}

/// Shows what would be done, and beside which collections.
pub fn show(
    config: &Config,
    plan: &[Planned],
    collections: Option<&[CollectionStatus]>,
    as_json: bool,
) -> Result<(), Failure> {
    let free = free_bytes(config);
    let fits = free.is_none_or(|free| to_come(plan) <= free);
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut write = || {
        if as_json {
            writeln!(out, "{:#}", summary(plan, collections, free, fits))?;
            return out.flush();
        }
        table(plan).write(&mut out)?;
        writeln!(out, "{}", line(plan, free, fits))?;
        if let Some(collections) = collections {
            writeln!(out)?;
            settings::table(collections, Timestamp::now()).write(&mut out)?;
        }
        out.flush()
    };
    output(write())?;
    match fits {
        true => Ok(()),
        false => Err(Failure::new(Exit::Io, "it does not fit on the disk of the data directory")),
    }
}

fn summary(
    plan: &[Planned],
    collections: Option<&[CollectionStatus]>,
    free: Option<u64>,
    fits: bool,
) -> Value {
    let files: Vec<Value> = plan.iter().map(|file| object(file, file.held)).collect();
    let mut summary = json!({
        "files": files,
        "files_count": plan.len(),
        "total_bytes": total(plan),
        "to_fetch_bytes": to_come(plan),
        "free_bytes": free,
        "fits": fits,
    });
    if let Some(collections) = collections {
        summary["collections"] = collections.iter().map(settings::collection).collect();
    }
    summary
}

fn table(plan: &[Planned]) -> Table {
    let mut table = Table::new(&["FILE", "SIZE", "HERE"], &[1]);
    let mut above = None;
    for file in plan {
        let heading = heading(&file.model);
        if above.as_ref() != Some(&heading) {
            table.heading(heading.clone());
            above = Some(heading);
        }
        let size = file.size.map_or_else(|| "?".to_owned(), print::size);
        let here = if file.held { "yes" } else { "no" };
        table.row(vec![format!("  {}", file.wanted.path), size, here.to_owned()]);
    }
    table
}

/// Below what a file is shown: attachments below their collection.
fn heading(model: &ModelName) -> String {
    match model.hub {
        Hub::Settings => format!("{}:{}", model.hub, model.repo),
        Hub::Mozilla | Hub::HuggingFace => model.to_string(),
    }
}

/// All of it in a line.
fn line(plan: &[Planned], free: Option<u64>, fits: bool) -> String {
    let unknown = plan.iter().filter(|file| !file.held && file.size.is_none()).count();
    let of_unknown = if unknown == 0 { String::new() } else { format!(", and {unknown} of unknown size") };
    let room = match free {
        Some(free) if fits => format!("; {} are free", print::size(free)),
        Some(free) => format!("; only {} are free", print::size(free)),
        None => String::new(),
    };
    let (count, size) = (print::count(plan.len() as u64, "file"), print::size(total(plan)));
    format!("{count}, {size}; {} to fetch{of_unknown}{room}", print::size(to_come(plan)))
}

fn total(plan: &[Planned]) -> u64 {
    plan.iter().filter_map(|file| file.size).fold(0, u64::saturating_add)
}

/// A file as scripts get it.
pub fn object(file: &Planned, held: bool) -> Value {
    json!({
        "model": file.model.to_string(),
        "path": file.wanted.path,
        "size": file.size,
        "sha256": file.wanted.sha256,
        "held": held,
    })
}

/// What may be stored on the disk of the data directory; none where the system does not tell.
fn free_bytes(config: &Config) -> Option<u64> {
    let dir = config.store.dir.ancestors().find(|dir| dir.exists())?;
    let disk = rustix::fs::statvfs(dir).ok()?;
    Some((disk.f_bavail * disk.f_frsize).saturating_sub(config.store.min_free_bytes))
}
