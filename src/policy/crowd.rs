//! How much each client has of something that all share.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::model::ClientKey;

/// What is under way, in all and for each client. A clone counts the same.
#[derive(Clone, Debug)]
pub struct Crowd(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    most: usize,
    most_per_client: usize,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    /// Only of those who have one at least.
    clients: HashMap<ClientKey, usize>,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crowded {
    /// There are as many in all as may be.
    All,
    /// This client has as many as it may.
    Client,
}

/// A place among what is under way; given back when dropped.
#[derive(Debug)]
pub struct Spot {
    crowd: Crowd,
    client: ClientKey,
}

impl Crowd {
    /// Room for `most`, of which each client may have `most_per_client`.
    pub fn new(most: usize, most_per_client: usize) -> Self {
        Self(Arc::new(Shared { most, most_per_client, counts: Mutex::default() }))
    }

    /// One more of `client`'s.
    ///
    /// # Errors
    /// When there is no room for it; then the client's own limit is named before that of all.
    pub fn enter(&self, client: ClientKey) -> Result<Spot, Crowded> {
        let mut counts = self.counts();
        let Counts { all, clients } = &mut *counts;
        let slot = clients.entry(client);
        let has = if let Slot::Occupied(has) = &slot { *has.get() } else { 0 };
        if has >= self.0.most_per_client {
            return Err(Crowded::Client);
        }
        if *all >= self.0.most {
            return Err(Crowded::All);
        }
        *slot.or_insert(0) += 1;
        *all += 1;
        Ok(Spot { crowd: self.clone(), client })
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        // Each update is whole before anything can panic.
        self.0.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Spot {
    /// Whose it is.
    pub fn client(&self) -> ClientKey {
        self.client
    }
}

impl Drop for Spot {
    fn drop(&mut self) {
        let mut counts = self.crowd.counts();
        counts.all = counts.all.saturating_sub(1);
        if let Slot::Occupied(mut has) = counts.clients.entry(self.client) {
            *has.get_mut() -= 1;
            if *has.get() == 0 {
                has.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_has_so_many_and_all_together_no_more() {
        let crowd = Crowd::new(3, 2);
        let enter = |ip: &str| crowd.enter(ClientKey::of(ip.parse().unwrap()));
        let first = enter("10.0.0.1");
        let second = enter("::ffff:10.0.0.1");
        assert!(first.is_ok() && second.is_ok());
        assert_eq!(enter("10.0.0.1").err(), Some(Crowded::Client));
        let other = enter("10.0.0.2");
        assert!(other.is_ok());
        assert_eq!(enter("10.0.0.3").err(), Some(Crowded::All));
        assert_eq!(enter("10.0.0.1").err(), Some(Crowded::Client), "its own limit is named first");
        drop(first);
        let again = enter("10.0.0.1");
        assert!(again.is_ok(), "the one before is gone at once");
        drop((second, other, again));
        let counts = crowd.counts();
        assert!(counts.all == 0 && counts.clients.is_empty(), "nothing is left behind");
    }
}
