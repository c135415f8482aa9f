//! What a revision means, for how long that is taken for granted, and what HEAD says of it.

use std::thread;
use std::time::{Duration, Instant};

use crate::support;
use support::client::{self, Reply, Request};
use support::daemon::Daemon;
use support::hub::{Fault, File, ScriptedHub, What, digests};

/// A daemon that takes the meaning of a branch for granted for a moment only.
fn impatient(hub: &ScriptedHub) -> Daemon {
    Daemon::builder().hub(hub).set("cache.ref_ttl", "0s").start()
}

fn status_of(reply: &Reply) -> &str {
    reply.header("cache-status").expect("every answer has one")
}

#[test]
fn a_commit_is_immutable_and_costs_nothing_once_held() {
    let hub = ScriptedHub::start();
    let commit = hub.hf("acme/tiny").commit([File::small("config.json", "{}")]);
    let daemon = impatient(&hub);
    let url = format!("{}/acme/tiny/resolve/{commit}/config.json", daemon.url());
    client::get(&url);
    hub.clear();
    for request in [Request::get(&url), Request::get(&url).header("Cache-Control", "no-cache")] {
        assert_eq!(request.send().body, b"{}");
    }
    client::head(&url);
    assert!(hub.requests().is_empty(), "{}", hub.journal());
}

#[test]
fn a_branch_is_asked_for_once_within_its_ttl_and_serves_one_commit_to_all_paths() {
    let hub = ScriptedHub::start();
    let repo = hub.hf("acme/tiny");
    let old = repo.commit([File::small("a.json", "old a"), File::small("b.json", "old b")]);
    let daemon = Daemon::start(&hub);
    let url = |path: &str| format!("{}/acme/tiny/resolve/main/{path}", daemon.url());
    assert_eq!(client::get(&url("a.json")).body, b"old a");
    repo.commit([File::small("a.json", "new a"), File::small("b.json", "new b")]);
    // Within the TTL the branch stands for the same commit, also for a path that was not held.
    let b = client::get(&url("b.json"));
    assert_eq!((b.body.as_slice(), b.header("x-repo-commit")), (&b"old b"[..], Some(old.as_str())));
    hub.clear();
    assert_eq!(client::get(&url("a.json")).body, b"old a");
    assert!(hub.requests().is_empty(), "{}", hub.journal());
}

#[test]
fn after_the_ttl_a_moved_branch_is_followed_and_an_unmoved_one_costs_one_head() {
    let hub = ScriptedHub::start();
    let repo = hub.hf("acme/tiny");
    repo.commit([File::small("a.json", "old")]);
    let daemon = impatient(&hub);
    let url = format!("{}/acme/tiny/resolve/main/a.json", daemon.url());
    client::get(&url);
    hub.clear();
    let same = client::get(&url);
    assert_eq!(same.body, b"old");
    assert!(status_of(&same).contains("fwd=stale"), "{}", status_of(&same));
    assert!(hub.requests().iter().all(|s| s.method == "HEAD"), "{}", hub.journal());
    let new = repo.commit([File::small("a.json", "new")]);
    let moved = client::get(&url);
    assert_eq!((moved.body.as_slice(), moved.header("x-repo-commit")), (&b"new"[..], Some(new.as_str())));
}

#[test]
fn no_cache_revalidates_now_and_together() {
    let hub = ScriptedHub::start();
    let repo = hub.hf("acme/tiny");
    repo.commit([File::direct("a.json", "old")]);
    let daemon = Daemon::start(&hub);
    let url = format!("{}/acme/tiny/resolve/main/a.json", daemon.url());
    client::get(&url);
    repo.commit([File::direct("a.json", "new")]);
    hub.clear();
    let gate = hub.gate_head("HEAD", "a.json");
    let waiting = thread::spawn({
        let url = url.clone();
        move || client::at_once(6, |_| Request::get(&url).header("Cache-Control", "no-cache").send())
    });
    gate.reached();
    gate.release();
    for reply in waiting.join().unwrap() {
        // Whoever came after the budget was spent may have been answered from what was held.
        assert!(reply.body == b"new" || status_of(&reply).contains("stale"), "{}", reply.text());
    }
    assert_eq!(client::get(&url).body, b"new");
    assert!(hub.count("HEAD", "a.json") <= 2, "{}", hub.journal());
}

#[test]
fn a_get_waits_for_the_hub_within_its_budget_and_is_stale_after_it() {
    let hub = ScriptedHub::start();
    let repo = hub.hf("acme/tiny");
    let old = repo.commit([File::small("a.json", "old")]);
    let daemon = Daemon::builder()
        .hub(&hub)
        .set("cache.ref_ttl", "0s")
        .set("cache.revalidate_budget", "300ms")
        .start();
    let url = format!("{}/acme/tiny/resolve/main/a.json", daemon.url());
    client::get(&url);
    repo.commit([File::small("a.json", "new")]);
    let gate = hub.gate_head("HEAD", "a.json");
    let stale = client::get(&url);
    assert_eq!((stale.body.as_slice(), stale.header("x-repo-commit")), (&b"old"[..], Some(old.as_str())));
    assert!(status_of(&stale).contains("stale"), "{}", status_of(&stale));
    gate.release();
}

