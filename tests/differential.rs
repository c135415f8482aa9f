//! What clients are told of a repository through the program is what the hub itself says: every question of the API
//! that they ask, and odd ones beside, put to both and compared, but for what would lead past the program.

use std::collections::BTreeSet;

use crate::{drivers, support, tiny_model};
use drivers::{Client, HuggingFaceHub, Repository};
use serde_json::{Value, json};
use support::client::{Reply, Request};
use support::daemon::Daemon;
use support::hub::{File, ScriptedHub, Seen};
use tempfile::TempDir;

const MODEL: &str = "acme/tiny";

/// May read what not everybody may.
const READER: &str = "reader";

/// Is somebody, and may read what everybody may.
const STRANGER: &str = "stranger";

fn scratch() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn files() -> Vec<File> {
    let mut files: Vec<_> =
        tiny_model::files().into_iter().map(|(path, bytes)| File::small(path, bytes)).collect();
    files.extend([
        File::xet("model.safetensors", vec![7; 50_000]),
        File::lfs("weights/old.bin", vec![8; 40_000]),
        File::small("a/b/c/deep.txt", "deep"),
        File::small("odd names/a b#c+d%é.txt", "odd"),
        File::small("empty.txt", ""),
    ]);
    files
}

/// A hub with repositories of each kind, and lists that need several pages.
fn publish() -> ScriptedHub {
    let hub = ScriptedHub::start();
    hub.page_size(4);
    for id in [MODEL, "datasets/acme/tiny", "spaces/acme/tiny", "acme/gated", "acme/hidden", "bare"] {
        let first = hub.hf(id).commit([File::small("a/b/c/deep.txt", "deep")]);
        (0..8).for_each(|i| _ = hub.hf(id).commit([File::small("empty.txt", i.to_string())]));
        hub.hf(id).commit(files());
        hub.hf(id).tag("v1", &first).branch("feature/x", &first).branch("refs/pr/1", &first);
        hub.hf(id).branch("refs/convert/parquet", &first);
    }
    hub.hf("acme/gated").gated(&[READER]);
    hub.hf("acme/hidden").private(&[READER]);
    hub.accept_token(STRANGER);
    hub.rename("acme/old", MODEL);
    hub
}

fn before(hub: &ScriptedHub) -> Daemon {
    Daemon::builder().hub(hub).set("cache.ref_ttl", "1h").start()
}

/// One question as it is put to a server.
#[derive(Clone, Debug, PartialEq)]
struct Question {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Question {
    fn get(target: &str) -> Self {
        let (method, target) = ("GET".to_owned(), target.to_owned());
        Self { method, target, headers: Vec::new(), body: Vec::new() }
    }

    fn post(target: &str, content_type: &str, body: &str) -> Self {
        let headers = vec![("Content-Type".to_owned(), content_type.to_owned())];
        Self { method: "POST".to_owned(), headers, body: body.into(), ..Self::get(target) }
    }

    fn with_token(mut self, token: &str) -> Self {
        self.headers.push(("Authorization".to_owned(), format!("Bearer {token}")));
        self
    }

    /// The question that a client asked, with what of its head bears on the answer.
    fn seen(seen: &Seen) -> Self {
        let kept =
            |name: &str| ["authorization", "content-type"].iter().any(|k| name.eq_ignore_ascii_case(k));
        let headers = seen.headers.iter().filter(|(name, _)| kept(name)).cloned().collect();
        Self { method: seen.method.clone(), target: seen.target.clone(), headers, body: seen.body.clone() }
    }

    /// The answer, from under the new name where a repository has one, as clients follow there.
    fn ask(&self, root: &str) -> Reply {
        let request = Request::new(&self.method, &format!("{root}{}", self.target)).body(&self.body);
        let reply =
            self.headers.iter().fold(request, |request, (name, value)| request.header(name, value)).send();
        match reply.header("location") {
            Some(moved) if reply.status == 307 => self.at(moved).ask(root),
            _ => reply,
        }
    }

