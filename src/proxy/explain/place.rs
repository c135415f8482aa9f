//! Which request to this server a URL stands for.

use http::Uri;

use crate::model::{Hub, Roots};

/// Why a URL stands for no request to this server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotHere {
    /// It is neither a URL nor a path.
    Unreadable,
    /// It is an https URL of no hub.
    Elsewhere,
}

impl std::fmt::Display for NotHere {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Unreadable => "is neither an http or https URL nor a path that begins with a slash",
            Self::Elsewhere => {
                "is a URL of no hub: as a proxy, this server hands on what egress.allow lists, and keeps nothing of \
                 it; if the URL is this server's own, give only the path"
            }
        })
    }
}

impl std::error::Error for NotHere {}

/// The path and query that a client would send here: of a path, of a URL of this server, or of a URL of a hub where it
/// is now or by default. A root that two hubs share says nothing of which is meant; its paths are read as they are.
///
/// # Errors
/// When there is none.
pub fn place(roots: &Roots, text: &str) -> Result<Uri, NotHere> {
    let local = match text.starts_with('/') {
        true => text.to_owned(),
        false => match at_hub(roots, text) {
            Some(local) => local,
            None => here(text)?,
        },
    };
    // What a browser shows behind a hash is not sent.
    let local = local.split('#').next().unwrap_or_default();
    local.parse().map_err(|_| NotHere::Unreadable)
}

fn at_hub(roots: &Roots, text: &str) -> Option<String> {
    let below = |root: &str| {
        let rest = text.strip_prefix(root)?;
        (rest.is_empty() || rest.starts_with(['/', '?'])).then(|| rest.to_owned())
    };
    let found = |hub: Hub| {
        let equivalents = roots.equivalents(hub).iter().map(|root| root.as_str());
        let own = || hub.hosts().iter().flat_map(|host| ["https", "http"].map(|s| format!("{s}://{host}")));
        let said = std::iter::once(roots.root(hub).as_str()).chain(equivalents).find_map(below);
        said.or_else(|| own().find_map(|root| below(&root)))
    };
    match (found(Hub::Mozilla), found(Hub::HuggingFace)) {
        (Some(rest), None) => Some(format!("/hub/{}{rest}", Hub::Mozilla)),
        (None, Some(rest)) => Some(format!("/hub/{}{rest}", Hub::HuggingFace)),
        (Some(rest), Some(_)) => Some(if rest.starts_with('/') { rest } else { format!("/{rest}") }),
        (None, None) => None,
    }
}

fn here(text: &str) -> Result<String, NotHere> {
    let uri: Uri = text.parse().map_err(|_| NotHere::Unreadable)?;
    match uri.scheme_str() {
        Some("http") => Ok(uri.path_and_query().map_or("/", |p| p.as_str()).to_owned()),
        Some("https") => Err(NotHere::Elsewhere),
        _ => Err(NotHere::Unreadable),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::HubRoot;

    fn placed(roots: &Roots, text: &str) -> Result<String, NotHere> {
        place(roots, text).map(|uri| uri.to_string())
    }

    #[test]
    fn a_url_is_of_this_server_or_of_a_hub() {
        let inner = HubRoot::parse("http://hf.example.org/inner").unwrap();
        let roots = Roots::new([(Hub::HuggingFace, inner, vec![], vec![])]);
        for (text, local) in [
            ("/acme/tiny/resolve/main/a?download=true", "/acme/tiny/resolve/main/a?download=true"),
            ("http://127.0.0.1:8470/acme/tiny/resolve/main/a#L1", "/acme/tiny/resolve/main/a"),
            ("http://cache.example.org", "/"),
            (
                "https://huggingface.co/acme/tiny/resolve/main/a%20b",
                "/hub/huggingface/acme/tiny/resolve/main/a%20b",
            ),
            ("http://hf.example.org/inner/api/models/a/b", "/hub/huggingface/api/models/a/b"),
            ("https://model-hub.mozilla.org/a/b/main/c", "/hub/mozilla/a/b/main/c"),
            ("https://hf.co/a/b/resolve/main/c", "/hub/huggingface/a/b/resolve/main/c"),
            ("http://model-hub.mozilla.org/a/b/main/c", "/hub/mozilla/a/b/main/c"),
        ] {
            assert_eq!(placed(&roots, text), Ok(local.to_owned()), "{text}");
        }
        for (text, why) in [
            ("https://example.org/a", NotHere::Elsewhere),
            ("https://huggingface.company/a", NotHere::Elsewhere),
            ("ftp://example.org/a", NotHere::Unreadable),
            ("acme/tiny", NotHere::Unreadable),
            ("", NotHere::Unreadable),
            ("/a b", NotHere::Unreadable),
        ] {
            assert_eq!(placed(&roots, text), Err(why), "{text}");
        }
    }

    #[test]
    fn paths_below_a_root_that_two_hubs_share_are_read_as_they_are() {
        let root = HubRoot::parse("http://127.0.0.1:9").unwrap();
        let roots = Roots::new(Hub::ALL.map(|hub| (hub, root.clone(), vec![], vec![])));
        assert_eq!(placed(&roots, "http://127.0.0.1:9/a/b/v1.0/c"), Ok("/a/b/v1.0/c".to_owned()));
    }
}
