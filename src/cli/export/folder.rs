//! A directory that is written for other programs, and below which no link is followed.
//!
//! Whatever lies there is somebody else's. Folders are opened one below the other and a link in place of one is refused;
//! a file in the way is replaced and never written into. What is written has the name [`HALF`] until it is whole, and
//! since one process writes at a time, one that was left behind is nobody's and goes with the next file.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::super::exit::{Exit, Failure};

/// What a file is called that is not whole.
const HALF: &str = ".hubcache-export.new";
/// What files may be, as far as the mask of the process lets them.
const FILE_MODE: u32 = 0o644;
/// The same for folders.
const FOLDER_MODE: u32 = 0o777;

/// The directory.
pub struct Folder {
    top: OwnedFd,
    path: PathBuf,
}

impl Folder {
    /// Makes the directory where there is none, and keeps other exports out of it.
    ///
    /// # Errors
    /// When it cannot be made, and when another export writes there.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let failed = |error: io::Error| {
            let why = format!("{} cannot be a directory for an export: {error}", path.display());
            Failure::new(Exit::CantCreate, why)
        };
        fs::create_dir_all(path).map_err(failed)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let top = rustix::fs::open(path, flags, Mode::empty()).map_err(|error| failed(error.into()))?;
        // Not every file system can lock a directory, and then nobody is kept out.
        if rustix::fs::flock(&top, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK) {
            let why = format!("another export writes to {}; wait for its end", path.display());
            return Err(Failure::new(Exit::TryAgain, why));
        }
        Ok(Self { top, path: path.to_owned() })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The regular file that is at a path, if there is one that can be read.
    ///
    /// # Errors
    /// When a folder above it is a link or cannot be opened.
    pub fn read(&self, path: &str) -> io::Result<Option<File>> {
        let Some((folder, name)) = self.above(path, false)? else { return Ok(None) };
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        // What cannot be read is as good as not there, and is replaced.
        let Ok(file) = rustix::fs::openat(folder, name, flags, Mode::empty()) else { return Ok(None) };
        let file = File::from(file);
        Ok(file.metadata()?.is_file().then_some(file))
    }

    /// What the link at a path says, if there is one.
    ///
    /// # Errors
    /// As [`Folder::read`].
    pub fn link(&self, path: &str) -> io::Result<Option<String>> {
        let Some((folder, name)) = self.above(path, false)? else { return Ok(None) };
        let says = rustix::fs::readlinkat(folder, name, Vec::new()).ok();
        Ok(says.and_then(|says| says.into_string().ok()))
    }

    /// Begins a file, which can be read as well.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn begin(&self) -> io::Result<Half<'_>> {
        self.discard()?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.top, HALF, flags, Mode::from_raw_mode(FILE_MODE as _))?;
        Ok(Half { file: File::from(file), of: self, is_placed: false })
    }

    /// Makes a link that says `says`, in place of whatever is there.
    ///
    /// # Errors
    /// When a folder above it is a link, and when the system refuses.
    pub fn set_link(&self, path: &str, says: &str) -> io::Result<()> {
        if self.link(path)?.as_deref() == Some(says) {
            return Ok(());
        }
        self.discard()?;
        rustix::fs::symlinkat(says, &self.top, HALF)?;
        self.place(path)
    }

    /// Gives what has been written its name.
    fn place(&self, path: &str) -> io::Result<()> {
        let placed = self.above(path, true).and_then(|above| {
            let (folder, name) = above.expect("the folders were made");
            Ok(rustix::fs::renameat(&self.top, HALF, folder, name)?)
        });
        if placed.is_err() {
            // The error that is told is the one that matters.
            let _ = self.discard();
        }
        placed
    }

    fn discard(&self) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.top, HALF, AtFlags::empty()) {
            Err(Errno::NOENT) => Ok(()),
            result => Ok(result?),
        }
    }

    /// The folder in which a path is, and its name there; none if that folder is not there and is not to be made.
    fn above<'p>(&self, path: &'p str, makes: bool) -> io::Result<Option<(OwnedFd, &'p str)>> {
        let (folders, name) = path.rsplit_once('/').unwrap_or(("", path));
        let mut folder = self.top.as_fd().try_clone_to_owned()?;
        for segment in folders.split('/').filter(|segment| !segment.is_empty()) {
            if makes {
                match rustix::fs::mkdirat(&folder, segment, Mode::from_raw_mode(FOLDER_MODE as _)) {
                    Err(Errno::EXIST) | Ok(()) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            folder = match rustix::fs::openat(&folder, segment, flags, Mode::empty()) {
                Ok(folder) => folder,
                Err(Errno::NOENT) if !makes => return Ok(None),
                Err(error) => return Err(in_the_way(&folder, segment, error)),
            };
        }
        Ok(Some((folder, name)))
    }
}

/// Says of what is in place of a folder what it is.
fn in_the_way(above: &OwnedFd, name: &str, error: Errno) -> io::Error {
    let about = rustix::fs::statat(above, name, AtFlags::SYMLINK_NOFOLLOW);
    match about.map(|about| FileType::from_raw_mode(about.st_mode)) {
        Ok(FileType::Symlink) => {
            io::Error::other(format!("{name} is a link, and may lead elsewhere; remove it"))
        }
        Ok(FileType::Directory) | Err(_) => error.into(),
        Ok(_) => io::Error::other(format!("{name} is no folder; remove it")),
    }
}

/// A file that is not whole; it is gone if it does not become so.
pub struct Half<'a> {
    file: File,
    of: &'a Folder,
    is_placed: bool,
}

impl Half<'_> {
    /// What is written.
    pub fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Gives it its name, in place of whatever has it.
    ///
    /// # Errors
    /// When a folder above it is a link, and when the system refuses.
    pub fn place(mut self, path: &str) -> io::Result<File> {
        self.is_placed = true;
        self.of.place(path)?;
        self.file.try_clone()
    }

    /// Shares the bytes of another file, if the file system can: this takes no space, and no time.
    pub fn share(&self, with: &File) -> bool {
        shared(&self.file, with)
    }
}

impl Drop for Half<'_> {
    fn drop(&mut self) {
        if !self.is_placed {
            // If it cannot go now it goes with the next file.
            let _ = self.of.discard();
        }
    }
}

#[cfg(target_os = "linux")]
fn shared(file: &File, with: &File) -> bool {
    rustix::fs::ioctl_ficlone(file, with).is_ok()
}

#[cfg(not(target_os = "linux"))]
fn shared(_file: &File, _with: &File) -> bool {
    false
}
