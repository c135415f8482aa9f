//! The place of a file in a directory, and whether the file is there already.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;

use super::content::Content;
use super::folder::Folder;
use crate::model::Digest;
use crate::store::CHUNK;
use crate::transfer::outline::{Called, Laid, Place, git_id_of_link};
use crate::verify::Digests;

/// A git blob id.
pub type GitId = [u8; 20];

/// A file in the directory with the right bytes.
pub struct Source {
    /// The file.
    pub file: File,
    /// Its git blob id, where one of the files with these bytes is called by it.
    pub git_id: Option<GitId>,
}

/// The name of a blob.
pub fn blob_name(called: Called, laid: &Laid, git_id: Option<GitId>) -> String {
    match (called, git_id) {
        (Called::GitId, Some(id)) => Digest::GitSha1(id).value(),
        _ => laid.sha256.to_string(),
    }
}

/// Where a file is, as far as that is known: who is called by a git blob id that is not known yet is found by a link.
///
/// # Errors
/// When a folder above the link is a link itself.
pub fn path(folder: &Folder, laid: &Laid, git_id: Option<GitId>) -> io::Result<Option<String>> {
    let (repository, called) = match &laid.place {
        Place::At(path) => return Ok(Some(path.clone())),
        Place::Blob { folder, called, .. } => (folder, *called),
    };
    let git_id = match git_id {
        Some(id) => Some(id),
        None => linked(folder, laid)?,
    };
    let is_known = called == Called::Sha256 || git_id.is_some();
    Ok(is_known.then(|| format!("{repository}/blobs/{}", blob_name(called, laid, git_id))))
}

/// By which git blob id a file is called to which a link leads.
fn linked(folder: &Folder, laid: &Laid) -> io::Result<Option<GitId>> {
    let Place::Blob { folder: repository, called: Called::GitId, links } = &laid.place else {
        return Ok(None);
    };
    for link in links {
        let says = folder.link(&format!("{repository}/{link}"))?;
        if let Some(id) = says.and_then(|says| git_id_of_link(link, &says)) {
            return Ok(Some(id));
        }
    }
    Ok(None)
}

/// The file in its place, if its bytes are right; `each` hears how many have been read.
///
/// # Errors
/// When a folder above it is a link.
pub fn find(
    folder: &Folder,
    content: &Content<'_>,
    laid: &Laid,
    git_id: Option<GitId>,
    each: &mut dyn FnMut(u64),
) -> io::Result<Option<Source>> {
    let Some(path) = path(folder, laid, git_id)? else { return Ok(None) };
    let Some(file) = folder.read(&path)? else { return Ok(None) };
    if file.metadata()?.len() != content.size {
        return Ok(None);
    }
    // What cannot be read is replaced.
    let Ok(digests) = read(content, &file, None, each) else { return Ok(None) };
    let is_called_so = match &laid.place {
        Place::Blob { called, .. } => path.ends_with(&blob_name(*called, laid, digests.git_sha1)),
        Place::At(_) => true,
    };
    let is_right = digests.sha256 == content.sha256 && is_called_so;
    Ok(is_right.then_some(Source { file, git_id: digests.git_sha1 }))
}

/// Reads a file to its end, and copies it if that is wanted.
///
/// # Errors
/// When it cannot be read, or the copy cannot be written.
pub fn read(
    content: &Content<'_>,
    file: &File,
    mut copy: Option<&mut File>,
    each: &mut dyn FnMut(u64),
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
        each(at);
    }
    Ok(digester.finish())
}
