//! Taking in files that are on this machine already: no hub is asked.
//!
//! **States.** A file is *held* already, or its bytes are held under another name and it is *linked* to them, or it is
//! read and *written*: into a partial blob that becomes an entry once the digest is known to be right. Where nobody has
//! said beforehand what it hashes to, a first reading finds that out, so that nothing is written that is held.
//!
//! **Who owns what.** Whoever calls [`Cache::take`] owns the file's place in the store until that returns; a fill of the
//! same name ends what the other has begun, and the entry is that of the one that commits.
//!
//! **What can fail.** See [`NotTaken`]. In every case the partial blob is given up, and no entry was made.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::Cache;
use super::offered::{NotTaken, Offered, Opened, Source, blocking, joined, judged};
use super::settled::absence_key;
use crate::hub::api;
use crate::model::{
    Commit, Digest, Document, Entry, Expectation, Hub, Openness, Promise, Repo, Representation, Resource,
    Revision, Sha256, Standing, Timestamp,
};
use crate::store::{Blob, CommitError, PartialRecord, StoreError};
use crate::verify::Digests;

/// Chunks of a file that are read and not yet written.
const READ_AHEAD: usize = 2;
/// Chunks that the store was given and has not acknowledged.
const MAX_WRITES: usize = 64;

/// Told how many bytes of how many were read; says whether to go on.
pub type Progress = Arc<dyn Fn(u64, u64) -> ControlFlow<()> + Send + Sync>;

impl Cache {
    /// Holds a file under the name `file`, with what is promised of it by whoever offers it and by the hub's list. The
    /// entry, and whether it was held before.
    ///
    /// # Errors
    /// See [`NotTaken`].
    pub async fn take(
        &self,
        file: &Resource,
        found: Offered,
        progress: Progress,
    ) -> Result<(Arc<Entry>, bool), NotTaken> {
        let expected = self.expected(file, &found);
        let held = self.entry(file)?;
        let is_same = |entry: &&Arc<Entry>| match found.sha256 {
            Some(sha256) => {
                entry.blob == sha256 && (expected.promises.is_empty() || is_as_promised(entry, &expected))
            }
            None => is_as_promised(entry, &expected),
        };
        if let Some(entry) = held.as_ref().filter(is_same) {
            return self.open_up(file, entry, found.access).await.map(|entry| (entry, true));
        }
        if let Some(entry) = self.link_promised(file, &expected, found.access).await? {
            return Ok((entry, false));
        }
        let opened = self.opened(&found).await?;
        let is_new = match found.sha256 {
            Some(sha256) => self.store.blob(&sha256)?.is_none(),
            None => expected.sha256().is_some(),
        };
        if is_new {
            let reading = Reading { known: found.sha256, is_second: false, access: found.access };
            return self.write(file, opened, expected, reading, progress).await.map(|entry| (entry, false));
        }
        let (sha256, standing) = first_reading(file, &opened, &expected, &progress).await?;
        if found.sha256.is_some_and(|known| known != sha256) {
            return Err(NotTaken::Changed);
        }
        if let Some(entry) = held.filter(|entry| entry.blob == sha256) {
            return self.open_up(file, &entry, found.access).await.map(|entry| (entry, true));
        }
        if let Some(info) = self.store.blob(&sha256)?.filter(|info| info.size == opened.size) {
            let bytes = (sha256, info.size);
            let entry = Entry::of(&expected, bytes, standing, found.access, Timestamp::now());
            return self.link_to(file, entry).await.map(|entry| (entry, false));
        }
        let reading = Reading { known: Some(sha256), is_second: true, access: found.access };
        self.write(file, opened, expected, reading, progress).await.map(|entry| (entry, false))
    }

