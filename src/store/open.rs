//! Opening and closing a store.

use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redb::{DatabaseError, ReadableDatabase, TableError};

use super::blob::Leases;
use super::disk::{Disk, create_dir, network_file_system};
use super::error::{Failure, StoreError};
#[cfg(test)]
use super::faults::Faults;
use super::handle::Handle;
use super::index::queue::{IndexQueue, Surroundings, TickChange};
use super::index::{self, Effects, reads};
use super::lock::Refused;
use super::memory::Memory;
use super::settings::{Settings, Shares};
use super::volume::Neighbours;
use super::volumes::Volumes;
use crate::model::{EntryKey, Sha256, Timestamp};

/// The store of one data directory. Cheap to clone; see the [module's documentation](super).
#[derive(Clone)]
pub struct Store(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub disk: Arc<Disk>,
    pub index: Arc<Handle>,
    pub queue: IndexQueue,
    pub volumes: Arc<Volumes>,
    pub neighbours: Neighbours,
    pub memory: Arc<Memory>,
    pub marks: Mutex<HashMap<EntryKey, Timestamp>>,
    pub uses: Arc<Uses>,
    pub partial_expiry: Duration,
    pub closed: AtomicBool,
}

/// Last uses that are not written down yet.
#[derive(Default)]
pub(super) struct Uses(Mutex<HashMap<Sha256, Timestamp>>);

impl Uses {
    pub(super) fn get(&self) -> MutexGuard<'_, HashMap<Sha256, Timestamp>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The change that writes them down, if there is anything to write.
    pub(super) fn flush(&self) -> Option<TickChange> {
        let uses: Vec<_> = self.get().drain().collect();
        (!uses.is_empty()).then(|| -> TickChange { Box::new(move |tables| tables.used(&uses)) })
    }
}

/// Why a store could not be opened.
#[derive(Debug)]
pub enum OpenError {
    /// Another process has the directory.
    Owned {
        /// That process, if it wrote its id down.
        pid: Option<u32>,
        /// The data directory.
        dir: PathBuf,
    },
    /// The directory was written by a program that lays it out differently. Nothing was touched.
    Layout {
        /// The layout in the directory.
        found: u64,
        /// The layout that this program knows.
        supported: u64,
        /// The data directory.
        dir: PathBuf,
    },
    /// The directory lies on a network file system, where locks and syncs cannot be relied on.
    NetworkFileSystem {
        /// Its name.
        kind: &'static str,
        /// The data directory.
        dir: PathBuf,
    },
    /// The directory could not be created.
    Create {
        /// The data directory.
        dir: PathBuf,
        /// What the operating system said.
        io: io::Error,
    },
    /// A file could not be opened, read or written.
    Io {
        /// The file.
        file: PathBuf,
        /// What went wrong with it.
        source: Box<dyn Error + Send + Sync>,
    },
    /// A file is not what the store wrote.
    Damaged {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        source: Box<dyn Error + Send + Sync>,
    },
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Owned { pid: Some(pid), dir } => {
                write!(f, "{} is in use by process {pid}", dir.display())
            }
            Self::Owned { pid: None, dir } => write!(f, "{} is in use by another process", dir.display()),
            Self::Layout { found, supported, dir } => write!(
                f,
                "{} has layout {found}, and this program knows layout {supported}: use the program that wrote it, \
                 or another directory",
                dir.display()
            ),
            Self::NetworkFileSystem { kind, dir } => {
                write!(f, "{} lies on a network file system ({kind}): use a local disk", dir.display())
            }
            Self::Create { dir, .. } => write!(f, "cannot create {}", dir.display()),
            Self::Io { file, .. } => write!(f, "cannot open {}", file.display()),
            Self::Damaged { file, .. } => write!(f, "{} is damaged", file.display()),
        }
    }
}

impl Error for OpenError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Create { io, .. } => Some(io),
            Self::Io { source, .. } | Self::Damaged { source, .. } => Some(&**source),
            Self::Owned { .. } | Self::Layout { .. } | Self::NetworkFileSystem { .. } => None,
        }
    }
}

