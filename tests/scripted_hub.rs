//! The scripted hub itself: what it imitates, and each way in which it misbehaves. A rule test that passes only
//! because the hub was kinder than it said would prove nothing.

use std::io::Read as _;
use std::time::{Duration, Instant};

use crate::support;
use support::client::{self, Ended, Reply, Request};
use support::hub::{End, Fault, File, Listener, ScriptedHub, What, digests};

const PATIENCE: Duration = Duration::from_secs(20);

/// Bytes without a period that a shift could hide in.
fn noise(length: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(7);
    std::iter::repeat_with(|| random.u8(..)).take(length).collect()
}

fn hub_with(file: File) -> (ScriptedHub, String) {
    let hub = ScriptedHub::start();
    let commit = hub.hf("acme/tiny").commit([file]);
    (hub, commit)
}

/// A hub with one file of the Mozilla layout, which has the fewest steps between request and bytes.
fn hub_with_object(bytes: &[u8]) -> (ScriptedHub, String) {
    let hub = ScriptedHub::start();
    let path = hub.moz("acme/tiny-model", "v1.0.0", "model.bin", bytes.to_vec());
    let url = format!("{}{path}", hub.url());
    (hub, url)
}

/// Follows redirects as a client does, and returns the last reply.
fn follow(hub: &ScriptedHub, url: &str, headers: &[(&str, &str)]) -> Reply {
    let mut url = url.to_owned();
    for _ in 0..4 {
        let request = headers.iter().fold(Request::get(&url), |r, (n, v)| r.header(n, v));
        let reply = request.send();
        match reply.header("location") {
            Some(location) if location.starts_with('/') => url = format!("{}{location}", hub.url()),
            Some(location) => url = location.to_owned(),
            None => return reply,
        }
    }
    panic!("too many redirects from {url}");
}

#[test]
fn a_large_file_is_a_signed_redirect_to_the_content_network() {
    let bytes = noise(100_000);
    let (hub, commit) = hub_with(File::lfs("model.bin", bytes.clone()));
    let url = format!("{}/acme/tiny/resolve/main/model.bin", hub.url());
    let redirect = client::head(&url);
    assert_eq!(redirect.status, 302);
    assert_eq!(redirect.header("x-repo-commit"), Some(&*commit));
    assert_eq!(redirect.header("x-linked-size"), Some("100000"));
    let linked = format!("\"{}\"", digests::sha256(&bytes));
    assert_eq!(redirect.header("x-linked-etag"), Some(&*linked));
    assert_eq!(redirect.header("x-xet-hash"), None);

    let location = redirect.header("location").unwrap();
    assert!(location.starts_with(hub.cdn_url()), "{location}");
    let delivered = client::get(location);
    assert_eq!((delivered.status, delivered.ended), (200, Ended::Clean));
    assert_eq!(delivered.body, bytes);
    assert_ne!(delivered.header("etag"), Some(&*linked), "the content network has a tag of its own");
    assert_eq!(delivered.header("x-repo-commit"), None);
    assert_ne!(client::head(&url).header("location"), Some(location), "each redirect is signed anew");
    assert_eq!(client::get(location.split('?').next().unwrap()).status, 403, "unsigned");
    assert_eq!((hub.count_at(Listener::Hub), hub.count_at(Listener::Cdn)), (2, 2));
    assert_eq!(hub.body_bytes("acme/tiny/model.bin"), 100_000, "the journal knows the file at the network");
}

#[test]
fn a_xet_file_draws_to_the_xet_store_and_is_delivered_plainly_too() {
    let bytes = noise(5_000);
    let (hub, _) = hub_with(File::xet("model.bin", bytes.clone()));
    let url = format!("{}/acme/tiny/resolve/main/model.bin", hub.url());
    let redirect = client::head(&url);
    let hash = redirect.header("x-xet-hash").unwrap();
    assert_eq!(hash.len(), 64);
    assert_ne!(hash, digests::sha256(&bytes));
    assert!(redirect.header("link").unwrap().contains("rel=\"xet-auth\""));
    assert!(redirect.header("x-xet-refresh-route").is_some());
    assert_eq!(follow(&hub, &url, &[]).body, bytes);
    assert_eq!(client::get(&format!("{}/v2/reconstructions/{hash}", hub.cas_url())).status, 403);
    assert_eq!(hub.count_at(Listener::Cas), 1);
}

