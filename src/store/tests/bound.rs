//! The bound on what all files take on disk: what goes for it, what stays, and that space really returns.

use std::ops::ControlFlow;

use super::*;
use crate::model::{Event, Pin, Superseded, WhyGone};

const MIB: u64 = 1 << 20;

fn bounded(dir: &TempDir, max_bytes: u64) -> Settings {
    Settings { max_bytes: Some(max_bytes), ..settings(dir) }
}

fn used(store: &Store) -> u64 {
    store.usage().disk_bytes
}

/// Paths of all entries.
fn paths(store: &Store) -> Vec<String> {
    let mut paths = Vec::new();
    let visit = &mut |key: EntryKey, _, _| {
        paths.push(format!("{}/{}", key.revision, key.path));
        ControlFlow::Continue(())
    };
    store.entries(&Selector::default(), visit).unwrap();
    paths
}

fn later(seconds: u64) -> Timestamp {
    NOW.plus(Duration::from_secs(seconds))
}

/// A whole fill at some time.
async fn fill_at(store: &Store, key: &EntryKey, bytes: &Bytes, at: Timestamp) -> Result<(), CommitError> {
    let blob = store.begin_partial(key, partial(Some(bytes.len() as u64))).await?;
    write(store, &blob, bytes).await?;
    let entry = Entry { stored_at: at, checked_at: at, ..entry(bytes) };
    store.commit(key, &blob, entry, &[]).await.map(drop)
}

async fn pin(store: &Store, revision: &str, until: Option<Timestamp>) {
    let pin = Pin { until, ..Pin::lasting(NOW, "a test") };
    store.decide(vec![Decision::Pin(key_at(revision, ""), Some(pin))]).await.unwrap();
}

#[tokio::test]
async fn what_was_used_least_goes_when_there_is_no_room() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(bounded(&dir, 32 * MIB), NOW).unwrap();
    for i in 0..40 {
        let at = later(i);
        fill_at(&store, &key_at("main", &format!("{i:02}")), &pattern(i, 2 * CHUNK), at).await.unwrap();
        assert!(used(&store) <= 32 * MIB, "{} after {i}", used(&store));
        // Two uses, long after each other: it has proven itself.
        let proven = digest(&pattern(3, 2 * CHUNK));
        if i == 4 || i == 5 {
            store.used(&proven, at.plus(Duration::from_secs(100 * i)));
        }
    }
    let left = paths(&store);
    assert!(left.contains(&"main/03".to_owned()), "{left:?}");
    assert!(left.contains(&"main/39".to_owned()) && !left.contains(&"main/04".to_owned()), "{left:?}");
    assert!(left.len() > 8, "more went than had to: {left:?}");
    for path in left {
        let name = path.strip_prefix("main/").unwrap();
        let seed = name.parse().unwrap();
        assert!(read(&store, &key_at("main", name)).unwrap() == pattern(seed, 2 * CHUNK));
    }
    let [.., (WhyGone::Once, files, bytes), _] = store.evicted() else { panic!("the order of reasons") };
    assert!(files > 20 && bytes > files * 2 * CHUNK as u64, "{files} files, {bytes} bytes");
    let history = store.history(None).unwrap();
    let told = history.iter().filter(|h| h.event == Event::Evicted && h.revision.as_deref() == Some("main"));
    assert!(told.count() > 5, "{history:?}");
    let usage = store.usage();
    assert_eq!(usage.limit_bytes, 32 * MIB);
    assert!(usage.volumes <= 4, "{usage:?}");
}

