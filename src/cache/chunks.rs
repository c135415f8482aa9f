//! Which bytes of an unfinished file are here, and where: a pure map that the fill writes and the followers read.
//!
//! A chunk is *claimed* while a lane fetches it, *complete* when it has all its bytes, *durable* when the store has
//! it. Its bytes stay in memory until they are durable and hashed; the bytes of a chunk are always a prefix of it.

use bytes::{Bytes, BytesMut};
use tokio::sync::OwnedSemaphorePermit;

use crate::body::place;
use crate::store::CHUNK;

/// Pieces smaller than this are joined to the piece before them, so that a hub that sends single bytes cannot make
/// the bookkeeping larger than the data.
const SMALL_PIECE: usize = 16 * 1024;
/// A chunk further than this ahead of the hash is not kept in memory for it; it is read back.
const KEEP_AHEAD: u32 = 8;

/// The chunks of one attempt at a file.
#[derive(Default)]
pub(super) struct Chunks {
    slots: Vec<Slot>,
    /// The length of the file, once known.
    pub(super) size: Option<u64>,
    /// Every chunk before this one is hashed.
    pub(super) hashed: u32,
    /// The hash cannot begin yet, and keeps nothing in memory.
    pub(super) hash_waits: bool,
    /// Every chunk before this one is complete; kept so that long files are not searched from the front each time.
    whole: u32,
    /// No chunk before this one has bytes in memory; kept for the same reason.
    kept_from: u32,
}

#[derive(Default)]
struct Slot {
    pieces: Vec<Bytes>,
    filled: usize,
    claimed: bool,
    durable: bool,
    /// Its share of the memory for unfinished files; returned when the bytes leave memory.
    _permit: Option<OwnedSemaphorePermit>,
}

/// Where the bytes at a position are.
pub(super) enum Piece {
    /// Here.
    Memory(Bytes),
    /// In the store, at an offset of a chunk.
    Durable { index: u32, offset: usize },
    /// Not here: not yet, or not any more.
    Missing,
}

impl Chunks {
    /// Nothing yet of a file of `size` bytes.
    pub(super) fn new(size: Option<u64>) -> Self {
        Self { size, ..Self::default() }
    }

    /// Chunks that the store holds since an earlier run.
    pub(super) fn resumed(size: u64, present: &[(u32, u32)]) -> Self {
        let mut chunks = Self { size: Some(size), ..Self::default() };
        for (index, length) in present {
            if *length as usize == chunks.length(*index) {
                let slot = chunks.slot_mut(*index);
                slot.filled = *length as usize;
                slot.durable = true;
            }
        }
        chunks
    }

    /// The number of chunks, once the size is known.
    pub(super) fn count(&self) -> Option<u32> {
        self.size.map(crate::store::chunks_of)
    }

    /// How long chunk `index` is or may be.
    pub(super) fn length(&self, index: u32) -> usize {
        let start = u64::from(index) * CHUNK as u64;
        match self.size {
            None => CHUNK,
            Some(size) => usize::try_from(size.saturating_sub(start)).unwrap_or(usize::MAX).min(CHUNK),
        }
    }

    /// How many bytes of the file are here.
    pub(super) fn arrived(&self) -> u64 {
        self.slots.iter().map(|s| s.filled as u64).sum()
    }

    /// How many bytes of chunk `index` are here.
    pub(super) fn filled(&self, index: u32) -> usize {
        self.slot(index).map_or(0, |s| s.filled)
    }

    /// Whether chunk `index` has all its bytes; the last one only once the size is known.
    pub(super) fn is_complete(&self, index: u32) -> bool {
        let filled = self.filled(index);
        let beyond = self.count().is_some_and(|count| index >= count);
        beyond || (filled == self.length(index) && filled > 0)
    }

    /// Whether a lane fetches chunk `index`.
    pub(super) fn is_claimed(&self, index: u32) -> bool {
        self.slot(index).is_some_and(|s| s.claimed)
    }

    /// Whether chunk `index` misses bytes and no lane fetches it.
    pub(super) fn is_free(&self, index: u32) -> bool {
        !self.is_complete(index) && !self.is_claimed(index)
    }

    /// Takes chunk `index` for a lane; `false` if another has it or nothing of it is missing.
    pub(super) fn claim(&mut self, index: u32) -> bool {
        if !self.is_free(index) {
            return false;
        }
        self.slot_mut(index).claimed = true;
        true
    }

