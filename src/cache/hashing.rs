//! Hashes a file in file order while it arrives, on threads that may block.

use std::sync::Arc;

use bytes::Bytes;

use super::FillError;
use super::flight::Flight;
use crate::model::Promise;
use crate::store::Blob;
use crate::verify::{Digester, Digests};

/// Chunks that are hashed in one go.
const BATCH: u32 = 8;

enum Step {
    Hash(Vec<Vec<Bytes>>),
    ReadBack(Blob, u32),
    Wait,
    Done,
}

/// Computes what was promised of the flight's current attempt. Chunks that are no longer in memory (fetched early,
/// or before a restart) are read back.
pub(super) async fn run(flight: Arc<Flight>, promises: Vec<Promise>) -> Result<Digests, FillError> {
    let mut version = flight.watch_milestones();
    let needs_size = Digester::needs_size(&promises);
    let size = loop {
        version.borrow_and_update();
        let size = {
            let mut state = flight.look();
            state.chunks.hash_waits = needs_size && state.chunks.size.is_none();
            state.chunks.size
        };
        if size.is_some() || !needs_size {
            break size;
        }
        version.changed().await.map_err(|_| FillError::Abandoned)?;
    };
    let mut digester = Digester::new(&promises, size);
    let mut next = 0;
    loop {
        version.borrow_and_update();
        let (hashed, count) = match step(&flight, next)? {
            Step::Done => return Ok(digester.finish()),
            Step::Wait => {
                version.changed().await.map_err(|_| FillError::Abandoned)?;
                continue;
            }
            Step::Hash(chunks) => {
                let count = u32::try_from(chunks.len()).expect("a batch is small");
                let hashed = tokio::task::spawn_blocking(move || {
                    chunks.iter().flatten().for_each(|piece| digester.update(piece));
                    Ok(digester)
                });
                (hashed, count)
            }
            Step::ReadBack(blob, index) => {
                let hashed = tokio::task::spawn_blocking(move || {
                    digester.update(&blob.read(index)?);
                    Ok(digester)
                });
                (hashed, 1)
            }
        };
        digester = hashed.await.map_err(|_| FillError::Abandoned)?.map_err(FillError::Store)?;
        next += count;
        flight.change(|s| {
            s.chunks.hashed = next;
            s.trim();
        });
    }
}

fn step(flight: &Flight, next: u32) -> Result<Step, FillError> {
    let state = flight.look();
    let chunks = &state.chunks;
    if chunks.count().is_some_and(|count| next >= count) {
        return Ok(Step::Done);
    }
    if !chunks.is_complete(next) {
        return Ok(Step::Wait);
    }
    let batch: Vec<_> = (next..next + BATCH)
        .take_while(|i| chunks.count().is_none_or(|count| *i < count))
        .map_while(|i| chunks.pieces(i))
        .collect();
    match &state.blob {
        _ if !batch.is_empty() => Ok(Step::Hash(batch)),
        Some(blob) if chunks.is_durable(next) => Ok(Step::ReadBack(blob.clone(), next)),
        _ => Err(FillError::Gone),
    }
}