    /// Notes what a client of Hugging Face has noted of a commit: which branches and tags stood for it, each at a
    /// time, and which files it does not have. What the hub has said later stands.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub async fn learn(
        &self,
        repo: &Repo,
        commit: &Commit,
        names: Vec<(String, Timestamp)>,
        absent: Vec<String>,
    ) -> Result<(), StoreError> {
        let hub = Hub::HuggingFace;
        let file = |revision, path| Resource { hub, repo: repo.clone(), revision, path };
        for (name, at) in names {
            let key = file(Revision::Named(name), String::new()).ref_key(self.roots.root(hub));
            if self.reference(&key)?.is_none_or(|record| record.checked_at < at) {
                self.note_commit(key, commit.clone(), at).await;
            }
        }
        for path in absent {
            let file = file(Revision::Commit(commit.clone()), path);
            if self.entry(&file)?.is_none() && self.absence(&file)?.is_none() {
                let key = absence_key(&file, self.roots.root(hub));
                self.keep(&key, Document { learned_at: Timestamp::now(), ..api::entry_not_found(commit) })
                    .await;
            }
        }
        Ok(())
    }

    /// Lets those read what is held who may by this word too.
    async fn open_up(
        &self,
        file: &Resource,
        entry: &Arc<Entry>,
        access: Openness,
    ) -> Result<Arc<Entry>, NotTaken> {
        let both = entry.access.with(access);
        if both != entry.access {
            self.store.set_access(&self.key(file), both).await?;
        }
        Ok(Arc::new(Entry { access: both, ..Entry::clone(entry) }))
    }

    async fn opened(&self, found: &Offered) -> Result<Opened, NotTaken> {
        if found.source == Source::Held {
            let blob = found.sha256.map(|sha256| self.store.open_blob(&sha256)).transpose()?.flatten();
            return blob.ok_or(NotTaken::NotHeld).and_then(Opened::held);
        }
        let source = found.source.clone();
        blocking(move || Opened::of(&source)).await
    }

    fn expected(&self, file: &Resource, found: &Offered) -> Expectation {
        let mut promises: Vec<Promise> = found.promises.clone();
        promises.extend(file.own_promise().filter(|own| promises.iter().all(|p| p.digest != own.digest)));
        let listed = self.listed(file).filter(|listed| promises.iter().all(|p| p.digest != listed.digest));
        promises.extend(listed);
        expectation(file, promises, found.since)
    }

    /// Gives the name to bytes that are held and verified to be what is promised here. Where two have promised
    /// something, the file is read and held against both.
    async fn link_promised(
        &self,
        file: &Resource,
        expected: &Expectation,
        access: Openness,
    ) -> Result<Option<Arc<Entry>>, NotTaken> {
        let blob = match expected.promises.as_slice() {
            [Promise { digest: Digest::Sha256(sha256), .. }] => Some(*sha256),
            [Promise { digest: Digest::GitSha1(oid), .. }] => self.store.sha256_of_git(oid)?,
            _ => None,
        };
        let Some(blob) = blob else { return Ok(None) };
        let Some(info) = self.store.blob(&blob)? else { return Ok(None) };
        let bytes = (blob, info.size);
        let entry = Entry::of(expected, bytes, Standing::Verified, access, Timestamp::now());
        self.link_to(file, entry).await.map(Some)
    }

    async fn link_to(&self, file: &Resource, entry: Entry) -> Result<Arc<Entry>, NotTaken> {
        let linked = self.store.link(&self.key(file), entry, self.roots.equivalents(file.hub)).await;
        linked.map_err(not_committed)
    }

    /// Writes the bytes, and gives up what was written unless they are right.
    async fn write(
        &self,
        file: &Resource,
        opened: Opened,
        expected: Expectation,
        Reading { known, is_second, access }: Reading,
        progress: Progress,
    ) -> Result<Arc<Entry>, NotTaken> {
        let key = self.key(file);
        let mut expectation = expected.clone();
        expectation.representation.size = Some(opened.size);
        let now = Timestamp::now();
        let restricted = access == Openness::Restricted;
        let record = PartialRecord { expectation, started_at: now, touched_at: now, restricted };
        let blob = self.store.begin_partial(&key, record).await?;
        let written = async {
            let (digests, standing) = self.copy(file, &opened, &expected, &blob, is_second, progress).await?;
            if known.is_some_and(|known| known != digests.sha256) {
                return Err(NotTaken::Changed);
            }
            let now = Timestamp::now();
            let bytes = (digests.sha256, digests.length);
            let entry = Entry::of(&expected, bytes, standing, access, now);
            let equivalents = self.roots.equivalents(file.hub);
            self.store.commit(&key, &blob, entry, equivalents).await.map_err(not_committed)
        };
        let written = written.await;
        // A fill that came in between has begun anew under this name, and what it has is its own.
        if !matches!(written, Ok(_) | Err(NotTaken::Overtaken))
            && let Err(error) = self.store.discard_partial(&key).await
        {
            tracing::warn!(%error, %file, "what was written of a file cannot be removed yet");
        }
        written
    }

    /// Puts the bytes into a blob while they are read and hashed; memory holds a few chunks of them.
    async fn copy(
        &self,
        file: &Resource,
        opened: &Opened,
        expected: &Expectation,
        blob: &Blob,
        is_second: bool,
        progress: Progress,
    ) -> Result<(Digests, Standing), NotTaken> {
        let (chunks, mut read) = mpsc::channel::<Bytes>(READ_AHEAD);
        let mut done = 0;
        let reading = opened.reading(expected.promises.clone(), move |chunk, size| {
            done += chunk.len() as u64;
            let shown = if is_second { size / 2 + done / 2 } else { done };
            progress(shown, size)?;
            chunks.blocking_send(chunk).map_or(ControlFlow::Break(()), ControlFlow::Continue)
        });
        let mut writes = VecDeque::new();
        let mut index = 0;
        while let Some(chunk) = read.recv().await {
            writes.push_back(self.store.write_chunk(blob, index, vec![chunk]).await?);
            index += 1;
            if writes.len() > MAX_WRITES {
                durable(&mut writes, MAX_WRITES).await?;
            }
        }
        let digests = joined(reading).await?;
        durable(&mut writes, 0).await?;
        judged(&file.path, expected, &digests).map(|standing| (digests, standing))
    }
}

