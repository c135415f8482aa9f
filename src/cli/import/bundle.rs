//! `hubcache import` of a bundle.
//!
//! All of it is looked at before anything changes: every byte is held against its digest, the signature against the key
//! that was given, what is signed of Remote Settings against its roots at the time at which it was verified, and what is
//! held against what comes. Then files are taken one by one; an import that is interrupted leaves what was there and what
//! it has taken, and goes on when it is run again.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use bytes::Bytes;
use serde_json::json;

use super::super::bundle::{Bundle, Until, key};
use super::super::exit::{Exit, Failure, io_failure, output};
use super::super::holdings::{Holdings, held};
use super::super::reach::{self, Event};
use super::super::transfer::{self, Watcher};
use super::super::{lock, preload, print};
use crate::admin::control::{Brought, Command, Found, MAX_WANTED, Selector, Wanted};
use crate::cache::{Imported, ImportedFile};
use crate::config::Config;
use crate::model::{Digest, LockedPart, Openness, Revision, Sha256, Timestamp};
use crate::remote_settings::Taken;
use crate::transfer::bundle::{FileIds, PinnedFile, Verifier};
use crate::transfer::lock::{Lock, Locked, LockedFile, Origin};
use crate::transfer::{ModelName, Pins, State};

/// How a bundle is imported.
pub struct Wish<'a> {
    /// Where it lies.
    pub path: &'a Path,
    /// The public key of whoever must have signed it.
    pub verify_key: Option<&'a Path>,
    /// Where what it pins is written down.
    pub lock_file: Option<&'a Path>,
    /// Whether another program may have packed it anew.
    pub is_repacked: bool,
    /// Whether nothing is to be taken.
    pub is_dry: bool,
    pub is_quiet: bool,
    pub as_json: bool,
}

/// Takes in what a bundle holds.
pub fn run(config: &Config, wish: &Wish<'_>) -> Result<(), Failure> {
    let bundle = Bundle::open(wish.path, wish.is_repacked)?;
    check_signature(&bundle, wish)?;
    bundle.verify(wish.is_quiet || wish.as_json)?;
    refuse_lacking(config, &bundle, wish)?;
    let lock = &bundle.contents.lock;
    let until = match &lock.settings {
        Some(locked) => Until::of(config, locked, |part| bytes_of(config, &bundle, part))?,
        None => Until::default(),
    };
    refuse_conflicts(config, lock, wish)?;
    let mut done = Done::default();
    if !wish.is_dry {
        take(config, &bundle, wish, &mut done)?;
        let pins = Pins::new(lock.clone());
        for (name, locked) in &lock.models {
            learn(config, &pins, &bundle.contents.ids, name, locked)?;
        }
        preload::keep(config, lock)?;
        if let Some(settings) = &lock.settings {
            let command = Command::Adopt { settings: Box::new(settings.clone()) };
            reach::execute(config, command, |event| {
                if let Event::Taken(taken) = event {
                    done.settings.push(taken);
                }
            })?;
        }
        write_lock(wish, lock)?;
    }
    report(&bundle, wish, &done, &until)
}

/// What was done.
#[derive(Default)]
struct Done {
    taken: u64,
    taken_bytes: u64,
    held: u64,
    settings: Vec<Taken>,
}

fn check_signature(bundle: &Bundle, wish: &Wish<'_>) -> Result<(), Failure> {
    let shown = wish.path.display();
    let contents = &bundle.contents;
    let Some(path) = wish.verify_key else {
        if let Some(key) = contents.signed_by.as_ref().filter(|_| !wish.is_quiet) {
            eprintln!("{shown} is signed with the key {key}; --verify-key checks that");
        }
        return Ok(());
    };
    let verifier = Verifier::read(&key(path)?).map_err(|why| {
        let made = "`openssl pkey -in KEY -pubout` prints it";
        Failure::new(Exit::Config, format!("{} is no public key: {why}; {made}", path.display()))
    })?;
    let why = match &contents.signed_by {
        None => "it is not signed".to_owned(),
        Some(_) if contents.is_signed_by(&verifier) => return Ok(()),
        Some(key) if *key != verifier.name() => {
            format!("it is signed with the key {key}, and not with {}", verifier.name())
        }
        Some(_) => "its signature is of something else".to_owned(),
    };
    Err(Failure::new(Exit::Data, format!("{shown}: {why}; nothing was taken")))
}

