//! What a path means that is handed on to a hub.

use http::Method;
use percent_encoding::percent_decode_str;

use crate::model::{Hub, Repo, RepoKind};

/// Whether the answer at this path of Hugging Face is a description, and not somebody's file.
pub fn is_description(path_and_query: &str) -> bool {
    let segments = segments(path_and_query);
    segments.len() > 1 && segments[0] == "api" && segments[1] != "resolve-cache"
}

/// Whether this path is where clients ask for access to the Xet store, to read or to write.
pub fn is_xet_token(path_and_query: &str) -> bool {
    is_token(path_and_query, "xet-read-token") || is_token(path_and_query, "xet-write-token")
}

/// Whether this path is where clients ask for access to the Xet store, to read.
pub fn is_xet_read_token(path_and_query: &str) -> bool {
    is_token(path_and_query, "xet-read-token")
}

fn is_token(path_and_query: &str, verb: &str) -> bool {
    match segments(path_and_query).as_slice() {
        [api, kind, rest @ ..] => {
            api == "api" && is_kind(kind) && rest.iter().skip(1).take(2).any(|s| s == verb)
        }
        _ => false,
    }
}

/// Whether a request may change something at a hub. A list of paths is asked for by POST and only read.
pub fn may_write(method: &Method, path_and_query: &str) -> bool {
    let lists_paths = || match segments(path_and_query).as_slice() {
        [api, kind, id @ .., verb, _] => {
            api == "api" && is_kind(kind) && verb == "paths-info" && matches!(id.len(), 1 | 2)
        }
        _ => false,
    };
    match *method {
        Method::GET | Method::HEAD | Method::OPTIONS => false,
        Method::POST => !lists_paths(),
        _ => true,
    }
}

/// What follows the id of a repository of Hugging Face in a path, so that an id before it has one part only.
const VERBS: [&str; 17] = [
    "blame",
    "blob",
    "commit",
    "commits",
    "discussions",
    "info",
    "paths-info",
    "preupload",
    "raw",
    "refs",
    "resolve",
    "revision",
    "scan",
    "tree",
    "treesize",
    "xet-read-token",
    "xet-write-token",
];
/// Those of them that a revision and the path of a file follow.
const FILE_VERBS: [&str; 4] = ["blame", "blob", "raw", "resolve"];

/// The repository that a path is about, and the file in it, as far as that can be told. What could be a repository is
/// taken for one.
pub fn passed_model(hub: Hub, path_and_query: &str) -> Option<(Repo, Option<String>)> {
    let segments = segments(path_and_query);
    // An id may come as one segment with its slash encoded.
    let parts: Vec<&str> = segments.iter().flat_map(|s| s.split('/')).filter(|s| !s.is_empty()).collect();
    let behind = |at: usize| segments.get(at..).filter(|path| !path.is_empty()).map(|path| path.join("/"));
    match hub {
        Hub::HuggingFace => {
            let at = segments.iter().position(|segment| FILE_VERBS.contains(&segment.as_str()));
            Some((hugging_face_id(&parts)?, at.and_then(|at| behind(at + 2))))
        }
        Hub::Mozilla => {
            let [organization, model, ..] = parts.as_slice() else { return None };
            Some((Repo { kind: RepoKind::Model, id: format!("{organization}/{model}") }, behind(3)))
        }
        Hub::Settings => None,
    }
}

fn hugging_face_id(parts: &[&str]) -> Option<Repo> {
    let kind = |plural: &str| match plural {
        "models" => Some(RepoKind::Model),
        "datasets" => Some(RepoKind::Dataset),
        "spaces" => Some(RepoKind::Space),
        _ => None,
    };
    let (kind, id) = match parts {
        ["api", "resolve-cache", plural, id @ ..] | ["api", plural, id @ ..] => (kind(plural)?, id),
        [plural @ ("datasets" | "spaces"), id @ ..] => (kind(plural)?, id),
        id => (RepoKind::Model, id),
    };
    let id = match id {
        [] => return None,
        [name] => (*name).to_owned(),
        [name, verb, ..] if VERBS.contains(verb) => (*name).to_owned(),
        [organization, name, ..] => format!("{organization}/{name}"),
    };
    // As git names it.
    let id = id.strip_suffix(".git").unwrap_or(&id).to_owned();
    Some(Repo { kind, id })
}

