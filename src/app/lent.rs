//! A store over a bundle: an index of what is in it, in a directory of this process, and no copy of its bytes.

use std::fs::File;

use super::Error;
use super::core::Core;
use crate::model::{Entry, LockedSettings, Resource, Roots, Sha256};
use crate::remote_settings::Delivered;
use crate::store::Store;

/// What is served without being imported.
pub struct Lent {
    /// The bundle.
    pub file: File,
    /// Where each blob begins in it.
    pub places: Vec<(Sha256, u64)>,
    /// The files.
    pub entries: Vec<(Resource, Entry)>,
    /// What it has of Remote Settings.
    pub settings: Option<LockedSettings>,
}

impl Lent {
    /// Has a store hold the files; what is left is to be taken over.
    pub(super) async fn index(self, store: &Store, roots: &Roots) -> Result<Option<LockedSettings>, Error> {
        let Self { file, places, entries, settings } = self;
        let entries = entries.into_iter().map(|(file, entry)| (file.key(roots.root(file.hub)), entry));
        store.lend(file, places, entries.collect()).await.map_err(Error::Lend)?;
        Ok(settings)
    }
}

/// Takes over what a store holds of Remote Settings, where that is not off.
pub(super) async fn take_over(settings: LockedSettings, core: &Core, store: &Store) -> Result<(), Error> {
    let Some(mirror) = &core.mirror else { return Ok(()) };
    let store = store.clone();
    let roots = mirror.remote.settings().roots.clone();
    let read = tokio::task::spawn_blocking(move || Delivered::held(&store, &settings, &roots));
    let delivered = read.await.map_err(Error::Task)?.map_err(Error::Delivered)?;
    let taken = mirror.remote.take_over(delivered, None).await.map_err(Error::Settings)?;
    for one in taken {
        let until = one.firefox_until.0;
        tracing::info!(collection = %one.collection, timestamp = one.timestamp, firefox_until_ms = until, "a collection is served from the bundle");
    }
    Ok(())
}
