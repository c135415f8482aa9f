//! A full disk fails what is new and loses nothing.

use super::*;

#[tokio::test]
async fn a_full_disk_fails_fills_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let (store, faults) = faulty(&dir);
    let (before, after) = (pattern(1, 3 * CHUNK), pattern(2, 3 * CHUNK));
    fill(&store, &key("before"), &before).await.unwrap();
    let running = store.begin_partial(&key("running"), partial(None)).await.unwrap();

    faults.set_free(Some(CHUNK as u64));
    let size = after.len() as u64;
    let early = store.begin_partial(&key("after"), partial(Some(size))).await;
    assert!(matches!(early, Err(StoreError::NoSpace)), "what cannot fit is not begun");
    assert!(store.partial(&key("after")).unwrap().is_none());
    let late = write(&store, &running, &after).await;
    assert!(matches!(late, Err(StoreError::NoSpace)), "{late:?}");
    assert!(read(&store, &key("before")).unwrap() == before);

    faults.set_free(None);
    write(&store, &running, &after).await.unwrap();
    store.commit(&key("running"), &running, entry(&after), &[]).await.unwrap();
    assert!(read(&store, &key("running")).unwrap() == after);
}

#[tokio::test]
async fn the_floor_is_left_free_and_reported() {
    let dir = tempfile::tempdir().unwrap();
    let faults = Faults::default();
    let settings = Settings { min_free_bytes: 64 << 20, ..settings(&dir) };
    let store = Store::open_with(&settings, NOW, faults.clone()).unwrap();
    store.ready().unwrap();
    faults.set_free(Some(64 << 20));
    store.ready().unwrap();
    assert!(matches!(store.begin_partial(&key("a"), partial(None)).await, Err(StoreError::NoSpace)));
    faults.set_free(Some((64 << 20) - 1));
    assert!(matches!(store.ready(), Err(NotReady::NoSpace { .. })));
}

#[tokio::test]
async fn documents_leave_the_floor_to_references_and_removals() {
    use crate::model::{Commit, Document, RefKey};

    let dir = tempfile::tempdir().unwrap();
    let faults = Faults::default();
    let floor = 64 << 20;
    let settings = Settings { min_free_bytes: floor, ..settings(&dir) };
    let store = Store::open_with(&settings, NOW, faults.clone()).unwrap();
    let noise = |seed| Document { body: pattern(seed, 10_000), ..Document::default() };
    store.put_document(&key("info"), noise(1)).await.unwrap();

    faults.set_free(Some(floor + 10_000));
    let refused = store.put_document(&key("info"), noise(2)).await;
    assert!(matches!(refused, Err(StoreError::NoSpace)), "{refused:?}");
    assert!(*store.document(&key("info")).unwrap().unwrap() == noise(1), "the earlier one stays");
    faults.set_free(Some(floor + 20_000));
    store.put_document(&key("info"), noise(2)).await.unwrap();

    faults.set_free(Some(floor / 2));
    let EntryKey { hub, root, repo, .. } = key("");
    let main = RefKey { hub, root, repo, name: "main".into() };
    let commit = Commit::parse(COMMIT).unwrap();
    store.put_reference(&main, commit.clone(), NOW).await.unwrap();
    assert_eq!(store.reference(&main).unwrap().unwrap().commit, commit);
    assert!(store.confirm_document(&key("info"), NOW).await.unwrap());
    assert_eq!(store.remove(&Selector::default()).await.unwrap().documents, 1);
}

#[tokio::test]
async fn room_inside_a_volume_is_used_when_the_disk_is_full() {
    let dir = tempfile::tempdir().unwrap();
    let (store, faults) = faulty(&dir);
    fill(&store, &key("old"), &pattern(1, 64 * CHUNK)).await.unwrap();
    // Else the disk would have it back.
    faults.forget_holes();
    // Behind the room that is freed, so that redb cannot give it back by cutting the file.
    fill(&store, &key("kept"), &pattern(3, CHUNK)).await.unwrap();
    faults.set_free(Some(0));
    let new = pattern(2, 32 * CHUNK);
    let full = fill(&store, &key("new"), &new).await;
    assert!(matches!(full, Err(CommitError::Store(StoreError::NoSpace))), "{full:?}");
    let before = store.usage().disk_bytes;
    store.remove(&Selector { path: Some("old".into()), ..Selector::default() }).await.unwrap();
    removed_but(&store, 0).await;
    fill(&store, &key("new"), &new).await.unwrap();
    assert!(read(&store, &key("new")).unwrap() == new);
    let after = store.usage().disk_bytes;
    assert!(after <= before + (4 << 20), "{before} -> {after} bytes on disk");
}

