//! Which stretch of a file a lane should fetch next. Pure.
//!
//! No two requests ask for the same byte, as long as every reader says what it wants before the stretch is begun: a
//! stretch goes as far as the reader that it is for, and what no reader wants is fetched in stretches short enough
//! that a reader which comes into one follows it instead of cutting it short.

use super::chunks::Chunks;
use crate::body::place;
use crate::store::CHUNK;

/// A shorter stretch than this is not worth a request, in chunks.
const SHORTEST: u32 = 4;

/// What a reader still wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// The next byte that it needs.
    pub(super) position: u64,
    /// One past the last one; `None` for all the rest.
    pub(super) end: Option<u64>,
    /// It has nothing to send until more comes.
    pub(super) waits: bool,
}

/// A stretch for a lane: from a chunk, up to but not including another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) first: u32,
    pub(super) stop: Option<u32>,
}

impl Stretch {
    /// The whole file.
    pub(super) const WHOLE: Self = Self { first: 0, stop: None };

    /// From here to the end of the file.
    pub(super) fn and_on(self) -> Self {
        Self { stop: None, ..self }
    }

    /// First byte, and one past the last.
    pub(super) fn bytes(self) -> (u64, Option<u64>) {
        (start_of(self.first), self.stop.map(start_of))
    }
}

/// A lane that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lane {
    /// The chunk that it fetches.
    pub(super) at: u32,
    /// The chunk before which it ends, if it does not meet one earlier that is here or on its way.
    pub(super) stop: Option<u32>,
}

/// How the stretches of a fill are cut.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// Lanes at a time.
    pub(super) most_lanes: usize,
    /// The hub answers ranges, and what comes out of order is kept.
    pub(super) takes_ranges: bool,
    /// Chunks behind a lane for which a reader waits until the lane is there.
    pub(super) far: u32,
    /// Chunks of a stretch that no reader wants; `None` for as many as there are.
    pub(super) stride: Option<u32>,
    /// Most chunks of any stretch, where several lanes fetch the file together.
    pub(super) piece: Option<u32>,
}

/// The next stretch to fetch, if a lane is free for one.
///
/// One lane goes through the gaps, first those that a reader wants, from the front. Where a reader waits further than
/// `far` ahead of every lane, and the hub answers ranges, a lane of its own fetches that stretch at the same time.
pub(super) fn next(chunks: &Chunks, lanes: &[Lane], readers: &[Wanted], rules: &Rules) -> Option<Stretch> {
    if lanes.is_empty() {
        return first(chunks, readers, rules);
    }
    if !rules.takes_ranges || lanes.len() >= rules.most_lanes {
        return None;
    }
    readers.iter().filter(|r| r.waits).find_map(|reader| far_ahead(chunks, lanes, readers, rules, reader))
}

/// The next stretch for one of `many` lanes that fetch the file together, in file order: what no lane is to bring,
/// else what the one furthest in front has yet to bring, if that is much.
pub(super) fn ahead(chunks: &Chunks, lanes: &[Lane], piece: u32, many: usize) -> Option<Stretch> {
    let count = chunks.count()?;
    let reach = |lane: &Lane| {
        let stop = lane.stop.unwrap_or(count).min(count);
        (lane.at + 1..stop).find(|i| !chunks.is_free(*i)).unwrap_or(stop)
    };
    let mut from = 0;
    let (first, stop) = loop {
        match chunks.gap(from) {
            Some((first, stop)) => match lanes.iter().find(|l| l.at <= first && first < reach(l)) {
                Some(lane) => from = reach(lane),
                None => break (first, stop.unwrap_or(count)),
            },
            None => {
                let long = lanes.iter().filter(|l| (reach(l) - l.at) / 2 > piece);
                let lane = long.min_by_key(|lane| lane.at)?;
                break (lane.at + piece, reach(lane));
            }
        }
    };
    // Towards the end of the file shorter ones, so that no lane is left alone with the last.
    let missing = u32::try_from(chunks.missing()? / CHUNK as u64).unwrap_or(u32::MAX);
    let share = missing / u32::try_from(2 * many).unwrap_or(u32::MAX);
    let piece = piece.min(share.max(SHORTEST));
    Some(Stretch { first, stop: Some(stop.min(first.saturating_add(piece))) })
}

