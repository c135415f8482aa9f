//! Answers of a hub's API: kept, replaced, listed and removed.

use std::ops::ControlFlow;

use redb::{Database, TableHandle};

use super::*;
use crate::model::{Commit, Document, RefKey};

/// An answer whose body is `len` bytes, which repeat and so can be packed.
fn document(len: usize) -> Document {
    let body = b"{\"rfilename\": \"onnx/model.onnx\"}, ".iter().copied().cycle().take(len).collect();
    Document { status: 200, etag: format!("\"{len}\""), learned_at: NOW, body, ..Document::default() }
}

fn document_at(store: &Store, key: &EntryKey) -> Option<Document> {
    store.document(key).unwrap().map(|document| (*document).clone())
}

/// The questions of all selected documents.
fn questions(store: &Store, select: &Selector) -> Vec<String> {
    let (mut shown, mut keys) = (Vec::new(), Vec::new());
    let next = ControlFlow::Continue(());
    store
        .document_keys(select, &mut |key| (keys.push(format!("{}@{}", key.path, key.revision)), next).1)
        .unwrap();
    store
        .documents(select, &mut |key, _| (shown.push(format!("{}@{}", key.path, key.revision)), next).1)
        .unwrap();
    assert_eq!(shown, keys);
    shown
}

/// Writes raw bytes as the row of a document.
fn write_row(dir: &TempDir, key: &EntryKey, row: &[u8]) {
    let database = Database::open(dir.path().join("data/index.redb")).unwrap();
    let txn = database.begin_write().unwrap();
    txn.open_table(index::DOCUMENTS).unwrap().insert(key.encode().as_slice(), row).unwrap();
    txn.commit().unwrap();
}

#[tokio::test]
async fn documents_survive_a_restart_whatever_their_bodies_are() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let noise = Document { body: pattern(1, 3 << 20), ..document(0) };
    let missing = Document { status: 404, error_code: Some("EntryNotFound".into()), ..document(2) };
    let all = [
        (key_at("main", "info"), document(5000)),
        (key_at("", "refs"), document(0)),
        (key("tree/onnx?recursive=true"), document(20 << 20)),
        (key("noise"), noise),
        (key("resolve/absent.json"), missing),
    ];
    for (key, document) in &all {
        store.put_document(key, document.clone()).await.unwrap();
        assert!(document_at(&store, key).as_ref() == Some(document), "{key}");
    }
    store.close().await;
    let store = open(&dir);
    for (key, document) in &all {
        assert!(document_at(&store, key).as_ref() == Some(document), "{key}");
    }
    assert_eq!(store.usage().documents, 5);
    assert_eq!(document_at(&store, &key_at("main", "other")), None);
    assert_eq!(store.entry(&key_at("main", "info")).unwrap(), None, "a document is no file");
}

#[tokio::test]
async fn a_document_that_is_too_long_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    store.put_document(&key("info"), document(10)).await.unwrap();
    let refused = store.put_document(&key("info"), document(DOCUMENT_MAX + 1)).await;
    assert!(matches!(refused, Err(StoreError::Misuse(_))), "{refused:?}");
    assert_eq!(document_at(&store, &key("info")), Some(document(10)));
}

#[tokio::test]
async fn memory_never_answers_with_what_was_replaced_confirmed_or_removed() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let info = key_at("main", "info");
    for len in [10, 100_000, 30] {
        store.put_document(&info, document(len)).await.unwrap();
        let first = store.document(&info).unwrap().unwrap();
        assert_eq!(*first, document(len));
        let again = store.document(&info).unwrap().unwrap();
        assert!(Arc::ptr_eq(&first, &again), "the second look is answered from memory");
    }
    let at = NOW.plus(Duration::from_secs(5));
    assert!(store.confirm_document(&info, at).await.unwrap());
    assert_eq!(document_at(&store, &info), Some(Document { learned_at: at, ..document(30) }));
    assert!(!store.confirm_document(&key("absent"), at).await.unwrap());
    store.remove(&Selector::default()).await.unwrap();
    assert_eq!(document_at(&store, &info), None);
}

#[tokio::test]
async fn changes_grow_with_every_entry_and_document_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let (file, info, bytes) = (key("a"), key("info"), pattern(1, 100));
    let mut last = store.changes();
    let mut grown = || {
        let now = store.changes();
        std::mem::replace(&mut last, now) < now
    };
    fill(&store, &file, &bytes).await.unwrap();
    assert!(grown(), "a file");
    store.link(&key("b"), entry(&bytes), &[]).await.unwrap();
    assert!(grown(), "another name of it");
    store.put_document(&info, document(10)).await.unwrap();
    assert!(grown(), "a document");
    store.put_document(&info, document(20)).await.unwrap();
    assert!(grown(), "another in its place");

    store.confirm(&file, NOW).await.unwrap();
    store.confirm_document(&info, NOW).await.unwrap();
    store.set_marks(vec![file.clone()], NOW).await.unwrap();
    store.document(&info).unwrap();
    drop(store.begin_partial(&key("c"), partial(None)).await.unwrap());
    assert!(!grown(), "what is held is the same");

    store.remove(&Selector { path: Some("a".into()), ..Selector::default() }).await.unwrap();
    assert!(grown(), "a removed file");
    store.remove(&Selector { revision: Some("other".into()), ..Selector::default() }).await.unwrap();
    assert!(!grown(), "nothing of that name");
    store.remove(&Selector { path: Some("b".into()), ..Selector::default() }).await.unwrap();
    assert!(grown(), "the last file");
    store.remove(&Selector::default()).await.unwrap();
    assert!(grown(), "a removed document");
}