/// What is expected of a file of which these promises are known: clients are told as much as follows from them.
pub fn expectation(file: &Resource, promises: Vec<Promise>, since: Timestamp) -> Expectation {
    let tag = promises.iter().map(|promise| promise.digest).find(|digest| is_tag(file.hub, digest));
    let commit = match &file.revision {
        Revision::Commit(commit) => Some(commit.clone()),
        Revision::Version(_) | Revision::Named(_) => None,
    };
    let etag = tag.map(|tag| format!("\"{}\"", tag.value()));
    Expectation {
        representation: Representation { etag, commit, ..Representation::default() },
        promises,
        learned_at: since,
        ..Expectation::default()
    }
}

/// What is known of bytes that are read to be written.
#[derive(Clone, Copy)]
struct Reading {
    /// What they must hash to.
    known: Option<Sha256>,
    /// Whether they were read before.
    is_second: bool,
    /// Who may read them.
    access: Openness,
}

/// Whether a hub has this digest of a file for its entity tag.
fn is_tag(hub: Hub, digest: &Digest) -> bool {
    match hub {
        Hub::HuggingFace => matches!(digest, Digest::Sha256(_) | Digest::GitSha1(_)),
        Hub::Mozilla => matches!(digest, Digest::Md5(_)),
        Hub::Settings => false,
    }
}

/// Waits until the store has acknowledged all but so many writes.
async fn durable(
    writes: &mut VecDeque<oneshot::Receiver<Result<(), StoreError>>>,
    but: usize,
) -> Result<(), NotTaken> {
    while writes.len() > but
        && let Some(write) = writes.pop_front()
    {
        write.await.unwrap_or(Err(StoreError::Closed))?;
    }
    Ok(())
}

async fn first_reading(
    file: &Resource,
    opened: &Opened,
    expected: &Expectation,
    progress: &Progress,
) -> Result<(Sha256, Standing), NotTaken> {
    let progress = Arc::clone(progress);
    let mut done = 0;
    let reading = opened.reading(expected.promises.clone(), move |chunk, size| {
        done += chunk.len() as u64;
        progress(done / 2, size)
    });
    let digests = joined(reading).await?;
    judged(&file.path, expected, &digests).map(|standing| (digests.sha256, standing))
}

fn is_as_promised(entry: &Entry, expected: &Expectation) -> bool {
    let was_compared = |digest| {
        entry.standing == Standing::Verified && entry.promises.iter().any(|promise| promise.digest == digest)
    };
    !expected.promises.is_empty()
        && expected.promises.iter().all(|promise| match promise.digest {
            Digest::Sha256(sha256) => entry.blob == sha256,
            other => was_compared(other),
        })
}