#[test]
fn a_small_file_is_a_relative_redirect_and_gzip_for_those_who_take_it() {
    let text = "{\"words\": \"words words words\"}\n".repeat(100);
    let (hub, commit) = hub_with(File::small("config.json", text.clone()));
    let url = format!("{}/acme/tiny/resolve/main/config.json", hub.url());
    let redirect = client::head(&url);
    assert_eq!(redirect.status, 307);
    let location = redirect.header("location").unwrap();
    assert!(
        location.starts_with(&format!("/api/resolve-cache/models/acme/tiny/{commit}/config")),
        "{location}"
    );

    let plain = follow(&hub, &url, &[]);
    let tag = format!("\"{}\"", digests::git_sha1(text.as_bytes()));
    assert_eq!((plain.status, plain.header("etag")), (200, Some(&*tag)));
    assert_eq!(plain.body, text.as_bytes());
    assert_eq!(plain.header("x-repo-commit"), Some(&*commit));

    let packed = follow(&hub, &url, &[("Accept-Encoding", "gzip, br")]);
    assert_eq!((packed.status, packed.header("content-encoding")), (200, Some("gzip")));
    assert_eq!(packed.header("etag"), Some(&*format!("W/{tag}")));
    assert_eq!(packed.header("content-length"), None);
    let mut unpacked = String::new();
    flate2::read::GzDecoder::new(&*packed.body).read_to_string(&mut unpacked).unwrap();
    assert_eq!(unpacked, text);
    let part = follow(&hub, &url, &[("Accept-Encoding", "gzip, br"), ("Range", "bytes=0-0")]);
    assert_eq!((part.status, part.header("content-encoding")), (206, None));

    // Clients of the requests library drop the query when they follow.
    let bare = format!("{}{}", hub.url(), location.split('?').next().unwrap());
    assert_eq!(client::get(&bare).body, text.as_bytes());
}

#[test]
fn conditions_and_ranges_are_those_of_http() {
    let bytes = noise(1_000);
    let (_hub, url) = hub_with_object(&bytes);
    for (range, status, part, content_range) in [
        ("0-0", 206, &bytes[..1], "bytes 0-0/1000"),
        ("10-19", 206, &bytes[10..20], "bytes 10-19/1000"),
        ("990-", 206, &bytes[990..], "bytes 990-999/1000"),
        ("-5", 206, &bytes[995..], "bytes 995-999/1000"),
        ("-5000", 206, &bytes[..], "bytes 0-999/1000"),
        ("900-5000", 206, &bytes[900..], "bytes 900-999/1000"),
    ] {
        let reply = client::get_range(&url, range);
        assert_eq!((reply.status, &*reply.body), (status, part), "{range}");
        assert_eq!(reply.header("content-range"), Some(content_range), "{range}");
    }
    let beyond = client::get_range(&url, "1000-");
    assert_eq!((beyond.status, beyond.header("content-range")), (416, Some("bytes */1000")));

    let tag = client::head(&url).header("etag").unwrap().to_owned();
    assert_eq!(tag, format!("\"{}\"", digests::md5_hex(&bytes)));
    let same = Request::get(&url).header("If-None-Match", &tag).send();
    assert_eq!((same.status, same.body.len()), (304, 0));
    let kept = Request::get(&url).range("5-").header("If-Range", &tag).send();
    assert_eq!(kept.status, 206);
    let changed = Request::get(&url).range("5-").header("If-Range", "\"other\"").send();
    assert_eq!((changed.status, changed.body.len()), (200, 1_000));
}

#[test]
fn the_mozilla_layout_states_its_digests_as_a_bucket_does() {
    let (hub, url) = hub_with_object(b"The quick brown fox jumps over the lazy dog");
    let reply = client::get(&format!("{url}?download=true"));
    let hashes: Vec<_> =
        reply.headers.iter().filter(|(n, _)| n == "x-goog-hash").map(|(_, v)| &**v).collect();
    assert_eq!(hashes, ["crc32c=ImIEBA==", "md5=nhB9nTcrtoJr2B01QqQZ1g=="], "known answers");
    assert_eq!(reply.header("x-goog-stored-content-length"), Some("43"));
    assert_eq!(client::get(&format!("{}/acme/tiny-model/v1.0.0/none.bin", hub.url())).status, 404);

    let before = client::head(&url).header("last-modified").unwrap().to_owned();
    hub.moz("acme/tiny-model", "v1.0.0", "model.bin", "another");
    let after = client::get(&url);
    assert_eq!(after.body, b"another");
    assert_ne!(after.header("last-modified"), Some(&*before));
}

