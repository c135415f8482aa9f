//! What the API says of a repository as a whole: everything, or the properties that the client expands.

use serde_json::{Map, Value, json};

use super::answer::Answer;
use super::api::DATE;
use super::content::{Access, File, Repository, World, digests};
use super::huggingface::{Refusal, commit_of, readable, refusal};
use super::request::Request;

/// What is told without being asked for. The other properties come only when they are expanded.
const PLAIN: [&str; 22] = [
    "author",
    "cardData",
    "createdAt",
    "datasets",
    "description",
    "disabled",
    "downloads",
    "gated",
    "host",
    "lastModified",
    "likes",
    "modelId",
    "models",
    "private",
    "runtime",
    "sdk",
    "sha",
    "siblings",
    "spaces",
    "subdomain",
    "tags",
    "usedStorage",
];

/// Properties that can be asked for and that no repository here has.
const ABSENT: [&str; 19] = [
    "baseModels",
    "childrenModelCount",
    "citation",
    "config",
    "evalResults",
    "gguf",
    "inference",
    "inferenceProviderMapping",
    "library_name",
    "mainSize",
    "mask_token",
    "model-index",
    "paperswithcode_id",
    "pipeline_tag",
    "region",
    "resourceGroup",
    "safetensors",
    "transformersInfo",
    "widgetData",
];

/// Describes `id` at `revision`.
pub(super) fn answer(world: &World, request: &Request, id: &str, revision: &str) -> Result<Answer, Refusal> {
    let repository = readable(world, request, id, false)?;
    let commit = commit_of(repository, revision)?;
    let (kind, bare) = id
        .split_once('/')
        .filter(|(kind, _)| matches!(*kind, "datasets" | "spaces"))
        .unwrap_or(("models", id));
    let properties = properties(repository, kind, bare, commit, request.flag("blobs"));
    let mut said = Map::new();
    said.insert("_id".to_owned(), digests::sha256(id.as_bytes())[..24].into());
    said.insert("id".to_owned(), bare.into());
    let expanded = request.all("expand");
    for name in &expanded {
        match properties.get(name) {
            Some(value) => _ = said.insert(name.clone(), value.clone()),
            None if ABSENT.contains(&&**name) => {}
            None => return Err(refusal(400, None, &format!("Invalid value {name:?} at \"expand\""))),
        }
    }
    if expanded.is_empty() {
        said.extend(properties.into_iter().filter(|(name, _)| PLAIN.contains(&&**name)));
    }
    if request.flag("securityStatus") {
        said.insert("securityRepoStatus".to_owned(), json!({ "scansDone": true, "filesWithIssues": [] }));
    }
    Ok(Answer::json(200, &Value::Object(said)).with("X-Repo-Commit", commit))
}

/// Everything that can be said of a repository of this kind.
fn properties(
    repository: &Repository,
    kind: &str,
    bare: &str,
    commit: &str,
    blobs: bool,
) -> Map<String, Value> {
    let files = &repository.commits[commit];
    let large = files.values().filter(|file| file.is_large());
    let gated = if repository.access == Access::Gated { json!("manual") } else { json!(false) };
    let mut all = json!({
        "author": bare.split_once('/').map(|(author, _)| author),
        "sha": commit,
        "private": repository.access == Access::Private,
        "gated": gated,
        "disabled": false,
        "lastModified": DATE,
        "createdAt": DATE,
        "likes": 1,
        "tags": [],
        "siblings": files.values().map(|file| sibling(file, blobs)).collect::<Vec<_>>(),
        "usedStorage": large.map(|file| file.bytes.len()).sum::<usize>(),
        "trendingScore": 0,
        "xetEnabled": true,
    });
    let more = match kind {
        "spaces" => json!({
            "sdk": "static",
            "host": format!("https://{}.static.hf.space", bare.replace('/', "-")),
            "subdomain": bare.replace('/', "-"),
            "runtime": { "stage": "RUNNING", "hardware": { "current": null, "requested": null } },
            "models": [],
            "datasets": [],
        }),
        "datasets" => json!({
            "downloads": 7, "downloadsAllTime": 70, "description": "", "cardData": { "license": "mit" }
        }),
        _ => json!({
            "downloads": 7, "downloadsAllTime": 70, "modelId": bare, "cardData": { "license": "mit" }, "spaces": []
        }),
    };
    let all = all.as_object_mut().expect("it was written as an object");
    all.extend(more.as_object().expect("it was written as an object").clone());
    std::mem::take(all)
}

fn sibling(file: &File, blobs: bool) -> Value {
    let mut out = json!({ "rfilename": file.path });
    if blobs {
        out["size"] = file.bytes.len().into();
        out["blobId"] = file.git_sha1.as_str().into();
        if file.is_large() {
            out["lfs"] = json!({
                "sha256": file.sha256, "size": file.bytes.len(), "pointerSize": file.pointer().len()
            });
        }
    }
    out
}
