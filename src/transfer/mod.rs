//! Models as a whole: which files belong to one, and the lock file that pins every byte of them.
//!
//! Pure: what a hub lists, and what is held, comes in; what is to be brought, and what a lock says, comes out. The
//! commands of the program ask the process that owns the data directory for the rest.

pub mod bundle;
mod class;
mod firefox;
pub mod hermeto;
pub mod layout;
pub mod lock;
mod named;
pub mod outline;
mod pins;
mod recorded;
mod select;
pub mod usable;

pub use class::Class;
pub use firefox::Reads;
pub use named::{BadModel, ModelName};
pub use pins::{Pinned, Pins, State, adding};
pub use recorded::{Addition, Recorded, additions, widened};
pub use select::{BadPattern, DTYPES, Selection, candidates};
