//! What was fetched from one hub is not served as another's, unless the operator says that they are the same.

use crate::support;
use support::client;
use support::daemon::Daemon;
use support::hub::{File, ScriptedHub, digests};
use support::noise;

/// The settings that point both layouts at `hub`, and take `equivalent` for the same.
fn pointed(hub: &ScriptedHub, equivalent: &str) -> Vec<(String, String)> {
    let of = |name: &str| {
        [(format!("hub.{name}.url"), hub.url()), (format!("hub.{name}.equivalent"), equivalent)]
            .map(|(key, value)| (key, value.to_owned()))
    };
    of("huggingface").into_iter().chain(of("mozilla")).collect()
}

fn restart(daemon: &mut Daemon, hub: &ScriptedHub, equivalent: &str) {
    let settings = pointed(hub, equivalent);
    let settings: Vec<(&str, &str)> = settings.iter().map(|(k, v)| (&**k, &**v)).collect();
    daemon.restart_with(&settings);
}

fn start(hub: &ScriptedHub) -> Daemon {
    // What is not there is asked for each time, so that each answer tells which hub gave it.
    let builder = Daemon::builder().set("cache.negative_ttl", "0s");
    pointed(hub, "").iter().fold(builder, |b, (key, value)| b.set(key, value)).start()
}

/// The files that `hubcache ls` lists.
fn listed(daemon: &Daemon) -> Vec<serde_json::Value> {
    let ls = daemon.command(&["ls", "--json"]);
    assert!(ls.status.success(), "{}", String::from_utf8_lossy(&ls.stderr));
    serde_json::from_slice(&ls.stdout).unwrap()
}

/// Two hubs with the same names and other bytes, and the commit that only the first has.
fn two_hubs() -> (ScriptedHub, ScriptedHub, String) {
    let (one, two) = (ScriptedHub::start(), ScriptedHub::start());
    let commit = one.hf("acme/tiny").commit([File::lfs("a.bin", "hugging face one")]);
    two.hf("acme/tiny").commit([File::lfs("a.bin", "hugging face two")]);
    one.moz("acme/tiny", "v1.0", "a.bin", "mozilla one");
    two.moz("acme/tiny", "v1.0", "a.bin", "mozilla two");
    (one, two, commit)
}

#[test]
fn what_one_hub_gave_is_not_served_as_anothers() {
    let (one, two, commit) = two_hubs();
    let mut daemon = start(&one);
    let url = daemon.url();
    let (main, pinned) =
        (format!("{url}/acme/tiny/resolve/main/a.bin"), format!("{url}/acme/tiny/resolve/{commit}/a.bin"));
    let version = format!("{url}/acme/tiny/v1.0/a.bin");
    client::get(&main).assert_is(200, b"hugging face one", "main");
    client::get(&version).assert_is(200, b"mozilla one", "version");

    restart(&mut daemon, &two, "");
    let missing = client::get(&pinned);
    assert_eq!((missing.status, missing.header("x-error-code")), (404, Some("RevisionNotFound")));
    client::get(&main).assert_is(200, b"hugging face two", "main");
    client::get(&version).assert_is(200, b"mozilla two", "version");
    assert_eq!(listed(&daemon).len(), 4, "both are held");

    // With neither hub there each root has its own.
    one.stop();
    two.stop();
    assert_eq!(client::get(&pinned).status, 504);
    for (hub, name) in [(&one, "one"), (&two, "two")] {
        restart(&mut daemon, hub, "");
        client::get(&main).assert_is(200, format!("hugging face {name}").as_bytes(), name);
        client::get(&version).assert_is(200, format!("mozilla {name}").as_bytes(), name);
    }
}

