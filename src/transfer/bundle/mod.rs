//! Bundles: everything that a lock file pins in one file, to be carried where there is no network.
//!
//! A bundle is a tar archive with an image layout of the Open Container Initiative, so that other programs and any
//! registry can carry it too:
//!
//! ```text
//! oci-layout
//! index.json              a manifest for each model, one for Remote Settings, one for the lock file, one for a signature
//! blobs/sha256/<digest>   manifests and other texts first, then files; each in the order of the digests
//! ```
//!
//! The manifest of a model follows the specification of ModelPack, as far as it goes: its layers are the files as they
//! are (`.raw`), so that the digest of a layer is the SHA-256 of a file, and `org.cncf.model.filepath` is its path. What a
//! hub has promised of a file beside its SHA-256 stands in `org.hubcache.digests`, because it follows from the bytes.
//!
//! **One lock, one archive.** Nothing in it is a time, an owner or an accident of order: the same lock file makes the same
//! bytes, on every machine. So an export that was interrupted can be held against what it would write, and go on.
//!
//! **A delta** leaves out the blobs that another lock file pins. Its manifests name them all the same, and so does the
//! lock file in it; whoever takes it in must have them.
//!
//! **A signature** (Ed25519) is over the digest and the name of every other manifest, and so over every byte that is
//! named. It is a manifest itself, and survives a registry.
//!
//! **What can be wrong** with a bundle is [`BadBundle`]; each names the part. No byte of an archive is left unlooked at:
//! headers have sums, blobs have digests, what lies between is zero, and the index is the one that follows from the lock
//! file in it ([`Contents::is_as_written`]). Where another program has packed a bundle anew the last does not hold.

mod archive;
mod contents;
mod manifest;
mod plan;
mod signature;

pub use archive::{BLOCK, Header, Kind, blob_name, header, padding, read_header};
pub use contents::{BadBundle, Contents, Part, PinnedFile};
pub use manifest::{FileIds, INDEX, LAYOUT};
pub use plan::{Content, Member, Plan, names, pinned, plan};
pub use signature::{BadKey, Signer, Verifier};
