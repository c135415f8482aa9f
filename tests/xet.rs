//! What would lead clients past this cache stays behind: the Xet store's hashes and fields, links to further pages, and,
//! where that is wanted, uploads.

use crate::support;
use serde_json::Value;
use support::client::{self, Reply, Request};
use support::daemon::Daemon;
use support::hub::{Fault, File, ScriptedHub, What};

const REPO: &str = "/api/models/acme/tiny";
/// A parameter that is not known here makes a question pass.
const PASSES: &str = "unknown=1";

fn hub() -> ScriptedHub {
    let hub = ScriptedHub::start();
    hub.hf("acme/tiny").commit([
        File::xet("large.bin", "x".repeat(2000)),
        File::xet("small.bin", "y".repeat(1000)),
        File::small("config.json", "{}"),
    ]);
    hub
}

fn json(reply: &Reply) -> Value {
    assert!(reply.is_whole(), "{}", reply.text());
    serde_json::from_slice(&reply.body).unwrap()
}

fn without_xet(mut value: Value) -> Value {
    match &mut value {
        Value::Object(members) => {
            members.retain(|name, _| name != "xetHash" && name != "xetEnabled");
            members.values_mut().for_each(|member| *member = without_xet(member.take()));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| *item = without_xet(item.take())),
        _ => {}
    }
    value
}

/// Which of the two files are listed with their hash.
fn hashed(reply: &Reply) -> Vec<String> {
    let listed = json(reply);
    let hashed = listed.as_array().unwrap().iter().filter(|item| item.get("xetHash").is_some());
    hashed.map(|item| item["path"].as_str().unwrap().to_owned()).collect()
}

fn has_no_xet_field(reply: &Reply) -> bool {
    !reply.headers.iter().any(|(name, value)| format!("{name}: {value}").to_lowercase().contains("xet"))
}

#[test]
fn descriptions_that_pass_have_nothing_of_the_xet_store_and_are_else_what_the_hub_said() {
    let hub = hub();
    let daemon = Daemon::start(&hub);
    let form =
        |url: String| Request::new("POST", &url).header("Content-Type", "application/x-www-form-urlencoded");
    for path in ["tree/main", "tree/main?recursive=true", "revision/main", "", "refs"] {
        let join = if path.contains('?') { '&' } else { '?' };
        let target = format!("{REPO}/{path}{join}{PASSES}").replace("/?", "?");
        let said = client::get(&format!("{}{target}", hub.url()));
        assert_eq!(said.text().contains("xet"), path.starts_with("tree"), "{}", said.text());
        for prefix in ["", "/hub/huggingface"] {
            let url = format!("{}{prefix}{target}", daemon.url());
            let got = Request::get(&url).header("Accept-Encoding", "gzip").send();
            assert_eq!(
                (got.status, got.header("cache-status")),
                (200, Some("hubcache; fwd=bypass")),
                "{path}"
            );
            assert_eq!(json(&got), without_xet(json(&said)), "{path}");
            assert!(!got.text().contains("xet") && has_no_xet_field(&got), "{path}");
            assert_eq!(got.header("etag"), None, "the hub's tag is that of another text");
            let head = client::head(&url);
            assert_eq!((head.status, head.header("content-length"), head.header("etag")), (200, None, None));
        }
    }
    let target = format!("{REPO}/paths-info/main?{PASSES}");
    let ask = |root: &str| form(format!("{root}{target}")).body(b"paths=large.bin&paths=config.json").send();
    let (got, said) = (ask(&daemon.url()), ask(hub.url()));
    assert!(said.text().contains("xetHash"));
    assert_eq!(json(&got), without_xet(json(&said)));
}

#[test]
fn answers_that_are_kept_have_nothing_of_the_xet_store() {
    let hub = hub();
    let daemon = Daemon::start(&hub);
    let url = format!("{}{REPO}/tree/main?recursive=true", daemon.url());
    for status in ["hubcache; fwd=uri-miss; stored", "hubcache; hit"] {
        let got = client::get(&url);
        assert_eq!(got.header("cache-status"), Some(status));
        assert!(!got.text().contains("xet") && has_no_xet_field(&got), "{}", got.text());
    }
    let file = client::head(&format!("{}/acme/tiny/resolve/main/large.bin", daemon.url()));
    assert!(file.status == 200 && has_no_xet_field(&file));
}

