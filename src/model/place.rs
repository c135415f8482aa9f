//! A host and a port, in the one spelling in which they are compared.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// A host: its name in lower case and without a dot at its end, or its address.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// A name.
    Name(String),
    /// An address, never one that only wraps an IPv4 address.
    Address(IpAddr),
}

/// Why a text names no host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadPlace {
    /// There is a user name in it.
    UserInfo,
    /// The host is none.
    Host,
    /// The port is none, or missing where one is needed.
    Port,
}

impl fmt::Display for BadPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UserInfo => "the host has a user name or password before it",
            Self::Host => "the host is neither a name nor an address",
            Self::Port => "the port is not a number from 1 to 65535",
        })
    }
}

impl std::error::Error for BadPlace {}

impl Host {
    /// Reads a host as browsers do, so that every spelling of an address is that address: decimal, octal, shortened.
    ///
    /// # Errors
    /// When it is neither a name nor an address. Percent-encoding is refused: no client encodes a host.
    pub fn parse(text: &str) -> Result<Self, BadPlace> {
        if text.contains('%') || text.len() > 255 {
            return Err(BadPlace::Host);
        }
        match url::Host::parse(text).map_err(|_| BadPlace::Host)? {
            url::Host::Domain(name) => {
                let name = name.strip_suffix('.').unwrap_or(&name);
                let labels = name.split('.');
                match labels.into_iter().all(|label| !label.is_empty() && label.len() <= 63) {
                    true => Ok(Self::Name(name.to_owned())),
                    false => Err(BadPlace::Host),
                }
            }
            url::Host::Ipv4(ip) => Ok(Self::Address(ip.into())),
            url::Host::Ipv6(ip) => Ok(Self::Address(IpAddr::V6(ip).to_canonical())),
        }
    }

    /// The name, if it is one.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Name(name) => Some(name),
            Self::Address(_) => None,
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(IpAddr::V4(ip)) => ip.fmt(f),
            Self::Address(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
        }
    }
}

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The host.
    pub host: Host,
    /// The port.
    pub port: u16,
}

impl Place {
    /// Reads `host:port`, or `host` where there is a default for the port.
    ///
    /// # Errors
    /// See [`BadPlace`].
    pub fn parse(text: &str, default_port: Option<u16>) -> Result<Self, BadPlace> {
        if text.contains('@') {
            return Err(BadPlace::UserInfo);
        }
        let after_address = text.rfind(']').map_or(0, |at| at + 1);
        let (host, port) = match text[after_address..].rfind(':') {
            Some(at) => (&text[..after_address + at], Some(&text[after_address + at + 1..])),
            None => (text, None),
        };
        let host = Host::parse(host)?;
        let digits = port.filter(|p| !p.is_empty() && p.len() <= 5 && p.bytes().all(|b| b.is_ascii_digit()));
        let port = match (port, digits) {
            (None, _) => default_port,
            (Some(_), digits) => digits.and_then(|d| d.parse().ok()),
        };
        let port = port.filter(|port| *port > 0).ok_or(BadPlace::Port)?;
        Ok(Self { host, port })
    }

    /// The place of a URL, which must have a host.
    pub fn of_url(url: &url::Url) -> Option<Self> {
        let host = Host::parse(url.host_str()?).ok()?;
        Some(Self { host, port: url.port_or_known_default()? })
    }
}

impl From<SocketAddr> for Place {
    fn from(addr: SocketAddr) -> Self {
        Self { host: Host::Address(addr.ip().to_canonical()), port: addr.port() }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_place_is_one() {
        let table = [
            ("HuggingFace.co:443", "huggingface.co:443"),
            ("huggingface.co.:443", "huggingface.co:443"),
            ("huggingface.co", "huggingface.co:80"),
            ("127.1:1", "127.0.0.1:1"),
            ("0x7f000001", "127.0.0.1:80"),
            ("2130706433:8080", "127.0.0.1:8080"),
            ("0177.0.0.1", "127.0.0.1:80"),
            ("127.0.0.1.", "127.0.0.1:80"),
            ("[::1]:443", "[::1]:443"),
            ("[::ffff:127.0.0.1]", "127.0.0.1:80"),
            ("[::FFFF:7f00:1]:1", "127.0.0.1:1"),
            ("①②⑦.0.0.1", "127.0.0.1:80"),
            ("bücher.example", "xn--bcher-kva.example:80"),
        ];
        for (text, want) in table {
            assert_eq!(Place::parse(text, Some(80)).unwrap().to_string(), want, "{text}");
        }
    }

    #[test]
    fn what_is_no_place_is_refused() {
        for text in [
            "",
            ":80",
            "a@b:80",
            "a:b@c",
            "a b",
            "a:0",
            "a:65536",
            "a:-1",
            "a:+1",
            "a:",
            "a:80:80",
            "[::1",
            "::1",
            "[fe80::1%25eth0]",
            "%6cocalhost",
            "a..b",
            "256.1.1.1",
            "1.2.3.4.5",
            "a/b",
            "a\\b",
            "a#b",
            "a?b",
            ".a",
            "..",
        ] {
            assert!(Place::parse(text, Some(80)).is_err(), "{text}: {:?}", Place::parse(text, Some(80)));
        }
        assert_eq!(Place::parse("a", None), Err(BadPlace::Port));
    }
}
