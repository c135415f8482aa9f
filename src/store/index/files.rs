//! Entries and the blobs that they share.

use std::sync::Arc;

use redb::ReadableTable;

use super::{Tables, row};
use crate::model::{Entry, EntryKey, HubRoot, Sha256, Standing, Timestamp};
use crate::policy::evict::MOST_USES;
use crate::store::around::Use;
use crate::store::error::Failure;
use crate::store::lent::LENT;
use crate::store::records::{BlobId, BlobRow, PartialRow, Row};
use crate::store::writes::CommitError;

/// What a change says when it may not be made; the transaction goes on without it.
pub(in crate::store) type Verdict<T> = Result<Result<T, CommitError>, Failure>;

impl Tables<'_> {
    /// Turns the partial fill `id` into a blob with an entry, or into a reference to the same bytes held already.
    pub(in crate::store) fn commit(
        &mut self,
        key: &EntryKey,
        id: BlobId,
        entry: &Entry,
        equivalents: &[HubRoot],
    ) -> Verdict<Arc<Entry>> {
        let encoded = key.encode();
        let Some(partial) = row::<PartialRow>(&self.partials, &encoded)?.filter(|p| p.id == id) else {
            return Ok(Err(CommitError::NoBlob));
        };
        if let Some(conflict) = self.conflict(key, entry.blob, equivalents)? {
            return Ok(Err(conflict));
        }
        self.partials.remove(encoded.as_slice())?;
        match self.blob(&entry.blob)? {
            Some(_) => self.doom(id, partial.volume)?,
            None => {
                let blob = BlobRow::new(id, partial.volume, entry.size, entry.stored_at);
                self.put_blob(&entry.blob, &blob)?;
                // What is committed was hashed as it came.
                self.hashed(id, entry.stored_at)?;
            }
        }
        self.bind(key, entry).map(Ok)
    }

    /// Adds an entry for bytes that are held already.
    pub(in crate::store) fn link(
        &mut self,
        key: &EntryKey,
        entry: &Entry,
        equivalents: &[HubRoot],
    ) -> Verdict<Arc<Entry>> {
        if self.blob(&entry.blob)?.is_none_or(|blob| blob.size != entry.size) {
            return Ok(Err(CommitError::NoBlob));
        }
        if let Some(conflict) = self.conflict(key, entry.blob, equivalents)? {
            return Ok(Err(conflict));
        }
        self.bind(key, entry).map(Ok)
    }

    /// Adds an entry for bytes that lie in somebody else's file.
    pub(in crate::store) fn put_lent(&mut self, key: &EntryKey, entry: &Entry) -> Result<(), Failure> {
        if self.blob(&entry.blob)?.is_none() {
            let blob = BlobRow::new(self.allocate()?, LENT, entry.size, entry.stored_at);
            self.put_blob(&entry.blob, &blob)?;
        }
        self.bind(key, entry).map(drop)
    }

    /// Sets when the hub last confirmed an entry.
    pub(in crate::store) fn confirm(
        &mut self,
        key: &EntryKey,
        at: Timestamp,
    ) -> Result<Option<Arc<Entry>>, Failure> {
        let encoded = key.encode();
        let Some(mut entry) = row::<Entry>(&self.entries, &encoded)? else { return Ok(None) };
        entry.checked_at = at;
        self.entries.insert(encoded.as_slice(), entry.encode().as_slice())?;
        self.effects.changed.push(key.clone());
        Ok(Some(Arc::new(entry)))
    }

    /// Writes down when blobs were last used, and how often; those that are gone are skipped.
    pub(in crate::store) fn used(&mut self, uses: &[(Sha256, Use)]) -> Result<(), Failure> {
        for (sha, seen) in uses {
            if let Some(mut blob) = self.blob(sha)? {
                blob.last_used = blob.last_used.max(seen.last);
                blob.rank.uses = blob.rank.uses.saturating_add(seen.times).min(MOST_USES);
                self.put_blob(sha, &blob)?;
            }
        }
        Ok(())
    }

    /// Other bytes held for the same immutable thing, here or at a root that counts as the same.
    fn conflict(
        &self,
        key: &EntryKey,
        offered: Sha256,
        equivalents: &[HubRoot],
    ) -> Result<Option<CommitError>, Failure> {
        if !key.is_immutable() {
            return Ok(None);
        }
        let elsewhere = equivalents.iter().filter(|root| **root != key.root);
        for root in std::iter::once(&key.root).chain(elsewhere) {
            let same = EntryKey { root: root.clone(), ..key.clone() };
            if let Some(held) = row::<Entry>(&self.entries, &same.encode())?.filter(|e| e.blob != offered) {
                return Ok(Some(CommitError::Conflict { held: held.blob, offered }));
            }
        }
        Ok(None)
    }

    /// Writes the entry, takes a reference for it, and gives back that of the entry it replaces. The entry as it is then:
    /// who may read it follows from both words on the same bytes.
    fn bind(&mut self, key: &EntryKey, entry: &Entry) -> Result<Arc<Entry>, Failure> {
        let encoded = key.encode();
        let old = row::<Entry>(&self.entries, &encoded)?;
        let before = old.as_ref().filter(|old| old.blob == entry.blob).map(|old| old.access);
        let access = before.map_or(entry.access, |before| before.with(entry.access));
        let row = Entry { access, ..entry.clone() };
        self.entries.insert(encoded.as_slice(), row.encode().as_slice())?;
        self.effects.report(key.clone());
        if let Some(mut blob) = self.blob(&entry.blob)? {
            let replaced_itself = old.as_ref().is_some_and(|old| old.blob == entry.blob);
            blob.refs += u64::from(!replaced_itself);
            blob.last_used = blob.last_used.max(entry.stored_at);
            if let Some(oid) = git_id(entry) {
                blob.git = Some(oid);
                self.git.insert(&oid, &entry.blob.0)?;
            }
            self.put_blob(&entry.blob, &blob)?;
        }
        if let Some(old) = old.filter(|old| old.blob != entry.blob) {
            self.release(&old.blob)?;
        }
        Ok(Arc::new(row))
    }

    /// Gives back one reference; says the size of the blob if it was the last.
    pub(super) fn release(&mut self, sha: &Sha256) -> Result<Option<u64>, Failure> {
        let Some(mut blob) = self.blob(sha)? else { return Ok(None) };
        blob.refs = blob.refs.saturating_sub(1);
        if blob.refs > 0 {
            self.put_blob(sha, &blob)?;
            return Ok(None);
        }
        self.blobs.remove(&sha.0)?;
        if let Some(oid) = blob.git {
            // SHA-1 can be made to collide; the row may belong to other bytes.
            let ours = self.git.get(&oid)?.is_some_and(|row| row.value() == &sha.0);
            if ours {
                self.git.remove(&oid)?;
            }
        }
        if blob.volume != LENT {
            self.doom(blob.id, blob.volume)?;
        }
        Ok(Some(blob.size))
    }

    pub(super) fn blob(&self, sha: &Sha256) -> Result<Option<BlobRow>, Failure> {
        Ok(self.blobs.get(&sha.0)?.map(|row| BlobRow::decode(row.value())).transpose()?)
    }

    pub(super) fn put_blob(&mut self, sha: &Sha256, blob: &BlobRow) -> Result<(), Failure> {
        self.blobs.insert(&sha.0, blob.encode().as_slice())?;
        Ok(())
    }
}

/// The git blob id that the bytes of an entry are known to have.
fn git_id(entry: &Entry) -> Option<[u8; 20]> {
    let verified = entry.standing == Standing::Verified;
    entry.promises.iter().filter(|_| verified).find_map(|p| match p.digest {
        crate::model::Digest::GitSha1(oid) => Some(oid),
        _ => None,
    })
}
