//! Which question a path of Hugging Face's API asks.

use http::Method;
use percent_encoding::percent_decode_str;
use serde::Deserialize;

use super::path::{Reject, Segment};
use crate::model::{Commit, Hub, Question, Repo, RepoKind, Resource, Revision, Topic};

/// Longest value of a parameter that is read, in bytes; a cursor has some hundred.
const MAX_VALUE: usize = 2 * 1024;
/// Most parameters of a query that are read.
const MAX_PARAMETERS: usize = 64;

/// The question that `segments` ask, the first being `api`; `None` for one whose answer is not kept: of another form,
/// or with parameters that are not known here.
pub(super) fn question(method: &Method, segments: &[Segment], query: Option<&str>) -> Option<Question> {
    let [_, kind, rest @ ..] = segments else { return None };
    let (id, verb, rest) = parts(rest)?;
    let repo = Repo { kind: plural(&kind.text)?, id };
    let is_question = match verb {
        "paths-info" => *method == Method::POST,
        _ => matches!(*method, Method::GET | Method::HEAD),
    };
    let topic = match (verb, rest) {
        ("", []) => Topic::Info(Revision::Named("main".to_owned())),
        ("revision", [revision]) => Topic::Info(parse(revision)?),
        ("tree", [revision, path @ ..]) => Topic::Tree { revision: parse(revision)?, path: folder(path)? },
        ("paths-info", [revision]) => {
            Topic::Paths { revision: parse(revision)?, paths: Vec::new(), expand: false }
        }
        ("refs", []) => Topic::Refs,
        ("commits", [revision]) => Topic::Commits(parse(revision)?),
        _ => return None,
    };
    let parameters = parameters(&topic, query.unwrap_or_default())?;
    is_question.then_some(Question { repo, topic, parameters })
}

/// The file behind `api/resolve-cache/<kind>/<id>/<commit>/<path>`, to which the hub redirects for small files.
///
/// # Errors
/// When a segment of it is empty or has an encoded slash.
pub(super) fn resolve_cache(segments: &[Segment]) -> Result<Option<Resource>, Reject> {
    let [_, word, kind, rest @ ..] = segments else { return Ok(None) };
    let Some(kind) = plural(&kind.text).filter(|_| word.text == "resolve-cache") else { return Ok(None) };
    let commit = |at: usize| rest.get(at).and_then(|s| Commit::parse(&s.text));
    let Some((length, commit)) = [1, 2].into_iter().find_map(|at| Some((at, commit(at)?))) else {
        return Ok(None);
    };
    let (id, path) = (&rest[..length], &rest[length + 1..]);
    if path.is_empty() || id.iter().chain(path).any(|s| s.text.is_empty()) {
        return Err(Reject::Incomplete);
    }
    if id.iter().chain(path).any(|s| s.encoded_slash) {
        return Err(Reject::EncodedSlash);
    }
    Ok(Some(Resource {
        hub: Hub::HuggingFace,
        repo: Repo { kind, id: join(id) },
        revision: Revision::Commit(commit),
        path: join(path),
    }))
}

/// The paths that the body of a request to `paths-info` asks for, and whether they are to be expanded.
pub fn asked_paths(content_type: &str, body: &[u8]) -> Option<(Vec<String>, bool)> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Body {
        paths: Vec<String>,
        #[serde(default)]
        expand: bool,
    }
    let (paths, expand) = match content_type.split(';').next().unwrap_or_default().trim() {
        "application/json" => {
            let Body { paths, expand } = serde_json::from_slice(body).ok()?;
            (paths, expand)
        }
        "application/x-www-form-urlencoded" => {
            let (mut paths, mut expand) = (Vec::new(), false);
            for (name, value) in pairs(std::str::from_utf8(body).ok()?)? {
                match name.as_str() {
                    "paths" | "paths[]" => paths.push(value),
                    "expand" => expand = boolean(&value)?,
                    _ => return None,
                }
            }
            (paths, expand)
        }
        _ => return None,
    };
    (!paths.iter().any(|path| path.contains('\0'))).then_some((paths, expand))
}

const VERBS: [&str; 5] = ["revision", "tree", "paths-info", "refs", "commits"];

