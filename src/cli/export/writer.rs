//! Puts files in their places in a directory: those that are there are kept, and what belongs in several places is
//! written once.

use std::fs::File;
use std::io::{self, Write as _};

use super::super::exit::{Exit, Failure};
use super::super::print;
use super::super::transfer::Watcher;
use super::content::Content;
use super::folder::{Folder, Half};
use super::place::{self, GitId, Source};
use crate::transfer::outline::{Called, Laid, Place, link_to_blob};
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
#[derive(Clone, Copy, PartialEq, Eq)]
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
    done: Done,
}

impl<'a> Writer<'a> {
    /// One that has done nothing yet.
    pub fn new(folder: &'a Folder, watcher: &'a mut Watcher) -> Self {
        Self { folder, watcher, done: Done::default() }
    }

    /// What was done.
    pub fn end(self) -> Done {
        self.watcher.close();
        self.done
    }

    /// Keeps the files that are there; whether one was, and all others have been made of it.
    pub fn keep(&mut self, content: &Content<'_>) -> Result<bool, Failure> {
        let mut source: Option<Source> = None;
        let mut rest = Vec::new();
        for laid in &content.files {
            let git_id = source.as_ref().and_then(|source| source.git_id);
            match self.find(content, laid, git_id)? {
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
        done_bytes: u64,
    ) -> Result<(), Failure> {
        let written = half.file().write_all(bytes);
        written.map_err(|error| self.failed(Exit::Io, content.files[0], &error))?;
        self.watcher.is_at(content.number, &content.files[0].name, done_bytes, Some(content.size));
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

    /// Tells of a content whose bytes in the store are wrong.
    pub fn damaged(&mut self, content: &Content<'_>) {
        for laid in &content.files {
            self.watcher.has_ended(content.number, content.size, None);
            self.done.damaged.push(laid.name.clone());
        }
    }

    fn find(
        &mut self,
        content: &Content<'_>,
        laid: &Laid,
        git_id: Option<GitId>,
    ) -> Result<Option<Source>, Failure> {
        let mut each = |at| self.watcher.is_at(content.number, &laid.name, at, Some(content.size));
        let found = place::find(self.folder, content, laid, git_id, &mut each);
        found.map_err(|error| self.failed(Exit::CantCreate, laid, &error))
    }

    /// Makes the other files of a content of the one that is there.
    fn spread(&mut self, content: &Content<'_>, source: &Source, rest: &[&Laid]) -> Result<(), Failure> {
        for laid in rest {
            let (half, how) =
                self.made(content, laid, source).map_err(|e| self.failed(Exit::Io, laid, &e))?;
            self.settle(content, laid, half, source.git_id, how)?;
        }
        Ok(())
    }

    fn made(&mut self, content: &Content<'_>, laid: &Laid, source: &Source) -> io::Result<(Half<'a>, How)> {
        let mut half = self.folder.begin()?;
        if half.share(&source.file) {
            return Ok((half, How::Reflinked));
        }
        let mut each = |at| self.watcher.is_at(content.number, &laid.name, at, Some(content.size));
        let digests = place::read(content, &source.file, Some(half.file()), &mut each)?;
        match digests.sha256 == content.sha256 {
            true => Ok((half, How::Copied)),
            false => Err(io::Error::other("the file that it is copied from has just changed")),
        }
    }

    /// Gives a file that is whole its name. If it turns out that it is there already, that is kept.
    fn settle(
        &mut self,
        content: &Content<'_>,
        laid: &Laid,
        half: Half<'a>,
        git_id: Option<GitId>,
        how: How,
    ) -> Result<File, Failure> {
        let is_named_late = matches!(laid.place, Place::Blob { called: Called::GitId, .. });
        if is_named_late && let Some(found) = self.find(content, laid, git_id)? {
            self.settled(content, laid, git_id, How::Kept)?;
            return Ok(found.file);
        }
        let placed = place::path(self.folder, laid, git_id)
            .and_then(|path| half.place(&path.expect("the git blob id of what was read is known")));
        let file = placed.map_err(|error| self.failed(Exit::CantCreate, laid, &error))?;
        self.settled(content, laid, git_id, how)?;
        Ok(file)
    }

    /// Makes the links to a file, and counts it.
    fn settled(
        &mut self,
        content: &Content<'_>,
        laid: &Laid,
        git_id: Option<GitId>,
        how: How,
    ) -> Result<(), Failure> {
        if let Place::Blob { folder, called, links } = &laid.place {
            let blob = place::blob_name(*called, laid, git_id);
            for link in links {
                let made = self.folder.set_link(&format!("{folder}/{link}"), &link_to_blob(link, &blob));
                made.map_err(|error| self.failed(Exit::CantCreate, laid, &error))?;
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
        let dir = self.folder.path().display();
        Failure::new(exit, format!("{} cannot be written to {dir}: {error}", laid.name))
    }
}