#[test]
fn refusals_name_what_is_missing() {
    let (hub, commit) = hub_with(File::small("a.txt", "a"));
    hub.hf("acme/gated").commit([File::small("a.txt", "a")]);
    hub.hf("acme/gated").gated(&["reader"]);
    hub.hf("acme/hidden").commit([File::small("a.txt", "a")]);
    hub.hf("acme/hidden").private(&["reader"]);
    hub.accept_token("stranger");
    let ask = |path: &str, token: Option<&str>| {
        let request = Request::get(&format!("{}{path}", hub.url()));
        let reply = token.into_iter().fold(request, Request::token).send();
        (reply.status, reply.header("x-error-code").unwrap_or("-").to_owned())
    };
    let is = |status, code: &str| (status, code.to_owned());
    assert_eq!(ask("/acme/tiny/resolve/main/b.txt", None), is(404, "EntryNotFound"));
    assert_eq!(ask(&format!("/acme/tiny/resolve/{commit}/b.txt"), None), is(404, "EntryNotFound"));
    assert_eq!(ask("/acme/tiny/resolve/none/a.txt", None), is(404, "RevisionNotFound"));
    assert_eq!(ask("/acme/none/resolve/main/a.txt", None), is(401, "-"));
    assert_eq!(ask("/acme/none/resolve/main/a.txt", Some("stranger")), is(404, "RepoNotFound"));
    assert_eq!(ask("/acme/tiny/resolve/main/a.txt", Some("unknown")), is(401, "-"));
    assert_eq!(ask("/acme/gated/resolve/main/a.txt", None), is(401, "GatedRepo"));
    assert_eq!(ask("/acme/gated/resolve/main/a.txt", Some("stranger")), is(403, "GatedRepo"));
    assert_eq!(ask("/acme/gated/resolve/main/a.txt", Some("reader")), is(307, "-"));
    assert_eq!(ask("/api/models/acme/gated", None), is(200, "-"));
    assert_eq!(ask("/acme/hidden/resolve/main/a.txt", None), is(401, "-"));
    assert_eq!(ask("/acme/hidden/resolve/main/a.txt", Some("stranger")), is(404, "RepoNotFound"));
    assert_eq!(ask("/acme/hidden/resolve/main/a.txt", Some("reader")), is(307, "-"));
    assert_eq!(ask("/api/models/acme/hidden", None), is(401, "-"));
    assert_eq!(ask("/api/agent-harnesses", None), is(404, "-"));
}

#[test]
fn names_are_split_before_they_are_decoded() {
    let hub = ScriptedHub::start();
    let odd = "odd names/a b#c+d%é.txt";
    let data = hub.hf("datasets/acme/set");
    let commit = data.commit([File::direct(odd, "odd")]);
    data.branch("refs/pr/1", &commit);
    hub.hf("bare").commit([File::direct("a.txt", "bare")]);
    let get = |path: &str| client::get(&format!("{}{path}", hub.url()));
    let reply = get("/datasets/acme/set/resolve/refs%2Fpr%2F1/odd%20names/a%20b%23c%2Bd%25%C3%A9.txt");
    assert_eq!((reply.status, &*reply.body), (200, &b"odd"[..]));
    assert_eq!(get("/bare/resolve/main/a.txt").body, b"bare");
    assert_eq!(get("/api/datasets/acme/set/revision/refs%2Fpr%2F1").status, 200);
}

#[test]
fn the_api_lists_repositories_and_trees() {
    let hub = ScriptedHub::start();
    let model = hub.hf("acme/tiny");
    let commit = model.commit([
        File::small("config.json", "{}"),
        File::lfs("onnx/model.onnx", noise(10)),
        File::xet("onnx/deep/w.bin", noise(20)),
    ]);
    let json = |path: &str| -> serde_json::Value {
        let reply = client::get(&format!("{}{path}", hub.url()));
        assert_eq!(reply.status, 200, "{path}");
        serde_json::from_slice(&reply.body).unwrap()
    };
    let info = json("/api/models/acme/tiny?blobs=true");
    assert_eq!(info["sha"], *commit);
    assert_eq!(info["siblings"][1]["rfilename"], "onnx/deep/w.bin");
    assert_eq!(info["siblings"][1]["lfs"]["size"], 20);
    let paths = |tree: &serde_json::Value| -> Vec<String> {
        let path = |e: &serde_json::Value| e["path"].as_str().unwrap().to_owned();
        tree.as_array().unwrap().iter().map(path).collect()
    };
    let flat = json("/api/models/acme/tiny/tree/main");
    assert_eq!(paths(&flat), ["config.json", "onnx"]);
    let folder = json("/api/models/acme/tiny/tree/main/onnx%2Fdeep");
    assert_eq!(paths(&folder), ["onnx/deep/w.bin"]);
    assert_eq!(folder[0]["xetHash"].as_str().unwrap().len(), 64);

    hub.page_size(2);
    let first = client::get(&format!("{}/api/models/acme/tiny/tree/{commit}?recursive=true", hub.url()));
    let next = first.header("link").unwrap().trim_start_matches('<').split('>').next().unwrap().to_owned();
    let first: serde_json::Value = serde_json::from_slice(&first.body).unwrap();
    assert_eq!(paths(&first), ["config.json", "onnx"]);
    assert_eq!(paths(&json(next.strip_prefix(hub.url()).unwrap())), ["onnx/deep", "onnx/deep/w.bin"]);

    let info = Request::new("POST", &format!("{}/api/models/acme/tiny/paths-info/main", hub.url()))
        .body(b"paths=config.json&paths=onnx%2Fmodel.onnx&expand=false")
        .send();
    let info: serde_json::Value = serde_json::from_slice(&info.body).unwrap();
    assert_eq!(paths(&info), ["config.json", "onnx/model.onnx"]);
}

