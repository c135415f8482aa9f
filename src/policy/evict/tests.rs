use super::super::evict;
use super::*;

#[path = "../../../benches/support/trace.rs"]
mod trace;

fn candidate(bytes: u64, queue: Queue, since: u64, uses: u8) -> Candidate {
    Candidate { bytes, rank: Rank { queue, since, uses }, kind: Kind::Current }
}

fn order(candidates: &[Candidate], need: u64) -> Vec<(usize, Reason)> {
    evict(candidates, need, 100).victims
}

#[test]
fn what_is_superseded_goes_first_and_then_what_was_used_once() {
    let superseded = Candidate { kind: Kind::Superseded, ..candidate(10, Queue::Proven, 9, 3) };
    let unfinished = Candidate { kind: Kind::Unfinished, ..candidate(10, Queue::New, 3, 0) };
    let all = [
        candidate(10, Queue::Proven, 1, 0),
        candidate(10, Queue::New, 4, 1),
        unfinished,
        superseded,
        candidate(10, Queue::New, 2, 0),
    ];
    let want = [
        (3, Reason::Superseded),
        (4, Reason::Once),
        (2, Reason::Unfinished),
        (1, Reason::Once),
        (0, Reason::Stale),
    ];
    assert_eq!(order(&all, 1_000), want);
    assert_eq!(order(&all, 11), want[..2], "no more goes than is needed");
    assert_eq!(order(&all, 0), []);
}

#[test]
fn what_was_used_moves_on_and_goes_round() {
    let all = [
        candidate(10, Queue::New, 1, 2),
        candidate(10, Queue::New, 2, 1),
        candidate(10, Queue::Proven, 3, 1),
        candidate(10, Queue::Proven, 4, 0),
    ];
    let eviction = evict(&all, 20, 100);
    assert_eq!(eviction.victims, [(1, Reason::Once), (3, Reason::Stale)]);
    assert_eq!(eviction.bytes, 20);
    let moved = |since, uses| Rank { queue: Queue::Proven, since, uses };
    assert_eq!(eviction.moved, [(0, moved(100, 0)), (2, moved(101, 0))]);
    assert_eq!(order(&all, 1_000).len(), 4, "in the end everything goes");
}

#[test]
fn nothing_overflows_and_nothing_is_chosen_twice() {
    let mut rng = fastrand::Rng::with_seed(1);
    for _ in 0..200 {
        let queues = [Queue::New, Queue::Proven];
        let all: Vec<_> = (0..rng.usize(0..60))
            .map(|_| candidate(rng.u64(0..1 << 40), queues[rng.usize(0..2)], rng.u64(0..9), rng.u8(0..9)))
            .collect();
        let mut places: Vec<_> = order(&all, u64::MAX).into_iter().map(|(at, _)| at).collect();
        places.sort_unstable();
        assert_eq!(places, (0..all.len()).collect::<Vec<_>>());
    }
}

/// The table in the module's documentation, made smaller.
#[test]
fn scans_leave_more_in_it_than_the_least_recently_used_order_does() {
    for (skew, share) in [(0.8, 0.05), (0.8, 0.1), (1.0, 0.05), (1.0, 0.1), (1.0, 0.3)] {
        let trace = trace::Trace { requests: 20_000, files: 2_000, skew, scans: true, seed: 7 };
        let (ours, least_recent) = (trace.replay_ours(share), trace.replay_lru(share));
        assert!(ours >= least_recent, "skew {skew}, size {share}: {ours:.3} and {least_recent:.3}");
    }
}
