//! Byte hit ratios of the order of eviction, beside that of the least recently used, on synthetic traces:
//! `cargo bench --bench eviction` prints the table that is in the documentation of `policy::evict`.

use hubcache::policy::evict;

#[path = "support/trace.rs"]
mod trace;

fn main() {
    println!("| skew | room | LRU | S3-FIFO | LRU, scans | S3-FIFO, scans |");
    println!("|---|---|---|---|---|---|");
    for skew in [0.6, 0.8, 1.0, 1.2] {
        for share in [0.02, 0.05, 0.1, 0.3] {
            let of = |scans| trace::Trace { requests: 60_000, files: 4_000, skew, scans, seed: 7 };
            let [plain, scans] = [of(false), of(true)].map(|t| [t.replay_lru(share), t.replay_ours(share)]);
            let [a, b, c, d] =
                [plain[0], plain[1], scans[0], scans[1]].map(|r| format!("{:.1} %", r * 100.0));
            println!("| {skew} | {:.0} % | {a} | {b} | {c} | {d} |", share * 100.0);
        }
    }
}
