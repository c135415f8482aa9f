//! Reading every byte of a bundle's files, and holding them against their names.

use std::ops::ControlFlow;
use std::os::unix::fs::FileExt as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use sha2::Digest as _;

use super::super::exit::Failure;
use super::super::print::ProgressLine;
use super::read::{Bundle, Unreadable};
use crate::admin::control::Progress;
use crate::model::Sha256;
use crate::transfer::bundle::{BadBundle, Part, blob_name, names};

/// Bytes that are read at a time.
const PIECE: usize = 1 << 20;
/// Most files that are read at a time.
const AT_A_TIME: usize = 4;

impl Bundle {
    /// Reads all files in it.
    ///
    /// # Errors
    /// Names the first that is found to be damaged, with the file that it is.
    pub fn verify(&self, quiet: bool) -> Result<(), Failure> {
        let files: Vec<(Sha256, u64, u64)> =
            self.blobs.iter().map(|(digest, (at, size))| (*digest, *at, *size)).collect();
        let total_bytes = files.iter().map(|(.., size)| size).sum();
        let (next, done_bytes, wrong) = (AtomicUsize::new(0), AtomicU64::new(0), Mutex::new(None));
        let shown = Mutex::new(ProgressLine::new("verified", quiet));
        let work = || {
            while let Some((digest, at, size)) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                let read = self.hash(*at, *size, |read| {
                    let done_bytes = done_bytes.fetch_add(read, Ordering::Relaxed) + read;
                    if let Ok(line) = shown.try_lock() {
                        line.show(Progress { done_bytes, total_bytes });
                    }
                    let goes_on = wrong.lock().is_ok_and(|wrong| wrong.is_none());
                    if goes_on { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
                });
                let trouble = match read {
                    Ok(Some(found)) if found != *digest => {
                        BadBundle::Damaged(Part::Member(self.name(digest))).into()
                    }
                    Ok(_) => continue,
                    Err(error) => error,
                };
                if let Ok(mut wrong) = wrong.lock() {
                    wrong.get_or_insert(trouble);
                }
                return;
            }
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(AT_A_TIME);
        std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
        let wrong: Option<Unreadable> = wrong.into_inner().unwrap_or_default();
        wrong.map_or(Ok(()), |why| Err(why.failure(&self.shown)))
    }

    /// The SHA-256 of a stretch; none if that is not wanted any more.
    fn hash(
        &self,
        at: u64,
        size: u64,
        mut each: impl FnMut(u64) -> ControlFlow<()>,
    ) -> Result<Option<Sha256>, Unreadable> {
        let mut hash = sha2::Sha256::new();
        let mut piece = vec![0; PIECE];
        let mut done = 0;
        while done < size {
            let length = usize::try_from(size - done).unwrap_or(PIECE).min(PIECE);
            self.file().read_exact_at(&mut piece[..length], at + done)?;
            hash.update(&piece[..length]);
            done += length as u64;
            if each(length as u64).is_break() {
                return Ok(None);
            }
        }
        Ok(Some(Sha256(hash.finalize().into())))
    }

    /// A blob as people know it.
    pub fn name(&self, digest: &Sha256) -> String {
        let name = blob_name(digest);
        match names(&self.contents.lock).get(digest) {
            Some(file) => format!("{name} ({file})"),
            None => name,
        }
    }
}
