//! Which models a directory holds, and where their files lie. Nothing is read of the files themselves.

use std::collections::BTreeMap;
use std::fs::{self, DirEntry};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::model::{Commit, Hub, Promise, Repo, Revision, Timestamp};
use crate::transfer::ModelName;
use crate::transfer::layout::{model_of_folders, promise_of_blob, repo_of_folder};
use crate::transfer::lock::is_path;

/// Folders within folders that are looked into.
const MAX_DEPTH: usize = 32;

/// Whether files and folders count whose names begin with a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hidden {
    /// They are other programs' own.
    Skipped,
    /// They are files of the model.
    Taken,
}

/// What was found.
#[derive(Default)]
pub struct Scan {
    /// The states of models.
    pub states: Vec<State>,
    /// What is there and cannot be taken, and why.
    pub refused: Vec<String>,
    /// What is there and is of no model.
    pub skipped: Vec<String>,
}

/// A model as a directory has it.
pub struct State {
    /// What stands for it.
    pub names: Vec<ModelName>,
    /// The commit; the Mozilla hub has none.
    pub commit: Option<Commit>,
    /// The files, by their paths.
    pub files: BTreeMap<String, Place>,
    /// Which branches and tags a client saw at that commit, and when.
    pub references: Vec<(String, Timestamp)>,
    /// Files that the hub did not have.
    pub absent: Vec<String>,
}

/// Where a file lies.
pub struct Place {
    /// Without links.
    pub at: PathBuf,
    /// What its name there promises.
    pub promise: Option<Promise>,
    pub size: u64,
    pub since: Timestamp,
}

/// Reads a cache of Hugging Face clients.
///
/// # Errors
/// When the directory itself cannot be read.
pub fn hf_cache(root: &Path) -> io::Result<Scan> {
    let mut scan = Scan::default();
    for entry in sorted(root)? {
        let name = entry.file_name();
        let Some(repo) = name.to_str().and_then(repo_of_folder) else { continue };
        let folder = entry.path();
        match fs::canonicalize(&folder) {
            Ok(real) if real.starts_with(root) => scan.repository(&repo, &real)?,
            Ok(_) => scan.refuse(&folder, "it is a link that leads out of the directory"),
            Err(error) => scan.refuse(&folder, error),
        }
    }
    Ok(scan)
}

/// Reads folders `ORG/MODEL/REVISION/PATH` of this hub; `hidden` is about what lies below a revision.
///
/// # Errors
/// When the directory itself cannot be read.
pub fn folders(root: &Path, hub: Hub, hidden: Hidden) -> io::Result<Scan> {
    let mut scan = Scan::default();
    for (org, in_org) in scan.folders_in(root)? {
        for (model, in_model) in scan.folders_in(&in_org)? {
            for (revision, at) in scan.folders_in(&in_model)? {
                match model_of_folders(hub, &org, &model, &revision) {
                    Err(why) => scan.refuse(&at, why),
                    Ok(name) => {
                        let mut files = BTreeMap::new();
                        scan.walk(&at, "", root, hidden, &mut |path, place| drop(files.insert(path, place)))?;
                        let commit = match name.revision() {
                            Revision::Commit(commit) => Some(commit),
                            Revision::Version(_) | Revision::Named(_) => None,
                        };
                        scan.state(State {
                            names: vec![name],
                            commit,
                            files,
                            references: Vec::new(),
                            absent: Vec::new(),
                        });
                    }
                }
            }
        }
    }
    Ok(scan)
}

impl Scan {
    fn refuse(&mut self, what: &Path, why: impl std::fmt::Display) {
        self.refused.push(format!("{}: {why}", what.display()));
    }

    fn state(&mut self, state: State) {
        if !state.files.is_empty() {
            self.states.push(state);
        }
    }

    /// Reads the folder of one repository in a cache.
    fn repository(&mut self, repo: &Repo, folder: &Path) -> io::Result<()> {
        let mut references: BTreeMap<Commit, Vec<(String, Timestamp)>> = BTreeMap::new();
        for (name, commit, at) in self.references(folder)? {
            references.entry(commit).or_default().push((name, at));
        }
        let snapshots = folder.join("snapshots");
        for entry in sorted_if_there(&snapshots)? {
            let name = entry.file_name();
            let Some(commit) = name.to_str().and_then(Commit::parse) else {
                self.refuse(&entry.path(), "it is named like no commit");
                continue;
            };
            let mut files = BTreeMap::new();
            self.walk(&entry.path(), "", folder, Hidden::Taken, &mut |path, place| {
                drop(files.insert(path, place));
            })?;
            let mut absent = Vec::new();
            let no_exist = folder.join(".no_exist").join(&name);
            self.walk(&no_exist, "", folder, Hidden::Taken, &mut |path, _| absent.push(path))?;
            absent.retain(|path| !files.contains_key(path));
            let references = references.remove(&commit).unwrap_or_default();
            let names = self.names(repo, &commit, &references);
            self.state(State { names, commit: Some(commit), files, references, absent });
        }
        for (name, _) in references.into_values().flatten() {
            self.skipped.push(format!("{repo}@{name}: nothing is here of the commit for which it stands"));
        }
        Ok(())
    }

