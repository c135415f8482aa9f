//! Directories that hold models: how they are laid out, and what the names in them mean.

use crate::model::{Commit, Digest, Hub, Promise, Promiser, Repo, RepoKind, Sha256};

use super::{BadModel, ModelName};

/// What models are read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// A cache of Hugging Face clients: `models--ORG--NAME/snapshots/COMMIT/PATH`, links to `blobs/ETAG`.
    HfCache,
    /// Folders: `ORG/MODEL/REVISION/PATH`.
    Folders,
    /// The lock file of hermeto.
    Hermeto,
}

impl Layout {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::HfCache, Self::Folders, Self::Hermeto];

    /// The word for it on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::HfCache => "hf-cache",
            Self::Folders => "folders",
            Self::Hermeto => "hermeto",
        }
    }

    /// How a directory is laid out in which these names are.
    pub fn of_directory<'a>(mut names: impl Iterator<Item = &'a str>) -> Self {
        if names.any(|name| repo_of_folder(name).is_some()) { Self::HfCache } else { Self::Folders }
    }
}

/// The repository whose files a cache of Hugging Face keeps in a folder of this name: `datasets--ORG--NAME`.
pub fn repo_of_folder(name: &str) -> Option<Repo> {
    let (kind, id) = name.split_once("--")?;
    let kind = match kind {
        "models" => RepoKind::Model,
        "datasets" => RepoKind::Dataset,
        "spaces" => RepoKind::Space,
        _ => return None,
    };
    // The hub allows no two hyphens side by side in a name.
    let id = id.replace("--", "/");
    ModelName::new(Hub::HuggingFace, Repo { kind, id }, "main").ok().map(|name| name.repo)
}

/// The name of the folder in which a cache of Hugging Face keeps the files of a repository.
pub fn folder_of_repo(repo: &Repo) -> String {
    let kind = match repo.kind {
        RepoKind::Model => "models",
        RepoKind::Dataset => "datasets",
        RepoKind::Space => "spaces",
    };
    format!("{kind}--{}", repo.id.replace('/', "--"))
}

/// What the hub promised of a blob that a cache of Hugging Face keeps under this name, which is the entity tag that
/// the hub gave it; `None` for a tag that is no digest.
pub fn promise_of_blob(name: &str) -> Option<Promise> {
    let sha256 = Sha256::parse(name).map(|sha256| (Digest::Sha256(sha256), Promiser::LinkedEtag));
    let (digest, by) = sha256.or_else(|| Some((Digest::git_sha1(name)?, Promiser::Etag)))?;
    Some(Promise { digest, by })
}

/// Why folders name no model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadFolders {
    /// Nobody could name it.
    Name(BadModel),
    /// A revision of Hugging Face that is no commit, so that there is nothing to pin.
    NoCommit,
}

impl std::fmt::Display for BadFolders {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name(why) => why.fmt(f),
            Self::NoCommit => f.write_str(
                "the revision is no commit (40 hexadecimal digits), so nobody knows which commit this is",
            ),
        }
    }
}

impl std::error::Error for BadFolders {}

/// The model of the folders `ORG/MODEL/REVISION`.
///
/// # Errors
/// See [`BadFolders`].
pub fn model_of_folders(hub: Hub, org: &str, model: &str, revision: &str) -> Result<ModelName, BadFolders> {
    let repo = Repo { kind: RepoKind::Model, id: format!("{org}/{model}") };
    if hub != Hub::HuggingFace {
        return ModelName::new(hub, repo, revision).map_err(BadFolders::Name);
    }
    let commit = Commit::parse(revision).ok_or(BadFolders::NoCommit)?;
    ModelName::new(hub, repo, commit.as_str()).map_err(BadFolders::Name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_a_cache_is_a_repository() {
        for (folder, want) in [
            ("models--acme--tiny", Some("acme/tiny")),
            ("models--gpt2", Some("gpt2")),
            ("datasets--acme--d-1.0_x", Some("datasets/acme/d-1.0_x")),
            ("spaces--acme--s", Some("spaces/acme/s")),
            ("models--a--b--c", None),
            ("models--", None),
            ("models--..", None),
            ("models--a b--c", None),
            ("version.txt", None),
            (".locks", None),
        ] {
            assert_eq!(repo_of_folder(folder).map(|repo| repo.to_string()).as_deref(), want, "{folder}");
        }
        for folder in ["models--acme--tiny", "models--gpt2", "datasets--acme--d-1.0_x", "spaces--acme--s"] {
            assert_eq!(repo_of_folder(folder).map(|repo| folder_of_repo(&repo)).as_deref(), Some(folder));
        }
        assert_eq!(Layout::of_directory([".locks", "models--gpt2"].into_iter()), Layout::HfCache);
        assert_eq!(Layout::of_directory(["acme"].into_iter()), Layout::Folders);
    }

    #[test]
    fn a_blob_has_the_name_of_its_digest() {
        let large = promise_of_blob(&"ab".repeat(32)).unwrap();
        assert_eq!((large.digest, large.by), (Digest::Sha256(Sha256([0xab; 32])), Promiser::LinkedEtag));
        let small = promise_of_blob(&"cd".repeat(20)).unwrap();
        assert_eq!((small.digest, small.by), (Digest::GitSha1([0xcd; 20]), Promiser::Etag));
        assert_eq!(promise_of_blob("5d41402abc4b2a76b9719d911017c592-7"), None);
    }

    #[test]
    fn folders_are_an_organization_a_model_and_a_revision() {
        let named = |hub, org, model, revision| {
            model_of_folders(hub, org, model, revision).map(|name| name.to_string())
        };
        let commit = "AB".repeat(20);
        assert_eq!(named(Hub::Mozilla, "acme", "tiny", "v1.0").as_deref(), Ok("moz:acme/tiny@v1.0"));
        let of_hf = named(Hub::HuggingFace, "acme", "tiny", &commit);
        assert_eq!(of_hf, Ok(format!("hf:acme/tiny@{}", "ab".repeat(20))));
        assert_eq!(named(Hub::HuggingFace, "acme", "tiny", "main"), Err(BadFolders::NoCommit));
        assert_eq!(named(Hub::Mozilla, "a@c", "tiny", "main"), Err(BadFolders::Name(BadModel::Repo)));
        assert_eq!(named(Hub::Mozilla, "acme", "tiny", "a\nb"), Err(BadFolders::Name(BadModel::Revision)));
    }
}
