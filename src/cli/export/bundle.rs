//! `hubcache export` into a bundle.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::Path;

use serde_json::json;

use super::super::bundle::{self, Until, Written};
use super::super::exit::{Exit, Failure, output};
use super::super::holdings::held_settings;
use super::super::{lock, print, reach};
use super::{Export, ids, lacking, refuse_missing};
use crate::model::{LockedSettings, Sha256, Timestamp};
use crate::transfer::bundle::{Plan, Signer, names, pinned, plan};
use crate::transfer::lock::Lock;

/// What goes into a bundle beside the lock.
pub struct Wish<'a> {
    /// Where it is written.
    pub path: &'a Path,
    /// The lock file whose blobs are left out.
    pub since: Option<&'a Path>,
    /// The private key that signs it.
    pub sign: Option<&'a Path>,
}

/// Writes a bundle of everything that a lock pins.
pub fn run(export: &Export<'_>, wish: &Wish<'_>) -> Result<(), Failure> {
    let lock = &export.lock;
    if lock.models.is_empty() && lock.settings.is_none() {
        let why = format!("{} pins nothing", export.lock_file.display());
        return Err(Failure::new(Exit::Usage, why));
    }
    let since = wish.since.map(lock::read).transpose()?;
    let signer = wish.sign.map(signer).transpose()?;
    missing(export, since.as_ref())?;
    let until = match &lock.settings {
        Some(locked) => Until::of(export.config, locked, |part| reach::bytes(export.config, part))?,
        None => Until::default(),
    };
    let plan = plan(lock, &ids::ids(export.config, lock)?, since.as_ref(), signer.as_ref());
    let names = names(lock);
    let name = |digest: &Sha256| names.get(digest).cloned().unwrap_or_else(|| format!("sha256:{digest}"));
    let quiet = export.is_quiet || export.as_json;
    let written = bundle::write(export.config, &plan, wish.path, &name, quiet)?;
    report(export, wish, &plan, &written, &until, signer.as_ref())
}

/// Reads a private key.
fn signer(path: &Path) -> Result<Signer, Failure> {
    Signer::read(&bundle::key(path)?).map_err(|why| {
        let made = "`openssl genpkey -algorithm ed25519 -out KEY` makes one";
        Failure::new(Exit::Config, format!("{} is no key that can sign: {why}; {made}", path.display()))
    })
}

/// Fails with a list of what is not held, of all that is to be in the bundle.
fn missing(export: &Export<'_>, since: Option<&Lock>) -> Result<(), Failure> {
    let elsewhere: BTreeSet<Sha256> = since.map(pinned).unwrap_or_default().into_keys().collect();
    let mut lock = export.lock.clone();
    for locked in lock.models.values_mut() {
        locked.files.retain(|_, file| !elsewhere.contains(&file.sha256));
    }
    let mut missing = lacking(export.config, lock.models.iter())?;
    let parts = lock.settings.iter().flat_map(LockedSettings::parts);
    let parts: Vec<_> = parts.filter(|(_, part)| !elsewhere.contains(&part.sha256)).collect();
    if !parts.is_empty() {
        let held = held_settings(export.config)?;
        let held: BTreeSet<Sha256> = held.values().map(|row| row.entry.blob).collect();
        let lacking = parts.into_iter().filter(|(_, part)| !held.contains(&part.sha256));
        missing.extend(lacking.map(|(title, _)| format!("Remote Settings: {title}")));
    }
    refuse_missing(export, &missing)
}

/// Tells what was done.
fn report(
    export: &Export<'_>,
    wish: &Wish<'_>,
    plan: &Plan,
    written: &Written,
    until: &Until,
    signer: Option<&Signer>,
) -> Result<(), Failure> {
    let Written { bytes, resumed_bytes } = written;
    let blobs = plan.blobs().count();
    let left_out = pinned(&export.lock).len().saturating_sub(blobs);
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut write = || {
        if export.as_json {
            let object = json!({
                "bundle": wish.path,
                "bytes": bytes,
                "resumed_bytes": resumed_bytes,
                "models": export.lock.models.len(),
                "files": blobs,
                "left_out": left_out,
                "signed_by": signer.map(Signer::name),
                "firefox_until": until.object(),
            });
            writeln!(out, "{object:#}")?;
        } else if !export.is_quiet {
            let models = print::count(export.lock.models.len() as u64, "model");
            let files = print::count(blobs as u64, "file");
            writeln!(out, "{}: {models}, {files}, {}", wish.path.display(), print::size(*bytes))?;
            if wish.since.is_some() {
                writeln!(
                    out,
                    "a delta: {} of the other lock file are left out",
                    print::count(left_out as u64, "file")
                )?;
            }
            until.write(&mut out, Timestamp::now())?;
        }
        out.flush()
    };
    output(write())
}
