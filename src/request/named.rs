//! Whom a request addresses: what its target, the connection it came over, and `Host` say together.
//!
//! | came over | the target is | it names |
//! |---|---|---|
//! | the plain listener | a path | this server; the path says which hub (endpoint mode) |
//! | any listener | a URL (absolute form) | the URL's host; `Host` is not looked at (RFC 9112, section 3.2.2) |
//! | any listener | `host:port` of CONNECT | that place |
//! | the TLS listener | a path | the hub whose host `Host` names, else this server |
//! | an intercepted tunnel | a path | the hub to which the tunnel leads; another `Host` is misdirected |
//!
//! In HTTP/2 `:authority` has the part of `Host`.

use std::sync::Arc;

use http::request::Parts;
use http::uri::{Authority, Scheme};
use http::{Method, Version, header};

use super::path::Reject;
use crate::model::{Host, Hub, Place, SettingsPart};

/// How a request reached this server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Arrival {
    /// Over the plain listener.
    #[default]
    Plain,
    /// Over the listener that speaks TLS.
    Tls,
    /// Within a tunnel to this host of a hub, which is intercepted.
    Tunnel(Arc<str>),
}

/// Whom a request addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    /// This server.
    Endpoint,
    /// A hub, by its own host.
    Hub(Hub),
    /// A part of Remote Settings, by its own host.
    Settings(SettingsPart),
    /// Another server, to which the request is handed on.
    Elsewhere(Place),
    /// A place to which a tunnel is wanted.
    Tunnel(Place),
}

impl Named {
    /// The hub that is addressed by its own host.
    pub fn hub(&self) -> Option<Hub> {
        match self {
            Self::Hub(hub) => Some(*hub),
            Self::Endpoint | Self::Settings(_) | Self::Elsewhere(_) | Self::Tunnel(_) => None,
        }
    }
}

/// Whom a request addresses.
///
/// # Errors
/// When that cannot be said: a request of HTTP/1.1 must have one `Host` (RFC 9112, section 3.2), hosts and ports must
/// be such, and a tunnel leads to one hub.
pub fn named(head: &Parts, arrival: &Arrival) -> Result<Named, Reject> {
    let host = host(head)?;
    if head.method == Method::CONNECT {
        return match (arrival, head.uri.authority(), head.uri.scheme()) {
            (Arrival::Plain, Some(authority), None) => Ok(Named::Tunnel(place(authority, None)?)),
            _ => Err(Reject::NoTunnel),
        };
    }
    match (arrival, head.uri.authority()) {
        (Arrival::Tunnel(name), authority) => {
            let said = authority.map(Authority::as_str).or(host);
            within(name, said)
        }
        (Arrival::Tls, Some(authority)) if head.version == Version::HTTP_2 => {
            Ok(led_here(authority.as_str()).unwrap_or(Named::Endpoint))
        }
        (Arrival::Tls, None) => Ok(host.and_then(led_here).unwrap_or(Named::Endpoint)),
        (Arrival::Plain, None) => Ok(Named::Endpoint),
        (_, Some(authority)) => {
            let place = match head.uri.scheme() {
                Some(scheme) if *scheme == Scheme::HTTP => place(authority, Some(80))?,
                Some(scheme) if *scheme == Scheme::HTTPS => place(authority, Some(443))?,
                _ => return Err(Reject::Scheme),
            };
            let known = place.host.name().filter(|_| matches!(place.port, 80 | 443)).and_then(of_host);
            Ok(known.unwrap_or(Named::Elsewhere(place)))
        }
    }
}

/// The hub to which a place belongs, by the names that clients use; 80 is meant where the URL says http.
pub fn hub_at(place: &Place) -> Option<Hub> {
    let name = place.host.name().filter(|_| matches!(place.port, 80 | 443))?;
    Hub::of_host(name)
}

/// What clients name by this host, which is in lower case.
fn of_host(name: &str) -> Option<Named> {
    match Hub::of_host(name)? {
        Hub::Settings => SettingsPart::of_host(name).map(Named::Settings),
        hub => Some(Named::Hub(hub)),
    }
}

/// The hub whose name somebody's DNS leads here, for a request that says it is for `said`; anything else is taken as a
/// name of this server's own, and not looked at further.
fn led_here(said: &str) -> Option<Named> {
    let name = said.strip_suffix(":443").unwrap_or(said);
    let name = name.strip_suffix('.').unwrap_or(name);
    let mut hosts = Hub::ALL.into_iter().flat_map(Hub::hosts);
    hosts.find(|host| name.eq_ignore_ascii_case(host)).and_then(|host| of_host(host))
}

/// The one `Host`, if there is any.
fn host(head: &Parts) -> Result<Option<&str>, Reject> {
    let mut fields = head.headers.get_all(header::HOST).iter();
    let first = fields.next();
    if fields.next().is_some() || first.is_none() && head.version == Version::HTTP_11 {
        return Err(Reject::BadHost);
    }
    first.map(|value| value.to_str().map_err(|_| Reject::BadHost)).transpose()
}

fn place(authority: &Authority, default_port: Option<u16>) -> Result<Place, Reject> {
    Place::parse(authority.as_str(), default_port).map_err(Reject::BadPlace)
}

