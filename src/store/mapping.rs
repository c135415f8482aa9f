//! Bytes of a volume's file as memory of this process, without a copy: the pages of the kernel's cache, mapped.
//!
//! A file is mapped in windows, each when something in it is first asked for, and so shared by all who read. What is
//! handed out names a stretch of a chunk that is held ([`super::offsets`]), and nothing else of a window is touched:
//! redb grows and shrinks the file as it likes, but never below a page that is in use, so no access lies beyond its
//! end. Mapped pages belong to the kernel, which takes them back when it needs room.
//!
//! A page that is not in memory is read from the disk by whoever touches it. So nobody touches one before
//! [`Slice::is_resident`], or [`Slice::load`] on a thread that may block; the latter also meets an unreadable disk as
//! an error, where a touch would be a signal (the kernel itself, copying to a socket, meets it as an error too).

use std::fs::File;
use std::io;
use std::path::Path;

use bytes::Bytes;

pub(super) use system::{Mapping, Slice};

/// Bytes of the file that are compared at a time.
const PIECE: usize = 64 << 10;
/// Bytes of them that are a sample.
const SAMPLE: usize = 256;

impl Mapping {
    /// A mapping of the file at `path`; `None` where it cannot be opened or the system cannot do it.
    pub(super) fn open(path: &Path) -> Option<Self> {
        Self::of(File::open(path).ok()?)
    }

    /// Whether the file has `bytes` at `offset`, read without the mapping.
    pub(super) fn has(&self, offset: u64, bytes: &[u8]) -> io::Result<bool> {
        self.has_pieces(offset, bytes.chunks(PIECE))
    }

    /// The same, looking at the beginning of each stretch of [`PIECE`] bytes or fewer: enough to tell whether the file
    /// has what was written a moment ago where it seems to be, and not more than that.
    pub(super) fn has_samples(&self, offset: u64, segments: &[Bytes]) -> io::Result<bool> {
        let mut at = offset;
        for segment in segments {
            let samples = segment.chunks(PIECE).map(|piece| &piece[..piece.len().min(SAMPLE)]);
            for (number, sample) in (0..).zip(samples) {
                if !self.has_pieces(at + number * PIECE as u64, std::iter::once(sample))? {
                    return Ok(false);
                }
            }
            at += segment.len() as u64;
        }
        Ok(true)
    }

    fn has_pieces<'a>(&self, offset: u64, pieces: impl Iterator<Item = &'a [u8]>) -> io::Result<bool> {
        let (mut buffer, mut at) = (Vec::new(), offset);
        for piece in pieces {
            buffer.resize(piece.len(), 0);
            std::os::unix::fs::FileExt::read_exact_at(self.file(), &mut buffer, at)?;
            if buffer != piece {
                return Ok(false);
            }
            at += piece.len() as u64;
        }
        Ok(true)
    }
}

#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
mod system {
    use std::collections::VecDeque;
    use std::ffi::{c_int, c_uchar, c_void};
    use std::fs::File;
    use std::io;
    use std::ptr::NonNull;
    use std::sync::{Arc, Mutex, PoisonError};

