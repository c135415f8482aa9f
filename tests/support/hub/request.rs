//! One parsed request, and the small readings of it that both layouts need.

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// A request as it came.
#[derive(Clone, Debug, Default)]
pub(super) struct Request {
    pub method: String,
    /// The request target, undecoded.
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    /// Reads a head without its closing empty line; `None` when it is no HTTP/1 request.
    pub fn parse(head: &str) -> Option<Self> {
        let mut lines = head.split("\r\n");
        let mut first = lines.next()?.split(' ');
        let (method, target, version) = (first.next()?, first.next()?, first.next()?);
        if !version.starts_with("HTTP/1.") || first.next().is_some() {
            return None;
        }
        let headers = lines
            .map(|line| {
                let (name, value) = line.split_once(':')?;
                Some((name.to_owned(), value.trim().to_owned()))
            })
            .collect::<Option<Vec<_>>>()?;
        Some(Self { method: method.to_owned(), target: target.to_owned(), headers, body: Vec::new() })
    }

    /// The first header of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }

    /// The path, undecoded.
    pub fn path(&self) -> &str {
        self.target.split_once('?').map_or(&self.target, |(path, _)| path)
    }

    /// The query, undecoded; empty when there is none.
    pub fn query(&self) -> &str {
        self.target.split_once('?').map_or("", |(_, query)| query)
    }

    /// The query, decoded.
    pub fn parameters(&self) -> Vec<(String, String)> {
        form(self.query())
    }

    /// The first value that the query has for `name`.
    pub fn parameter(&self, name: &str) -> Option<String> {
        self.parameters().into_iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// Every value that the query has for `name`, which some clients write `name[]`.
    pub fn all(&self, name: &str) -> Vec<String> {
        let named = |key: &str| key == name || key.strip_suffix("[]") == Some(name);
        self.parameters().into_iter().filter(|(key, _)| named(key)).map(|(_, value)| value).collect()
    }

    /// Whether the query says yes to `name`: `true`, Python's `True`, or `1`.
    pub fn flag(&self, name: &str) -> bool {
        self.parameter(name).is_some_and(|value| value == "1" || value.eq_ignore_ascii_case("true"))
    }

    /// The bearer token.
    pub fn token(&self) -> Option<&str> {
        self.header("authorization")?.strip_prefix("Bearer ")
    }

    /// Whether the client takes gzip.
    pub fn takes_gzip(&self) -> bool {
        self.header("accept-encoding").is_some_and(|v| {
            v.split(',').any(|coding| {
                let mut parts = coding.split(';').map(str::trim);
                parts.next() == Some("gzip") && parts.all(|q| q != "q=0")
            })
        })
    }

    /// Whether the connection ends after the answer at the client's wish.
    pub fn closes(&self) -> bool {
        self.header("connection").is_some_and(|v| v.eq_ignore_ascii_case("close"))
    }
}

/// The first of `headers` with that name.
pub(super) fn header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
}

/// Decodes `%xx`; bytes that are no UTF-8 are replaced, as such names are never published.
pub(super) fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// Encodes everything but letters and digits.
pub(super) fn encode(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// Decodes `a=b&c=d`.
pub(super) fn form(text: &str) -> Vec<(String, String)> {
    let plus = |s: &str| decode(&s.replace('+', " "));
    text.split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(key, value)| (plus(key), plus(value)))
        .collect()
}