#[test]
fn every_page_of_what_passes_comes_from_here() {
    let hub = hub();
    hub.page_size(1);
    let daemon = Daemon::start(&hub);
    for prefix in ["", "/hub/huggingface"] {
        let base = format!("{}{prefix}/api/", daemon.url());
        let mut next = Some(format!("{}{prefix}{REPO}/tree/main?{PASSES}", daemon.url()));
        let mut paths = Vec::new();
        while let Some(url) = next {
            let page = client::get(&url);
            paths.push(json(&page)[0]["path"].as_str().unwrap().to_owned());
            next = page.header("link").map(|link| {
                let target = link.strip_prefix('<').and_then(|l| l.strip_suffix(">; rel=\"next\"")).unwrap();
                assert!(target.starts_with(&base), "{link}");
                target.to_owned()
            });
        }
        assert_eq!(paths, ["config.json", "large.bin", "small.bin"]);
    }
}

#[test]
fn only_files_above_the_limit_are_listed_with_their_hash_and_that_is_counted() {
    let hub = hub();
    for (above, want) in
        [("1500B", vec!["large.bin"]), ("1999B", vec!["large.bin"]), ("2000B", vec![]), ("none", vec![])]
    {
        let daemon = Daemon::builder().hub(&hub).set("cache.xet_above", above).start();
        for query in ["recursive=true", PASSES] {
            let got = client::get(&format!("{}{REPO}/tree/main?{query}", daemon.url()));
            assert_eq!(hashed(&got), want, "{above} {query}");
        }
        assert_eq!(daemon.metric("hubcache_xet_hints_total", &[]), 2.0 * want.len() as f64, "{above}");
    }
}

#[test]
fn only_of_a_file_above_the_limit_head_tells_the_place_in_the_store() {
    let hub = hub();
    let daemon = Daemon::builder().hub(&hub).set("cache.xet_above", "1500B").start();
    let head = |path: &str| client::head(&format!("{}{path}", daemon.url()));
    for prefix in ["", "/hub/huggingface"] {
        let told = head(&format!("{prefix}/acme/tiny/resolve/main/large.bin"));
        assert!(told.status == 200 && told.header("x-xet-hash").is_some(), "{:?}", told.headers);
        let token = format!("{REPO}/xet-read-token/{}", told.header("x-repo-commit").unwrap());
        assert_eq!(told.header("x-xet-refresh-route"), Some(token.as_str()));
        let link = told.header("link").unwrap();
        assert!(link.starts_with(&format!("<{}{prefix}{token}>; rel=\"xet-auth\"", daemon.url())), "{link}");
        assert!(link.contains(&format!("<{}/v1/", hub.cas_url())), "{link}");
        assert!(has_no_xet_field(&head(&format!("{prefix}/acme/tiny/resolve/main/small.bin"))));
    }
    assert_eq!(daemon.metric("hubcache_xet_hints_total", &[]), 2.0);
    let get = client::get(&format!("{}/acme/tiny/resolve/main/large.bin", daemon.url()));
    assert!(get.body.len() == 2000 && has_no_xet_field(&get));
}

#[test]
fn a_client_that_asks_for_access_to_the_store_gets_it_and_is_counted() {
    let hub = hub();
    let daemon = Daemon::start(&hub);
    let target = format!("{REPO}/xet-read-token/main");
    let got = client::get(&format!("{}{target}", daemon.url()));
    assert_eq!((got.status, json(&got)["accessToken"].as_str()), (200, Some("xet-scripted")));
    assert_eq!(got.header("x-xet-access-token"), Some("xet-scripted"), "older clients read the fields");
    assert_eq!(daemon.metric("hubcache_xet_token_requests_total", &[]), 1.0);
    daemon.wait_for_log("a client asks for access to the Xet store");
    client::get(&format!("{}{REPO}/tree/main?{PASSES}&xet-read-token/", daemon.url()));
    assert_eq!(daemon.metric("hubcache_xet_token_requests_total", &[]), 1.0);
}