impl Store {
    /// Opens the store, and creates it if the directory is empty or missing. Blocks.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(settings: Settings, now: Timestamp) -> Result<Self, OpenError> {
        #[cfg(not(test))]
        let disk = Disk::new(settings.dir.clone(), settings.min_free_bytes);
        #[cfg(test)]
        let disk = Disk::new(settings.dir.clone(), settings.min_free_bytes, Faults::default());
        Self::open_on(disk, &settings, now)
    }

    #[cfg(test)]
    pub(super) fn open_with(settings: &Settings, now: Timestamp, faults: Faults) -> Result<Self, OpenError> {
        Self::open_on(Disk::new(settings.dir.clone(), settings.min_free_bytes, faults), settings, now)
    }

    fn open_on(disk: Disk, settings: &Settings, now: Timestamp) -> Result<Self, OpenError> {
        let dir = disk.dir().to_owned();
        match network_file_system(&dir) {
            Ok(None) => {}
            Ok(Some(kind)) => return Err(OpenError::NetworkFileSystem { kind, dir }),
            Err(e) => return Err(OpenError::Io { file: dir, source: e.into() }),
        }
        create_dir(&dir).map_err(|io| OpenError::Create { dir: dir.clone(), io })?;
        disk.lock().map_err(|e| match e {
            Refused::Owned(pid) => OpenError::Owned { pid, dir: dir.clone() },
            Refused::Io(e) => OpenError::Io { file: dir.join("lock"), source: e.into() },
        })?;
        let disk = Arc::new(disk);
        let index = Arc::new(open_index(&disk, settings)?);
        let path = disk.index();
        let read = |e: StoreError| at_open(&path, e);
        let volumes = dir.join("volumes");
        create_dir(&volumes).map_err(|io| OpenError::Create { dir: volumes, io })?;
        let numbers = index.run(reads::volumes).map_err(read)?;
        let marks = index.run(|database| reads::marks(database, now)).map_err(read)?;
        let doomed = index.run(reads::deletions).map_err(read)?;
        let volumes = Volumes::open(disk.clone(), settings.volume_max_bytes, settings.cache_bytes, &numbers);
        let volumes = Arc::new(volumes.map_err(read)?);

        let memory = Arc::new(Memory::new(settings.small_cache_bytes));
        let leases = Leases::new(memory.clone());
        let uses = Arc::<Uses>::default();
        let around = |notifier| Around {
            index: index.clone(),
            volumes: volumes.clone(),
            neighbours: Neighbours { leases: leases.clone(), index: notifier },
            memory: memory.clone(),
            uses: uses.clone(),
            reread: AtomicBool::new(false),
        };
        let queue = IndexQueue::start(index.clone(), around)
            .map_err(|e| OpenError::Io { file: path.clone(), source: e.into() })?;
        let neighbours = Neighbours { leases, index: queue.notifier() };
        volumes.remove(&neighbours, &doomed);
        Ok(Self(Arc::new(Inner {
            disk,
            index,
            queue,
            volumes,
            neighbours,
            memory,
            marks: Mutex::new(marks),
            uses,
            partial_expiry: settings.partial_expiry,
            closed: AtomicBool::new(false),
        })))
    }

    /// Writes what waits, ends the writers and closes all files. Every later call fails with
    /// [`StoreError::Closed`]. What is still being read from memory stays readable.
    pub async fn close(&self) {
        let inner = self.0.clone();
        // Threads are joined and files synced.
        let _ = tokio::task::spawn_blocking(move || inner.close()).await;
    }
}

impl Inner {
    pub(super) fn check_open(&self) -> Result<(), StoreError> {
        if self.closed.load(Ordering::Acquire) { Err(StoreError::Closed) } else { Ok(()) }
    }

    fn close(&self) {
        if self.closed.swap(true, Ordering::AcqRel) {
            return;
        }
        // Volumes first: their last removals still report to the index.
        let volumes = self.volumes.all();
        let threads: Vec<_> = volumes.iter().filter_map(|volume| volume.begin_close()).collect();
        for thread in threads {
            let _ = thread.join();
        }
        self.queue.close();
        for volume in volumes {
            volume.handle().close();
        }
        self.index.close();
        self.disk.unlock();
    }
}

impl Drop for Inner {
    /// A store that was not closed ends its threads without waiting for them. What was acknowledged is on disk.
    fn drop(&mut self) {
        if !self.closed.load(Ordering::Acquire) {
            for volume in self.volumes.all() {
                drop(volume.begin_close());
            }
            self.queue.begin_close();
        }
    }
}

/// What the index thread does in the rest of the store.
struct Around {
    index: Arc<Handle>,
    volumes: Arc<Volumes>,
    neighbours: Neighbours,
    memory: Arc<Memory>,
    uses: Arc<Uses>,
    /// Whether delete-intents may be on disk that no volume was told of.
    reread: AtomicBool,
}

