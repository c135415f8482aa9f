//! Which hub and which file a request target names.

use http::{Method, Uri};

use super::api;
use super::named::{Named, hub_at};
use super::path::{Reject, Segment, split};
use super::settings::{self, SettingsTarget};
use crate::model::{Hub, Place, Question, Repo, RepoKind, Resource, Revision, is_firefox_revision};

/// What the client addressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// One file at a hub; served from the cache.
    File(Resource),
    /// A question to the API of Hugging Face; answered from the cache. The paths of `paths-info` are still in the body.
    Question(Question),
    /// Anything else of a hub; handed to it as it is. The path keeps the client's own encoding.
    Pass {
        /// Which hub.
        hub: Hub,
        /// Path and query to send.
        path_and_query: String,
    },
    /// A URL of no hub; handed on as it is, if that is allowed.
    Elsewhere(Place),
    /// A tunnel to this place.
    Tunnel(Place),
    /// Something of Remote Settings.
    Settings(SettingsTarget),
    /// The file that tells browsers which hosts to reach through this server.
    Pac,
}

impl Target {
    /// The hub that the request concerns, if any.
    pub fn hub(&self) -> Option<Hub> {
        match self {
            Self::File(resource) => Some(resource.hub),
            Self::Question(_) => Some(Hub::HuggingFace),
            Self::Pass { hub, .. } => Some(*hub),
            Self::Settings(_) => Some(Hub::Settings),
            Self::Tunnel(place) => hub_at(place),
            Self::Elsewhere(_) | Self::Pac => None,
        }
    }
}

/// Decides what a request asks of `named`. Of a hub it is what the hub's own layout says; of this server it is, in this
/// order: reserved first segments, the API and the layout of Hugging Face, the layout of the Mozilla hub, and for
/// everything else Hugging Face uncached.
///
/// # Errors
/// Says what is wrong with the path; the caller answers 400 (or what [`Reject`] calls for).
pub fn classify(method: &Method, uri: &Uri, named: &Named) -> Result<Target, Reject> {
    let at_hub = match named {
        Named::Tunnel(place) => return Ok(Target::Tunnel(place.clone())),
        Named::Elsewhere(place) => return Ok(Target::Elsewhere(place.clone())),
        Named::Settings(part) => return settings::at_host(*part, uri).map(Target::Settings),
        Named::Hub(hub) => Some(*hub),
        Named::Endpoint => None,
    };
    let segments = split(uri.path())?;
    let first = segments[0].text.as_str();
    if at_hub.is_none() && segments.len() == 1 && first == "proxy.pac" {
        return Ok(Target::Pac);
    }
    if at_hub.is_none() && first == "rs" {
        return settings::below_prefix(uri, &segments).map(Target::Settings);
    }
    let (hub, rest, skipped) = match first {
        _ if at_hub.is_some() => (at_hub, &segments[..], 0),
        "hub" => {
            let name = segments.get(1).ok_or(Reject::Incomplete)?;
            let hub = name.text.parse().ok().filter(|hub| Hub::MODELS.contains(hub));
            let hub = hub.ok_or_else(|| Reject::UnknownHub(name.text.clone()))?;
            (Some(hub), &segments[2..], 2)
        }
        _ => (None, &segments[..], 0),
    };
    if matches!(*method, Method::GET | Method::HEAD)
        && let Some(resource) = file(hub, rest)?
    {
        return Ok(Target::File(resource));
    }
    check_passed(rest)?;
    if hub != Some(Hub::Mozilla)
        && rest.first().is_some_and(|s| s.text == "api")
        && let Some(question) = api::question(method, rest, uri.query())
    {
        return Ok(Target::Question(question));
    }
    let path = raw_suffix(uri.path(), skipped);
    let path_and_query = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    Ok(Target::Pass { hub: hub.unwrap_or(Hub::HuggingFace), path_and_query })
}

fn file(hub: Option<Hub>, segments: &[Segment]) -> Result<Option<Resource>, Reject> {
    match hub {
        Some(Hub::HuggingFace) => hugging_face(segments),
        Some(Hub::Mozilla) => mozilla(segments),
        // Read by its own rules.
        Some(Hub::Settings) => Ok(None),
        None => {
            if let Some(resource) = hugging_face(segments)? {
                return Ok(Some(resource));
            }
            let reserved = ["api", "datasets", "spaces"].contains(&segments[0].text.as_str());
            let versioned = segments.get(2).is_some_and(|s| is_firefox_revision(&s.text));
            if reserved || !versioned || segments.len() < 4 { Ok(None) } else { mozilla(segments) }
        }
    }
}