    /// Gives chunk `index` back, with the bytes that it has.
    pub(super) fn unclaim(&mut self, index: u32) {
        self.slot_mut(index).claimed = false;
        while self.count().is_none_or(|count| self.whole < count) && self.is_complete(self.whole) {
            self.whole += 1;
        }
    }

    /// Appends bytes to a claimed chunk; they must fit.
    pub(super) fn append(&mut self, index: u32, bytes: Bytes) {
        let slot = self.slot_mut(index);
        slot.filled += bytes.len();
        match slot.pieces.last_mut() {
            Some(last) if bytes.len() < SMALL_PIECE && last.len() < SMALL_PIECE => {
                let mut joined = BytesMut::with_capacity(last.len() + bytes.len());
                joined.extend_from_slice(last);
                joined.extend_from_slice(&bytes);
                *last = joined.freeze();
            }
            _ if bytes.len() < SMALL_PIECE => slot.pieces.push(Bytes::copy_from_slice(&bytes)),
            _ => slot.pieces.push(bytes),
        }
    }

    /// A complete chunk's bytes, if they are in memory.
    pub(super) fn pieces(&self, index: u32) -> Option<Vec<Bytes>> {
        let slot = self.slot(index)?;
        (self.is_complete(index) && !slot.pieces.is_empty()).then(|| slot.pieces.clone())
    }

    /// Books a chunk's share of the memory.
    pub(super) fn book(&mut self, index: u32, permit: Option<OwnedSemaphorePermit>) {
        self.slot_mut(index)._permit = permit;
    }

    /// Notes that the store has chunk `index`.
    pub(super) fn durable(&mut self, index: u32) {
        self.slot_mut(index).durable = true;
    }

    /// Whether the store has chunk `index`.
    pub(super) fn is_durable(&self, index: u32) -> bool {
        self.slot(index).is_some_and(|s| s.durable)
    }

    /// Lets go of memory that nobody needs: of durable chunks that are hashed or far ahead of the hash, and, where
    /// nothing is stored, of hashed chunks that lie before every reader.
    pub(super) fn trim(&mut self, stored: bool, first_needed: u64) {
        let hashed = self.hashed;
        let (first_needed, _) = place(first_needed);
        let (mut index, kept_from) = (self.kept_from, self.kept_from as usize);
        let mut all_gone = true;
        for slot in self.slots.iter_mut().skip(kept_from) {
            let done_with = self.hash_waits || index < hashed || index > hashed.saturating_add(KEEP_AHEAD);
            let unread = !stored && index < hashed && index < first_needed && !slot.claimed;
            if !slot.pieces.is_empty() && (slot.durable && done_with || unread) {
                slot.pieces = Vec::new();
                slot._permit = None;
            }
            index += 1;
            // What is hashed, whole and not in memory never comes back there.
            all_gone &= slot.pieces.is_empty() && !slot.claimed && index <= hashed;
            if all_gone {
                self.kept_from = index;
            }
        }
    }

    /// Complete chunks before this one whose bytes are in memory.
    pub(super) fn in_memory(&self, before: u32) -> usize {
        let slots = self.slots.iter().take(before as usize);
        slots.filter(|s| !s.pieces.is_empty() && !s.claimed).count()
    }

    /// One past the last byte that is here without a gap behind `position`, looking no further than two chunks.
    pub(super) fn available(&self, position: u64) -> u64 {
        let (first, _) = place(position);
        let mut end = position;
        for index in first..first.saturating_add(3) {
            let start = u64::from(index) * CHUNK as u64;
            end = end.max(start + self.filled(index) as u64);
            if self.filled(index) < CHUNK {
                break;
            }
        }
        end
    }

    /// The bytes at `position`.
    pub(super) fn piece(&self, position: u64) -> Piece {
        let (index, offset) = place(position);
        let Some(slot) = self.slot(index).filter(|s| offset < s.filled) else { return Piece::Missing };
        let mut start = 0;
        for piece in &slot.pieces {
            if offset < start + piece.len() {
                return Piece::Memory(piece.slice(offset - start..));
            }
            start += piece.len();
        }
        if slot.durable { Piece::Durable { index, offset } } else { Piece::Missing }
    }

