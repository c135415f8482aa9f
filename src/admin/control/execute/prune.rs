//! What goes because an operator wants room.

use super::super::{Context, Failure, Reply, Space, Summary};
use super::settings::{Sink, tell, unreadable};
use crate::model::Timestamp;

/// Has files go, or tells which would.
pub(super) async fn prune(
    context: &Context,
    to: Option<u64>,
    is_plan: bool,
    sink: &Sink,
) -> Result<Summary, Failure> {
    let (store, now) = (context.cache.store(), Timestamp::now());
    let mut going = Vec::new();
    let mut done = Summary::default();
    if is_plan {
        going = store.would_go(to, now).await.map_err(unreadable)?;
        done.entries = going.iter().map(|one| one.count).sum();
        done.bytes = going.iter().map(|one| one.disk_bytes).sum();
    } else {
        let pruned = store.prune(to, now, |one| going.push(one)).await;
        let pruned = pruned.map_err(|error| Failure::io("not pruned", &error))?;
        (done.entries, done.bytes) = (pruned.entries, pruned.bytes);
    }
    done.blobs = going.len() as u64;
    for going in going {
        tell(sink, Reply::Going { going }).await;
    }
    let usage = store.usage();
    let space = Space { used_bytes: usage.disk_bytes, limit_bytes: usage.limit_bytes };
    tell(sink, Reply::Space { space }).await;
    Ok(done)
}
