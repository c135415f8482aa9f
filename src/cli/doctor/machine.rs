//! Judgement of this machine: the settings, the data directory, the disk, the clock. Pure.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::check::Check;
use super::look::owner::Owner;
use crate::cli::print;
use crate::model::{Timestamp, lasting};

const SETTINGS: &str = "settings";
const DATA: &str = "data-directory";
const DISK: &str = "disk";
const CLOCK: &str = "clock";

/// Room above the floor below which the next model may not fit.
const LITTLE: u64 = 1 << 30;
/// By how much clocks may differ before certificates and signatures are judged by the wrong time.
const CLOCK_WARNS: Duration = Duration::from_secs(60);
const CLOCK_FAILS: Duration = Duration::from_secs(300);

/// Settings that were read.
#[derive(Debug)]
pub struct Read {
    /// How many files they came from.
    pub files: u64,
    /// Whether this server is its own parent proxy, and if so whether a setting says that, and not the environment.
    pub own_parent: Option<bool>,
}

/// Whether the settings are right: `Err` has all that is wrong with them, a line for each behind the first.
pub fn settings(read: Result<&Read, &str>) -> Check {
    let read = match read {
        Ok(read) => read,
        Err(wrong) => {
            let found = wrong.lines().map(str::trim).collect::<Vec<_>>().join("; ");
            let fix = "correct them there; `hubcache config check` lists what is wrong, with file and line";
            return Check::fails(SETTINGS, found, fix);
        }
    };
    let good = Check::good(SETTINGS, format!("they are right ({})", print::count(read.files, "file")));
    match read.own_parent {
        None => good,
        Some(true) => good.and(Check::fails(
            SETTINGS,
            "upstream.proxy names this server itself",
            "name another proxy in upstream.proxy, or none: --upstream-proxy none",
        )),
        Some(false) => good.and(Check::warns(
            SETTINGS,
            "HTTPS_PROXY names this server itself, which is for clients: a server that is started from here would take it \
             for its parent proxy, and not start",
            "start the server without that variable, or with --upstream-proxy none",
        )),
    }
}

/// What a directory is.
#[derive(Debug)]
pub enum Directory {
    /// Not there.
    Missing {
        /// The nearest one above it that is.
        nearest: PathBuf,
        /// Whether this user can make it there.
        can_be_made: bool,
    },
    /// A file or something else.
    Other,
    /// There.
    There {
        /// Its permissions.
        mode: u32,
        /// To whom it belongs.
        uid: u32,
    },
    /// It cannot be looked at.
    Hidden(String),
}

/// The data directory and what is around it.
#[derive(Debug)]
pub struct Data {
    /// Where it is.
    pub dir: PathBuf,
    /// What is there.
    pub directory: Directory,
    /// Who looks.
    pub uid: u32,
    /// The network file system on which it lies, if it does.
    pub network: Option<&'static str>,
    /// Who has it open.
    pub owner: Owner,
    /// The room on its disk, or why that is not known.
    pub room: Result<Room, String>,
    /// Free space below which nothing is stored.
    pub min_free_bytes: u64,
}

/// The room on a disk.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Bytes that are free.
    pub free_bytes: u64,
    /// Bytes that the data directory takes.
    pub used_bytes: Option<u64>,
}

/// Whether a server can have its data there.
pub fn data(data: &Data) -> Check {
    let dir = data.dir.display();
    if let Some(kind) = data.network {
        let found = format!(
            "{dir} lies on a network file system ({kind}), where locks and syncs cannot be relied on"
        );
        return Check::fails(DATA, found, "give a directory on a local disk: --data DIR (store.dir)");
    }
    match &data.directory {
        Directory::Missing { can_be_made: true, .. } => {
            Check::good(DATA, format!("{dir} is not there yet, and can be made"))
        }
        Directory::Missing { nearest, can_be_made: false } => Check::fails(
            DATA,
            format!(
                "{dir} is not there, and this user (uid {}) cannot make it in {}",
                data.uid,
                nearest.display()
            ),
            "give a directory that this user can write to: --data DIR (store.dir)",
        ),
        Directory::Other => Check::fails(
            DATA,
            format!("{dir} is not a directory"),
            "move it away, or give another directory: --data DIR (store.dir)",
        ),
        Directory::Hidden(why) => Check::fails(
            DATA,
            format!("{dir} cannot be looked at: {why}"),
            "run this as the user of the server, or give another directory: --data DIR (store.dir)",
        ),
        Directory::There { mode, uid } => there(data, &data.dir, *mode, *uid),
    }
}