/// For a fill without a lane.
fn first(chunks: &Chunks, readers: &[Wanted], rules: &Rules) -> Option<Stretch> {
    let (first, stop) = chunks.gap(0)?;
    if !rules.takes_ranges {
        return Some(Stretch { first, stop });
    }
    let wanted = readers.iter().filter_map(|r| r.lacks(chunks)).min();
    let (first, stop) = chunks.gap(wanted.unwrap_or(first))?;
    Some(stretch(chunks, readers, rules, first, stop))
}

/// For a reader that no lane serves soon.
fn far_ahead(
    chunks: &Chunks,
    lanes: &[Lane],
    readers: &[Wanted],
    rules: &Rules,
    reader: &Wanted,
) -> Option<Stretch> {
    // A reader keeps a reserve back: what it waits for begins behind what is here.
    let (index, _) = place(chunks.available(reader.position));
    let (first, stop) = chunks.gap(index).filter(|(first, _)| *first == index)?;
    if reader.end.is_some_and(|end| end <= start_of(first)) {
        return None;
    }
    let soon = lanes.iter().any(|lane| {
        lane.at <= index
            && index - lane.at <= rules.far
            && lane.stop.is_none_or(|stop| index < stop)
            && (lane.at + 1..index).all(|i| chunks.is_free(i))
    });
    (!soon).then(|| stretch(chunks, readers, rules, first, stop))
}

/// How far the gap `first..stop` is fetched in one go.
fn stretch(chunks: &Chunks, readers: &[Wanted], rules: &Rules, first: u32, stop: Option<u32>) -> Stretch {
    let needs = readers.iter().filter(|r| r.covers(first)).map(|r| r.stop(chunks));
    // `None`, the end of the file, is further than any chunk.
    let needed = needs.max_by_key(|stop| stop.unwrap_or(u32::MAX));
    let near = first.saturating_add(rules.far.max(1));
    let reach = match needed {
        Some(needed) => needed.map(|needed| needed.max(near)),
        None => rules.stride.map(|stride| first.saturating_add(stride)),
    };
    // One who waits behind that gets a lane of its own, which this one must not run into.
    let others = if rules.most_lanes > 1 { readers } else { &[] };
    let waiting = others.iter().filter(|r| r.waits).filter_map(|r| r.lacks(chunks));
    let other = waiting.filter(|index| *index > first.saturating_add(rules.far)).min();
    let piece = rules.piece.map(|piece| first.saturating_add(piece));
    Stretch { first, stop: [stop, reach, other, piece].into_iter().flatten().min() }
}

impl Wanted {
    /// The first chunk that it still needs and that no lane fetches.
    fn lacks(&self, chunks: &Chunks) -> Option<u32> {
        let (index, _) = place(chunks.available(self.position));
        let (first, _) = chunks.gap(index)?;
        self.end.is_none_or(|end| start_of(first) < end).then_some(first)
    }

    fn covers(&self, index: u32) -> bool {
        self.position < start_of(index) + CHUNK as u64 && self.end.is_none_or(|end| start_of(index) < end)
    }

    /// Down to a whole chunk: the neighbouring reader, where there is one, brings the chunk that both need. `None`
    /// for the end of the file.
    fn stop(&self, chunks: &Chunks) -> Option<u32> {
        let end = self.end.filter(|end| chunks.size.is_none_or(|size| *end < size))?;
        Some(place(end).0.max(place(self.position).0 + 1))
    }
}

