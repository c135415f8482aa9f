//! A file that is held is answered from the store alone.

use crate::support;
use support::client::{self, Reply, Request};
use support::daemon::Daemon;
use support::hub::{File, ScriptedHub, digests};

/// Bytes without a period that a shift could hide in.
fn noise(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    fastrand::Rng::with_seed(11).fill(&mut bytes);
    bytes
}

/// One file that is held, and what is to be said of it.
struct Held {
    url: String,
    bytes: Vec<u8>,
    etag: String,
    commit: Option<String>,
    /// The same file at the commit, as HEAD at a branch tells it.
    location: Option<String>,
}

impl Held {
    fn get(&self) -> Request {
        Request::get(&self.url)
    }
}

/// Files of every kind and both layouts, each fetched once; the hub's journal is empty then.
fn warm() -> (ScriptedHub, Daemon, Vec<Held>) {
    let hub = ScriptedHub::start();
    let text = "{\"words\": \"words words words\"}\n".repeat(100).into_bytes();
    let files = [
        File::lfs("model.bin", noise(3_000_001)),
        File::xet("dir/weights.safetensors", noise(70_000)),
        File::small("config.json", text.clone()),
        File::direct("one.txt", "1"),
        File::small("none.txt", ""),
        File::lfs("none.bin", ""),
    ];
    let commit = hub.hf("acme/tiny").commit(files.clone());
    hub.moz("acme/tiny", "v1.0", "onnx/model.onnx", noise(200_000));
    hub.moz("acme/tiny", "main", "config.json", text.clone());
    hub.moz("acme/tiny", "v1.0", "none", "");
    let daemon = Daemon::builder().hub(&hub).set("cache.ref_ttl", "1h").start();
    let root = daemon.url();
    let mut all = Vec::new();
    for (at, file) in files.iter().enumerate() {
        // Files of a model are held under the commit, whichever name they were asked under.
        let revisions = ["main", &commit];
        for revision in if at % 2 == 0 { revisions } else { [revisions[1], revisions[0]] } {
            let large = matches!(file.storage, support::hub::Storage::Lfs | support::hub::Storage::Xet);
            let digest = if large { digests::sha256(&file.bytes) } else { digests::git_sha1(&file.bytes) };
            let at_commit = format!("{root}/acme/tiny/resolve/{commit}/{}", file.path);
            all.push(Held {
                url: format!("{root}/acme/tiny/resolve/{revision}/{}", file.path),
                bytes: file.bytes.to_vec(),
                etag: format!("\"{digest}\""),
                commit: Some(commit.clone()),
                location: (revision == "main").then_some(at_commit),
            });
        }
    }
    for (path, bytes) in
        [("v1.0/onnx/model.onnx", noise(200_000)), ("main/config.json", text), ("v1.0/none", Vec::new())]
    {
        let etag = format!("\"{}\"", digests::md5_hex(&bytes));
        all.push(Held { url: format!("{root}/acme/tiny/{path}"), bytes, etag, commit: None, location: None });
    }
    for held in &all {
        let reply = client::get(&held.url);
        reply.assert_is(200, &held.bytes, &held.url);
    }
    hub.clear();
    (hub, daemon, all)
}

fn assert_silent(hub: &ScriptedHub) {
    assert!(hub.requests().is_empty(), "{}", hub.journal());
}

/// What every answer about a held file carries, and what none may.
fn assert_headers(held: &Held, reply: &Reply) {
    let at = &held.url;
    assert_eq!(reply.header("etag"), Some(&*held.etag), "{at}");
    assert_eq!(reply.header("x-repo-commit"), held.commit.as_deref(), "{at}");
    assert_eq!(reply.header("accept-ranges"), Some("bytes"), "{at}");
    assert_eq!(reply.header("cache-control"), Some("no-cache"), "{at}");
    assert_eq!(reply.header("cache-status"), Some("hubcache; hit"), "{at}");
    assert_eq!(reply.header("access-control-allow-origin"), Some("*"), "{at}");
    assert!(reply.header("age").is_some_and(|age| age.parse::<u64>().is_ok_and(|s| s < 60)), "{at}");
    assert!(reply.header("via").is_some_and(|via| via.contains("hubcache")), "{at}");
    assert!(reply.header("date").is_some(), "{at}");
    let exposed = reply.header("access-control-expose-headers").unwrap_or_default().to_ascii_lowercase();
    for name in ["etag", "x-repo-commit", "content-length", "content-range", "accept-ranges", "x-error-code"]
    {
        assert!(exposed.split(", ").any(|e| e == name), "{name} in {exposed}");
    }
    for name in [
        "set-cookie",
        "content-encoding",
        "transfer-encoding",
        "link",
        "x-xet-hash",
        "x-xet-refresh-route",
        "x-linked-size",
    ] {
        assert_eq!(reply.header(name), None, "{name} at {at}");
    }
}

