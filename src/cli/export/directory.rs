//! `hubcache export` into a directory.
//!
//! What lies there already with the right bytes is kept, so that an export which was interrupted goes on. All other bytes
//! come out of the store once, hashed on their way, and where else they belong they are shared with the first file or
//! copied from it. Damage ends the command with 65 and names the files, which are not there then; the others are.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use serde_json::json;

use super::super::exit::{Exit, Failure, output};
use super::super::print;
use super::super::transfer::Watcher;
use super::content::contents;
use super::folder::Folder;
use super::intake;
use super::writer::{Done, Writer};
use super::{Export, lacking, refuse_missing};
use crate::transfer::lock::Lock;
use crate::transfer::outline::{BadOutline, Outline};

/// What a directory is for.
#[derive(Clone, Copy)]
pub enum Kind {
    /// A cache of Hugging Face clients.
    HfCache,
    /// A bucket as Mozilla has it.
    Tree,
}

impl Kind {
    fn outline(self, lock: &Lock) -> Result<Outline, BadOutline> {
        match self {
            Self::HfCache => Outline::hf_cache(lock),
            Self::Tree => Outline::tree(lock),
        }
    }

    /// The hub whose models have no place in it.
    fn wants(self) -> &'static str {
        match self {
            Self::HfCache => "such a cache has models of Hugging Face only",
            Self::Tree => "such a tree has models of the hub of Firefox only",
        }
    }
}

/// Writes the models of a lock into a directory.
pub fn run(export: &Export<'_>, kind: Kind, dir: &Path) -> Result<(), Failure> {
    let lock_file = export.lock_file.display();
    let outline = kind.outline(&export.lock).map_err(|why| {
        Failure::new(Exit::Data, format!("{lock_file} cannot be laid out in a directory: {why}"))
    })?;
    if outline.models.is_empty() {
        let why = format!("nothing in {lock_file} can be in {}: {}", dir.display(), kind.wants());
        return Err(Failure::new(Exit::Usage, why));
    }
    for name in &outline.left_out {
        export.say(&format!("{name} is left out: {}", kind.wants()));
    }
    if export.lock.settings.is_some() {
        export.say("what the lock file pins of Remote Settings is left out: a directory has models only");
    }
    let models = outline.models.iter().filter_map(|name| Some((name, export.lock.models.get(name)?)));
    refuse_missing(export, &lacking(export.config, models)?)?;
    let folder = Folder::open(dir)?;
    let contents = contents(&outline);
    let total_bytes = outline.files.iter().map(|laid| laid.size).fold(0, u64::saturating_add);
    let mut watcher = Watcher::new(export.is_quiet || export.as_json, total_bytes);
    let mut writer = Writer::new(&folder, &mut watcher);
    let mut to_come = Vec::new();
    for content in &contents {
        if !writer.keep(content)? {
            to_come.push(content);
        }
    }
    intake::fetch(export.config, &to_come, &mut writer)?;
    let done = writer.end();
    // A name for a commit of which a file lacks would promise what is not there.
    if done.damaged.is_empty() {
        for (path, text) in &outline.notes {
            note(&folder, path, text).map_err(|error| {
                let at = dir.join(path);
                Failure::new(Exit::CantCreate, format!("{} cannot be written: {error}", at.display()))
            })?;
        }
    }
    report(export, dir, &outline, &done, total_bytes)
}

/// Writes what clients note, unless it is there.
fn note(folder: &Folder, path: &str, text: &str) -> io::Result<()> {
    let says_so = |file: File| {
        let mut buffer = vec![0; text.len() + 1];
        matches!(file.read_at(&mut buffer, 0), Ok(count) if buffer[..count] == *text.as_bytes())
    };
    if folder.read(path)?.is_some_and(says_so) {
        return Ok(());
    }
    let mut half = folder.begin()?;
    half.file().write_all(text.as_bytes())?;
    half.place(path).map(drop)
}

/// Tells what was done.
fn report(
    export: &Export<'_>,
    dir: &Path,
    outline: &Outline,
    done: &Done,
    total_bytes: u64,
) -> Result<(), Failure> {
    let Done { written, kept, reflinked, copied, damaged } = done;
    let files = written + kept + reflinked + copied;
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut write = || {
        if export.as_json {
            let left_out: Vec<String> = outline.left_out.iter().map(ToString::to_string).collect();
            let object = json!({
                "directory": dir.to_string_lossy(),
                "files": files,
                "written": written,
                "kept": kept,
                "reflinked": reflinked,
                "copied": copied,
                "total_bytes": total_bytes,
                "left_out": left_out,
                "damaged": damaged,
            });
            writeln!(out, "{object:#}")?;
        } else if !export.is_quiet {
            writeln!(
                out,
                "{}, {}, in {}: {written} written, {kept} there already, {reflinked} shared with others, {copied} copied",
                print::count(files, "file"),
                print::size(total_bytes),
                dir.display(),
            )?;
        }
        out.flush()
    };
    output(write())?;
    if damaged.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> =
        damaged.iter().map(|name| format!("{name}: what is held is damaged; not written")).collect();
    let remedy =
        "`hubcache rm` takes away what is damaged, and `hubcache preload --lock FILE` brings it again";
    Err(Failure::new(Exit::Data, format!("{}\n{remedy}", lines.join("\n"))))
}
