//! This server's own credentials in a request: where they stand, and that they go no further.
//!
//! | the request | its credential of this server | `Authorization` is |
//! |---|---|---|
//! | CONNECT, or for a URL (a client that has this server as its proxy) | `Proxy-Authorization` | the hub's |
//! | in a tunnel | that of the tunnel | the hub's |
//! | for a path | a field of the operator's choice | the hub's, unless it is that field |
//!
//! The field is taken out of the request whether it is any good or not, so that nothing behind here sees it.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version, header};

use super::Arrival;

/// As what a client sees this server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeenAs {
    /// As its proxy.
    Proxy,
    /// As the hub behind a tunnel.
    Tunnel,
    /// As a server of its own.
    Endpoint,
}

impl SeenAs {
    /// As what the client of a request does.
    pub fn of(head: &Parts, arrival: &Arrival) -> Self {
        let is_url = head.uri.authority().is_some() && head.version != Version::HTTP_2;
        match arrival {
            Arrival::Tunnel(_) => Self::Tunnel,
            Arrival::Plain | Arrival::Tls if head.method == Method::CONNECT || is_url => Self::Proxy,
            Arrival::Plain | Arrival::Tls => Self::Endpoint,
        }
    }
}

/// What a client shows.
pub enum Shown {
    /// Nothing.
    Nothing,
    /// Something that cannot be read.
    Garbled,
    /// A token of this server, or what passes for one.
    Token(Presented),
}

/// What was shown. It has no way to be printed.
pub struct Presented(Vec<u8>);

impl Presented {
    /// The bytes, for the one place that hashes them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Presented {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Presented(redacted)")
    }
}

/// Takes this server's credential out of a request; `field` is that of clients that see a server of its own. Where
/// nobody `asks`, what would be a credential is taken out all the same, but for `Authorization`, which is the hub's then.
pub fn take_credential(head: &mut Parts, seen_as: SeenAs, field: &HeaderName, asks: bool) -> Shown {
    let by_proxy = take(&mut head.headers, &header::PROXY_AUTHORIZATION);
    let own = *field != header::AUTHORIZATION || asks && seen_as == SeenAs::Endpoint;
    let by_field = if own { take(&mut head.headers, field) } else { Vec::new() };
    let (found, is_bare) = match seen_as {
        SeenAs::Proxy => (by_proxy, false),
        SeenAs::Endpoint => (by_field, *field != header::AUTHORIZATION),
        SeenAs::Tunnel => return Shown::Nothing,
    };
    match found.as_slice() {
        [] => Shown::Nothing,
        [one] => read(one.as_bytes(), is_bare).map_or(Shown::Garbled, |token| Shown::Token(Presented(token))),
        _ => Shown::Garbled,
    }
}

fn take(headers: &mut HeaderMap, field: &HeaderName) -> Vec<HeaderValue> {
    let found: Vec<HeaderValue> = headers.get_all(field).iter().cloned().collect();
    if !found.is_empty() {
        headers.remove(field);
    }
    found
}

/// The token in `Bearer TOKEN`, in `Basic` with it as the password or as a user name without one, or alone if it `is_bare`.
fn read(value: &[u8], is_bare: bool) -> Option<Vec<u8>> {
    let value = value.trim_ascii();
    let rest = |scheme: &str| {
        let (name, rest) = value.split_at_checked(scheme.len())?;
        let rest = rest.strip_prefix(b" ").filter(|_| name.eq_ignore_ascii_case(scheme.as_bytes()))?;
        Some(rest.trim_ascii())
    };
    if let Some(token) = rest("Bearer") {
        return Some(token.to_vec());
    }
    if let Some(encoded) = rest("Basic") {
        let decoded = STANDARD.decode(encoded).ok()?;
        let colon = decoded.iter().position(|b| *b == b':')?;
        let (user, password) = (&decoded[..colon], &decoded[colon + 1..]);
        return Some(if password.is_empty() { user } else { password }.to_vec());
    }
    is_bare.then(|| value.to_vec())
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    const OWN: HeaderName = HeaderName::from_static("x-own");

    /// What is shown, and the fields that stay.
    fn shown(
        seen_as: SeenAs,
        field: &HeaderName,
        asks: bool,
        fields: &[(&str, &str)],
    ) -> (String, Vec<String>) {
        let mut request = Request::builder().uri("/x");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let (mut head, ()) = request.body(()).unwrap().into_parts();
        let shown = match take_credential(&mut head, seen_as, field, asks) {
            Shown::Nothing => "-".to_owned(),
            Shown::Garbled => "?".to_owned(),
            Shown::Token(token) => String::from_utf8(token.expose().to_vec()).unwrap(),
        };
        (shown, head.headers.keys().map(ToString::to_string).collect())
    }

    #[test]
    fn each_way_has_its_field_and_the_hubs_own_stays() {
        let all =
            [("authorization", "Bearer hub"), ("proxy-authorization", "Bearer proxy"), ("x-own", "field")];
        let authorization = header::AUTHORIZATION;
        let table = [
            (SeenAs::Proxy, &OWN, true, "proxy", &["authorization"][..]),
            (SeenAs::Endpoint, &OWN, true, "field", &["authorization"]),
            (SeenAs::Endpoint, &OWN, false, "field", &["authorization"]),
            (SeenAs::Tunnel, &OWN, true, "-", &["authorization"]),
            (SeenAs::Endpoint, &authorization, true, "hub", &["x-own"]),
            (SeenAs::Endpoint, &authorization, false, "-", &["authorization", "x-own"]),
            (SeenAs::Proxy, &authorization, true, "proxy", &["authorization", "x-own"]),
            (SeenAs::Tunnel, &authorization, true, "-", &["authorization", "x-own"]),
        ];
        for (seen_as, field, asks, token, stay) in table {
            let (found, left) = shown(seen_as, field, asks, &all);
            assert_eq!(
                (found.as_str(), left),
                (token, stay.iter().map(|s| (*s).to_owned()).collect()),
                "{seen_as:?} {field} {asks}"
            );
        }
    }

    #[test]
    fn a_credential_is_read_in_each_of_its_forms() {
        let proxy = |value: &str| shown(SeenAs::Proxy, &OWN, true, &[("proxy-authorization", value)]).0;
        let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
        assert_eq!(proxy("bearer  t"), "t");
        assert_eq!(
            (proxy(&basic("x:t:u")), proxy(&basic("t:")), proxy(&basic(":t"))),
            ("t:u".into(), "t".into(), "t".into())
        );
        for bad in ["t", "Basic t", "Basic !", &basic("no colon"), "Digest x", "Bearer"] {
            assert_eq!(proxy(bad), "?", "{bad}");
        }
        let own = |value: &str| shown(SeenAs::Endpoint, &OWN, true, &[("x-own", value)]).0;
        assert_eq!((own(" t "), own("Bearer t"), own(&basic("a:t"))), ("t".into(), "t".into(), "t".into()));
        let twice = [("x-own", "a"), ("x-own", "b")];
        assert_eq!(shown(SeenAs::Endpoint, &OWN, true, &twice).0, "?");
    }
}
