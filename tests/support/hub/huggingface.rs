//! The Hugging Face layout: pages of files, the API that clients ask, and the content network.
//!
//! Texts and headers follow the wire notes of real clients; what no client looks at is left out.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::answer::Answer;
use super::content::{Access, File, Repository, Storage, World, digests};
use super::request::{Request, decode, form};

const EXPOSED: &str = "X-Repo-Commit,X-Request-Id,X-Error-Code,X-Error-Message,X-Total-Count,ETag,Link,\
                       Accept-Ranges,Content-Range,X-Linked-Size,X-Linked-ETag,X-Xet-Hash";

/// Below this size the hub sends text as it is.
const COMPRESSED_FROM: usize = 1024;

/// Where the hub says that its other parts are.
pub(super) struct Origins<'a> {
    pub hub: &'a str,
    pub cdn: &'a str,
    pub cas: &'a str,
}

/// Answers a request at the hub root; `None` when the path is none of this layout.
pub(super) fn answer(world: &mut World, origins: &Origins<'_>, request: &Request) -> Option<Answer> {
    let path = request.path().strip_prefix('/')?;
    let segments: Vec<&str> = path.split('/').collect();
    let mut answer = match segments.as_slice() {
        ["api", rest @ ..] => api(world, origins, request, rest),
        _ => page(world, origins, request, &segments)?,
    };
    // As the real hub does; nobody downstream may see it.
    answer = answer.with("Set-Cookie", "hub-session=scripted; Path=/; HttpOnly");
    answer = answer.with("Access-Control-Expose-Headers", EXPOSED).with("Access-Control-Allow-Origin", "*");
    Some(answer)
}

/// Answers a request at the content network.
pub(super) fn deliver(world: &World, request: &Request) -> Answer {
    let Some(delivered) = world.delivered.get(request.path()) else {
        return Answer::new(404, "application/xml", "<Error><Code>NoSuchKey</Code></Error>");
    };
    let signature = request.parameter("sig").and_then(|sig| sig.parse::<u64>().ok()).unwrap_or(0);
    let expired = world.expired.get(request.path()).copied().unwrap_or(0);
    if signature <= expired || signature > world.signatures {
        return expired_answer().about(&delivered.name);
    }
    let file = &delivered.file;
    // Never the identity of the content: MD5 for LFS, a name of its own for Xet.
    let etag = if file.storage == Storage::Xet { file.xet_hash() } else { file.md5.clone() };
    Answer::content("binary/octet-stream", file.bytes.clone())
        .about(&delivered.name)
        .with("ETag", format!("\"{etag}\""))
        .with("Last-Modified", "Tue, 14 Nov 2023 22:13:20 GMT")
        .with("Cache-Control", "public, max-age=604800, immutable, s-maxage=604800")
        .with("Access-Control-Allow-Origin", "*")
        .with("X-Cache", "Hit from cloudfront")
}

/// What the content network says of a signature that is no longer good.
pub(super) fn expired_answer() -> Answer {
    Answer::new(
        403,
        "application/xml",
        "<Error><Code>AccessDenied</Code><Message>Access denied</Message></Error>",
    )
}

/// `[datasets/|spaces/]ID/resolve/REVISION/PATH`.
fn page(world: &mut World, origins: &Origins<'_>, request: &Request, segments: &[&str]) -> Option<Answer> {
    let at = segments.iter().position(|s| matches!(*s, "resolve" | "raw"))?;
    let (id, rest) = (segments[..at].join("/"), &segments[at + 1..]);
    let id = decode(&id);
    let prefixed = id.starts_with("datasets/") || id.starts_with("spaces/");
    let parts = id.split('/').count() - usize::from(prefixed);
    let (&revision, path) = rest.split_first()?;
    if !(1..=2).contains(&parts) || path.is_empty() {
        return None;
    }
    let (revision, path) = (decode(revision), decode(&path.join("/")));
    Some(resolve(world, origins, request, &id, &revision, &path).about(&format!("{id}/{path}")))
}