    /// The first chunk from `from` on that misses bytes and that no lane has, and where the stretch that it begins
    /// ends: at a chunk that is claimed or complete, or `None` if it is open.
    pub(super) fn gap(&self, from: u32) -> Option<(u32, Option<u32>)> {
        let known = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
        let count = self.count().unwrap_or(u32::MAX);
        let free = |i: u32| self.is_free(i);
        let from = from.max(self.whole);
        let first = (from..known.max(from).saturating_add(1)).find(|i| free(*i)).filter(|i| *i < count)?;
        let stop = (first + 1..known).find(|i| !free(*i) && *i < count);
        Some((first, stop))
    }

    /// Whether every byte is here.
    pub(super) fn all_here(&self) -> bool {
        self.count().is_some_and(|count| (self.whole..count).all(|i| self.is_complete(i)))
    }

    /// Bytes that are still missing, once the size is known.
    pub(super) fn missing(&self) -> Option<u64> {
        let here: u64 = self.slots.iter().map(|s| s.filled as u64).sum();
        self.size.map(|size| size.saturating_sub(here))
    }

    fn slot(&self, index: u32) -> Option<&Slot> {
        self.slots.get(index as usize)
    }

    fn slot_mut(&mut self, index: u32) -> &mut Slot {
        let at = index as usize;
        if self.slots.len() <= at {
            self.slots.resize_with(at + 1, Slot::default);
        }
        &mut self.slots[at]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(size: u64, whole: &[u32]) -> Chunks {
        let mut c = Chunks { size: Some(size), ..Chunks::default() };
        for index in whole {
            assert!(c.claim(*index));
            c.append(*index, Bytes::from(vec![0; c.length(*index)]));
            c.unclaim(*index);
        }
        c
    }

    #[test]
    fn single_bytes_do_not_make_the_bookkeeping_large() {
        let mut c = Chunks::default();
        for byte in 0..100_000u32 {
            c.append(0, Bytes::from(vec![byte.to_le_bytes()[0]]));
        }
        assert!(c.slots[0].pieces.len() < 10, "{}", c.slots[0].pieces.len());
        let Piece::Memory(bytes) = c.piece(70_000) else { panic!("it is in memory") };
        assert_eq!(bytes[0], 70_000u32.to_le_bytes()[0]);
    }

    #[test]
    fn gaps_end_where_something_is_here_or_on_its_way() {
        let size = 10 * CHUNK as u64 + 7;
        let mut c = filled(size, &[0, 5]);
        assert_eq!(c.gap(0), Some((1, Some(5))));
        assert!(c.claim(3));
        assert_eq!(c.gap(0), Some((1, Some(3))));
        assert_eq!(c.gap(3), Some((4, Some(5))));
        assert_eq!(c.gap(5), Some((6, None)));
        assert!(!c.claim(3) && !c.claim(5) && !c.claim(11));
        assert_eq!(filled(7, &[0]).gap(0), None);
    }

    #[test]
    fn a_chunk_begun_and_given_back_keeps_its_bytes() {
        let mut c = filled(2 * CHUNK as u64, &[]);
        assert!(c.claim(0));
        c.append(0, Bytes::from_static(b"abc"));
        c.unclaim(0);
        assert_eq!((c.filled(0), c.gap(0)), (3, Some((0, None))));
        assert_eq!(c.available(1), 3);
    }

    #[test]
    fn memory_is_kept_until_bytes_are_durable_and_hashed() {
        let mut c = filled(20 * CHUNK as u64, &[0, 1, 15]);
        c.durable(0);
        c.durable(15);
        c.trim(true, 0);
        assert_eq!(c.in_memory(20), 2, "only the chunk far ahead of the hash left memory");
        c.hashed = 2;
        c.trim(true, 0);
        assert_eq!(c.in_memory(20), 1, "chunk 1 is not durable");
        assert_eq!(c.in_memory(1), 0);
        assert!(matches!(c.piece(0), Piece::Durable { index: 0, offset: 0 }));
    }

    #[test]
    fn what_the_store_holds_of_an_earlier_run_counts_only_if_whole() {
        let whole = u32::try_from(CHUNK).unwrap();
        let c = Chunks::resumed(2 * CHUNK as u64 + 5, &[(0, whole), (1, 9), (2, 5)]);
        assert!(c.is_complete(0) && !c.is_complete(1) && c.is_complete(2));
        assert_eq!(c.missing(), Some(CHUNK as u64));
    }
}
