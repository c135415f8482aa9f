//! Contents of files, each with all the files that have it.

use std::collections::BTreeMap;

use crate::model::Sha256;
use crate::transfer::outline::{Called, Laid, Outline, Place};
use crate::verify::Digester;

/// Bytes, and the files that have them.
pub struct Content<'a> {
    /// Which of all, counted from 0.
    pub number: usize,
    /// What the bytes are.
    pub sha256: Sha256,
    /// How many they are.
    pub size: u64,
    /// The files; at least one.
    pub files: Vec<&'a Laid>,
    /// Whether one of the files is called by its git blob id.
    needs_git_id: bool,
}

impl Content<'_> {
    /// Computes what the files are called by.
    pub fn digester(&self) -> Digester {
        if self.needs_git_id { Digester::naming(self.size) } else { Digester::new(&[], None) }
    }
}

/// The contents of all files, in the order of the first file that has each.
pub fn contents(outline: &Outline) -> Vec<Content<'_>> {
    let mut contents: Vec<Content<'_>> = Vec::new();
    let mut numbers = BTreeMap::new();
    for laid in &outline.files {
        let Laid { sha256, size, .. } = *laid;
        let number = *numbers.entry(sha256).or_insert(contents.len());
        if number == contents.len() {
            contents.push(Content { number, sha256, size, files: Vec::new(), needs_git_id: false });
        }
        contents[number].needs_git_id |= matches!(laid.place, Place::Blob { called: Called::GitId, .. });
        contents[number].files.push(laid);
    }
    contents
}