#[tokio::test]
async fn what_somebody_keeps_or_reads_stays_and_an_expired_pin_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(bounded(&dir, 32 * MIB), NOW).unwrap();
    let now = Timestamp::now();
    for (i, name) in ["pinned", "expired", "spared", "read", "free", "superseded"].into_iter().enumerate() {
        fill_at(&store, &key_at(name, "a"), &pattern(i as u64, CHUNK), later(i as u64)).await.unwrap();
    }
    // The same bytes in a revision that is pinned.
    store.link(&key_at("pinned", "shared"), entry(&pattern(10, CHUNK)), &[]).await.unwrap_err();
    fill_at(&store, &key_at("other", "shared"), &pattern(10, CHUNK), later(9)).await.unwrap();
    store.link(&key_at("pinned", "shared"), entry(&pattern(10, CHUNK)), &[]).await.unwrap();
    pin(&store, "pinned", Some(now.plus(Duration::from_secs(3600)))).await;
    pin(&store, "expired", Some(Timestamp(now.0 - 1))).await;
    let superseded = Superseded { by: "b".into(), at: NOW, drop_at: None, under: String::new() };
    store.decide(vec![Decision::Supersede(key_at("superseded", ""), superseded)]).await.unwrap();
    let spared = store.spare(|key| key.revision == "spared");
    let reader = store.open_blob(&digest(&pattern(3, CHUNK))).unwrap().unwrap();

    let going = store.would_go(Some(0), now).await.unwrap();
    let order: Vec<_> = going.iter().map(|one| (one.files[0].revision.as_str(), one.reason)).collect();
    let once = WhyGone::Once;
    assert_eq!(order, [("superseded", WhyGone::Superseded), ("expired", once), ("free", once)]);
    assert_eq!(paths(&store).len(), 8, "a plan changes nothing");
    let mut told = Vec::new();
    let pruned = store.prune(Some(0), now, |one| told.push(one)).await.unwrap();
    assert_eq!((told, pruned.entries), (going, 3));
    assert_eq!(
        paths(&store),
        ["other/shared", "pinned/a", "pinned/shared", "read/a", "spared/a"],
        "what is kept, and what has the same bytes"
    );
    let repo = key("").repo.to_string();
    store.decide(vec![Decision::Hold(repo.clone(), Some(NOW))]).await.unwrap();
    drop((spared, reader));
    assert_eq!(store.would_go(Some(0), now).await.unwrap(), [], "all revisions are held");
    store.decide(vec![Decision::Hold(repo, None)]).await.unwrap();
    assert_eq!(store.prune(Some(0), now, drop).await.unwrap().entries, 2);
    assert_eq!(paths(&store), ["other/shared", "pinned/a", "pinned/shared"]);
}

#[tokio::test]
async fn what_can_never_fit_is_refused_and_takes_nothing_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(bounded(&dir, 32 * MIB), NOW).unwrap();
    for i in 0..4 {
        fill(&store, &key_at("main", &i.to_string()), &pattern(i, 2 * CHUNK)).await.unwrap();
    }
    pin(&store, "main", None).await;
    fill(&store, &key_at("free", "a"), &pattern(9, CHUNK)).await.unwrap();
    for size in [40 * MIB, 26 * MIB, u64::MAX] {
        let refused = store.begin_partial(&key("large"), partial(Some(size))).await;
        assert!(matches!(refused, Err(StoreError::NoSpace)), "{size}: {refused:?}");
    }
    assert_eq!(paths(&store).len(), 5);
    assert!(store.partials().unwrap().is_empty());
    fill(&store, &key("fits"), &pattern(7, 17 * CHUNK)).await.unwrap();
    assert_eq!(store.usage().volumes, 2, "larger than a volume, so it has one of its own");
    assert_eq!(paths(&store).len(), 6);
}

#[tokio::test]
async fn a_file_of_an_unknown_size_has_room_made_step_by_step() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(bounded(&dir, 32 * MIB), NOW).unwrap();
    for i in 0..12 {
        fill(&store, &key_at("main", &i.to_string()), &pattern(i, 2 * CHUNK)).await.unwrap();
    }
    let blob = store.begin_partial(&key("a"), partial(None)).await.unwrap();
    let bytes = pattern(90, 20 * CHUNK);
    write(&store, &blob, &bytes).await.unwrap();
    assert!(used(&store) <= 32 * MIB);
    store.commit(&key("a"), &blob, entry(&bytes), &[]).await.unwrap();
    let more = store.begin_partial(&key("b"), partial(None)).await.unwrap();
    pin(&store, COMMIT, None).await;
    let full = write(&store, &more, &pattern(91, 12 * CHUNK)).await;
    assert!(matches!(full, Err(StoreError::NoSpace)), "{full:?}");
    assert!(used(&store) <= 32 * MIB);
    assert!(read(&store, &key("a")).unwrap() == bytes);
    drop(more);
    let going = store.would_go(Some(0), Timestamp::now()).await.unwrap();
    assert!(going.is_empty(), "a pin keeps what is unfinished of the revision: {going:?}");
}

