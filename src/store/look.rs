//! What can be told of a data directory without opening the store in it: nothing is written, and nobody is kept out.

use std::io;
use std::path::{Path, PathBuf};

use super::disk::{free, network_file_system, used};
use super::lock::holder;

/// What a data directory is like from outside.
#[derive(Debug)]
pub struct Look {
    /// The directory, or if it is not there the nearest one above it that is.
    pub nearest: PathBuf,
    /// The network file system on which it lies, if it does.
    pub network: Option<&'static str>,
    /// Bytes that this user may still take on its disk.
    pub free_bytes: u64,
    /// Bytes on disk of what is in it; not known where that cannot be looked at.
    pub used_bytes: Option<u64>,
    /// Who has it open; `Some(None)` is a process that has not told its id.
    pub held_by: io::Result<Option<Option<u32>>>,
}

impl Look {
    /// Looks at `dir`, which need not exist.
    ///
    /// # Errors
    /// When the system does not tell of the disk.
    pub fn at(dir: &Path) -> io::Result<Self> {
        let named = |dir: &Path| if dir.as_os_str().is_empty() { PathBuf::from(".") } else { dir.to_owned() };
        let nearest =
            dir.ancestors().map(named).find(|dir| dir.exists()).unwrap_or_else(|| named(Path::new("/")));
        Ok(Self {
            network: network_file_system(dir)?,
            free_bytes: free(&nearest)?,
            used_bytes: used(dir).ok(),
            held_by: holder(dir),
            nearest,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;
    use crate::store::{Settings, Store};

    #[tokio::test]
    async fn a_look_tells_who_has_the_directory_and_leaves_it_as_it_is() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path().join("a/data");
        let absent = Look::at(&dir).unwrap();
        assert_eq!((absent.nearest.as_path(), absent.used_bytes), (scratch.path(), None));
        assert!(!scratch.path().join("a").exists() && matches!(absent.held_by, Ok(None)));
        let store = Store::open(Settings::new(&dir), Timestamp::now()).unwrap();
        let held = Look::at(&dir).unwrap();
        assert!(matches!(held.held_by, Ok(Some(Some(pid))) if pid == std::process::id()), "{held:?}");
        assert!(held.used_bytes > Some(0) && held.free_bytes > 0, "{held:?}");
        store.close().await;
        assert!(matches!(Look::at(&dir).unwrap().held_by, Ok(None)));
    }
}
