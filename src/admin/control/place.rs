//! Where the control socket is.
//!
//! It lies in the data directory, unless its path there is longer than a socket's may be; then it lies in a fresh
//! directory elsewhere. In both cases the file `control` in the data directory says where.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::SocketAddr;
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixSocket};

const POINTER: &str = "control";
const SOCKET: &str = "control.sock";
const FRESH_PREFIX: &str = "hubcache-";
const BACKLOG: u32 = 64;

/// A listening control socket; dropping it takes its files away.
#[derive(Debug)]
pub struct Bound {
    /// What listens.
    pub listener: UnixListener,
    socket: PathBuf,
    pointer: PathBuf,
}

/// Listens in the data directory `dir`, or where that is too deep, in a fresh directory in one of `elsewhere`.
///
/// Only the owner of the data directory may call this: it takes away what an earlier owner left.
///
/// # Errors
/// When no socket can be made in any of these places.
pub fn bind(dir: &Path, elsewhere: &[PathBuf]) -> io::Result<Bound> {
    let dir = std::path::absolute(dir)?;
    if let Some(old) = located(&dir)? {
        take_away(&old);
    }
    let socket = if fits(&dir.join(SOCKET)) { dir.join(SOCKET) } else { in_fresh_directory(elsewhere)? };
    // Also without a pointer to it there may be one, after a crash between the two.
    let _ = fs::remove_file(&socket);
    let unbound = UnixSocket::new_stream()?;
    unbound.bind(&socket)?;
    // Before listening, so that nobody can connect while the file has the mode of the process's mask.
    fs::set_permissions(&socket, Permissions::from_mode(0o600))?;
    let listener = unbound.listen(BACKLOG)?;
    let pointer = dir.join(POINTER);
    write_pointer(&dir, &pointer, &socket)?;
    Ok(Bound { listener, socket, pointer })
}

impl Drop for Bound {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.pointer);
        take_away(&self.socket);
    }
}

/// The socket that the data directory `dir` points to; it need not be alive.
pub fn located(dir: &Path) -> io::Result<Option<PathBuf>> {
    let text = match fs::read_to_string(dir.join(POINTER)) {
        Ok(text) => text,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    // A name without directories is one in the data directory, wherever that may be mounted.
    Ok(Some(dir.join(text.trim_end_matches('\n'))))
}

/// Whether the socket belongs to whom the data directory belongs.
///
/// A fresh directory below `/tmp` is gone after a restart of the machine, and then anybody could have made one of
/// the same name.
pub fn is_trusted(dir: &Path, socket: &Path) -> io::Result<bool> {
    Ok(fs::metadata(dir)?.uid() == fs::symlink_metadata(socket)?.uid())
}

/// Whether a socket can have this path; systems differ in how long it may be.
fn fits(path: &Path) -> bool {
    SocketAddr::from_pathname(path).is_ok()
}

fn in_fresh_directory(bases: &[PathBuf]) -> io::Result<PathBuf> {
    let mut last =
        io::Error::new(io::ErrorKind::InvalidFilename, "no directory for the control socket is short enough");
    for base in bases {
        let dir = base.join(format!("{FRESH_PREFIX}{:016x}", fastrand::u64(..)));
        let socket = dir.join(SOCKET);
        if !fits(&socket) {
            continue;
        }
        // Fails where the name is taken, so the directory is ours alone.
        match DirBuilder::new().mode(0o700).create(&dir) {
            Ok(()) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn take_away(socket: &Path) {
    let _ = fs::remove_file(socket);
    let parent = socket.parent().filter(|p| {
        p.file_name().and_then(|n| n.to_str()).is_some_and(|name| name.starts_with(FRESH_PREFIX))
    });
    if let Some(parent) = parent {
        // Removes a directory only if nothing else is in it, so a data directory of such a name is safe.
        let _ = fs::remove_dir(parent);
    }
}

fn write_pointer(dir: &Path, pointer: &Path, socket: &Path) -> io::Result<()> {
    let text = match socket.strip_prefix(dir) {
        Ok(name) => name,
        Err(_) => socket,
    };
    let text = text.to_str().ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidFilename, "the directory for the control socket is not UTF-8")
    })?;
    // By renaming, so that nobody reads half a path.
    let half = dir.join("control.new");
    fs::write(&half, format!("{text}\n"))?;
    fs::set_permissions(&half, Permissions::from_mode(0o600))?;
    fs::rename(&half, pointer)
}