#[tokio::test]
async fn documents_count_and_push_files_out_but_never_pass_the_bound() {
    use crate::model::Document;

    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(bounded(&dir, 24 * MIB), NOW).unwrap();
    for i in 0..9 {
        fill(&store, &key_at("main", &i.to_string()), &pattern(i, 2 * CHUNK)).await.unwrap();
    }
    let mut kept = 0;
    for i in 0..60 {
        let document = Document { body: pattern(100 + i, 700_000), ..Document::default() };
        match store.put_document(&key(&format!("info-{i}")), document).await {
            Ok(()) => kept += 1,
            Err(StoreError::NoSpace) => {}
            Err(e) => panic!("{e:?}"),
        }
        assert!(used(&store) <= 24 * MIB, "{}", used(&store));
    }
    assert!(kept > 10 && kept < 60, "{kept}");
    assert!(paths(&store).len() < 9);
}

#[tokio::test]
async fn a_lower_bound_than_before_is_kept_to() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(bounded(&dir, 64 * MIB), NOW).unwrap();
    for i in 0..20 {
        fill(&store, &key_at("main", &format!("{i:02}")), &pattern(i, 2 * CHUNK)).await.unwrap();
    }
    store.close().await;
    let store = Store::open(bounded(&dir, 24 * MIB), NOW).unwrap();
    assert!(used(&store) > 24 * MIB);
    assert!(store.tend(Timestamp::now()).await.unwrap());
    assert!(used(&store) <= 24 * MIB, "{}", used(&store));
    for path in paths(&store) {
        let name = path.strip_prefix("main/").unwrap();
        assert!(read(&store, &key_at("main", name)).unwrap() == pattern(name.parse().unwrap(), 2 * CHUNK));
    }
}

#[tokio::test]
async fn the_bound_that_was_found_at_the_first_start_stays() {
    let dir = tempfile::tempdir().unwrap();
    let faults = Faults::default();
    faults.set_free(Some(100 * MIB));
    let store = Store::open_with(&settings(&dir), NOW, faults.clone()).unwrap();
    let found = store.usage().limit_bytes;
    assert!((80 * MIB..84 * MIB).contains(&found), "{found}");
    store.close().await;
    faults.set_free(Some(500 * MIB));
    for (said, want) in [(None, found), (Some(40 * MIB), 40 * MIB), (None, found)] {
        let settings = Settings { max_bytes: said, ..settings(&dir) };
        let store = Store::open_with(&settings, NOW, faults.clone()).unwrap();
        assert_eq!(store.usage().limit_bytes, want);
        store.close().await;
    }
}

#[tokio::test]
async fn blocks_return_when_files_go() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    fill(&store, &key("first"), &pattern(1, 30 * CHUNK)).await.unwrap();
    // Behind it, so that the file cannot be cut.
    fill(&store, &key("last"), &pattern(2, 3 * CHUNK)).await.unwrap();
    let before = used(&store);
    let first = Selector { path: Some("first".into()), ..Selector::default() };
    store.remove(&first).await.unwrap();
    removed_but(&store, 0).await;
    let after = used(&store);
    assert!(after + 29 * MIB <= before, "{before} -> {after}");
    assert!(read(&store, &key("last")).unwrap() == pattern(2, 3 * CHUNK));
    fill(&store, &key("again"), &pattern(3, 30 * CHUNK)).await.unwrap();
    assert!(read(&store, &key("again")).unwrap() == pattern(3, 30 * CHUNK));
    store.close().await;
    let store = open(&dir);
    for (name, seed, chunks) in [("last", 2, 3), ("again", 3, 30)] {
        assert!(read(&store, &key(name)).unwrap() == pattern(seed, chunks * CHUNK), "{name}");
    }
    store.remove(&Selector::default()).await.unwrap();
    removed_but(&store, 0).await;
    store.rewrite().await.unwrap();
    assert!(used(&store) < 2 * MIB, "{}", used(&store));
}