/// `[datasets/|spaces/]<id>/resolve/<revision>/<path>` with an id of one or two segments.
fn hugging_face(segments: &[Segment]) -> Result<Option<Resource>, Reject> {
    let (kind, rest) = match segments.first().map(|s| s.text.as_str()) {
        Some("datasets") => (RepoKind::Dataset, &segments[1..]),
        Some("spaces") => (RepoKind::Space, &segments[1..]),
        Some("api") => return api::resolve_cache(segments),
        None => return Ok(None),
        Some(_) => (RepoKind::Model, segments),
    };
    let is_resolve = |at: usize| rest.get(at).is_some_and(|s| s.text == "resolve");
    let id_length = match (is_resolve(1), is_resolve(2)) {
        (true, _) => 1,
        (false, true) => 2,
        (false, false) => return Ok(None),
    };
    resource(Hub::HuggingFace, kind, &rest[..id_length], &rest[id_length + 1..]).map(Some)
}

/// `<organization>/<model>/<revision>/<path>`.
fn mozilla(segments: &[Segment]) -> Result<Option<Resource>, Reject> {
    if segments.len() < 4 {
        return Ok(None);
    }
    resource(Hub::Mozilla, RepoKind::Model, &segments[..2], &segments[2..]).map(Some)
}

/// Puts a resource together from the segments of its id and those behind it: the revision, then the path.
fn resource(hub: Hub, kind: RepoKind, id: &[Segment], rest: &[Segment]) -> Result<Resource, Reject> {
    let [revision, path @ ..] = rest else { return Err(Reject::Incomplete) };
    if path.is_empty() || revision.text.is_empty() {
        return Err(Reject::Incomplete);
    }
    let named = || id.iter().chain(path);
    if named().any(|s| s.text.is_empty()) {
        return Err(Reject::EmptySegment);
    }
    if named().any(|s| s.encoded_slash) {
        return Err(Reject::EncodedSlash);
    }
    let join = |s: &[Segment]| s.iter().map(|s| s.text.as_str()).collect::<Vec<_>>().join("/");
    Ok(Resource {
        hub,
        repo: Repo { kind, id: join(id) },
        revision: Revision::parse(hub, &revision.text),
        path: join(path),
    })
}

/// Words behind which Hugging Face's own paths have a revision as one encoded segment.
const BEFORE_REVISION: [&str; 11] = [
    "resolve",
    "raw",
    "blob",
    "blame",
    "tree",
    "revision",
    "commit",
    "commits",
    "paths-info",
    "preupload",
    "xet-read-token",
];

/// A path that is handed on may have an encoded slash in a revision, and behind `tree/<revision>/`, where
/// huggingface_hub sends a whole path as one segment.
fn check_passed(segments: &[Segment]) -> Result<(), Reject> {
    for (at, segment) in segments.iter().enumerate() {
        let word = |back: usize| at.checked_sub(back).and_then(|i| segments.get(i)).map(|s| s.text.as_str());
        let is_revision = word(1).is_some_and(|w| BEFORE_REVISION.contains(&w));
        let is_tree_path = word(2) == Some("tree");
        // The id of a repository may come encoded as well in `/api/models/<id>`; the hub reads it as two segments.
        if segment.encoded_slash && !is_revision && !is_tree_path {
            return Err(Reject::EncodedSlash);
        }
    }
    Ok(())
}