    /// What stands for a commit: branches and tags, or where there are none the commit itself.
    fn names(&mut self, repo: &Repo, commit: &Commit, references: &[(String, Timestamp)]) -> Vec<ModelName> {
        let named = |revision| ModelName::new(Hub::HuggingFace, repo.clone(), revision);
        let mut names = Vec::new();
        for (revision, _) in references {
            match named(revision) {
                Ok(name) => names.push(name),
                Err(why) => self.refused.push(format!("{repo}@{revision}: {why}")),
            }
        }
        if names.is_empty() {
            names.extend(named(commit.as_str()));
        }
        names
    }

    /// Branches and tags, with the commits for which they stand.
    fn references(&mut self, folder: &Path) -> io::Result<Vec<(String, Commit, Timestamp)>> {
        let mut places = Vec::new();
        self.walk(&folder.join("refs"), "", folder, Hidden::Taken, &mut |name, place| {
            places.push((name, place));
        })?;
        let mut found = Vec::new();
        for (name, place) in places {
            let text = fs::read_to_string(&place.at).unwrap_or_default();
            match (Commit::parse(text.trim()), Commit::parse(&name)) {
                (Some(commit), None) => found.push((name, commit, place.since)),
                // One that is named like a commit says nothing that its own name does not say.
                (_, Some(_)) => {}
                (None, None) => self.refuse(&place.at, "it holds no commit"),
            }
        }
        Ok(found)
    }

    /// The folders in a folder; hidden ones, files and links are skipped.
    fn folders_in(&mut self, folder: &Path) -> io::Result<Vec<(String, PathBuf)>> {
        let mut found = Vec::new();
        for entry in sorted(folder)? {
            let path = entry.path();
            match entry.file_name().into_string() {
                Err(_) => self.refuse(&path, "its name is no text"),
                Ok(name) if name.starts_with('.') => self.skipped.push(format!("{}: hidden", path.display())),
                Ok(name) if entry.file_type()?.is_dir() => found.push((name, path)),
                Ok(_) => {
                    self.skipped.push(format!("{}: not below ORG/MODEL/REVISION", path.display()));
                }
            }
        }
        Ok(found)
    }

    /// Hands every file in `folder` to `each`, with its path in it. Links may lead to files `within` a directory only.
    fn walk(
        &mut self,
        folder: &Path,
        prefix: &str,
        within: &Path,
        hidden: Hidden,
        each: &mut dyn FnMut(String, Place),
    ) -> io::Result<()> {
        for entry in sorted_if_there(folder)? {
            let at = entry.path();
            let Ok(name) = entry.file_name().into_string() else {
                self.refuse(&at, "its name is no text");
                continue;
            };
            let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}/{name}") };
            if hidden == Hidden::Skipped && name.starts_with('.') {
                self.skipped.push(format!("{}: hidden", at.display()));
            } else if !is_path(&path) {
                self.refuse(&at, "no lock file can have this name");
            } else if !entry.file_type()?.is_dir() {
                match place(&at, within) {
                    Ok(place) => each(path, place),
                    Err(why) => self.refuse(&at, why),
                }
            } else if path.matches('/').count() >= MAX_DEPTH {
                self.refuse(&at, "it lies too deep");
            } else {
                self.walk(&at, &path, within, hidden, each)?;
            }
        }
        Ok(())
    }
}

/// Where a file lies, or a link leads.
fn place(file: &Path, within: &Path) -> Result<Place, String> {
    let at = fs::canonicalize(file).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => "it leads to nothing".to_owned(),
        _ => error.to_string(),
    })?;
    if !at.starts_with(within) {
        return Err(format!("it leads to {}, out of the directory", at.display()));
    }
    if at.to_str().is_none() {
        return Err("its name is no text".to_owned());
    }
    let about = fs::metadata(&at).map_err(|error| error.to_string())?;
    if !about.is_file() {
        return Err("it is no regular file".to_owned());
    }
    let is_blob = at.parent() == Some(within.join("blobs").as_path());
    let promise = at.file_name().and_then(|name| name.to_str()).filter(|_| is_blob).and_then(promise_of_blob);
    let since = about.modified().unwrap_or(SystemTime::UNIX_EPOCH).into();
    Ok(Place { at, promise, size: about.len(), since })
}

fn sorted(folder: &Path) -> io::Result<Vec<DirEntry>> {
    let mut entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(DirEntry::file_name);
    Ok(entries)
}

fn sorted_if_there(folder: &Path) -> io::Result<Vec<DirEntry>> {
    match sorted(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        entries => entries,
    }
}
