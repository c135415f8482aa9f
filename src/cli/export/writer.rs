//! Puts files in their places in a directory: those that are there are kept, and what belongs in several places is
//! written once.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;

use super::super::exit::{Exit, Failure};
use super::super::print;
use super::super::transfer::Watcher;
use super::content::Content;
use super::folder::{Folder, Half};
use crate::model::Digest;
use crate::store::CHUNK;
use crate::transfer::outline::{Called, Laid, Place, git_id_of_link, link_to_blob};
use crate::verify::Digests;

/// What was done.
#[derive(Debug, Default)]
pub struct Done {
    /// Files with bytes from the store.
    pub written: u64,
    /// Files that were there already.
    pub kept: u64,
    /// Files that share the bytes of another one in the directory.
    pub reflinked: u64,
    /// Files that were copied from another one in the directory.
    pub copied: u64,
    /// Files that are not there because their bytes in the store are wrong.
    pub damaged: Vec<String>,
}

/// How a file came to be where it is.
#[derive(Clone, Copy)]
enum How {
    Written,
    Kept,
    Reflinked,
    Copied,
}

/// Writes an outline.
pub struct Writer<'a> {
    folder: &'a Folder,
    watcher: &'a mut Watcher,
    /// What was done.
    pub done: Done,
}

/// A file in the directory with the right bytes.
struct Source {
    file: File,
    git_id: Option<[u8; 20]>,
}

impl<'a> Writer<'a> {
    /// One that has done nothing yet.
    pub fn new(folder: &'a Folder, watcher: &'a mut Watcher) -> Self {
        Self { folder, watcher, done: Done::default() }
    }

