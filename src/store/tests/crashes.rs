//! Crashes at any moment: what was acknowledged is there, and nothing is named that is not.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::ops::ControlFlow;
use std::process::{Command, Stdio};

use super::*;

/// Checks absence 1 of the house: no entry without its bytes. Says what there is.
fn check(store: &Store) -> BTreeMap<String, Sha256> {
    let mut found = BTreeMap::new();
    store
        .entries(&Selector::default(), &mut |key, entry, _| {
            let blob = store.open_blob(&entry.blob).unwrap().expect("an entry has a blob");
            let bytes = read_blob(&blob, entry.size).unwrap();
            assert_eq!(digest(&bytes), entry.blob, "{key} has other bytes than its name says");
            found.insert(key.path, entry.blob);
            ControlFlow::Continue(())
        })
        .unwrap();
    found
}

/// Does a little of everything until the disk stops; notes what was acknowledged.
async fn work(store: &Store, acknowledged: &mut Vec<(String, Option<Sha256>)>) -> Result<(), CommitError> {
    for i in 0..4_u64 {
        let (name, bytes) = (format!("file-{i}"), pattern(i, 3 * CHUNK + 100));
        fill(store, &key(&name), &bytes).await?;
        acknowledged.push((name.clone(), Some(digest(&bytes))));
        store.set_marks(vec![key(&name)], Timestamp(NOW.0 + 1)).await?;
        acknowledged.push((format!("mark {name}"), None));
        let main = key_at("main", "moving");
        let bytes = pattern(100 + i, CHUNK + 7);
        let pending = fill(store, &main, &bytes).await;
        // Replaced or not, when the disk stopped in between.
        acknowledged.retain(|(name, _)| name != "moving");
        pending?;
        acknowledged.push(("moving".into(), Some(digest(&bytes))));
        if i % 2 == 1 {
            let gone = format!("file-{}", i - 1);
            let select = Selector { path: Some(gone.clone()), ..Selector::default() };
            let removed = store.remove(&select).await;
            acknowledged.retain(|(name, _)| *name != gone);
            removed?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_disk_that_stops_at_any_sync_loses_nothing_acknowledged() {
    let mut syncs = 0;
    loop {
        let dir = tempfile::tempdir().unwrap();
        let (store, faults) = faulty(&dir);
        faults.stop_after(syncs);
        let mut acknowledged = Vec::new();
        let ended = work(&store, &mut acknowledged).await;
        let stopped = faults.stopped();
        // It may also stop when only the background still works.
        assert!(stopped || ended.is_ok(), "{ended:?}");
        store.close().await;
        drop(store);

        let store = open(&dir);
        let found = check(&store);
        for (name, sha) in &acknowledged {
            match (name.strip_prefix("mark "), sha) {
                (Some(name), _) => {
                    assert!(store.mark(&key(name), NOW).is_some(), "sync {syncs}: mark {name}")
                }
                (None, sha) => assert_eq!(found.get(name), sha.as_ref(), "sync {syncs}: {name}"),
            }
        }
        // What was begun can be ended, and nothing else is left behind.
        for (key, _) in store.partials().unwrap() {
            let (_, blob, chunks) = store.resume_partial(&key).await.unwrap().unwrap();
            for (index, len) in chunks {
                assert_eq!(blob.read(index).unwrap().len(), len as usize);
            }
            drop(blob);
            store.discard_partial(&key).await.unwrap();
        }
        removed_but(&store, 0).await;
        let mut sizes = BTreeMap::new();
        for sha in found.values() {
            sizes.insert(*sha, store.blob(sha).unwrap().unwrap().size);
        }
        assert_eq!(held(&store), sizes.values().sum::<u64>(), "sync {syncs}: chunks that nobody names");
        store.close().await;
        if !stopped {
            assert!(syncs > 40, "the work needs more syncs than {syncs}");
            break;
        }
        syncs += if syncs < 12 { 1 } else { 3 };
    }
}

/// Fills and removes until a volume is sparse.
async fn make_sparse(store: &Store) {
    // In front of the others, so that the file cannot be cut.
    fill(store, &key("large"), &pattern(9, 12 * CHUNK)).await.unwrap();
    for i in 0..3_u64 {
        fill(store, &key(&format!("file-{i}")), &pattern(i, CHUNK + 100)).await.unwrap();
    }
    let select = Selector { path: Some("large".into()), ..Selector::default() };
    store.remove(&select).await.unwrap();
    removed_but(store, 0).await;
}

/// Returns when the disk has stopped: what waits for it then would wait long.
async fn stop(faults: &Faults) {
    while !faults.stopped() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    tokio::time::sleep(Duration::from_millis(20)).await;
}

/// A volume is emptied and removed, and then something goes for want of room.
async fn give_space_back(store: &Store) -> Result<(), StoreError> {
    assert_eq!(store.rewrite().await?.map(|rewritten| rewritten.blobs), Some(3));
    store.rewrite().await?;
    store.prune(Some(3 << 20), Timestamp::now(), drop).await?;
    Ok(())
}

#[tokio::test]
async fn a_disk_that_stops_while_space_is_given_back_loses_nothing() {
    let mut syncs = 0;
    loop {
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let (store, faults) = faulty(&dir);
        faults.forget_holes();
        make_sparse(&store).await;
        faults.stop_after(syncs);
        let ended = tokio::select! {
            ended = give_space_back(&store) => ended,
            () = stop(&faults) => Err(StoreError::Closed),
        };
        let stopped = faults.stopped();
        assert!(stopped || ended.is_ok(), "{ended:?}");
        store.close().await;
        drop(store);

        let store = open(&dir);
        let found = check(&store);
        assert!(found.len() <= 3 && (found.len() == 3 || syncs > 8), "sync {syncs}: {found:?}");
        removed_but(&store, 0).await;
        let sizes: u64 = found.values().map(|sha| store.blob(sha).unwrap().unwrap().size).sum();
        assert_eq!(held(&store), sizes, "sync {syncs}: chunks that nobody names");
        // What was interrupted can be done now.
        while store.rewrite().await.unwrap().is_some() {}
        assert_eq!(check(&store), found, "sync {syncs}");
        store.close().await;
        if !stopped {
            assert!(syncs > 20, "the work needs more syncs than {syncs}");
            assert!(found.len() < 3, "something went for want of room: {found:?}");
            break;
        }
        syncs += if syncs < 12 { 1 } else { 2 };
    }
}

const CHILD_DIR: &str = "HUBCACHE_TEST_CRASH_DIR";

/// Not a test of its own: the process that the next test kills.
#[test]
fn child_that_is_killed() {
    let Some(dir) = std::env::var_os(CHILD_DIR) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = Store::open(Settings::new(dir), NOW).unwrap();
        let writers: Vec<_> = (0..3)
            .map(|writer| {
                let store = store.clone();
                tokio::spawn(async move {
                    for i in 0.. {
                        let name = format!("{}-{writer}-{i}", std::process::id());
                        let bytes = pattern(i, (i as usize * 77_777) % (4 * CHUNK) + 1);
                        fill(&store, &key(&name), &bytes).await.unwrap();
                        println!("done {name} {}", digest(&bytes));
                        if i % 5 == 4 {
                            let select = Selector { path: Some(name), ..Selector::default() };
                            println!("remove {}", select.path.as_ref().unwrap());
                            store.remove(&select).await.unwrap();
                        }
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.await.unwrap();
        }
    });
}

#[tokio::test]
async fn a_killed_process_loses_nothing_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut acknowledged = BTreeMap::new();
    for round in 0..6 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "store::tests::crashes::child_that_is_killed", "--nocapture"])
            .env(CHILD_DIR, &data)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut left = 5 + 9 * round;
        for line in lines.map_while(Result::ok) {
            // The first line may begin with what the test harness says.
            let words: Vec<_> =
                line.split(' ').skip_while(|w| !w.ends_with("done") && *w != "remove").collect();
            match words[..] {
                [_, name, sha] => acknowledged.insert(name.to_owned(), Sha256::parse(sha).unwrap()),
                ["remove", name] => acknowledged.remove(name),
                _ => continue,
            };
            left -= 1;
            if left == 0 {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();

        let begun = std::time::Instant::now();
        let store = Store::open(Settings::new(&data), NOW).unwrap();
        assert!(begun.elapsed() < Duration::from_secs(5), "the repair took {:?}", begun.elapsed());
        let found = check(&store);
        for (name, sha) in &acknowledged {
            assert_eq!(found.get(name), Some(sha), "round {round}: {name}");
        }
        for (key, _) in store.partials().unwrap() {
            assert!(store.resume_partial(&key).await.unwrap().is_some());
        }
        removed_but(&store, 0).await;
        store.close().await;
    }
}
