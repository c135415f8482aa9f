//! A network of a test's own, which leads nowhere.

use std::ffi::c_int;
use std::io;
use std::path::Path;
use std::process::Command;

// From `linux/sched.h`.
const CLONE_FS: c_int = 0x0200;
const CLONE_NEWNS: c_int = 0x0002_0000;
const CLONE_NEWNET: c_int = 0x4000_0000;

/// Moves the calling thread into a network namespace of its own; threads and processes that it starts from now on are
/// there too. There is the loopback device, and a link with a default route behind which nothing is, since without any
/// Firefox takes itself to be offline. Needs root, and the program `ip`.
///
/// # Panics
/// When the system refuses.
pub fn enter() {
    unshare(CLONE_NEWNET);
    ip("link set lo up");
    ip("link add hub0 type veth peer name hub1");
    ip("addr add 192.0.2.1/24 dev hub0");
    ip("link set hub0 up");
    ip("link set hub1 up");
    ip("route add default via 192.0.2.2");
}

/// Gives this machine another address.
pub fn add_address(address: &str) {
    ip(&format!("addr add {address} dev lo"));
}

/// Lets `file` stand in for `path`, for the calling thread and what it starts.
///
/// # Panics
/// When the system refuses.
pub fn mount(file: &Path, path: &str) {
    own_mounts();
    run("mount", &["--bind", file.to_str().expect("a path in UTF-8"), path]);
}

/// Lets the calling thread, and what it starts, mount what nobody else sees. It is gone with the last of them.
///
/// # Panics
/// When the system refuses.
pub fn own_mounts() {
    unshare(CLONE_NEWNS | CLONE_FS);
    run("mount", &["--make-rprivate", "/"]);
}

/// Gives the calling thread namespaces of its own.
// rustix offers the call, but with it a way of reading the auxiliary vector that does not work under valgrind, where the
// hit path is counted.
#[allow(unsafe_code)]
fn unshare(flags: c_int) {
    unsafe extern "C" {
        fn unshare(flags: c_int) -> c_int;
    }
    // SAFETY: the call takes no pointers. Sockets and files that are open stay what they are; only the names that the
    // calling thread looks up from now on are others.
    let done = unsafe { unshare(flags) };
    assert_eq!(done, 0, "root may make namespaces: {}", io::Error::last_os_error());
}

fn ip(arguments: &str) {
    run("ip", &arguments.split(' ').collect::<Vec<_>>());
}

/// Runs a program of the system.
///
/// # Panics
/// When it fails.
pub fn run(program: &str, arguments: &[&str]) {
    let done = Command::new(program).args(arguments).output().expect("the program is there");
    assert!(done.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
}