    /// Begins a file of a content.
    pub fn begin(&self, content: &Content<'_>) -> Result<Half<'a>, Failure> {
        self.folder.begin().map_err(|error| self.failed(Exit::Io, content.files[0], &error))
    }

    /// Adds bytes to it, of which so many are there then.
    pub fn add(
        &mut self,
        content: &Content<'_>,
        half: &mut Half<'a>,
        bytes: &[u8],
        done: u64,
    ) -> Result<(), Failure> {
        let written = half.file().write_all(bytes);
        written.map_err(|error| self.failed(Exit::Io, content.files[0], &error))?;
        self.watcher.is_at(content.number, &content.files[0].name, done, Some(content.size));
        Ok(())
    }

    /// Puts what has been written in every place where it belongs; false if it is not what it must be.
    pub fn finish(
        &mut self,
        content: &Content<'_>,
        half: Half<'a>,
        digests: &Digests,
    ) -> Result<bool, Failure> {
        if digests.sha256 != content.sha256 {
            return Ok(false);
        }
        let (first, rest) = content.files.split_first().expect("a content is that of a file");
        let git_id = digests.git_sha1;
        let file = self.settle(content, first, half, git_id, How::Written)?;
        self.spread(content, &Source { file, git_id }, rest)?;
        Ok(true)
    }

    /// Ends the watching.
    pub fn close(&mut self) {
        self.watcher.close();
    }

    /// Keeps the files that are there; whether one was, and all others have been made of it.
    pub fn keep(&mut self, content: &Content<'_>) -> Result<bool, Failure> {
        let mut source: Option<Source> = None;
        let mut rest = Vec::new();
        for laid in &content.files {
            let git_id = source.as_ref().and_then(|source| source.git_id);
            match self.found(content, laid, git_id)? {
                Some(found) => {
                    self.settled(content, laid, found.git_id, How::Kept)?;
                    source.get_or_insert(found);
                }
                None => rest.push(*laid),
            }
        }
        match source {
            Some(source) => self.spread(content, &source, &rest).map(|()| true),
            None => Ok(false),
        }
    }

    /// The file in its place, if its bytes are right.
    fn found(
        &mut self,
        content: &Content<'_>,
        laid: &Laid,
        git_id: Option<[u8; 20]>,
    ) -> Result<Option<Source>, Failure> {
        let looked = self.place(laid, git_id).and_then(|(path, git_id)| {
            let file = path.map(|path| self.folder.read(&path)).transpose()?.flatten();
            Ok((file, git_id))
        });
        let (file, git_id) = looked.map_err(|error| self.failed(Exit::CantCreate, laid, &error))?;
        let Some(file) = file else { return Ok(None) };
        if file.metadata().is_ok_and(|about| about.len() != content.size) {
            return Ok(None);
        }
        // What cannot be read is replaced.
        let Ok(digests) = self.passed(content, laid, &file, None) else { return Ok(None) };
        let is_called_right = digests.git_sha1.is_none() || git_id.is_none() || digests.git_sha1 == git_id;
        let is_right = digests.sha256 == content.sha256 && is_called_right;
        Ok(is_right.then_some(Source { file, git_id: digests.git_sha1 }))
    }

    /// Where a file is, and by which git blob id it is called. One that is not known is told by a link to it.
    fn place(&self, laid: &Laid, git_id: Option<[u8; 20]>) -> io::Result<(Option<String>, Option<[u8; 20]>)> {
        match &laid.place {
            Place::At(path) => Ok((Some(path.clone()), None)),
            Place::Blob { folder, called: Called::Sha256, .. } => {
                Ok((Some(format!("{folder}/blobs/{}", laid.sha256)), None))
            }
            Place::Blob { folder, called: Called::GitId, links } => {
                let mut git_id = git_id;
                for link in links {
                    if git_id.is_none() {
                        let says = self.folder.link(&format!("{folder}/{link}"))?;
                        git_id = says.and_then(|says| git_id_of_link(link, &says));
                    }
                }
                let path = git_id.map(|id| format!("{folder}/blobs/{}", Digest::GitSha1(id).value()));
                Ok((path, git_id))
            }
        }
    }

    /// Reads a file to its end, and copies it if that is wanted.
    fn passed(
        &mut self,
        content: &Content<'_>,
        laid: &Laid,
        file: &File,
        mut copy: Option<&mut File>,
    ) -> io::Result<Digests> {
        let mut digester = content.digester();
        let (mut buffer, mut at) = (vec![0; CHUNK], 0);
        loop {
            let count = file.read_at(&mut buffer, at)?;
            let Some(read) = buffer.get(..count).filter(|read| !read.is_empty()) else { break };
            digester.update(read);
            if let Some(copy) = &mut copy {
                copy.write_all(read)?;
            }
            at += count as u64;
            self.watcher.is_at(content.number, &laid.name, at, Some(content.size));
        }
        Ok(digester.finish())
    }

    /// Makes the other files of a content of the one that is there.
    fn spread(&mut self, content: &Content<'_>, source: &Source, rest: &[&Laid]) -> Result<(), Failure> {
        for laid in rest {
            let failed = |writer: &Self, error: io::Error| writer.failed(Exit::Io, laid, &error);
            let mut half = self.folder.begin().map_err(|error| failed(self, error))?;
            let how = if half.share(&source.file) { How::Reflinked } else { How::Copied };
            if matches!(how, How::Copied) {
                let passed = self.passed(content, laid, &source.file, Some(half.file()));
                let digests = passed.map_err(|error| failed(self, error))?;
                if digests.sha256 != content.sha256 {
                    let changed = io::Error::other("what it is copied from has just changed");
                    return Err(failed(self, changed));
                }
            }
            self.settle(content, laid, half, source.git_id, how)?;
        }
        Ok(())
    }

    /// Gives a file that is whole its name. If it turns out that it is there already, that is kept.
    fn settle(
        &mut self,
        content: &Content<'_>,
        laid: &Laid,
        half: Half<'a>,
        git_id: Option<[u8; 20]>,
        how: How,
    ) -> Result<File, Failure> {
        let is_named_late = matches!(laid.place, Place::Blob { called: Called::GitId, .. });
        if is_named_late && let Some(found) = self.found(content, laid, git_id)? {
            self.settled(content, laid, git_id, How::Kept)?;
            return Ok(found.file);
        }
        let (path, _) = self.place(laid, git_id).map_err(|e| self.failed(Exit::CantCreate, laid, &e))?;
        let path = path.expect("the git blob id of what was read is known");
        let file = half.place(&path).map_err(|error| self.failed(Exit::CantCreate, laid, &error))?;
        self.settled(content, laid, git_id, how)?;
        Ok(file)
    }

    /// Makes the links to a file, and counts it.
    fn settled(
        &mut self,
        content: &Content<'_>,
        laid: &Laid,
        git_id: Option<[u8; 20]>,
        how: How,
    ) -> Result<(), Failure> {
        if let Place::Blob { folder, called, links } = &laid.place {
            let blob = match (called, git_id) {
                (Called::GitId, Some(id)) => Digest::GitSha1(id).value(),
                _ => laid.sha256.to_string(),
            };
            for link in links {
                let path = format!("{folder}/{link}");
                let made = self.folder.set_link(&path, &link_to_blob(link, &blob));
                made.map_err(|error| cannot_write(Exit::CantCreate, &self.folder.shown(&path), &error))?;
            }
        }
        let (count, word) = match how {
            How::Written => (&mut self.done.written, "written"),
            How::Kept => (&mut self.done.kept, "there already"),
            How::Reflinked => (&mut self.done.reflinked, "shared with another file"),
            How::Copied => (&mut self.done.copied, "copied from another file"),
        };
        *count += 1;
        let line = format!("{}: {}, {word}", laid.name, print::size(content.size));
        self.watcher.has_ended(content.number, content.size, Some(line));
        Ok(())
    }

    fn failed(&self, exit: Exit, laid: &Laid, error: &io::Error) -> Failure {
        cannot_write(exit, &format!("{} in {}", laid.name, self.folder.shown("")), error)
    }

    /// Writes what clients note.
    pub fn note(&mut self, notes: &BTreeMap<String, String>) -> Result<(), Failure> {
        for (path, text) in notes {
            let noted = || -> io::Result<()> {
                let is_there = self.folder.read(path)?.is_some_and(|file| says(&file, text));
                if !is_there {
                    let mut half = self.folder.begin()?;
                    half.file().write_all(text.as_bytes())?;
                    half.place(path)?;
                }
                Ok(())
            };
            noted().map_err(|error| cannot_write(Exit::CantCreate, &self.folder.shown(path), &error))?;
        }
        Ok(())
    }

    /// Tells of a content whose bytes in the store are wrong.
    pub fn damaged(&mut self, content: &Content<'_>) {
        self.watcher.has_ended(content.number, content.size, None);
        self.done.damaged.extend(content.files.iter().map(|laid| laid.name.clone()));
    }
}

fn cannot_write(exit: Exit, what: &str, error: &io::Error) -> Failure {
    Failure::new(exit, format!("{what} cannot be written: {error}"))
}

/// Whether a file says this and nothing else.
fn says(file: &File, text: &str) -> bool {
    let mut buffer = vec![0; text.len() + 1];
    matches!(file.read_at(&mut buffer, 0), Ok(count) if buffer[..count] == *text.as_bytes())
}
