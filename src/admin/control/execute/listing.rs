//! What is told of selected files, and of what is held around them.

use std::ops::ControlFlow;

use super::super::{Answer, Failure, Reference, Reply, Said, Selector, Summary};
use super::{Detail, Job};
use crate::model::{Document, EntryKey};
use crate::store::StoreError;

impl Job {
    /// Tells about the selected files, the branches and tags of their repositories, and the answers of the API.
    pub(super) fn list(&self, selector: &Selector, detail: Detail) -> Result<Summary, Failure> {
        let (entries, blobs) = self.tell_all(selector)?;
        self.tell_references(selector)?;
        let documents = self.tell_answers(selector, detail)?;
        let partials = self.partials(selector)?;
        Ok(Summary { entries, partials, documents, ..blobs.summary() })
    }

    fn tell_references(&self, selector: &Selector) -> Result<(), Failure> {
        let told = self.store.references(&selector.clone().into(), &mut |key, record| {
            let (commit, checked_at) = (record.commit, record.checked_at);
            self.tell(Reply::Reference { reference: Reference { key, commit, checked_at } })
        });
        told.map_err(unreadable)
    }

    /// How many there are.
    fn tell_answers(&self, selector: &Selector, detail: Detail) -> Result<u64, Failure> {
        let mut count = 0;
        let mut tell = |key: EntryKey, said: Option<Said>| -> ControlFlow<()> {
            count += 1;
            self.tell(Reply::Answer { answer: Answer { key, said } })
        };
        let selector = selector.clone().into();
        let told = match detail {
            Detail::Names => self.store.document_keys(&selector, &mut |key| tell(key, None)),
            Detail::All => self.store.documents(&selector, &mut |key, said| tell(key, Some(about(&said)))),
        };
        told.map(|()| count).map_err(unreadable)
    }
}

fn about(document: &Document) -> Said {
    Said { status: document.status, size_bytes: document.body.len() as u64, learned_at: document.learned_at }
}

fn unreadable(error: StoreError) -> Failure {
    Failure::io("the index cannot be read", &error)
}
