//! What needs a credential is given to those alone whom the hub grants it; what does not is shared.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::support;
use support::client::{self, Reply, Request};
use support::daemon::Daemon;
use support::hub::{Fault, File, Listener, ScriptedHub, Seen, What, digests};

const READER: &str = "hf_reader_4c1f0e";
const OTHER_READER: &str = "hf_other_9d2b7a";
const STRANGER: &str = "hf_stranger_77e0aa";

/// Names of repositories, files and revisions that stand nowhere else, so that a search for them means something.
const GATED: &str = "acme/guarded-model";
const PRIVATE: &str = "acme/hidden-model";

fn noise(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    fastrand::Rng::with_seed(5).fill(&mut bytes);
    bytes
}

struct Scene {
    hub: ScriptedHub,
    daemon: Daemon,
    model: Vec<u8>,
    config: Vec<u8>,
    commits: Vec<String>,
}

impl Scene {
    /// A public, a gated and a private repository with the same two files.
    fn start() -> Self {
        let hub = ScriptedHub::start();
        let (model, config) = (noise(2_500_000), b"{\"hidden\": true}".to_vec());
        let mut commits = Vec::new();
        for id in ["acme/open", GATED, PRIVATE] {
            let files = [File::lfs("model.bin", model.clone()), File::small("config.json", config.clone())];
            commits.push(hub.hf(id).commit(files));
        }
        hub.hf(GATED).gated(&[READER, OTHER_READER]);
        hub.hf(PRIVATE).private(&[READER, OTHER_READER]);
        hub.accept_token(STRANGER);
        let daemon = Daemon::builder()
            .hub(&hub)
            .set("log.level", "trace")
            .set("cache.ref_ttl", "1h")
            .set("upstream.backoff", "5ms")
            .start();
        Self { hub, daemon, model, config, commits }
    }

    /// The restricted files under a branch and under a commit, each with its bytes.
    fn restricted(&self) -> Vec<(String, &[u8])> {
        let mut all = Vec::new();
        for (id, commit) in [GATED, PRIVATE].into_iter().zip(&self.commits[1..]) {
            for revision in ["main", commit] {
                all.push((self.url(id, revision, "model.bin"), &*self.model));
                all.push((self.url(id, revision, "config.json"), &*self.config));
            }
        }
        all
    }

    fn url(&self, id: &str, revision: &str, path: &str) -> String {
        format!("{}/{id}/resolve/{revision}/{path}", self.daemon.url())
    }

    /// Asserts that every caller without access gets the hub's own words, by GET and by HEAD.
    fn assert_refused(&self) {
        for (url, _) in self.restricted() {
            for method in ["GET", "HEAD"] {
                let at_hub = url.replace(&self.daemon.url(), self.hub.url());
                let ask = |url: &str, token: Option<&str>| {
                    token.into_iter().fold(Request::new(method, url), Request::token).send()
                };
                for token in [None, Some(STRANGER), Some("hf_invalid")] {
                    let (here, there) = (ask(&url, token), ask(&at_hub, token));
                    assert!((401..=404).contains(&there.status), "{}", there.text());
                    assert_eq!(words(&here), words(&there), "{method} {url} as {token:?}");
                }
            }
        }
    }

    /// Asserts that without the hub nobody is told anything, holder of a credential or not.
    fn assert_denied_without_hub(&self) {
        self.hub.stop();
        for (url, _) in self.restricted() {
            for method in ["GET", "HEAD"] {
                for token in [None, Some(READER), Some(STRANGER)] {
                    let request = Request::new(method, &url);
                    let reply = token.into_iter().fold(request, Request::token).send();
                    assert_eq!(reply.status, 504, "{method} {url} as {token:?}");
                    assert_eq!((reply.header("etag"), reply.header("x-repo-commit")), (None, None));
                }
            }
        }
        self.hub.restart();
    }
}

/// Status and the fields by which clients tell refusals apart.
fn words(reply: &Reply) -> (u16, Option<&str>, Option<&str>, Option<&str>) {
    let field = |name| reply.header(name);
    (reply.status, field("x-error-code"), field("x-error-message"), field("x-repo-commit"))
}