fn resolve(
    world: &mut World,
    origins: &Origins<'_>,
    request: &Request,
    id: &str,
    revision: &str,
    path: &str,
) -> Answer {
    if let Some(moved) = renamed(world, request, id) {
        return moved;
    }
    let found = readable(world, request, id, true).and_then(|r| entry(r, id, revision, path));
    let (commit, file) = match found {
        Ok((commit, file)) => (commit.to_owned(), file.clone()),
        Err(refusal) => return *refusal,
    };
    match file.storage {
        Storage::Lfs | Storage::Xet => redirect_to_cdn(world, origins, id, &commit, &file),
        Storage::Small => redirect_to_cache(request, id, &commit, &file),
        Storage::Direct => git_content(request, &commit, &file),
    }
}

fn redirect_to_cdn(world: &mut World, origins: &Origins<'_>, id: &str, commit: &str, file: &File) -> Answer {
    let (path, signature) = world.sign(id, file);
    let name = file.path.rsplit('/').next().unwrap_or_default();
    let name = percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC);
    let location = format!(
        "{}{path}?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Expires=3600&sig={signature}\
         &response-content-disposition=inline%3B%20filename%3D%22{name}%22",
        origins.cdn
    );
    let mut answer = linked(Answer::text(302, &format!("Found. Redirecting to {location}")), commit, file)
        .with("Location", location);
    if file.storage == Storage::Xet {
        let route = format!("{}/xet-read-token/{commit}", api_path(id));
        let hash = file.xet_hash();
        answer = answer
            .with("X-Xet-Hash", &hash)
            .with("X-Xet-Refresh-Route", &route)
            .with(
                "Link",
                format!(
                    "<{}{route}>; rel=\"xet-auth\", <{}/v1/reconstructions/{hash}>; rel=\"xet-reconstruction-info\"",
                    origins.hub, origins.cas
                ),
            );
    }
    answer
}

fn redirect_to_cache(request: &Request, id: &str, commit: &str, file: &File) -> Answer {
    let encode =
        |s: &str| percent_encoding::utf8_percent_encode(s, percent_encoding::NON_ALPHANUMERIC).to_string();
    let path: Vec<String> = file.path.split('/').map(encode).collect();
    let location = format!(
        "/api/resolve-cache/{}/{commit}/{}?{}=&etag={}",
        plural(id),
        path.join("/"),
        encode(request.path()),
        encode(&file.linked_etag())
    );
    linked(Answer::text(307, &format!("Temporary Redirect. Redirecting to {location}")), commit, file)
        .with("Location", location)
}

/// What the hub says of a file's content before the content itself.
fn linked(answer: Answer, commit: &str, file: &File) -> Answer {
    answer
        .with("X-Repo-Commit", commit)
        .with("X-Linked-Size", file.bytes.len().to_string())
        .with("X-Linked-ETag", file.linked_etag())
        .with("Accept-Ranges", "bytes")
        .with("Vary", "Origin, Accept")
}

/// A file of the git repository.
fn git_content(request: &Request, commit: &str, file: &File) -> Answer {
    let text = std::str::from_utf8(&file.bytes).is_ok();
    let content_type = if text { "text/plain; charset=utf-8" } else { "application/octet-stream" };
    let mut answer = Answer::content(content_type, file.bytes.clone())
        .with("X-Repo-Commit", commit)
        .with("ETag", file.linked_etag())
        .with("Content-Security-Policy", "default-src none; sandbox");
    // A part is sent as it is: the hf-hub crate asks for one, takes gzip, and insists on a Content-Range.
    let whole = request.header("range").is_none();
    if text && whole && file.bytes.len() >= COMPRESSED_FROM && request.takes_gzip() {
        answer.gzip();
    }
    answer
}