    fn at(&self, target: &str) -> Self {
        Self { target: target.to_owned(), ..self.clone() }
    }
}

/// Puts each question to the hub and, cold and warm, to the program before it, and compares the answers and all
/// pages that they lead to.
fn compare(hub: &ScriptedHub, questions: &[Question]) {
    let daemon = before(hub);
    let mut differences = Vec::new();
    for when in ["cold", "warm"] {
        for question in questions {
            let mut pages = 0;
            let mut next = Some((question.clone(), question.clone()));
            while let Some((own, ours)) = next {
                let (wanted, got) = (own.ask(hub.url()), ours.ask(&daemon.url()));
                let found = differing(&wanted, &got);
                let asked = format!("{when}: {} {}", ours.method, ours.target);
                differences.extend(found.iter().map(|d| format!("{asked}: {d}")));
                next = match next_pages(&wanted, &got, hub.url(), &daemon.url()) {
                    Ok(pages) => pages.map(|(its, here)| (own.at(&its), ours.at(&here))),
                    Err(astray) => {
                        differences.push(format!("{asked}: {astray}"));
                        None
                    }
                };
                pages += 1;
                assert!(pages < 50, "{asked}: the pages have an end");
            }
        }
    }
    assert!(differences.is_empty(), "{} differences\n{}", differences.len(), differences.join("\n"));
}

/// What is different in two answers and should not be.
fn differing(wanted: &Reply, got: &Reply) -> Vec<String> {
    let mut found = Vec::new();
    if got.status != wanted.status {
        found.push(format!("status {} in place of {}", got.status, wanted.status));
    }
    if !got.is_whole() {
        found.push("the body is not whole".to_owned());
    }
    for name in ["content-type", "x-error-code", "x-error-message", "x-repo-commit", "x-total-count"] {
        if got.header(name) != wanted.header(name) {
            let [got, wanted] = [got, wanted].map(|reply| reply.header(name));
            found.push(format!("{name} {got:?} in place of {wanted:?}"));
        }
    }
    let leak =
        |name: &str| name.to_lowercase().starts_with("x-xet-") || name.eq_ignore_ascii_case("set-cookie");
    found.extend(
        got.headers.iter().filter(|(name, _)| leak(name)).map(|(name, _)| format!("{name} is there")),
    );
    match serde_json::from_slice::<Value>(&wanted.body) {
        Ok(mut wanted) => {
            strip(&mut wanted);
            let got = serde_json::from_slice(&got.body).unwrap_or_else(|_| json!({ "no JSON": got.text() }));
            found.extend(unlike("", &got, &wanted));
        }
        Err(_) if got.body != wanted.body => {
            found.push(format!("the body {} in place of {}", got.text(), wanted.text()))
        }
        Err(_) => {}
    }
    found
}

/// The first place at which two JSON values are unlike.
fn unlike(place: &str, got: &Value, wanted: &Value) -> Option<String> {
    match (got, wanted) {
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            a.iter().zip(b).enumerate().find_map(|(i, (a, b))| unlike(&format!("{place}/{i}"), a, b))
        }
        (Value::Object(a), Value::Object(b)) if a.keys().eq(b.keys()) => {
            a.iter().find_map(|(key, a)| unlike(&format!("{place}/{key}"), a, &b[key]))
        }
        _ => (got != wanted).then(|| format!("{place} is {got} in place of {wanted}")),
    }
}

/// The targets of the next pages of two answers, the hub's first, where there are any; or how they differ.
fn next_pages(
    wanted: &Reply,
    got: &Reply,
    hub: &str,
    daemon: &str,
) -> Result<Option<(String, String)>, String> {
    let (own, ours) = match (next_page(wanted), next_page(got)) {
        (None, None) => return Ok(None),
        (Some(own), Some(ours)) => (own, ours),
        (own, ours) => return Err(format!("the next page is {ours:?} in place of {own:?}")),
    };
    let its = own.strip_prefix(hub).expect("the scripted hub leads to itself");
    let here = ours.strip_prefix(daemon).ok_or_else(|| format!("{ours} leads away from here"))?;
    match same_page(its, here) {
        true => Ok(Some((its.to_owned(), here.to_owned()))),
        false => Err(format!("{here} is another page than {its}")),
    }
}

