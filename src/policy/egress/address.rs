//! What kind of address an address is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// From where an address can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// From everywhere.
    Public,
    /// From networks of its owner, or for a special use (RFC 6890): private, shared, reserved, multicast.
    Private,
    /// From this machine: loopback, and the unspecified address, which leads there.
    Loopback,
    /// Link-local, and the metadata service that Amazon's cloud has beside those: never connected to.
    Never,
}

impl Scope {
    /// What an address of this scope is, for a message.
    pub(super) fn what(self) -> &'static str {
        match self {
            Self::Public => "is public",
            Self::Private => "is not a public address",
            Self::Loopback => "is an address of this machine",
            Self::Never => "is link-local",
        }
    }
}

/// The scope of an address; of one that carries an IPv4 address, that of the inner one, if it is narrower.
pub fn scope(ip: IpAddr) -> Scope {
    match innermost(ip) {
        IpAddr::V4(ip) => scope_v4(ip),
        IpAddr::V6(ip) => scope_v6(ip),
    }
}

/// The IPv4 address that an IPv6 address stands for: mapped (RFC 4291), translated (NAT64, RFC 6052 and 8215),
/// compatible (RFC 4291), 6to4 (RFC 3056), Teredo (RFC 4380).
pub(super) fn innermost(ip: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = ip else { return ip };
    let s = v6.segments();
    let pair = |high: u16, low: u16| IpAddr::V4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)));
    match s {
        [0, 0, 0, 0, 0, 0xffff, a, b] | [0x64, 0xff9b, 0, 0, 0, 0, a, b] => pair(a, b),
        // Of the networks that RFC 8215 leaves to translators, whose form the owner chooses, the commonest.
        [0x64, 0xff9b, 1, _, _, _, a, b] => pair(a, b),
        [0, 0, 0, 0, 0, 0, a, b] if a != 0 || b > 1 => pair(a, b),
        [0x2002, a, b, ..] => pair(a, b),
        [0x2001, 0, _, _, _, _, a, b] => pair(!a, !b),
        _ => ip,
    }
}

fn scope_v4(ip: Ipv4Addr) -> Scope {
    let [a, b, c, _] = ip.octets();
    if ip.is_link_local() {
        return Scope::Never;
    }
    if ip.is_loopback() || a == 0 {
        return Scope::Loopback;
    }
    let shared = a == 100 && b & 0xc0 == 64;
    let protocols = a == 192 && b == 0 && c == 0;
    let benchmarks = a == 198 && b & 0xfe == 18;
    let reserved = a >= 224;
    match ip.is_private() || shared || protocols || benchmarks || reserved || ip.is_documentation() {
        true => Scope::Private,
        false => Scope::Public,
    }
}

fn scope_v6(ip: Ipv6Addr) -> Scope {
    const AMAZON: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    if ip.is_unicast_link_local() || ip == AMAZON {
        return Scope::Never;
    }
    if ip.is_loopback() || ip.is_unspecified() {
        return Scope::Loopback;
    }
    // Of all space only 2000::/3 is given out for use everywhere; documentation lies in it.
    let s = ip.segments();
    let documentation = s[0] == 0x2001 && s[1] == 0xdb8 || s[0] == 0x3fff && s[1] < 0x1000;
    match s[0] & 0xe000 == 0x2000 && !documentation {
        true => Scope::Public,
        false => Scope::Private,
    }
}
