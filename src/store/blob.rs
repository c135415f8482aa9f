//! A handle to the bytes of a blob, whole or still arriving, that keeps them from being removed.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use bytes::{Bytes, BytesMut};

use super::error::StoreError;
use super::lent::Place;
use super::mapping::Slice;
use super::memory::Memory;
use super::offsets::Table;
use super::records::BlobId;
use super::reservation::Reservation;
use super::settings::{CHUNK, SMALL, chunk_len, chunks_of};
use super::volume::Volume;

/// A handle to a blob. Cheap to clone; while one is alive the blob's chunks are not removed, even when no entry
/// names them any more.
#[derive(Clone)]
pub struct Blob(Arc<Lease>);

impl Blob {
    /// The internal name.
    pub fn id(&self) -> BlobId {
        self.0.id
    }

    /// The length, once the blob is whole and committed.
    pub fn size(&self) -> Option<u64> {
        self.0.size.get().copied()
    }

    /// Whether its bytes were found damaged.
    pub fn is_condemned(&self) -> bool {
        self.0.condemned.load(Ordering::Acquire)
    }

    /// What is said of it then.
    pub fn condemned(&self) -> StoreError {
        StoreError::Damaged(format!("the bytes of blob {} were found damaged", self.0.id.0))
    }

    /// One chunk, if that needs no wait for the disk. Takes microseconds.
    pub fn ready(&self, index: u32) -> Option<Bytes> {
        if self.is_condemned() {
            return None;
        }
        let slice = self.mapped(index)?;
        slice.is_resident().then(|| self.lend(slice))
    }

    /// Reads one chunk. Blocks for one short read of the disk.
    ///
    /// # Errors
    /// A chunk that is not there is damage in a whole blob; in a partial one it may not have been written yet.
    pub fn read(&self, index: u32) -> Result<Bytes, StoreError> {
        if self.is_condemned() {
            return Err(self.condemned());
        }
        if let Some(slice) = self.mapped(index) {
            slice.load()?;
            return Ok(self.lend(slice));
        }
        let volume = match (&self.0.home, self.size()) {
            (Home::Volume(volume), _) => volume,
            (Home::Lent(place), size) => return place.read(size.unwrap_or(0), index),
        };
        let bytes = volume.read(self.0.id, index)?;
        let held = bytes.as_ref().map_or(0, Bytes::len);
        match (bytes, self.size()) {
            (Some(bytes), size) if size.is_none_or(|size| bytes.len() == chunk_len(size, index)) => {
                // A shorter one of a partial blob may be replaced.
                if size.is_some() || bytes.len() == CHUNK {
                    volume.locate(self.0.table(volume), self.0.id, index, &bytes);
                }
                Ok(bytes)
            }
            (_, size) => Err(StoreError::Damaged(format!(
                "chunk {index} of blob {} has {held} bytes instead of {}",
                self.0.id.0,
                size.map_or(CHUNK, |size| chunk_len(size, index)),
            ))),
        }
    }

    /// Whether a chunk of a whole blob is not there, or shorter or longer than it must be; not where that cannot be read.
    pub(super) fn is_amiss(&self, index: u32) -> bool {
        let (Some(volume), Some(size)) = (self.volume(), self.size()) else { return false };
        let read = volume.read(self.0.id, index);
        read.is_ok_and(|bytes| bytes.map_or(0, |bytes| bytes.len()) != chunk_len(size, index))
    }

    fn mapped(&self, index: u32) -> Option<Slice> {
        let volume = self.volume()?;
        let len = self.size().map_or(CHUNK, |size| chunk_len(size, index));
        volume.mapped(self.0.table(volume), index, len)
    }

    /// The bytes keep the blob from being removed: they lie in the file.
    fn lend(&self, slice: Slice) -> Bytes {
        Bytes::from_owner(Mapped { slice, _blob: self.clone() })
    }

    /// The whole blob, if it is small and in memory. Never blocks.
    pub fn small(&self) -> Option<Bytes> {
        match self.size()? {
            0 => Some(Bytes::new()),
            1..=SMALL if !self.is_condemned() => self.0.leases.memory.small(self.0.id),
            _ => None,
        }
    }

    /// The whole blob from memory or from the volume, kept in memory from then on if it is small. Meant for blobs of
    /// at most [`SMALL`] bytes; of larger ones it makes one piece.
    ///
    /// # Errors
    /// As [`Blob::read`]; a partial blob cannot be read whole.
    pub fn read_small(&self) -> Result<Bytes, StoreError> {
        if let Some(bytes) = self.small() {
            return Ok(bytes);
        }
        let size = self.size().ok_or(StoreError::Misuse("a partial blob has no whole"))?;
        if size > SMALL {
            let mut whole = BytesMut::new();
            for index in 0..chunks_of(size) {
                whole.extend_from_slice(&self.read(index)?);
            }
            return Ok(whole.freeze());
        }
        let bytes = self.read(0)?;
        self.0.leases.memory.remember_small(self.0.id, bytes.clone());
        Ok(bytes)
    }

    /// The volume that has the bytes; none if they are lent.
    pub(super) fn volume(&self) -> Option<&Arc<Volume>> {
        match &self.0.home {
            Home::Volume(volume) => Some(volume),
            Home::Lent(_) => None,
        }
    }

    /// Notes that a chunk of `len` bytes is on disk.
    pub(super) fn stored(&self, index: u32, segments: &[Bytes], len: usize) {
        if len == CHUNK
            && let Some(volume) = self.volume()
        {
            volume.locate_written(self.0.table(volume), self.0.id, index, segments);
        }
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        self.0.chunks().insert(index, len);
        if let Some(reserved) = &self.0.reserved {
            reserved.release(u64::from(len));
        }
    }

