//! What survives: kill -9 in the middle of downloads, an orderly stop, a full disk, and data directories that belong
//! to somebody else.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support;
use bytes::Bytes;
use hubcache::store::CHUNK;
use support::client::{self, Ended, Incoming, Request};
use support::daemon::Daemon;
use support::hub::{File, Gate, ScriptedHub, Seen};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(20);

/// How long a start may take, with two processors that others use as well.
const QUICK: Duration = Duration::from_secs(5);

/// Four chunks: a body that has more than that many of a file's bytes proves that the first chunk is durable, because
/// a chunk leaves the window only when it is on the disk and hashed.
const WINDOW: &str = "4MiB";

fn noise(length: usize) -> Bytes {
    let mut bytes = vec![0; length];
    fastrand::Rng::with_seed(3).fill(&mut bytes);
    bytes.into()
}

fn url_of(daemon: &Daemon, name: &str) -> String {
    format!("{}/acme/tiny/resolve/main/{name}", daemon.url())
}

/// GETs that carried bytes of a file, in order of arrival.
fn fetches(hub: &ScriptedHub, name: &str) -> Vec<Seen> {
    hub.requests().into_iter().filter(|s| s.is("GET", name) && s.carried_content()).collect()
}

/// How a fill is interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    /// When the first chunk is surely durable.
    Durable,
    /// When the hub has come to the gate, whatever is on the disk by then.
    AtGate,
    /// While bytes arrive.
    Arriving,
}

#[test]
fn fifty_kills_in_mid_fill_lose_nothing_and_each_fill_goes_on_from_a_durable_chunk() {
    const ROUNDS: usize = 50;
    const SIZE: usize = 6 << 20;
    let hub = ScriptedHub::start();
    let material = noise(SIZE + ROUNDS * 4096);
    let files: Vec<File> = (0..ROUNDS)
        .map(|i| File::lfs(&format!("model-{i:02}.bin"), material.slice(i * 4096..i * 4096 + SIZE - i)))
        .collect();
    hub.hf("acme/tiny").commit(files.clone());
    let mut daemon =
        Daemon::builder().hub(&hub).set("cache.ref_ttl", "1h").set("cache.window", WINDOW).start();
    let mut random = fastrand::Rng::with_seed(17);
    let mut went_on = 0;
    for (round, file) in files.iter().enumerate() {
        let name = format!("acme/tiny/{}", file.path);
        let url = url_of(&daemon, &file.path);
        let moment = [Moment::Durable, Moment::AtGate, Moment::Arriving][round % 3];
        let at = match moment {
            Moment::Durable => random.usize(5 * CHUNK + 70_000..SIZE - 50_000),
            Moment::AtGate | Moment::Arriving => random.usize(1..SIZE - 50_000),
        };
        let gate = (moment != Moment::Arriving).then(|| hub.gate(&name, at as u64));
        let mut reading = Request::get(&url).open().expect("a head");
        match moment {
            Moment::Durable => assert!(reading.read_to(5 * CHUNK + 1).len() > 5 * CHUNK),
            Moment::AtGate => gate.as_ref().expect("there is one").reached(),
            Moment::Arriving => assert!(!reading.read_to(at.min(3 << 20)).is_empty()),
        }
        daemon.kill9();
        let cut = reading.finish();
        assert!(cut.body[..] == file.bytes[..cut.body.len()], "round {round}: what was sent is right");
        if moment != Moment::Arriving {
            assert_eq!(cut.ended, Ended::Broken, "round {round}");
        }
        drop(gate);
        hub.wait_for(PATIENCE, "the end of the cut download", |seen| {
            seen.iter().all(|s| s.end != support::hub::End::Running)
        });
        hub.clear();

        let began = Instant::now();
        daemon.restart();
        assert!(began.elapsed() < QUICK, "round {round}: {:?}\n{}", began.elapsed(), daemon.log());
        client::get(&url).assert_is(200, &file.bytes, &format!("round {round} ({moment:?})"));

        // Where nothing was fetched, all was durable but the entry.
        let size = file.bytes.len() as u64;
        let start = fetches(&hub, &name).first().map_or(size, |s| s.offset);
        let told = || format!("round {round} ({moment:?}), {}", hub.journal());
        assert!(start.is_multiple_of(CHUNK as u64) || start == size, "{}", told());
        assert!(moment != Moment::Durable || start > 0, "{}", told());
        assert_eq!(hub.body_bytes(&name), size - start, "{}", told());
        assert_eq!(hub.resent_bytes(&name), 0, "{}", told());
        went_on += usize::from(start > 0);

        // Files that were acknowledged in earlier rounds.
        for earlier in [0, round / 2, round] {
            let earlier = &files[earlier];
            let before = hub.requests().len();
            let reply = client::get(&url_of(&daemon, &earlier.path));
            reply.assert_is(200, &earlier.bytes, &format!("round {round}, {}", earlier.path));
            assert_eq!(hub.requests().len(), before, "{}", told());
        }
    }
    assert!(went_on >= ROUNDS / 3, "{went_on} of {ROUNDS} fills went on");
    hub.stop();
    for file in &files {
        client::get(&url_of(&daemon, &file.path)).assert_is(200, &file.bytes, &file.path);
    }
    let verify = daemon.command(&["verify", "--json"]);
    assert!(verify.status.success(), "{}", String::from_utf8_lossy(&verify.stdout));
    let verified: serde_json::Value = serde_json::from_slice(&verify.stdout).unwrap();
    assert_eq!(verified["files"], ROUNDS);
}

