//! What is due to be read again, and the end of what is damaged.

use std::ops::ControlFlow;

use redb::{Database, TableDefinition};

use super::*;
use crate::store::index::scrubs;

fn later(seconds: u64) -> Timestamp {
    Timestamp(NOW.0 + seconds * 1000)
}

/// Waits for what is written down some time later.
async fn settled(store: &Store) {
    store.set_marks(vec![key("settled")], NOW).await.unwrap();
}

fn sizes(due: Due) -> Vec<u64> {
    due.blobs.into_iter().map(|(_, size)| size).collect()
}

#[tokio::test]
async fn what_was_not_hashed_for_longest_is_due_first() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    for (seed, path) in [(1, "a"), (2, "b"), (3, "c")] {
        fill(&store, &key(path), &pattern(seed, 100 * seed as usize)).await.unwrap();
    }
    // A fill has hashed what it stores.
    assert_eq!(store.due_for_scrub(NOW, 10).unwrap(), Due { blobs: vec![], next: Some(NOW) });
    store.scrubbed(&digest(&pattern(1, 100)), later(20));
    store.scrubbed(&digest(&pattern(3, 300)), later(10));
    store.scrubbed(&digest(b"not held"), later(10));
    settled(&store).await;
    assert_eq!(sizes(store.due_for_scrub(later(30), 10).unwrap()), [200, 300, 100]);
    let some = store.due_for_scrub(later(30), 2).unwrap();
    assert_eq!(some.next, Some(Timestamp::default()), "there are more");
    assert_eq!(sizes(some), [200, 300]);
    let first = store.due_for_scrub(later(5), 10).unwrap();
    assert_eq!((first.next, sizes(first)), (Some(later(10)), vec![200]));
    store.close().await;
    // It is written down.
    assert_eq!(sizes(open(&dir).due_for_scrub(later(15), 10).unwrap()), [200, 300]);
}

#[tokio::test]
async fn an_index_of_an_earlier_program_gets_the_table_and_everything_is_due() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    fill(&store, &key("a"), &pattern(1, 100)).await.unwrap();
    store.close().await;
    let database = Database::open(dir.path().join("data/index.redb")).unwrap();
    let txn = database.begin_write().unwrap();
    let table: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("scrubs");
    assert!(txn.delete_table(table).unwrap());
    txn.commit().unwrap();
    drop(database);
    let store = open(&dir);
    assert_eq!(sizes(store.due_for_scrub(Timestamp(1), 10).unwrap()), [100]);
    store.scrubbed(&digest(&pattern(1, 100)), NOW);
    settled(&store).await;
    assert!(store.due_for_scrub(NOW, 10).unwrap().blobs.is_empty());
}

#[tokio::test]
async fn bytes_are_compared_with_their_name() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let bytes = pattern(1, 2 * CHUNK + 5);
    fill(&store, &key("a"), &bytes).await.unwrap();
    let (of, size) = (digest(&bytes), bytes.len() as u64);
    let mut pieces = Vec::new();
    let mut all = |piece| {
        pieces.push(piece);
        ControlFlow::Continue(())
    };
    assert!(matches!(store.compare(&of, size, &mut all), Some(Compared::Intact)));
    assert_eq!(pieces, [CHUNK as u64, CHUNK as u64, 5]);
    assert!(store.compare(&of, size, |_| ControlFlow::Break(())).is_none());
    assert!(matches!(store.compare(&digest(b"x"), 1, |_| ControlFlow::Continue(())), Some(Compared::Gone)));
    assert!(matches!(store.compare(&of, size - 1, |_| ControlFlow::Continue(())), Some(Compared::Wrong(_))));
}

#[tokio::test]
async fn what_is_condemned_is_read_by_nobody_and_its_names_are_marked_and_free() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let (bytes, other) = (pattern(1, CHUNK + 5), pattern(2, 100));
    fill(&store, &key("a"), &bytes).await.unwrap();
    store.link(&key("b"), entry(&bytes), &[]).await.unwrap();
    fill(&store, &key("c"), &other).await.unwrap();
    let reader = store.open_blob(&digest(&bytes)).unwrap().unwrap();
    let first = reader.read(0).unwrap();
    let seen = store.changes();

    let gone = store.condemn(&digest(&bytes), later(600)).await.unwrap();
    let names: Vec<_> = gone.into_iter().map(|(key, _)| key.path).collect();
    assert_eq!(names, ["a", "b"]);
    assert!(reader.is_condemned() && reader.ready(0).is_none());
    assert!(matches!(reader.read(1), Err(StoreError::Damaged(_))));
    assert!(first == bytes[..CHUNK], "what was handed out stays readable");
    assert_eq!((read(&store, &key("a")), read(&store, &key("b"))), (None, None));
    assert!(store.open_blob(&digest(&bytes)).unwrap().is_none() && store.changes() > seen);
    assert_eq!(read(&store, &key("c")), Some(other.clone()));
    for path in ["a", "b"] {
        assert_eq!(store.mark(&key(path), NOW), Some(later(600)), "{path}");
    }
    assert_eq!(store.mark(&key("c"), NOW), None);
    // Other bytes may not take an immutable name; the same may come back.
    fill(&store, &key("a"), &bytes).await.unwrap();
    assert_eq!(read(&store, &key("a")), Some(bytes.clone()));
    assert!(reader.read(0).is_err(), "the new ones are not the old ones");
    drop((reader, first));
    removed_but(&store, 0).await;
    assert_eq!(held(&store), (bytes.len() + other.len()) as u64);
    assert!(store.condemn(&digest(b"not held"), NOW).await.unwrap().is_empty());
    store.close().await;
    let store = open(&dir);
    assert_eq!(read(&store, &key("a")), Some(bytes));
    assert_eq!((read(&store, &key("b")), store.mark(&key("b"), NOW)), (None, Some(later(600))));
    // Of what is gone no row is left.
    let due = store.0.index.run(|database| scrubs::due(database, later(1), 10)).unwrap();
    assert_eq!(due.blobs.len(), 2);
}
