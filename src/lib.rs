//! hubcache
pub mod model;
