//! Reading a bundle: where its members lie, and what it holds. The files in it are not read here.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use sha2::Digest as _;
use tar::PaxExtensions;

use super::super::exit::{Exit, Failure, io_failure};
use crate::admin::control::chain;
use crate::model::Sha256;
use crate::transfer::bundle::{
    BLOCK, BadBundle, Contents, Header, INDEX, Kind, LAYOUT, Part, padding, read_header,
};

/// Most bytes of the index, and of what the archive says of itself.
const MAX_INDEX: u64 = 16 << 20;
/// Most bytes of extended attributes of a member.
const MAX_ATTRIBUTES: u64 = 64 << 10;
/// Most bytes behind the end of an archive: tar fills records of 20 blocks.
const MAX_TAIL: u64 = 1 << 20;
/// Most blobs of an archive; a lock file of this many files would be too long.
const MAX_BLOBS: usize = 1_000_000;
/// The folder of blobs.
const BLOBS: &str = "blobs/sha256/";

/// A bundle that lies on the disk.
#[derive(Debug)]
pub struct Bundle {
    /// Where it lies, without links.
    pub path: PathBuf,
    /// The same as it was named, for messages.
    pub shown: PathBuf,
    file: File,
    /// Where each blob begins, and how long it is.
    pub blobs: BTreeMap<Sha256, (u64, u64)>,
    /// What it holds.
    pub contents: Contents,
}

/// Why an archive cannot be read.
pub(super) enum Unreadable {
    Bad(BadBundle),
    Io(io::Error),
}

impl From<BadBundle> for Unreadable {
    fn from(bad: BadBundle) -> Self {
        Self::Bad(bad)
    }
}

impl From<io::Error> for Unreadable {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Unreadable {
    pub(super) fn failure(self, path: &Path) -> Failure {
        match self {
            Self::Bad(bad) => Failure::new(Exit::Data, format!("{}: {}", path.display(), chain(&bad))),
            Self::Io(error) => io_failure(format_args!("{} cannot be read", path.display()), &error),
        }
    }
}

impl Bundle {
    /// Reads where everything lies and what it is. With `repacked` another program may have packed it anew.
    pub fn open(path: &Path, repacked: bool) -> Result<Self, Failure> {
        let found = std::fs::canonicalize(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Failure::new(Exit::NoInput, format!("there is no {}", path.display())),
            _ => io_failure(format_args!("{} cannot be read", path.display()), &error),
        })?;
        let file = File::open(&found).map_err(|error| Unreadable::Io(error).failure(path))?;
        let bundle = Self::read(found, path.to_owned(), file).map_err(|why| why.failure(path))?;
        if !bundle.contents.is_as_written && !repacked {
            let part = BadBundle::Damaged(Part::Member(INDEX.to_owned()));
            let remedy = "if another program has packed it anew, --repacked accepts that";
            return Err(Failure::new(Exit::Data, format!("{}: {part}; {remedy}", path.display())));
        }
        bundle.whole(repacked).map_err(|why| Unreadable::Bad(why).failure(path))?;
        Ok(bundle)
    }

    fn read(path: PathBuf, shown: PathBuf, file: File) -> Result<Self, Unreadable> {
        let Members { layout, index, blobs } = Members::read(&file)?;
        let layout = layout.ok_or(BadBundle::Kind)?;
        let version = serde_json::from_slice::<serde_json::Value>(&layout).ok();
        if version.is_none_or(|layout| layout["imageLayoutVersion"] != "1.0.0") {
            return Err(BadBundle::Damaged(Part::Member(LAYOUT.to_owned())).into());
        }
        let index = index.ok_or(BadBundle::Missing(Part::Member(INDEX.to_owned())))?;
        let size = |digest: &Sha256| blobs.get(digest).map(|(_, size)| *size);
        let text = |digest: &Sha256| -> Result<Vec<u8>, Unreadable> {
            let (at, size) = blobs.get(digest).copied().unwrap_or_default();
            let text = read_at(&file, at, size)?;
            match Sha256(sha2::Sha256::digest(&text).into()) == *digest {
                true => Ok(text),
                false => {
                    let name = Part::Member(crate::transfer::bundle::blob_name(digest));
                    Err(BadBundle::Damaged(name).into())
                }
            }
        };
        let contents = Contents::read(&index, size, text)?;
        Ok(Self { path, shown, file, blobs, contents })
    }

    /// Whether everything is there that should be, and, as it was written, nothing else.
    fn whole(&self, repacked: bool) -> Result<(), BadBundle> {
        let name = |digest: &Sha256| Part::Member(crate::transfer::bundle::blob_name(digest));
        let wanted = self.contents.blobs();
        let of_wrong_size =
            self.blobs.iter().find(|(digest, (_, size))| wanted.get(digest).is_some_and(|want| want != size));
        if let Some((digest, _)) = of_wrong_size {
            return Err(BadBundle::Damaged(name(digest)));
        }
        if self.contents.since.is_none()
            && let Some(missing) = wanted.keys().find(|digest| !self.blobs.contains_key(digest))
        {
            return Err(BadBundle::Missing(name(missing)));
        }
        let texts = self.contents.texts();
        let stranger =
            self.blobs.keys().find(|digest| !wanted.contains_key(digest) && !texts.contains(digest));
        match stranger.filter(|_| !repacked) {
            Some(digest) => Err(BadBundle::Damaged(name(digest))),
            None => Ok(()),
        }
    }