#[test]
fn a_root_declared_equivalent_is_served_as_this_one() {
    let (one, two, commit) = two_hubs();
    let mut daemon = start(&one);
    let url = daemon.url();
    let (pinned, version) =
        (format!("{url}/acme/tiny/resolve/{commit}/a.bin"), format!("{url}/acme/tiny/v1.0/a.bin"));
    client::get(&pinned).assert_is(200, b"hugging face one", "cold");
    client::get(&version).assert_is(200, b"mozilla one", "cold");

    two.stop();
    restart(&mut daemon, &two, &format!("https://mirror.example, {}", one.url()));
    one.clear();
    for (url, bytes) in [(&pinned, &b"hugging face one"[..]), (&version, b"mozilla one")] {
        let reply = client::get(url);
        reply.assert_is(200, bytes, url);
        assert_eq!(reply.header("cache-status"), Some("hubcache; hit"));
    }
    assert!(one.requests().is_empty(), "an equivalent root is no second upstream\n{}", one.journal());
    assert_eq!(listed(&daemon).len(), 2);

    restart(&mut daemon, &two, "https://mirror.example");
    assert_eq!(client::get(&pinned).status, 504, "no longer declared");
}

#[test]
fn bytes_that_both_hubs_promise_are_fetched_once() {
    let (one, two) = (ScriptedHub::start(), ScriptedHub::start());
    let bytes = noise(1, 300_000);
    for hub in [&one, &two] {
        hub.hf("acme/tiny").commit([File::lfs("a.bin", bytes.clone())]);
    }
    let mut daemon = start(&one);
    let url = format!("{}/acme/tiny/resolve/main/a.bin", daemon.url());
    client::get(&url).assert_is(200, &bytes, "from the first");
    restart(&mut daemon, &two, "");
    client::get(&url).assert_is(200, &bytes, "as the second promises");
    assert_eq!(two.body_bytes("a.bin"), 0, "{}", two.journal());
    assert!(two.count("", "a.bin") >= 1, "the second hub was asked what the file is");
}

#[test]
fn other_bytes_for_an_immutable_revision_are_refused_and_both_digests_named() {
    let (one, two) = (ScriptedHub::start(), ScriptedHub::start());
    let (held, other) = (noise(2, 2_500_000), noise(3, 2_500_000));
    one.moz("acme/tiny", "v1.0", "a.bin", held.clone());
    two.moz("acme/tiny", "v1.0", "a.bin", other.clone());

    // The second hub's file is begun, and cut by a crash.
    let settings = pointed(&two, "");
    let builder = settings.iter().fold(Daemon::builder(), |b, (key, value)| b.set(key, value));
    let mut daemon = builder.set("cache.delivery_mozilla", "stream").start();
    let url = format!("{}/acme/tiny/v1.0/a.bin", daemon.url());
    let gate = two.gate("a.bin", 2_000_000);
    let mut cut = client::Request::get(&url).open().unwrap();
    assert_eq!(cut.read_to(1_500_000), &other[..1_500_000]);
    daemon.kill9();
    drop(gate);

    // Meanwhile the same name is fetched whole from the first.
    restart(&mut daemon, &one, "");
    client::get(&url).assert_is(200, &held, "from the first");

    // Now they are declared equal, and the fill that was cut goes on.
    restart(&mut daemon, &two, one.url());
    let refused = daemon.wait_for_log("this immutable revision is held as");
    for bytes in [&held, &other] {
        assert!(refused.contains(&digests::sha256(bytes)), "{refused}");
    }
    let reply = client::get(&url);
    reply.assert_is(200, &held, "what is held stays");
    assert_eq!(reply.header("cache-status"), Some("hubcache; hit"));
    let listed = listed(&daemon);
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0]["sha256"], digests::sha256(&held));
    let text = daemon.command(&["ls"]);
    assert!(!String::from_utf8_lossy(&text.stdout).contains("unfinished"), "the refused bytes are gone");
    // And it is not tried again and again.
    restart(&mut daemon, &two, one.url());
    two.clear();
    client::get(&url).assert_is(200, &held, "after another start");
    assert!(two.requests().is_empty(), "{}", two.journal());
}
