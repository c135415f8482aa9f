//! Who is behind requests, as far as limits tell clients apart.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// A client. Of IPv6 a network of 64 bits is one, since each of its hosts has all of it to choose from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientKey(IpAddr);

impl ClientKey {
    /// Whoever comes from `ip`.
    pub fn of(ip: IpAddr) -> Self {
        Self(match ip.to_canonical() {
            IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
            v4 => v4,
        })
    }
}

impl fmt::Display for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_client_are_one() {
        let key = |ip: &str| ClientKey::of(ip.parse().unwrap());
        let cases = [
            ("10.0.0.1", "::ffff:10.0.0.1", true),
            ("10.0.0.1", "10.0.0.2", false),
            ("2001:db8::1", "2001:db8::2", true),
            ("2001:db8::1", "2001:db8:0:1::1", false),
        ];
        for (a, b, same) in cases {
            assert_eq!(key(a) == key(b), same, "{a} and {b}");
        }
    }
}
