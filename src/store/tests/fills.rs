//! Fills, resumed fills, and what is remembered besides files.

use std::ops::ControlFlow;

use super::*;
use crate::model::{Commit, RefKey};

#[tokio::test]
async fn a_file_is_read_as_it_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    for len in [0, 1, 5000, 70_000, CHUNK - 1, CHUNK, CHUNK + 1, 5 * CHUNK + 77] {
        let bytes = pattern(len as u64, len);
        let key = key(&format!("file-{len}"));
        assert!(store.entry(&key).unwrap().is_none());
        fill(&store, &key, &bytes).await.unwrap();
        assert!(read(&store, &key).unwrap() == bytes, "{len} bytes");
    }
    store.close().await;
    let store = open(&dir);
    for len in [0, 1, 5000, 70_000, CHUNK - 1, CHUNK, CHUNK + 1, 5 * CHUNK + 77] {
        assert!(read(&store, &key(&format!("file-{len}"))).unwrap() == pattern(len as u64, len));
    }
}

#[tokio::test]
async fn large_chunks_are_lent_and_pin_nothing_but_their_blob() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let bytes = pattern(1, 8 * CHUNK);
    fill(&store, &key("a"), &bytes).await.unwrap();
    let blob = store.open_blob(&digest(&bytes)).unwrap().unwrap();
    let slow = blob.read(3).unwrap();
    if cfg!(target_os = "linux") {
        assert_eq!(slow.as_ptr(), blob.read(3).unwrap().as_ptr(), "the same page, twice");
    }
    drop(blob);
    // Whoever still sends this chunk neither sees it change nor keeps other blobs from being removed.
    store.remove(&Selector::default()).await.unwrap();
    let left = usize::from(cfg!(target_os = "linux"));
    removed_but(&store, left).await;
    let before = store.usage().disk_bytes;
    for round in 2..6 {
        let other = pattern(round, 8 * CHUNK);
        fill(&store, &key("b"), &other).await.unwrap();
        store.remove(&Selector::default()).await.unwrap();
        removed_but(&store, left).await;
    }
    let after = store.usage().disk_bytes;
    assert!(after < before + 12 * CHUNK as u64, "{before} -> {after} bytes on disk");
    assert_eq!(slow, bytes.slice(3 * CHUNK..4 * CHUNK));
    drop(slow);
    removed_but(&store, 0).await;
}

#[tokio::test]
async fn chunks_take_little_more_room_than_their_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let len = 96 * CHUNK;
    fill(&store, &key("a"), &pattern(1, len)).await.unwrap();
    store.close().await;
    let ratio = store.usage().disk_bytes as f64 / len as f64;
    assert!(ratio <= 1.1, "{ratio} bytes on disk for each byte");
}

#[tokio::test]
async fn small_blobs_stay_in_memory_once_read() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let bytes = pattern(1, 1000);
    fill(&store, &key("a"), &bytes).await.unwrap();
    let blob = store.open_blob(&digest(&bytes)).unwrap().unwrap();
    assert_eq!(blob.small(), None);
    assert_eq!(blob.read_small().unwrap(), bytes);
    assert_eq!(blob.small().unwrap(), bytes);
    let large = pattern(2, CHUNK + 5);
    fill(&store, &key("b"), &large).await.unwrap();
    let blob = store.open_blob(&digest(&large)).unwrap().unwrap();
    assert_eq!(blob.read_small().unwrap(), large);
    assert_eq!(blob.small(), None);
}

#[tokio::test]
async fn a_fill_is_committed_only_when_all_its_chunks_are_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let bytes = pattern(1, 2 * CHUNK + 5);
    let blob = store.begin_partial(&key("a"), partial(None)).await.unwrap();
    assert!(matches!(blob.read(0), Err(StoreError::Damaged(_))), "nothing is written yet");
    let last = bytes.slice(2 * CHUNK..);
    store.write_chunk(&blob, 2, vec![last.clone()]).await.unwrap().await.unwrap().unwrap();
    assert_eq!(blob.read(2).unwrap(), last, "followers read what is on disk");
    assert_eq!(blob.size(), None);
    let early = store.commit(&key("a"), &blob, entry(&bytes), &[]).await;
    assert!(matches!(early, Err(CommitError::Store(StoreError::Misuse(_)))), "{early:?}");
    write(&store, &blob, &bytes).await.unwrap();
    store.commit(&key("a"), &blob, entry(&bytes), &[]).await.unwrap();
    assert_eq!(blob.size(), Some(bytes.len() as u64));
    assert!(store.partial(&key("a")).unwrap().is_none());
    for bad in [vec![], vec![Bytes::new()], vec![pattern(0, CHUNK), pattern(0, 1)]] {
        assert!(matches!(store.write_chunk(&blob, 0, bad).await, Err(StoreError::Misuse(_))));
    }
}