    /// Whether a chunk of a partial blob is on disk, as long as a chunk can be.
    pub(super) fn has_whole(&self, index: u32) -> bool {
        self.0.chunks().get(&index).is_some_and(|len| *len as usize == CHUNK)
    }

    /// Notes the chunks that are on disk since an earlier run.
    pub(super) fn resume(&self, chunks: &[(u32, u32)]) {
        self.0.chunks().extend(chunks.iter().copied());
    }

    /// Whether every chunk of a blob of `size` bytes is known to be on disk.
    pub(super) fn holds(&self, size: u64) -> bool {
        let chunks = self.0.chunks();
        let count = chunks_of(size);
        let whole = |i: u32| chunks.get(&i).is_some_and(|len| *len as usize == chunk_len(size, i));
        chunks.len() == count as usize && (0..count).all(whole)
    }

    /// Ends the fill: from now on the blob has a size.
    pub(super) fn complete(&self, size: u64) {
        let _ = self.0.size.set(size);
        if let Some(volume) = self.volume() {
            volume.offsets().keep(self.0.id, chunks_of(size), self.0.table(volume));
        }
        *self.0.chunks() = HashMap::new();
        if let Some(reserved) = &self.0.reserved {
            reserved.end();
        }
    }

    /// The room that is kept for a partial blob.
    pub(super) fn reserved(&self) -> Option<&Arc<Reservation>> {
        self.0.reserved.as_ref()
    }
}

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blob").field("id", &self.0.id).field("size", &self.size()).finish_non_exhaustive()
    }
}

/// Bytes in the file, and the handle that keeps them there.
struct Mapped {
    slice: Slice,
    _blob: Blob,
}

impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        self.slice.as_ref()
    }
}

/// Where the bytes of a blob are.
#[derive(Clone)]
pub(super) enum Home {
    /// In a volume.
    Volume(Arc<Volume>),
    /// In somebody else's file.
    Lent(Place),
}

struct Lease {
    id: BlobId,
    home: Home,
    leases: Arc<Leases>,
    size: OnceLock<u64>,
    /// Where its chunks lie.
    table: OnceLock<Arc<Table>>,
    /// Of a partial blob: which chunks are on disk, and how long they are.
    chunks: Mutex<HashMap<u32, u32>>,
    /// Of a partial blob: room that the volume keeps for it.
    reserved: Option<Arc<Reservation>>,
    /// Its bytes were found damaged: nothing is read of it any more.
    condemned: AtomicBool,
}

impl Lease {
    fn table(&self, volume: &Volume) -> &Arc<Table> {
        self.table.get_or_init(|| match self.size.get() {
            Some(size) => volume.offsets().table(self.id, chunks_of(*size)),
            None => Arc::default(),
        })
    }

    fn chunks(&self) -> MutexGuard<'_, HashMap<u32, u32>> {
        self.chunks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.leases.forget(self.id);
        if let Home::Volume(volume) = &self.home {
            volume.lease_ended();
        }
    }
}

/// All leases that are held.
pub(super) struct Leases {
    held: Mutex<HashMap<BlobId, Weak<Lease>>>,
    /// Blobs that were found damaged since the start. Ids are never used twice, and damage is rare.
    condemned: Mutex<HashSet<BlobId>>,
    memory: Arc<Memory>,
}

impl Leases {
    pub(super) fn new(memory: Arc<Memory>) -> Arc<Self> {
        Arc::new(Self { held: Mutex::default(), condemned: Mutex::default(), memory })
    }

    /// A handle to a blob. The caller makes sure that the blob is not being removed, after it has the handle.
    pub(super) fn take(
        self: &Arc<Self>,
        id: BlobId,
        home: Home,
        size: Option<u64>,
        reserved: Option<Arc<Reservation>>,
    ) -> Blob {
        let mut held = self.held();
        if let Some(lease) = held.get(&id).and_then(Weak::upgrade) {
            if let Some(size) = size {
                let _ = lease.size.set(size);
            }
            return Blob(lease);
        }
        let lease = Arc::new(Lease {
            id,
            home,
            leases: self.clone(),
            size: size.map_or_else(OnceLock::new, OnceLock::from),
            table: OnceLock::new(),
            chunks: Mutex::default(),
            reserved,
            condemned: AtomicBool::new(self.is_condemned(id)),
        });
        held.insert(id, Arc::downgrade(&lease));
        Blob(lease)
    }

    /// From now on nothing is read of this blob, by whoever has a handle to it or takes one.
    pub(super) fn condemn(&self, id: BlobId) {
        // In the order of `take`, so that no handle is made that does not know.
        let held = self.held();
        self.condemned.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
        let lease = held.get(&id).and_then(Weak::upgrade);
        // The last handle must not go while the map is held.
        drop(held);
        if let Some(lease) = lease {
            lease.condemned.store(true, Ordering::Release);
        }
    }

    fn is_condemned(&self, id: BlobId) -> bool {
        self.condemned.lock().unwrap_or_else(PoisonError::into_inner).contains(&id)
    }

    /// Whether anybody holds a handle to this blob.
    pub(super) fn is_held(&self, id: BlobId) -> bool {
        self.held().get(&id).is_some_and(|lease| lease.strong_count() > 0)
    }

    fn forget(&self, id: BlobId) {
        let mut held = self.held();
        // Another handle may have been taken since the last one of this lease went.
        if held.get(&id).is_some_and(|lease| lease.strong_count() == 0) {
            held.remove(&id);
        }
    }

    fn held(&self) -> MutexGuard<'_, HashMap<BlobId, Weak<Lease>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