/// Takes away what would lead to the Xet store.
fn strip(json: &mut Value) {
    match json {
        Value::Object(members) => {
            members.retain(|name, _| name != "xetHash" && name != "xetEnabled");
            members.values_mut().for_each(strip);
        }
        Value::Array(items) => items.iter_mut().for_each(strip),
        _ => {}
    }
}

fn next_page(reply: &Reply) -> Option<String> {
    let (url, rest) = reply.header("link")?.strip_prefix('<')?.split_once('>')?;
    (rest.replace(' ', "") == ";rel=\"next\"").then(|| url.to_owned())
}

/// Whether two targets mean the same page. `ours` may have a commit in place of a branch, and leave out what is so
/// without being said; whether it is the right one shows when the page is compared.
fn same_page(own: &str, ours: &str) -> bool {
    let is_commit = |segment: &str| segment.len() == 40 && segment.bytes().all(|b| b.is_ascii_hexdigit());
    let (own_path, own_query) = own.split_once('?').unwrap_or((own, ""));
    let (our_path, our_query) = ours.split_once('?').unwrap_or((ours, ""));
    let meaning = |query: &str| -> BTreeSet<String> {
        let said = query.split('&').map(|pair| match pair.split_once('=') {
            Some((key @ ("recursive" | "expand"), "True" | "true" | "1")) => format!("{key}=true"),
            Some((key @ ("recursive" | "expand"), _)) => format!("{key}=false"),
            _ => pair.to_owned(),
        });
        said.filter(|pair| !pair.ends_with("=false")).collect()
    };
    let (own_path, our_path): (Vec<_>, Vec<_>) =
        (own_path.split('/').collect(), our_path.split('/').collect());
    own_path.len() == our_path.len()
        && own_path.iter().zip(&our_path).all(|(own, ours)| own == ours || is_commit(ours))
        && meaning(own_query) == meaning(our_query)
}

/// Every way in which HfApi asks of repositories.
fn calls() -> Value {
    let of = |arguments: Value| {
        let mut all = json!({ "repo_id": MODEL });
        all.as_object_mut().unwrap().extend(arguments.as_object().unwrap().clone());
        all
    };
    json!([
        ["model_info", of(json!({}))],
        ["model_info", of(json!({ "files_metadata": true }))],
        ["model_info", of(json!({ "securityStatus": true }))],
        ["model_info", of(json!({ "expand": ["sha", "downloads", "siblings", "cardData", "safetensors"] }))],
        ["model_info", of(json!({ "revision": "v1" }))],
        ["model_info", of(json!({ "revision": "feature/x" }))],
        ["model_info", of(json!({ "revision": "none" }))],
        ["model_info", json!({ "repo_id": "bare" })],
        ["model_info", json!({ "repo_id": "acme/none" })],
        ["model_info", json!({ "repo_id": "acme/none", "token": STRANGER })],
        ["model_info", json!({ "repo_id": "acme/gated" })],
        ["model_info", json!({ "repo_id": "acme/hidden", "token": READER })],
        ["model_info", json!({ "repo_id": "acme/hidden", "token": STRANGER })],
        ["dataset_info", of(json!({ "files_metadata": true, "revision": "refs/convert/parquet" }))],
        ["dataset_info", of(json!({ "expand": ["sha", "downloadsAllTime"] }))],
        ["space_info", of(json!({}))],
        ["space_info", of(json!({ "expand": ["sdk", "runtime"] }))],
        ["list_repo_tree", of(json!({}))],
        ["list_repo_tree", of(json!({ "recursive": true }))],
        ["list_repo_tree", of(json!({ "recursive": true, "expand": true }))],
        ["list_repo_tree", of(json!({ "path_in_repo": "a/b", "revision": "refs/pr/1" }))],
        ["list_repo_tree", of(json!({ "path_in_repo": "odd names", "repo_type": "dataset" }))],
        ["list_repo_tree", of(json!({ "path_in_repo": "none" }))],
        ["list_repo_tree", json!({ "repo_id": "acme/gated", "recursive": true })],
        ["list_repo_tree", json!({ "repo_id": "acme/gated", "recursive": true, "token": READER })],
        ["get_paths_info", of(json!({ "paths": ["a", "model.safetensors", "none"] }))],
        ["get_paths_info", of(json!({ "paths": ["odd names/a b#c+d%é.txt", "a/b"], "expand": true }))],
        ["get_paths_info", of(json!({ "paths": ["a"], "revision": "none" }))],
        ["list_repo_refs", of(json!({}))],
        ["list_repo_refs", of(json!({ "include_pull_requests": true, "repo_type": "dataset" }))],
        ["list_repo_commits", of(json!({}))],
        ["list_repo_commits", of(json!({ "revision": "v1", "formatted": true }))],
        ["list_repo_files", of(json!({}))],
        ["list_repo_files", of(json!({ "repo_type": "space" }))],
        ["repo_exists", of(json!({}))],
        ["repo_exists", json!({ "repo_id": "acme/none", "token": STRANGER })],
        ["revision_exists", of(json!({ "revision": "refs/pr/1" }))],
        ["revision_exists", of(json!({ "revision": "none" }))],
        ["file_exists", of(json!({ "filename": "odd names/a b#c+d%é.txt" }))],
        ["file_exists", of(json!({ "filename": "none" }))],
        ["file_exists", of(json!({ "filename": "config.json", "revision": "none" }))],
    ])
}