/// A delta builds on files that must be here.
fn refuse_lacking(config: &Config, bundle: &Bundle, wish: &Wish<'_>) -> Result<(), Failure> {
    let elsewhere = bundle.elsewhere();
    if elsewhere.is_empty() {
        return Ok(());
    }
    let all = Holdings::read(config, Command::Ls { selector: Selector::default() })?;
    let all: BTreeSet<Sha256> = all.files.into_iter().map(|row| row.entry.blob).collect();
    let lacking: Vec<String> =
        elsewhere.iter().filter(|digest| !all.contains(digest)).map(|digest| bundle.name(digest)).collect();
    if lacking.is_empty() {
        return Ok(());
    }
    let base = bundle.contents.since.map_or_else(String::new, |base| format!(" (sha256:{base})"));
    let why = format!(
        "{} is a delta, and not all that it builds on is held: {} missing; import the bundle of the earlier lock file{base} first:\n  {}",
        wish.path.display(),
        print::count(lacking.len() as u64, "file"),
        lacking.join("\n  ")
    );
    Err(Failure::new(Exit::Data, why))
}

/// The bytes of a part of Remote Settings: in the bundle, or of a delta here already.
fn bytes_of(config: &Config, bundle: &Bundle, part: &LockedPart) -> Result<Bytes, Failure> {
    let Some((at, size)) = bundle.blobs.get(&part.sha256) else {
        return reach::bytes(config, part);
    };
    let fail =
        |error: io::Error| io_failure(format_args!("{} cannot be read", bundle.shown.display()), &error);
    let mut bytes = vec![0; usize::try_from(*size).unwrap_or(0)];
    bundle.file().read_exact_at(&mut bytes, *at).map_err(fail)?;
    Ok(bytes.into())
}

/// What cannot change and is held with other bytes stays.
fn refuse_conflicts(config: &Config, lock: &Lock, wish: &Wish<'_>) -> Result<(), Failure> {
    let mut conflicts = Vec::new();
    for (name, locked) in &lock.models {
        let revision = locked.kept_at(name);
        if !Revision::parse(name.hub, revision).is_immutable() {
            continue;
        }
        let held = held(config, name, revision)?;
        for (path, LockedFile { sha256, .. }) in &locked.files {
            let other = held.get(path).filter(|digests| !digests.contains(sha256));
            if let Some(other) = other.and_then(|digests| digests.first()) {
                conflicts
                    .push(format!("{name}/{path}: held is sha256:{other}, the bundle has sha256:{sha256}"));
            }
        }
    }
    if conflicts.is_empty() {
        return Ok(());
    }
    let why = format!(
        "{} has other bytes for what cannot change; nothing was taken:\n  {}\n\
         `hubcache rm` takes away what is held, if the bundle is right",
        wish.path.display(),
        conflicts.join("\n  ")
    );
    Err(Failure::new(Exit::Data, why))
}

fn take(config: &Config, bundle: &Bundle, wish: &Wish<'_>, done: &mut Done) -> Result<(), Failure> {
    let found: Vec<Found> = bundle.contents.files().into_iter().map(|file| bundle.found(file)).collect();
    let total = bundle.contents.blobs().values().sum();
    let mut watcher = Watcher::new(wish.is_quiet || wish.as_json, total).saying("taken");
    let mut troubles = Vec::new();
    for brought in transfer::take(config, &found, &mut watcher)? {
        let Brought { at, entry, was_held, trouble, .. } = brought;
        let size = entry.map_or(0, |entry| entry.size);
        match (trouble, was_held) {
            (Some(trouble), _) => {
                let Wanted { repo, revision, path, .. } = &found[at].file;
                troubles.push(format!("{repo}@{revision}/{path}: {trouble}"));
            }
            (None, true) => done.held += 1,
            (None, false) => (done.taken, done.taken_bytes) = (done.taken + 1, done.taken_bytes + size),
        }
    }
    match troubles.is_empty() {
        true => Ok(()),
        false => {
            Err(Failure::new(Exit::TryAgain, format!("not everything was taken\n{}", troubles.join("\n"))))
        }
    }
}

impl Bundle {
    /// A file of it as it is to be held.
    fn found(&self, PinnedFile { file, part, promises }: PinnedFile) -> Found {
        let sha256 = part.sha256;
        let file = Wanted {
            hub: file.hub,
            repo: file.repo,
            revision: file.revision.as_str().to_owned(),
            path: file.path,
            sha256: Some(sha256),
        };
        let stretch = self.blobs.get(&sha256).copied();
        // What a delta leaves out is here under another name.
        let at = stretch.map(|_| self.path.clone());
        // What everybody may not read is in no bundle but by its maker's word. When a hub can be asked, it is.
        let access = Openness::Public { confirmed_at: Timestamp(0) };
        Found { file, at, stretch, promises, since: Timestamp(0), access }
    }
}

