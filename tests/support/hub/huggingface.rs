//! The Hugging Face layout: pages of files, the content network, and who may read what. The API is in `api`.
//!
//! Texts and headers follow the wire notes of real clients; what no client looks at is left out.

use serde_json::json;

use super::answer::Answer;
use super::api;
use super::content::{Access, File, Repository, Storage, World, digests};
use super::request::{Request, decode, encode};

const EXPOSED: &str = "X-Repo-Commit,X-Request-Id,X-Error-Code,X-Error-Message,X-Total-Count,ETag,Link,\
                       Accept-Ranges,Content-Range,X-Linked-Size,X-Linked-ETag,X-Xet-Hash";

/// Below this size the hub sends text as it is.
pub(super) const COMPRESSED_FROM: usize = 1024;

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
        ["api", rest @ ..] => api::answer(world, origins, request, rest),
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
    let name = encode(name);
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
pub(super) fn git_content(request: &Request, commit: &str, file: &File) -> Answer {
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

/// An answer in place of what was asked for; boxed, as it is much larger than the way on.
pub(super) type Refusal = Box<Answer>;

/// The repository, if the caller may see it and, where `content` is wanted, read its files.
pub(super) fn readable<'a>(
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

pub(super) fn refusal(status: u16, code: Option<&str>, message: &str) -> Refusal {
    let mut answer = Answer::json(status, &json!({ "error": message })).with("X-Error-Message", message);
    if let Some(code) = code {
        answer = answer.with("X-Error-Code", code);
    }
    Box::new(answer)
}

/// The commit that a revision names.
pub(super) fn commit_of<'a>(repository: &'a Repository, revision: &str) -> Result<&'a str, Refusal> {
    repository
        .resolve(revision)
        .ok_or_else(|| refusal(404, Some("RevisionNotFound"), &format!("Invalid rev id: {revision}")))
}

pub(super) fn entry<'a>(
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

pub(super) fn renamed(world: &World, request: &Request, id: &str) -> Option<Answer> {
    let new = world.renamed.get(id)?;
    let location = request.target.replacen(id, new, 1);
    Some(Answer::text(307, "Temporary Redirect").with("Location", location))
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
pub(super) fn singular(kind: &str, id: &str) -> String {
    if kind == "models" { id.to_owned() } else { format!("{kind}/{id}") }
}