/// One page of the API and the path and query of the next.
fn page(hub: &ScriptedHub, path: &str) -> (serde_json::Value, Reply, Option<String>) {
    let reply = client::get(&format!("{}{path}", hub.url()));
    assert_eq!(reply.status, 200, "{path}: {}", reply.text());
    let next = reply.header("link").map(|link| {
        let (url, rest) = link.trim_start_matches('<').split_once('>').expect("a link in brackets");
        assert_eq!(rest, "; rel=\"next\"");
        url.strip_prefix(hub.url()).expect("an absolute URL").to_owned()
    });
    (serde_json::from_slice(&reply.body).expect("the API speaks JSON"), reply, next)
}

#[test]
fn a_large_tree_comes_in_pages_of_a_thousand() {
    let hub = ScriptedHub::start();
    let files = File::many(2_500);
    let commit = hub.hf("acme/many").commit(files.clone());
    let mut next = Some("/api/models/acme/many/tree/main?recursive=True&expand=False".to_owned());
    let mut sizes = Vec::new();
    let mut listed = Vec::new();
    while let Some(path) = next {
        let (entries, reply, following) = page(&hub, &path);
        let entries = entries.as_array().unwrap().clone();
        assert_eq!(reply.header("x-repo-commit"), Some(&*commit));
        sizes.push(entries.len());
        listed.extend(entries.into_iter().filter(|e| e["type"] == "file"));
        next = following;
    }
    assert_eq!(sizes, [1_000, 1_000, 526], "with 25 folders and the one that holds them");
    assert!(listed.iter().map(|e| e["path"].as_str().unwrap()).eq(files.iter().map(|f| &*f.path)));
    let (entries, _, next) = page(&hub, "/api/models/acme/many/tree/main/shards%2F00?expand=true");
    assert_eq!((entries.as_array().unwrap().len(), next.is_some()), (50, true));
    let (entries, _, _) = page(&hub, &next.unwrap());
    assert_eq!(entries[0]["path"], "shards/00/part-00050-of-02500.txt");
}