#[tokio::test]
async fn a_missing_or_short_chunk_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let bytes = pattern(1, 3 * CHUNK);
    fill(&store, &key("a"), &bytes).await.unwrap();
    // Opened anew nothing is known of where the chunks lie, and what redb has is read.
    store.close().await;
    let store = open(&dir);
    let blob = store.open_blob(&digest(&bytes)).unwrap().unwrap();
    let short = Bytes::from_static(b"short");
    store.write_chunk(&blob, 1, vec![short]).await.unwrap().await.unwrap().unwrap();
    assert!(blob.read(0).is_ok());
    for index in [1, 3] {
        assert!(matches!(blob.read(index), Err(StoreError::Damaged(_))), "chunk {index}");
    }
}

#[tokio::test]
async fn a_fill_that_is_removed_while_it_runs_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let bytes = pattern(1, CHUNK);
    let blob = store.begin_partial(&key("a"), partial(None)).await.unwrap();
    assert_eq!(store.remove(&Selector::default()).await.unwrap().partials, 1);
    write(&store, &blob, &bytes).await.unwrap();
    let late = store.commit(&key("a"), &blob, entry(&bytes), &[]).await;
    assert!(matches!(late, Err(CommitError::NoBlob)), "{late:?}");
    drop(blob);
    removed_but(&store, 0).await;
    assert_eq!(held(&store), 0);
}

#[tokio::test]
async fn a_partial_fill_is_resumed_with_what_the_volume_holds() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let bytes = pattern(1, 3 * CHUNK + 9);
    let size = bytes.len() as u64;
    let blob = store.begin_partial(&key("a"), partial(Some(size))).await.unwrap();
    for index in [0, 2] {
        let chunk = bytes.slice(index * CHUNK..(index + 1) * CHUNK);
        store.write_chunk(&blob, index as u32, vec![chunk]).await.unwrap().await.unwrap().unwrap();
    }
    let half = bytes.slice(CHUNK..CHUNK + CHUNK / 2);
    store.write_chunk(&blob, 1, vec![half.clone()]).await.unwrap().await.unwrap().unwrap();
    let later = PartialRecord { touched_at: Timestamp(NOW.0 + 5), ..partial(Some(size)) };
    store.update_partial(&key("a"), later.clone()).await.unwrap();
    drop(blob);
    store.close().await;

    let store = open(&dir);
    assert_eq!(store.partials().unwrap(), [(key("a"), later.clone())]);
    let (record, blob, chunks) = store.resume_partial(&key("a")).await.unwrap().unwrap();
    assert_eq!(record, later);
    assert_eq!(chunks, [(0, CHUNK as u32), (1, half.len() as u32), (2, CHUNK as u32)]);
    assert_eq!(blob.read(1).unwrap(), half);
    write(&store, &blob, &bytes).await.unwrap();
    store.commit(&key("a"), &blob, entry(&bytes), &[]).await.unwrap();
    assert!(read(&store, &key("a")).unwrap() == bytes);
    assert_eq!(held(&store), size, "chunks written twice are held once");
    assert!(store.resume_partial(&key("a")).await.unwrap().is_none());
}