fn api(world: &mut World, origins: &Origins<'_>, request: &Request, segments: &[&str]) -> Answer {
    let not_found =
        || Answer::json(404, &json!({ "error": "Sorry, we can't find the page you are looking for." }));
    match segments {
        ["whoami-v2"] => return whoami(world, request),
        ["resolve-cache", kind @ ("models" | "datasets" | "spaces"), rest @ ..] => {
            return resolve_cache(world, request, kind, rest).unwrap_or_else(not_found);
        }
        _ => {}
    }
    let [kind @ ("models" | "datasets" | "spaces"), rest @ ..] = segments else { return not_found() };
    const VERBS: [&str; 6] = ["revision", "tree", "paths-info", "refs", "commits", "xet-read-token"];
    let at = rest.iter().position(|s| VERBS.contains(s)).unwrap_or(rest.len());
    if !(1..=2).contains(&at) {
        return not_found();
    }
    let id = singular(kind, &decode(&rest[..at].join("/")));
    if let Some(moved) = renamed(world, request, &id) {
        return moved;
    }
    let said = match &rest[at..] {
        [] => info(world, request, &id, "main"),
        ["revision", revision] => info(world, request, &id, &decode(revision)),
        ["tree", revision, path @ ..] => {
            tree(world, origins, request, &id, &decode(revision), &decode(&path.join("/")))
        }
        ["paths-info", revision] => paths_info(world, request, &id, &decode(revision)),
        ["refs"] => refs(world, request, &id),
        ["commits", revision] => commits(world, request, &id, &decode(revision)),
        ["xet-read-token", revision] => xet_token(world, origins, request, &id, &decode(revision)),
        _ => Ok(not_found()),
    };
    let mut answer = said.unwrap_or_else(|refusal| *refusal);
    if answer.status == 200 {
        let tag = format!("W/\"{:x}-{:08x}\"", answer.body.len(), crc32c::crc32c(&answer.body));
        answer = answer.with("ETag", tag);
        if answer.body.len() >= COMPRESSED_FROM && request.takes_gzip() {
            answer.gzip();
        }
    }
    answer
}

fn resolve_cache(world: &World, request: &Request, kind: &str, rest: &[&str]) -> Option<Answer> {
    let at = rest.iter().position(|s| s.len() == 40 && s.bytes().all(|b| b.is_ascii_hexdigit()))?;
    let id = singular(kind, &decode(&rest[..at].join("/")));
    let path = decode(&rest[at + 1..].join("/"));
    let answer = match readable(world, request, &id, true).and_then(|r| entry(r, &id, rest[at], &path)) {
        Ok((commit, file)) => git_content(request, commit, file),
        Err(refusal) => *refusal,
    };
    Some(answer.about(&format!("{id}/{path}")))
}

/// An answer in place of what was asked for; boxed, as it is much larger than the way on.
type Refusal = Box<Answer>;

/// The repository, if the caller may see it and, where `content` is wanted, read its files.
fn readable<'a>(
    world: &'a World,
    request: &Request,
    id: &str,
    content: bool,
) -> Result<&'a Repository, Refusal> {
    let token = request.token();
    if token.is_some_and(|token| !world.tokens.contains(token)) {
        return Err(refusal(401, None, "Invalid credentials in Authorization header"));
    }
    let repository = world.repositories.get(id);
    let reads = repository.is_some_and(|r| token.is_some_and(|token| r.readers.contains(token)));
    match (repository, repository.map(|r| r.access)) {
        (Some(repository), Some(Access::Public)) => Ok(repository),
        (Some(repository), Some(Access::Gated)) if reads || !content => Ok(repository),
        (Some(repository), Some(Access::Private)) if reads => Ok(repository),
        (Some(_), Some(Access::Gated)) if token.is_none() => Err(refusal(
            401,
            Some("GatedRepo"),
            &format!(
                "Access to model {id} is restricted. You must have access to it and be authenticated to access it. \
                 Please log in."
            ),
        )),
        (Some(_), Some(Access::Gated)) => Err(refusal(
            403,
            Some("GatedRepo"),
            &format!(
                "Access to model {id} is restricted and you are not in the authorized list. Ask for access to it first."
            ),
        )),
        // A missing repository and a hidden one look the same.
        _ if token.is_none() => Err(refusal(401, None, "Invalid username or password.")),
        _ => Err(refusal(404, Some("RepoNotFound"), "Repository not found")),
    }
}

fn refusal(status: u16, code: Option<&str>, message: &str) -> Refusal {
    let mut answer = Answer::json(status, &json!({ "error": message })).with("X-Error-Message", message);
    if let Some(code) = code {
        answer = answer.with("X-Error-Code", code);
    }
    Box::new(answer)
}

/// The commit that a revision names.
fn commit_of<'a>(repository: &'a Repository, revision: &str) -> Result<&'a str, Refusal> {
    repository
        .resolve(revision)
        .ok_or_else(|| refusal(404, Some("RevisionNotFound"), &format!("Invalid rev id: {revision}")))
}

