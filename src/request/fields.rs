//! Header fields of a request for a file: ranges and conditions (RFC 9110, sections 13 and 14).

use http::{HeaderMap, Method, header};

/// A single byte range, as asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    /// `a-b`, both inclusive.
    Closed(u64, u64),
    /// `a-`.
    From(u64),
    /// `-n`: the last n bytes.
    Suffix(u64),
}

impl Range {
    /// The one range that a request asks for; `None` for no range, several, another unit, or one that is malformed:
    /// RFC 9110, section 14.2, lets a server answer all of these with the whole.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let mut fields = headers.get_all(header::RANGE).iter();
        let text = fields.next()?.to_str().ok()?;
        if fields.next().is_some() {
            return None;
        }
        let (unit, set) = text.split_once('=')?;
        if !unit.trim().eq_ignore_ascii_case("bytes") {
            return None;
        }
        let (first, last) = set.trim().split_once('-')?;
        let number = |s: &str| -> Option<u64> {
            (!s.is_empty() && s.bytes().all(|b| b.is_ascii_digit())).then(|| s.parse().unwrap_or(u64::MAX))
        };
        match (first, last) {
            ("", n) => number(n).map(Self::Suffix),
            (a, "") => number(a).map(Self::From),
            (a, b) => {
                let (a, b) = (number(a)?, number(b)?);
                (a <= b).then_some(Self::Closed(a, b))
            }
        }
    }

    /// Whether the range begins with the first byte of the file, whatever the file's size.
    pub fn starts_at_zero(self) -> bool {
        matches!(self, Self::Closed(0, _) | Self::From(0))
    }

    /// The first byte and the one behind the last, if the range says both.
    pub fn closed(self) -> Option<(u64, u64)> {
        match self {
            Self::Closed(first, last) => Some((first, last.saturating_add(1))),
            Self::From(_) | Self::Suffix(_) => None,
        }
    }
}

/// The part of a file that a response carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selected {
    /// 200 and every byte.
    Whole,
    /// 206 and the bytes from `start` up to but not including `end`.
    Part {
        /// First byte.
        start: u64,
        /// One past the last byte.
        end: u64,
    },
    /// 416: nothing of the range lies in the file.
    None,
}

/// What `range` selects of a file of `size` bytes; an end past the file is clamped (hf_transfer asks so).
pub fn select(range: Option<Range>, size: u64) -> Selected {
    let (start, end) = match range {
        None => return Selected::Whole,
        Some(Range::Closed(a, b)) => (a, b.saturating_add(1).min(size)),
        Some(Range::From(a)) => (a, size),
        Some(Range::Suffix(n)) => (size.saturating_sub(n), size),
    };
    if start >= end { Selected::None } else { Selected::Part { start, end } }
}

/// If-None-Match and If-Range of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    if_none_match: Vec<String>,
    if_range: Option<String>,
}

impl Conditions {
    /// Reads both fields; unreadable ones count as absent for If-None-Match, and as not matching for If-Range.
    pub fn of(headers: &HeaderMap) -> Self {
        let texts = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|v| v.to_str().ok());
        let if_none_match = texts.flat_map(|t| t.split(',')).map(|t| t.trim().to_owned()).collect();
        let if_range =
            headers.get(header::IF_RANGE).map(|v| v.to_str().unwrap_or_default().trim().to_owned());
        Self { if_none_match, if_range }
    }

    /// Whether the client holds the file with this tag already (weak comparison, RFC 9110, section 13.1.2).
    pub fn not_modified(&self, etag: Option<&str>) -> bool {
        let Some(etag) = etag else { return false };
        self.if_none_match.iter().any(|t| t == "*" || opaque(t) == opaque(etag))
    }

    /// Whether a range may be served: no If-Range, or one that matches strongly. A date never matches, since the
    /// hubs' modification times are no validators of content.
    pub fn range_applies(&self, etag: Option<&str>) -> bool {
        match &self.if_range {
            None => true,
            Some(tag) => !tag.starts_with("W/") && etag == Some(tag),
        }
    }
}

fn opaque(tag: &str) -> &str {
    tag.strip_prefix("W/").unwrap_or(tag)
}