fn there(data: &Data, dir: &Path, mode: u32, uid: u32) -> Check {
    let shown = dir.display();
    let mut check = owned(&data.owner, dir);
    if uid != data.uid && data.uid != 0 {
        check = check.and(Check::warns(
            DATA,
            format!("it belongs to uid {uid}, and this is uid {}", data.uid),
            format!("run this as that user: sudo -u '#{uid}' hubcache doctor --data {shown}"),
        ));
    }
    if mode & 0o077 != 0 {
        check = check.and(Check::warns(
            DATA,
            format!("others than its owner can look into it (its mode is {mode:04o})"),
            format!("chmod 700 {shown}"),
        ));
    }
    check
}

fn owned(owner: &Owner, dir: &Path) -> Check {
    let shown = dir.display();
    match owner {
        Owner::Server(status) => {
            Check::good(DATA, format!("{shown} is open in the server that runs (pid {})", status.pid))
        }
        Owner::Other => Check::good(DATA, format!("{shown} is open in a process that commands have started")),
        Owner::Nobody => Check::good(DATA, format!("nobody has {shown} open")),
        Owner::Stale => Check::warns(
            DATA,
            format!("the server of {shown} has left without closing it: it was killed, or it crashed"),
            "see its log for why; `hubcache serve` goes on with what is there",
        ),
        Owner::Silent(pid) => {
            let who = pid.map_or_else(|| "a process".to_owned(), |pid| format!("process {pid}"));
            Check::warns(
                DATA,
                format!("{shown} is open in {who}, which does not answer"),
                "a command that is at work ends by itself; stop anything else, or give another directory with --data DIR",
            )
        }
        Owner::Unreachable(why) => Check::warns(
            DATA,
            why.clone(),
            format!("run this as the user of that process, who is told by: ls -ld {shown}"),
        ),
    }
}

/// Whether more can be stored.
pub fn disk(data: &Data) -> Check {
    let room = match &data.room {
        Ok(room) => room,
        Err(why) => return Check::skipped(DISK, format!("the room on it is not known: {why}")),
    };
    let (free, floor) = (print::size(room.free_bytes), print::size(data.min_free_bytes));
    let used = room.used_bytes.map(|used| format!(", {} used here", print::size(used))).unwrap_or_default();
    let found = format!("{free} free{used}; store.min_free keeps {floor} of it free");
    let fix = "make room: `hubcache ls` shows what is held and `hubcache rm TARGET` removes it; or lower store.min_free";
    match room.free_bytes.checked_sub(data.min_free_bytes) {
        None => Check::fails(DISK, format!("{found}, so nothing more is stored"), fix),
        Some(left) if left < LITTLE => {
            Check::warns(DISK, format!("{found}, so only {} more can be stored", print::size(left)), fix)
        }
        Some(_) => Check::good(DISK, found),
    }
}

/// What somebody else said that the time is.
#[derive(Clone, Debug)]
pub struct Told {
    /// Who.
    pub by: String,
    /// The time, to the second.
    pub time: Timestamp,
    /// This machine's time then.
    pub here: Timestamp,
}

