//! Synthetic traces of requests, and what orders of eviction make of them.

use std::collections::{BTreeMap, HashMap};

use super::evict::{Candidate, Kind, MOST_USES, Rank, evict};

/// Requests of files whose popularity falls off as Zipf has it.
pub struct Trace {
    pub requests: usize,
    pub files: usize,
    /// The exponent.
    pub skew: f64,
    /// Whether a third of the requests are for files that are asked for once, many in a row.
    pub scans: bool,
    pub seed: u64,
}

/// Requests of a scan that follow each other.
const SCAN: usize = 500;

impl Trace {
    /// Files and their sizes, request by request; and the sizes of all that is popular.
    fn run(&self) -> (Vec<(usize, u64)>, u64) {
        let mut rng = fastrand::Rng::with_seed(self.seed);
        // Sizes over three orders of magnitude, as likely in each.
        let mut size = || 10f64.powf(rng.f64() * 3.0).ceil() as u64;
        let sizes: Vec<u64> = (0..self.files).map(|_| size()).collect();
        let mut sum = 0.0;
        let shares: Vec<f64> = (1..=self.files)
            .map(|rank| {
                sum += (rank as f64).powf(-self.skew);
                sum
            })
            .collect();
        let mut requests = Vec::with_capacity(self.requests);
        let mut once = self.files;
        while requests.len() < self.requests {
            if self.scans && requests.len() % (3 * SCAN) < SCAN {
                requests.push((once, 10f64.powf(rng.f64() * 3.0).ceil() as u64));
                once += 1;
            } else {
                let at = rng.f64() * sum;
                let file = shares.partition_point(|share| *share < at).min(self.files - 1);
                requests.push((file, sizes[file]));
            }
        }
        (requests, sizes.iter().sum())
    }

    /// The share of bytes that were held, in a cache with `share` of the bytes of all that is popular.
    pub fn replay_ours(&self, share: f64) -> f64 {
        let (requests, all) = self.run();
        let most = (all as f64 * share) as u64;
        let mut held: BTreeMap<usize, (u64, Rank)> = BTreeMap::new();
        let (mut used, mut hit, mut asked) = (0, 0, 0);
        for (now, (file, size)) in (0..).zip(requests) {
            asked += size;
            if let Some((_, rank)) = held.get_mut(&file) {
                rank.uses = (rank.uses + 1).min(MOST_USES);
                hit += size;
                continue;
            }
            if size > most {
                continue;
            }
            if used + size > most {
                let (files, candidates): (Vec<_>, Vec<_>) = held
                    .iter()
                    .map(|(file, (bytes, rank))| {
                        (*file, Candidate { bytes: *bytes, rank: *rank, kind: Kind::Current })
                    })
                    .unzip();
                let eviction = evict(&candidates, (used + size - most).max(most / 64), now);
                for (at, rank) in &eviction.moved {
                    held.entry(files[*at]).and_modify(|(_, now)| *now = *rank);
                }
                for (at, _) in &eviction.victims {
                    held.remove(&files[*at]);
                }
                used -= eviction.bytes;
            }
            used += size;
            held.insert(file, (size, Rank { since: now, ..Rank::default() }));
        }
        hit as f64 / asked as f64
    }

    /// The same with the order of the least recently used.
    pub fn replay_lru(&self, share: f64) -> f64 {
        let (requests, all) = self.run();
        let most = (all as f64 * share) as u64;
        let mut held: HashMap<usize, (u64, u64)> = HashMap::new();
        let mut order: BTreeMap<u64, usize> = BTreeMap::new();
        let (mut used, mut hit, mut asked) = (0, 0, 0);
        for (now, (file, size)) in (0u64..).zip(requests) {
            asked += size;
            if let Some((_, last)) = held.get_mut(&file) {
                order.remove(last);
                *last = now;
                order.insert(now, file);
                hit += size;
                continue;
            }
            if size > most {
                continue;
            }
            while used + size > most {
                let (_, oldest) = order.pop_first().expect("something is held while there is no room");
                used -= held.remove(&oldest).map_or(0, |(size, _)| size);
            }
            used += size;
            held.insert(file, (size, now));
            order.insert(now, file);
        }
        hit as f64 / asked as f64
    }
}
