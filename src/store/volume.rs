//! One volume: its database, its writer thread, and how full it is.

use std::fs;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};

use bytes::Bytes;
use tokio::sync::{Notify, Semaphore, oneshot};

use super::blob::{Blob, Leases};
use super::budget::{Budget, Taken};
use super::chunks::{self, Held};
use super::disk::{Disk, blocks};
use super::error::StoreError;
use super::handle::Handle;
use super::holes::Holes;
use super::index::queue::Notifier;
use super::mapping::{Mapping, Slice};
use super::offsets::{LARGE, Offsets, Table};
use super::records::BlobId;
use super::reservation::{Claim, Expected, Want};
use super::settings::{CHUNK, QUEUE_BYTES, VOLUME_BASE};
use super::writer::{Message, Write, Writer};

/// Pages of a volume that are neither chunks nor free: trees, the allocator's state, what the last commits freed.
const OVERHEAD: u64 = 8 << 20;

/// Holes that every volume has, between tree pages that were never written.
const HOLES: u64 = 4 << 20;

/// A file of chunks.
pub(super) struct Volume {
    number: u32,
    disk: Arc<Disk>,
    handle: Arc<Handle>,
    /// Where chunks of all volumes lie.
    offsets: Arc<Offsets>,
    /// The file once more, mapped when something of it is first served; `None` where that cannot be.
    mapping: OnceLock<Option<Mapping>>,
    /// Gives blocks of removed chunks back.
    holes: Holes,
    budget: Arc<Budget>,
    /// Bytes of all chunks.
    held: AtomicU64,
    /// What they take on disk at most.
    weight: AtomicU64,
    /// What running fills still expect to write.
    expected: Expected,
    /// Whether it takes no further blob: it is being emptied, or removed.
    retiring: AtomicBool,
    /// Blobs that the writer waits to remove until nobody holds them.
    doomed: AtomicUsize,
    waiting: Arc<Semaphore>,
    thread: Mutex<Thread>,
}

/// The writer's thread is started by the first write: most volumes of a large store are only read.
enum Thread {
    Idle,
    Running(Sender<Message>, JoinHandle<()>),
    Closed,
}

/// What a writer needs of the rest of the store.
#[derive(Clone)]
pub(super) struct Neighbours {
    pub leases: Arc<Leases>,
    pub index: Notifier,
    /// Told whenever a volume has removed something.
    pub freed: Arc<Notify>,
}

impl Volume {
    pub(super) fn new(
        number: u32,
        disk: Arc<Disk>,
        handle: Handle,
        offsets: Arc<Offsets>,
        budget: Arc<Budget>,
    ) -> Result<Self, StoreError> {
        let held = if handle.is_open() { handle.run(chunks::held)? } else { Held::default() };
        Ok(Self {
            number,
            disk,
            handle: Arc::new(handle),
            offsets,
            mapping: OnceLock::new(),
            holes: Holes::default(),
            budget,
            held: AtomicU64::new(held.bytes),
            weight: AtomicU64::new(held.weight),
            expected: Expected::default(),
            retiring: AtomicBool::new(false),
            doomed: AtomicUsize::new(0),
            waiting: Arc::new(Semaphore::new(QUEUE_BYTES)),
            thread: Mutex::new(Thread::Idle),
        })
    }

    pub(super) fn number(&self) -> u32 {
        self.number
    }

    pub(super) fn handle(&self) -> &Arc<Handle> {
        &self.handle
    }

    /// What counts against the size of a volume: what it holds and what it will.
    pub(super) fn load(&self) -> u64 {
        self.held_bytes().saturating_add(self.expected.bytes())
    }

    /// What running fills still expect to write.
    pub(super) fn expected(&self) -> &Expected {
        &self.expected
    }