/// Asserts that no file below `dir` contains `text`.
fn assert_nowhere(text: &str, dir: &Path) {
    let mut searched = 0;
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            assert_nowhere(text, &path);
        } else if path.is_file() {
            let bytes = fs::read(&path).unwrap();
            let found = bytes.windows(text.len()).any(|w| w == text.as_bytes());
            assert!(!found, "{text:?} stands in {}", path.display());
            searched += 1;
        }
    }
    assert!(searched > 0 || dir.ends_with("volumes"), "{} has no file", dir.display());
}

#[test]
fn a_public_file_fetched_with_a_credential_is_shared() {
    let scene = Scene::start();
    for path in ["model.bin", "config.json"] {
        let url = scene.url("acme/open", "main", path);
        let bytes = if path == "model.bin" { &scene.model } else { &scene.config };
        Request::get(&url).token(READER).send().assert_is(200, bytes, path);
        scene.hub.clear();
        for request in [Request::get(&url), Request::get(&url).token(STRANGER)] {
            let reply = request.send();
            reply.assert_is(200, bytes, path);
            assert_eq!(reply.header("cache-status"), Some("hubcache; hit"));
        }
        assert_eq!(Request::new("HEAD", &url).send().status, 200);
        assert!(scene.hub.requests().is_empty(), "{}", scene.hub.journal());
    }
}

#[test]
fn a_public_file_is_asked_for_without_the_callers_credential() {
    let scene = Scene::start();
    let url = scene.url("acme/open", "main", "model.bin");
    Request::get(&url).token(READER).send().assert_is(200, &scene.model, "open");
    Request::new("HEAD", &scene.url("acme/open", "main", "config.json")).token(READER).send();
    assert!(!scene.hub.requests().is_empty());
    let told = scene.hub.requests().into_iter().filter(|s| s.header("authorization").is_some()).count();
    assert_eq!(told, 0, "{}", scene.hub.journal());
}

#[test]
fn a_restricted_file_is_kept_once_for_those_whom_the_hub_grants_it() {
    let scene = Scene::start();
    scene.assert_refused();
    for (url, bytes) in scene.restricted() {
        for (at, token) in [READER, OTHER_READER, READER].into_iter().enumerate() {
            let reply = Request::get(&url).token(token).send();
            reply.assert_is(200, bytes, &url);
            let digest = if bytes == scene.model { digests::sha256(bytes) } else { digests::git_sha1(bytes) };
            assert_eq!(reply.header("etag"), Some(&*format!("\"{digest}\"")), "{url}");
            assert!(reply.header("x-repo-commit").is_some_and(|c| scene.commits.iter().any(|k| k == c)));
            assert_eq!(reply.header("content-length"), Some(&*bytes.len().to_string()));
            let is_first = at == 0 && url.contains("/main/");
            let how = if is_first { "fwd=uri-miss; detail=granted" } else { "hit; detail=entitled" };
            assert_eq!(reply.header("cache-status"), Some(&*format!("hubcache; {how}")), "{url} {at}");
            assert_eq!((reply.header("set-cookie"), reply.header("location")), (None, None));
        }
    }
    assert_eq!(
        scene.hub.body_bytes("model.bin"),
        scene.model.len() as u64,
        "both repositories have the same bytes"
    );
    scene.assert_refused();
    scene.assert_denied_without_hub();
}

#[test]
fn head_of_a_restricted_file_is_answered_to_its_holder_alone() {
    let scene = Scene::start();
    scene.assert_refused();
    for (url, bytes) in scene.restricted() {
        let reply = Request::new("HEAD", &url).token(READER).send();
        assert_eq!(reply.status, 200, "{url}");
        assert_eq!(reply.header("content-length"), Some(&*bytes.len().to_string()), "{url}");
        assert!(reply.header("etag").is_some() && reply.header("x-repo-commit").is_some());
        let at_commit = reply.header("location").is_some_and(|l| l.starts_with(&scene.daemon.url()));
        assert_eq!(at_commit, url.contains("/main/"), "{url}");
    }
    assert_eq!(scene.hub.body_bytes("model.bin"), 0, "{}", scene.hub.journal());
    scene.assert_refused();
    scene.assert_denied_without_hub();
}

