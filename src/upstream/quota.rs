//! How much of its quota of requests a hub says is left, for those who ask without credentials. Pure.

use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName};

use super::holdoff::{outside_quotes, parameter};

const LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
/// The longest time for which it is believed: a mistake of a hub must end some day.
const MAX_TIME: Duration = Duration::from_secs(3600);

/// What a hub has said of its quota, which the `RateLimit` and `RateLimit-Policy` fields (an IETF draft) tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Quota {
    left: u64,
    all: u64,
    /// When it is whole again.
    until: Instant,
}

impl Quota {
    /// The scarcest that these fields tell of, if they do.
    pub(super) fn of(headers: &HeaderMap, now: Instant) -> Option<Self> {
        let items = |name| {
            let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
            values.flat_map(|text| outside_quotes(text, ',')).collect::<Vec<_>>()
        };
        let policies = items(POLICY);
        let quota = |item: &str| {
            let name = name(item)?;
            let (left, time) = (parameter(item, "r")?, parameter(item, "t")?);
            let all = policies.iter().find(|policy| has_name(policy, name))?;
            let all = parameter(all, "q").filter(|all| *all > 0)?;
            let until = now + Duration::from_secs(time).min(MAX_TIME);
            Some(Self { left, all, until })
        };
        // The smallest share; as products, because there are no fractions of requests.
        items(LIMIT).into_iter().filter_map(quota).min_by(|a, b| {
            let (a, b) = (u128::from(a.left) * u128::from(b.all), u128::from(b.left) * u128::from(a.all));
            a.cmp(&b)
        })
    }

    /// Until when less than so many percent are left, if that is so.
    pub(super) fn scarce_until(&self, percent: u32, now: Instant) -> Option<Instant> {
        let is_scarce = u128::from(self.left) * 100 < u128::from(self.all) * u128::from(percent);
        (is_scarce && self.until > now).then_some(self.until)
    }
}

/// The name of an item: the quoted string that it begins with, which Hugging Face puts second in its policy.
fn name(item: &str) -> Option<&str> {
    outside_quotes(item, ';').into_iter().map(str::trim).find(|part| part.starts_with('"'))
}

fn has_name(item: &str, name: &str) -> bool {
    outside_quotes(item, ';').into_iter().any(|part| part.trim() == name)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn the_scarcest_quota_of_an_answer_is_read_and_garbage_is_not() {
        let now = Instant::now();
        let of = |limit: &'static str, policy: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(LIMIT, HeaderValue::from_static(limit));
            headers.insert(POLICY, HeaderValue::from_static(policy));
            Quota::of(&headers, now)
        };
        let quota = |left, all, time| Some(Quota { left, all, until: now + Duration::from_secs(time) });
        let hf = r#""fixed window";"api";q=500;w=300"#;
        let both = r#""a";q=10;w=1, "b";q=1000;w=9"#;
        let cases = [
            (r#""api";r=489;t=189"#, hf, quota(489, 500, 189)),
            (r#""api";r=0;t=189"#, r#""api";q=500;w=300"#, quota(0, 500, 189)),
            (r#""a";r=9;t=1, "b";r=100;t=9"#, both, quota(100, 1000, 9)),
            (r#""a";r=0;t=1, "b";r=100;t=9"#, both, quota(0, 10, 1)),
            (r#""api";r=1;t=99999999"#, hf, quota(1, 500, 3600)),
            (r#""pages";r=1;t=9"#, hf, None),
            (r#""api";r=1"#, hf, None),
            (r#""api";t=1"#, hf, None),
            (r#""api";r=1;t=9"#, r#""api";q=0"#, None),
            ("r=1;t=9", "q=5", None),
            (",;=,\"", ";;", None),
        ];
        for (limit, policy, want) in cases {
            assert_eq!(of(limit, policy), want, "{limit} of {policy}");
        }
        assert_eq!(Quota::of(&HeaderMap::new(), now), None);
    }

    #[test]
    fn a_quota_is_scarce_below_its_share_and_until_its_time() {
        let now = Instant::now();
        let until = now + Duration::from_secs(9);
        let scarce = |left, percent, at| Quota { left, all: 500, until }.scarce_until(percent, at);
        assert_eq!(scarce(124, 25, now), Some(until));
        assert_eq!(scarce(125, 25, now), None);
        assert_eq!(scarce(0, 0, now), None, "nothing is kept back");
        assert_eq!(scarce(0, 25, until), None);
    }
}