/// Whether the clock is right. One who agrees is enough: a wrong clock agrees with nobody.
pub fn clock(told: &[Told]) -> Check {
    let off = |told: &Told| told.time.0.abs_diff(told.here.0);
    let Some(nearest) = told.iter().min_by_key(|told| off(told)) else {
        return Check::skipped(CLOCK, "no hub answered that could tell the time");
    };
    // A date says whole seconds.
    let off = Duration::from_secs(off(nearest) / 1000);
    let way = if nearest.here > nearest.time { "ahead of" } else { "behind" };
    let found = format!("it is {} {way} that of {}", lasting(off), nearest.by);
    let fix = "set it: timedatectl set-ntp true. Certificates and the signatures of Remote Settings are judged by it";
    match off {
        off if off > CLOCK_FAILS => Check::fails(CLOCK, found, fix),
        off if off > CLOCK_WARNS => Check::warns(CLOCK, found, fix),
        _ => Check::good(CLOCK, format!("it agrees with that of {}", nearest.by)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::check::Verdict::{self, Fails, Good, Skipped, Warns};

    fn at(directory: Directory, owner: Owner) -> Data {
        Data {
            dir: "/srv/data".into(),
            directory,
            uid: 1000,
            network: None,
            owner,
            room: Ok(Room { free_bytes: 10 << 30, used_bytes: Some(1 << 20) }),
            min_free_bytes: 64 << 20,
        }
    }

    fn there(mode: u32, uid: u32) -> Directory {
        Directory::There { mode, uid }
    }

    #[track_caller]
    fn assert_is(check: &Check, verdict: Verdict, has: &str) {
        let all = format!("{}\n{}", check.found, check.fix.clone().unwrap_or_default());
        assert!(check.verdict == verdict && all.contains(has), "{check:#?}");
        assert_eq!(check.fix.is_some(), verdict > Good, "{check:#?}");
    }

    #[test]
    fn a_data_directory_is_private_local_and_reachable() {
        let missing = |can_be_made| Directory::Missing { nearest: "/srv".into(), can_be_made };
        for (directory, owner, verdict, has) in [
            (missing(true), Owner::Nobody, Good, "can be made"),
            (missing(false), Owner::Nobody, Fails, "uid 1000) cannot make it in /srv"),
            (Directory::Other, Owner::Nobody, Fails, "not a directory"),
            (Directory::Hidden("no".into()), Owner::Nobody, Fails, "as the user of the server"),
            (there(0o700, 1000), Owner::Nobody, Good, "nobody"),
            (there(0o700, 1000), Owner::Other, Good, "commands have started"),
            (there(0o700, 1000), Owner::Stale, Warns, "`hubcache serve`"),
            (there(0o700, 1000), Owner::Silent(Some(7)), Warns, "process 7"),
            (there(0o700, 1000), Owner::Unreachable("whose?".into()), Warns, "whose?"),
            (there(0o755, 1000), Owner::Nobody, Warns, "chmod 700 /srv/data"),
            (there(0o700, 998), Owner::Nobody, Warns, "sudo -u '#998'"),
        ] {
            assert_is(&data(&at(directory, owner)), verdict, has);
        }
        let network = Data { network: Some("NFS"), ..at(there(0o700, 1000), Owner::Nobody) };
        assert_is(&data(&network), Fails, "--data DIR");
    }

    #[test]
    fn the_floor_of_the_disk_is_what_counts() {
        for (free, floor, verdict) in
            [(10 << 30, 64 << 20, Good), (2 << 30, 3 << 29, Warns), (1 << 20, 64 << 20, Fails), (0, 0, Warns)]
        {
            let room = Ok(Room { free_bytes: free, used_bytes: None });
            let data = Data { room, min_free_bytes: floor, ..at(there(0o700, 1000), Owner::Nobody) };
            assert_is(&disk(&data), verdict, "store.min_free");
        }
        let unknown = Data { room: Err("why".into()), ..at(there(0o700, 1000), Owner::Nobody) };
        assert_is(&disk(&unknown), Skipped, "why");
    }

    #[test]
    fn one_who_agrees_is_enough_for_the_clock() {
        let told = |off_seconds: i64| Told {
            by: "a".into(),
            time: Timestamp(1_000_000_000_000),
            here: Timestamp(1_000_000_000_999_u64.saturating_add_signed(off_seconds * 1000)),
        };
        for (offs, verdict, has) in [
            (&[][..], Skipped, "no hub"),
            (&[0], Good, "agrees"),
            (&[-59], Good, "agrees"),
            (&[60], Good, "agrees"),
            (&[61], Warns, "ahead of"),
            (&[-90], Warns, "behind"),
            (&[300], Warns, "5 min"),
            (&[-400], Fails, "timedatectl"),
            (&[90_000, 0], Good, "agrees"),
        ] {
            let all: Vec<_> = offs.iter().map(|off| told(*off)).collect();
            assert_is(&clock(&all), verdict, has);
        }
    }

    #[test]
    fn settings_that_are_wrong_are_all_told() {
        let read = |own_parent| Read { files: 1, own_parent };
        assert_is(&settings(Ok(&read(None))), Good, "(1 file)");
        assert_is(&settings(Ok(&read(Some(false)))), Warns, "HTTPS_PROXY");
        assert_is(&settings(Ok(&read(Some(true)))), Fails, "upstream.proxy");
        assert_is(&settings(Err("2 mistakes\n  a: x\n  b: y")), Fails, "2 mistakes; a: x; b: y");
    }
}