/// The path behind its first `skipped` segments, in the client's own encoding, with a leading slash.
fn raw_suffix(path: &str, skipped: usize) -> &str {
    let mut rest = path;
    for _ in 0..skipped {
        rest = rest[1..].find('/').map_or("/", |at| &rest[at + 1..]);
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(path: &str) -> Result<Target, Reject> {
        classify(&Method::GET, &path.parse::<Uri>().unwrap(), &Named::Endpoint)
    }

    fn shown(path: &str) -> String {
        show(get(path))
    }

    fn show(target: Result<Target, Reject>) -> String {
        match target {
            Ok(Target::File(r)) => r.to_string(),
            Ok(Target::Question(question)) => format!("ask {question}"),
            Ok(Target::Pass { hub, path_and_query }) => format!("pass {hub} {path_and_query}"),
            Ok(Target::Settings(target)) => format!("settings {}", target.path_and_query),
            Ok(Target::Pac) => "pac".to_owned(),
            Ok(other) => format!("{other:?}"),
            Err(reject) => format!("{reject:?}"),
        }
    }

    #[test]
    fn routes_in_the_documented_order() {
        let commit = "0123456789abcdef0123456789abcdef01234567";
        let table = [
            ("/acme/tiny/resolve/main/a.bin", "huggingface:acme/tiny@main/a.bin"),
            ("/gpt2/resolve/main/onnx/model.onnx?download=true", "huggingface:gpt2@main/onnx/model.onnx"),
            ("/datasets/acme/d/resolve/main/x", "huggingface:datasets/acme/d@main/x"),
            ("/spaces/acme/s/resolve/main/x", "huggingface:spaces/acme/s@main/x"),
            ("/acme/tiny/resolve/refs%2Fpr%2F1/x", "huggingface:acme/tiny@refs/pr/1/x"),
            ("/acme/tiny/v1.0/config.json?download=true", "mozilla:acme/tiny@v1.0/config.json"),
            ("/acme/tiny/main/onnx/a.onnx", "mozilla:acme/tiny@main/onnx/a.onnx"),
            ("/acme/tiny/next/config.json", "pass huggingface /acme/tiny/next/config.json"),
            ("/hub/mozilla/acme/tiny/next/config.json", "mozilla:acme/tiny@next/config.json"),
            ("/hub/huggingface/acme/tiny/resolve/main/x", "huggingface:acme/tiny@main/x"),
            ("/hub/huggingface/api/models/a/b?x=1", "pass huggingface /api/models/a/b?x=1"),
            ("/hub/mozilla/x", "pass mozilla /x"),
            ("/api/models/a/b/revision/main", "ask huggingface:a/b@main info"),
            ("/hub/huggingface/api/models/a/b/tree/main/a%2Fb", "ask huggingface:a/b@main tree/a/b"),
            ("/datasets/x/v1.0/a", "pass huggingface /datasets/x/v1.0/a"),
            ("/", "pass huggingface /"),
            ("/rs/v1/", "settings /"),
            ("/hub/settings/x", "UnknownHub(\"settings\")"),
            ("/proxy.pac", "pac"),
            ("/hub/olah/x", "UnknownHub(\"olah\")"),
            ("/acme/tiny/resolve/main", "Incomplete"),
            ("/acme/resolve/v1.0/config.json", "huggingface:acme@v1.0/config.json"),
        ];
        for (path, expected) in table {
            assert_eq!(shown(path), expected, "{path}");
        }
        let pinned = shown(&format!("/acme/tiny/resolve/{commit}/odd%20names/a%20b%23c%2Bd%25%C3%A9.txt"));
        assert_eq!(pinned, format!("huggingface:acme/tiny@{commit}/odd names/a b#c+d%é.txt"));
    }

    #[test]
    fn other_methods_pass_to_hugging_face() {
        let uri: Uri = "/acme/tiny/v1.0/config.json".parse().unwrap();
        let target = classify(&Method::POST, &uri, &Named::Endpoint).unwrap();
        assert!(matches!(target, Target::Pass { hub: Hub::HuggingFace, .. }));
    }

    #[test]
    fn sixty_spellings_of_bad_paths_are_refused() {
        let prefixes =
            ["/acme/tiny/resolve/main/", "/acme/tiny/v1.0/", "/hub/mozilla/acme/tiny/x/", "/api/models/"];
        let tails = [
            "..",
            "../x",
            "a/../b",
            "a/./b",
            ".",
            "%2e%2e/x",
            "%2E%2E",
            ".%2e/x",
            "%2e/x",
            "a//b",
            "a%2Fb",
            "..%2Fx",
            "%2Fetc",
            "a%5Cb",
            "a%00b",
            "a%0d%0ab",
            "a%7fb",
            "%zz",
            "%",
            "%4",
            "%c3%28",
            "%ff",
            "a/%2e%2e/%2e%2e/b",
        ];
        let mut count = 0;
        for prefix in prefixes {
            for tail in tails {
                let path = format!("{prefix}{tail}");
                assert!(get(&path).is_err(), "{path} gave {}", shown(&path));
                count += 1;
            }
        }
        assert!(count >= 60, "{count}");
        for path in ["//acme/tiny/v1.0/x", "/acme/tiny/resolve/main/", "/acme%2Ftiny/resolve/main/x"] {
            assert!(get(path).is_err(), "{path}");
        }
        assert_eq!(shown(&format!("/{}", "a".repeat(9000))), "TooLong");
    }

    #[test]
    fn a_hub_that_is_named_reads_paths_by_its_own_layout_only() {
        let table = [
            (Hub::HuggingFace, "/acme/tiny/v1.0/config.json", "pass huggingface /acme/tiny/v1.0/config.json"),
            (Hub::HuggingFace, "/acme/tiny/resolve/main/x", "huggingface:acme/tiny@main/x"),
            (Hub::HuggingFace, "/hub/mozilla/a/b/v1.0/x", "pass huggingface /hub/mozilla/a/b/v1.0/x"),
            (Hub::HuggingFace, "/rs/v1", "pass huggingface /rs/v1"),
            (Hub::HuggingFace, "/api/models/a/b", "ask huggingface:a/b@main info"),
            (Hub::Mozilla, "/acme/tiny/next/x?download=true", "mozilla:acme/tiny@next/x"),
            (Hub::Mozilla, "/acme/tiny/resolve/main/x", "mozilla:acme/tiny@resolve/main/x"),
            (Hub::Mozilla, "/api/models/a/b", "mozilla:api/models@a/b"),
        ];
        for (hub, path, want) in table {
            let target = classify(&Method::GET, &path.parse().unwrap(), &Named::Hub(hub));
            assert_eq!(show(target), want, "{path}");
        }
    }

    #[test]
    fn a_target_that_is_no_path_is_refused() {
        let star = classify(&Method::OPTIONS, &Uri::from_static("*"), &Named::Endpoint);
        assert_eq!(star, Err(Reject::NoPath));
    }
}
