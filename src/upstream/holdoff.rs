//! How long a hub that answered 429 is left alone. Pure.

use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use super::Refusal;

/// How long a hub is left alone that does not say how long.
const DEFAULT_WAIT: Duration = Duration::from_secs(5);
/// Longest that a hub is left alone, whatever it says: a mistake of its clock must end some day.
const MAX_WAIT: Duration = Duration::from_secs(300);

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// The kinds of requests that a hub counts apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Documents about repositories, and changes to them.
    Api,
    /// Files.
    Files,
    /// Everything else.
    Pages,
}

impl Kind {
    /// How many there are.
    pub(super) const COUNT: usize = 3;

    /// What a path below the hub's root asks for.
    pub(super) fn of(path_and_query: &str) -> Self {
        let path = path_and_query.split('?').next().unwrap_or_default();
        let mut segments = path.split('/').skip(1);
        match segments.next() {
            Some("api") if segments.next() != Some("resolve-cache") => Self::Api,
            Some("api") => Self::Files,
            _ if segments.any(|segment| segment == "resolve") => Self::Files,
            _ => Self::Pages,
        }
    }
}

/// A refusal for the rate of requests, kept while it holds.
#[derive(Clone, Debug)]
pub(super) struct HoldOff {
    since: Instant,
    until: Instant,
    refusal: Refusal,
}

impl HoldOff {
    /// What a 429 with these fields means for the requests that follow it.
    pub(super) fn new(headers: &HeaderMap, now: Instant, date: SystemTime) -> Self {
        let wait = named_wait(headers, date).unwrap_or(DEFAULT_WAIT).min(MAX_WAIT);
        let refusal = Refusal::new(StatusCode::TOO_MANY_REQUESTS, true, headers, Bytes::new());
        Self { since: now, until: now + wait, refusal }
    }

    /// How much longer it holds; `None` once it is over.
    pub(super) fn left(&self, now: Instant) -> Option<Duration> {
        let left = self.until.saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
    }

    /// The refusal as the hub would say it now: without its text, and with times that have counted down.
    pub(super) fn refusal(&self, now: Instant) -> Option<Refusal> {
        let left = whole_seconds(self.left(now)?);
        let mut refusal = self.refusal.clone();
        refusal.headers.insert(header::RETRY_AFTER, HeaderValue::from(left));
        if let Some(limit) = refusal.headers.get(RATE_LIMIT).and_then(|v| v.to_str().ok()) {
            let passed = now.saturating_duration_since(self.since).as_secs();
            if let Ok(limit) = HeaderValue::try_from(counted_down(limit, passed)) {
                refusal.headers.insert(RATE_LIMIT, limit);
            }
        }
        Some(refusal)
    }
}

/// How long a 429 asks to wait: as `Retry-After` says, else as the `RateLimit` field (an IETF draft) does.
pub(super) fn named_wait(headers: &HeaderMap, date: SystemTime) -> Option<Duration> {
    retry_after(headers, date).or_else(|| {
        let limits = headers.get_all(RATE_LIMIT).into_iter().filter_map(|v| v.to_str().ok());
        limits.flat_map(|text| outside_quotes(text, ',')).filter_map(exhausted_for).max()
    })
}

/// `Retry-After` in seconds or as a date.
pub(super) fn retry_after(headers: &HeaderMap, date: SystemTime) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    match text.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => httpdate::parse_http_date(text).ok()?.duration_since(date).ok(),
    }
}

/// Until when one item of a `RateLimit` field (`"api";r=0;t=42`) is used up, if it is.
fn exhausted_for(item: &str) -> Option<Duration> {
    match parameter(item, "r") {
        Some(0) | None => parameter(item, "t").map(Duration::from_secs),
        Some(_) => None,
    }
}

/// A parameter of an item (`"api";r=0;t=42`) that is a number.
pub(super) fn parameter(item: &str, name: &str) -> Option<u64> {
    let parameters = outside_quotes(item, ';').into_iter().skip(1);
    let values = parameters.filter_map(|p| p.split_once('=')).filter(|(n, _)| n.trim() == name);
    values.filter_map(|(_, value)| value.trim().parse::<u64>().ok()).next_back()
}

/// The same `RateLimit` field so many seconds later.
fn counted_down(limits: &str, seconds: u64) -> String {
    let later = |parameter: &str| match parameter.split_once('=') {
        Some((name, value)) if name.trim() == "t" => match value.trim().parse::<u64>() {
            Ok(t) => format!("{name}={}", t.saturating_sub(seconds)),
            Err(_) => parameter.to_owned(),
        },
        _ => parameter.to_owned(),
    };
    let item = |item: &str| outside_quotes(item, ';').into_iter().map(later).collect::<Vec<_>>().join(";");
    outside_quotes(limits, ',').into_iter().map(item).collect::<Vec<_>>().join(",")
}