#[tokio::test]
async fn a_new_fill_of_a_key_replaces_the_partial_one() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let bytes = pattern(1, CHUNK + 3);
    let old = store.begin_partial(&key("a"), partial(None)).await.unwrap();
    write(&store, &old, &bytes).await.unwrap();
    let new = store.begin_partial(&key("a"), partial(None)).await.unwrap();
    assert_ne!(old.id(), new.id());
    let late = store.commit(&key("a"), &old, entry(&bytes), &[]).await;
    assert!(matches!(late, Err(CommitError::NoBlob)), "{late:?}");
    assert_eq!(read_blob(&old, bytes.len() as u64).unwrap(), bytes, "held as long as somebody reads it");
    drop(old);
    removed_but(&store, 0).await;
    assert_eq!(held(&store), 0);
    store.discard_partial(&key("a")).await.unwrap();
    store.discard_partial(&key("a")).await.unwrap();
    let gone = store.update_partial(&key("a"), partial(None)).await;
    assert!(matches!(gone, Err(StoreError::Gone)));
}

#[tokio::test]
async fn partial_fills_expire_unless_they_are_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let running = store.begin_partial(&key("running"), partial(None)).await.unwrap();
    let left = store.begin_partial(&key("left"), partial(None)).await.unwrap();
    write(&store, &left, &pattern(1, 10)).await.unwrap();
    drop(left);
    let day = Duration::from_secs(24 * 3600);
    assert_eq!(store.expire(NOW.plus(6 * day)).await.unwrap(), Expired::default());
    assert_eq!(store.expire(NOW.plus(8 * day)).await.unwrap(), Expired { partials: 1, marks: 0 });
    assert!(store.partial(&key("left")).unwrap().is_none());
    assert!(store.partial(&key("running")).unwrap().is_some());
    removed_but(&store, 0).await;
    assert_eq!(held(&store), 0);
    drop(running);
    assert_eq!(store.expire(NOW.plus(8 * day)).await.unwrap().partials, 1);
}

#[tokio::test]
async fn marks_survive_a_restart_until_they_end() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let (soon, late) = (Timestamp(NOW.0 + 10), Timestamp(NOW.0 + 20));
    store.set_marks(vec![key("a"), key("b")], soon).await.unwrap();
    store.set_marks(vec![key("b"), key("c")], late).await.unwrap();
    store.close().await;
    let store = Store::open(settings(&dir), soon).unwrap();
    assert_eq!(store.mark(&key("a"), soon), None);
    assert_eq!(store.mark(&key("b"), soon), Some(late));
    assert_eq!(store.mark(&key("c"), soon), Some(late));
    assert_eq!(store.mark(&key("c"), late), None);
    assert_eq!(store.expire(soon).await.unwrap().marks, 1);
    assert_eq!(store.expire(late).await.unwrap().marks, 2);
}

#[tokio::test]
async fn a_mark_stands_in_memory_when_the_disk_refuses_it() {
    let dir = tempfile::tempdir().unwrap();
    let (store, faults) = faulty(&dir);
    faults.stop_after(0);
    let until = Timestamp(NOW.0 + 10);
    assert!(store.set_marks(vec![key("a")], until).await.is_err());
    assert_eq!(store.mark(&key("a"), NOW), Some(until));
}

#[tokio::test]
async fn references_are_listed_by_repository_whatever_else_is_selected() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let commit = Commit::parse(COMMIT).unwrap();
    for id in ["acme/tiny", "acme/other"] {
        for name in ["main", "refs/pr/1"] {
            let EntryKey { hub, root, repo, .. } = key("");
            let key = RefKey { hub, root, repo: Repo { id: id.into(), ..repo }, name: name.into() };
            store.put_reference(&key, commit.clone(), NOW).await.unwrap();
        }
    }
    let listed = |select: Selector| {
        let mut names = Vec::new();
        let visit = &mut |key: RefKey, record: RefRecord| {
            assert_eq!(record.commit, commit);
            names.push(format!("{}@{}", key.repo, key.name));
            ControlFlow::Continue(())
        };
        store.references(&select, visit).unwrap();
        names
    };
    assert_eq!(listed(Selector::default()).len(), 4);
    let (repo, revision) = (Some("acme/tiny".into()), Some("v9".into()));
    let one = Selector { repo, revision, path: Some("x".into()), ..Selector::default() };
    assert_eq!(listed(one), ["acme/tiny@main", "acme/tiny@refs/pr/1"]);
    assert!(listed(Selector { hub: Some(Hub::Mozilla), ..Selector::default() }).is_empty());
}