#[test]
fn an_expanded_entry_tells_its_last_commit_and_its_scan() {
    let hub = ScriptedHub::start();
    let model = hub.hf("acme/tiny");
    let old = model.commit([File::small("a/old.txt", "old"), File::small("b/new.txt", "1")]);
    let new = model.commit([File::small("a/old.txt", "old"), File::small("b/new.txt", "2")]);
    let (entries, ..) = page(&hub, "/api/models/acme/tiny/tree/main?recursive=true&expand=true");
    let last = |path: &str| {
        let entry = entries.as_array().unwrap().iter().find(|e| e["path"] == path).unwrap();
        entry["lastCommit"]["id"].as_str().unwrap().to_owned()
    };
    assert_eq!([last("a"), last("a/old.txt")], [&*old; 2]);
    assert_eq!([last("b"), last("b/new.txt")], [&*new; 2]);
    assert_eq!(entries[1]["securityFileStatus"]["status"], "safe");

    for body in
        ["paths=b%2Fnew.txt&paths=none&expand=True", r#"{"paths": ["b/new.txt", "none"], "expand": true}"#]
    {
        let url = format!("{}/api/models/acme/tiny/paths-info/main", hub.url());
        let info = Request::new("POST", &url).body(body.as_bytes()).send();
        let info: serde_json::Value = serde_json::from_slice(&info.body).unwrap();
        assert_eq!(info, serde_json::json!([entries[3]]), "{body}");
    }
}

#[test]
fn names_of_commits_are_told_by_their_kind() {
    let hub = ScriptedHub::start();
    let model = hub.hf("acme/tiny");
    let commit = model.commit([File::small("a.txt", "a")]);
    model.branch("feature/x", &commit).branch("refs/pr/1", &commit).branch("refs/convert/parquet", &commit);
    model.tag("v1", &commit);
    let named = |said: &serde_json::Value, kind: &str| -> Vec<[String; 2]> {
        let text = |e: &serde_json::Value, key: &str| e[key].as_str().unwrap().to_owned();
        let all = said[kind].as_array().unwrap();
        assert!(all.iter().all(|e| e["targetCommit"] == *commit));
        all.iter().map(|e| [text(e, "name"), text(e, "ref")]).collect()
    };
    let (said, ..) = page(&hub, "/api/models/acme/tiny/refs");
    assert_eq!(
        named(&said, "branches"),
        [["feature/x", "refs/heads/feature/x"], ["main", "refs/heads/main"]]
    );
    assert_eq!(named(&said, "tags"), [["v1", "refs/tags/v1"]]);
    assert_eq!(named(&said, "converts"), [["parquet", "refs/convert/parquet"]]);
    assert_eq!(said.get("pullRequests"), None);
    let (said, ..) = page(&hub, "/api/models/acme/tiny/refs?include_prs=1");
    assert_eq!(named(&said, "pullRequests"), [["refs/pr/1", "refs/pr/1"]]);
    assert_eq!(client::head(&format!("{}/acme/tiny/resolve/v1/a.txt", hub.url())).status, 307);
}

#[test]
fn commits_come_in_pages_with_their_number() {
    let hub = ScriptedHub::start();
    let mut made: Vec<_> =
        (0..5).map(|i| hub.hf("acme/tiny").commit([File::small("a.txt", i.to_string())])).collect();
    made.reverse();
    hub.page_size(2);
    let mut next = Some("/api/models/acme/tiny/commits/main?expand%5B%5D=formatted".to_owned());
    let mut listed = Vec::new();
    while let Some(path) = next {
        let (commits, reply, following) = page(&hub, &path);
        assert_eq!(reply.header("x-total-count"), Some("5"));
        assert_eq!(commits[0]["formatted"]["title"], "<p>scripted</p>");
        listed.extend(commits.as_array().unwrap().iter().map(|c| c["id"].as_str().unwrap().to_owned()));
        next = following;
    }
    assert_eq!(listed, made);
}

#[test]
fn a_repository_is_described_as_its_kind_and_by_what_is_expanded() {
    let hub = ScriptedHub::start();
    for id in ["acme/tiny", "datasets/acme/tiny", "spaces/acme/tiny"] {
        hub.hf(id).commit([File::xet("a.bin", noise(10)), File::small("b.txt", "b")]);
    }
    let said = |path: &str| page(&hub, path).0;
    assert_eq!(said("/api/models/acme/tiny")["modelId"], "acme/tiny");
    assert_eq!(said("/api/datasets/acme/tiny").get("modelId"), None);
    assert_eq!(said("/api/spaces/acme/tiny")["sdk"], "static");
    assert_eq!(said("/api/models/acme/tiny?blobs=True")["siblings"][0]["size"], 10);
    assert_eq!(said("/api/models/acme/tiny?securityStatus=true")["securityRepoStatus"]["scansDone"], true);
    assert_eq!(said("/api/models/acme/tiny").get("xetEnabled"), None);
    let some = said("/api/models/acme/tiny?expand=xetEnabled&expand%5B%5D=downloads&expand=safetensors");
    let names: Vec<_> = some.as_object().unwrap().keys().collect();
    assert_eq!(names, ["_id", "downloads", "id", "xetEnabled"]);
    assert_eq!(client::get(&format!("{}/api/models/acme/tiny?expand=nonsense", hub.url())).status, 400);
}

#[test]
fn a_branch_moves_between_two_requests() {
    let (hub, old) = hub_with(File::direct("a.txt", "old"));
    let new = hub.hf("acme/tiny").commit_aside([File::direct("a.txt", "new")]);
    let branch =
        What::MoveBranch { repository: "acme/tiny".into(), branch: "main".into(), commit: new.clone() };
    hub.fault(Fault::on("a.txt", branch).head());
    let url = format!("{}/acme/tiny/resolve/main/a.txt", hub.url());
    assert_eq!(client::head(&url).header("x-repo-commit"), Some(&*old));
    let reply = client::get(&url);
    assert_eq!((reply.header("x-repo-commit"), &*reply.body), (Some(&*new), &b"new"[..]));
    assert_eq!(client::get(&format!("{}/acme/tiny/resolve/{old}/a.txt", hub.url())).body, b"old");
}

#[test]
fn a_body_is_cut_in_good_order_at_its_byte_only() {
    let bytes = noise(300_000);
    let (hub, url) = hub_with_object(&bytes);
    let cut = hub.fault(Fault::on("model.bin", What::CutAt(200_000)).always());
    let reply = client::get(&url);
    assert_eq!((reply.status, reply.ended), (200, Ended::Broken));
    assert_eq!(reply.body, &bytes[..200_000]);
    assert_eq!(client::get_range(&url, "0-199999").ended, Ended::Clean, "the byte is not in it");
    let resumed = client::get_range(&url, "150000-");
    assert_eq!((resumed.body.len(), resumed.ended), (50_000, Ended::Broken));
    assert_eq!((client::head(&url).status, cut.fired()), (200, 2), "a HEAD has no bytes");
    hub.wait_for(PATIENCE, "both cuts", |seen| seen.iter().filter(|s| s.end == End::Cut).count() == 2);
    assert_eq!(hub.body_bytes("model.bin"), 200_000 + 200_000 + 50_000);
    assert_eq!(hub.resent_bytes("model.bin"), 250_000);
}

#[test]
fn a_body_is_reset_after_exactly_so_many_bytes() {
    let bytes = noise(2_000_000);
    let (hub, url) = hub_with_object(&bytes);
    hub.fault(Fault::on("model.bin", What::ResetAt(1_500_000)));
    let reply = client::get(&url);
    assert_eq!((reply.body.len(), reply.ended), (1_500_000, Ended::Broken));
    assert_eq!(client::get(&url).body, bytes, "a fault strikes once unless it says otherwise");
}

#[test]
fn a_stall_is_a_silence_in_the_middle() {
    let (hub, url) = hub_with_object(&noise(10_000));
    hub.fault(Fault::on("model.bin", What::StallAt(5_000, Duration::from_millis(400))));
    let reply = client::get(&url);
    assert_eq!((reply.body.len(), reply.ended), (10_000, Ended::Clean));
    assert!(reply.longest_silence() >= Duration::from_millis(390), "{:?}", reply.longest_silence());
    hub.fault(Fault::on("model.bin", What::DelayHead(Duration::from_millis(300))));
    assert!(client::get(&url).head_at >= Duration::from_millis(300));
}

#[test]
fn a_paced_body_is_never_faster_and_counts_what_went_out() {
    let (hub, url) = hub_with_object(&noise(100_000));
    hub.fault(Fault::on("model.bin", What::Rate(200_000)));
    let begun = Instant::now();
    let mut incoming = Request::get(&url).open().unwrap();
    incoming.read_to(20_000);
    let sent = hub.body_bytes("model.bin");
    assert!((20_000..100_000).contains(&sent), "{sent} of the body are out while it runs");
    let reply = incoming.finish();
    assert_eq!((reply.body.len(), reply.ended), (100_000, Ended::Clean));
    assert!(begun.elapsed() >= Duration::from_millis(450), "{:?}", begun.elapsed());
}

#[test]
fn a_slow_reader_holds_the_count_back() {
    let (hub, url) = hub_with_object(&noise(40_000_000));
    let mut incoming = Request::get(&url).open().unwrap();
    incoming.read_to(1);
    hub.wait_for(PATIENCE, "the first bytes", |seen| seen[0].body_sent > 0);
    incoming.abandon();
    hub.wait_for(PATIENCE, "the end", |seen| seen[0].end == End::ClientGone);
    let sent = hub.body_bytes("model.bin");
    assert!(sent < 20_000_000, "{sent} bytes were taken by a client that read few");
}

#[test]
fn a_gate_holds_bodies_at_a_byte_until_it_is_released() {
    let bytes = noise(100_000);
    let (hub, url) = hub_with_object(&bytes);
    let gate = hub.gate("model.bin", 70_000);
    let mut incoming = Request::get(&url).open().unwrap();
    assert_eq!(incoming.read_to(70_000).len(), 70_000);
    gate.reached();
    assert_eq!(hub.body_bytes("model.bin"), 70_000, "not a byte more");
    assert_eq!(client::get_range(&url, "0-9").body.len(), 10, "ends before the gate");
    gate.release();
    assert_eq!(incoming.finish().body, bytes);
    assert_eq!(gate.arrivals(), 1);

    let gate = hub.gate_head("HEAD", "model.bin");
    std::thread::scope(|scope| {
        let head = scope.spawn(|| client::head(&url));
        gate.reached();
        assert!(!head.is_finished());
        drop(gate);
        assert_eq!(head.join().unwrap().status, 200);
    });
}

#[test]
fn a_client_that_leaves_a_held_body_is_noticed() {
    let (hub, url) = hub_with_object(&noise(100));
    let gate = hub.gate("model.bin", 50);
    let mut incoming = Request::get(&url).open().unwrap();
    incoming.read_to(50);
    gate.reached();
    incoming.abandon();
    hub.wait_for(PATIENCE, "the client's leaving", |seen| seen[0].end == End::ClientGone);
}

#[test]
fn wrong_bytes_and_wrong_lengths() {
    let bytes = noise(1_000);
    let (hub, url) = hub_with_object(&bytes);
    hub.fault(Fault::on("model.bin", What::WrongByteAt(700)));
    assert_eq!(client::get_range(&url, "0-699").body, &bytes[..700], "passed over");
    let wrong = client::get_range(&url, "600-").body;
    let differ: Vec<_> = (0..400).filter(|&i| wrong[i] != bytes[600 + i]).collect();
    assert_eq!(differ, [100]);
    assert_eq!(client::get(&url).body, bytes);

    hub.fault(Fault::on("model.bin", What::ContentLength(10)));
    let long = client::get(&url);
    assert_eq!((long.header("content-length"), long.ended), (Some("1010"), Ended::Broken));
    assert_eq!(long.body, bytes);
    hub.fault(Fault::on("model.bin", What::ContentLength(-10)));
    let short = client::get(&url);
    assert_eq!((&*short.body, short.ended), (&bytes[..990], Ended::Clean));
}

#[test]
fn ranges_ignored_and_ranges_shifted() {
    let bytes = noise(1_000);
    let (hub, url) = hub_with_object(&bytes);
    hub.fault(Fault::on("model.bin", What::NoRange));
    let whole = client::get_range(&url, "500-");
    assert_eq!((whole.status, whole.body), (200, bytes.clone()));

    hub.fault(Fault::on("model.bin", What::Shifted206 { by: 1, admitted: true }));
    assert_eq!(client::get(&url).body, bytes, "only a range can be shifted");
    let honest = client::get_range(&url, "500-599");
    assert_eq!(honest.header("content-range"), Some("bytes 501-600/1000"));
    assert_eq!(honest.body, &bytes[501..601]);
    hub.fault(Fault::on("model.bin", What::Shifted206 { by: -2, admitted: false }));
    let liar = client::get_range(&url, "500-");
    assert_eq!(liar.header("content-range"), Some("bytes 500-999/1000"));
    assert_eq!(liar.body, &bytes[498..998]);
}

#[test]
fn an_expired_signature_stays_expired_and_a_fresh_one_works() {
    let (hub, _) = hub_with(File::lfs("model.bin", noise(10)));
    let url = format!("{}/acme/tiny/resolve/main/model.bin", hub.url());
    let signed = |url: &str| client::head(url).header("location").unwrap().to_owned();
    let first = signed(&url);
    let expired = hub.fault(Fault::on("model.bin", What::ExpiredUrl));
    assert_eq!(client::get(&first).status, 403);
    assert_eq!(client::get(&first).status, 403);
    assert_eq!(client::get(&signed(&url)).status, 200);
    assert_eq!(expired.fired(), 1);
}

#[test]
fn other_framings_and_encodings() {
    let bytes = noise(200_000);
    let (hub, url) = hub_with_object(&bytes);
    hub.fault(Fault::on("model.bin", What::Chunked));
    let chunked = client::get(&url);
    assert_eq!(chunked.header("transfer-encoding"), Some("chunked"));
    assert_eq!((chunked.header("content-length"), chunked.ended), (None, Ended::Clean));
    assert_eq!(chunked.body, bytes);
    hub.fault(Fault::on("model.bin", What::Chunked));
    hub.fault(Fault::on("model.bin", What::CutAfter(100_000)));
    let cut = client::get(&url);
    assert_eq!((cut.body.len(), cut.ended), (100_000, Ended::Broken));

    hub.fault(Fault::on("model.bin", What::NoContentLength));
    let open = client::get(&url);
    assert_eq!((open.header("content-length"), open.header("transfer-encoding")), (None, None));
    assert_eq!((open.body, open.ended), (bytes.clone(), Ended::Clean));

    hub.fault(Fault::on("model.bin", What::GzipAnyway));
    let packed = Request::get(&url).range("5-9").header("Accept-Encoding", "identity").send();
    assert_eq!((packed.status, packed.header("content-encoding")), (200, Some("gzip")));
    let mut unpacked = Vec::new();
    flate2::read::GzDecoder::new(&*packed.body).read_to_end(&mut unpacked).unwrap();
    assert_eq!(unpacked, bytes);

    hub.fault(Fault::on("model.bin", What::StoredGzip).always());
    let plain = client::get(&url);
    assert_eq!(plain.body, bytes);
    assert_eq!(plain.header("x-goog-stored-content-encoding"), Some("gzip"));
    let stored = Request::get(&url).header("Accept-Encoding", "gzip").send();
    let md5 = format!("md5={}", digests::md5_base64(&stored.body));
    assert!(stored.header("x-goog-hash").unwrap().ends_with(&md5), "the digest is that of the stored form");
}

#[test]
fn other_content_and_other_promises() {
    let bytes = noise(1_000);
    let (hub, url) = hub_with_object(&bytes);
    hub.fault(Fault::on("model.bin", What::Html));
    let page = client::get(&url);
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    hub.fault(Fault::on("model.bin", What::LfsPointer));
    let pointer = String::from_utf8(client::get(&url).body).unwrap();
    assert!(pointer.ends_with(&format!("oid sha256:{}\nsize 1000\n", digests::sha256(&bytes))), "{pointer}");
    let tag = client::head(&url).header("etag").unwrap().to_owned();
    hub.fault(Fault::on("model.bin", What::NewEtag));
    let changed = Request::get(&url).range("9-").header("If-Range", &tag).send();
    assert_eq!((changed.status, changed.body.len()), (200, 1_000));
    assert_ne!(changed.header("etag"), Some(&*tag));
    hub.fault(Fault::on("model.bin", What::NoPromises));
    let silent = client::get(&url);
    assert_eq!(silent.header("x-goog-hash"), None);
    assert!(!silent.header("etag").unwrap().contains(&digests::md5_hex(&bytes)));
    hub.fault(Fault::on("model.bin", What::Header("x-goog-hash".into(), Some("md5=AAAA".into()))));
    assert_eq!(client::get(&url).header("x-goog-hash"), Some("md5=AAAA"));
}

#[test]
fn statuses_hang_ups_and_faults_that_wait_their_turn() {
    let (hub, url) = hub_with_object(&noise(10));
    let slow_down = What::status_with(429, &[("Retry-After", "1")], "slow down");
    let fault = hub.fault(Fault::on("model.bin", slow_down).get().after(1).times(2));
    let statuses: Vec<_> = (0..4).map(|_| client::get(&url).status).collect();
    assert_eq!(statuses, [200, 429, 429, 200]);
    assert_eq!((client::head(&url).status, fault.fired()), (200, 2));
    hub.fault(Fault::on("model.bin", What::hang_up()));
    assert!(Request::get(&url).try_send().is_err());
    hub.fault(Fault::on("model.bin", What::status(503)).at(Listener::Cdn).always());
    assert_eq!(client::get(&url).status, 200, "another listener");
    let outage = hub.fault(Fault::on("", What::status(503)).always());
    assert_eq!(client::get(&url).status, 503);
    outage.disarm();
    assert_eq!(client::get(&url).status, 200);
}

#[test]
fn a_stopped_hub_refuses_and_comes_back_on_its_port() {
    let (hub, url) = hub_with_object(&noise(100_000));
    let gate = hub.gate("model.bin", 10);
    let mut held = Request::get(&url).open().unwrap();
    held.read_to(10);
    gate.reached();
    hub.stop();
    assert_eq!(held.finish().ended, Ended::Broken);
    let refused = Request::get(&url).try_send().unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    drop(gate);
    hub.restart();
    assert_eq!(client::get(&url).body.len(), 100_000);
}

#[tokio::test]
async fn a_hub_lives_and_ends_inside_an_async_test() {
    let (hub, url) = hub_with_object(&noise(10));
    let reply = tokio::task::spawn_blocking(move || client::get(&url)).await.unwrap();
    assert_eq!(reply.body.len(), 10);
    drop(hub);
}

#[test]
fn many_clients_at_once_are_all_served() {
    let bytes = noise(1_000_000);
    let (hub, url) = hub_with_object(&bytes);
    let replies = client::at_once(8, |_| client::get(&url));
    assert!(replies.iter().all(|r| r.is_whole() && r.body == bytes));
    assert_eq!(hub.body_bytes("model.bin"), 8_000_000);
    assert_eq!(hub.resent_bytes("model.bin"), 7_000_000);
}
