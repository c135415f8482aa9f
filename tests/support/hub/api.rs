//! The API of the Hugging Face layout: which question a path asks, and the answers that are neither a repository's
//! description (`info`) nor a list of files (`listing`).

use serde_json::{Value, json};

use super::answer::Answer;
use super::content::World;
use super::huggingface::{
    COMPRESSED_FROM, Origins, Refusal, commit_of, entry, git_content, readable, refusal, renamed, singular,
};
use super::request::{Request, decode, encode};
use super::{info, listing};

/// Commits in one page.
const COMMITS: usize = 50;

/// When everything here was made.
pub(super) const DATE: &str = "2023-11-14T22:13:20.000Z";

/// Answers what stands behind `/api/`.
pub(super) fn answer(
    world: &mut World,
    origins: &Origins<'_>,
    request: &Request,
    segments: &[&str],
) -> Answer {
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
        [] => info::answer(world, request, &id, "main"),
        ["revision", revision] => info::answer(world, request, &id, &decode(revision)),
        ["tree", revision, path @ ..] => {
            listing::tree(world, origins, request, &id, &decode(revision), &decode(&path.join("/")))
        }
        ["paths-info", revision] if request.method == "POST" => {
            listing::paths_info(world, request, &id, &decode(revision))
        }
        ["refs"] => refs(world, request, &id),
        ["commits", revision] => commits(world, origins, request, &id, &decode(revision)),
        ["xet-read-token", revision] => xet_token(world, origins, request, &id, &decode(revision)),
        _ => Ok(not_found()),
    };
    tagged(said.unwrap_or_else(|refusal| *refusal), request)
}

/// The answer with the tag and the coding that the hub gives to those that succeed.
fn tagged(mut answer: Answer, request: &Request) -> Answer {
    if answer.status != 200 {
        return answer;
    }
    let tag = format!("W/\"{:x}-{:08x}\"", answer.body.len(), crc32c::crc32c(&answer.body));
    answer = answer.with("ETag", tag);
    if answer.body.len() >= COMPRESSED_FROM && request.takes_gzip() {
        answer.gzip();
    }
    answer
}

/// The value of a `Link` that leads to the next page: the request's own query with `changed` in place of what it
/// says of these keys.
pub(super) fn next_page(origins: &Origins<'_>, request: &Request, changed: &[(&str, String)]) -> String {
    let kept =
        request.parameters().into_iter().filter(|(key, _)| changed.iter().all(|(changed, _)| key != changed));
    let query: Vec<String> = kept
        .chain(changed.iter().map(|(key, value)| ((*key).to_owned(), value.clone())))
        .map(|(key, value)| format!("{}={}", encode(&key), encode(&value)))
        .collect();
    format!("<{}{}?{}>; rel=\"next\"", origins.hub, request.path(), query.join("&"))
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

fn whoami(world: &World, request: &Request) -> Answer {
    match request.token() {
        Some(token) if world.tokens.contains(token) => {
            Answer::json(200, &json!({ "type": "user", "name": "scripted", "orgs": [] }))
        }
        Some(_) => *refusal(401, None, "Invalid credentials in Authorization header"),
        None => *refusal(401, None, "Invalid username or password."),
    }
}

fn refs(world: &World, request: &Request, id: &str) -> Result<Answer, Refusal> {
    let repository = readable(world, request, id, false)?;
    let under = |prefix: &str| -> Vec<Value> {
        let named = repository.branches.iter().filter(|(name, _)| name.starts_with(prefix));
        named
            .map(|(name, commit)| {
                let short = name.strip_prefix("refs/convert/").unwrap_or(name);
                json!({ "name": short, "ref": name, "targetCommit": commit })
            })
            .collect()
    };
    let heads = repository.branches.iter().filter(|(name, _)| !name.starts_with("refs/"));
    let named = |(name, commit): (&String, &String), kind: &str| {
        json!({
            "name": name, "ref": format!("refs/{kind}/{name}"), "targetCommit": commit
        })
    };
    let mut said = json!({
        "tags": repository.tags.iter().map(|tag| named(tag, "tags")).collect::<Vec<_>>(),
        "branches": heads.map(|branch| named(branch, "heads")).collect::<Vec<_>>(),
        "converts": under("refs/convert/"),
    });
    if request.flag("include_prs") {
        said["pullRequests"] = under("refs/pr/").into();
    }
    Ok(Answer::json(200, &said))
}

/// The commits up to a revision, the last one first.
fn commits(
    world: &World,
    origins: &Origins<'_>,
    request: &Request,
    id: &str,
    revision: &str,
) -> Result<Answer, Refusal> {
    let repository = readable(world, request, id, false)?;
    let last = commit_of(repository, revision)?;
    let listed: Vec<Value> = repository
        .history_of(last)
        .rev()
        .map(|commit| {
            let mut said = json!({
                "id": commit, "title": "scripted", "message": "", "date": DATE,
                "authors": [{ "user": "scripted", "avatar": "/avatars/scripted.svg" }]
            });
            if request.all("expand").iter().any(|what| what == "formatted") {
                said["formatted"] = json!({ "title": "<p>scripted</p>", "message": "" });
            }
            said
        })
        .collect();
    let size = world.page_of(COMMITS);
    let number = request.parameter("p").and_then(|p| p.parse::<usize>().ok()).unwrap_or(0);
    let from = number.saturating_mul(size).min(listed.len());
    let to = listed.len().min(from + size);
    let mut answer =
        Answer::json(200, &listed[from..to].into()).with("X-Total-Count", listed.len().to_string());
    if to < listed.len() {
        answer = answer.with("Link", next_page(origins, request, &[("p", (number + 1).to_string())]));
    }
    Ok(answer)
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