fn start_of(index: u32) -> u64 {
    u64::from(index) * CHUNK as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    const CONTENT: Bytes = Bytes::from_static(&[0; CHUNK]);
    const RULES: Rules = Rules { most_lanes: 4, takes_ranges: true, far: 8, stride: None, piece: None };

    fn file() -> Chunks {
        Chunks::new(Some(100 * CHUNK as u64))
    }

    fn claimed(chunks: &[u32]) -> Chunks {
        let mut file = file();
        assert!(chunks.iter().all(|index| file.claim(*index)));
        file
    }

    fn at(chunk: u64, end: Option<u64>) -> Wanted {
        let bytes = |chunk: u64| chunk * CHUNK as u64;
        Wanted { position: bytes(chunk) + 5, end: end.map(bytes), waits: true }
    }

    fn to(first: u32, stop: u32) -> Option<Stretch> {
        Some(Stretch { first, stop: Some(stop) })
    }

    fn open(first: u32) -> Option<Stretch> {
        Some(Stretch { first, stop: None })
    }

    fn lanes(lanes: &[(u32, Option<u32>)]) -> Vec<Lane> {
        lanes.iter().map(|&(at, stop)| Lane { at, stop }).collect()
    }

    #[test]
    fn a_fill_without_a_lane_goes_on_with_what_a_reader_wants() {
        let parts = Rules { stride: Some(16), ..RULES };
        let ignored = Rules { takes_ranges: false, ..RULES };
        let single = Rules { most_lanes: 1, ..RULES };
        let cases: [(&Rules, &[Wanted], Option<Stretch>); 12] = [
            (&RULES, &[], open(0)),
            (&RULES, &[at(0, None)], open(0)),
            (&RULES, &[at(0, Some(100))], open(0)),
            (&RULES, &[at(50, Some(70))], to(50, 70)),
            (&RULES, &[at(50, Some(100))], open(50)),
            (&ignored, &[at(50, Some(70))], open(0)),
            // Another reader is served by a lane of its own, unless there is none.
            (&RULES, &[at(0, None), at(50, Some(70))], to(0, 50)),
            (&single, &[at(0, None), at(50, Some(70))], open(0)),
            (&RULES, &[at(0, Some(20)), at(10, Some(30))], to(0, 10)),
            // A short part is no reason for many short requests.
            (&RULES, &[at(50, Some(51))], to(50, 58)),
            (&RULES, &[at(50, Some(51)), at(54, Some(55))], to(50, 58)),
            (&parts, &[], to(0, 16)),
        ];
        for (rules, readers, expected) in cases {
            assert_eq!(next(&file(), &[], readers, rules), expected, "{readers:?}");
        }
        let all = file().count().unwrap();
        assert_eq!(next(&claimed(&(0..all).collect::<Vec<_>>()), &[], &[], &RULES), None);
    }

    #[test]
    fn a_reader_with_a_reserve_wants_the_chunk_behind_it() {
        let mut c = claimed(&[2, 50]);
        c.append(50, CONTENT);
        c.unclaim(50);
        let wanted = [Wanted { position: 51 * CHUNK as u64 - 256, end: None, waits: true }];
        assert_eq!(next(&c, &lanes(&[(2, None)]), &wanted, &RULES), open(51));
    }

    #[test]
    fn a_reader_far_ahead_gets_a_lane_for_its_own_stretch() {
        let c = claimed(&[2]);
        let (running, wanted) = (lanes(&[(2, None)]), [at(50, Some(60))]);
        assert_eq!(next(&c, &running, &wanted, &RULES), to(50, 60));
        let within = Wanted { position: 50 * CHUNK as u64, end: Some(60 * CHUNK as u64 + 9), waits: true };
        assert_eq!(next(&c, &running, &[within], &RULES), to(50, 60), "a chunk that a neighbour needs too");
        let reads = Wanted { waits: false, ..within };
        assert_eq!(next(&c, &running, &[reads], &RULES), None, "it has something to send");
        let ignored = Rules { takes_ranges: false, ..RULES };
        assert_eq!(next(&c, &running, &wanted, &ignored), None, "the hub ignores ranges");
        let single = Rules { most_lanes: 1, ..RULES };
        assert_eq!(next(&c, &running, &wanted, &single), None, "no lane is free");
        assert_eq!(next(&c, &running, &[at(9, None)], &RULES), None, "the lane is there soon");
        let short = lanes(&[(2, Some(9))]);
        assert_eq!(next(&c, &short, &[at(9, None)], &RULES), open(9), "the lane ends before");
        let c = claimed(&[2, 50]);
        let running = lanes(&[(2, None), (50, Some(60))]);
        assert_eq!(next(&c, &running, &wanted, &RULES), None, "it is on its way");
        assert_eq!(next(&c, &running, &[at(40, None)], &RULES), to(40, 50));
    }

    #[test]
    fn lanes_that_fetch_together_take_the_next_pieces_in_file_order() {
        let mut c = claimed(&[10]);
        let mut running = lanes(&[(10, None)]);
        // The front is free: it was left by a lane that broke off.
        assert_eq!(ahead(&c, &running, 5, 4), to(0, 5));
        for index in 0..10 {
            assert!(c.claim(index));
            c.append(index, CONTENT);
            c.unclaim(index);
        }
        assert_eq!(ahead(&c, &running, 5, 4), to(15, 20), "of what the open lane has yet to bring");
        running[0].stop = Some(15);
        assert!(c.claim(15));
        running.push(Lane { at: 15, stop: Some(20) });
        assert_eq!(ahead(&c, &running, 5, 4), to(20, 25));
        assert_eq!(ahead(&c, &running, 50, 4), to(20, 31), "no more than its share of the rest");
        // Everything is on its way, and nobody has much of it.
        running.push(Lane { at: 20, stop: None });
        assert!(c.claim(20));
        assert_eq!(ahead(&c, &running, 40, 4), None);
        assert_eq!(ahead(&c, &running, 30, 4), to(50, 61));
        assert_eq!(ahead(&Chunks::new(None), &[], 5, 4), None, "nobody knows where it ends");
        let pieces = Rules { piece: Some(5), ..RULES };
        assert_eq!(next(&file(), &[], &[], &pieces), to(0, 5));
    }

    /// Runs lanes of ever other speeds over a file until it is whole; how often each chunk was asked for.
    fn asked_for(readers: &[Wanted], rules: &Rules, seed: u64) -> Vec<u32> {
        let (mut chunks, mut running) = (file(), Vec::<(Lane, u32)>::new());
        let mut asked = vec![0; 100];
        let mut random = fastrand::Rng::with_seed(seed);
        while !chunks.all_here() {
            let waiting: Vec<_> = readers.iter().copied().filter(|r| r.lacks(&chunks).is_some()).collect();
            let lanes: Vec<_> = running.iter().map(|(lane, _)| *lane).collect();
            if let Some(stretch) = next(&chunks, &lanes, &waiting, rules) {
                assert!(chunks.claim(stretch.first));
                let stop = stretch.stop.unwrap_or(100).min(100);
                (stretch.first..stop).for_each(|index| asked[index as usize] += 1);
                running.push((Lane { at: stretch.first, stop: stretch.stop }, stop));
                continue;
            }
            let which = random.usize(..running.len());
            let (lane, stop) = &mut running[which];
            chunks.append(lane.at, CONTENT);
            chunks.unclaim(lane.at);
            lane.at += 1;
            if lane.at >= *stop || !chunks.claim(lane.at) {
                running.swap_remove(which);
            }
        }
        asked
    }

    #[test]
    fn parts_that_tile_a_file_are_asked_for_once() {
        for seed in 0..200 {
            let mut random = fastrand::Rng::with_seed(seed);
            let tile = random.u64(CHUNK as u64 / 2..20 * CHUNK as u64);
            let tiles = (100 * CHUNK as u64).div_ceil(tile);
            let part = |i: u64| Wanted { position: i * tile, end: Some((i + 1) * tile), waits: true };
            let readers: Vec<_> = (0..tiles).map(part).collect();
            let rules = Rules { most_lanes: random.usize(1..12), stride: Some(8), ..RULES };
            assert_eq!(asked_for(&readers, &rules, seed), vec![1; 100], "tile {tile}, {rules:?}");
        }
    }
}
