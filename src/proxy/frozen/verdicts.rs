//! Whether blobs are still what they were when they were stored.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use sha2::{Digest as _, Sha256 as Hasher};
use tokio::sync::{Semaphore, watch};

use crate::body::{Broken, Stored};
use crate::model::{Entry, Sha256};
use crate::store::{Blob, Store, StoreError, chunks_of};

/// Blobs that are read and hashed at a time.
const HASHED_AT_A_TIME: usize = 4;
/// What is withheld of a body until the verdict, in bytes: without it no client takes the body for whole.
const WITHHELD: usize = 1;

/// What was found when a blob was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum Verdict {
    /// Its bytes are those of its name.
    Sound,
    /// They are others.
    Changed,
    /// They could not be read this time.
    Unreadable,
}

/// A verdict, or the wait for it.
#[derive(Clone, Debug)]
pub(in crate::proxy) struct Pending(watch::Receiver<Option<Verdict>>);

impl Pending {
    /// The verdict, if it is there.
    pub(super) fn now(&self) -> Option<Verdict> {
        *self.0.borrow()
    }

    /// Waits for it.
    pub(super) async fn wait(&mut self) -> Verdict {
        // It ends without a verdict only when this process does.
        self.0.wait_for(Option::is_some).await.map_or(None, |found| *found).unwrap_or(Verdict::Unreadable)
    }
}

/// The verdicts of this process, each found once.
#[derive(Debug)]
pub(super) struct Verdicts {
    all: Arc<Mutex<HashMap<Sha256, Pending>>>,
    hashing: Arc<Semaphore>,
}

impl Verdicts {
    pub(super) fn new() -> Self {
        Self { all: Arc::default(), hashing: Arc::new(Semaphore::new(HASHED_AT_A_TIME)) }
    }

    /// Begins to read and hash a blob, unless that was done or is under way.
    pub(super) fn judge(&self, store: &Store, entry: &Entry) -> Pending {
        let mut verdicts = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(verdict) = verdicts.get(&entry.blob) {
            return verdict.clone();
        }
        let (tell, verdict) = watch::channel(None);
        verdicts.insert(entry.blob, Pending(verdict.clone()));
        let (all, hashing, store) = (Arc::clone(&self.all), Arc::clone(&self.hashing), store.clone());
        let (digest, size) = (entry.blob, entry.size);
        tokio::spawn(async move {
            let _turn = hashing.acquire().await;
            let read = tokio::task::spawn_blocking(move || hash(&store, &digest, size)).await;
            let found = match read {
                Ok(Ok(Some(found))) if found == digest => Verdict::Sound,
                Ok(Ok(Some(_))) => Verdict::Changed,
                Ok(Ok(None)) | Err(_) => Verdict::Unreadable,
                Ok(Err(StoreError::Damaged(why))) => {
                    tracing::error!(why, blob = %digest, "a blob is damaged");
                    Verdict::Changed
                }
                Ok(Err(error)) => {
                    tracing::error!(%error, blob = %digest, "a blob cannot be read");
                    Verdict::Unreadable
                }
            };
            if found == Verdict::Unreadable {
                all.lock().unwrap_or_else(PoisonError::into_inner).remove(&digest);
            }
            tell.send_replace(Some(found));
        });
        Pending(verdict)
    }
}

/// The SHA-256 of what the disk has; none if it has no such blob.
fn hash(store: &Store, digest: &Sha256, size: u64) -> Result<Option<Sha256>, StoreError> {
    let Some(blob) = store.open_blob(digest)? else { return Ok(None) };
    let mut hash = Hasher::new();
    for index in 0..chunks_of(size) {
        hash.update(&blob.read(index)?);
    }
    Ok(Some(Sha256(hash.finalize().into())))
}

/// A blob from `start` to its end while its verdict is being found: the last byte comes after that, or the body breaks.
pub(super) fn withholding(
    blob: Blob,
    start: u64,
    size: u64,
    verdict: Pending,
) -> BoxStream<'static, Result<Bytes, Broken>> {
    let body = Withholding { stored: Stored::new(blob, start, size), withheld: Bytes::new(), verdict };
    stream::unfold(Some(body), |body| async move {
        let mut body = body?;
        let next = body.next().await?;
        let goes_on = next.is_ok();
        Some((next, goes_on.then_some(body)))
    })
    .boxed()
}

struct Withholding {
    stored: Stored,
    withheld: Bytes,
    verdict: Pending,
}

impl Withholding {
    async fn next(&mut self) -> Option<Result<Bytes, Broken>> {
        match std::future::poll_fn(|cx| self.stored.poll_next(cx)).await {
            Some(Ok(mut bytes)) => {
                if self.stored.remaining() == 0 {
                    self.withheld = bytes.split_off(bytes.len().saturating_sub(WITHHELD));
                }
                Some(Ok(bytes))
            }
            Some(Err(broken)) => Some(Err(broken)),
            None if self.withheld.is_empty() => None,
            None => match self.verdict.wait().await {
                Verdict::Sound => Some(Ok(std::mem::take(&mut self.withheld))),
                Verdict::Changed => Some(Err(broken("the disk has other bytes than those stored"))),
                Verdict::Unreadable => Some(Err(broken("the bytes could not be read and checked"))),
            },
        }
    }
}

fn broken(why: &'static str) -> Broken {
    Broken(why.into())
}
