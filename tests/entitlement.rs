//! Who may read a gated file that is held: whom the hub grants it, for as long as it does.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::support;
use support::client::{self, Reply, Request};
use support::daemon::{Builder, Daemon};
use support::hub::{Fault, File, ScriptedHub, What};

const READER: &str = "hf_reader_11aa";
const OTHER: &str = "hf_other_22bb";
const STRANGER: &str = "hf_stranger_33cc";
const EXPIRED: &str = "hf_expired_44dd";

const GATED: &str = "acme/gated";
const OPEN: &str = "acme/open";

struct Scene {
    hub: ScriptedHub,
    daemon: Daemon,
    model: Vec<u8>,
    commit: String,
}

impl Scene {
    fn start(set: impl FnOnce(Builder) -> Builder) -> Self {
        let hub = ScriptedHub::start();
        let mut model = vec![0; 1_500_000];
        fastrand::Rng::with_seed(9).fill(&mut model);
        let files = || [File::lfs("model.bin", model.clone()), File::small("config.json", "{}")];
        hub.hf(OPEN).commit(files());
        let commit = hub.hf(GATED).commit(files());
        hub.hf(GATED).gated(&[READER, OTHER]);
        hub.accept_token(STRANGER);
        let builder = Daemon::builder().hub(&hub).set("upstream.backoff", "5ms");
        let daemon = set(builder).start();
        Self { hub, daemon, model, commit }
    }

    fn url(&self, id: &str, revision: &str, path: &str) -> String {
        format!("{}/{id}/resolve/{revision}/{path}", self.daemon.url())
    }

    /// Has the gated file be held.
    fn fill(&self) {
        let url = self.url(GATED, "main", "model.bin");
        Request::get(&url).token(READER).send().assert_is(200, &self.model, "filled");
    }

    /// What a request leads to: the answer, and what the hub is asked.
    fn asked(&self, method: &str, url: &str, token: Option<&str>) -> (Reply, Vec<String>) {
        self.hub.clear();
        let reply = token.into_iter().fold(Request::new(method, url), Request::token).send();
        let seen = self.hub.requests().into_iter().map(|seen| {
            let credential = seen.header("authorization").unwrap_or("-").to_owned();
            let range = seen.range.as_deref().unwrap_or("-").to_owned();
            format!("{} {} {credential} {range}", seen.method, seen.target)
        });
        (reply, seen.collect())
    }

    /// Which file of the repository a line of [`Scene::asked`] is about, taken out of it.
    fn without(lines: Vec<String>, path: &str) -> Vec<String> {
        lines.into_iter().map(|line| line.replace(path, "FILE")).collect()
    }
}

/// Everything that a client sees but what names the file and the moment.
fn seen(reply: &Reply) -> Vec<(String, String)> {
    let mut fields: Vec<_> = reply
        .headers
        .iter()
        .map(|(name, value)| (name.to_ascii_lowercase(), value.clone()))
        .filter(|(name, _)| !matches!(name.as_str(), "date" | "x-request-id"))
        .collect();
    fields.push((":status".to_owned(), reply.status.to_string()));
    fields
        .push((":body".to_owned(), reply.text().replace("model.bin", "FILE").replace("missing.bin", "FILE")));
    fields
}

