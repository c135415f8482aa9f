//! The API of Hugging Face: how questions are put, and what answers mean.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, StatusCode, header};
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::link::next_page;
use super::text;
use crate::model::{Commit, Digest, Document, HubRoot, Question, RepoKind, Timestamp, Topic, hex};
use crate::request::{encode_path, encode_segment};

/// The path and query under the hub's root at which a question is put.
pub fn question_path(question: &Question) -> String {
    let kind = match question.repo.kind {
        RepoKind::Model => "models",
        RepoKind::Dataset => "datasets",
        RepoKind::Space => "spaces",
    };
    let revision = question.revision().map(|r| encode_segment(r.as_str())).unwrap_or_default();
    let about = match &question.topic {
        Topic::Info(_) => format!("revision/{revision}"),
        Topic::Tree { path, .. } if path.is_empty() => format!("tree/{revision}"),
        Topic::Tree { path, .. } => format!("tree/{revision}/{}", encode_path(path)),
        Topic::Paths { .. } => format!("paths-info/{revision}"),
        Topic::Refs => "refs".to_owned(),
        Topic::Commits(_) => format!("commits/{revision}"),
    };
    let mut out = format!("/api/{kind}/{}/{about}", encode_path(&question.repo.id));
    for (at, (name, value)) in question.parameters.iter().enumerate() {
        out.push(if at == 0 { '?' } else { '&' });
        out.push_str(&format!("{}={}", encode_parameter(name), encode_parameter(value)));
    }
    out
}

/// The JSON that a question has as its body, which then is sent by POST.
pub fn question_body(question: &Question) -> Option<Vec<u8>> {
    match &question.topic {
        Topic::Paths { paths, expand, .. } => {
            Some(json!({ "paths": paths, "expand": expand }).to_string().into_bytes())
        }
        _ => None,
    }
}

fn encode_parameter(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// The answer as it is kept: `body` has nothing of Xet any more.
pub fn document(
    root: &HubRoot,
    status: StatusCode,
    headers: &HeaderMap,
    body: Bytes,
    now: Timestamp,
) -> Document {
    let told = |name: &'static str| text(headers, HeaderName::from_static(name));
    Document {
        status: status.as_u16(),
        content_type: text(headers, header::CONTENT_TYPE),
        commit: told("x-repo-commit").and_then(|c| Commit::parse(&c)),
        error_code: told("x-error-code"),
        error_message: told("x-error-message"),
        next: next_page(root, headers),
        total: told("x-total-count"),
        etag: etag(&body),
        validator: text(headers, header::ETAG),
        learned_at: now,
        body,
    }
}

/// An entity tag of a body as it is here, with its quotes.
pub fn etag(body: &[u8]) -> String {
    format!("\"{}\"", hex(&Sha256::digest(body)[..16]))
}

/// The hub's own answer for a path that a commit does not have.
pub fn entry_not_found(commit: &Commit) -> Document {
    const TEXT: &str = "Entry not found";
    Document {
        status: 404,
        content_type: Some("text/plain; charset=utf-8".to_owned()),
        commit: Some(commit.clone()),
        error_code: Some("EntryNotFound".to_owned()),
        error_message: Some(TEXT.to_owned()),
        body: TEXT.as_bytes().into(),
        ..Document::default()
    }
}

/// Whether a 404 says that the revision is there and the path is not, which at a commit never changes.
pub fn is_entry_not_found(headers: &HeaderMap) -> bool {
    text(headers, HeaderName::from_static("x-error-code")).is_some_and(|code| code == "EntryNotFound")
}

/// Whether a 404 says that there is no such revision of a repository that the caller may see.
pub fn is_revision_not_found(headers: &HeaderMap) -> bool {
    text(headers, HeaderName::from_static("x-error-code")).is_some_and(|code| code == "RevisionNotFound")
}

/// The commit that an answer to [`Topic::Info`] names.
pub fn commit_of(info: &Document) -> Option<Commit> {
    #[derive(Deserialize)]
    struct Info {
        sha: Option<String>,
    }
    serde_json::from_slice::<Info>(&info.body).ok()?.sha.and_then(|sha| Commit::parse(&sha))
}

/// A file that a tree lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Where it is.
    pub path: String,
    /// How large it is.
    pub size: Option<u64>,
    /// What its bytes hash to.
    pub digest: Option<Digest>,
}

/// The files of one page of a tree; `None` when the page cannot be read.
pub fn listed(page: &Document) -> Option<Vec<Listed>> {
    #[derive(Deserialize)]
    struct Item {
        r#type: String,
        path: String,
        size: Option<u64>,
        oid: Option<String>,
        lfs: Option<Large>,
    }
    #[derive(Deserialize)]
    struct Large {
        oid: Option<String>,
    }
    let items: Vec<Item> = serde_json::from_slice(&page.body).ok()?;
    let files = items.into_iter().filter(|item| item.r#type == "file");
    let listed = files.map(|item| {
        let digest = match item.lfs {
            Some(large) => large.oid.as_deref().and_then(crate::model::Sha256::parse).map(Digest::Sha256),
            None => item.oid.as_deref().and_then(Digest::git_sha1),
        };
        Listed { path: item.path, size: item.size, digest }
    });
    Some(listed.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Repo, Revision};

    fn question(topic: Topic) -> Question {
        let repo = Repo { kind: RepoKind::Dataset, id: "acme/t#".into() };
        let parameters = vec![("cursor".to_owned(), "a=&b".to_owned()), ("recursive".into(), "true".into())];
        Question { repo, topic, parameters }
    }

    #[test]
    fn a_question_is_put_with_everything_encoded() {
        let revision = Revision::Named("refs/pr/1".into());
        let tree = question(Topic::Tree { revision: revision.clone(), path: "a b/c".into() });
        let path = "/api/datasets/acme/t%23/tree/refs%2Fpr%2F1/a%20b/c?cursor=a%3D%26b&recursive=true";
        assert_eq!(question_path(&tree), path);
        assert_eq!(question_body(&tree), None);
        let paths = question(Topic::Paths { revision, paths: vec!["ü\"".into()], expand: true });
        let body: serde_json::Value = serde_json::from_slice(&question_body(&paths).unwrap()).unwrap();
        assert_eq!(body, json!({ "paths": ["ü\""], "expand": true }));
    }

    #[test]
    fn answers_are_read_for_what_they_promise() {
        let said = |body: &str| Document { body: body.as_bytes().to_vec().into(), ..Document::default() };
        let commit = "0123456789abcdef0123456789abcdef01234567";
        assert_eq!(commit_of(&said(&format!("{{\"sha\":\"{commit}\"}}"))).unwrap().as_str(), commit);
        assert_eq!(commit_of(&said("{\"author\":\"x\"}")), None);
        assert_eq!(commit_of(&said("[]")), None);
        let (git, sha) = ("ab".repeat(20), "cd".repeat(32));
        let tree = said(&format!(
            r#"[{{"type":"directory","oid":"{git}","size":0,"path":"d"}},
                {{"type":"file","oid":"{git}","size":2,"path":"d/a"}},
                {{"type":"file","oid":"{git}","size":9,"path":"b","lfs":{{"oid":"{sha}","size":9,"pointerSize":1}}}}]"#
        ));
        let files = listed(&tree).unwrap();
        assert_eq!(files.iter().map(|f| f.path.as_str()).collect::<Vec<_>>(), ["d/a", "b"]);
        assert_eq!(files[0].digest, Digest::git_sha1(&git));
        assert_eq!(files[1].digest.map(|d| d.value()), Some(sha));
        assert_eq!(listed(&said("{}")), None);
    }
}