/// What a lock knows of a commit beside its files.
fn learn(
    config: &Config,
    pins: &Pins,
    ids: &FileIds,
    name: &ModelName,
    locked: &Locked,
) -> Result<(), Failure> {
    let Some(commit) = &locked.commit else { return Ok(()) };
    let is_branch = name.revision != commit.as_str();
    let absent: Vec<String> = locked.absent.iter().cloned().collect();
    let mut absent = absent.chunks(MAX_WANTED);
    let first = Command::Learn {
        repo: name.repo.clone(),
        commit: commit.clone(),
        names: is_branch.then(|| (name.revision.clone(), Timestamp::now())).into_iter().collect(),
        absent: absent.next().unwrap_or_default().to_vec(),
        imported: pins.state(&name.repo, commit.as_str()).map(|state| Box::new(imported(&state, ids))),
    };
    reach::execute(config, first, |_| {})?;
    for absent in absent {
        let (repo, commit, absent) = (name.repo.clone(), commit.clone(), absent.to_vec());
        let next = Command::Learn { repo, commit, names: Vec::new(), absent, imported: None };
        reach::execute(config, next, |_| {})?;
    }
    Ok(())
}

/// What comes of a commit, under whatever names.
fn imported(state: &State<'_>, ids: &FileIds) -> Imported {
    let file = |(path, file): (&&str, &&LockedFile)| ImportedFile {
        path: (*path).to_owned(),
        size: file.size,
        lfs: (file.from == Origin::Lfs).then_some(file.sha256),
        git: ids.get(&file.sha256).into_iter().flatten().find_map(|digest| match digest {
            Digest::GitSha1(_) => Some(digest.value()),
            _ => None,
        }),
    };
    let left_out = state.is_whole.then(|| state.left_out.iter().map(|path| (*path).to_owned()).collect());
    Imported { files: state.files.iter().map(file).collect(), left_out }
}

/// Adds what the bundle pins to a lock file.
fn write_lock(wish: &Wish<'_>, lock: &Lock) -> Result<(), Failure> {
    let Some(path) = wish.lock_file else { return Ok(()) };
    let before = if path.exists() { lock::read(path)? } else { Lock::default() };
    let mut after = before.clone();
    after.models.extend(lock.models.clone());
    after.settings = lock.settings.clone().or(after.settings);
    if after == before && path.exists() { Ok(()) } else { lock::write(path, &after) }
}

/// Tells what was done.
fn report(bundle: &Bundle, wish: &Wish<'_>, done: &Done, until: &Until) -> Result<(), Failure> {
    let contents = &bundle.contents;
    let Done { taken, taken_bytes, held, settings } = done;
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut write = || {
        if wish.as_json {
            let settings: BTreeMap<String, _> = settings
                .iter()
                .map(|one| {
                    (one.collection.to_string(), json!({"timestamp": one.timestamp, "stays": one.held}))
                })
                .collect();
            let object = json!({
                "bundle": wish.path,
                "models": contents.lock.models.keys().map(ToString::to_string).collect::<Vec<_>>(),
                "taken": taken,
                "taken_bytes": taken_bytes,
                "held": held,
                "signed_by": contents.signed_by,
                "signature_verified": wish.verify_key.is_some(),
                "collections": settings,
                "firefox_until": until.object(),
            });
            writeln!(out, "{object:#}")?;
            return out.flush();
        }
        if wish.is_quiet {
            return Ok(());
        }
        for name in contents.lock.models.keys() {
            writeln!(out, "{name}")?;
        }
        if wish.is_dry {
            writeln!(out, "{} is whole; nothing was taken", wish.path.display())?;
        } else {
            let (new, old) = (print::count(*taken, "file"), print::count(*held, "file"));
            writeln!(out, "took {new}, {}; {old} held already", print::size(*taken_bytes))?;
        }
        for one in settings.iter().filter(|one| one.held.is_some()) {
            writeln!(out, "{} is held as it was later, and stays", one.collection)?;
        }
        until.write(&mut out, Timestamp::now())?;
        out.flush()
    };
    output(write())
}
