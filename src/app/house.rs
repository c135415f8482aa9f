//! What a server does by itself, now and every so often.

use std::sync::Arc;
use std::time::Duration;

use crate::model::Timestamp;
use crate::remote_settings::{self as rs, RemoteSettings};
use crate::store::{Store, StoreError};

/// How often it is looked for what has expired.
const EXPIRY: Duration = Duration::from_secs(600);
/// How often it is looked whether the data directory is within its bound, and whether space can be given back.
const SPACE: Duration = Duration::from_secs(10);

/// Lets go of what has expired, and keeps the data directory within its bound.
pub(super) async fn keep(store: Store, remote: Option<Arc<RemoteSettings>>, grants_for: Duration) {
    let mut expiry = tokio::time::interval(EXPIRY);
    let mut space = tokio::time::interval(SPACE);
    space.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut was_within = true;
    loop {
        tokio::select! {
            _ = expiry.tick() => expire(&store, remote.as_deref(), grants_for).await,
            _ = space.tick() => was_within = tend(&store, was_within).await,
        }
    }
}

async fn expire(store: &Store, remote: Option<&RemoteSettings>, grants_for: Duration) {
    let now = Timestamp::now();
    let oldest = u64::try_from(grants_for.as_millis()).unwrap_or(u64::MAX);
    if let Err(error) = store.expire_grants(Timestamp(now.0.saturating_sub(oldest))).await {
        tracing::warn!(%error, "what callers were granted long ago cannot be removed");
    }
    match store.expire(now).await {
        Ok(expired) if expired.partials > 0 => {
            tracing::info!(partials = expired.partials, "unfinished files have expired");
        }
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "what has expired cannot be removed"),
    }
    match rs::end_pins(store, now).await {
        Ok(told) => {
            if let Some(remote) = remote {
                remote.decided(&told);
            }
        }
        Err(error) => tracing::warn!(%error, "pins whose time is over cannot be removed"),
    }
}

/// Whether the data directory is within its bound now; that it is not is said once.
async fn tend(store: &Store, was_within: bool) -> bool {
    match store.tend(Timestamp::now()).await {
        Ok(is_within) => {
            if was_within && !is_within {
                tracing::warn!(
                    "the data directory takes more than store.max_size, and nothing more can go: what is pinned, held or \
                     read stays"
                );
            }
            is_within
        }
        Err(StoreError::Closed) => was_within,
        Err(error) => {
            tracing::warn!(%error, "space cannot be given back");
            was_within
        }
    }
}