fn entry<'a>(
    repository: &'a Repository,
    id: &str,
    revision: &str,
    path: &str,
) -> Result<(&'a str, &'a File), Refusal> {
    let commit = commit_of(repository, revision)?;
    match repository.commits[commit].get(path) {
        Some(file) => Ok((commit, file)),
        None => Err(Box::new(
            Answer::text(404, "Entry not found")
                .with("X-Error-Code", "EntryNotFound")
                .with("X-Error-Message", "Entry not found")
                .with("X-Repo-Commit", commit)
                .about(&format!("{id}/{path}")),
        )),
    }
}

fn renamed(world: &World, request: &Request, id: &str) -> Option<Answer> {
    let new = world.renamed.get(id)?;
    let location = request.target.replacen(id, new, 1);
    Some(Answer::text(307, "Temporary Redirect").with("Location", location))
}

fn whoami(world: &World, request: &Request) -> Answer {
    match request.token() {
        Some(token) if world.tokens.contains(token) => {
            Answer::json(200, &json!({ "type": "user", "name": "scripted", "orgs": [] }))
        }
        Some(_) => *refusal(401, None, "Invalid credentials in Authorization header"),
        None => *refusal(401, None, "Invalid username or password."),
    }
}

fn info(world: &World, request: &Request, id: &str, revision: &str) -> Result<Answer, Refusal> {
    let repository = readable(world, request, id, false)?;
    let commit = commit_of(repository, revision)?;
    let blobs = request.parameter("blobs").is_some_and(|v| matches!(v.as_str(), "true" | "1"));
    let sibling = |file: &File| {
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
    };
    let siblings: Vec<Value> = repository.commits[commit].values().map(sibling).collect();
    let bare =
        id.split_once('/').filter(|(kind, _)| matches!(*kind, "datasets" | "spaces")).map_or(id, |(_, b)| b);
    Ok(Answer::json(
        200,
        &json!({
            "_id": &digests::sha256(id.as_bytes())[..24],
            "id": bare,
            "modelId": bare,
            "author": bare.split_once('/').map(|(author, _)| author),
            "sha": commit,
            "private": repository.access == Access::Private,
            "gated": if repository.access == Access::Gated { json!("manual") } else { json!(false) },
            "disabled": false,
            "lastModified": "2023-11-14T22:13:20.000Z",
            "createdAt": "2023-11-14T22:13:20.000Z",
            "downloads": 7,
            "likes": 1,
            "tags": [],
            "siblings": siblings,
        }),
    )
    .with("X-Repo-Commit", commit))
}

fn tree(
    world: &World,
    origins: &Origins<'_>,
    request: &Request,
    id: &str,
    revision: &str,
    folder: &str,
) -> Result<Answer, Refusal> {
    let masked = readable(world, request, id, true).is_err();
    let repository = readable(world, request, id, false)?;
    let commit = commit_of(repository, revision)?;
    let recursive =
        request.parameter("recursive").is_some_and(|v| matches!(v.to_lowercase().as_str(), "true" | "1"));
    let entries = tree_entries(&repository.commits[commit], folder, recursive, masked);
    if entries.is_empty() && !folder.is_empty() {
        return Err(Box::new(
            refusal(404, Some("EntryNotFound"), &format!("{folder} does not exist on \"{revision}\""))
                .with("X-Repo-Commit", commit),
        ));
    }
    let from = request.parameter("cursor").and_then(|c| c.parse().ok()).unwrap_or(0).min(entries.len());
    let page = if world.page_size == 0 { entries.len() } else { world.page_size };
    let to = entries.len().min(from + page);
    let mut answer =
        Answer::json(200, &Value::Array(entries[from..to].to_vec())).with("X-Repo-Commit", commit);
    if to < entries.len() {
        let query = form(request.query()).into_iter().filter(|(key, _)| key != "cursor");
        let query: String = query.map(|(key, value)| format!("{key}={value}&")).collect();
        let next = format!("{}{}?{query}cursor={to}", origins.hub, request.path());
        answer = answer.with("Link", format!("<{next}>; rel=\"next\""));
    }
    Ok(answer)
}

/// The entries of one folder, or of everything below it, directories included.
fn tree_entries(files: &BTreeMap<String, File>, folder: &str, recursive: bool, masked: bool) -> Vec<Value> {
    let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
    let mut entries: BTreeMap<String, Value> = BTreeMap::new();
    for (path, file) in files {
        let Some(below) = path.strip_prefix(&prefix) else { continue };
        let slashes: Vec<usize> = below.match_indices('/').map(|(at, _)| at).collect();
        for &at in slashes.iter().take(if recursive { usize::MAX } else { 1 }) {
            let directory = format!("{prefix}{}", &below[..at]);
            let oid = digests::git_sha1(directory.as_bytes());
            entries
                .entry(directory.clone())
                .or_insert_with(|| json!({ "type": "directory", "oid": oid, "size": 0, "path": directory }));
        }
        if recursive || slashes.is_empty() {
            entries.insert(path.clone(), file_entry(file, masked));
        }
    }
    entries.into_values().collect()
}

