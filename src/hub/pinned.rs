//! What the API of Hugging Face says of a repository of which some files are pinned and no others are to be seen.

use std::collections::BTreeSet;

use http::StatusCode;
use serde_json::{Value, json};
use sha1::{Digest as _, Sha1};

use super::api;
use crate::model::{Commit, Document, Repo, RepoKind, Sha256, hex};

/// The id that git has for nothing.
const NO_ID: &str = "0000000000000000000000000000000000000000";

/// A file as the API lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinnedFile<'a> {
    /// Where it is.
    pub path: &'a str,
    /// How large it is.
    pub size: u64,
    /// Its bytes.
    pub id: FileId,
}

/// By what the API names the bytes of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileId {
    /// It is in the large-file storage.
    Lfs(Sha256),
    /// It is in the git repository, with this blob id, as far as that is known.
    Git(Option<String>),
}

impl PinnedFile<'_> {
    /// The id of the git blob: of a large file that is the pointer which stands for it.
    fn blob_id(&self) -> String {
        match &self.id {
            FileId::Git(id) => id.clone().unwrap_or_else(|| NO_ID.to_owned()),
            FileId::Lfs(_) => {
                let pointer = self.pointer();
                hex(&Sha1::digest(format!("blob {}\0{pointer}", pointer.len())))
            }
        }
    }

    fn pointer(&self) -> String {
        let FileId::Lfs(sha256) = &self.id else { return String::new() };
        format!("version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {}\n", self.size)
    }

    fn item(&self) -> Value {
        let mut item = json!({"type": "file", "oid": self.blob_id(), "size": self.size, "path": self.path});
        if let FileId::Lfs(sha256) = &self.id {
            item["lfs"] = json!({"oid": sha256, "size": self.size, "pointerSize": self.pointer().len()});
        }
        item
    }

    fn sibling(&self, with_blobs: bool) -> Value {
        let mut sibling = json!({"rfilename": self.path});
        if with_blobs {
            sibling["size"] = self.size.into();
            sibling["blobId"] = self.blob_id().into();
            if let FileId::Lfs(sha256) = &self.id {
                sibling["lfs"] =
                    json!({"sha256": sha256, "size": self.size, "pointerSize": self.pointer().len()});
            }
        }
        sibling
    }
}

/// An answer of the API, of what is at a commit if it is of one.
pub fn document(commit: Option<&Commit>, body: &Value) -> Document {
    let body = body.to_string();
    Document {
        status: StatusCode::OK.as_u16(),
        content_type: Some("application/json; charset=utf-8".to_owned()),
        commit: commit.cloned(),
        etag: api::etag(body.as_bytes()),
        body: body.into(),
        ..Document::default()
    }
}

/// What a repository is at a commit.
pub fn info(repo: &Repo, commit: &Commit, files: &[PinnedFile<'_>], with_blobs: bool) -> Value {
    let siblings: Vec<Value> = files.iter().map(|file| file.sibling(with_blobs)).collect();
    let mut info = json!({
        "id": repo.id,
        "sha": commit.as_str(),
        "private": false,
        "gated": false,
        "disabled": false,
        "tags": [],
        "siblings": siblings,
    });
    if repo.kind == RepoKind::Model {
        info["modelId"] = repo.id.clone().into();
    }
    info
}

/// The files and folders below a folder, which is empty for all; `None` when there is no such folder.
pub fn tree(files: &[PinnedFile<'_>], folder: &str, recursive: bool) -> Option<Value> {
    let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
    let below: Vec<(&PinnedFile<'_>, &str)> =
        files.iter().filter_map(|file| Some((file, file.path.strip_prefix(prefix.as_str())?))).collect();
    if below.is_empty() && !folder.is_empty() {
        return None;
    }
    let mut folders = BTreeSet::new();
    for (_, rest) in &below {
        let ends = rest.match_indices('/').map(|(at, _)| &rest[..at]);
        folders.extend(ends.take(if recursive { usize::MAX } else { 1 }));
    }
    let folders = folders.into_iter().map(|path| directory(&format!("{prefix}{path}")));
    let shown = below.iter().filter(|(_, rest)| recursive || !rest.contains('/'));
    Some(folders.chain(shown.map(|(file, _)| file.item())).collect())
}

/// What some paths are; those that nothing has are left out, as the hub does.
pub fn paths(files: &[PinnedFile<'_>], asked: &[String]) -> Value {
    let found = asked.iter().filter_map(|path| {
        let file = files.iter().find(|file| file.path == path);
        let is_folder = || files.iter().any(|file| is_below(file.path, path));
        file.map(PinnedFile::item).or_else(|| is_folder().then(|| directory(path)))
    });
    found.collect()
}

/// The branches and tags that are pinned. What is which the lock does not say: all are told as branches.
pub fn refs<'a>(pinned: impl Iterator<Item = (&'a str, &'a Commit)>) -> Value {
    let branches: Vec<Value> = pinned
        .map(|(name, commit)| {
            json!({"name": name, "ref": format!("refs/heads/{name}"), "targetCommit": commit.as_str()})
        })
        .collect();
    json!({"tags": [], "branches": branches, "converts": []})
}

/// Whether a file is in a folder or below it.
pub fn is_below(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
}

fn directory(path: &str) -> Value {
    json!({"type": "directory", "oid": NO_ID, "size": 0, "path": path})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> Vec<PinnedFile<'static>> {
        let lfs = FileId::Lfs(Sha256([0xab; 32]));
        vec![
            PinnedFile { path: "config.json", size: 2, id: FileId::Git(Some("cd".repeat(20))) },
            PinnedFile { path: "onnx/deep/model.onnx", size: 9, id: lfs.clone() },
            PinnedFile { path: "onnx/model.onnx", size: 12345, id: lfs },
        ]
    }

    fn named(tree: &Value) -> Vec<&str> {
        tree.as_array().unwrap().iter().map(|item| item["path"].as_str().unwrap()).collect()
    }

    #[test]
    fn a_tree_has_files_and_the_folders_above_them() {
        let files = files();
        let tree = |folder, recursive| tree(&files, folder, recursive);
        assert_eq!(named(&tree("", false).unwrap()), ["onnx", "config.json"]);
        assert_eq!(
            named(&tree("", true).unwrap()),
            ["onnx", "onnx/deep", "config.json", "onnx/deep/model.onnx", "onnx/model.onnx"]
        );
        assert_eq!(named(&tree("onnx", false).unwrap()), ["onnx/deep", "onnx/model.onnx"]);
        assert_eq!(tree("onn", true), None);
        assert_eq!(tree("config.json", true), None);
        assert_eq!(super::tree(&[], "", true), Some(json!([])));
    }

    #[test]
    fn a_large_file_has_the_id_of_its_pointer() {
        // The pointer of a file of 12345 bytes, as git-lfs writes it; its id as git hash-object gives it.
        let item = files()[2].item();
        assert_eq!(item["lfs"]["pointerSize"], 130);
        assert_eq!(item["oid"], "ce15dea791ee5386348438e36d33ea88df761fba");
        let all = info(
            &Repo { kind: RepoKind::Model, id: "acme/tiny".into() },
            &Commit::parse(&"ef".repeat(20)).unwrap(),
            &files(),
            true,
        );
        assert_eq!(all["siblings"][2]["blobId"], item["oid"]);
        assert_eq!(all["siblings"][0]["blobId"], "cd".repeat(20));
    }

    #[test]
    fn paths_are_told_that_are_there() {
        let asked = ["onnx", "config.json", "gone"].map(str::to_owned);
        assert_eq!(named(&paths(&files(), &asked)), ["onnx", "config.json"]);
    }
}
