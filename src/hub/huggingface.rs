//! Hugging Face: git commits, large files behind signed redirects.

use std::sync::Arc;

use http::header;

use super::hints;
use super::{Hop, Misread, opaque_tag, text, whole_size};
use crate::model::{
    Commit, Digest, Expectation, Promise, Promiser, Representation, Resource, Revision, Sha256, Timestamp,
};
use crate::request::{encode_path, encode_segment};

pub(super) fn file_path(resource: &Resource) -> String {
    format!(
        "/{}{}/resolve/{}/{}",
        resource.repo.kind.prefix(),
        encode_path(&resource.repo.id),
        encode_segment(resource.revision.as_str()),
        encode_path(&resource.path)
    )
}

/// The hub's own answers say what the file is; those of the content network only how its bytes are sent. The
/// network's entity tag is a Xet hash or something else, and so never the file's identity.
pub(super) fn expectation(resource: &Resource, hops: &[Hop], now: Timestamp) -> Result<Expectation, Misread> {
    let last = hops.last().ok_or(Misread::NoHops)?;
    let at_hub = || hops.iter().rev().filter(|h| h.at_hub);
    let told = |name: &str| at_hub().find_map(|h| text(&h.headers, name));
    let commit = match told("x-repo-commit").and_then(|c| Commit::parse(&c)) {
        Some(commit) => commit,
        None => match &resource.revision {
            Revision::Commit(commit) => commit.clone(),
            _ => return Err(Misread::NoCommit),
        },
    };
    let linked = told("x-linked-etag").map(|t| (t, Promiser::LinkedEtag));
    let tag =
        linked.or_else(|| at_hub().find_map(|h| text(&h.headers, header::ETAG)).map(|t| (t, Promiser::Etag)));
    let promise = tag.as_ref().and_then(|(tag, by)| promised(tag).map(|digest| Promise { digest, by: *by }));
    let arrived = last.status.is_success();
    let size = told("x-linked-size").and_then(|s| s.parse().ok()).or_else(|| whole_size(last));
    Ok(Expectation {
        representation: Representation {
            size,
            // The hub's tags for gzip variants are weak forms of the same id; the identity form is strong.
            etag: tag.map(|(tag, _)| format!("\"{}\"", opaque_tag(&tag))),
            commit: Some(commit),
            content_type: if arrived { text(&last.headers, header::CONTENT_TYPE) } else { None },
            last_modified: None,
        },
        promises: promise.into_iter().collect(),
        validator: if arrived { text(&last.headers, header::ETAG) } else { None },
        learned_at: now,
        xet: hints::told(hops).map(Arc::new),
    })
}

/// 64 digits are the SHA-256 of a large file, 40 the git blob id of a small one.
fn promised(tag: &str) -> Option<Digest> {
    let tag = opaque_tag(tag);
    Sha256::parse(tag).map(Digest::Sha256).or_else(|| Digest::git_sha1(tag))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Hub, Repo, RepoKind};
    use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    fn hop(status: u16, at_hub: bool, fields: &[(&str, &str)]) -> Hop {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.insert(HeaderName::try_from(*name).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        Hop { status: StatusCode::from_u16(status).unwrap(), headers, at_hub }
    }

    fn resource(revision: &str) -> Resource {
        Resource {
            hub: Hub::HuggingFace,
            repo: Repo { kind: RepoKind::Dataset, id: "acme/tiny".into() },
            revision: Revision::parse(Hub::HuggingFace, revision),
            path: "odd names/a b#c.bin".into(),
        }
    }

    #[test]
    fn a_path_encodes_revision_and_name() {
        let path = file_path(&resource("refs/pr/1"));
        assert_eq!(path, "/datasets/acme/tiny/resolve/refs%2Fpr%2F1/odd%20names/a%20b%23c.bin");
    }

    #[test]
    fn a_large_file_is_described_by_the_redirect_and_not_by_the_content_network() {
        let sha = "ab".repeat(32);
        let linked = format!("\"{sha}\"");
        let hops = [
            hop(
                302,
                true,
                &[
                    ("x-repo-commit", COMMIT),
                    ("x-linked-etag", &linked),
                    ("x-linked-size", "1000"),
                    ("etag", "\"hub\""),
                    ("content-length", "339"),
                ],
            ),
            hop(200, false, &[("etag", "\"cdn\""), ("content-length", "1000"), ("content-type", "model/x")]),
        ];
        let e = expectation(&resource("main"), &hops, Timestamp(1)).unwrap();
        assert_eq!(e.representation.etag, Some(linked));
        assert_eq!(e.representation.size, Some(1000));
        assert_eq!(e.representation.content_type.as_deref(), Some("model/x"));
        assert_eq!(e.validator.as_deref(), Some("\"cdn\""));
        assert_eq!(e.sha256(), Sha256::parse(&sha));
        let only_head = expectation(&resource("main"), &hops[..1], Timestamp(1)).unwrap();
        assert_eq!((only_head.representation.size, only_head.validator), (Some(1000), None));
    }

    #[test]
    fn a_small_file_is_described_by_its_own_answer_also_with_a_weak_tag() {
        let tag = format!("W/\"{}\"", "cd".repeat(20));
        let fields = [("etag", tag.as_str()), ("x-repo-commit", COMMIT), ("content-length", "7")];
        let e = expectation(&resource("main"), &[hop(307, true, &[]), hop(200, true, &fields)], Timestamp(1))
            .unwrap();
        assert_eq!(e.git_sha1(), Some([0xcd; 20]));
        assert_eq!(e.representation.etag, Some(format!("\"{}\"", "cd".repeat(20))));
        assert_eq!(e.representation.commit.unwrap().as_str(), COMMIT);
    }

    #[test]
    fn a_branch_without_a_commit_cannot_be_named() {
        let e = expectation(&resource("main"), &[hop(200, true, &[])], Timestamp(1));
        assert_eq!(e, Err(Misread::NoCommit));
        assert!(expectation(&resource(COMMIT), &[hop(200, true, &[])], Timestamp(1)).is_ok());
    }
}