    /// The file itself.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The files whose bytes are not in it, because it is a delta.
    pub fn elsewhere(&self) -> Vec<Sha256> {
        let wanted = self.contents.blobs().into_keys();
        wanted.filter(|digest| !self.blobs.contains_key(digest)).collect()
    }
}

/// What an archive has in it.
#[derive(Default)]
struct Members {
    layout: Option<Vec<u8>>,
    index: Option<Vec<u8>>,
    blobs: BTreeMap<Sha256, (u64, u64)>,
}

impl Members {
    fn read(file: &File) -> Result<Self, Unreadable> {
        let length = file.metadata()?.len();
        let mut members = Self::default();
        let (mut at, mut next_size) = (0, None);
        loop {
            let begins = at;
            let block = block(file, at, length)?;
            if block == [0; BLOCK] {
                // What is no archive at all can begin with zeros, too.
                return if at == 0 {
                    Err(BadBundle::Kind.into())
                } else {
                    end(file, at, length).map(|()| members)
                };
            }
            let damaged =
                || if begins == 0 { BadBundle::Kind } else { BadBundle::Damaged(Part::Header(begins)) };
            let mut header = read_header(&block).ok_or_else(damaged)?;
            header.size = next_size.take().unwrap_or(header.size);
            at += BLOCK as u64;
            let ends = at.checked_add(header.size).filter(|ends| *ends <= length);
            let ends = ends.ok_or(BadBundle::Damaged(Part::End))?;
            match header.kind {
                Kind::File => members.add(file, &header, at)?,
                Kind::Folder if header.size == 0 => {}
                Kind::Attributes if header.size <= MAX_ATTRIBUTES => {
                    next_size = size_in(&read_at(file, at, header.size)?);
                }
                _ => return Err(damaged().into()),
            }
            at = ends + padding(header.size) as u64;
            zeros(file, ends, at.min(length))?;
        }
    }

    fn add(&mut self, file: &File, header: &Header, at: u64) -> Result<(), Unreadable> {
        let Header { name, size, .. } = header;
        let damaged = || BadBundle::Damaged(Part::Member(name.clone()));
        let is_new = match name.as_str() {
            LAYOUT | INDEX if *size > MAX_INDEX => false,
            _ if self.blobs.len() >= MAX_BLOBS => return Err(BadBundle::Kind.into()),
            LAYOUT => self.layout.replace(read_at(file, at, *size)?).is_none(),
            INDEX => self.index.replace(read_at(file, at, *size)?).is_none(),
            blob => match blob.strip_prefix(BLOBS).and_then(Sha256::parse) {
                Some(digest) => self.blobs.insert(digest, (at, *size)).is_none(),
                None if self.layout.is_none() => return Err(BadBundle::Kind.into()),
                None => false,
            },
        };
        if is_new { Ok(()) } else { Err(damaged().into()) }
    }
}

/// The size that extended attributes give to the next member: of one that is too large for its header.
fn size_in(attributes: &[u8]) -> Option<u64> {
    let mut all = PaxExtensions::new(attributes).filter_map(Result::ok);
    all.find(|attribute| attribute.key() == Ok("size"))?.value().ok()?.parse().ok()
}

fn block(file: &File, at: u64, length: u64) -> Result<[u8; BLOCK], Unreadable> {
    if at + BLOCK as u64 > length {
        return Err(
            if length < BLOCK as u64 { BadBundle::Kind } else { BadBundle::Damaged(Part::End) }.into()
        );
    }
    let mut block = [0; BLOCK];
    file.read_exact_at(&mut block, at)?;
    Ok(block)
}

/// The end of an archive: at least two blocks of zeros, and nothing else behind them.
fn end(file: &File, at: u64, length: u64) -> Result<(), Unreadable> {
    if length - at < 2 * BLOCK as u64 || length - at > MAX_TAIL {
        return Err(BadBundle::Damaged(Part::End).into());
    }
    zeros(file, at, length)
}

fn zeros(file: &File, from: u64, to: u64) -> Result<(), Unreadable> {
    match read_at(file, from, to - from)?.iter().all(|byte| *byte == 0) {
        true => Ok(()),
        false => Err(BadBundle::Damaged(Part::Zeros(to)).into()),
    }
}

/// Some bytes, of which there are not many.
fn read_at(file: &File, at: u64, size: u64) -> Result<Vec<u8>, Unreadable> {
    let size = usize::try_from(size).map_err(|_| BadBundle::Damaged(Part::Header(at)))?;
    let mut bytes = vec![0; size];
    file.read_exact_at(&mut bytes, at)?;
    Ok(bytes)
}