    use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, munmap};

    /// Bytes of the file from one window to the next.
    const WINDOW: u64 = 1 << 30;
    /// How far a window reaches into the next one, so that a chunk which begins in it also ends in it.
    const OVERLAP: usize = 4 << 20;
    /// Windows that are kept of one file; the page tables of one take up to 2 MiB.
    const WINDOWS: usize = 64;
    /// The size of a page, or a divisor of it.
    const PAGE: usize = 4096;
    /// Pages that one stretch covers at most.
    const MOST_PAGES: usize = OVERLAP / PAGE;

    /// A file that is mapped piece by piece.
    #[derive(Debug)]
    pub struct Mapping {
        file: File,
        /// Those used last in front.
        windows: Mutex<VecDeque<Arc<Window>>>,
    }

    impl Mapping {
        pub(in super::super) fn of(file: File) -> Option<Self> {
            (rustix::param::page_size().is_multiple_of(PAGE))
                .then(|| Self { file, windows: Mutex::default() })
        }

        pub(super) fn file(&self) -> &File {
            &self.file
        }

        /// `len` bytes at `offset`, which the file must have for as long as the slice lives; `None` if they cannot
        /// be mapped.
        pub(in super::super) fn slice(&self, offset: u64, len: usize) -> Option<Slice> {
            if len == 0 || len > OVERLAP - PAGE {
                return None;
            }
            let (number, within) = (offset / WINDOW, usize::try_from(offset % WINDOW).ok()?);
            let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
            let window = match windows.iter().position(|w| w.number == number) {
                Some(0) => Arc::clone(&windows[0]),
                Some(at) => {
                    let window = windows.remove(at)?;
                    windows.push_front(Arc::clone(&window));
                    window
                }
                None => {
                    let window = Arc::new(Window::map(&self.file, number).ok()?);
                    windows.truncate(WINDOWS - 1);
                    windows.push_front(Arc::clone(&window));
                    window
                }
            };
            Some(Slice { window, within, len })
        }
    }

    #[derive(Debug)]
    struct Window {
        number: u64,
        base: NonNull<c_void>,
    }

    const LENGTH: usize = WINDOW as usize + OVERLAP;

    // SAFETY: the mapping is read-only and belongs to nobody in particular; it is unmapped once, by the last owner.
    unsafe impl Send for Window {}
    // SAFETY: as above; shared readers only read.
    unsafe impl Sync for Window {}

    impl Window {
        fn map(file: &File, number: u64) -> io::Result<Self> {
            // SAFETY: a new mapping at an address that the kernel chooses. It may reach beyond the end of the file;
            // what lies there is never touched.
            let base = unsafe {
                mmap(
                    std::ptr::null_mut(),
                    LENGTH,
                    ProtFlags::READ,
                    MapFlags::SHARED | MapFlags::NORESERVE,
                    file,
                    number * WINDOW,
                )?
            };
            NonNull::new(base).map(|base| Self { number, base }).ok_or_else(|| io::ErrorKind::Other.into())
        }
    }

    impl Drop for Window {
        fn drop(&mut self) {
            // SAFETY: mapped by `map` with this length, and every slice of it holds the window.
            let _ = unsafe { munmap(self.base.as_ptr(), LENGTH) };
        }
    }

    /// Mapped bytes.
    #[derive(Debug)]
    pub struct Slice {
        window: Arc<Window>,
        within: usize,
        len: usize,
    }

    impl Slice {
        /// Whether all of it is in memory now, so that it can be touched without waiting for the disk.
        pub(in super::super) fn is_resident(&self) -> bool {
            unsafe extern "C" {
                /// mincore(2); rustix does not offer it.
                fn mincore(addr: *mut c_void, length: usize, vec: *mut c_uchar) -> c_int;
            }
            let (start, len) = self.pages();
            let mut resident = [0; MOST_PAGES];
            let count = len.div_ceil(PAGE);
            // SAFETY: the range lies within the window, which is mapped, and begins at a page; the kernel writes one
            // byte for each page, and there are at most `MOST_PAGES` of at least `PAGE` bytes.
            let done = unsafe { mincore(start, len, resident.as_mut_ptr()) } == 0;
            done && resident[..count].iter().all(|page| page & 1 == 1)
        }

        /// Brings it into memory. Blocks.
        ///
        /// # Errors
        /// When the disk cannot be read.
        pub(in super::super) fn load(&self) -> io::Result<()> {
            let (start, len) = self.pages();
            // SAFETY: the range lies within the window, which is mapped; this advice changes no content.
            match unsafe { madvise(start, len, Advice::LinuxPopulateRead) } {
                // Linux before 5.14 does not know it. There the reader waits for the disk.
                Err(rustix::io::Errno::INVAL) => Ok(()),
                done => Ok(done?),
            }
        }

        /// Whole pages around it.
        fn pages(&self) -> (*mut c_void, usize) {
            let before = self.within % rustix::param::page_size();
            // SAFETY: `within` lies inside of the window, and `before` is not greater.
            let start = unsafe { self.window.base.as_ptr().byte_add(self.within - before) };
            (start, before + self.len)
        }
    }

    impl AsRef<[u8]> for Slice {
        fn as_ref(&self) -> &[u8] {
            // SAFETY: `within + len` is less than the window's length (`slice` sees to that), the mapping lives as
            // long as `self.window`, and the bytes of a chunk that is held do not change.
            unsafe {
                std::slice::from_raw_parts(self.window.base.as_ptr().cast::<u8>().add(self.within), self.len)
            }
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn stretches_across_the_edge_of_a_window_are_whole() {
            let file = tempfile::tempfile().unwrap();
            file.set_len(3 * WINDOW).unwrap();
            let edge = WINDOW - 10_000;
            let bytes: Vec<u8> = (0..20_000u32).map(|i| i.to_le_bytes()[0]).collect();
            std::os::unix::fs::FileExt::write_all_at(&file, &bytes, edge).unwrap();
            let mapping = Mapping::of(file).unwrap();
            let slice = mapping.slice(edge, bytes.len()).unwrap();
            assert!(slice.is_resident(), "it was written a moment ago");
            slice.load().unwrap();
            assert!(slice.as_ref() == bytes);
            assert!(mapping.has(edge, &bytes).unwrap() && !mapping.has(edge + 1, &bytes).unwrap());
            let halves = bytes::Bytes::from(bytes.clone());
            let halves = [halves.slice(..9_000), halves.slice(9_000..)];
            assert!(
                mapping.has_samples(edge, &halves).unwrap()
                    && !mapping.has_samples(edge + 1, &halves).unwrap()
            );
            assert!(mapping.slice(0, OVERLAP).is_none(), "too long for the overlap");
        }

        #[test]
        fn only_so_many_windows_are_kept() {
            let file = tempfile::tempfile().unwrap();
            file.set_len(200 * WINDOW).unwrap();
            let mapping = Mapping::of(file).unwrap();
            let first = mapping.slice(5, 10).unwrap();
            for number in 0..200 {
                assert_eq!(mapping.slice(number * WINDOW, 10).unwrap().as_ref(), [0; 10]);
            }
            assert_eq!(mapping.windows.lock().unwrap().len(), WINDOWS);
            assert_eq!(first.as_ref(), [0; 10], "a slice keeps its window");
        }
    }
}

/// Elsewhere bodies are copied.
#[cfg(not(target_os = "linux"))]
mod system {
    use std::fs::File;
    use std::io;

    #[derive(Debug)]
    pub struct Mapping(File);

    impl Mapping {
        pub(in super::super) fn of(_file: File) -> Option<Self> {
            None
        }

        pub(super) fn file(&self) -> &File {
            &self.0
        }

        pub(in super::super) fn slice(&self, _offset: u64, _len: usize) -> Option<Slice> {
            None
        }
    }

    #[derive(Debug)]
    pub enum Slice {}

    impl Slice {
        pub(in super::super) fn is_resident(&self) -> bool {
            match *self {}
        }

        pub(in super::super) fn load(&self) -> io::Result<()> {
            match *self {}
        }
    }

    impl AsRef<[u8]> for Slice {
        fn as_ref(&self) -> &[u8] {
            match *self {}
        }
    }
}
