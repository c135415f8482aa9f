//! What repositories are called now, as a hub said when it was asked for an earlier name.

use std::time::Duration;

use http::{Method, Uri};
use moka::sync::Cache as Memory;
use url::Url;

use crate::model::{Hub, HubRoot, Repo};
use crate::request::{Named, Target, classify};

/// Names that are remembered.
const MAX_NAMES: u64 = 10_000;

/// New names by old ones.
pub(super) struct Names(Memory<Repo, Repo>);

impl Names {
    /// Remembers each name for `ttl`.
    pub(super) fn new(ttl: Duration) -> Self {
        Self(Memory::builder().max_capacity(MAX_NAMES).time_to_live(ttl).build())
    }

    /// What `repo` is called now, as far as known.
    pub(super) fn current(&self, hub: Hub, repo: &Repo) -> Repo {
        match hub {
            Hub::HuggingFace => self.0.get(repo).unwrap_or_else(|| repo.clone()),
            Hub::Mozilla | Hub::Settings => repo.clone(),
        }
    }

    /// Reads a redirect within a hub: when it leads to the same thing of another repository, that is the new name.
    pub(super) fn learn(&self, hub: Hub, root: &HubRoot, from: &Url, to: &Url) {
        let repo = |url: &Url| {
            let uri: Uri = url.as_str().strip_prefix(root.as_str())?.parse().ok()?;
            match classify(&Method::GET, &uri, &Named::Hub(Hub::HuggingFace)).ok()? {
                Target::File(resource) => Some(resource.repo),
                Target::Question(question) => Some(question.repo),
                Target::Pass { .. }
                | Target::Elsewhere(_)
                | Target::Tunnel(_)
                | Target::Settings(_)
                | Target::Pac => None,
            }
        };
        if hub == Hub::HuggingFace
            && let (Some(old), Some(new)) = (repo(from), repo(to))
            && old.kind == new.kind
            && old != new
        {
            tracing::info!(%old, %new, "a repository was renamed");
            self.0.insert(old, new);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::RepoKind;

    #[test]
    fn a_redirect_to_the_same_thing_elsewhere_is_a_new_name() {
        let root = HubRoot::parse("http://hub/x").unwrap();
        let model = |id: &str| Repo { kind: RepoKind::Model, id: id.into() };
        let names = Names::new(Duration::from_secs(60));
        let learn = |from: &str, to: &str| {
            let url = |path: &str| Url::parse(&format!("{root}{path}")).unwrap();
            names.learn(Hub::HuggingFace, &root, &url(from), &url(to));
        };
        learn("/a/old/resolve/main/x", "/a/new/resolve/main/x");
        learn("/api/models/b?blobs=true", "/api/models/b/b?blobs=true");
        // Where small files are is no other name, and neither is a page.
        let commit = "0".repeat(40);
        learn("/a/c/resolve/main/x", &format!("/api/resolve-cache/models/a/c/{commit}/x"));
        learn("/a/d/resolve/main/x", "/login");
        for (name, now) in [("a/old", "a/new"), ("b", "b/b"), ("a/c", "a/c"), ("a/d", "a/d")] {
            assert_eq!(names.current(Hub::HuggingFace, &model(name)), model(now));
        }
        assert_eq!(names.current(Hub::Mozilla, &model("a/old")), model("a/old"));
    }
}