fn is_kind(segment: &str) -> bool {
    matches!(segment, "models" | "datasets" | "spaces")
}

/// The segments of the path, each decoded.
fn segments(path_and_query: &str) -> Vec<String> {
    let path = path_and_query.split('?').next().unwrap_or_default();
    let segments = path.trim_start_matches('/').split('/');
    segments.map(|segment| percent_decode_str(segment).decode_utf8_lossy().into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_list_of_paths_is_read_by_post() {
        let post = |path: &str| may_write(&Method::POST, path);
        for path in
            ["/api/models/a/b/paths-info/main", "/api/datasets/a%2Fb/paths-info/refs%2Fpr%2F1?expand=true"]
        {
            assert!(!post(path), "{path}");
        }
        for path in [
            "/api/models/a/b/commit/main",
            "/api/repos/create",
            "/api/models/paths-info/main",
            "/api/models/a/b/c/paths-info/main",
            "/api/models/a/b/paths-info/main/x",
            "/api/users/a/b/paths-info/main",
            "/a/b.git/info/lfs/objects/batch?/api/models/a/b/paths-info/main",
        ] {
            assert!(post(path), "{path}");
        }
        let path = "/api/models/a/b/paths-info/main";
        assert!(may_write(&Method::PUT, path) && may_write(&Method::DELETE, path));
        assert!(!may_write(&Method::GET, "/api/x") && !may_write(&Method::OPTIONS, "/api/x"));
    }

    #[test]
    fn a_path_tells_its_repository_and_file() {
        let told = |hub, path: &str| {
            passed_model(hub, path)
                .map_or_else(|| "-".to_owned(), |(repo, file)| format!("{repo} {}", file.unwrap_or_default()))
        };
        for (path, want) in [
            ("/acme/tiny/raw/main/a/x.pkl?download=true", "acme/tiny a/x.pkl"),
            ("/acme/tiny/raw/refs%2Fpr%2F1/x.pkl", "acme/tiny x.pkl"),
            ("/gpt2/blob/main/x", "gpt2 x"),
            ("/datasets/acme/d/tree/main", "datasets/acme/d "),
            ("/datasets/d", "datasets/d "),
            ("/acme/tiny.git/info/lfs/objects/batch", "acme/tiny "),
            ("/api/models/acme%2Ftiny/xet-read-token/main", "acme/tiny "),
            ("/api/models/acme/tiny", "acme/tiny "),
            ("/api/models/gpt2/xet-read-token/main", "gpt2 "),
            ("/%61cme/tiny", "acme/tiny "),
            ("/api/models?search=acme/tiny", "-"),
            ("/api/whoami-v2", "-"),
            ("/", "-"),
        ] {
            assert_eq!(told(Hub::HuggingFace, path), want, "{path}");
        }
        assert_eq!(told(Hub::Mozilla, "/acme/tiny/next/a/x"), "acme/tiny a/x");
        assert_eq!(told(Hub::Mozilla, "/acme"), "-");
    }

    #[test]
    fn files_are_no_descriptions_and_tokens_are_known_by_their_path() {
        assert!(is_description("/api/models/a/b?x=1") && is_description("/%61pi/models"));
        for path in ["/api/resolve-cache/models/a/b/c/x.json", "/a/b/raw/main/x.json", "/api", "/x/api/y", ""]
        {
            assert!(!is_description(path), "{path}");
        }
        assert!(is_xet_read_token("/api/models/a/b/xet-read-token/main?x"));
        assert!(is_xet_token("/api/spaces/a%2Fb/xet-read-token/main"));
        assert!(is_xet_token("/api/models/b/xet-write-token/main"));
        assert!(!is_xet_read_token("/api/models/b/xet-write-token/main"));
        for path in [
            "/api/models/a/b/tree/main/xet-read-token",
            "/a/b/xet-read-token/main",
            "/api/models/a?xet-read-token/",
        ] {
            assert!(!is_xet_token(path), "{path}");
        }
    }
}