/// The parts of `text` between separators that stand outside of quoted strings (RFC 9651).
pub(super) fn outside_quotes(text: &str, separator: char) -> Vec<&str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(|c| {
        let escapes = quoted && !escaped && c == '\\';
        if c == '"' && !escaped {
            quoted = !quoted;
        }
        escaped = escapes;
        c == separator && !quoted
    })
    .collect()
}

/// A time in seconds, of which the last has begun.
fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A field's name and value.
    type Said = (&'static str, &'static str);

    fn fields(fields: &[Said]) -> HeaderMap {
        let field =
            |(name, value): &Said| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        fields.iter().map(field).collect()
    }

    #[test]
    fn the_time_to_wait_is_read_from_either_field_and_garbage_is_ignored() {
        let (retry, limit) = ("retry-after", "ratelimit");
        let date = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777 - 30);
        let cases: [(&[Said], Option<u64>); 18] = [
            (&[], None),
            (&[(retry, "17")], Some(17)),
            (&[(retry, " 17 ")], Some(17)),
            (&[(retry, "Sun, 06 Nov 1994 08:49:37 GMT")], Some(30)),
            (&[(retry, "Sun, 06 Nov 1974 08:49:37 GMT")], None),
            (&[(retry, "soon")], None),
            (&[(retry, "-1")], None),
            (&[(retry, "99999999999999999999999")], None),
            (&[(limit, r#""api";r=0;t=42"#)], Some(42)),
            (&[(limit, r#" "api" ; r=0 ; t = 42 "#)], Some(42)),
            (&[(limit, r#""api";t=42"#)], Some(42)),
            (&[(limit, r#""api";r=9;t=42, "resolvers";r=0;t=7"#)], Some(7)),
            (&[(limit, r#""a";r=0;t=3"#), (limit, r#""b";r=0;t=5"#)], Some(5)),
            (&[(limit, r#""odd;t=9,\"x";r=0;t=4"#)], Some(4)),
            (&[(limit, r#""api";r=0"#)], None),
            (&[(limit, r#""api;r=0;t=42"#)], None),
            (&[(limit, ",;=,;;t;=t;t=;t=x,\"")], None),
            (&[(retry, "17"), (limit, r#""api";r=0;t=42"#)], Some(17)),
        ];
        for (said, seconds) in cases {
            assert_eq!(named_wait(&fields(said), date), seconds.map(Duration::from_secs), "{said:?}");
        }
    }

    #[test]
    fn a_hold_off_counts_down_ends_and_never_lasts_too_long() {
        let (now, date) = (Instant::now(), SystemTime::now());
        let after = |said: &[Said], millis: u64| {
            let at = now + Duration::from_millis(millis);
            let refusal = HoldOff::new(&fields(said), now, date).refusal(at)?;
            let text = |name| refusal.headers.get(name).map(|v| v.to_str().unwrap().to_owned());
            Some((text("retry-after").unwrap(), text("ratelimit")))
        };
        let said = [("ratelimit", r#""api";r=0;t=42, "pages";r=3; t=2;q=x"#)];
        let at_12 = ("30".to_owned(), Some(r#""api";r=0;t=30, "pages";r=3; t=0;q=x"#.to_owned()));
        assert_eq!(after(&said, 12_000), Some(at_12));
        assert_eq!(after(&[("retry-after", "3")], 2_001), Some(("1".to_owned(), None)));
        assert_eq!(after(&[("retry-after", "3")], 3_000), None);
        assert_eq!(after(&[("retry-after", "0")], 0), None);
        assert_eq!(after(&[], 0), Some(("5".to_owned(), None)));
        assert_eq!(after(&[("retry-after", "86400")], 0), Some(("300".to_owned(), None)));
    }

    #[test]
    fn paths_are_told_apart_as_the_hub_counts_them() {
        let cases = [
            ("/api/models/a/b/tree/main?recursive=true", Kind::Api),
            ("/api", Kind::Api),
            ("/api/resolve-cache/models/a/b/c/x.json", Kind::Files),
            ("/a/b/resolve/main/x.json?download=true", Kind::Files),
            ("/datasets/a/b/resolve/main/x.json", Kind::Files),
            ("/a/b?next=/api/x/resolve/y", Kind::Pages),
            ("/apis", Kind::Pages),
            ("", Kind::Pages),
        ];
        for (path, kind) in cases {
            assert_eq!(Kind::of(path), kind, "{path}");
        }
    }
}
