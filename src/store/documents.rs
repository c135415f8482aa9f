//! What reads and changes documents.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::error::StoreError;
use super::index::{self, reads};
use super::lookups::prefix_at;
use super::open::Store;
use super::packed;
use super::selector::Selector;
use crate::model::{Document, EntryKey, Hub, HubRoot, Repo, Timestamp};

impl Store {
    /// The document at a key. From memory where it is in demand; unpacking a large one takes milliseconds.
    ///
    /// # Errors
    /// If the index cannot be read, or the row is damaged.
    pub fn document(&self, key: &EntryKey) -> Result<Option<Arc<Document>>, StoreError> {
        let inner = &self.0;
        inner.check_open()?;
        if let Some(document) = inner.memory.document(key) {
            return Ok(Some(document));
        }
        let seen = inner.memory.changes(key);
        let document = inner.index.run(|database| reads::document(database, key))?.map(Arc::new);
        if let Some(document) = &document {
            inner.memory.remember_document(seen, key, document);
        }
        Ok(document)
    }

    /// Shows the selected documents in the order of their keys, one in memory at a time. What changes meanwhile may
    /// or may not be shown.
    ///
    /// # Errors
    /// If the index cannot be read, or a row is damaged.
    pub fn documents(
        &self,
        select: &Selector,
        visit: &mut dyn FnMut(EntryKey, Document) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let mut result = Ok(());
        self.document_keys(select, &mut |key| match self
            .0
            .index
            .run(|database| reads::document(database, &key))
        {
            Ok(Some(document)) => visit(key, document),
            Ok(None) => ControlFlow::Continue(()),
            Err(e) => {
                result = Err(e);
                ControlFlow::Break(())
            }
        })?;
        result
    }

    /// Shows the keys of the selected documents, in their order.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn document_keys(
        &self,
        select: &Selector,
        visit: &mut dyn FnMut(EntryKey) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.keys(index::DOCUMENTS, &select.prefix(), &mut |key| {
            if select.matches_document(&key) { visit(key) } else { ControlFlow::Continue(()) }
        })
    }

    /// The keys of all documents of a repository at one revision, in their order.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn document_keys_at(
        &self,
        hub: Hub,
        root: &HubRoot,
        repo: &Repo,
        revision: &str,
    ) -> Result<Vec<EntryKey>, StoreError> {
        let mut keys = Vec::new();
        self.keys(index::DOCUMENTS, &prefix_at(hub, root, repo, revision), &mut |key| {
            keys.push(key);
            ControlFlow::Continue(())
        })?;
        Ok(keys)
    }

    /// Keeps a document, in place of the one at that key.
    ///
    /// # Errors
    /// [`StoreError::Misuse`] for a body of more than [`DOCUMENT_MAX`](super::DOCUMENT_MAX) bytes, and
    /// [`StoreError::NoSpace`] for one that would take of the floor of free space, or pass the bound; else if the index cannot be written.
    /// The earlier document stays then.
    pub async fn put_document(&self, key: &EntryKey, document: Document) -> Result<(), StoreError> {
        self.0.check_open()?;
        let key = key.clone();
        // Not on the thread that writes the index, where everybody would wait for it.
        let packed = tokio::task::spawn_blocking(move || packed::pack(document)).await;
        let row = packed.map_err(|_| StoreError::Closed)??;
        // The floor is for what frees space, and for the little that is noted of branches.
        if self.0.disk.free()? < self.0.disk.min_free().saturating_add(row.len() as u64) {
            return Err(StoreError::NoSpace);
        }
        let _taken = self.afford(row.len()).await?;
        self.0.queue.change(move |tables| tables.put_document(&key, &row).map(Ok)).await
    }

    /// Notes that the hub said the same again at `at`. Whether the document is still there.
    ///
    /// # Errors
    /// If the index cannot be written, or the row is damaged.
    pub async fn confirm_document(&self, key: &EntryKey, at: Timestamp) -> Result<bool, StoreError> {
        self.0.check_open()?;
        let key = key.clone();
        self.0.queue.change(move |tables| tables.confirm_document(&key, at).map(Ok)).await
    }

    /// A number that grows with every entry and every document that is written or removed, and with nothing else. It
    /// begins anew with the program.
    ///
    /// What was worked out from the store still holds while the number is the one that was taken before.
    pub fn changes(&self) -> u64 {
        self.0.memory.news()
    }
}
