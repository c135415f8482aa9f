//! hubcache
pub mod admin;
pub mod app;
pub mod body;
pub mod cache;
pub mod cli;
pub mod config;
pub mod hub;
pub mod listen;
pub mod model;
pub mod policy;
pub mod proxy;
pub mod request;
pub mod store;
pub mod telemetry;
pub mod upstream;
pub mod verify;
