//! Which stretch of a file a further lane should fetch. Pure.

use super::chunks::Chunks;
use crate::body::place;
use crate::store::CHUNK;

/// A reader that waits for bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// The next byte that it needs.
    pub(super) position: u64,
    /// One past the last one; `None` for all the rest.
    pub(super) end: Option<u64>,
}

/// A stretch for a lane: from a chunk, up to but not including another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) first: u32,
    pub(super) stop: Option<u32>,
}

/// The next stretch to fetch, if a lane is free for one.
///
/// One lane goes through the gaps from the front. Where a reader waits further than `far` bytes ahead of every lane,
/// and the hub answers ranges, a lane of its own fetches that stretch first.
pub(super) fn next(
    chunks: &Chunks,
    lanes: &[u32],
    most_lanes: usize,
    takes_ranges: bool,
    far: u64,
    wanted: &[Wanted],
) -> Option<Stretch> {
    if lanes.is_empty() {
        let (first, stop) = chunks.gap(0)?;
        return Some(Stretch { first, stop });
    }
    if !takes_ranges || lanes.len() >= most_lanes {
        return None;
    }
    wanted.iter().find_map(|w| {
        // A reader keeps a reserve back: what it waits for begins behind what is here.
        let (index, _) = place(chunks.available(w.position));
        let (first, stop) = chunks.gap(index).filter(|(first, _)| *first == index)?;
        let soon = lanes.iter().any(|lane| {
            *lane <= index
                && u64::from(index - lane) * CHUNK as u64 <= far
                && (*lane + 1..index).all(|i| !chunks.is_claimed(i) && !chunks.is_complete(i))
        });
        // Down to a whole chunk: the neighbouring reader, where there is one, brings the chunk that both need.
        let wanted_stop = w
            .end
            .filter(|end| chunks.size.is_none_or(|size| *end < size))
            .map(|end| place(end).0.max(first + 1));
        let stop = match (stop, wanted_stop) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        (!soon).then_some(Stretch { first, stop })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn file() -> Chunks {
        Chunks::new(Some(100 * CHUNK as u64))
    }

    fn at(chunk: u64, end: Option<u64>) -> Wanted {
        Wanted { position: chunk * CHUNK as u64 + 5, end: end.map(|e| e * CHUNK as u64) }
    }

    #[test]
    fn the_first_lane_takes_the_first_gap() {
        let mut c = file();
        assert_eq!(next(&c, &[], 4, false, 8 * MIB, &[]), Some(Stretch { first: 0, stop: None }));
        assert!(c.claim(0));
        assert_eq!(next(&c, &[0], 4, true, 8 * MIB, &[at(0, None)]), None);
    }

    #[test]
    fn a_reader_with_a_reserve_wants_the_chunk_behind_it() {
        let mut c = file();
        assert!(c.claim(2) && c.claim(50));
        c.append(50, bytes::Bytes::from(vec![0; CHUNK]));
        c.unclaim(50);
        let wanted = [Wanted { position: 51 * CHUNK as u64 - 256, end: None }];
        let behind = Some(Stretch { first: 51, stop: None });
        assert_eq!(next(&c, &[2], 4, true, 8 * MIB, &wanted), behind);
    }

    #[test]
    fn a_reader_far_ahead_gets_a_lane_for_its_own_stretch() {
        let mut c = file();
        assert!(c.claim(2));
        let wanted = [at(50, Some(60))];
        let own = Some(Stretch { first: 50, stop: Some(60) });
        assert_eq!(next(&c, &[2], 4, true, 8 * MIB, &wanted), own);
        let within = [Wanted { position: 50 * CHUNK as u64, end: Some(60 * CHUNK as u64 + 9) }];
        assert_eq!(next(&c, &[2], 4, true, 8 * MIB, &within), own, "a chunk that a neighbour needs too");
        let short = [Wanted { position: 50 * CHUNK as u64, end: Some(50 * CHUNK as u64 + 9) }];
        assert_eq!(next(&c, &[2], 4, true, 8 * MIB, &short), Some(Stretch { first: 50, stop: Some(51) }));
        assert_eq!(next(&c, &[2], 4, false, 8 * MIB, &wanted), None, "the hub ignores ranges");
        assert_eq!(next(&c, &[2], 1, true, 8 * MIB, &wanted), None, "no lane is free");
        assert_eq!(next(&c, &[2], 4, true, 8 * MIB, &[at(9, None)]), None, "the lane is there soon");
        assert!(c.claim(50));
        assert_eq!(next(&c, &[2, 50], 4, true, 8 * MIB, &wanted), None, "it is on its way");
        let behind = Some(Stretch { first: 40, stop: Some(50) });
        assert_eq!(next(&c, &[2, 50], 4, true, 8 * MIB, &[at(40, None)]), behind);
    }
}