#[test]
fn get_and_head_carry_what_every_client_insists_on() {
    let (hub, _daemon, all) = warm();
    for held in &all {
        let reply = client::get(&held.url);
        reply.assert_is(200, &held.bytes, &held.url);
        let head = client::head(&held.url);
        assert_eq!(head.status, 200, "{}", held.url);
        assert_eq!(head.header("location"), held.location.as_deref(), "{}", held.url);
        assert_eq!(reply.header("location"), None);
        for reply in [&reply, &head] {
            assert_headers(held, reply);
            let length = held.bytes.len().to_string();
            assert_eq!(reply.header("content-length"), Some(&*length), "{}", held.url);
            assert!(reply.header("content-type").is_some_and(|t| t.contains('/')), "{}", held.url);
        }
    }
    assert_silent(&hub);
}

#[test]
fn no_redirect_leaves_for_an_old_client_that_follows_head_by_get() {
    let (hub, daemon, all) = warm();
    for held in all.iter().filter(|h| h.location.is_some()) {
        let location = client::head(&held.url).header("location").unwrap().to_owned();
        assert!(location.starts_with(&daemon.url()), "{location}");
        let reply = client::get(&location);
        reply.assert_is(200, &held.bytes, &held.url);
    }
    // The host is the one that the client used, and the way to the hub stays in the path.
    let head =
        Request::new("HEAD", &format!("{}/hub/huggingface/acme/tiny/resolve/main/one.txt", daemon.url()))
            .header("Host", "models.example:8470")
            .send();
    let commit = head.header("x-repo-commit").unwrap();
    let expected = format!("http://models.example:8470/hub/huggingface/acme/tiny/resolve/{commit}/one.txt");
    assert_eq!(head.header("location"), Some(&*expected));
    assert_silent(&hub);
}

#[test]
fn single_ranges_are_cut_from_the_held_bytes() {
    let (hub, _daemon, all) = warm();
    for held in all.iter().filter(|h| h.bytes.len() > 1000) {
        let size = held.bytes.len();
        let bytes = &held.bytes;
        for (range, from, to) in [
            ("0-0".to_owned(), 0, 1),
            ("0-".to_owned(), 0, size),
            ("10-19".to_owned(), 10, 20),
            (format!("0-{}", size - 1), 0, size),
            (format!("{}-", size - 7), size - 7, size),
            (format!("{}-{}", size - 1, size - 1), size - 1, size),
            ("-1".to_owned(), size - 1, size),
            ("-5".to_owned(), size - 5, size),
            (format!("-{}", size + 5), 0, size),
            (format!("{}-{}", size - 10, size + 1000), size - 10, size),
            ("5-99999999999999999999999".to_owned(), 5, size),
        ] {
            let reply = client::get_range(&held.url, &range);
            reply.assert_is(206, &bytes[from..to], &format!("{range} of {}", held.url));
            let place = format!("bytes {from}-{}/{size}", to - 1);
            assert_eq!(reply.header("content-range"), Some(&*place), "{range} of {}", held.url);
            assert_eq!(reply.header("content-length"), Some(&*(to - from).to_string()));
            assert_headers(held, &reply);
        }
    }
    assert_silent(&hub);
}

#[test]
fn parts_put_together_across_every_chunk_are_the_file() {
    let (hub, _daemon, all) = warm();
    let held = &all[0];
    // Odd steps, so that parts begin and end on either side of what the store keeps together.
    let step = 262_139;
    let mut joined = Vec::new();
    while joined.len() < held.bytes.len() {
        let range = format!("{}-{}", joined.len(), joined.len() + step - 1);
        joined.extend(client::get_range(&held.url, &range).body);
    }
    assert!(joined == held.bytes);
    assert_silent(&hub);
}

#[test]
fn a_range_outside_the_file_is_416_and_names_the_size() {
    let (hub, _daemon, all) = warm();
    for held in &all {
        let size = held.bytes.len();
        let mut ranges = vec![format!("{size}-"), format!("{}-{}", size + 10, size + 20), "-0".to_owned()];
        if size == 0 {
            ranges.extend(["0-0".to_owned(), "0-".to_owned()]);
        }
        for range in ranges {
            let reply = client::get_range(&held.url, &range);
            assert_eq!((reply.status, reply.body.len()), (416, 0), "{range} of {}", held.url);
            assert_eq!(reply.header("content-range"), Some(&*format!("bytes */{size}")), "{range}");
            assert_eq!(reply.header("x-repo-commit"), held.commit.as_deref());
            assert_eq!(reply.header("etag"), Some(&*held.etag));
        }
    }
    assert_silent(&hub);
}

