//! Which names the operators' door answers to.

use std::fmt;
use std::net::IpAddr;

use http::Request;
use http::header::{HOST, ORIGIN};

/// The name or address of a host, without a port: lower case, IPv6 without brackets, no final dot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostName(String);

impl HostName {
    /// Reads a host name or an IP address; `None` for anything with a port, a path or blanks.
    pub fn parse(text: &str) -> Option<Self> {
        let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
        if let Ok(ip) = bare.parse::<IpAddr>() {
            return Some(Self(ip.to_string()));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        let label =
            |l: &str| !l.is_empty() && l.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
        name.split('.').all(label).then(|| Self(name.to_ascii_lowercase()))
    }

    /// Takes the port away from the value of a `Host` field, then reads the rest.
    fn of_authority(text: &str) -> Option<Self> {
        let (name, port) = match text.rfind(':') {
            Some(colon) if !text.ends_with(']') => (&text[..colon], &text[colon + 1..]),
            _ => (text, ""),
        };
        // An IPv6 address stands in brackets here; without them its last group would pass for a port.
        if name.contains(':') && !name.starts_with('[') {
            return None;
        }
        port.bytes().all(|b| b.is_ascii_digit()).then(|| Self::parse(name)).flatten()
    }

    fn is_loopback(&self) -> bool {
        self.0 == "localhost" || self.0.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a request names a host that is the loopback or one of `configured`.
///
/// Every name that the request carries must be one: the `Host` field, and the authority of an absolute target
/// (RFC 9112, section 3.2.2, has the latter win, but a request whose two names differ deserves no answer here).
pub fn is_answered<B>(request: &Request<B>, configured: &[HostName]) -> bool {
    let is_ours = |authority: &str| {
        HostName::of_authority(authority).is_some_and(|n| n.is_loopback() || configured.contains(&n))
    };
    let mut fields = request.headers().get_all(HOST).iter();
    let (Some(field), None) = (fields.next(), fields.next()) else { return false };
    field.to_str().is_ok_and(is_ours) && request.uri().authority().is_none_or(|a| is_ours(a.as_str()))
}

/// Whether no page of another origin has made a request: browsers say where a request comes from (`Origin`,
/// `Sec-Fetch-Site`), other programs say nothing.
pub fn is_same_origin<B>(request: &Request<B>, configured: &[HostName]) -> bool {
    let headers = request.headers();
    let site = headers.get("sec-fetch-site").map(|site| site.as_bytes());
    let is_ours = |origin: &str| {
        let authority = origin.split_once("://").map(|(_, authority)| authority);
        let own = headers.get(HOST).and_then(|host| host.to_str().ok());
        authority.is_some()
            && authority == own
            && authority
                .and_then(HostName::of_authority)
                .is_some_and(|n| n.is_loopback() || configured.contains(&n))
    };
    let origin = headers.get(ORIGIN).map(|origin| origin.to_str().is_ok_and(is_ours));
    matches!(site, None | Some(b"same-origin" | b"none")) && origin.unwrap_or(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(target: &str, hosts: &[&str]) -> bool {
        let mut request = Request::builder().uri(target);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        let configured =
            [HostName::parse("Cache.example.org.").unwrap(), HostName::parse("[fd00::1]").unwrap()];
        is_answered(&request.body(()).unwrap(), &configured)
    }

    #[test]
    fn loopback_and_configured_names_are_answered() {
        let names = [
            "localhost",
            "LocalHost:8471",
            "localhost.",
            "127.0.0.1",
            "127.0.0.1:1",
            "127.8.9.10:8471",
            "[::1]",
            "[::1]:8471",
            "cache.example.org",
            "CACHE.example.org.:80",
            "[fd00::1]:8471",
        ];
        for name in names {
            assert!(answered("/metrics", &[name]), "{name}");
        }
        assert!(answered("http://localhost:8471/metrics", &["localhost:8471"]));
    }

    #[test]
    fn a_page_of_another_origin_is_told_by_what_its_browser_sends() {
        let asked = |fields: &[(&str, &str)]| {
            let mut request = Request::builder().uri("/-/events").header(HOST, "localhost:8471");
            for (name, value) in fields {
                request = request.header(*name, *value);
            }
            is_same_origin(&request.body(()).unwrap(), &[])
        };
        assert!(asked(&[]), "a program");
        assert!(asked(&[("origin", "http://localhost:8471"), ("sec-fetch-site", "same-origin")]));
        for fields in [
            &[("origin", "http://evil.example")][..],
            &[("origin", "http://localhost:9999")],
            &[("origin", "null")],
            &[("sec-fetch-site", "cross-site")],
            &[("sec-fetch-site", "same-site")],
        ] {
            assert!(!asked(fields), "{fields:?}");
        }
    }

    #[test]
    fn every_other_name_is_refused() {
        let names = [
            "",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "evil.localhost",
            "192.168.0.1:8471",
            "0.0.0.0",
            "[::]",
            "::1",
            "[::ffff:127.0.0.1]",
            "127.1",
            "2130706433",
            "0x7f.0.0.1",
            "localhost:8471x",
            "localhost:80:80",
            "localhost/",
            "user@localhost",
            "localhost evil",
            "org",
        ];
        for name in names {
            assert!(!answered("/metrics", &[name]), "{name}");
        }
        assert!(!answered("/metrics", &[]), "no name at all");
        assert!(!answered("/metrics", &["localhost", "localhost"]), "two names");
        assert!(!answered("http://evil.example/metrics", &["localhost"]));
        assert!(!answered("http://localhost/metrics", &["evil.example"]));
    }

    #[test]
    fn a_configured_name_has_no_port() {
        for bad in ["", "a:80", "a b", "http://a", "a/b", "a..b", "*"] {
            assert!(HostName::parse(bad).is_none(), "{bad:?}");
        }
    }
}