/// Whether the client asks for a mutable thing to be checked with the hub now.
pub fn forces_revalidation(headers: &HeaderMap) -> bool {
    let directives = headers.get_all(header::CACHE_CONTROL).iter().filter_map(|v| v.to_str().ok());
    let told = directives.flat_map(|v| v.split(',')).any(|d| {
        let d = d.trim();
        d.eq_ignore_ascii_case("no-cache") || d.eq_ignore_ascii_case("max-age=0")
    });
    let pragma = headers.get(header::PRAGMA).is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"no-cache"));
    told || (pragma && !headers.contains_key(header::CACHE_CONTROL))
}

/// Whether the client is a Firefox, which a body that ends early wedges for good.
pub fn client_is_firefox(headers: &HeaderMap) -> bool {
    let agent = headers.get(header::USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    agent.contains("Firefox/") && agent.contains("Gecko/")
}

/// Whether a request is a cross-origin preflight, which a browser sends before it asks for what it wants.
pub fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    *method == Method::OPTIONS
        && headers.contains_key(header::ORIGIN)
        && headers.get(header::ACCESS_CONTROL_REQUEST_METHOD).is_some_and(|m| m == "GET" || m == "HEAD")
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn range(text: &str) -> Option<Range> {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, HeaderValue::from_str(text).unwrap());
        Range::of(&headers)
    }

    #[test]
    fn single_ranges_are_read_and_others_mean_the_whole() {
        assert_eq!(range("bytes=0-0"), Some(Range::Closed(0, 0)));
        assert_eq!(range("bytes=5-9"), Some(Range::Closed(5, 9)));
        assert_eq!(range("bytes=7-"), Some(Range::From(7)));
        assert_eq!(range("bytes=-3"), Some(Range::Suffix(3)));
        assert_eq!(range("bytes=0-99999999999999999999999"), Some(Range::Closed(0, u64::MAX)));
        for other in
            ["bytes=0-1,4-5", "bytes=5-4", "items=0-1", "bytes=", "bytes=-", "bytes=a-b", "bytes=+1-2", "0-1"]
        {
            assert_eq!(range(other), None, "{other}");
        }
    }

    #[test]
    fn ranges_are_clamped_to_the_file() {
        assert_eq!(
            select(range("bytes=62914560-67108864"), 67_108_864),
            Selected::Part { start: 62_914_560, end: 67_108_864 }
        );
        assert_eq!(select(range("bytes=-500"), 100), Selected::Part { start: 0, end: 100 });
        assert_eq!(select(range("bytes=100-"), 100), Selected::None);
        assert_eq!(select(range("bytes=-0"), 100), Selected::None);
        assert_eq!(select(range("bytes=0-0"), 0), Selected::None);
        assert_eq!(select(range("bytes=0-18446744073709551615"), 3), Selected::Part { start: 0, end: 3 });
        assert_eq!(select(None, 0), Selected::Whole);
    }

    #[test]
    fn conditions_compare_weakly_for_304_and_strongly_for_ranges() {
        let mut headers = HeaderMap::new();
        headers.insert(header::IF_NONE_MATCH, HeaderValue::from_static("\"x\", W/\"abc\""));
        headers.insert(header::IF_RANGE, HeaderValue::from_static("W/\"abc\""));
        let c = Conditions::of(&headers);
        assert!(c.not_modified(Some("\"abc\"")));
        assert!(!c.not_modified(Some("\"other\"")));
        assert!(!c.not_modified(None));
        assert!(!c.range_applies(Some("\"abc\"")));
        assert!(Conditions::default().range_applies(None));
        headers.insert(header::IF_RANGE, HeaderValue::from_static("\"abc\""));
        assert!(Conditions::of(&headers).range_applies(Some("\"abc\"")));
    }

    #[test]
    fn firefox_is_told_from_others_by_its_user_agent() {
        let mut headers = HeaderMap::new();
        assert!(!client_is_firefox(&headers));
        let agent = "Mozilla/5.0 (X11; Linux x86_64; rv:153.0) Gecko/20100101 Firefox/153.0";
        headers.insert(header::USER_AGENT, HeaderValue::from_static(agent));
        assert!(client_is_firefox(&headers));
        headers.insert(header::USER_AGENT, HeaderValue::from_static("hf_hub/2.4.0; python/3.11"));
        assert!(!client_is_firefox(&headers));
    }
}