/// A download whose first chunk is durable, held by the hub.
fn held_in_the_middle(hub: &ScriptedHub, daemon: &Daemon, file: &File) -> (Incoming, Gate) {
    let gate = hub.gate(&file.path, 11 * CHUNK as u64 / 2);
    let mut reading = Request::get(&url_of(daemon, &file.path)).open().expect("a head");
    assert!(reading.read_to(5 * CHUNK + 1).len() > 5 * CHUNK);
    (reading, gate)
}

/// A hub with one file of seven chunks and a bit, and the program before it.
fn one_file(drain: &str) -> (ScriptedHub, Daemon, File) {
    let hub = ScriptedHub::start();
    let file = File::lfs("model.bin", noise(7 * CHUNK + 1234));
    hub.hf("acme/tiny").commit([file.clone()]);
    let builder = Daemon::builder().hub(&hub).set("cache.ref_ttl", "1h").set("cache.window", WINDOW);
    let daemon = builder.set("listen.drain", drain).start();
    (hub, daemon, file)
}

#[test]
fn a_stop_in_mid_fill_exits_0_and_the_next_start_goes_on_by_itself() {
    let (hub, mut daemon, file) = one_file("100ms");
    let (reading, gate) = held_in_the_middle(&hub, &daemon, &file);
    assert_eq!(daemon.terminate().code(), Some(0), "{}", daemon.log());
    assert_eq!(reading.finish().ended, Ended::Broken, "no clean end before the verdict");
    drop(gate);
    hub.clear();
    daemon.restart();
    // Nobody asks.
    daemon.wait_for_log("file stored");
    let fetched = fetches(&hub, "model.bin");
    assert_eq!(fetched.len(), 1, "{}", hub.journal());
    assert!(fetched[0].offset > 0 && fetched[0].offset.is_multiple_of(CHUNK as u64), "{}", hub.journal());
    assert_eq!(fetched[0].range, Some(format!("bytes={}-", fetched[0].offset)));
    hub.clear();
    client::get(&url_of(&daemon, "model.bin")).assert_is(200, &file.bytes, "from the store");
    assert!(hub.requests().is_empty(), "{}", hub.journal());
}

#[test]
fn a_stop_lets_responses_end_within_the_time_to_drain() {
    let (hub, mut daemon, file) = one_file("30s");
    let (reading, gate) = held_in_the_middle(&hub, &daemon, &file);
    daemon.signal(rustix::process::Signal::TERM);
    daemon.wait_for_log("stop");
    gate.release();
    let reply = reading.finish();
    reply.assert_is(200, &file.bytes, "while it drains");
    assert_eq!(daemon.wait().code(), Some(0));
}