/// The id, the word behind it, and what follows; the word is empty where there is none.
fn parts(segments: &[Segment]) -> Option<(String, &str, &[Segment])> {
    let verb = |at: usize| segments.get(at).map(|s| s.text.as_str()).filter(|s| VERBS.contains(s));
    let length = match (verb(1), verb(2)) {
        (Some(_), _) => 1,
        (None, Some(_)) => 2,
        (None, None) if segments.len() <= 2 => segments.len(),
        (None, None) => return None,
    };
    let id = segments.get(..length).filter(|id| !id.is_empty())?;
    if id.iter().any(|s| s.text.is_empty() || s.encoded_slash) {
        return None;
    }
    let rest = segments.get(length + 1..).unwrap_or_default();
    Some((join(id), verb(length).unwrap_or_default(), rest))
}

fn plural(kind: &str) -> Option<RepoKind> {
    match kind {
        "models" => Some(RepoKind::Model),
        "datasets" => Some(RepoKind::Dataset),
        "spaces" => Some(RepoKind::Space),
        _ => None,
    }
}

fn parse(revision: &Segment) -> Option<Revision> {
    (!revision.text.is_empty()).then(|| Revision::parse(Hub::HuggingFace, &revision.text))
}

/// huggingface_hub sends a whole path as one encoded segment; a slash at the end means nothing.
fn folder(path: &[Segment]) -> Option<String> {
    let joined = join(path);
    let trimmed = joined.trim_end_matches('/');
    (!trimmed.split('/').any(str::is_empty) || trimmed.is_empty()).then(|| trimmed.to_owned())
}

fn join(segments: &[Segment]) -> String {
    segments.iter().map(|s| s.text.as_str()).collect::<Vec<_>>().join("/")
}

/// What a parameter of a topic is.
enum Kind {
    /// True or false, which goes without saying.
    Switch,
    /// Digits.
    Number,
    /// Anything.
    Text,
    /// Words, of which there can be several.
    Words,
}

fn known(topic: &Topic, name: &str) -> Option<Kind> {
    match (topic, name) {
        (Topic::Info(_), "blobs" | "securityStatus") => Some(Kind::Switch),
        (Topic::Info(_), "expand") => Some(Kind::Words),
        (Topic::Tree { .. }, "recursive" | "expand") => Some(Kind::Switch),
        (Topic::Tree { .. }, "cursor") => Some(Kind::Text),
        (Topic::Tree { .. } | Topic::Commits(_), "limit") => Some(Kind::Number),
        (Topic::Refs, "include_prs" | "include_pull_requests") => Some(Kind::Switch),
        (Topic::Commits(_), "p") => Some(Kind::Number),
        (Topic::Commits(_), "expand") => Some(Kind::Words),
        _ => None,
    }
}

/// The parameters in one spelling; `None` when one is unknown, twice there, or none of its kind.
fn parameters(topic: &Topic, query: &str) -> Option<Vec<(String, String)>> {
    let mut found: Vec<(String, String)> = Vec::new();
    let given = pairs(query).filter(|given| given.len() <= MAX_PARAMETERS)?;
    for (name, value) in given {
        let name = name.strip_suffix("[]").unwrap_or(&name).to_owned();
        let value = match known(topic, &name)? {
            Kind::Switch if boolean(&value)? => "true".to_owned(),
            Kind::Switch => continue,
            Kind::Number if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) => value,
            Kind::Number => return None,
            Kind::Text if value.len() <= MAX_VALUE => value,
            Kind::Text => return None,
            Kind::Words if value.len() <= MAX_VALUE => {
                found.push((name, value));
                continue;
            }
            Kind::Words => return None,
        };
        if found.iter().any(|(n, _)| *n == name) {
            return None;
        }
        found.push((name, value));
    }
    found.sort();
    found.dedup();
    Some(found)
}

fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    let decode = |s: &str| {
        let spaced = s.replace('+', " ");
        percent_decode_str(&spaced).decode_utf8().ok().map(std::borrow::Cow::into_owned)
    };
    let parts: Vec<&str> = text.split('&').filter(|pair| !pair.is_empty()).collect();
    let pairs = parts.into_iter().map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        Some((decode(name)?, decode(value)?))
    });
    pairs.collect()
}

fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" => Some(true),
        "false" | "0" | "" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::path::split;

    fn ask(method: Method, text: &str) -> Option<String> {
        let (path, query) = text.split_once('?').map_or((text, None), |(p, q)| (p, Some(q)));
        question(&method, &split(path).unwrap(), query).map(|q| q.to_string())
    }

    fn get(text: &str) -> Option<String> {
        ask(Method::GET, text)
    }

    #[test]
    fn questions_have_one_spelling() {
        let info = Some("huggingface:acme/tiny@main info");
        for same in [
            "/api/models/acme/tiny",
            "/api/models/acme/tiny?",
            "/api/models/acme/tiny/revision/main",
            "/api/models/acme/tiny?blobs=false&securityStatus=",
        ] {
            assert_eq!(get(same).as_deref(), info, "{same}");
        }
        let table = [
            ("/api/models/gpt2?blobs=True", "huggingface:gpt2@main info?blobs=true"),
            (
                "/api/datasets/acme/d/revision/refs%2Fpr%2F1?expand[]=sha&expand=author&expand=sha",
                "huggingface:datasets/acme/d@refs/pr/1 info?expand=author&expand=sha",
            ),
            (
                "/api/models/a/b/tree/main?recursive=true&expand=false",
                "huggingface:a/b@main tree?recursive=true",
            ),
            ("/api/models/a/b/tree/main/x%2Fy%20z/", "huggingface:a/b@main tree/x/y z"),
            ("/api/models/a/b/tree/main/x/y?cursor=a%3D%3D", "huggingface:a/b@main tree/x/y?cursor=a%3D%3D"),
            ("/api/spaces/a/b/refs?include_prs=1", "huggingface:spaces/a/b refs?include%5Fprs=true"),
            ("/api/models/a/b/commits/main?p=2&limit=50", "huggingface:a/b@main commits?limit=50&p=2"),
        ];
        for (path, expected) in table {
            assert_eq!(get(path).as_deref(), Some(expected), "{path}");
        }
        let paths = ask(Method::POST, "/api/models/a/b/paths-info/main").unwrap();
        assert!(paths.starts_with("huggingface:a/b@main paths/"), "{paths}");
    }

    #[test]
    fn what_is_not_known_is_no_question() {
        for other in [
            "/api/models",
            "/api/models?search=x",
            "/api/whoami-v2",
            "/api/agent-harnesses",
            "/api/models/a/b?unknown=1",
            "/api/models/a/b?blobs=maybe",
            "/api/models/a/b?blobs=true&blobs=true",
            "/api/models/a/b/commits/main?p=x",
            "/api/models/a/b/xet-read-token/main",
            "/api/models/a/b/discussions",
            "/api/models/a/b/paths-info/main",
            "/api/models/a/b/tree",
            "/api/collections/a/b",
        ] {
            assert_eq!(get(other), None, "{other}");
        }
        assert_eq!(ask(Method::POST, "/api/models/a/b/revision/main"), None);
        assert_eq!(get(&format!("/api/models/a/b/tree/main?cursor={}", "x".repeat(MAX_VALUE + 1))), None);
    }

    #[test]
    fn paths_come_as_a_form_or_as_json() {
        let form = "application/x-www-form-urlencoded";
        let both = Some((vec!["a b".to_owned(), "é".to_owned()], false));
        assert_eq!(asked_paths(form, b"paths=a+b&paths=%C3%A9&expand=False"), both);
        assert_eq!(asked_paths("application/json; charset=utf-8", br#"{"paths":["a b","\u00e9"]}"#), both);
        assert_eq!(asked_paths(form, b"paths=a&expand=true"), Some((vec!["a".to_owned()], true)));
        for (kind, bad) in
            [(form, "paths=a&x=1"), (form, "paths=%00"), ("application/json", "[]"), ("text/plain", "a")]
        {
            assert_eq!(asked_paths(kind, bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn a_redirect_for_small_files_names_the_file() {
        let commit = "0123456789abcdef0123456789abcdef01234567";
        let file = |path: &str| resolve_cache(&split(path).unwrap());
        let found = file(&format!("/api/resolve-cache/datasets/acme/d/{commit}/odd%20names/a.txt")).unwrap();
        assert_eq!(
            found.unwrap().to_string(),
            format!("huggingface:datasets/acme/d@{commit}/odd names/a.txt")
        );
        assert!(file("/api/resolve-cache/models/acme/d/main/a.txt").unwrap().is_none());
        assert!(file(&format!("/api/resolve-cache/models/acme/d/{commit}/")).is_err());
        assert!(file(&format!("/api/resolve-cache/models/acme/d/{commit}/a%2Fb")).is_err());
    }
}