/// Asks until the answer is as awaited, for a while.
fn eventually(what: &str, ask: impl Fn() -> Reply, awaited: impl Fn(&Reply) -> bool) -> Reply {
    let began = Instant::now();
    loop {
        let reply = ask();
        if awaited(&reply) {
            return reply;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "{what}: {} {}", reply.status, reply.text());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn what_is_held_and_forbidden_is_told_and_asked_for_as_what_is_missing() {
    let scene = Scene::start(|builder| builder);
    scene.fill();
    // A fill that broke off has left a part as well.
    let cut = scene.hub.fault(Fault::on("config.json", What::CutAt(1)).always());
    Request::get(&scene.url(GATED, "main", "config.json")).token(READER).send();
    cut.disarm();
    let mut compared = 0;
    for revision in ["main", &scene.commit] {
        for method in ["GET", "HEAD"] {
            for token in [None, Some(STRANGER), Some(EXPIRED)] {
                let told = |path: &str| {
                    let (reply, lines) = scene.asked(method, &scene.url(GATED, revision, path), token);
                    (seen(&reply), Scene::without(lines, path))
                };
                let (missing, held, part) = (told("missing.bin"), told("model.bin"), told("config.json"));
                assert!(!missing.1.is_empty());
                for (told, lines) in [held, part] {
                    assert_eq!(told, missing.0, "{method} {revision} {token:?}");
                    assert_eq!(lines, missing.1, "{method} {revision} {token:?}");
                    assert!(told.iter().all(|(name, _)| name != "etag" && name != "x-linked-size"));
                }
                compared += 1;
            }
        }
    }
    assert_eq!(compared, 12);
}

#[test]
fn a_grant_is_remembered_for_a_while_and_ends_with_it() {
    let scene = Scene::start(|builder| builder);
    scene.fill();
    let url = scene.url(GATED, &scene.commit, "model.bin");
    let (reply, lines) = scene.asked("GET", &url, Some(READER));
    reply.assert_is(200, &scene.model, "held");
    let with_token = |lines: &[String]| lines.iter().filter(|line| line.contains(READER)).count();
    assert_eq!(with_token(&lines), 0, "granted a moment ago: {lines:?}");
    let (reply, lines) = scene.asked("GET", &url, Some(OTHER));
    reply.assert_is(200, &scene.model, "another");
    assert_eq!(lines.iter().filter(|line| line.contains(OTHER)).count(), 1, "{lines:?}");
    assert!(lines.iter().all(|line| !line.starts_with("GET") || line.contains(" - ")), "no byte: {lines:?}");

    scene.hub.hf(GATED).gated(&[OTHER]);
    let insisting = Request::get(&url).token(READER).header("Cache-Control", "no-cache").send();
    assert_eq!((insisting.status, insisting.header("x-error-code")), (403, Some("GatedRepo")));
    assert_eq!(Request::get(&url).token(READER).send().status, 403, "what was taken back stays so");
    Request::get(&url).token(OTHER).send().assert_is(200, &scene.model, "who still may");
}

#[test]
fn access_that_is_withdrawn_ends_at_once_where_nothing_is_remembered() {
    let scene = Scene::start(|builder| builder.set("entitlement.remembered", "0s"));
    scene.fill();
    let url = scene.url(GATED, "main", "model.bin");
    Request::get(&url).token(READER).send().assert_is(200, &scene.model, "before");
    scene.hub.hf(GATED).gated(&[OTHER]);
    let reply = Request::get(&url).token(READER).send();
    assert_eq!((reply.status, reply.header("x-error-code")), (403, Some("GatedRepo")));
    scene.hub.revoke_token(OTHER);
    assert_eq!(Request::get(&url).token(OTHER).send().status, 401);
}

#[test]
fn bytes_are_shared_between_repositories_and_rights_are_not() {
    let scene = Scene::start(|builder| builder);
    scene.fill();
    scene.hub.clear();
    let open = scene.url(OPEN, "main", "model.bin");
    client::get(&open).assert_is(200, &scene.model, "the public one");
    assert_eq!(scene.hub.body_bytes("model.bin"), 0, "its bytes were here: {}", scene.hub.journal());
    for revision in ["main", &scene.commit] {
        let reply = client::get(&scene.url(GATED, revision, "model.bin"));
        assert_eq!((reply.status, reply.header("etag")), (401, None));
    }
}

#[test]
fn what_becomes_gated_is_no_longer_given_to_everybody() {
    let scene = Scene::start(|builder| builder.set("entitlement.recheck", "0s").set("cache.ref_ttl", "1h"));
    let at_commit = {
        let url = scene.url(OPEN, "main", "model.bin");
        let reply = client::get(&url);
        reply.assert_is(200, &scene.model, "public");
        let commit = reply.header("x-repo-commit").unwrap().to_owned();
        scene.url(OPEN, &commit, "model.bin")
    };
    scene.hub.hf(OPEN).gated(&[READER]);
    // Served, and the hub is asked in the background.
    client::get(&at_commit).assert_is(200, &scene.model, "not known yet");
    let refused = eventually("taken back", || client::get(&at_commit), |reply| reply.status != 200);
    assert_eq!((refused.status, refused.header("etag")), (401, None));
    Request::get(&at_commit).token(READER).send().assert_is(200, &scene.model, "who may");
    assert_eq!(Request::get(&at_commit).token(STRANGER).send().status, 403);
    // What everybody may read again is served again, with the bytes that are held.
    scene.hub.hf(OPEN).public();
    let reply = client::get(&at_commit);
    reply.assert_is(200, &scene.model, "public again");
    assert_eq!(reply.header("cache-status"), Some("hubcache; fwd=uri-miss; stored; detail=linked"));
}

#[test]
fn what_becomes_gated_while_it_is_fetched_is_joined_by_nobody_and_kept_for_nobody_else() {
    let scene = Scene::start(|builder| builder.set("cache.ref_ttl", "0s"));
    let head = client::head(&scene.url(OPEN, "main", "model.bin"));
    let at_commit = scene.url(OPEN, head.header("x-repo-commit").unwrap(), "model.bin");
    let gate = scene.hub.gate(&format!("{OPEN}/model.bin"), 700_000);
    std::thread::scope(|scope| {
        let begun = scope.spawn(|| client::get(&at_commit));
        gate.reached();
        scene.hub.hf(OPEN).gated(&[READER]);
        assert_eq!(client::head(&scene.url(OPEN, "main", "model.bin")).status, 401);
        for reply in [client::get(&at_commit), client::head(&at_commit)] {
            assert_eq!((reply.status, reply.header("etag")), (401, None), "while it is fetched");
        }
        gate.release();
        begun.join().unwrap().assert_is(200, &scene.model, "who asked while everybody might");
    });
    scene.daemon.wait_for_log("file stored");
    let reply = client::get(&at_commit);
    assert_eq!((reply.status, reply.header("etag")), (401, None), "held");
    let reply = Request::get(&at_commit).token(READER).send();
    reply.assert_is(200, &scene.model, "who may");
    assert_eq!(reply.header("cache-status"), Some("hubcache; hit; detail=entitled"));
}

#[test]
fn what_is_public_stays_so_while_the_hub_is_down_or_a_file_is_gone() {
    let scene = Scene::start(|builder| builder.set("entitlement.recheck", "0s").set("cache.ref_ttl", "0s"));
    let url = scene.url(OPEN, "main", "model.bin");
    client::get(&url).assert_is(200, &scene.model, "public");
    scene.hub.hf(OPEN).commit([File::small("config.json", "{\"a\": 1}")]);
    assert_eq!(client::get(&url).status, 404, "gone at the branch");
    assert_eq!(client::get(&url).header("x-error-code"), Some("EntryNotFound"));
    let is_public = || {
        let show = scene.daemon.command(&["show", "acme/open", "--json"]);
        let shown = String::from_utf8_lossy(&show.stdout).into_owned();
        shown.contains("\"access\":\"public\"") && !shown.contains("\"access\":\"restricted\"")
    };
    assert!(is_public());
    scene.hub.stop();
    client::get(&scene.url(OPEN, "main", "config.json"));
    assert!(is_public());
}

#[test]
fn without_the_hub_the_last_grant_counts_where_the_operator_says_so() {
    let mut scene = Scene::start(|builder| builder.set("entitlement.offline", "last-known"));
    scene.fill();
    let (main, at_commit) =
        (scene.url(GATED, "main", "model.bin"), scene.url(GATED, &scene.commit, "model.bin"));
    scene.hub.stop();
    for url in [&main, &at_commit] {
        let reply = Request::get(url).token(READER).send();
        reply.assert_is(200, &scene.model, url);
        assert_eq!(reply.header("cache-status"), Some("hubcache; hit; detail=stale"));
        for token in [Some(STRANGER), Some(OTHER), None] {
            let reply = token.into_iter().fold(Request::get(url), Request::token).send();
            assert_eq!((reply.status, reply.header("etag")), (504, None), "{token:?}");
        }
    }
    // A new process without a network knows it too, as does one that denies.
    scene.daemon.restart_with(&[("upstream.offline", "true")]);
    let main = scene.url(GATED, "main", "model.bin");
    Request::get(&main).token(READER).send().assert_is(200, &scene.model, "offline");
    for token in [Some(OTHER), None] {
        let reply = token.into_iter().fold(Request::get(&main), Request::token).send();
        assert_eq!((reply.status, reply.header("etag")), (403, None), "{token:?}");
    }
    scene.daemon.restart_with(&[("upstream.offline", "true"), ("entitlement.offline", "deny")]);
    let main = scene.url(GATED, "main", "model.bin");
    let denied = Request::get(&main).token(READER).send();
    let missing = Request::get(&scene.url(GATED, "main", "missing.bin")).token(READER).send();
    assert_eq!((denied.status, missing.status), (403, 403));
    assert_eq!(denied.text(), missing.text().replace("missing.bin", "model.bin"));
    assert!(scene.daemon.terminate().success());
    assert_nowhere(READER, scene.daemon.data());
}

/// Asserts that no file below `dir` contains `text`.
fn assert_nowhere(text: &str, dir: &Path) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            assert_nowhere(text, &path);
        } else if path.is_file() {
            let bytes = std::fs::read(&path).unwrap();
            assert!(!bytes.windows(text.len()).any(|w| w == text.as_bytes()), "in {}", path.display());
        }
    }
}