/// Whom a request in a tunnel to the host `name` addresses that says it is for `said`. The hosts of a hub are one.
fn within(name: &str, said: Option<&str>) -> Result<Named, Reject> {
    let named = of_host(name).ok_or(Reject::Misdirected)?;
    match said {
        None => Ok(named),
        Some(said) if said.eq_ignore_ascii_case(name) => Ok(named),
        Some(said) => match Place::parse(said, Some(443)) {
            Ok(Place { host: Host::Name(name), port: 443 }) if of_host(&name).as_ref() == Some(&named) => {
                Ok(named)
            }
            Ok(_) => Err(Reject::Misdirected),
            Err(bad) => Err(Reject::BadPlace(bad)),
        },
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn ask(arrival: &Arrival, method: &str, target: &str, host: Option<&str>, version: Version) -> String {
        let mut request = Request::builder().method(method).uri(target).version(version);
        if let Some(host) = host {
            request = request.header(header::HOST, host);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        match named(&head, arrival) {
            Ok(Named::Endpoint) => "here".to_owned(),
            Ok(Named::Hub(hub)) => hub.to_string(),
            Ok(Named::Settings(part)) => format!("{part:?}"),
            Ok(Named::Elsewhere(place)) => format!("at {place}"),
            Ok(Named::Tunnel(place)) => format!("to {place}"),
            Err(reject) => format!("{reject:?}"),
        }
    }

    #[test]
    fn the_target_names_the_host_and_host_does_not() {
        let plain = |method: &str, target: &str| {
            ask(&Arrival::Plain, method, target, Some("evil.example"), Version::HTTP_11)
        };
        let table = [
            ("GET", "/a/b/resolve/main/x", "here"),
            ("GET", "http://model-hub.mozilla.org/a/b/v1.0/x", "mozilla"),
            ("GET", "https://HF.co:443/a", "huggingface"),
            ("GET", "http://huggingface.co./a", "huggingface"),
            ("GET", "http://huggingface.co:8080/a", "at huggingface.co:8080"),
            ("GET", "http://huggingface.co.evil.net/a", "at huggingface.co.evil.net:80"),
            ("GET", "http://0x7f.1/a", "at 127.0.0.1:80"),
            ("CONNECT", "huggingface.co:443", "to huggingface.co:443"),
            ("CONNECT", "[::ffff:127.0.0.1]:443", "to 127.0.0.1:443"),
            ("GET", "http://a@huggingface.co/", "BadPlace(UserInfo)"),
            ("GET", "http://256.0.0.1/", "BadPlace(Host)"),
            ("GET", "ftp://huggingface.co/", "Scheme"),
            ("CONNECT", "huggingface.co:0", "BadPlace(Port)"),
        ];
        for (method, target, want) in table {
            assert_eq!(plain(method, target), want, "{target}");
        }
    }

    #[test]
    fn within_a_tunnel_and_over_tls_the_host_counts() {
        let tunnel = Arrival::Tunnel("huggingface.co".into());
        let settings = Arrival::Tunnel("firefox.settings.services.mozilla.com".into());
        let table = [
            (&tunnel, "/a", Some("huggingface.co"), "huggingface"),
            (&tunnel, "/a", Some("HuggingFace.co:443"), "huggingface"),
            (&tunnel, "/a", Some("hf.co"), "huggingface"),
            (&tunnel, "/a", Some("model-hub.mozilla.org"), "Misdirected"),
            (&tunnel, "/a", Some("127.0.0.1"), "Misdirected"),
            (&tunnel, "/a", Some("huggingface.co:80"), "Misdirected"),
            (&tunnel, "https://evil.net/a", Some("huggingface.co"), "Misdirected"),
            (&tunnel, "/a", Some("a b"), "BadPlace(Host)"),
            (&settings, "/v1/", Some("firefox.settings.services.mozilla.com"), "Server"),
            (&settings, "/v1/", Some("content-signature-2.cdn.mozilla.net"), "Misdirected"),
            (&Arrival::Tls, "/a", Some("content-signature-2.cdn.mozilla.net"), "Chains"),
            (&Arrival::Tls, "/a", Some("model-hub.mozilla.org"), "mozilla"),
            (&Arrival::Tls, "/a", Some("HF.co.:443"), "huggingface"),
            (&Arrival::Tls, "/a", Some("cache.corp:8443"), "here"),
            (&Arrival::Tls, "http://cache.corp/a", Some("x"), "at cache.corp:80"),
        ];
        for (arrival, target, host, want) in table {
            assert_eq!(ask(arrival, "GET", target, host, Version::HTTP_11), want, "{target} {host:?}");
        }
        let http2 = |arrival, target| ask(arrival, "GET", target, None, Version::HTTP_2);
        assert_eq!(http2(&tunnel, "https://huggingface.co/a"), "huggingface");
        assert_eq!(http2(&tunnel, "https://evil.net/a"), "Misdirected");
        assert_eq!(http2(&Arrival::Tls, "https://cache.corp:8443/a"), "here");
        assert_eq!(ask(&tunnel, "CONNECT", "huggingface.co:443", Some("x"), Version::HTTP_11), "NoTunnel");
    }

    #[test]
    fn one_host_is_needed() {
        let without = |version| ask(&Arrival::Plain, "GET", "/a", None, version);
        assert_eq!((without(Version::HTTP_11), without(Version::HTTP_10)), ("BadHost".into(), "here".into()));
        let request = Request::builder().uri("/a").header(header::HOST, "a").header(header::HOST, "a");
        let (head, ()) = request.body(()).unwrap().into_parts();
        assert_eq!(named(&head, &Arrival::Plain), Err(Reject::BadHost));
    }
}