#[test]
fn a_description_that_comes_encoded_is_decoded_first() {
    let hub = hub();
    let said = client::get(&format!("{}{REPO}/tree/main", hub.url()));
    let daemon = Daemon::start(&hub);
    hub.fault(Fault::on("/tree/main", What::GzipAnyway).always());
    let encoded = client::get(&format!("{}{REPO}/tree/main", hub.url()));
    assert_eq!(encoded.header("content-encoding"), Some("gzip"), "the hub does as told");
    let got = client::get(&format!("{}{REPO}/tree/main?{PASSES}", daemon.url()));
    assert_eq!(got.header("content-encoding"), None);
    assert_eq!(json(&got), without_xet(json(&said)));
}

#[test]
fn a_description_that_cannot_be_read_breaks_off_and_another_text_passes() {
    let hub = hub();
    let daemon = Daemon::start(&hub);
    let kind = [("Content-Type", "application/json; charset=utf-8")];
    for broken in ["[{\"path\": \"a\", \"xetHash\": \"b\"", "[1, 2}", "<html>", "[1] [2]"] {
        hub.fault(Fault::on("/api/broken", What::status_with(200, &kind, broken)));
        // What is wrong from the start may break the connection before the head is sent.
        if let Ok(got) = Request::get(&format!("{}/api/broken", daemon.url())).try_send() {
            assert!(!got.is_whole() && !got.text().contains("xet"), "{broken}: {}", got.text());
        }
    }
    hub.fault(Fault::on("/api/text", What::status_with(200, &[("Content-Type", "text/plain")], "[1, 2}")));
    let got = client::get(&format!("{}/api/text", daemon.url()));
    assert!(got.is_whole() && got.body == b"[1, 2}", "{}", got.text());
    hub.fault(Fault::on("/paths-info/", What::status_with(200, &kind, "[1")).always());
    let asked = Request::new("POST", &format!("{}{REPO}/paths-info/main", daemon.url()));
    let kept =
        asked.header("Content-Type", "application/json").body(b"{\"paths\": [\"config.json\"]}").send();
    assert_eq!(kept.status, 502, "an answer that would be kept is not begun: {}", kept.text());
}

#[test]
fn uploads_pass_unless_they_are_refused_here() {
    let hub = hub();
    for (setting, refused) in [("pass", false), ("refuse", true)] {
        let daemon = Daemon::builder().hub(&hub).set("cache.uploads", setting).start();
        let body = vec![b'x'; 3 << 20];
        for (method, path) in [
            ("POST", "/api/models/acme/tiny/commit/main"),
            ("POST", "/acme/tiny.git/info/lfs/objects/batch"),
            ("PUT", "/acme/tiny/resolve/main/large.bin"),
            ("DELETE", "/api/repos/delete"),
        ] {
            hub.clear();
            let got = Request::new(method, &format!("{}{path}", daemon.url())).body(&body).send();
            assert_eq!(hub.requests().len(), usize::from(!refused), "{method} {path}");
            assert_eq!(got.status == 403, refused, "{method} {path}: {}", got.text());
            let message = got.header("x-error-message").filter(|m| m.contains("cache.uploads"));
            assert_eq!(message.is_some(), refused, "{method} {path}");
        }
        let form = ("Content-Type", "application/x-www-form-urlencoded");
        for query in ["", "?unknown=1"] {
            let url = format!("{}{REPO}/paths-info/main{query}", daemon.url());
            let read = Request::new("POST", &url).header(form.0, form.1).body(b"paths=config.json").send();
            assert_eq!(read.status, 200, "a list of paths is only read: {}", read.text());
        }
        let ended = [("hub", "huggingface"), ("result", "no-uploads")];
        assert_eq!(daemon.metric("hubcache_requests_total", &ended), if refused { 4.0 } else { 0.0 });
    }
}
