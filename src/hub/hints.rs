//! A file's place in the Xet store: what the hub tells of it, and how that is told to clients that need it.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::link::{below, target_of};
use super::{Hop, text};
use crate::model::{HubRoot, XetHints};

const HASH: HeaderName = HeaderName::from_static("x-xet-hash");
const REFRESH_ROUTE: HeaderName = HeaderName::from_static("x-xet-refresh-route");
/// Longest link that is kept, in bytes.
const MAX_LINK: usize = 1024;

/// What the hub's own answers on the way to a file tell of it.
pub(super) fn told(hops: &[Hop]) -> Option<XetHints> {
    let hop = hops.iter().rev().find(|hop| hop.at_hub && hop.headers.contains_key(HASH))?;
    let link = |relation: &str| {
        target_of(&hop.headers, relation).filter(|target| target.len() <= MAX_LINK).map(str::to_owned)
    };
    Some(XetHints {
        hash: text(&hop.headers, HASH)?,
        refresh_route: text(&hop.headers, REFRESH_ROUTE),
        auth: link("xet-auth"),
        reconstruction: link("xet-reconstruction-info"),
    })
}

/// Tells it as the hub did, but that access is asked for at `base` in place of the hub's `root`.
pub fn add_xet_hints(headers: &mut HeaderMap, hints: &XetHints, root: &HubRoot, base: &str) {
    let led = |target: &str| below(root, target).map(|path| format!("{base}{path}"));
    let mut add = |name: HeaderName, value: String| {
        // What a hub said reaches us as text; what cannot be a field value is left out.
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.append(name, value);
        }
    };
    add(HASH, hints.hash.clone());
    if let Some(route) = &hints.refresh_route {
        // Clients put their own name of the hub before a path.
        let is_path = route.starts_with('/');
        if let Some(route) =
            below(root, route).map(|path| if is_path { path.to_owned() } else { format!("{base}{path}") })
        {
            add(REFRESH_ROUTE, route);
        }
    }
    let auth = hints.auth.as_deref().and_then(led).map(|url| format!("<{url}>; rel=\"xet-auth\""));
    let made_of = hints.reconstruction.iter().map(|url| format!("<{url}>; rel=\"xet-reconstruction-info\""));
    let links: Vec<String> = auth.into_iter().chain(made_of).collect();
    if !links.is_empty() {
        add(header::LINK, links.join(", "));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::StatusCode;

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn what_the_hub_told_is_told_again_with_access_asked_for_here() {
        let said = headers(&[
            ("x-xet-hash", "abc"),
            ("x-xet-refresh-route", "/api/models/a/xet-read-token/main"),
            (
                "link",
                "<https://hub.example/api/t>; rel=\"xet-auth\", <https://cas.example/r>; rel=\"xet-reconstruction-info\"",
            ),
        ]);
        let hop = |at_hub| Hop { status: StatusCode::FOUND, headers: said.clone(), at_hub };
        assert_eq!(told(&[hop(false)]), None, "a content network has no say");
        let hints = told(&[hop(true), Hop { headers: HeaderMap::new(), ..hop(false) }]).unwrap();
        let root = HubRoot::parse("https://hub.example").unwrap();
        let again = |hints: &XetHints| {
            let mut headers = HeaderMap::new();
            add_xet_hints(&mut headers, hints, &root, "http://here");
            headers
        };
        let mut want = said.clone();
        let links =
            "<http://here/api/t>; rel=\"xet-auth\", <https://cas.example/r>; rel=\"xet-reconstruction-info\"";
        want.insert("link", HeaderValue::from_static(links));
        assert_eq!(again(&hints), want);
        let absolute = XetHints { refresh_route: Some("https://hub.example/api/t".into()), ..hints.clone() };
        want.insert("x-xet-refresh-route", HeaderValue::from_static("http://here/api/t"));
        assert_eq!(again(&absolute), want);
        let elsewhere = Some("https://evil.example/t".to_owned());
        let evil =
            XetHints { refresh_route: elsewhere.clone(), auth: elsewhere, reconstruction: None, ..hints };
        assert_eq!(again(&evil), headers(&[("x-xet-hash", "abc")]));
    }
}
