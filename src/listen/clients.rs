//! How many connections each client has.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Who is turned away would otherwise fill the log.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// The connections of all clients. Of IPv6 a network of 64 bits is one client, since each of its hosts has all of it to
/// choose from.
#[derive(Clone)]
pub(super) struct Clients {
    most: usize,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// Only of those that have one at least.
    connections: HashMap<IpAddr, usize>,
    warned_at: Option<Instant>,
}

/// A connection's place among those of its client.
pub(super) struct Place {
    clients: Clients,
    client: IpAddr,
}

impl Clients {
    /// Each client may have `most`.
    pub(super) fn new(most: usize) -> Self {
        Self { most, state: Arc::default() }
    }

    /// One more connection from `ip`, unless it has as many as it may.
    pub(super) fn enter(&self, ip: IpAddr) -> Option<Place> {
        let client = client(ip);
        let mut state = self.state();
        let count = state.connections.entry(client).or_default();
        if *count >= self.most {
            if state.warned_at.is_none_or(|at| at.elapsed() > WARNING_INTERVAL) {
                state.warned_at = Some(Instant::now());
                tracing::warn!(
                    %client,
                    "a client has as many connections as it may; more are closed (listen.max_connections_per_client)"
                );
            }
            return None;
        }
        *count += 1;
        Some(Place { clients: self.clone(), client })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each update is a single assignment.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.clients.state();
        if let Some(count) = state.connections.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                state.connections.remove(&self.client);
            }
        }
    }
}

fn client(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_has_so_many_and_no_more() {
        let clients = Clients::new(2);
        let enter = |ip: &str| clients.enter(ip.parse().unwrap());
        let first = enter("10.0.0.1");
        let second = enter("::ffff:10.0.0.1");
        assert!(first.is_some() && second.is_some() && enter("10.0.0.1").is_none());
        assert!(enter("10.0.0.2").is_some());
        drop(first);
        assert!(enter("10.0.0.1").is_some(), "the one before is gone at once");
        let _network = (enter("2001:db8::1"), enter("2001:db8::2"));
        assert!(enter("2001:db8::3").is_none() && enter("2001:db8:0:1::1").is_some());
        drop((second, _network));
        assert!(clients.state().connections.is_empty());
    }
}