#[test]
fn a_fill_that_was_cut_twice_fetches_no_byte_twice_but_of_the_unfinished_chunk() {
    let (hub, mut daemon, file) = one_file("100ms");
    let (_reading, gate) = held_in_the_middle(&hub, &daemon, &file);
    daemon.kill9();
    drop(gate);
    let first: u64 = fetches(&hub, "model.bin").iter().map(|s| s.body_sent).sum();
    hub.clear();
    // Within the last chunk but one: what came before the crash is on disk or not, what comes now ends early again.
    let gate = hub.gate("model.bin", 6 * CHUNK as u64 + 500);
    daemon.restart();
    gate.reached();
    daemon.kill9();
    drop(gate);
    hub.clear();
    daemon.restart();
    client::get(&url_of(&daemon, "model.bin")).assert_is(200, &file.bytes, "at last");
    let last = fetches(&hub, "model.bin");
    assert!(last.iter().all(|s| s.offset >= CHUNK as u64), "{first} sent first\n{}", hub.journal());
    assert_eq!(hub.resent_bytes("model.bin"), 0);
}

#[test]
fn a_fill_that_lacks_only_its_verdict_is_judged_at_the_next_start_or_fetched_to_its_end() {
    let (hub, mut daemon, file) = one_file("100ms");
    let mut reading = Request::get(&url_of(&daemon, "model.bin")).open().expect("a head");
    // All but the last byte can be here only when all have arrived; the verdict may be under way.
    reading.read_to(file.bytes.len() - 300);
    daemon.kill9();
    let cut = reading.finish();
    assert!(cut.body[..] == file.bytes[..cut.body.len()]);
    let acknowledged = cut.is_whole();
    hub.clear();
    daemon.restart();
    client::get(&url_of(&daemon, "model.bin")).assert_is(200, &file.bytes, "after the crash");
    let again = hub.body_bytes("model.bin");
    assert!(again < file.bytes.len() as u64, "{}", hub.journal());
    assert!(!acknowledged || again == 0, "{}", hub.journal());
}

#[test]
fn a_file_that_changed_while_nobody_ran_is_begun_anew() {
    let hub = ScriptedHub::start();
    let (old, new) = (noise(7 * CHUNK), noise(8 * CHUNK).slice(CHUNK..));
    hub.moz("acme/tiny", "main", "model.bin", old.clone());
    let builder = Daemon::builder().hub(&hub).set("cache.window", WINDOW);
    let mut daemon = builder.set("cache.delivery_mozilla", "stream").start();
    let url = format!("{}/acme/tiny/main/model.bin", daemon.url());
    let gate = hub.gate("model.bin", 6 * CHUNK as u64);
    let mut reading = Request::get(&url).open().unwrap();
    assert!(reading.read_to(5 * CHUNK + 1).len() > 5 * CHUNK);
    daemon.kill9();
    drop(gate);
    hub.moz("acme/tiny", "main", "model.bin", new.clone());
    daemon.restart();
    client::get(&url).assert_is(200, &new, "the new file");
    let ls = daemon.command(&["ls", "--json"]);
    let listed: serde_json::Value = serde_json::from_slice(&ls.stdout).unwrap();
    assert_eq!(listed.as_array().map(Vec::len), Some(1));
}

#[test]
fn a_second_owner_is_refused_with_the_pid_of_the_first_which_goes_on() {
    let (hub, daemon, file) = one_file("100ms");
    let (reading, gate) = held_in_the_middle(&hub, &daemon, &file);
    let second = Daemon::builder().hub(&hub).data(daemon.data()).try_start();
    let Err((status, said)) = second else { panic!("a second owner started") };
    assert_eq!(status.and_then(|s| s.code()), Some(75), "{said}");
    assert!(said.contains(&format!("process {}", daemon.pid())) && said.contains("--data"), "{said}");
    gate.release();
    reading.finish().assert_is(200, &file.bytes, "undisturbed");
}

#[test]
fn a_directory_of_an_unknown_layout_is_refused_and_left_alone() {
    let (_hub, mut daemon, file) = one_file("100ms");
    client::get(&url_of(&daemon, "model.bin")).assert_is(200, &file.bytes, "cold");
    assert!(daemon.terminate().success());
    let index = daemon.data().join("index.redb");
    set_layout(&index, 2);
    let before = fs::read(&index).unwrap();
    let refused = Daemon::builder().data(daemon.data()).try_start();
    let Err((status, said)) = refused else { panic!("it started") };
    assert_eq!(status.and_then(|s| s.code()), Some(78), "{said}");
    assert!(said.contains("layout 2") && said.contains("another directory"), "{said}");
    for command in [&["ls"][..], &["verify"], &["rm", "--all"]] {
        let output = daemon.command(command);
        assert_eq!(output.status.code(), Some(78), "{command:?}");
    }
    assert!(fs::read(&index).unwrap() == before, "not a byte was changed");
    set_layout(&index, 1);
    daemon.restart();
    client::get(&url_of(&daemon, "model.bin")).assert_is(200, &file.bytes, "nothing is lost");
}