#[test]
fn a_hub_that_is_out_of_order_or_silent_denies_by_default() {
    let scene = Scene::start(|builder| {
        let quick = builder.set("entitlement.remembered", "0s").set("entitlement.wait", "500ms");
        quick.set("upstream.head_timeout", "1s").set("upstream.probe_interval", "50ms")
    });
    scene.fill();
    let url = scene.url(GATED, "main", "model.bin");
    let status = |status| What::Status { status, headers: Vec::new(), body: "busy".into() };
    for what in [status(503), status(429), What::DelayHead(Duration::from_secs(30))] {
        let fault = scene.hub.fault(Fault::on("model.bin", what).always());
        let reply = Request::get(&url).token(READER).send();
        assert!(matches!(reply.status, 429 | 503 | 504), "{}", reply.status);
        assert_eq!(reply.header("etag"), None);
        fault.disarm();
        scene.hub.behave();
        eventually("the hub answers again", || Request::get(&url).token(READER).send(), |r| r.status == 200);
    }
}

#[test]
fn what_the_operator_shares_is_fetched_with_its_own_token_and_given_to_all() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("token");
    std::fs::write(&file, format!("{READER}\n")).unwrap();
    let scene = Scene::start(|builder| {
        builder
            .set("hub.huggingface.token_file", file.to_str().unwrap())
            .set("entitlement.share", "acme/gat*")
    });
    let url = scene.url(GATED, "main", "model.bin");
    for token in [None, Some(STRANGER), Some(EXPIRED)] {
        let reply = token.into_iter().fold(Request::get(&url), Request::token).send();
        reply.assert_is(200, &scene.model, "shared");
    }
    assert_eq!(scene.hub.body_bytes("model.bin"), scene.model.len() as u64);
    let asked = scene.hub.requests();
    assert!(asked.iter().all(|seen| seen.target.contains("cdn") || !seen.target.contains(OPEN)));
    // Nothing else is asked for with it.
    scene.hub.clear();
    client::get(&scene.url(OPEN, "main", "model.bin")).assert_is(200, &scene.model, "open");
    assert!(scene.hub.requests().iter().all(|seen| seen.header("authorization").is_none()));
    // What the API says of a shared repository is for everybody too, also where the repository is hidden.
    scene.hub.hf(GATED).private(&[READER]);
    let info = format!("{}/api/models/{GATED}", scene.daemon.url());
    for (token, how) in [(None, "fwd=uri-miss; stored"), (Some(STRANGER), "hit")] {
        let reply = token.into_iter().fold(Request::get(&info), Request::token).send();
        assert_eq!((reply.status, reply.header("cache-status")), (200, Some(&*format!("hubcache; {how}"))));
    }
    // What the operator has shared stays so when the hub takes it back.
    scene.hub.hf(GATED).private(&[OTHER]);
    let commit = scene.url(GATED, &scene.commit, "model.bin");
    client::get(&commit).assert_is(200, &scene.model, "still shared");
}

