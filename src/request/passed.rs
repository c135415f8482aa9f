//! What a path means that is handed on to a hub.

use http::Method;
use percent_encoding::percent_decode_str;

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