fn set_layout(index: &Path, layout: u64) {
    const META: redb::TableDefinition<'_, &str, u64> = redb::TableDefinition::new("meta");
    let database = redb::Database::open(index).unwrap();
    let transaction = database.begin_write().unwrap();
    let before = transaction.open_table(META).unwrap().insert("layout", layout).unwrap().map(|v| v.value());
    assert!(before.is_some(), "the index names its layout");
    transaction.commit().unwrap();
}

/// What is asked of a server without room, and after there is room again. `held` is held from before.
fn assert_lives_without_room(hub: &ScriptedHub, daemon: &Daemon, held: &File, wanted: &File) {
    let url = url_of(daemon, &wanted.path);
    let firefox = "Mozilla/5.0 (X11; Linux x86_64; rv:153.0) Gecko/20100101 Firefox/153.0";
    for reply in client::at_once(3, |_| client::get(&url)) {
        reply.assert_is(200, &wanted.bytes, "streamed without being kept");
        let status = reply.header("cache-status").unwrap_or_default();
        assert!(!status.contains("hit"), "{status}");
    }
    let verified = Request::get(&url).header("User-Agent", firefox).send();
    assert_eq!(verified.status, 507, "{}", verified.text());
    assert_eq!(verified.header("cache-status"), Some("hubcache; detail=no-space"));
    client::get_range(&url, "10-19").assert_is(206, &wanted.bytes[10..20], "a part");
    // A wrong byte is as wrong as ever: no clean end.
    hub.fault(support::hub::Fault::on(&wanted.path, support::hub::What::WrongByteAt(100)).always());
    let reply = client::get(&url);
    assert!(!reply.is_whole() || reply.status != 200, "{}", reply.status);
    hub.behave();
    hub.stop();
    client::get(&url_of(daemon, &held.path)).assert_is(200, &held.bytes, "what is held is served");
    hub.restart();
}

/// Asserts that both files are there for good.
fn assert_works_again(hub: &ScriptedHub, daemon: &mut Daemon, files: &[&File]) {
    for file in files {
        // The mark of the wrong byte is no obstacle for whole files.
        client::get(&url_of(daemon, &file.path)).assert_is(200, &file.bytes, &file.path);
    }
    hub.stop();
    daemon.restart();
    for file in files {
        client::get(&url_of(daemon, &file.path)).assert_is(200, &file.bytes, &file.path);
    }
    let verify = daemon.command(&["verify"]);
    assert!(verify.status.success(), "{}", String::from_utf8_lossy(&verify.stdout));
}

/// A hub with a file to be held before the disk is full, and one that is wanted after.
fn two_files(size: usize) -> (ScriptedHub, File, File) {
    let hub = ScriptedHub::start();
    let material = noise(size + 4096);
    let held = File::lfs("held.bin", material.slice(..2_000_000));
    let wanted = File::lfs("wanted.bin", material.slice(4096..));
    hub.hf("acme/tiny").commit([held.clone(), wanted.clone()]);
    (hub, held, wanted)
}

#[test]
fn below_the_floor_of_free_space_files_are_passed_on_and_kept_again_when_there_is_room() {
    let (hub, held, wanted) = two_files(5_000_000);
    let builder = Daemon::builder().hub(&hub).set("cache.ref_ttl", "1h").set("cache.window", WINDOW);
    let mut daemon = builder.start();
    client::get(&url_of(&daemon, "held.bin")).assert_is(200, &held.bytes, "with room");
    daemon.restart_with(&[("store.min_free", "1000TiB")]);
    assert_lives_without_room(&hub, &daemon, &held, &wanted);
    let ready = client::get(&format!("{}/readyz", daemon.admin_url()));
    assert_eq!(ready.status, 503, "{}", ready.text());
    daemon.restart_with(&[("store.min_free", "0B")]);
    assert_works_again(&hub, &mut daemon, &[&held, &wanted]);
}

