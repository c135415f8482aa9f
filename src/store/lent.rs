//! Blobs that lie in somebody else's file: read from there, and never written.
//!
//! A store that serves a bundle has an index of its own and no bytes. Its blobs are rows of the index like any others,
//! in volume [`LENT`], which is none: where they lie is known in memory, to the process that opened the file. Reads copy,
//! because a file that others can shorten must not be mapped.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::{Bytes, BytesMut};

use super::error::StoreError;
use super::open::Store;
use super::settings::{CHUNK, chunk_len};
use crate::model::{Entry, EntryKey, Sha256};

/// The number of no volume.
pub(super) const LENT: u32 = 0;
/// Entries that are written in one transaction.
const AT_A_TIME: usize = 1000;

/// Where blobs lie that are lent.
#[derive(Debug, Default)]
pub(super) struct Lent(RwLock<HashMap<Sha256, Place>>);

/// Where one lies.
#[derive(Clone, Debug)]
pub(super) struct Place {
    file: Arc<File>,
    at: u64,
}

impl Lent {
    pub(super) fn place(&self, digest: &Sha256) -> Result<Place, StoreError> {
        let places = self.0.read().unwrap_or_else(PoisonError::into_inner);
        places.get(digest).cloned().ok_or(StoreError::Gone)
    }
}

impl Place {
    /// A chunk of a blob of so many bytes.
    pub(super) fn read(&self, size: u64, index: u32) -> Result<Bytes, StoreError> {
        let mut chunk = BytesMut::zeroed(chunk_len(size, index));
        let at = self.at + u64::from(index) * CHUNK as u64;
        let read = self.file.read_exact_at(&mut chunk, at);
        read.map_err(|error| StoreError::Damaged(format!("a file that was lent cannot be read: {error}")))?;
        Ok(chunk.freeze())
    }
}

impl Store {
    /// Holds `entries` whose bytes lie in `file`: of each digest where they begin. They are not copied, nor read.
    ///
    /// # Errors
    /// If the index cannot be written.
    pub async fn lend(
        &self,
        file: File,
        places: impl IntoIterator<Item = (Sha256, u64)>,
        entries: Vec<(EntryKey, Entry)>,
    ) -> Result<(), StoreError> {
        let inner = &self.0;
        inner.check_open()?;
        let file = Arc::new(file);
        let places = places.into_iter().map(|(digest, at)| (digest, Place { file: Arc::clone(&file), at }));
        inner.lent.0.write().unwrap_or_else(PoisonError::into_inner).extend(places);
        for entries in entries.chunks(AT_A_TIME) {
            let entries = entries.to_vec();
            let put = move |tables: &mut super::index::Tables<'_>| {
                entries.iter().try_for_each(|(key, entry)| tables.put_lent(key, entry)).map(Ok)
            };
            inner.queue.change::<_, StoreError>(put).await?;
        }
        Ok(())
    }
}
