//! A disk that fails on command, for the tests of crashes and of a full disk.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::{Arc, Mutex};

/// One disk under all files of a store; clones share its state.
#[derive(Clone, Debug, Default)]
pub(super) struct Faults(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// Syncs that still succeed; `None` for a disk that never stops.
    syncs_left: Option<u64>,
    stopped: bool,
    /// What the writes since the last sync replaced, oldest first.
    unsynced: Vec<Undo>,
    /// Whether writes to places never written before fail with ENOSPC.
    full: bool,
    /// Places (inode, block) that were written while the disk was not full.
    allocated: HashSet<(u64, u64)>,
    /// Whether the next write panics.
    panics: bool,
    /// What the file system claims to have free, instead of the truth.
    free: Option<u64>,
    /// Whether the file system cannot give blocks of a file back.
    no_holes: bool,
}

#[derive(Debug)]
struct Undo {
    file: File,
    offset: u64,
    old: Vec<u8>,
}

const BLOCK: u64 = 4096;

impl Faults {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().expect("no test panics while it holds the state")
    }

    /// Lets `syncs` more syncs succeed; the next one stops the disk and loses a random part of what it was to keep.
    pub(super) fn stop_after(&self, syncs: u64) {
        self.state().syncs_left = Some(syncs);
    }

    pub(super) fn stopped(&self) -> bool {
        self.state().stopped
    }

    /// Makes new places unwritable, as on a full disk, or writable again.
    pub(super) fn set_full(&self, full: bool) {
        self.state().full = full;
    }

    /// Makes the next write panic, as redb might over a damaged file.
    pub(super) fn panic_once(&self) {
        self.state().panics = true;
    }

    /// Makes the file system claim to have `free` bytes left.
    pub(super) fn set_free(&self, free: Option<u64>) {
        self.state().free = free;
    }

    /// Makes it a file system that cannot give blocks of a file back.
    pub(super) fn forget_holes(&self) {
        self.state().no_holes = true;
    }

    pub(super) fn has_no_holes(&self) -> bool {
        self.state().no_holes
    }

    pub(super) fn free(&self) -> Option<u64> {
        self.state().free
    }

    pub(super) fn before_change(&self) -> io::Result<()> {
        if self.state().stopped { Err(io::Error::other("the disk has stopped")) } else { Ok(()) }
    }

    pub(super) fn before_sync(&self) -> io::Result<()> {
        self.before_change()?;
        let mut state = self.state();
        match &mut state.syncs_left {
            None => {}
            Some(0) => {
                state.stopped = true;
                // Newest first: what is undone takes everything written over it along.
                while let Some(undo) = state.unsynced.pop() {
                    if fastrand::bool() {
                        undo.file.write_all_at(&undo.old, undo.offset)?;
                    }
                }
                return Err(io::Error::other("the disk stops"));
            }
            Some(left) => *left -= 1,
        }
        state.unsynced.clear();
        Ok(())
    }

    pub(super) fn before_write(&self, file: &File, offset: u64, len: usize) -> io::Result<()> {
        self.before_change()?;
        if std::mem::take(&mut self.state().panics) {
            panic!("as the test asked for");
        }
        let mut state = self.state();
        let inode = file.metadata()?.ino();
        let blocks = offset / BLOCK..(offset + len as u64).div_ceil(BLOCK);
        if !state.full {
            state.allocated.extend(blocks.map(|b| (inode, b)));
        } else if blocks.into_iter().any(|b| !state.allocated.contains(&(inode, b))) {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        if state.syncs_left.is_some() {
            let mut old = vec![0; len];
            let held = file.metadata()?.len().saturating_sub(offset).min(len as u64);
            let held = usize::try_from(held).expect("a page fits into memory");
            file.read_exact_at(&mut old[..held], offset)?;
            state.unsynced.push(Undo { file: file.try_clone()?, offset, old });
        }
        Ok(())
    }
}