/// A small file system of its own, where the machine lets us mount one.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount(size: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let options = format!("size={size},mode=0700");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "hubcache-test"]).arg(dir.path());
        mount.output().ok().filter(|o| o.status.success()).map(|_| Self(dir))
    }

    /// Takes all the room there is.
    fn fill(&self) {
        let mut filler = fs::File::create(self.0.path().join("filler")).unwrap();
        let mut piece = vec![1; 1 << 20];
        // Others write at the same time, so the end is known only when it comes.
        while !piece.is_empty() {
            match filler.write(&piece) {
                Ok(_) => {}
                Err(full) if full.kind() == ErrorKind::StorageFull => piece.truncate(piece.len() / 2),
                Err(other) => panic!("{other}"),
            }
        }
    }

    fn empty(&self) {
        fs::remove_file(self.0.path().join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the program under test may hold files open still.
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).output();
    }
}

#[test]
fn on_a_full_disk_files_are_passed_on_and_kept_again_when_there_is_room() {
    let (hub, held, wanted) = two_files(9_000_000);
    let builder = Daemon::builder().hub(&hub).set("cache.ref_ttl", "1h").set("cache.window", WINDOW);
    let Some(disk) = SmallDisk::mount("64m") else {
        // Only root may mount. The floor of free space acts as a full disk, and is refused mid-way here too.
        let mut daemon = builder.set("store.min_free", "1000TiB").start();
        assert_eq!(client::get(&url_of(&daemon, "wanted.bin")).body, wanted.bytes);
        daemon.restart_with(&[("store.min_free", "0B")]);
        return assert_works_again(&hub, &mut daemon, &[&held, &wanted]);
    };
    let mut daemon = builder.data(&disk.0.path().join("data")).set("store.min_free", "0B").start();
    client::get(&url_of(&daemon, "held.bin")).assert_is(200, &held.bytes, "with room");
    disk.fill();
    assert_lives_without_room(&hub, &daemon, &held, &wanted);
    disk.empty();
    assert_works_again(&hub, &mut daemon, &[&held, &wanted]);
    // The directory's lock goes before its file system does.
    assert!(daemon.terminate().success());
}

#[test]
fn a_disk_that_fills_up_in_mid_fill_loses_nothing() {
    let (hub, held, wanted) = two_files(9_000_000);
    let builder = Daemon::builder().hub(&hub).set("cache.ref_ttl", "1h").set("cache.window", WINDOW);
    let Some(disk) = SmallDisk::mount("64m") else {
        // Without a disk of its own nothing can fill up; the floor is crossed between two starts instead.
        let mut daemon = builder.start();
        let gate = hub.gate("wanted.bin", 11 * CHUNK as u64 / 2);
        let mut reading = Request::get(&url_of(&daemon, "wanted.bin")).open().unwrap();
        assert!(reading.read_to(5 * CHUNK + 1).len() > 5 * CHUNK);
        drop(gate);
        daemon.restart_with(&[("store.min_free", "1000TiB")]);
        client::get(&url_of(&daemon, "wanted.bin")).assert_is(200, &wanted.bytes, "without room");
        daemon.restart_with(&[("store.min_free", "0B")]);
        return assert_works_again(&hub, &mut daemon, &[&held, &wanted]);
    };
    let mut daemon = builder.data(&disk.0.path().join("data")).set("store.min_free", "0B").start();
    client::get(&url_of(&daemon, "held.bin")).assert_is(200, &held.bytes, "with room");
    let gate = hub.gate("wanted.bin", 11 * CHUNK as u64 / 2);
    let mut reading = Request::get(&url_of(&daemon, "wanted.bin")).open().unwrap();
    assert!(reading.read_to(5 * CHUNK + 1).len() > 5 * CHUNK);
    disk.fill();
    gate.release();
    // The rest finds room in pages that were taken before, or is passed on: exact either way.
    reading.finish().assert_is(200, &wanted.bytes, "begun with room, ended without");
    client::get(&url_of(&daemon, "held.bin")).assert_is(200, &held.bytes, "what is held");
    daemon.kill9();
    disk.empty();
    daemon.restart();
    assert_works_again(&hub, &mut daemon, &[&held, &wanted]);
    assert!(daemon.terminate().success());
}
