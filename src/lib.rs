//! hubcache
pub mod model;
pub mod request;
pub mod hub;
pub mod verify;
pub mod policy;
pub mod telemetry;
pub mod upstream;
pub mod store;
