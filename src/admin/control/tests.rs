use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::*;
use crate::cache::{self, Cache};
use crate::model::{
    Entry, EntryKey, Expectation, Hub, HubRoot, Openness, Repo, RepoKind, Representation, Roots, Sha256,
    Standing, Timestamp,
};
use crate::policy::Rules;
use crate::store::{self, Store};

/// A store in `dir`, with small caches.
pub fn open_store(dir: &Path, now: Timestamp) -> Store {
    let settings = store::Settings {
        dir: dir.to_owned(),
        volume_max_bytes: 1 << 30,
        max_bytes: None,
        rewrite_rate: 32 << 20,
        cache_bytes: 8 << 20,
        small_cache_bytes: 1 << 20,
        partial_expiry: Duration::from_secs(3600),
        min_free_bytes: 0,
    };
    Store::open(settings, now).unwrap()
}

/// A data directory whose owner answers commands.
struct Owner {
    dir: PathBuf,
    store: Store,
    task: tokio::task::JoinHandle<()>,
    _root: tempfile::TempDir,
}

fn own(below: &str) -> Owner {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join(below);
    fs::create_dir_all(&dir).unwrap();
    let store = open_store(&dir, Timestamp::now());
    let bound = bind(&dir, &[root.path().to_owned()]).unwrap();
    let task = tokio::spawn(serve(bound, context(&store), None));
    Owner { dir, store, task, _root: root }
}

fn context(store: &Store) -> Context {
    let cache = Cache::new(&cache::Settings::default(), Roots::default(), store.clone());
    Context {
        cache,
        rules: Rules::default(),
        offline: false,
        fetcher: None,
        mirror: None,
        sessions: None,
        server: None,
    }
}

impl Owner {
    async fn stop(self) {
        self.task.abort();
        let _ = self.task.await;
        self.store.close().await;
        assert!(!self.dir.join("control").exists(), "no trace is left");
        assert!(connect(&self.dir).await.unwrap().is_none());
    }
}

