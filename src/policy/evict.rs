//! What goes when there is no room: the order in which blobs leave a store that is full.
//!
//! The order is that of S3-FIFO, weighted by size. What is new waits in a queue that may have a tenth of the bytes;
//! whoever was used [`PROVEN_USES`] times while it waited goes on to the queue of what has proven itself, and whoever
//! was not leaves. So a scan (a thousand models that somebody tried once) goes through the first queue and takes
//! nothing of the second. In that, whoever was used since the last look goes round once more. What was superseded
//! leaves before all that, and unfinished files that nobody goes on with count as new.
//!
//! Bytes that have to be fetched again cost as much as they are many, whatever file they belong to, so a blob counts
//! by its size in the queues and not in the order: weighing it once more would favour small files, and those are not
//! what fills a disk or a line.
//!
//! There are no queues in memory. A blob's row says in which it stands, since when, and how often it was used; the
//! queues are made of that when something has to go. That is work for all blobs, so whoever asks makes room for more
//! than he needs.
//!
//! What is pinned, locked, held or read is not shown to this module.
//!
//! # Measured
//!
//! Share of bytes that were held already, of traces of 60,000 requests for 4,000 files of 1 to 1,000 units (`cargo
//! bench --bench eviction`), with room for that share of all that is popular. *Scans*: a third of the requests are
//! for files that are asked for once.
//!
//! | skew | room | LRU | S3-FIFO | LRU, scans | S3-FIFO, scans |
//! |---|---|---|---|---|---|
//! | 0.6 | 2 % | 6.3 % | 12.2 % | 3.9 % | 6.4 % |
//! | 0.6 | 10 % | 22.5 % | 28.3 % | 12.0 % | 17.6 % |
//! | 0.6 | 30 % | 47.5 % | 51.7 % | 22.2 % | 26.6 % |
//! | 0.8 | 2 % | 17.6 % | 26.5 % | 11.1 % | 15.9 % |
//! | 0.8 | 10 % | 40.1 % | 48.2 % | 22.1 % | 30.3 % |
//! | 0.8 | 30 % | 63.8 % | 67.1 % | 34.0 % | 37.7 % |
//! | 1.0 | 2 % | 37.6 % | 47.4 % | 24.0 % | 30.6 % |
//! | 1.0 | 10 % | 63.0 % | 68.5 % | 34.8 % | 42.9 % |
//! | 1.0 | 30 % | 79.5 % | 81.0 % | 45.6 % | 48.4 % |
//! | 1.2 | 2 % | 62.3 % | 69.2 % | 39.3 % | 44.9 % |
//! | 1.2 | 10 % | 82.6 % | 84.8 % | 45.5 % | 52.6 % |
//! | 1.2 | 30 % | 91.1 % | 91.5 % | 53.3 % | 55.4 % |

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

pub use crate::model::WhyGone as Reason;

/// Uses after which what is new has proven itself.
pub const PROVEN_USES: u8 = 2;
/// Uses that are counted.
pub const MOST_USES: u8 = 3;
/// The share of the bytes that what is new may have: one of so many.
const NEW_SHARE: u64 = 10;

/// A queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Queue {
    /// Of what is new.
    #[default]
    New,
    /// Of what has proven itself.
    Proven,
}

/// Where a blob stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rank {
    /// In which queue.
    pub queue: Queue,
    /// Since when, in any unit that grows.
    pub since: u64,
    /// How often it was used since, up to [`MOST_USES`].
    pub uses: u8,
}

/// What can go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Bytes that are free when it has gone.
    pub bytes: u64,
    /// Where it stands.
    pub rank: Rank,
    /// What kind of thing it is.
    pub kind: Kind,
}

/// Kinds of things that can go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Bytes of files.
    Current,
    /// Bytes of files of revisions only that others have superseded.
    Superseded,
    /// An unfinished file that nobody goes on with.
    Unfinished,
}

/// What is to go, and where those stand afterwards that were passed over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Eviction {
    /// By their place among the candidates, in the order in which they go.
    pub victims: Vec<(usize, Reason)>,
    /// The same of those that stand elsewhere now.
    pub moved: Vec<(usize, Rank)>,
    /// Bytes that are free then.
    pub bytes: u64,
}

