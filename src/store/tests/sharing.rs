//! Blobs that several entries name, and who may name what.

use super::*;
use crate::model::{Digest, Promise, Promiser};

#[tokio::test]
async fn equal_bytes_are_held_once_and_until_the_last_entry_goes() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let bytes = pattern(1, 2 * CHUNK);
    let size = bytes.len() as u64;
    fill(&store, &key("a"), &bytes).await.unwrap();
    fill(&store, &key("b"), &bytes).await.unwrap();
    store.link(&key("c"), entry(&bytes), &[]).await.unwrap();
    store.link(&key("c"), entry(&bytes), &[]).await.unwrap();
    fill(&store, &key("c"), &bytes).await.unwrap();
    removed_but(&store, 0).await;
    assert_eq!(held(&store), size);
    assert_eq!(store.blob(&digest(&bytes)).unwrap().unwrap().refs, 3);
    for (path, blobs) in [("a", 0), ("c", 0), ("b", 1)] {
        assert!(read(&store, &key(path)).unwrap() == bytes);
        let removed =
            store.remove(&Selector { path: Some(path.into()), ..Selector::default() }).await.unwrap();
        assert_eq!(removed, Removed { entries: 1, partials: 0, documents: 0, blobs, bytes: blobs * size });
        assert!(store.entry(&key(path)).unwrap().is_none());
    }
    removed_but(&store, 0).await;
    assert_eq!(held(&store), 0);
    assert!(store.open_blob(&digest(&bytes)).unwrap().is_none());
    let absent = store.link(&key("a"), entry(&bytes), &[]).await;
    assert!(matches!(absent, Err(CommitError::NoBlob)), "{absent:?}");
}

#[tokio::test]
async fn whoever_reads_a_blob_keeps_it_from_being_removed() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let bytes = pattern(1, 3 * CHUNK);
    fill(&store, &key("a"), &bytes).await.unwrap();
    let first = store.open_blob(&digest(&bytes)).unwrap().unwrap();
    let second = first.clone();
    store.remove(&Selector::default()).await.unwrap();
    assert!(store.open_blob(&digest(&bytes)).unwrap().is_none(), "nobody new may read it");
    drop(first);
    // Other work passes through the same thread, and still nothing is removed.
    fill(&store, &key("b"), &pattern(2, 10)).await.unwrap();
    removed_but(&store, 1).await;
    assert_eq!(read_blob(&second, bytes.len() as u64).unwrap(), bytes);
    drop(second);
    removed_but(&store, 0).await;
    assert_eq!(held(&store), 10);
}

#[tokio::test]
async fn a_mutable_key_lets_go_of_what_it_named() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let (old, new) = (pattern(1, 100), pattern(2, CHUNK + 100));
    let main = key_at("main", "a");
    fill(&store, &main, &old).await.unwrap();
    assert_eq!(read(&store, &main).unwrap(), old);
    fill(&store, &main, &new).await.unwrap();
    assert!(read(&store, &main).unwrap() == new);
    removed_but(&store, 0).await;
    assert_eq!(held(&store), new.len() as u64);
    assert!(store.blob(&digest(&old)).unwrap().is_none());
}

#[tokio::test]
async fn an_immutable_key_keeps_its_bytes_also_across_equivalent_roots() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let (held, offered) = (pattern(1, 100), pattern(2, 100));
    fill(&store, &key("a"), &held).await.unwrap();
    let elsewhere = EntryKey { root: root(2), ..key("a") };
    let conflict = |result: Result<_, CommitError>| match result {
        Err(CommitError::Conflict { held: h, offered: o }) => {
            assert_eq!((h, o), (digest(&held), digest(&offered)));
        }
        other => panic!("{other:?}"),
    };
    conflict(fill(&store, &key("a"), &offered).await);
    fill(&store, &key("other"), &offered).await.unwrap();
    conflict(store.link(&key("a"), entry(&offered), &[]).await);
    conflict(store.link(&elsewhere, entry(&offered), &[root(3), root(1)]).await);
    assert_eq!(read(&store, &key("a")).unwrap(), held);
    assert_eq!(store.blob(&digest(&offered)).unwrap().unwrap().refs, 1, "a refusal changes nothing");
    store.link(&elsewhere, entry(&held), &[root(1)]).await.unwrap();
    let third = EntryKey { root: root(3), ..key("a") };
    store.link(&third, entry(&offered), &[]).await.unwrap();
    // The refused fill is still there, for its owner to discard.
    assert!(store.partial(&key("a")).unwrap().is_some());
    store.discard_partial(&key("a")).await.unwrap();
}