/// What each version of huggingface_hub makes of it.
#[cfg(feature = "real-clients")]
mod clients {
    use std::fs;

    use super::{GATED, OTHER, READER, STRANGER, Scene};
    use crate::drivers::HuggingFaceHub;

    #[test]
    fn two_users_share_a_gated_model_and_others_are_told_what_the_hub_tells_them() {
        for client in HuggingFaceHub::ALL {
            let scene = Scene::start(|builder| builder);
            let endpoint = scene.daemon.url();
            let paths = ["config.json", "model.bin"];
            let fetch = |token: Option<&str>, paths: &[&str]| {
                let home = tempfile::tempdir().unwrap();
                let environment: Vec<_> = token.map(|token| ("HF_TOKEN", token)).into_iter().collect();
                let fetched = client.fetch_with(&environment, &endpoint, home.path(), GATED, paths);
                fetched.map(|files| files.iter().map(|file| fs::read(file).unwrap()).collect::<Vec<_>>())
            };
            let whole = vec![b"{}".to_vec(), scene.model.clone()];
            assert_eq!(fetch(Some(READER), &paths).expect("user 1"), whole, "{client:?}");
            scene.hub.clear();
            assert_eq!(fetch(Some(OTHER), &paths).expect("user 2"), whole, "{client:?}");
            assert_eq!(scene.hub.body_bytes("model.bin"), 0, "{client:?}: {}", scene.hub.journal());
            for token in [None, Some(STRANGER)] {
                for path in ["model.bin", "missing.bin"] {
                    let refused = fetch(token, &[path]).expect_err("the hub would not give it");
                    assert!(refused.stderr.contains("GatedRepoError"), "{client:?} {}", refused.stderr);
                }
            }
            let absent = fetch(Some(READER), &["missing.bin"]).expect_err("there is none");
            assert!(absent.stderr.contains("EntryNotFoundError"), "{client:?} {}", absent.stderr);
        }
    }
}
