//! Who may open a directory, and what is found in it.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use redb::Database;

use super::*;

#[tokio::test]
async fn a_directory_has_one_owner_who_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    match Store::open(settings(&dir), NOW) {
        Err(OpenError::Owned { pid, .. }) => assert_eq!(pid, Some(std::process::id())),
        other => panic!("{:?}", other.err()),
    }
    store.close().await;
    let again = open(&dir);
    drop(store);
    drop(again);
}

#[tokio::test]
async fn only_the_owner_can_look_into_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    fill(&store, &key("a"), &pattern(1, 10)).await.unwrap();
    let data = dir.path().join("data");
    let mode = |path: &str| fs::metadata(data.join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!([mode(""), mode("volumes")], [0o700; 2]);
    assert_eq!([mode("lock"), mode("index.redb"), mode("volumes/blobs-0001.redb")], [0o600; 3]);
}

#[tokio::test]
async fn an_unknown_layout_is_refused_and_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    open(&dir).close().await;
    let path = dir.path().join("data/index.redb");
    let database = Database::open(&path).unwrap();
    let txn = database.begin_write().unwrap();
    txn.open_table(index::META).unwrap().insert(index::LAYOUT, 7).unwrap();
    txn.commit().unwrap();
    drop(database);
    let before = fs::read(&path).unwrap();
    match Store::open(settings(&dir), NOW) {
        Err(OpenError::Layout { found: 7, supported: 1, .. }) => {}
        other => panic!("{:?}", other.err()),
    }
    assert!(fs::read(&path).unwrap() == before);
}

#[tokio::test]
async fn a_file_that_is_no_index_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("index.redb"), "no database at all").unwrap();
    match Store::open(settings(&dir), NOW) {
        Err(OpenError::Damaged { file, .. }) => assert_eq!(file, data.join("index.redb")),
        other => panic!("{:?}", other.err()),
    }
    fs::remove_dir_all(&data).unwrap();
    fs::write(&data, "a file").unwrap();
    assert!(matches!(Store::open(settings(&dir), NOW), Err(OpenError::Create { .. })));
}

#[tokio::test]
async fn a_lost_volume_is_not_the_whole_cache() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings { volume_max_bytes: 3 * CHUNK as u64, ..settings(&dir) };
    let store = Store::open(settings.clone(), NOW).unwrap();
    let bytes: Vec<_> = (0..4).map(|i| pattern(i, 2 * CHUNK)).collect();
    for (i, bytes) in bytes.iter().enumerate() {
        fill(&store, &key(&format!("{i}")), bytes).await.unwrap();
    }
    assert_eq!(store.usage().volumes, 4);
    store.close().await;
    let lost = dir.path().join("data/volumes/blobs-0002.redb");
    let kept = fs::read(&lost).unwrap();
    fs::remove_file(&lost).unwrap();

    let store = Store::open(settings.clone(), NOW).unwrap();
    for (i, bytes) in bytes.iter().enumerate().filter(|(i, _)| *i != 1) {
        assert!(read(&store, &key(&format!("{i}"))).unwrap() == *bytes);
    }
    let blob = store.open_blob(&digest(&bytes[1])).unwrap().unwrap();
    assert!(blob.read(0).is_err());
    assert!(!lost.exists(), "an empty volume must not take the place of a lost one");
    fs::write(&lost, kept).unwrap();
    assert_eq!(blob.read(0).unwrap(), bytes[1].slice(..CHUNK), "it came back");
    let new = pattern(9, 2 * CHUNK);
    fill(&store, &key("new"), &new).await.unwrap();
    assert!(read(&store, &key("new")).unwrap() == new);
}

#[tokio::test]
async fn small_files_fill_the_room_that_a_large_one_left() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings { volume_max_bytes: 8 * CHUNK as u64, ..settings(&dir) };
    let store = Store::open(settings, NOW).unwrap();
    fill(&store, &key("large"), &pattern(1, 20 * CHUNK)).await.unwrap();
    assert_eq!(store.usage().volumes, 1, "a blob never spans volumes");
    fill(&store, &key("next"), &pattern(2, CHUNK)).await.unwrap();
    assert_eq!(store.usage().volumes, 2);
    store.remove(&Selector { path: Some("large".into()), ..Selector::default() }).await.unwrap();
    removed_but(&store, 0).await;
    for i in 0..8 {
        fill(&store, &key(&format!("{i}")), &pattern(10 + i, CHUNK)).await.unwrap();
    }
    assert_eq!(store.usage().volumes, 2);
    let running: Vec<_> =
        [1, 2].map(|i| (key(&format!("running-{i}")), partial(Some(7 * CHUNK as u64)))).into();
    for (key, record) in running {
        std::mem::forget(store.begin_partial(&key, record).await.unwrap());
    }
    assert_eq!(store.usage().volumes, 3, "room is kept for what running fills still expect");
}

#[tokio::test]
async fn after_the_end_every_call_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let bytes = pattern(1, 10);
    fill(&store, &key("a"), &bytes).await.unwrap();
    let whole = store.open_blob(&digest(&bytes)).unwrap().unwrap();
    let running = store.begin_partial(&key("b"), partial(None)).await.unwrap();
    store.close().await;
    store.close().await;
    fn closed<T>(result: Result<T, StoreError>) -> bool {
        matches!(result, Err(StoreError::Closed))
    }
    assert!(closed(store.entry(&key("a"))));
    assert!(closed(store.open_blob(&digest(&bytes))));
    assert!(closed(whole.read(0)));
    assert!(closed(store.write_chunk(&running, 0, vec![bytes.clone()]).await));
    assert!(closed(store.begin_partial(&key("c"), partial(None)).await));
    assert!(closed(store.resume_partial(&key("b")).await));
    assert!(closed(store.remove(&Selector::default()).await));
    assert!(closed(store.set_marks(vec![key("a")], NOW).await));
    assert!(matches!(store.ready(), Err(NotReady::Store(StoreError::Closed))));
    let late = store.commit(&key("b"), &running, entry(&[]), &[]).await;
    assert!(matches!(late, Err(CommitError::Store(StoreError::Closed))));
}

#[tokio::test]
async fn a_store_that_is_only_dropped_lets_go_of_its_directory() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    fill(&store, &key("a"), &pattern(1, CHUNK)).await.unwrap();
    drop(store);
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    let store = loop {
        match Store::open(settings(&dir), NOW) {
            Ok(store) => break store,
            Err(OpenError::Owned { .. }) => assert!(std::time::Instant::now() < deadline),
            Err(e) => panic!("{e:?}"),
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    };
    assert!(read(&store, &key("a")).unwrap() == pattern(1, CHUNK));
}