#[test]
fn parts_of_a_restricted_file_are_right() {
    let scene = Scene::start();
    for (url, bytes) in scene.restricted() {
        let size = bytes.len();
        for (range, from, to) in [
            ("0-0".to_owned(), 0, 1),
            ("5-9".to_owned(), 5, 10),
            ("0-".to_owned(), 0, size),
            (format!("{}-", size - 7), size - 7, size),
            (format!("3-{}", size + 1000), 3, size),
            ("-4".to_owned(), size - 4, size),
        ] {
            let reply = Request::get(&url).token(READER).range(&range).send();
            reply.assert_is(206, &bytes[from..to], &format!("{range} of {url}"));
            let place = format!("bytes {from}-{}/{size}", to - 1);
            assert_eq!(reply.header("content-range"), Some(&*place), "{range} of {url}");
        }
        let beyond = Request::get(&url).token(READER).range(&format!("{size}-")).send();
        assert_eq!(beyond.status, 416, "{url}: {}", beyond.text());
        assert_eq!(beyond.header("content-range"), Some(&*format!("bytes */{size}")));
        let other = Request::get(&url).token(READER).range("5-9").header("If-Range", "\"other\"").send();
        other.assert_is(200, bytes, "If-Range with another tag");
        let tag = Request::new("HEAD", &url).token(READER).send().header("etag").unwrap().to_owned();
        let same = Request::get(&url).token(READER).range("5-9").header("If-Range", &tag).send();
        same.assert_is(206, &bytes[5..10], "If-Range with the tag");
        let known = Request::get(&url).token(READER).header("If-None-Match", &tag).send();
        assert_eq!((known.status, known.body.len()), (304, 0));
    }
    scene.assert_refused();
}

#[test]
fn two_holders_at_once_share_a_download_once_the_hub_has_granted_it_to_each() {
    let scene = Scene::start();
    let url = scene.url(GATED, "main", "model.bin");
    let gate = scene.hub.gate(&format!("{GATED}/model.bin"), 1_000_000);
    thread::scope(|scope| {
        let ask = |token| {
            let url = &url;
            scope.spawn(move || Request::get(url).token(token).send())
        };
        let replies = [ask(READER), ask(OTHER_READER), ask(READER)];
        gate.reached();
        // While it runs, nobody else is told of it.
        assert_eq!(Request::get(&url).token(STRANGER).send().status, 403);
        assert_eq!(client::get(&url).status, 401);
        scene.hub.wait_for(Duration::from_secs(20), "the grants of both", |seen| {
            let granted = |token| {
                let bearer = format!("Bearer {token}");
                let is_its =
                    move |s: &&Seen| s.method == "HEAD" && s.header("authorization") == Some(&*bearer);
                seen.iter().find(is_its).is_some_and(|s| s.status.is_some())
            };
            granted(READER) && granted(OTHER_READER)
        });
        gate.release();
        for reply in replies {
            reply.join().unwrap().assert_is(200, &scene.model, "each");
        }
    });
    assert_eq!(scene.hub.body_bytes("model.bin"), scene.model.len() as u64, "{}", scene.hub.journal());
}

#[test]
fn a_repository_that_becomes_public_is_kept_from_then_on() {
    let scene = Scene::start();
    let url = scene.url(GATED, "main", "model.bin");
    Request::get(&url).token(READER).send().assert_is(200, &scene.model, "gated");
    scene.hub.hf(GATED).public();
    client::get(&url).assert_is(200, &scene.model, "public");
    scene.hub.clear();
    client::get(&url).assert_is(200, &scene.model, "held");
    assert!(scene.hub.requests().is_empty(), "{}", scene.hub.journal());
}

