//! All tests that drive the program from outside: one program of them, because each further one takes as long to build
//! as this.
//!
//! A file here is a module; `cargo test --test all firefox::` runs one of them. Those that need the real clients, which
//! `tests/run` installs, are built with the feature `real-clients`.

// A test fails by panicking, and so do its helpers.
#![allow(clippy::unwrap_used)]

mod support;

#[cfg(feature = "real-clients")]
#[path = "clients/drivers.rs"]
mod drivers;
#[cfg(feature = "real-clients")]
#[path = "clients/tiny_model.rs"]
mod tiny_model;

mod absent;
mod access;
mod announced;
mod api;
mod audit;
mod bundles;
mod command_line;
mod commands;
mod crash;
mod credentials;
mod delivery;
#[cfg(feature = "real-clients")]
mod differential;
mod doctor;
mod down;
#[cfg(feature = "real-clients")]
mod egress;
mod entitlement;
mod exports;
#[cfg(feature = "real-clients")]
mod exports_to_clients;
mod faults;
mod fills;
#[cfg(feature = "real-clients")]
mod firefox;
mod firefox_preload;
mod forward;
mod frozen;
mod hits;
mod hostile;
mod hygiene;
mod imports;
#[cfg(feature = "real-clients")]
mod lab;
mod limits;
mod locks;
mod models;
mod offline;
#[cfg(feature = "real-clients")]
mod proxied_clients;
mod readme;
#[cfg(feature = "real-clients")]
mod real_clients;
#[cfg(feature = "real-clients")]
mod recipes;
mod remote_settings;
mod revisions;
mod routing;
mod runs;
mod scripted_hub;
mod scrub;
mod seeing;
mod sources;
mod space;
#[cfg(feature = "real-clients")]
mod whole_loads;
mod xet;