#[tokio::test]
async fn a_sparse_volume_is_rewritten_while_it_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let (store, faults) = faulty(&dir);
    faults.forget_holes();
    for i in 0..20 {
        fill(&store, &key(&i.to_string()), &pattern(i, CHUNK + 1000)).await.unwrap();
    }
    fill(&store, &key("empty"), &Bytes::new()).await.unwrap();
    let before = used(&store);
    for i in (0..20).filter(|i| i % 5 > 0) {
        let select = Selector { path: Some(i.to_string()), ..Selector::default() };
        store.remove(&select).await.unwrap();
    }
    removed_but(&store, 0).await;
    assert!(used(&store) + 10 * MIB > before, "without holes the blocks stay for now");
    let reader = store.open_blob(&digest(&pattern(5, CHUNK + 1000))).unwrap().unwrap();
    let rewritten = store.rewrite().await.unwrap().unwrap();
    assert_eq!((rewritten.volume, rewritten.blobs), (1, 5));
    // Whoever reads the old bytes reads on; they go after him.
    assert_eq!(read_blob(&reader, CHUNK as u64 + 1000).unwrap(), pattern(5, CHUNK + 1000));
    assert!(dir.path().join("data/volumes/blobs-0001.redb").exists());
    drop(reader);
    removed_but(&store, 0).await;
    store.rewrite().await.unwrap();
    assert!(!dir.path().join("data/volumes/blobs-0001.redb").exists());
    assert!(used(&store) < 10 * MIB, "{before} -> {}", used(&store));
    for store in [store.clone(), {
        store.close().await;
        open(&dir)
    }] {
        if store.ready().is_err() {
            continue;
        }
        for i in (0..20).filter(|i| i % 5 == 0) {
            assert!(read(&store, &key(&i.to_string())).unwrap() == pattern(i, CHUNK + 1000));
        }
        assert!(read(&store, &key("empty")).unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_copy_that_finds_no_room_leaves_everything_where_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let (store, faults) = faulty(&dir);
    faults.forget_holes();
    for i in 0..16 {
        fill(&store, &key(&i.to_string()), &pattern(i, CHUNK)).await.unwrap();
    }
    for i in (0..16).filter(|i| i % 3 > 0) {
        store.remove(&Selector { path: Some(i.to_string()), ..Selector::default() }).await.unwrap();
    }
    removed_but(&store, 0).await;
    faults.set_free(Some(0));
    let full = store.rewrite().await;
    assert!(matches!(full, Err(StoreError::NoSpace)), "{full:?}");
    for i in (0..16).filter(|i| i % 3 == 0) {
        assert!(read(&store, &key(&i.to_string())).unwrap() == pattern(i, CHUNK));
    }
    faults.set_free(None);
    removed_but(&store, 0).await;
    assert_eq!(store.rewrite().await.unwrap().unwrap().blobs, 6);
    fill(&store, &key("new"), &pattern(99, CHUNK)).await.unwrap();
    assert!(read(&store, &key("new")).unwrap() == pattern(99, CHUNK));
}

#[tokio::test]
async fn an_earlier_program_has_weighed_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    fill(&store, &key("a"), &pattern(1, 3 * CHUNK + 5_000)).await.unwrap();
    let volume = store.0.volumes.all().remove(0);
    let held = volume.handle().run(chunks::held).unwrap();
    volume.handle().run(|database| chunks::forget_weight(database, held.bytes)).unwrap();
    assert_eq!(volume.handle().run(chunks::held).unwrap(), held);
    fill(&store, &key("b"), &pattern(2, CHUNK)).await.unwrap();
    assert_eq!(volume.weight(), held.weight + super::super::settings::weight(CHUNK));
}

#[tokio::test]
async fn a_volume_that_nobody_names_is_removed_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    fill(&store, &key("a"), &pattern(1, CHUNK)).await.unwrap();
    store.close().await;
    let volumes = dir.path().join("data/volumes");
    std::fs::copy(volumes.join("blobs-0001.redb"), volumes.join("blobs-0002.redb")).unwrap();
    let store = open(&dir);
    assert!(!volumes.join("blobs-0002.redb").exists());
    assert!(read(&store, &key("a")).unwrap() == pattern(1, CHUNK));
}
