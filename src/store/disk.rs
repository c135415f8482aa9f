//! The file system under the data directory: what kind it is, what is free, and how files are opened on it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use redb::{Database, DatabaseError, ReadOnlyDatabase};

use super::backend::Backend;
#[cfg(test)]
use super::faults::Faults;
use super::lock::{DirLock, Refused};
use super::offsets::Offsets;

/// Opens the files of the store and knows how much room there is for them.
#[derive(Debug)]
pub(super) struct Disk {
    dir: PathBuf,
    min_free: u64,
    /// Given up when the store is closed, or else with the last user of a file.
    lock: Mutex<Option<DirLock>>,
    #[cfg(test)]
    pub(super) faults: Faults,
}

impl Disk {
    #[cfg(not(test))]
    pub(super) fn new(dir: PathBuf, min_free: u64) -> Self {
        Self { dir, min_free, lock: Mutex::default() }
    }

    #[cfg(test)]
    pub(super) fn new(dir: PathBuf, min_free: u64, faults: Faults) -> Self {
        Self { dir, min_free, lock: Mutex::default(), faults }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Makes this process the owner of the directory.
    pub(super) fn lock(&self) -> Result<(), Refused> {
        let taken = DirLock::take(&self.dir)?;
        *self.lock.lock().unwrap_or_else(PoisonError::into_inner) = Some(taken);
        Ok(())
    }

    pub(super) fn unlock(&self) {
        *self.lock.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub(super) fn index(&self) -> PathBuf {
        self.dir.join("index.redb")
    }

    pub(super) fn volume(&self, number: u32) -> PathBuf {
        self.dir.join("volumes").join(format!("blobs-{number:04}.redb"))
    }

    /// The numbers of all files of volumes, whether they are part of the store or not.
    pub(super) fn volumes(&self) -> Vec<u32> {
        let number = |name: &str| name.strip_prefix("blobs-")?.strip_suffix(".redb")?.parse().ok();
        let files = fs::read_dir(self.dir.join("volumes")).into_iter().flatten().flatten();
        files.filter_map(|file| number(file.file_name().to_str()?)).collect()
    }

    /// Removes the file of a volume that is no part of the store.
    pub(super) fn remove_volume(&self, number: u32) -> io::Result<()> {
        match fs::remove_file(self.volume(number)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    /// Space that chunks leave untouched.
    pub(super) fn min_free(&self) -> u64 {
        self.min_free
    }

    /// Bytes that this process may still take on the file system.
    pub(super) fn free(&self) -> io::Result<u64> {
        #[cfg(test)]
        if let Some(free) = self.faults.free() {
            return Ok(free);
        }
        free(&self.dir)
    }

    /// Bytes on disk of every file below the data directory.
    pub(super) fn used(&self) -> io::Result<u64> {
        used(&self.dir)
    }

    /// Opens a database for reading and writing; creates it only when told so. A volume tells `offsets` of its chunks.
    pub(super) fn open(
        &self,
        path: &Path,
        cache: usize,
        create: bool,
        offsets: Option<Arc<Offsets>>,
    ) -> Result<Database, DatabaseError> {
        let file = private().create(create).open(path)?;
        #[cfg(not(test))]
        let backend = Backend::new(file, offsets)?;
        #[cfg(test)]
        let backend = Backend::new(file, offsets, self.faults.clone())?;
        Database::builder().set_cache_size(cache).create_with_backend(backend)
    }

    /// Opens a database that was closed cleanly without changing a byte of it.
    pub(super) fn peek(&self, path: &Path) -> Result<ReadOnlyDatabase, DatabaseError> {
        Database::builder().set_cache_size(0).open_read_only(path)
    }
}

/// Bytes that this user may still take on the file system of `dir`.
pub(super) fn free(dir: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(dir)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Bytes on disk of every file below the data directory `dir`.
pub(super) fn used(dir: &Path) -> io::Result<u64> {
    let mut sum = 0;
    for dir in [dir.to_owned(), dir.join("volumes")] {
        for file in fs::read_dir(dir)? {
            let meta = file?.metadata()?;
            sum += if meta.is_file() { blocks(&meta) } else { 0 };
        }
    }
    Ok(sum)
}

/// Creates `dir` and what is missing above it; only what is created gets mode 0700.
pub(super) fn create_dir(dir: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(dir)
}

/// Opens for reading and writing; a new file gets mode 0600.
pub(super) fn private() -> OpenOptions {
    let mut options = File::options();
    options.read(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Bytes that a file takes on disk: its length says little, because redb's files have holes and a sparse tail.
pub(super) fn blocks(meta: &fs::Metadata) -> u64 {
    #[cfg(unix)]
    return std::os::unix::fs::MetadataExt::blocks(meta) * 512;
    #[cfg(not(unix))]
    return meta.len();
}

/// The name of the network file system that `dir`, or the nearest directory above it that exists, lies on.
///
/// Locks and fsync cannot be relied on there, and redb needs both.
#[cfg(target_os = "linux")]
pub(super) fn network_file_system(dir: &Path) -> io::Result<Option<&'static str>> {
    let mut at = dir;
    let stat = loop {
        match rustix::fs::statfs(if at.as_os_str().is_empty() { Path::new(".") } else { at }) {
            Err(rustix::io::Errno::NOENT) => match at.parent() {
                Some(parent) => at = parent,
                None => return Ok(None),
            },
            result => break result?,
        }
    };
    // The field is signed and of the width of a pointer; the constants have 32 bits.
    Ok(network_name((stat.f_type as u64 & 0xffff_ffff) as u32))
}

#[cfg(not(target_os = "linux"))]
pub(super) fn network_file_system(_dir: &Path) -> io::Result<Option<&'static str>> {
    Ok(None)
}

/// By the magic numbers of statfs(2) and `linux/magic.h`.
#[cfg(target_os = "linux")]
fn network_name(magic: u32) -> Option<&'static str> {
    Some(match magic {
        0x6969 => "NFS",
        0x517b => "SMB",
        0xff53_4d42 => "CIFS",
        0xfe53_4d42 => "SMB2",
        0x7375_7245 => "Coda",
        0x5346_414f | 0x6b41_4653 => "AFS",
        0x00c3_6400 => "Ceph",
        0x0102_1997 => "9P",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn network_file_systems_are_told_by_their_magic() {
        assert_eq!(network_name(0x6969), Some("NFS"));
        assert_eq!(network_name(0xff53_4d42), Some("CIFS"));
        assert_eq!(network_name(0xef53), None, "ext4");
        assert_eq!(network_file_system(Path::new("/proc/no/such/directory")).unwrap(), None);
        assert_eq!(network_file_system(Path::new("no/such/directory")).unwrap(), None);
    }
}