fn not_committed(error: CommitError) -> NotTaken {
    match error {
        CommitError::Conflict { held, offered } => NotTaken::Conflict { held, offered },
        CommitError::NoBlob => NotTaken::Overtaken,
        CommitError::Store(error) => NotTaken::Store(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache;
    use crate::model::{RepoKind, Roots};
    use crate::store::{self, CHUNK, Store};
    use std::fs::{self, File};
    use std::io::{Seek as _, SeekFrom, Write as _};
    use std::path::Path;
    use std::time::Duration;

    fn cache(dir: &Path) -> Arc<Cache> {
        let settings = store::Settings {
            dir: dir.join("data"),
            volume_max_bytes: 1 << 30,
            max_bytes: None,
            rewrite_rate: 32 << 20,
            cache_bytes: 8 << 20,
            small_cache_bytes: 1 << 20,
            partial_expiry: Duration::from_secs(3600),
            min_free_bytes: 0,
        };
        fs::create_dir(dir.join("data")).unwrap();
        let store = Store::open(settings, Timestamp::now()).unwrap();
        Cache::new(&cache::Settings::default(), Roots::default(), store)
    }

    fn name(path: &str) -> Resource {
        Resource {
            hub: Hub::Mozilla,
            repo: Repo { kind: RepoKind::Model, id: "acme/tiny".to_owned() },
            revision: Revision::parse(Hub::Mozilla, "v1.0"),
            path: path.to_owned(),
        }
    }

    fn on_disk(path: &Path) -> Offered {
        Offered {
            source: Source::File(path.to_owned()),
            promises: vec![],
            sha256: None,
            since: Timestamp(0),
            access: Openness::Shared,
        }
    }

    fn unheard() -> Progress {
        Arc::new(|_, _| ControlFlow::Continue(()))
    }

    /// That nothing is left of a file that was not taken.
    fn assert_nothing(cache: &Cache, file: &Resource) {
        assert!(cache.entry(file).unwrap().is_none(), "no entry");
        assert!(cache.store.partials().unwrap().is_empty(), "no half of it");
    }

    #[tokio::test]
    async fn a_file_that_changes_or_is_not_wanted_any_more_is_not_taken() {
        let dir = tempfile::tempdir().unwrap();
        let cache = cache(dir.path());
        let path = dir.path().join("model.onnx");
        fs::write(&path, vec![7; 3 * CHUNK + 5]).unwrap();
        let file = name("model.onnx");
        // The second reading is beyond the half.
        let grown = path.clone();
        let grows: Progress = Arc::new(move |done, size| {
            if done > size / 2 {
                File::options().append(true).open(&grown).unwrap().write_all(b"more").unwrap();
            }
            ControlFlow::Continue(())
        });
        let taken = cache.take(&file, on_disk(&path), grows).await;
        assert!(matches!(taken, Err(NotTaken::Changed)), "{taken:?}");
        assert_nothing(&cache, &file);

        let turned = path.clone();
        let turns: Progress = Arc::new(move |done, size| {
            if done > size / 2 {
                let mut file = File::options().write(true).open(&turned).unwrap();
                file.seek(SeekFrom::End(-1)).unwrap();
                file.write_all(b"!").unwrap();
            }
            ControlFlow::Continue(())
        });
        let taken = cache.take(&file, on_disk(&path), turns).await;
        assert!(matches!(taken, Err(NotTaken::Changed)), "{taken:?}");
        assert_nothing(&cache, &file);

        let leaves: Progress = Arc::new(|done, size| match done > size / 2 {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        });
        let taken = cache.take(&file, on_disk(&path), leaves).await;
        assert!(matches!(taken, Err(NotTaken::Stopped)), "{taken:?}");
        assert_nothing(&cache, &file);

        let (entry, was_held) = cache.take(&file, on_disk(&path), unheard()).await.unwrap();
        let size = fs::metadata(&path).unwrap().len();
        assert_eq!((entry.standing, was_held, entry.size), (Standing::Recorded, false, size));
        let (_, was_held) = cache.take(&file, on_disk(&path), unheard()).await.unwrap();
        assert!(was_held);
        cache.store.close().await;
    }

    #[tokio::test]
    async fn a_revision_that_cannot_change_keeps_its_bytes_and_a_link_is_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let cache = cache(dir.path());
        let (path, link) = (dir.path().join("a.json"), dir.path().join("link.json"));
        fs::write(&path, "{}").unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        cache.take(&name("a.json"), on_disk(&path), unheard()).await.unwrap();
        fs::write(&path, "[]").unwrap();
        let taken = cache.take(&name("a.json"), on_disk(&path), unheard()).await;
        assert!(matches!(taken, Err(NotTaken::Conflict { .. })), "{taken:?}");
        for not_a_file in [link.as_path(), dir.path()] {
            let taken = cache.take(&name("b.json"), on_disk(not_a_file), unheard()).await;
            assert!(matches!(taken, Err(NotTaken::Unreadable(_))), "{taken:?}");
        }
        assert_nothing(&cache, &name("b.json"));
        cache.store.close().await;
    }
}
