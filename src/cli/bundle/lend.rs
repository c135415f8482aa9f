//! A bundle that is served as it is.

use super::super::exit::{Failure, io_failure};
use super::read::Bundle;
use crate::app::Lent;
use crate::cache::expectation;
use crate::model::{Entry, Openness, Resource, Standing, Timestamp};
use crate::transfer::bundle::PinnedFile;

impl Bundle {
    /// What a server needs of it to serve it.
    pub fn lent(self) -> Result<Lent, Failure> {
        let file = self.file().try_clone();
        let file = file
            .map_err(|error| io_failure(format_args!("{} cannot be read", self.shown.display()), &error))?;
        let places = self.blobs.iter().map(|(digest, (at, _))| (*digest, *at)).collect();
        let entries = self.contents.files().into_iter().map(entry).collect();
        Ok(Lent { file, places, entries, settings: self.contents.lock.settings })
    }
}

/// The entry of a file. Its bytes are hashed before the last of them is sent.
fn entry(pinned: PinnedFile) -> (Resource, Entry) {
    let PinnedFile { file, part, promises } = pinned;
    let standing = if promises.is_empty() { Standing::Recorded } else { Standing::Verified };
    let expected = expectation(&file, promises, Timestamp(0));
    let entry = Entry::of(&expected, (part.sha256, part.size), standing, Openness::Shared, Timestamp(0));
    (file, entry)
}
