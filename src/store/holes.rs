//! Gives the blocks of free pages back to the disk while the file stays as long as it is.
//!
//! redb uses free pages again and hardly ever shortens a file, so what was removed would stay on the disk until
//! something else takes its place in the same volume. Of a chunk that had a page of its own it is known where that
//! was ([`super::offsets`]). Right after the transaction that removed it, and before the next one begins, nobody uses
//! the page: that transaction is on disk, which no repair goes behind, and the blob had no reader any more. A hole is
//! punched there. redb never reads a free page, and writes all of it when it gives it out again.
//!
//! The place is checked: the page must still begin with the key of that chunk. A page that redb has put to another
//! use begins otherwise. Where the file system has no holes, or the place is not known, the blocks stay with the
//! volume until that is rewritten ([`super::rewrite`]).

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use super::disk::private;
use super::offsets::{LARGE, Offsets, is_page_of};
use super::records::BlobId;
use super::settings::PAGE_HEAD;

/// The file of a volume, to punch holes into it.
#[derive(Debug, Default)]
pub(super) struct Holes {
    file: OnceLock<Option<File>>,
    /// The file system has none.
    unknown: AtomicBool,
}

impl Holes {
    /// Whether the file system has any, as far as was found out.
    pub(super) fn are_known(&self) -> bool {
        !self.unknown.load(Ordering::Relaxed)
    }

    /// Punches one for each of these chunks, which the last transaction has removed.
    pub(super) fn punch(&self, path: &Path, offsets: &Offsets, removed: &[(BlobId, u32, u32)]) {
        for (id, index, len) in removed {
            let len = *len as usize;
            if len < LARGE || !self.are_known() {
                continue;
            }
            let Some(at) = offsets.page_of(*id, *index) else { continue };
            if let Err(error) = self.punch_one(path, at, (*id, *index), len) {
                if is_unknown(&error) {
                    self.unknown.store(true, Ordering::Relaxed);
                }
                tracing::debug!(path = %path.display(), %error, "the blocks of a removed chunk stay with its volume");
            }
        }
    }

    fn punch_one(&self, path: &Path, at: u64, (id, index): (BlobId, u32), len: usize) -> io::Result<()> {
        let open = || private().open(path).ok();
        let Some(file) = self.file.get_or_init(open) else { return Ok(()) };
        let mut head = [0; PAGE_HEAD];
        file.read_exact_at(&mut head, at)?;
        let page = (len + PAGE_HEAD).next_power_of_two() as u64;
        if is_page_of(&head, id, index) { punch(file, at, page) } else { Ok(()) }
    }
}

#[cfg(target_os = "linux")]
fn punch(file: &File, at: u64, len: u64) -> io::Result<()> {
    use rustix::fs::FallocateFlags;

    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    Ok(rustix::fs::fallocate(file, flags, at, len)?)
}

#[cfg(not(target_os = "linux"))]
fn punch(_file: &File, _at: u64, _len: u64) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

fn is_unknown(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Unsupported
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_page_of_the_chunk_itself_loses_its_blocks() {
        use std::os::unix::fs::MetadataExt as _;

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let (page, id) = (1 << 20, BlobId(7));
        let mut bytes = vec![9; 3 * page];
        for (number, index) in [(0, 4u32), (1, 5)] {
            let head = &mut bytes[number * page..][..PAGE_HEAD];
            head[0] = 1;
            head[2..4].copy_from_slice(&[1, 0]);
            head[8..16].copy_from_slice(&id.0.to_le_bytes());
            head[16..].copy_from_slice(&index.to_le_bytes());
        }
        std::fs::write(&path, &bytes).unwrap();
        let holes = Holes::default();
        let len = page - 64;
        holes.punch_one(&path, 0, (id, 5), len).unwrap();
        holes.punch_one(&path, 2 * page as u64, (id, 5), len).unwrap();
        assert!(std::fs::read(&path).unwrap() == bytes, "what begins with another key is left alone");
        let before = std::fs::metadata(&path).unwrap().blocks();
        holes.punch_one(&path, page as u64, (id, 5), len).unwrap();
        bytes[page..2 * page].fill(0);
        assert!(std::fs::read(&path).unwrap() == bytes);
        assert_eq!(before - std::fs::metadata(&path).unwrap().blocks(), page as u64 / 512);
    }
}
