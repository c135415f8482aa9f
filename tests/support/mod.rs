//! What the integration tests share: a hub that misbehaves on command, the program under test as a child
//! process, and a client that notices how a body ended.

// Every test binary compiles all of this and uses its own part of it.
#![allow(dead_code, unused_imports)]

pub mod client;
pub mod daemon;
pub mod hub;