    /// Bytes of all chunks.
    pub(super) fn held_bytes(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    /// What its chunks take on disk at most.
    pub(super) fn weight(&self) -> u64 {
        self.weight.load(Ordering::Relaxed)
    }

    /// The same of what it holds and will hold.
    pub(super) fn heavy(&self) -> u64 {
        self.weight().saturating_add(self.expected.weight())
    }

    /// Whether anybody is about to write to it.
    pub(super) fn is_reserved(&self) -> bool {
        self.expected.bytes() + self.expected.weight() > 0
    }

    pub(super) fn set_held(&self, held: Held) {
        self.held.store(held.bytes, Ordering::Relaxed);
        self.weight.store(held.weight, Ordering::Relaxed);
    }

    /// What its file takes on disk.
    pub(super) fn blocks(&self) -> u64 {
        fs::metadata(self.handle.path()).map_or(0, |m| blocks(&m))
    }

    /// By how much its file may still grow for what it will hold.
    pub(super) fn growth(&self) -> u64 {
        let blocks = self.blocks();
        let coming = self.expected.weight().saturating_sub(self.inside(blocks, false));
        coming.saturating_add(VOLUME_BASE.saturating_sub(blocks))
    }

    /// By how much more it may grow for a blob.
    pub(super) fn growth_for(&self, want: Want) -> u64 {
        let coming = self.expected.weight();
        let inside = self.inside(self.blocks(), want.is_small());
        coming.saturating_add(want.weight).saturating_sub(inside) - coming.saturating_sub(inside)
    }

    /// Blocks that free pages have and new chunks can take. Where blocks are given back, only pages keep theirs that
    /// small chunks have shared; such chunks can take half of them, as nobody knows how many lie together.
    fn inside(&self, blocks: u64, is_small: bool) -> u64 {
        let free = blocks.saturating_sub(self.weight().saturating_add(VOLUME_BASE));
        match (self.gives_back(), is_small) {
            (false, _) => free,
            (true, true) => free / 2,
            (true, false) => 0,
        }
    }

    fn gives_back(&self) -> bool {
        #[cfg(test)]
        if self.disk.faults.has_no_holes() {
            return false;
        }
        self.holes.are_known()
    }

    /// What a transaction may add whose chunks weigh so much, all of them small or not.
    pub(super) fn allowance(&self, weight: u64, is_small: bool) -> io::Result<Allowance> {
        let inside = self.inside(self.blocks(), is_small);
        let taken = self.budget.take(weight.saturating_sub(inside))?;
        Ok(Allowance { bytes: inside.saturating_add(taken.bytes), _taken: taken })
    }

    /// Gives back the blocks of chunks that the last transaction has removed.
    pub(super) fn punch(&self, removed: &[(BlobId, u32, u32)]) {
        if self.gives_back() {
            self.holes.punch(self.handle.path(), &self.offsets, removed);
        }
    }

    pub(super) fn is_retiring(&self) -> bool {
        self.retiring.load(Ordering::SeqCst)
    }

    /// Whether it takes no further blob from now on.
    pub(super) fn set_retiring(&self, retiring: bool) {
        self.retiring.store(retiring, Ordering::SeqCst);
    }

    /// How much can be written, as far as can be told.
    pub(super) fn room(&self) -> io::Result<Room> {
        // A lost file has no room of its own; writing to it says what is wrong with it.
        let (len, on_disk) = fs::metadata(self.handle.path()).map_or((0, 0), |m| (m.len(), blocks(&m)));
        let held = self.held.load(Ordering::Relaxed);
        Ok(Room {
            above: self.disk.free()?.saturating_sub(self.disk.min_free()),
            inside: len.saturating_sub(held + held / 64 + OVERHEAD),
            holes: len.saturating_sub(on_disk),
        })
    }

    pub(super) fn read(&self, id: BlobId, index: u32) -> Result<Option<Bytes>, StoreError> {
        self.handle.run(|database| chunks::read(database, id, index))
    }

    pub(super) fn offsets(&self) -> &Offsets {
        &self.offsets
    }

    /// The bytes of a chunk as the file has them, if it is known where they are.
    pub(super) fn mapped(&self, table: &Table, index: u32, len: usize) -> Option<Slice> {
        self.mapping()?.slice(table.get(index)?, len)
    }

    /// Learns where the file has a chunk that is never written again, whose bytes redb has just given.
    pub(super) fn locate(&self, table: &Table, id: BlobId, index: u32, bytes: &[u8]) {
        if bytes.len() < LARGE {
            return;
        }
        if let Some(at) = self.offsets.noted(id, index)
            && self.mapping().is_some_and(|mapping| mapping.has(at, bytes).unwrap_or(false))
        {
            self.offsets.confirm(table, index, at);
        }
    }

    /// Learns where the file has a chunk that was written a moment ago, and is never written again.
    pub(super) fn locate_written(&self, table: &Table, id: BlobId, index: u32, segments: &[Bytes]) {
        if let Some(at) = self.offsets.noted(id, index)
            && self.mapping().is_some_and(|mapping| mapping.has_samples(at, segments).unwrap_or(false))
        {
            self.offsets.confirm(table, index, at);
        }
    }

    fn mapping(&self) -> Option<&Mapping> {
        self.mapping.get_or_init(|| Mapping::open(self.handle.path())).as_ref()
    }

    pub(super) fn list(&self, id: BlobId) -> Result<Vec<(u32, u32)>, StoreError> {
        self.handle.run(|database| chunks::list(database, id))
    }

    /// Queues a chunk; the receiver fires when it is on disk. Waits while the queue is full.
    pub(super) async fn write(
        self: &Arc<Self>,
        neighbours: &Neighbours,
        blob: &Blob,
        index: u32,
        segments: Vec<Bytes>,
        claim: Option<Claim>,
    ) -> Result<oneshot::Receiver<Result<(), StoreError>>, StoreError> {
        let len = segments.iter().map(Bytes::len).sum::<usize>();
        if len == 0 || len > CHUNK {
            return Err(StoreError::Misuse("a chunk has from one to CHUNK bytes"));
        }
        let permits = u32::try_from(len).map_err(|_| StoreError::Misuse("a chunk is too long"))?;
        let permit =
            self.waiting.clone().acquire_many_owned(permits).await.map_err(|_| StoreError::Closed)?;
        let (reply, receiver) = oneshot::channel();
        let write = Write { blob: blob.clone(), index, segments, len, reply, claim, _permit: permit };
        self.send(neighbours, Message::Write(write))?;
        Ok(receiver)
    }

    /// Has the chunks of a blob removed once nobody holds it. Its delete-intent is on disk.
    pub(super) fn remove(self: &Arc<Self>, neighbours: &Neighbours, id: BlobId) {
        if let Err(e) = self.send(neighbours, Message::Remove(id)) {
            tracing::debug!(blob = id.0, error = %e, "a removal is left to the next start");
        }
    }

    /// How many blobs the writer waits to remove.
    pub(super) fn doomed(&self) -> &AtomicUsize {
        &self.doomed
    }

    /// Tells the writer that somebody let go of a blob, if it waits for that.
    pub(super) fn lease_ended(&self) {
        if self.doomed.load(Ordering::SeqCst) > 0
            && let Thread::Running(sender, _) = &*self.thread()
        {
            // Carries no lease, so dropping it under the lock is harmless.
            let _ = sender.send(Message::Wake);
        }
    }

    fn send(self: &Arc<Self>, neighbours: &Neighbours, message: Message) -> Result<(), StoreError> {
        let mut thread = self.thread();
        if let Thread::Idle = *thread {
            let (sender, receiver) = channel();
            let writer = Writer::new(self.number, self.handle.clone(), neighbours.clone(), receiver);
            let volume = Arc::downgrade(self);
            let name = format!("hubcache-v{:04}", self.number);
            let running = thread::Builder::new().name(name).spawn(move || writer.run(&volume))?;
            *thread = Thread::Running(sender, running);
        }
        let sender = match &*thread {
            Thread::Running(sender, _) => sender.clone(),
            Thread::Idle | Thread::Closed => return Err(StoreError::Closed),
        };
        // A message that cannot be sent may drop a lease, and that takes the lock again.
        drop(thread);
        sender.send(message).map_err(|_| StoreError::Closed)
    }

    /// Lets nobody new in; the writer ends once it has written what waits.
    pub(super) fn begin_close(&self) -> Option<JoinHandle<()>> {
        self.waiting.close();
        match std::mem::replace(&mut *self.thread(), Thread::Closed) {
            Thread::Running(sender, running) => {
                let _ = sender.send(Message::Close);
                Some(running)
            }
            Thread::Idle | Thread::Closed => None,
        }
    }

    fn thread(&self) -> MutexGuard<'_, Thread> {
        self.thread.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where there is room for more chunks.
///
/// A redb file hardly ever shrinks, so after a removal the room is inside of the file and not on the disk. But the
/// file also has holes, most of all behind its last page, and redb does not know free pages that have a place on the
/// disk from those that do not.
pub(super) struct Room {
    /// Free on the disk, above the floor.
    above: u64,
    /// In free pages of the file.
    inside: u64,
    /// How much of the file has no place on the disk.
    holes: u64,
}

impl Room {
    /// Bytes that fit wherever redb puts them.
    pub(super) fn sure(&self) -> u64 {
        if self.holes <= self.above + HOLES { self.above.max(self.inside) } else { self.above }
    }

    /// Bytes that fit once the file ends at its last page.
    pub(super) fn possible(&self) -> u64 {
        self.above.max(self.inside)
    }
}

/// What a transaction may add, until it is over.
pub(super) struct Allowance {
    /// How much its chunks may weigh.
    pub(super) bytes: u64,
    _taken: Taken,
}