/// What the clients asked of the API, each question once. The way of a file's bytes is another matter, and so is
/// the token of the Xet store.
fn asked(hub: &ScriptedHub) -> Vec<Question> {
    let mut questions: Vec<Question> = Vec::new();
    for seen in hub.requests() {
        let elsewhere = ["/api/resolve-cache/", "/xet-read-token/"].iter().any(|p| seen.target.contains(p));
        let question = Question::seen(&seen);
        if seen.target.starts_with("/api/") && !elsewhere && !questions.contains(&question) {
            questions.push(question);
        }
    }
    questions
}

/// One version of huggingface_hub, and what transformers asks beside.
fn questions_of_huggingface_hub(client: HuggingFaceHub) {
    let hub = publish();
    client.calls(hub.url(), scratch().path(), &calls()).expect("the driver runs");
    client.load(hub.url(), scratch().path(), MODEL, tiny_model::TEXT).expect("the model loads");
    for of in [Repository::model(MODEL).at("refs/pr/1"), Repository::dataset(MODEL).at("v1")] {
        client.snapshot(hub.url(), scratch().path(), of).expect("nothing of it is in the Xet store");
    }
    let questions = asked(&hub);
    assert!(questions.len() > 40, "{questions:#?}");
    compare(&hub, &questions);
}

/// What a program makes of the answers is the same too, its exceptions included.
fn results_of_huggingface_hub(client: HuggingFaceHub) {
    let hub = publish();
    let daemon = before(&hub);
    let calls = calls();
    let told = |root: &str| -> Vec<Value> {
        let results = client.calls(root, scratch().path(), &calls).expect("the driver runs");
        results.into_iter().map(|result| comparable(result, root)).collect()
    };
    let wanted = told(hub.url());
    hub.clear();
    let mut differences = Vec::new();
    for when in ["cold", "warm"] {
        let got = told(&daemon.url());
        assert_eq!(got.len(), wanted.len());
        for ((got, wanted), call) in got.iter().zip(&wanted).zip(calls.as_array().unwrap()) {
            differences.extend(unlike("", got, wanted).map(|d| format!("{when}: {call}: {d}")));
        }
    }
    assert!(differences.is_empty(), "{} differences\n{}", differences.len(), differences.join("\n"));
    let past: Vec<_> = hub.past("hubcache").into_iter().map(|seen| seen.target).collect();
    assert!(past.is_empty(), "{past:#?}");
}

/// Without what may differ: whose URL an exception names, how long it took, and names in the Xet store.
fn comparable(mut result: Value, root: &str) -> Value {
    if let Some(text) = result["text"].as_str() {
        result["text"] = text.replace(root, "ROOT").into();
        result["seconds"].take();
    }
    fn without_xet(json: &mut Value) {
        match json {
            Value::Object(members) => {
                members.retain(|name, _| name != "xet_hash" && name != "xet_enabled");
                members.values_mut().for_each(without_xet);
            }
            Value::Array(items) => items.iter_mut().for_each(without_xet),
            _ => {}
        }
    }
    without_xet(&mut result);
    result
}

