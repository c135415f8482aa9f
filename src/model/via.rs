//! How this server calls itself in `Via` (RFC 9110, section 7.6.3).

use std::sync::LazyLock;

use http::{HeaderMap, HeaderValue, header};

/// A pseudonym that no other process has, so that a request which comes back is known, and one that has passed another
/// hubcache is not mistaken for it.
static NAME: LazyLock<String> = LazyLock::new(|| format!("hubcache-{:08x}", fastrand::u32(..)));
static FIELD: LazyLock<HeaderValue> =
    LazyLock::new(|| HeaderValue::try_from(format!("1.1 {}", *NAME)).expect("a token and digits"));

/// The value to add to `Via`.
pub fn via() -> HeaderValue {
    FIELD.clone()
}

/// Whether a message with these fields has passed this server already.
pub fn was_here(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::VIA).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|hop| hop.split_whitespace().nth(1) == Some(NAME.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_own_name_is_known() {
        let mut headers = HeaderMap::new();
        headers.insert(header::VIA, HeaderValue::from_static("1.1 hubcache, 1.0 fred (x)"));
        assert!(!was_here(&headers));
        headers.append(header::VIA, HeaderValue::try_from(format!("1.1 a, HTTP/1.1 {} (c)", *NAME)).unwrap());
        assert!(was_here(&headers));
    }
}