/// Chooses what goes until `need` bytes are free, or everything has gone. `now` is in the unit of
/// [`Rank::since`].
pub fn evict(candidates: &[Candidate], need: u64, now: u64) -> Eviction {
    let mut eviction = Eviction::default();
    for at in in_order(candidates, |c| c.kind == Kind::Superseded) {
        if eviction.bytes >= need {
            return eviction;
        }
        eviction.take(candidates, at, Reason::Superseded);
    }
    let queue_of = |queue| in_order(candidates, move |c| c.kind != Kind::Superseded && c.rank.queue == queue);
    let mut queues = Queues::new(candidates, queue_of(Queue::New), queue_of(Queue::Proven), now);
    while eviction.bytes < need {
        let Some((at, reason)) = queues.next() else { break };
        eviction.take(candidates, at, reason);
    }
    eviction.moved = queues.moved();
    eviction
}

impl Eviction {
    fn take(&mut self, candidates: &[Candidate], at: usize, reason: Reason) {
        self.bytes = self.bytes.saturating_add(candidates[at].bytes);
        self.victims.push((at, reason));
    }
}

/// The places of those that are `wanted`, those that stand longest first.
fn in_order(candidates: &[Candidate], wanted: impl Fn(&Candidate) -> bool) -> VecDeque<usize> {
    let mut places: Vec<_> = (0..candidates.len()).filter(|at| wanted(&candidates[*at])).collect();
    places.sort_by_key(|at| candidates[*at].rank.since);
    places.into()
}

/// Both queues while something is chosen.
struct Queues<'a> {
    candidates: &'a [Candidate],
    new: VecDeque<usize>,
    proven: VecDeque<usize>,
    /// Uses that are left of those that stand elsewhere now.
    passed: Vec<Option<Rank>>,
    new_bytes: u64,
    proven_bytes: u64,
    /// Since when the next one stands that is passed over.
    since: u64,
}

impl<'a> Queues<'a> {
    fn new(candidates: &'a [Candidate], new: VecDeque<usize>, proven: VecDeque<usize>, now: u64) -> Self {
        let sum = |queue: &VecDeque<usize>| queue.iter().map(|at| candidates[*at].bytes).sum();
        let (new_bytes, proven_bytes) = (sum(&new), sum(&proven));
        let newest = candidates.iter().map(|c| c.rank.since + 1).max().unwrap_or(0);
        let passed = vec![None; candidates.len()];
        Self { candidates, new, proven, passed, new_bytes, proven_bytes, since: now.max(newest) }
    }

    /// The next one to go. Each turn takes a use away, moves one on, or ends.
    fn next(&mut self) -> Option<(usize, Reason)> {
        loop {
            let most = (self.new_bytes + self.proven_bytes) / NEW_SHARE;
            if self.new_bytes > most || self.proven.is_empty() {
                let at = self.new.pop_front()?;
                let Candidate { bytes, rank, kind } = self.candidates[at];
                self.new_bytes -= bytes;
                match kind {
                    Kind::Unfinished => return Some((at, Reason::Unfinished)),
                    _ if rank.uses < PROVEN_USES => return Some((at, Reason::Once)),
                    _ => self.pass(at, 0),
                }
            } else {
                let at = self.proven.pop_front()?;
                self.proven_bytes -= self.candidates[at].bytes;
                match self.passed[at].unwrap_or(self.candidates[at].rank).uses {
                    0 => return Some((at, Reason::Stale)),
                    uses => self.pass(at, uses - 1),
                }
            }
        }
    }

    /// Lets one stand last among the proven.
    fn pass(&mut self, at: usize, uses: u8) {
        self.passed[at] = Some(Rank { queue: Queue::Proven, since: self.since, uses });
        self.since += 1;
        self.proven.push_back(at);
        self.proven_bytes += self.candidates[at].bytes;
    }

    /// Those that stand elsewhere now and did not go.
    fn moved(&self) -> Vec<(usize, Rank)> {
        let mut left: Vec<_> = self.proven.iter().filter_map(|at| Some((*at, self.passed[*at]?))).collect();
        left.sort_unstable_by_key(|(at, _)| *at);
        left
    }
}

#[cfg(test)]
mod tests;