fn file_entry(file: &File, masked: bool) -> Value {
    let mut out = json!({
        "type": "file", "oid": file.git_sha1, "size": file.bytes.len(), "path": file.path
    });
    if file.is_large() {
        out["lfs"] = json!({
            "oid": file.sha256, "size": file.bytes.len(), "pointerSize": file.pointer().len()
        });
    }
    if file.storage == Storage::Xet {
        out["xetHash"] = if masked { "*".repeat(64).into() } else { file.xet_hash().into() };
    }
    out
}

fn paths_info(world: &World, request: &Request, id: &str, revision: &str) -> Result<Answer, Refusal> {
    let masked = readable(world, request, id, true).is_err();
    let repository = readable(world, request, id, false)?;
    let commit = commit_of(repository, revision)?;
    let json_body: Option<Value> = serde_json::from_slice(&request.body).ok();
    let paths: Vec<String> = match json_body.as_ref().and_then(|b| b["paths"].as_array()) {
        Some(paths) => paths.iter().filter_map(|p| p.as_str().map(str::to_owned)).collect(),
        None => form(&String::from_utf8_lossy(&request.body))
            .into_iter()
            .filter(|(key, _)| key == "paths")
            .map(|(_, value)| value)
            .collect(),
    };
    let everything = tree_entries(&repository.commits[commit], "", true, masked);
    let wanted = everything.into_iter().filter(|e| paths.iter().any(|p| e["path"] == p.as_str()));
    Ok(Answer::json(200, &wanted.collect()).with("X-Repo-Commit", commit))
}

fn refs(world: &World, request: &Request, id: &str) -> Result<Answer, Refusal> {
    let repository = readable(world, request, id, false)?;
    let branches: Vec<Value> = repository
        .branches
        .iter()
        .filter(|(name, _)| !name.starts_with("refs/"))
        .map(|(name, commit)| {
            json!({ "name": name, "ref": format!("refs/heads/{name}"), "targetCommit": commit })
        })
        .collect();
    Ok(Answer::json(200, &json!({ "tags": [], "branches": branches, "converts": [] })))
}

fn commits(world: &World, request: &Request, id: &str, revision: &str) -> Result<Answer, Refusal> {
    let repository = readable(world, request, id, false)?;
    let last = commit_of(repository, revision)?;
    let mut listed = Vec::new();
    for commit in &repository.history {
        listed.push(json!({
            "id": commit, "title": "scripted", "message": "", "authors": [], "date": "2023-11-14T22:13:20.000Z"
        }));
        if commit == last {
            break;
        }
    }
    listed.reverse();
    Ok(Answer::json(200, &Value::Array(listed)))
}

fn xet_token(
    world: &World,
    origins: &Origins<'_>,
    request: &Request,
    id: &str,
    revision: &str,
) -> Result<Answer, Refusal> {
    let repository = readable(world, request, id, true)?;
    commit_of(repository, revision)?;
    const EXPIRY: u64 = 4_000_000_000;
    Ok(Answer::json(200, &json!({ "casUrl": origins.cas, "accessToken": "xet-scripted", "exp": EXPIRY }))
        .with("X-Xet-Cas-Url", origins.cas)
        .with("X-Xet-Access-Token", "xet-scripted")
        .with("X-Xet-Token-Expiration", EXPIRY.to_string()))
}

/// `models/ID`, `datasets/ID` or `spaces/ID`, as the API writes it.
fn plural(id: &str) -> String {
    if id.starts_with("datasets/") || id.starts_with("spaces/") {
        id.to_owned()
    } else {
        format!("models/{id}")
    }
}

fn api_path(id: &str) -> String {
    format!("/api/{}", plural(id))
}

/// The inverse of [`plural`].
fn singular(kind: &str, id: &str) -> String {
    if kind == "models" { id.to_owned() } else { format!("{kind}/{id}") }
}
