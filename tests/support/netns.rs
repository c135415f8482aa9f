//! A network of a test's own, which leads nowhere.

use std::path::Path;
use std::process::Command;

use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Moves the calling thread into a network namespace of its own; threads and processes that it starts from now on are
/// there too. There is the loopback device, and a link with a default route behind which nothing is, since without any
/// Firefox takes itself to be offline. Needs root, and the program `ip`.
///
/// # Panics
/// When the system refuses.
#[allow(unsafe_code)]
pub fn enter() {
    // SAFETY: the flag makes a namespace for sockets yet to be made; no file descriptor or memory changes its owner.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.expect("root may make a network namespace");
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
#[allow(unsafe_code)]
pub fn mount(file: &Path, path: &str) {
    // SAFETY: as above; the calling thread gets a file-system state of its own, which nothing else refers to.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::FS) }
        .expect("root may make a mount namespace");
    run("mount", &["--make-rprivate", "/"]);
    run("mount", &["--bind", file.to_str().expect("a path in UTF-8"), path]);
}

fn ip(arguments: &str) {
    run("ip", &arguments.split(' ').collect::<Vec<_>>());
}

fn run(program: &str, arguments: &[&str]) {
    let done = Command::new(program).args(arguments).output().expect("the program is there");
    assert!(done.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
}
