//! What a refusal says about who may read a repository.

use http::{HeaderMap, HeaderName, StatusCode};

use super::text;
use crate::model::Hub;

/// Of how much a hub says that not everybody may read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Withdrawn {
    /// Of this path: a gated repository can have files that everybody may read.
    Path,
    /// Of the repository: it is hidden, or no longer there.
    Repository,
}

/// What the hub's own refusal of a request without credentials takes back. That a file or a revision is not there says
/// nothing about who may read it, nor does any 404 of the Mozilla hub, where nothing is private.
pub fn withdrawn(hub: Hub, status: StatusCode, headers: &HeaderMap) -> Option<Withdrawn> {
    if hub != Hub::HuggingFace {
        return None;
    }
    let code = text(headers, HeaderName::from_static("x-error-code"));
    match (status.as_u16(), code.as_deref()) {
        (401 | 403, Some("GatedRepo")) | (403, _) => Some(Withdrawn::Path),
        (401, _) | (404, Some("RepoNotFound")) => Some(Withdrawn::Repository),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn only_the_hubs_word_about_the_repository_takes_access_back() {
        let (path, repository) = (Some(Withdrawn::Path), Some(Withdrawn::Repository));
        for (hub, status, code, expected) in [
            (Hub::HuggingFace, 401, None, repository),
            (Hub::HuggingFace, 401, Some("RepoNotFound"), repository),
            (Hub::HuggingFace, 401, Some("GatedRepo"), path),
            (Hub::HuggingFace, 403, Some("GatedRepo"), path),
            (Hub::HuggingFace, 403, None, path),
            (Hub::HuggingFace, 404, Some("RepoNotFound"), repository),
            (Hub::HuggingFace, 404, Some("EntryNotFound"), None),
            (Hub::HuggingFace, 404, Some("RevisionNotFound"), None),
            (Hub::HuggingFace, 404, None, None),
            (Hub::HuggingFace, 429, None, None),
            (Hub::HuggingFace, 503, None, None),
            (Hub::Mozilla, 404, None, None),
            (Hub::Mozilla, 403, None, None),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(code) = code {
                headers.insert("x-error-code", HeaderValue::from_static(code));
            }
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(withdrawn(hub, status, &headers), expected, "{hub} {status} {code:?}");
        }
    }
}
