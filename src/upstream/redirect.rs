//! Where a redirect leads. Pure.

use http::{HeaderMap, StatusCode, header};
use url::{Origin, Url};

use super::Failure;

/// Whether a status is a redirect that names another place of the same thing.
pub(super) fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// The target of a redirect that `from` answered.
pub(super) fn target(from: &Url, headers: &HeaderMap) -> Result<Url, Failure> {
    let location = headers.get(header::LOCATION).ok_or(Failure::BadRedirect("names no target"))?;
    let location = location.to_str().map_err(|_| Failure::BadRedirect("has an unreadable target"))?;
    let to = from.join(location).map_err(|_| Failure::BadRedirect("has an unreadable target"))?;
    match (from.scheme(), to.scheme()) {
        ("http", "http" | "https") | ("https", "https") if to.has_host() => Ok(to),
        ("https", "http") => Err(Failure::BadRedirect("leads from https to http")),
        _ => Err(Failure::BadRedirect("leads to something that is not HTTP")),
    }
}

/// Whether a credential for `root` may be sent to `to` (RFC 6454 origins).
pub(super) fn same_origin(root: &Origin, to: &Url) -> bool {
    *root == to.origin()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn to(from: &str, location: &'static str) -> Result<String, String> {
        let mut headers = HeaderMap::new();
        headers.insert(header::LOCATION, HeaderValue::from_static(location));
        target(&Url::parse(from).unwrap(), &headers).map(String::from).map_err(|f| f.to_string())
    }

    #[test]
    fn targets_are_resolved_and_never_weaker() {
        assert_eq!(to("https://h/a/b", "/c%2Fd?x=1").unwrap(), "https://h/c%2Fd?x=1");
        assert_eq!(to("http://h/a", "https://cdn/x").unwrap(), "https://cdn/x");
        for bad in ["http://h/x", "file:///etc/passwd", "ftp://h/", "https://"] {
            assert!(to("https://h/a", bad).is_err(), "{bad}");
        }
        assert!(target(&Url::parse("https://h/").unwrap(), &HeaderMap::new()).is_err());
    }
}
