//! A rule of the list of what is allowed.

use std::fmt;
use std::net::IpAddr;

use crate::model::Host;
use crate::policy::network::Network;

/// What a rule of `egress.allow` allows: `host`, `*.host`, an address or a network, each with `:port`, `:*` or without.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    hosts: Hosts,
    port: Port,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Hosts {
    Name(String),
    /// Everything below this name, and not the name.
    Below(String),
    Network(Network),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Port {
    /// 80 and 443.
    Usual,
    One(u16),
    Any,
}

/// A text that is no rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadPattern(pub &'static str);

impl fmt::Display for BadPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for BadPattern {}

impl Pattern {
    /// Reads a rule.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, BadPattern> {
        if text.contains("://") {
            return Err(BadPattern("a URL is given; leave out the scheme"));
        }
        let (hosts, port) = split_port(text)?;
        let hosts = match (hosts.split_once('/'), hosts.strip_prefix("*.")) {
            (Some(_), _) => Hosts::Network(Network::parse(hosts).map_err(BadPattern)?),
            (None, Some(name)) => match Host::parse(name) {
                Ok(Host::Name(name)) => Hosts::Below(name),
                _ => return Err(BadPattern("behind *. a name is needed")),
            },
            (None, None) if hosts.contains('*') => {
                return Err(BadPattern("a star stands for whole labels at the beginning only"));
            }
            // An IPv6 address that comes with no port needs no brackets.
            (None, None) => {
                match hosts.parse::<IpAddr>().map(Host::Address).or_else(|_| Host::parse(hosts)) {
                    Ok(Host::Name(name)) => Hosts::Name(name),
                    Ok(Host::Address(ip)) => Hosts::Network(Network::one(ip)),
                    Err(_) => return Err(BadPattern("the host is neither a name nor an address")),
                }
            }
        };
        Ok(Self { hosts, port })
    }

    /// The rule that allows a host on the usual ports.
    pub fn host(name: &str) -> Self {
        Self { hosts: Hosts::Name(name.to_owned()), port: Port::Usual }
    }

    /// The rule that allows all below a host on one port.
    pub fn below(name: &str, port: u16) -> Self {
        Self { hosts: Hosts::Below(name.to_owned()), port: Port::One(port) }
    }

    /// Whether it lists this host by name.
    pub(super) fn names(&self, host: &Host) -> bool {
        match (&self.hosts, host) {
            (Hosts::Name(listed), Host::Name(name)) => listed == name,
            (Hosts::Below(listed), Host::Name(name)) => {
                name.strip_suffix(listed.as_str()).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
            }
            _ => false,
        }
    }

    /// Whether it lists this address.
    pub(super) fn has_address(&self, ip: IpAddr) -> bool {
        matches!(&self.hosts, Hosts::Network(network) if network.has(ip))
    }

    /// Whether it lists this port.
    pub(super) fn has_port(&self, port: u16) -> bool {
        match self.port {
            Port::Usual => super::PORTS.contains(&port),
            Port::One(listed) => listed == port,
            Port::Any => true,
        }
    }
}

fn split_port(text: &str) -> Result<(&str, Port), BadPattern> {
    let after_address = text.rfind(']').map_or(0, |at| at + 1);
    let colons = text[after_address..].matches(':').count();
    if colons != 1 {
        return Ok((text, Port::Usual));
    }
    let at = after_address + text[after_address..].rfind(':').unwrap_or_default();
    let port = match &text[at + 1..] {
        "*" => Port::Any,
        digits => match digits.parse::<u16>() {
            Ok(port) if port > 0 && digits.bytes().all(|b| b.is_ascii_digit()) => Port::One(port),
            _ => return Err(BadPattern("the port is neither a number from 1 to 65535 nor *")),
        },
    };
    Ok((&text[..at], port))
}
