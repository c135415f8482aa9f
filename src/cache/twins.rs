//! Files that cost nothing: they are empty, or their bytes are here under another name.
//!
//! Python clients only ask about such files (HEAD) and never for their bytes, as they have these already. Without the
//! clients' help they are held from then on, so that they are there when the hub is not.

use std::sync::Arc;

use moka::ops::compute::Op;
use moka::sync::Cache as Memory;

use super::{Cache, Fetcher};
use crate::model::{Digest, Expectation, Promise, Resource, Revision, Urgency};

/// Most names that wait for the same bytes.
const MAX_TWINS: usize = 64;

/// Files that were asked about and are not held, by what their bytes must hash to.
pub(super) struct Twins(Memory<Digest, Arc<Vec<Resource>>>);

impl Twins {
    /// Remembers so many digests.
    pub(super) fn new(most: u64) -> Self {
        Self(Memory::new(most))
    }

    fn add(&self, digest: Digest, file: &Resource) {
        self.0.entry(digest).and_compute_with(|known| {
            let mut files = known.map(|k| k.into_value().to_vec()).unwrap_or_default();
            if files.len() >= MAX_TWINS || files.contains(file) {
                return Op::Nop;
            }
            files.push(file.clone());
            Op::Put(Arc::new(files))
        });
    }

    fn take(&self, digest: &Digest) -> Vec<Resource> {
        self.0.remove(digest).map(|files| files.to_vec()).unwrap_or_default()
    }
}

impl Fetcher {
    /// Sees to it that a file which a client asked about is held, now or once its bytes are here under another name.
    pub(super) fn take_what_is_here(self: &Arc<Self>, asked: &Resource, said: &Expectation) {
        let subject = match (&asked.revision, &said.representation.commit) {
            (Revision::Named(_), Some(commit)) => asked.at(Revision::Commit(commit.clone())),
            _ => asked.clone(),
        };
        if !subject.revision.is_immutable() || !self.cache.lacks(&subject) {
            return;
        }
        let costs_nothing = || said.representation.size == Some(0) || self.cache.has_bytes(said);
        if !costs_nothing() {
            names(&said.promises).for_each(|digest| self.twins.add(digest, &subject));
            // The bytes may have come between the two.
            if !costs_nothing() {
                return;
            }
        }
        self.take(&subject);
    }

    /// Holds all that were asked about and have the bytes that came under the name of `file`.
    pub(super) fn take_twins(self: &Arc<Self>, file: &Resource, promises: &[Promise]) {
        let twins = names(promises).flat_map(|digest| self.twins.take(&digest));
        let twins: Vec<_> = twins.filter(|twin| twin != file && self.cache.lacks(twin)).collect();
        twins.iter().for_each(|twin| self.take(twin));
    }

    fn take(self: &Arc<Self>, file: &Resource) {
        // The ticket is dropped at once: nobody waits for it.
        if let Err(error) = self.follow_as(Urgency::Background, file, file, None) {
            tracing::debug!(%file, %error, "what costs nothing is not taken");
        }
    }
}

impl Cache {
    fn lacks(&self, file: &Resource) -> bool {
        matches!(self.entry_for_all(file), Ok(None))
    }

    /// Whether bytes are held of which is promised what is promised here.
    fn has_bytes(&self, said: &Expectation) -> bool {
        let blob = match (said.sha256(), said.git_sha1()) {
            (Some(sha256), _) => Some(sha256),
            (None, Some(oid)) => self.store.sha256_of_git(&oid).ok().flatten(),
            (None, None) => None,
        };
        blob.is_some_and(|blob| self.store.blob(&blob).is_ok_and(|held| held.is_some()))
    }
}

/// The digests by which bytes are found again.
fn names(promises: &[Promise]) -> impl Iterator<Item = Digest> {
    promises.iter().map(|p| p.digest).filter(|d| matches!(d, Digest::Sha256(_) | Digest::GitSha1(_)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Hub, Repo, RepoKind};

    #[test]
    fn names_that_wait_for_the_same_bytes_are_taken_together_and_are_bounded() {
        let twins = Twins::new(10);
        let digest = Digest::GitSha1([1; 20]);
        let file = |path: usize| Resource {
            hub: Hub::HuggingFace,
            repo: Repo { kind: RepoKind::Model, id: "a/b".into() },
            revision: Revision::parse(Hub::HuggingFace, &"a".repeat(40)),
            path: path.to_string(),
        };
        for path in (0..MAX_TWINS + 5).chain([0, 1]) {
            twins.add(digest, &file(path));
        }
        let taken = twins.take(&digest);
        assert_eq!(taken, (0..MAX_TWINS).map(file).collect::<Vec<_>>());
        assert!(twins.take(&digest).is_empty());
    }
}