#[test]
fn a_credential_never_reaches_the_content_network() {
    let scene = Scene::start();
    for (url, bytes) in scene.restricted() {
        Request::get(&url).token(READER).send().assert_is(200, bytes, &url);
        Request::get(&url).token(READER).range("1-").send().assert_is(206, &bytes[1..], &url);
        Request::new("HEAD", &url).token(READER).send();
    }
    let seen = scene.hub.requests();
    let at_cdn: Vec<_> = seen.iter().filter(|s| s.listener == Listener::Cdn).collect();
    assert!(!at_cdn.is_empty(), "{}", scene.hub.journal());
    for request in at_cdn {
        assert_eq!(request.header("authorization"), None, "{}", request.target);
        assert_eq!(request.header("cookie"), None);
    }
}

#[test]
fn a_credential_stands_in_no_log_line_and_in_no_file() {
    let mut scene = Scene::start();
    for (url, _) in scene.restricted() {
        Request::get(&url).token(READER).send();
        Request::get(&url).token(READER).range("1-").send();
        Request::new("HEAD", &url).token(READER).send();
        Request::get(&url).token(STRANGER).send();
    }
    Request::get(&scene.url("acme/open", "main", "model.bin")).token(READER).send();
    let api = format!("{}/api/whoami-v2", scene.daemon.url());
    assert_eq!(Request::get(&api).token(READER).send().status, 200);
    Request::new("POST", &format!("{api}?x=1")).token(STRANGER).body(b"x").send();
    Request::get(&api).header("Authorization", "Basic aGZfYmFzaWM6c2VjcmV0").send();
    // A password in a URL is refused, and said to nobody.
    for target in
        ["http://u:hf_in_a_url@huggingface.co/acme/open/resolve/main/x", "/acme/open/resolve/main/x"]
    {
        let host = if target.starts_with('/') { "u:hf_in_a_url@huggingface.co" } else { "huggingface.co" };
        Request::get(&api).target(target).header("Host", host).send();
    }
    // A download that breaks off is worth many lines.
    scene.hub.fault(Fault::on("model.bin", What::CutAt(1_200_000)));
    scene.hub.fault(Fault::on("model.bin", What::WrongByteAt(1_500_000)).after(1));
    Request::get(&scene.url(GATED, "main", "model.bin")).token(READER).send();
    assert!(scene.daemon.terminate().success());
    let log = scene.daemon.log();
    assert!(log.contains("TRACE") || log.contains("DEBUG"), "{log}");
    assert!(log.contains("/api/whoami-v2"), "requests are logged");
    for secret in [READER, STRANGER, "aGZfYmFzaWM6c2VjcmV0", "hf_in_a_url"] {
        let line = log.lines().find(|l| l.contains(secret));
        assert_eq!(line, None, "{secret} is logged");
        assert_nowhere(secret, scene.daemon.data());
    }
}

#[test]
fn a_holder_who_was_sent_wrong_bytes_cannot_join_them_to_right_ones() {
    for at_commit in [false, true] {
        let scene = Scene::start();
        let revision = if at_commit { &scene.commits[1] } else { "main" };
        let url = scene.url(GATED, revision, "model.bin");
        let wrong = scene.hub.fault(Fault::on(GATED, What::WrongByteAt(1_000_000)).always());
        let broken = Request::get(&url).token(READER).send();
        assert!(!broken.is_whole() && broken.body.len() > 1_000_000, "{}", broken.body.len());
        scene.daemon.wait_for_log("file not stored");
        wrong.disarm();
        let from = broken.body.len();
        let resumed = Request::get(&url).token(READER).range(&format!("{from}-")).send();
        resumed.assert_is(200, &scene.model, "from the beginning");
        let part = Request::get(&url).token(READER).range(&format!("{from}-{}", from + 10)).send();
        assert_eq!(part.status, 503, "{}", part.header("cache-status").unwrap_or_default());
        assert!(part.header("retry-after").is_some());
        let first = Request::get(&url).token(READER).range("0-9").send();
        first.assert_is(206, &scene.model[..10], "from the first byte");
    }
}