#[tokio::test]
async fn a_removal_takes_the_documents_that_its_selector_means() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let other =
        EntryKey { repo: Repo { kind: RepoKind::Model, id: "acme/tinyer".into() }, ..key_at("main", "info") };
    fill(&store, &key_at("main", "a.json"), &pattern(1, 10)).await.unwrap();
    for key in [
        key_at("", "refs"),
        key_at("main", "info"),
        key_at("main", "resolve/a.json"),
        key_at("main", "resolve/b.json"),
        key("info"),
        other.clone(),
    ] {
        store.put_document(&key, document(10)).await.unwrap();
    }
    let select = |revision: Option<&str>, path: Option<&str>| Selector {
        repo: Some("acme/tiny".into()),
        revision: revision.map(Into::into),
        path: path.map(Into::into),
        ..Selector::default()
    };
    let about_b = select(None, Some("b.json"));
    assert_eq!(questions(&store, &about_b), ["resolve/b.json@main"]);
    let removed = store.remove(&about_b).await.unwrap();
    assert_eq!(removed, Removed { documents: 1, ..Removed::default() });
    let removed = store.remove(&select(Some("main"), None)).await.unwrap();
    assert_eq!((removed.entries, removed.documents), (1, 2));
    let left = [String::from("refs@"), format!("info@{COMMIT}")];
    assert_eq!(questions(&store, &select(None, None)), left);
    assert_eq!(store.remove(&select(None, None)).await.unwrap().documents, 2);
    assert_eq!(document_at(&store, &other), Some(document(10)), "another repository");
    assert_eq!(store.usage().documents, 1);
}

#[tokio::test]
async fn what_branches_name_is_forgotten_with_the_whole_repository_only() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let commit = Commit::parse(COMMIT).unwrap();
    let main = |id: &str| RefKey {
        hub: Hub::HuggingFace,
        root: root(1),
        repo: Repo { kind: RepoKind::Model, id: id.into() },
        name: "main".into(),
    };
    for id in ["acme/tiny", "acme/tinyer"] {
        store.put_reference(&main(id), commit.clone(), NOW).await.unwrap();
    }
    let tiny = Selector { repo: Some("acme/tiny".into()), ..Selector::default() };
    let known = |id: &str| store.reference(&main(id)).unwrap().is_some();
    store.remove(&Selector { revision: Some("main".into()), ..tiny.clone() }).await.unwrap();
    store.remove(&Selector { path: Some("a".into()), ..tiny.clone() }).await.unwrap();
    assert!(known("acme/tiny"));
    store.remove(&tiny).await.unwrap();
    assert!(!known("acme/tiny") && known("acme/tinyer"));
    store.remove(&Selector { hub: Some(Hub::Mozilla), ..Selector::default() }).await.unwrap();
    assert!(known("acme/tinyer"), "another hub");
    store.remove(&Selector::default()).await.unwrap();
    assert!(!known("acme/tinyer"));
}

#[tokio::test]
async fn listings_of_one_revision_show_that_revision_whole_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let bytes = pattern(1, 10);
    fill(&store, &key("0000"), &bytes).await.unwrap();
    let work: Vec<_> = (0..700)
        .map(|i| {
            let (store, key, entry) = (store.clone(), key(&format!("{i:04}")), entry(&bytes));
            tokio::spawn(async move {
                store.put_document(&key, document(i)).await.unwrap();
                store.link(&key, entry, &[]).await.unwrap();
            })
        })
        .collect();
    for one in work {
        one.await.unwrap();
    }
    let longer = format!("{COMMIT}0");
    let tinyer = EntryKey { repo: Repo { kind: RepoKind::Model, id: "acme/tinyer".into() }, ..key("x") };
    let dataset = EntryKey { repo: Repo { kind: RepoKind::Dataset, id: "acme/tiny".into() }, ..key("x") };
    let elsewhere = EntryKey { root: root(10), ..key("x") };
    for other in [key_at(&longer, "x"), key_at("", "x"), key_at("main", "x"), tinyer, dataset, elsewhere] {
        store.put_document(&other, document(1)).await.unwrap();
        store.link(&other, entry(&bytes), &[]).await.unwrap();
    }
    let EntryKey { hub, root, repo, .. } = key("");
    let expected: Vec<_> = (0..700).map(|i| format!("{i:04}")).collect();
    assert_eq!(store.paths_at(hub, &root, &repo, COMMIT).unwrap(), expected);
    let keys = store.document_keys_at(hub, &root, &repo, COMMIT).unwrap();
    assert_eq!(keys, expected.iter().map(|path| key(path)).collect::<Vec<_>>());
    assert_eq!(store.paths_at(hub, &root, &repo, "").unwrap(), ["x"]);
    assert_eq!(store.document_keys_at(hub, &root, &repo, "absent").unwrap(), []);

    let mut seen = 0;
    let visit = &mut |_, found: Document| {
        assert_eq!(found, document(seen));
        seen += 1;
        if seen == 600 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let select =
        Selector { repo: Some("acme/tiny".into()), revision: Some(COMMIT.into()), ..Selector::default() };
    store.documents(&select, visit).unwrap();
    assert_eq!(seen, 600);
    assert_eq!(store.remove(&Selector::default()).await.unwrap().documents, 706);
    assert_eq!(store.usage().documents, 0);
}