impl Surroundings for Around {
    fn committed(&self, effects: Effects) {
        self.memory.changed(&effects.changed);
        // Places are outdated before a volume looks whether anybody holds the blob: whoever took a handle on the
        // strength of an outdated place either sees that, or is seen by the volume.
        self.memory.removed(&effects.doomed);
        self.volumes.remove(&self.neighbours, &effects.doomed);
        if self.reread.load(Ordering::Relaxed) {
            self.reread();
        }
    }

    fn uncertain(&self, effects: Effects) {
        self.memory.changed(&effects.changed);
        self.memory.removed(&effects.doomed);
        // A delete-intent that is not on disk must not be acted on, and one that is must not be forgotten.
        if !effects.doomed.is_empty() {
            self.reread();
        }
    }

    fn tick(&self) -> Option<TickChange> {
        self.uses.flush()
    }
}

impl Around {
    fn reread(&self) {
        let doomed = self.index.run(reads::deletions);
        self.reread.store(doomed.is_err(), Ordering::Relaxed);
        if let Ok(doomed) = doomed {
            self.volumes.remove(&self.neighbours, &doomed);
        }
    }
}

/// Opens or creates the index, unless another layout is found in it.
fn open_index(disk: &Arc<Disk>, settings: &Settings) -> Result<Handle, OpenError> {
    let path = disk.index();
    let io = |e: io::Error| OpenError::Io { file: path.clone(), source: e.into() };
    let held = match fs::metadata(&path) {
        Ok(meta) => meta.len() > 0,
        Err(e) if e.kind() == io::ErrorKind::NotFound => false,
        Err(e) => return Err(io(e)),
    };
    // Looked at before anything is written. After a crash only opening for writing can repair the file; then the
    // layout is looked at below, and nothing but redb's own bookkeeping has changed.
    if held && let Ok(index) = disk.peek(&path) {
        let layout = layout(&index).map_err(|e| at_open(&path, e.into_error()))?;
        check_layout(disk.dir(), layout)?;
    }
    let cache = Shares::of(settings.cache_bytes, 1).index;
    let handle = Handle::open(disk.clone(), path.clone(), cache, true)
        .map_err(|e| at_database(disk.dir(), &path, e))?;
    match handle.run(layout).map_err(|e| at_open(&path, e))? {
        None => handle.run(index::initialize).map_err(|e| at_open(&path, e))?,
        found => check_layout(disk.dir(), found)?,
    }
    Ok(handle)
}

fn check_layout(dir: &Path, found: Option<u64>) -> Result<(), OpenError> {
    match found {
        None | Some(index::LAYOUT_VERSION) => Ok(()),
        Some(found) => {
            Err(OpenError::Layout { found, supported: index::LAYOUT_VERSION, dir: dir.to_owned() })
        }
    }
}

/// The layout that an index names; `None` in one that was created and never written.
fn layout(index: &impl ReadableDatabase) -> Result<Option<u64>, Failure> {
    let txn = index.begin_read()?;
    match txn.open_table(index::META) {
        Ok(meta) => match meta.get(index::LAYOUT)? {
            Some(row) => Ok(Some(row.value())),
            None => Err(StoreError::Damaged("the index names no layout".into()).into()),
        },
        Err(TableError::TableDoesNotExist(_)) if txn.list_tables()?.next().is_none() => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Sorts what went wrong inside of an open file.
fn at_open(file: &Path, e: StoreError) -> OpenError {
    let file = file.to_owned();
    match e {
        StoreError::Damaged(_) => OpenError::Damaged { file, source: e.into() },
        _ => OpenError::Io { file, source: e.into() },
    }
}

/// Sorts what went wrong while redb opened a file.
fn at_database(dir: &Path, file: &Path, e: DatabaseError) -> OpenError {
    let damaged = match &e {
        DatabaseError::DatabaseAlreadyOpen => return OpenError::Owned { pid: None, dir: dir.to_owned() },
        DatabaseError::Storage(redb::StorageError::Io(io)) => io.kind() == io::ErrorKind::InvalidData,
        DatabaseError::Storage(redb::StorageError::Corrupted(_)) => true,
        _ => false,
    };
    let (file, source) = (file.to_owned(), e.into());
    if damaged { OpenError::Damaged { file, source } } else { OpenError::Io { file, source } }
}
