//! What the API says of the files of a repository: trees in pages, and chosen paths.

use std::collections::BTreeMap;
use std::ops::Bound;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::{Value, json};

use super::answer::Answer;
use super::api::{DATE, next_page};
use super::content::{File, Repository, Storage, World, digests};
use super::huggingface::{Origins, Refusal, commit_of, readable, refusal};
use super::request::{Request, form};

/// Entries in one page of a tree.
const PAGE: usize = 1000;

/// The same when each is expanded.
const EXPANDED_PAGE: usize = 50;

/// What stands at a path: a file, or a directory.
type Entries<'a> = BTreeMap<String, Option<&'a File>>;

/// Lists `folder`, or all of it.
pub(super) fn tree(
    world: &World,
    origins: &Origins<'_>,
    request: &Request,
    id: &str,
    revision: &str,
    folder: &str,
) -> Result<Answer, Refusal> {
    let lister = Lister::new(world, request, id, revision, request.flag("expand"))?;
    let entries = entries(lister.files(), folder, request.flag("recursive"));
    if entries.is_empty() && !folder.is_empty() {
        let message = format!("{folder} does not exist on \"{revision}\"");
        let refusal = *refusal(404, Some("EntryNotFound"), &message);
        return Err(Box::new(refusal.with("X-Repo-Commit", lister.commit)));
    }
    let most = world.page_of(if lister.expand { EXPANDED_PAGE } else { PAGE });
    let limit = request.parameter("limit").and_then(|l| l.parse().ok()).map_or(most, |l: usize| l.min(most));
    let after = match request.parameter("cursor") {
        None => Bound::Unbounded,
        Some(cursor) => match path_of(&cursor) {
            Some(path) => Bound::Excluded(path),
            None => return Err(refusal(400, None, "Invalid cursor")),
        },
    };
    let mut rest = entries.range::<String, _>((after, Bound::Unbounded));
    let page: Vec<_> = rest.by_ref().take(limit).collect();
    let said = page.iter().map(|(path, file)| lister.entry(path, **file)).collect();
    let mut answer = Answer::json(200, &said).with("X-Repo-Commit", lister.commit);
    if let (Some((last, _)), true) = (page.last(), rest.next().is_some()) {
        let changed = [("limit", limit.to_string()), ("cursor", cursor_after(last))];
        answer = answer.with("Link", next_page(origins, request, &changed));
    }
    Ok(answer)
}

/// Describes the paths that a form or a JSON object names; those that are nowhere are left out.
pub(super) fn paths_info(
    world: &World,
    request: &Request,
    id: &str,
    revision: &str,
) -> Result<Answer, Refusal> {
    let (paths, expand) = asked(request);
    let lister = Lister::new(world, request, id, revision, expand)?;
    let mut wanted = entries(lister.files(), "", true);
    wanted.retain(|path, _| paths.contains(path));
    let said = wanted.iter().map(|(path, file)| lister.entry(path, *file)).collect();
    Ok(Answer::json(200, &said).with("X-Repo-Commit", lister.commit))
}

/// The paths that a body names, and whether they are to be expanded.
fn asked(request: &Request) -> (Vec<String>, bool) {
    if let Ok(Value::Object(body)) = serde_json::from_slice(&request.body) {
        let paths = body.get("paths").and_then(Value::as_array).into_iter().flatten();
        let expand = body.get("expand").and_then(Value::as_bool).unwrap_or(false);
        return (paths.filter_map(|p| p.as_str().map(str::to_owned)).collect(), expand);
    }
    let fields = form(&String::from_utf8_lossy(&request.body));
    let expand = fields.iter().any(|(key, value)| key == "expand" && value.eq_ignore_ascii_case("true"));
    (fields.into_iter().filter(|(key, _)| key == "paths").map(|(_, value)| value).collect(), expand)
}

/// What is behind a `cursor`: nobody's business but the hub's, and in need of escapes in a URL.
fn cursor_after(path: &str) -> String {
    BASE64_STANDARD.encode(json!({ "file_name": path }).to_string())
}

fn path_of(cursor: &str) -> Option<String> {
    let place: Value = serde_json::from_slice(&BASE64_STANDARD.decode(cursor).ok()?).ok()?;
    Some(place["file_name"].as_str()?.to_owned())
}

/// The entries of one folder, or of everything below it, directories included.
fn entries<'a>(files: &'a BTreeMap<String, File>, folder: &str, recursive: bool) -> Entries<'a> {
    let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
    let mut entries = Entries::new();
    for (path, file) in files {
        let Some(below) = path.strip_prefix(&prefix) else { continue };
        let slashes: Vec<usize> = below.match_indices('/').map(|(at, _)| at).collect();
        for &at in slashes.iter().take(if recursive { usize::MAX } else { 1 }) {
            entries.insert(format!("{prefix}{}", &below[..at]), None);
        }
        if recursive || slashes.is_empty() {
            entries.insert(path.clone(), Some(file));
        }
    }
    entries
}

/// Writes entries of one commit for one caller.
struct Lister<'a> {
    repository: &'a Repository,
    commit: &'a str,
    expand: bool,
    /// Whether names in the Xet store are hidden from this caller.
    masked: bool,
}

impl<'a> Lister<'a> {
    fn new(
        world: &'a World,
        request: &Request,
        id: &str,
        revision: &str,
        expand: bool,
    ) -> Result<Self, Refusal> {
        let masked = readable(world, request, id, true).is_err();
        let repository = readable(world, request, id, false)?;
        let commit = commit_of(repository, revision)?;
        Ok(Self { repository, commit, expand, masked })
    }

    fn files(&self) -> &'a BTreeMap<String, File> {
        &self.repository.commits[self.commit]
    }

    fn entry(&self, path: &str, file: Option<&File>) -> Value {
        let mut out = match file {
            Some(file) => self.file(file),
            None => {
                let oid = digests::git_sha1(path.as_bytes());
                json!({ "type": "directory", "oid": oid, "size": 0, "path": path })
            }
        };
        if self.expand {
            let last = self.repository.last_change(self.commit, path);
            out["lastCommit"] = json!({ "id": last, "title": "scripted", "date": DATE });
        }
        out
    }

    fn file(&self, file: &File) -> Value {
        let mut out = json!({
            "type": "file", "oid": file.git_sha1, "size": file.bytes.len(), "path": file.path
        });
        if file.is_large() {
            out["lfs"] = json!({
                "oid": file.sha256, "size": file.bytes.len(), "pointerSize": file.pointer().len()
            });
        }
        if file.storage == Storage::Xet {
            out["xetHash"] = if self.masked { "*".repeat(64).into() } else { file.xet_hash().into() };
        }
        if self.expand {
            out["securityFileStatus"] = json!({
                "status": "safe",
                "avScan": { "status": "safe", "message": "No security issues detected" },
                "pickleImportScan": { "status": "unscanned", "pickleImports": [] },
            });
        }
        out
    }
}