#[tokio::test]
async fn freed_room_is_used_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let mut most = 0;
    for round in 0..6 {
        fill(&store, &key("a"), &pattern(round, 40 * CHUNK)).await.unwrap();
        store.remove(&Selector::default()).await.unwrap();
        removed_but(&store, 0).await;
        most = most.max(store.usage().disk_bytes);
    }
    assert!(most < 60 * CHUNK as u64, "{most} bytes on disk for 40 MiB at a time");
}

#[tokio::test]
async fn writers_and_readers_go_on_after_the_disk_itself_said_no() {
    let dir = tempfile::tempdir().unwrap();
    let (store, faults) = faulty(&dir);
    let before = pattern(1, 3 * CHUNK);
    fill(&store, &key("before"), &before).await.unwrap();
    let running = store.begin_partial(&key("running"), partial(None)).await.unwrap();
    let bytes = pattern(2, 20 * CHUNK);
    let first = bytes.slice(..CHUNK);
    store.write_chunk(&running, 0, vec![first.clone()]).await.unwrap().await.unwrap().unwrap();

    faults.set_full(true);
    let refused = write(&store, &running, &bytes).await;
    assert!(matches!(refused, Err(StoreError::NoSpace)), "{refused:?}");
    for _ in 0..2 {
        assert!(read(&store, &key("before")).unwrap() == before, "readers go on");
        assert_eq!(running.read(0).unwrap(), first, "what was acknowledged is there");
        // The index may find room in its own pages or not; in either case it lives.
        let _ = store.set_marks(vec![key("m")], Timestamp(NOW.0 + 1)).await;
        assert!(store.entry(&key("before")).unwrap().is_some());
    }

    faults.set_full(false);
    write(&store, &running, &bytes).await.unwrap();
    store.commit(&key("running"), &running, entry(&bytes), &[]).await.unwrap();
    assert!(read(&store, &key("running")).unwrap() == bytes);
    store.set_marks(vec![key("m")], Timestamp(NOW.0 + 1)).await.unwrap();
    drop(running);
    store.close().await;
    let store = open(&dir);
    assert!(read(&store, &key("running")).unwrap() == bytes);
    assert_eq!(store.mark(&key("m"), NOW), Some(Timestamp(NOW.0 + 1)));
}

#[tokio::test]
async fn a_writer_that_panics_fails_what_it_wrote_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (store, faults) = faulty(&dir);
    let before = pattern(1, CHUNK);
    fill(&store, &key("before"), &before).await.unwrap();
    let blob = store.begin_partial(&key("a"), partial(None)).await.unwrap();
    faults.panic_once();
    assert!(write(&store, &blob, &before).await.is_err());
    assert!(read(&store, &key("before")).unwrap() == before);
    write(&store, &blob, &before).await.unwrap();
    faults.panic_once();
    assert!(store.commit(&key("a"), &blob, entry(&before), &[]).await.is_err());
    store.commit(&key("a"), &blob, entry(&before), &[]).await.unwrap();
    assert!(read(&store, &key("a")).unwrap() == before);
}

#[tokio::test]
async fn a_full_index_recovers_too() {
    let dir = tempfile::tempdir().unwrap();
    let (store, faults) = faulty(&dir);
    let bytes = pattern(1, 100);
    fill(&store, &key("a"), &bytes).await.unwrap();
    faults.set_full(true);
    let mut refused = 0;
    for i in 0..400 {
        let mut wide = entry(&bytes);
        wide.validator = Some("x".repeat(1500));
        match store.link(&key(&format!("link-{i}")), wide, &[]).await {
            Ok(_) => {}
            Err(CommitError::Store(StoreError::NoSpace)) => refused += 1,
            other => panic!("{other:?}"),
        }
        assert!(read(&store, &key("a")).unwrap() == bytes);
    }
    assert!(refused > 0, "the index never needed a new page");
    faults.set_full(false);
    let removed = store.remove(&Selector::default()).await.unwrap();
    assert_eq!(removed.entries, 401 - refused);
    removed_but(&store, 0).await;
    assert_eq!(held(&store), 0);
}