#[test]
fn a_hub_that_is_down_or_overloaded_means_stale() {
    for status in [429, 500, 503] {
        means_stale(&status.to_string(), |hub| {
            hub.fault(Fault::on(".json", What::status(status)).always());
        });
    }
    means_stale("connection refused", ScriptedHub::stop);
}

/// Asserts that what is held is served while the hub is as `trouble` makes it, and confirmed afterwards.
fn means_stale(why: &str, trouble: impl Fn(&ScriptedHub)) {
    let hub = ScriptedHub::start();
    hub.hf("acme/tiny").commit([File::small("a.json", "held")]);
    hub.moz("acme/m", "main", "b.json", "held too");
    let daemon =
        Daemon::builder().hub(&hub).set("cache.ref_ttl", "0s").set("upstream.probe_interval", "20ms").start();
    let urls = [
        format!("{}/acme/tiny/resolve/main/a.json", daemon.url()),
        format!("{}/acme/m/main/b.json", daemon.url()),
    ];
    let first: Vec<_> = urls.iter().map(|u| client::get(u)).collect();
    trouble(&hub);
    for _known_and_still_so in 0..2 {
        for (url, first) in urls.iter().zip(&first) {
            let reply = client::get(url);
            assert_eq!((reply.status, &reply.body), (200, &first.body), "{why}");
            assert_eq!(status_of(&reply), "hubcache; hit; detail=stale", "{why}");
            assert_eq!(client::head(url).header("etag"), first.header("etag"), "{why}");
        }
    }
    hub.behave();
    hub.restart();
    // A hub that counts as down, or asked to be left alone, is asked again a little later.
    let deadline = Instant::now() + Duration::from_secs(20);
    for url in &urls {
        while !status_of(&client::get(url)).contains("fwd=stale") {
            assert!(Instant::now() < deadline, "{why}: stale for good");
        }
    }
}

#[test]
fn stale_has_a_bound_that_can_be_set() {
    let hub = ScriptedHub::start();
    hub.hf("acme/tiny").commit([File::small("a.json", "held")]);
    let daemon = Daemon::builder().hub(&hub).set("cache.ref_ttl", "0s").set("cache.stale_max", "1ms").start();
    let url = format!("{}/acme/tiny/resolve/main/a.json", daemon.url());
    client::get(&url);
    hub.stop();
    let deadline = Instant::now() + Duration::from_secs(5);
    while client::get(&url).status == 200 {
        assert!(Instant::now() < deadline, "stale without a bound");
    }
    assert_eq!(client::get(&url).status, 504);
}

#[test]
fn a_version_of_the_mozilla_hub_is_immutable_and_main_is_not() {
    let hub = ScriptedHub::start();
    for revision in ["v1.0.0", "main"] {
        hub.moz("acme/m", revision, "a.json", "old");
    }
    let daemon = impatient(&hub);
    let url = |revision: &str| format!("{}/acme/m/{revision}/a.json?download=true", daemon.url());
    assert_eq!(client::get(&url("v1.0.0")).body, b"old");
    assert_eq!(client::get(&url("main")).body, b"old");
    for revision in ["v1.0.0", "main"] {
        hub.moz("acme/m", revision, "a.json", "new");
    }
    hub.clear();
    assert_eq!(client::get(&url("v1.0.0")).body, b"old");
    assert!(hub.requests().is_empty(), "{}", hub.journal());
    assert_eq!(client::get(&url("main")).body, b"new");
}

#[test]
fn head_never_starts_a_fill_and_its_answer_is_remembered() {
    let hub = ScriptedHub::start();
    let bytes = vec![7; 100_000];
    let commit = hub.hf("acme/tiny").commit([File::xet("model.bin", bytes.clone())]);
    let daemon = Daemon::start(&hub);
    let url = format!("{}/acme/tiny/resolve/main/model.bin", daemon.url());
    let head = client::head(&url);
    assert_eq!(head.status, 200);
    assert_eq!(head.header("etag"), Some(format!("\"{}\"", digests::sha256(&bytes)).as_str()));
    assert_eq!(head.header("content-length"), Some("100000"));
    assert_eq!(head.header("x-repo-commit"), Some(commit.as_str()));
    assert!(head.headers.iter().all(|(n, _)| !n.starts_with("x-xet")), "{:?}", head.headers);
    assert_eq!(hub.body_bytes("model.bin"), 0);
    hub.clear();
    let again = client::head(&url);
    assert_eq!(again.header("etag"), head.header("etag"));
    assert!(hub.requests().is_empty(), "{}", hub.journal());
    assert_eq!(daemon.command(&["ls", "--json"]).stdout.trim_ascii(), b"[]");
}