#[tokio::test]
async fn a_damaged_document_is_an_error_and_can_be_replaced_or_removed() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    fill(&store, &key("file"), &pattern(1, 10)).await.unwrap();
    store.put_document(&key("z"), document(10)).await.unwrap();
    store.close().await;
    for row in [&[][..], &[1], &[1, 0xff, 0xff], &[77, 1, 2, 3], &[0xff; 300]] {
        write_row(&dir, &key("a"), row);
        let store = open(&dir);
        let damaged = store.document(&key("a"));
        assert!(matches!(damaged, Err(StoreError::Damaged(_))), "{row:?}: {damaged:?}");
        let confirmed = store.confirm_document(&key("a"), NOW).await;
        assert!(matches!(confirmed, Err(StoreError::Damaged(_))), "{row:?}: {confirmed:?}");
        let listed = store.documents(&Selector::default(), &mut |_, _| ControlFlow::Continue(()));
        assert!(matches!(listed, Err(StoreError::Damaged(_))), "{row:?}: {listed:?}");
        assert_eq!(document_at(&store, &key("z")), Some(document(10)), "its neighbour is whole");
        store.put_document(&key("a"), document(20)).await.unwrap();
        assert_eq!(document_at(&store, &key("a")), Some(document(20)));
        store.close().await;
    }
    write_row(&dir, &key("a"), &[77]);
    let store = open(&dir);
    assert_eq!(store.remove(&Selector::default()).await.unwrap().documents, 2);
    assert_eq!(document_at(&store, &key("a")), None);
}

#[tokio::test]
async fn a_store_from_before_documents_is_opened_and_keeps_its_files() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let bytes = pattern(1, 10);
    fill(&store, &key("file"), &bytes).await.unwrap();
    store.close().await;
    let database = Database::open(dir.path().join("data/index.redb")).unwrap();
    let txn = database.begin_write().unwrap();
    assert!(txn.delete_table(index::DOCUMENTS).unwrap());
    assert!(txn.list_tables().unwrap().all(|table| table.name() != "documents"));
    txn.commit().unwrap();
    drop(database);
    let store = open(&dir);
    assert_eq!(document_at(&store, &key("info")), None);
    assert_eq!(store.usage().entries, 1);
    store.put_document(&key("info"), document(10)).await.unwrap();
    store.close().await;
    let store = open(&dir);
    assert_eq!(document_at(&store, &key("info")), Some(document(10)));
    assert_eq!(read(&store, &key("file")).unwrap(), bytes);
}

#[tokio::test]
async fn a_disk_that_stops_at_any_sync_loses_no_acknowledged_document() {
    let mut syncs = 0;
    loop {
        let dir = tempfile::tempdir().unwrap();
        let (store, faults) = faulty(&dir);
        faults.stop_after(syncs);
        // What may be found: the last that was acknowledged, or the one that was being written.
        let (mut old, mut new) = (None, None);
        for len in [10, 40_000, 300, 70_000] {
            new = Some(document(len));
            if store.put_document(&key("info"), document(len)).await.is_err() {
                break;
            }
            old = new.clone();
            assert_eq!(document_at(&store, &key("info")), old);
        }
        let stopped = faults.stopped();
        assert!(stopped || old == Some(document(70_000)));
        store.close().await;
        drop(store);
        let found = document_at(&open(&dir), &key("info"));
        assert!(found == old || found == new, "sync {syncs}: {found:?}");
        if !stopped {
            assert!(syncs > 3, "the work needs more syncs than {syncs}");
            break;
        }
        syncs += 1;
    }
}

#[tokio::test]
async fn a_full_disk_refuses_a_document_and_keeps_the_earlier() {
    let dir = tempfile::tempdir().unwrap();
    let (store, faults) = faulty(&dir);
    store.put_document(&key("info"), document(10)).await.unwrap();
    let large = Document { body: pattern(1, 8 << 20), ..document(0) };
    faults.set_full(true);
    let refused = store.put_document(&key("info"), large.clone()).await;
    assert!(matches!(refused, Err(StoreError::NoSpace)), "{refused:?}");
    assert_eq!(document_at(&store, &key("info")), Some(document(10)));
    faults.set_full(false);
    store.put_document(&key("info"), large.clone()).await.unwrap();
    assert!(document_at(&store, &key("info")) == Some(large));
}