#[tokio::test]
async fn references_remember_the_commits_before() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let key = RefKey { hub: Hub::HuggingFace, root: root(1), repo: key("a").repo, name: "main".into() };
    let commit = |i: u64| Commit::parse(&format!("{i:040x}")).unwrap();
    assert_eq!(store.reference(&key).unwrap(), None);
    for i in [1, 2, 2, 3, 1] {
        store.put_reference(&key, commit(i), Timestamp(i)).await.unwrap();
    }
    let record = store.reference(&key).unwrap().unwrap();
    assert_eq!((record.commit, record.checked_at), (commit(1), Timestamp(1)));
    assert_eq!(record.previous, [commit(3), commit(2)]);
    for i in 10..40 {
        store.put_reference(&key, commit(i), NOW).await.unwrap();
    }
    let record = store.reference(&key).unwrap().unwrap();
    assert_eq!(record.previous.len(), 16);
    assert_eq!(record.previous[0], commit(38));
}

#[tokio::test]
async fn listings_and_removals_go_through_many_pages() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let bytes = pattern(1, 10);
    fill(&store, &key("0000"), &bytes).await.unwrap();
    let links: Vec<_> = (1..1300)
        .map(|i| {
            let (store, bytes) = (store.clone(), bytes.clone());
            tokio::spawn(async move { store.link(&key(&format!("{i:04}")), entry(&bytes), &[]).await })
        })
        .collect();
    for link in links {
        link.await.unwrap().unwrap();
    }
    let kept = key_at("main", "kept");
    store.link(&kept, entry(&bytes), &[]).await.unwrap();
    let left = store.begin_partial(&key("partial"), partial(None)).await.unwrap();

    let mut seen = Vec::new();
    let select = Selector { revision: Some(COMMIT.into()), ..Selector::default() };
    store
        .entries(&select, &mut |key, _, blob| {
            assert_eq!(blob.refs, 1301);
            seen.push(key.path);
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(seen.len(), 1300);
    assert!(seen.is_sorted());
    let mut visits = 0;
    store
        .entries(&Selector::default(), &mut |_, _, _| {
            visits += 1;
            if visits == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .unwrap();
    assert_eq!(visits, 3);

    let removed = store.remove(&select).await.unwrap();
    assert_eq!(removed, Removed { entries: 1300, partials: 1, documents: 0, blobs: 0, bytes: 0 });
    assert_eq!(read(&store, &kept).unwrap(), bytes);
    drop(left);
    let removed = store.remove(&Selector::default()).await.unwrap();
    assert_eq!(removed, Removed { entries: 1, partials: 0, documents: 0, blobs: 1, bytes: 10 });
    removed_but(&store, 0).await;
    let Usage { entries, blobs, partials, volumes, .. } = store.usage();
    assert_eq!([entries, blobs, partials, volumes], [0, 0, 0, 1]);
}

#[tokio::test]
async fn last_uses_are_written_down_at_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let bytes = pattern(1, 10);
    let sha = digest(&bytes);
    fill(&store, &key("a"), &bytes).await.unwrap();
    let used = Timestamp(NOW.0 + 77);
    store.used(&sha, used);
    store.used(&sha, NOW);
    assert_eq!(store.blob(&sha).unwrap().unwrap().last_used, used);
    store.close().await;
    assert_eq!(open(&dir).blob(&sha).unwrap().unwrap().last_used, used);
}

#[tokio::test]
async fn confirming_changes_only_when_an_entry_was_checked() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let bytes = pattern(1, 10);
    let before = fill(&store, &key_at("main", "a"), &bytes).await.unwrap();
    assert_eq!(store.entry(&key_at("main", "a")).unwrap().unwrap(), before);
    let at = Timestamp(NOW.0 + 5);
    let after = store.confirm(&key_at("main", "a"), at).await.unwrap().unwrap();
    assert_eq!(*after, Entry { checked_at: at, ..(*before).clone() });
    assert_eq!(store.entry(&key_at("main", "a")).unwrap().unwrap(), after);
    assert_eq!(store.confirm(&key("absent"), at).await.unwrap(), None);
}