macro_rules! versions {
    ($($client:ident = $version:literal;)*) => {$(
        mod $client {
            use super::HuggingFaceHub;
            #[test] fn questions() { super::questions_of_huggingface_hub(HuggingFaceHub($version)); }
            #[test] fn results() { super::results_of_huggingface_hub(HuggingFaceHub($version)); }
        }
    )*};
}

versions! {
    huggingface_hub_0_36_2 = "0.36.2";
    huggingface_hub_1_33_0 = "1.33.0";
    huggingface_hub_2_4_0 = "2.4.0";
}

#[test]
fn questions_of_the_hf_hub_crates() {
    let hub = publish();
    let plain = File::direct("a.txt", "a");
    hub.hf("acme/plain").commit([plain.clone(), File::lfs("b.bin", vec![1; 2_000])]);
    for client in [Client::HfHub, Client::HfHub1] {
        client.whole(hub.url(), scratch().path(), "acme/plain").expect("nothing of it is in the Xet store");
    }
    let questions = asked(&hub);
    assert!(questions.iter().any(|q| q.target.contains("/tree/")), "{questions:#?}");
    compare(&hub, &questions);
}

#[test]
fn odd_questions() {
    let hub = publish();
    let json = "application/json";
    let form = "application/x-www-form-urlencoded";
    let mut questions: Vec<Question> = [
        "?blobs=1",
        "?blobs=True&securityStatus=1",
        "?expand=xetEnabled&expand=sha",
        "?expand%5B%5D=downloads&expand[]=likes",
        "?expand=nonsense",
        "?unknown=1",
        "?",
        "/",
        "/nonsense",
        "/revision/refs%2Fpr%2F1",
        "/revision/v1?blobs=true",
        "/revision/none",
        "/tree/main",
        "/tree/main?limit=2",
        "/tree/main?limit=2&recursive=1",
        "/tree/main?recursive=true&cursor=broken",
        "/tree/main?expand=True&recursive=False",
        "/tree/main/a/b",
        "/tree/main/a%2Fb",
        "/tree/main/odd%20names?recursive=true",
        "/tree/none",
        "/tree/feature%2Fx?recursive=true",
        "/refs?include_prs=true",
        "/commits/main?p=1",
        "/commits/main?p=100",
        "/commits/refs%2Fpr%2F1?expand%5B%5D=formatted",
    ]
    .iter()
    .flat_map(|rest| ["models", "datasets", "spaces"].map(|kind| format!("/api/{kind}/{MODEL}{rest}")))
    .map(|target| Question::get(&target))
    .collect();
    let hidden = ["/api/whoami-v2", "/api/models/acme/hidden", "/api/models/acme/none"];
    let public = ["/api/models/acme/tiny", "/api/models/acme/gated/tree/main"];
    // What everybody may read is read from here with a bad token too, which the hub refuses.
    for (tokens, targets) in
        [([READER, STRANGER, "bad"], &hidden[..]), ([READER, STRANGER, STRANGER], &public[..])]
    {
        for (target, token) in targets.iter().flat_map(|target| tokens.map(|token| (target, token))) {
            questions.extend([Question::get(target).with_token(token), Question::get(target)]);
        }
    }
    questions.extend([
        Question::get("/api/agent-harnesses"),
        Question::get("/api/models"),
        Question::get("/api/models/acme/old"),
        Question::get("/api/models/acme/old/tree/main?recursive=true"),
        Question::post(
            "/api/models/acme/tiny/paths-info/main",
            json,
            r#"{"paths": ["a", "model.safetensors"]}"#,
        ),
        Question::post("/api/models/acme/tiny/paths-info/v1", json, r#"{"paths": ["a/b"], "expand": true}"#),
        Question::post("/api/models/acme/tiny/paths-info/main", form, "paths=model.safetensors&expand=True"),
        Question::post("/api/models/acme/tiny/paths-info/main", form, "paths=a%2Fb&paths=empty.txt"),
        Question::post("/api/models/acme/tiny/paths-info/main", form, ""),
        Question::post("/api/models/acme/tiny/paths-info/none", form, "paths=a"),
    ]);
    compare(&hub, &questions);
}
