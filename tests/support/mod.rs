//! What the integration tests share: a hub that misbehaves on command, the program under test as a child
//! process, and a client that notices how a body ended.

// Every test binary compiles all of this and uses its own part of it.
#![allow(dead_code, unused_imports)]

pub mod client;
pub mod daemon;
pub mod hub;
pub mod netns;
pub mod output;
pub mod settings;
pub mod tls;
pub mod tokens;

/// What `get` gives at last.
///
/// # Panics
/// When it has given nothing for 40 s.
pub fn eventually<T>(mut get: impl FnMut() -> Option<T>) -> T {
    let until = std::time::Instant::now() + std::time::Duration::from_secs(40);
    loop {
        if let Some(got) = get() {
            return got;
        }
        assert!(std::time::Instant::now() < until, "nothing came of it");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// Bytes without a period that a shift could hide in, the same ones for the same seed.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    fastrand::Rng::with_seed(seed).fill(&mut bytes);
    bytes
}