#[test]
fn head_of_what_is_held_answers_within_its_budget_and_tells_the_news_afterwards() {
    let hub = ScriptedHub::start();
    hub.moz("acme/m", "main", "a.json", "old");
    // A short budget, so that only the order of events decides and not how busy the machine is.
    let daemon =
        Daemon::builder().hub(&hub).set("cache.ref_ttl", "0s").set("cache.head_budget", "100ms").start();
    let url = format!("{}/acme/m/main/a.json", daemon.url());
    let held = client::get(&url);
    hub.moz("acme/m", "main", "a.json", "news");
    let etag = format!("\"{}\"", digests::md5_hex(b"news"));
    let gate = hub.gate_head("HEAD", "a.json");
    let late = client::head(&url);
    // Answered although the hub's answer is still held back.
    assert_eq!(late.header("etag"), held.header("etag"));
    assert!(status_of(&late).contains("stale"), "{}", status_of(&late));
    gate.reached();
    gate.release();
    // The question went on after the late answer; what it brought is told, though nothing new is held.
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let head = client::head(&url);
        if head.header("etag") == Some(etag.as_str()) {
            assert_eq!(head.header("content-length"), Some("4"));
            break;
        }
        assert!(Instant::now() < deadline, "{:?}", head.headers);
    }
    assert_eq!(client::get(&url).body, b"news");
}

#[test]
fn a_late_answer_is_told_by_the_next_head_without_asking_again() {
    let hub = ScriptedHub::start();
    hub.moz("acme/m", "main", "a.json", "old");
    let daemon =
        Daemon::builder().hub(&hub).set("cache.ref_ttl", "1s").set("cache.head_budget", "50ms").start();
    let url = format!("{}/acme/m/main/a.json", daemon.url());
    client::get(&url);
    hub.moz("acme/m", "main", "a.json", "news");
    let etag = format!("\"{}\"", digests::md5_hex(b"news"));
    let gate = hub.gate_head("HEAD", "a.json");
    let deadline = Instant::now() + Duration::from_secs(10);
    while gate.arrivals() == 0 {
        client::head(&url);
        assert!(Instant::now() < deadline, "never revalidated");
    }
    gate.release();
    while client::head(&url).header("etag") != Some(etag.as_str()) {
        assert!(Instant::now() < deadline, "the late answer was lost");
    }
}

#[test]
fn head_at_a_branch_says_where_the_file_is_at_the_commit() {
    let hub = ScriptedHub::start();
    let commit = hub.hf("acme/tiny").commit([File::small("odd names/a b.json", "{}")]);
    hub.moz("acme/m", "main", "a.json", "{}");
    let daemon = Daemon::start(&hub);
    for prefix in ["", "/hub/huggingface"] {
        for _cold_then_warm in 0..2 {
            let path = "odd%20names/a%20b.json";
            let reply = client::head(&format!("{}{prefix}/acme/tiny/resolve/main/{path}", daemon.url()));
            let expected = format!("{}{prefix}/acme/tiny/resolve/{commit}/{path}", daemon.url());
            assert_eq!((reply.status, reply.header("location")), (200, Some(expected.as_str())));
            assert_eq!(client::get(&expected).body, b"{}");
        }
    }
    let pinned = client::head(&format!("{}/acme/tiny/resolve/{commit}/odd%20names/a%20b.json", daemon.url()));
    assert_eq!((pinned.status, pinned.header("location")), (200, None));
    let mozilla = client::head(&format!("{}/acme/m/main/a.json", daemon.url()));
    assert_eq!((mozilla.status, mozilla.header("location")), (200, None));
}

#[test]
fn absence_is_the_hubs_own_answer() {
    let hub = ScriptedHub::start();
    let commit = hub.hf("acme/tiny").commit([File::small("a.json", "{}")]);
    let daemon = Daemon::start(&hub);
    let direct = client::get(&format!("{}/acme/tiny/resolve/{commit}/none.json", hub.url()));
    for revision in ["main", commit.as_str()] {
        for method in ["GET", "HEAD"] {
            let url = format!("{}/acme/tiny/resolve/{revision}/none.json", daemon.url());
            let reply = Request::new(method, &url).send();
            assert_eq!(reply.status, 404);
            for name in ["x-error-code", "x-repo-commit"] {
                assert_eq!(reply.header(name), direct.header(name), "{method} {name}");
            }
        }
    }
    hub.stop();
    let down = client::get(&format!("{}/acme/tiny/resolve/{commit}/other.json", daemon.url()));
    assert_eq!((down.status, down.header("x-error-code")), (504, None), "absence is never invented");
}