async fn answer(dir: &Path, command: &Command) -> Vec<Reply> {
    let mut connection = connect(dir).await.unwrap().expect("the owner answers");
    connection.send(command).await.unwrap();
    let mut replies = Vec::new();
    loop {
        let reply = connection.next().await;
        let is_last = matches!(reply, Reply::Done { .. } | Reply::Failed(_));
        replies.push(reply);
        if is_last {
            return replies;
        }
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn the_log_has_no_secret_of_an_explained_request() {
    for url in ["http://user:s3cret@127.0.0.1:1/a@b/c?sig=s3cret", "/a?sig=s3cret", "http://s3cret@host"] {
        let headers = vec![("authorization".into(), "s3cret".into())];
        let request = Request { method: "GET".into(), url: url.into(), headers };
        let text = serde_json::to_string(&Command::Explain { request }.for_log()).unwrap();
        assert!(!text.contains("s3cret") && text.contains("authorization"), "{text}");
    }
    let kept = Request { method: "GET".into(), url: "http://h/a@b/c".into(), headers: vec![] };
    let kept = Command::Explain { request: kept };
    assert_eq!(kept.for_log(), kept);
}

#[tokio::test]
async fn a_command_without_a_server_is_told_apart_from_one_without_an_answer() {
    let owner = own("data");
    let replies = answer(&owner.dir, &Command::Status).await;
    assert!(matches!(&replies[..], [Reply::Failed(Failure { exit: 69, .. })]), "{replies:?}");
    let explain = |url: &str, method: &str| {
        let (method, url) = (method.to_owned(), url.to_owned());
        Command::Explain { request: Request { method, url, headers: vec![] } }
    };
    let replies = answer(&owner.dir, &explain("/acme/tiny/resolve/main/a", "GET")).await;
    assert!(matches!(&replies[..], [Reply::Explained { .. }, Reply::Done { .. }]), "{replies:?}");
    for command in
        [explain("nonsense", "GET"), explain("/a", "no method"), explain("https://x.example/", "GET")]
    {
        let replies = answer(&owner.dir, &command).await;
        assert!(matches!(&replies[..], [Reply::Failed(Failure { exit: 64, .. })]), "{replies:?}");
    }
    owner.stop().await;
}

#[tokio::test]
async fn commands_reach_the_owner_over_its_socket() {
    let owner = own("data");
    assert_eq!(fs::read_to_string(owner.dir.join("control")).unwrap(), "control.sock\n");
    assert_eq!(mode(&owner.dir.join("control.sock")), 0o600);
    let nothing = Reply::Done { done: Summary::default() };
    for command in [
        Command::Ls { selector: Selector::default() },
        Command::Show { selector: Selector { hub: Some(Hub::Mozilla), ..Selector::default() } },
        Command::Rm { selector: Selector::default(), dry_run: true },
        Command::Rm { selector: Selector { path: Some("x".into()), ..Selector::default() }, dry_run: false },
        Command::Verify { selector: Selector::default() },
    ] {
        assert_eq!(answer(&owner.dir, &command).await, std::slice::from_ref(&nothing), "{command:?}");
    }
    owner.stop().await;
}

#[tokio::test]
async fn a_path_too_long_for_a_socket_is_pointed_out_of() {
    let owner = own(&"long/".repeat(40));
    let socket = PathBuf::from(fs::read_to_string(owner.dir.join("control")).unwrap().trim_end());
    assert!(socket.is_absolute() && !socket.starts_with(&owner.dir), "{socket:?}");
    let fresh = socket.parent().unwrap().to_owned();
    assert_eq!((mode(&fresh), mode(&socket)), (0o700, 0o600));
    let replies = answer(&owner.dir, &Command::Ls { selector: Selector::default() }).await;
    assert_eq!(replies, [Reply::Done { done: Summary::default() }]);
    owner.stop().await;
    assert!(!fresh.exists());
}

#[tokio::test]
async fn what_a_killed_owner_left_is_taken_away() {
    for below in ["data".to_owned(), "long/".repeat(40)] {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join(below);
        fs::create_dir_all(&dir).unwrap();
        let elsewhere = [root.path().to_owned()];
        // A killed process closes its sockets and cleans up nothing.
        std::mem::forget(bind(&dir, &elsewhere).unwrap());
        let left = super::place::located(&dir).unwrap().unwrap();
        let second = bind(&dir, &elsewhere).unwrap();
        let now = super::place::located(&dir).unwrap().unwrap();
        assert!(left == now || !left.exists());
        assert!(connect(&dir).await.unwrap().is_some());
        drop(second);
        assert!(connect(&dir).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn a_pointer_to_nowhere_is_nobody() {
    let dir = tempfile::tempdir().unwrap();
    assert!(connect(dir.path()).await.unwrap().is_none());
    fs::write(dir.path().join("control"), "/nowhere/control.sock\n").unwrap();
    assert!(connect(dir.path()).await.unwrap().is_none());
}

#[tokio::test]
async fn what_is_no_command_gets_an_error_with_an_exit_code() {
    let owner = own("data");
    for junk in
        ["{\"explode\":{}}\n", "GET / HTTP/1.1\r\n", "{\"ls\":{\"selector\":{\"hubs\":1}}}\n", "no end"]
    {
        let mut stream = UnixStream::connect(owner.dir.join("control.sock")).await.unwrap();
        stream.write_all(junk.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["exit"], 64, "{junk}: {text}");
        assert!(value["error"].is_string());
    }
    owner.stop().await;
}

#[tokio::test]
async fn a_line_without_an_end_is_not_read_for_ever() {
    let owner = own("data");
    let mut stream = UnixStream::connect(owner.dir.join("control.sock")).await.unwrap();
    let endless = vec![b'x'; 3 << 20];
    let _ = stream.write_all(&endless).await;
    let mut text = Vec::new();
    let _ = stream.read_to_end(&mut text).await;
    assert!(text.is_empty() || text.starts_with(b"{\"error\""), "{}", String::from_utf8_lossy(&text));
    owner.stop().await;
}

#[test]
fn replies_are_told_apart_by_their_first_field() {
    let failure = Reply::Failed(Failure { error: "no".into(), exit: 74 });
    assert_eq!(serde_json::to_string(&failure).unwrap(), r#"{"error":"no","exit":74}"#);
    let done = Reply::Done {
        done: Summary { entries: 1, partials: 0, documents: 3, blobs: 1, bytes: 2, damaged: 0 },
    };
    let text = serde_json::to_string(&done).unwrap();
    assert_eq!(text, r#"{"done":{"entries":1,"partials":0,"documents":3,"blobs":1,"bytes":2,"damaged":0}}"#);
    for reply in [failure, done] {
        let text = serde_json::to_string(&reply).unwrap();
        assert_eq!(serde_json::from_str::<Reply>(&text).unwrap(), reply);
    }
    let command = Command::Verify { selector: Selector { repo: Some("a/b".into()), ..Selector::default() } };
    assert_eq!(serde_json::to_string(&command).unwrap(), r#"{"verify":{"selector":{"repo":"a/b"}}}"#);
}

/// Stores a file; `name` is the digest that the index will have for it.
async fn keep(store: &Store, path: &str, bytes: &'static [u8], name: Sha256) {
    let hub = Hub::HuggingFace;
    let key = EntryKey {
        hub,
        root: HubRoot::parse(hub.default_root()).unwrap(),
        repo: Repo { kind: RepoKind::Model, id: "acme/tiny".into() },
        revision: "main".into(),
        path: path.into(),
    };
    let size = bytes.len() as u64;
    let representation = Representation { size: Some(size), ..Representation::default() };
    let record = store::PartialRecord {
        expectation: Expectation { representation: representation.clone(), ..Expectation::default() },
        started_at: Timestamp(1),
        touched_at: Timestamp(1),
        restricted: false,
    };
    let blob = store.begin_partial(&key, record).await.unwrap();
    let written = store.write_chunk(&blob, 0, vec![bytes.into()]).await.unwrap();
    written.await.unwrap().unwrap();
    let entry = Entry {
        blob: name,
        size,
        representation,
        validator: None,
        promises: vec![],
        standing: Standing::Recorded,
        stored_at: Timestamp(1),
        checked_at: Timestamp(1),
        access: Openness::Public { confirmed_at: Timestamp(1) },
    };
    store.commit(&key, &blob, entry, &[]).await.unwrap();
}

fn digest(bytes: &[u8]) -> Sha256 {
    use sha2::Digest as _;
    Sha256(sha2::Sha256::digest(bytes).into())
}

#[tokio::test]
async fn files_are_listed_verified_and_removed() {
    let owner = own("data");
    keep(&owner.store, "a", b"right", digest(b"right")).await;
    keep(&owner.store, "same", b"right", digest(b"right")).await;
    keep(&owner.store, "b", b"wrong", digest(b"other")).await;
    let all = Selector::default();
    let one = Selector { path: Some("a".into()), ..Selector::default() };

    let replies = answer(&owner.dir, &Command::Ls { selector: all.clone() }).await;
    let paths = replies.iter().filter_map(|r| match r {
        Reply::Entry { entry } => Some(entry.key.path.as_str()),
        _ => None,
    });
    assert_eq!(paths.collect::<Vec<_>>(), ["a", "b", "same"]);
    let summary = Summary { entries: 3, blobs: 2, bytes: 10, ..Summary::default() };
    assert_eq!(replies.last(), Some(&Reply::Done { done: summary }));

    let replies = answer(&owner.dir, &Command::Verify { selector: all.clone() }).await;
    let [Reply::Damaged { damaged, found }, Reply::Done { done }] = replies.as_slice() else {
        panic!("{replies:?}")
    };
    assert_eq!((damaged.key.path.as_str(), found), ("b", &format!("sha256 {}", digest(b"wrong"))));
    assert_eq!(*done, Summary { damaged: 1, ..summary });

    let dry_run = answer(&owner.dir, &Command::Rm { selector: one.clone(), dry_run: true }).await;
    let shared = Summary { entries: 1, ..Summary::default() };
    assert_eq!(dry_run.last(), Some(&Reply::Done { done: shared }), "its bytes are shared");
    let removed = answer(&owner.dir, &Command::Rm { selector: one, dry_run: false }).await;
    assert_eq!(removed, [Reply::Done { done: shared }]);
    let rest = answer(&owner.dir, &Command::Rm { selector: all, dry_run: false }).await;
    assert_eq!(
        rest,
        [Reply::Done { done: Summary { entries: 2, blobs: 2, bytes: 10, ..Summary::default() } }]
    );
    owner.stop().await;
}