#[tokio::test]
async fn git_ids_lead_to_bytes_only_when_they_were_verified() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let (oid, other) = ([1; 20], [2; 20]);
    let bytes = pattern(1, 100);
    let promise = |oid| Promise { digest: Digest::GitSha1(oid), by: Promiser::Etag };
    fill(&store, &key("a"), &bytes).await.unwrap();
    let recorded = Entry { promises: vec![promise(other)], ..entry(&bytes) };
    store.link(&key("b"), recorded, &[]).await.unwrap();
    assert_eq!(store.sha256_of_git(&other).unwrap(), None);
    let verified = Entry { promises: vec![promise(oid)], standing: Standing::Verified, ..entry(&bytes) };
    store.link(&key("c"), verified, &[]).await.unwrap();
    assert_eq!(store.sha256_of_git(&oid).unwrap(), Some(digest(&bytes)));
    store.remove(&Selector { path: Some("c".into()), ..Selector::default() }).await.unwrap();
    assert_eq!(store.sha256_of_git(&oid).unwrap(), Some(digest(&bytes)), "the bytes are the same");
    store.remove(&Selector::default()).await.unwrap();
    assert_eq!(store.sha256_of_git(&oid).unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn readers_never_see_a_blob_without_its_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let main = key_at("main", "a");
    fill(&store, &main, &pattern(0, 70_000)).await.unwrap();
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let (store, main) = (store.clone(), main.clone());
            tokio::task::spawn_blocking(move || {
                let mut seen = std::collections::HashSet::new();
                while seen.len() < 40 {
                    let entry = store.entry(&main).unwrap().expect("there is always an entry");
                    // Replaced in between: the caller would look again.
                    let Some(blob) = store.open_blob(&entry.blob).unwrap() else { continue };
                    assert_eq!(digest(&read_blob(&blob, entry.size).unwrap()), entry.blob);
                    seen.insert(entry.blob);
                    if entry.checked_at == Timestamp(0) {
                        break;
                    }
                }
            })
        })
        .collect();
    for round in 1..120 {
        fill(&store, &main, &pattern(round, 70_000)).await.unwrap();
    }
    store.confirm(&main, Timestamp(0)).await.unwrap();
    for reader in readers {
        reader.await.unwrap();
    }
    removed_but(&store, 0).await;
    assert_eq!(held(&store), 70_000);
}

#[tokio::test]
async fn chunks_are_served_from_the_file_once_they_were_read_also_while_others_come_and_go() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let bytes = pattern(1, 5 * CHUNK + 100_000);
    fill(&store, &key("a"), &bytes).await.unwrap();
    let blob = store.open_blob(&digest(&bytes)).unwrap().unwrap();
    assert!(blob.ready(5).is_none(), "the last one, shorter, is known once it was read");
    assert!(read_blob(&blob, bytes.len() as u64).unwrap() == bytes);
    let lent: Vec<_> = (0..6).map(|i| blob.ready(i)).collect();
    if cfg!(target_os = "linux") {
        assert!(lent.iter().all(Option::is_some));
    }
    drop(blob);
    // The bytes that are lent keep the blob from being removed, and others from taking its place.
    store.remove(&Selector::default()).await.unwrap();
    for round in 2..6 {
        fill(&store, &key("b"), &pattern(round, 4 * CHUNK + 70_000)).await.unwrap();
        store.remove(&Selector::default()).await.unwrap();
        removed_but(&store, usize::from(cfg!(target_os = "linux"))).await;
    }
    let all: Vec<u8> = lent.iter().flatten().flatten().copied().collect();
    assert!(!cfg!(target_os = "linux") || all == bytes);
    drop(lent);
    removed_but(&store, 0).await;
}

#[tokio::test]
async fn a_chunk_of_an_unfinished_file_is_lent_only_when_it_never_changes() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let bytes = pattern(1, 2 * CHUNK);
    let blob = store.begin_partial(&key("a"), partial(None)).await.unwrap();
    let queue = async |index, part: Bytes| {
        store.write_chunk(&blob, index, vec![part]).await.unwrap().await.unwrap().unwrap();
    };
    queue(0, bytes.slice(..CHUNK)).await;
    queue(1, bytes.slice(CHUNK..CHUNK + 300_000)).await;
    assert!(
        blob.read(0).unwrap() == bytes[..CHUNK] && blob.read(1).unwrap() == bytes[CHUNK..CHUNK + 300_000]
    );
    assert!(blob.ready(1).is_none(), "it is replaced by a longer one");
    let lent = blob.ready(0);
    // Written again it stays where it is, and so is right for whoever has it.
    queue(0, bytes.slice(..CHUNK)).await;
    queue(1, bytes.slice(CHUNK..)).await;
    assert!(lent.is_none_or(|lent| lent == bytes[..CHUNK]));
    assert!(read_blob(&blob, bytes.len() as u64).unwrap() == bytes);
}
