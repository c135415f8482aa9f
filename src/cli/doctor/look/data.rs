//! The data directory and its disk.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::super::machine::{Data, Directory, Room};
use super::owner::Owner;
use crate::config::Config;
use crate::store::Look;

/// What is at the directory of `config`.
pub fn data(config: &Config, look: Result<&Look, &str>, owner: Owner) -> Data {
    let dir = &config.store.dir;
    Data {
        dir: dir.clone(),
        directory: directory(dir, look),
        uid: rustix::process::geteuid().as_raw(),
        network: look.ok().and_then(|look| look.network),
        owner,
        room: look
            .map(|look| Room { free_bytes: look.free_bytes, used_bytes: look.used_bytes })
            .map_err(str::to_owned),
        min_free_bytes: config.store.min_free_bytes,
    }
}

fn directory(dir: &Path, look: Result<&Look, &str>) -> Directory {
    match fs::metadata(dir) {
        Ok(about) if about.is_dir() => Directory::There { mode: about.mode() & 0o7777, uid: about.uid() },
        Ok(_) => Directory::Other,
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Directory::Other,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let nearest = look.map_or_else(|_| dir.to_owned(), |look| look.nearest.clone());
            let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
            let can_be_made = nearest.is_dir() && rustix::fs::access(&nearest, access).is_ok();
            Directory::Missing { nearest, can_be_made }
        }
        Err(error) => Directory::Hidden(error.to_string()),
    }
}
