//! The store.

mod backend;
mod blob;
mod chunks;
mod disk;
mod error;
#[cfg(test)]
mod faults;
mod handle;
mod index;
mod lock;
mod lookups;
mod memory;
mod open;
mod records;
mod selector;
mod settings;
mod volume;
mod volumes;
mod writeback;
mod writer;
mod writes;

#[cfg(test)]
mod tests;

pub use blob::Blob;
pub use error::StoreError;
pub use lookups::{NotReady, Usage};
pub use open::{OpenError, Store};
pub use records::{BlobId, BlobInfo, PartialRecord, RefRecord};
pub use selector::Selector;
pub use settings::{CHUNK, SMALL, Settings, chunks_of};
pub use writes::{CommitError, Expired, Removed, Resumed};