#[test]
fn several_ranges_and_unreadable_ones_bring_the_whole_file() {
    let (hub, _daemon, all) = warm();
    for held in &all {
        for range in ["bytes=0-1,4-5", "bytes=0-0,-1", "bytes=5-4", "items=0-1", "bytes=", "bytes=a-b", "0-1"]
        {
            let reply = held.get().header("Range", range).send();
            reply.assert_is(200, &held.bytes, &format!("{range} of {}", held.url));
            assert_eq!(reply.header("content-range"), None);
            assert_headers(held, &reply);
        }
    }
    assert_silent(&hub);
}

#[test]
fn a_range_has_no_meaning_for_head() {
    let (hub, _daemon, all) = warm();
    for held in &all {
        let reply = Request::new("HEAD", &held.url).range("0-0").send();
        assert_eq!(reply.status, 200, "{}", held.url);
        assert_eq!(reply.header("content-length"), Some(&*held.bytes.len().to_string()));
    }
    assert_silent(&hub);
}

#[test]
fn a_client_that_holds_the_file_is_told_so() {
    let (hub, _daemon, all) = warm();
    for held in &all {
        let etag = &held.etag;
        for tags in [
            etag.clone(),
            format!("W/{etag}"),
            "*".to_owned(),
            format!("\"x\", W/\"y\", {etag}"),
            format!("\"x\",{etag}"),
        ] {
            for method in ["GET", "HEAD"] {
                let reply = Request::new(method, &held.url).header("If-None-Match", &tags).send();
                assert_eq!((reply.status, reply.body.len()), (304, 0), "{tags} of {}", held.url);
                assert_headers(held, &reply);
            }
            let part = held.get().header("If-None-Match", &tags).range("0-0").send();
            assert_eq!(part.status, 304, "the condition comes before the range");
        }
        for tags in
            ["\"other\"".to_owned(), "W/\"other\"".to_owned(), etag.trim_matches('"').to_owned() + "x"]
        {
            let reply = held.get().header("If-None-Match", &tags).send();
            reply.assert_is(200, &held.bytes, &format!("{tags} of {}", held.url));
        }
    }
    assert_silent(&hub);
}

#[test]
fn if_range_lets_a_part_through_only_for_the_same_strong_tag() {
    let (hub, _daemon, all) = warm();
    for held in all.iter().filter(|h| !h.bytes.is_empty()) {
        let etag = &held.etag;
        let same = held.get().range("0-0").header("If-Range", etag).send();
        assert_eq!((same.status, &*same.body), (206, &held.bytes[..1]), "{}", held.url);
        for other in [
            "\"other\"".to_owned(),
            format!("W/{etag}"),
            "Tue, 14 Nov 2023 22:13:20 GMT".to_owned(),
            "*".to_owned(),
        ] {
            let reply = held.get().range("0-0").header("If-Range", &other).send();
            reply.assert_is(200, &held.bytes, &format!("{other} of {}", held.url));
        }
        // Without a range there is nothing for it to stop.
        assert_eq!(held.get().header("If-Range", "\"other\"").send().status, 200);
    }
    assert_silent(&hub);
}

#[test]
fn what_a_client_accepts_changes_nothing_of_the_bytes() {
    let (hub, _daemon, all) = warm();
    for held in &all {
        let mut replies = Vec::new();
        for accepted in ["gzip, deflate, br, zstd", "identity", "gzip;q=1.0, identity;q=0", ""] {
            let reply = held.get().header("Accept-Encoding", accepted).send();
            reply.assert_is(200, &held.bytes, &format!("{accepted} of {}", held.url));
            assert_headers(held, &reply);
            replies.push(reply);
        }
        assert!(replies.iter().all(|r| r.header("vary").is_none()), "there is one form for all");
    }
    assert_silent(&hub);
}

#[test]
fn an_immutable_file_is_a_hit_also_for_a_client_that_insists_on_the_hub() {
    let (hub, _daemon, all) = warm();
    let immutable = |h: &&Held| h.location.is_none() && !h.url.contains("/main/");
    for held in all.iter().filter(immutable) {
        for (name, value) in
            [("Cache-Control", "no-cache"), ("Cache-Control", "max-age=0"), ("Pragma", "no-cache")]
        {
            let reply = held.get().header(name, value).send();
            reply.assert_is(200, &held.bytes, &held.url);
            assert_eq!(reply.header("cache-status"), Some("hubcache; hit"));
        }
    }
    assert_silent(&hub);
}

#[test]
fn hits_outlive_a_restart_and_need_no_hub() {
    let (hub, mut daemon, all) = warm();
    hub.stop();
    daemon.restart();
    for held in &all {
        let reply = client::get(&held.url);
        reply.assert_is(200, &held.bytes, &held.url);
        assert_headers(held, &reply);
    }
    assert_silent(&hub);
}
