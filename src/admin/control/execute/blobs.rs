//! The bytes of blobs, as they are stored.

use super::super::{Failure, MAX_BLOBS, Reply, Summary};
use super::Job;
use crate::model::Sha256;
use crate::store::{CHUNK, chunks_of};

impl Job {
    /// Sends blobs one behind the other, the first from some place on. Whoever receives them holds them against their
    /// names.
    pub(super) fn send_blobs(&self, blobs: &[Sha256], from: u64) -> Result<Summary, Failure> {
        if blobs.len() > MAX_BLOBS {
            return Err(Failure {
                error: format!("at most {MAX_BLOBS} blobs at a time"),
                exit: Failure::USAGE,
            });
        }
        let mut sent = Summary::default();
        for (number, digest) in blobs.iter().enumerate() {
            let from = if number == 0 { from } else { 0 };
            let Some(bytes) = self.send_blob(digest, from)? else { break };
            (sent.blobs, sent.bytes) = (sent.blobs + 1, sent.bytes + bytes);
        }
        Ok(sent)
    }

    /// How many bytes were sent; none when nobody listens any more.
    fn send_blob(&self, digest: &Sha256, from: u64) -> Result<Option<u64>, Failure> {
        let failed = |error| Failure::io(&format!("sha256:{digest} cannot be read"), &error);
        let gone = || Failure { error: format!("sha256:{digest} is not held"), exit: Failure::NO_INPUT };
        let blob = self.store.open_blob(digest).map_err(failed)?.ok_or_else(gone)?;
        let size = blob.size().ok_or_else(gone)?;
        let chunk = CHUNK as u64;
        let (first, mut skip) = (u32::try_from(from / chunk).unwrap_or(u32::MAX), (from % chunk) as usize);
        for index in first..chunks_of(size) {
            let read = blob.read(index).map_err(failed)?;
            let bytes = read.slice(skip.min(read.len())..);
            skip = 0;
            if self.tell(Reply::Chunk { chunk_bytes: bytes.len(), bytes }).is_break() {
                return Ok(None);
            }
        }
        Ok(Some(size.saturating_sub(from)))
    }
}
