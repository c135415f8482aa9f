//! Networks of addresses: `10.0.0.0/8`, `2001:db8::/32`, or one address.

use std::fmt;
use std::net::IpAddr;

/// Addresses that begin with the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// Reads an address with the number of its bits that count behind a slash, or an address alone. An IPv6 address may
    /// stand in brackets.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let Some((address, prefix)) = text.split_once('/') else {
            return bare(text).parse().map(Self::one).map_err(|_| "an address or a network is needed");
        };
        let address: IpAddr = bare(address).parse().map_err(|_| "before the slash an address is needed")?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.trim_end_matches(']').parse().ok().filter(|p| *p <= most);
        let prefix: u8 = prefix.ok_or("behind the slash a number of bits is needed")?;
        let host_bits = match address {
            IpAddr::V4(ip) => u128::from(ip.to_bits().checked_shl(u32::from(prefix)).unwrap_or(0)),
            IpAddr::V6(ip) => ip.to_bits().checked_shl(u32::from(prefix)).unwrap_or(0),
        };
        match host_bits {
            0 => Ok(Self { address, prefix }),
            _ => Err("the address has bits behind the prefix"),
        }
    }

    /// The network that has this address alone.
    pub fn one(address: IpAddr) -> Self {
        let address = address.to_canonical();
        Self { address, prefix: if address.is_ipv4() { 32 } else { 128 } }
    }

    /// Whether an address belongs to it. One of IPv4 that is written as one of IPv6 is that of IPv4.
    pub fn has(&self, address: IpAddr) -> bool {
        let prefix = u32::from(self.prefix);
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(ip)) => (net.to_bits() ^ ip.to_bits()).leading_zeros() >= prefix,
            (IpAddr::V6(net), IpAddr::V6(ip)) => (net.to_bits() ^ ip.to_bits()).leading_zeros() >= prefix,
            _ => false,
        }
    }
}

fn bare(address: &str) -> &str {
    address.trim_start_matches('[').trim_end_matches(']')
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_the_addresses_that_begin_like_it() {
        let table = [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "::ffff:10.0.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.0/8", "2001:db8::1", false),
            ("0.0.0.0/0", "192.0.2.1", true),
            ("192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7", "192.0.2.8", false),
            ("2001:db8::/32", "2001:db8:1::2", true),
            ("[::1]", "::1", true),
            ("::/0", "::1", true),
        ];
        for (network, address, want) in table {
            assert_eq!(
                Network::parse(network).unwrap().has(address.parse().unwrap()),
                want,
                "{network} {address}"
            );
        }
        for bad in ["", "10.0.0.0/33", "10.0.0.1/8", "example.org", "10.0.0.0/", "/8", "10.0.0.0/8/8"] {
            assert!(Network::parse(bad).is_err(), "{bad}");
        }
    }
}
