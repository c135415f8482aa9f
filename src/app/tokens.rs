//! The file of tokens and rules on the disk: reading it, and changing it as a whole.
//!
//! It is replaced by a rename, so that whoever reads it has all of one state. Whoever changes it holds a lock on its
//! directory meanwhile; two commands at once do not undo each other.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::policy::access::{BadBook, Book, MAX_BOOK};

/// Who may read a file that is made, and change it.
const MODE: u32 = 0o600;

/// Why the file is no use.
#[derive(Debug)]
pub enum TokensError {
    /// It cannot be read or written.
    Io(PathBuf, io::Error),
    /// Others than its owner can change it.
    Open(PathBuf, u32),
    /// It means nothing.
    Content(PathBuf, BadBook),
}

impl fmt::Display for TokensError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(path, _) => write!(f, "{} cannot be used", path.display()),
            Self::Open(path, mode) => {
                write!(f, "{} can be changed by others than its owner (its mode is {mode:o})", path.display())
            }
            Self::Content(path, _) => write!(f, "{} is no file of tokens and rules", path.display()),
        }
    }
}

impl std::error::Error for TokensError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(_, e) => Some(e),
            Self::Content(_, e) => Some(e),
            Self::Open(..) => None,
        }
    }
}

/// Reads the file: its text, and what that means.
///
/// # Errors
/// See [`TokensError`].
pub fn read(path: &Path) -> Result<(String, Book), TokensError> {
    let fail = |e| TokensError::Io(path.to_owned(), e);
    let file = File::open(path).map_err(fail)?;
    let mode = file.metadata().map_err(fail)?.mode() & 0o777;
    if mode & 0o022 != 0 {
        return Err(TokensError::Open(path.to_owned(), mode));
    }
    let mut text = String::new();
    // One byte more than it may have shows that it is too long.
    file.take(MAX_BOOK as u64 + 1).read_to_string(&mut text).map_err(fail)?;
    let book = Book::parse(&text).map_err(|bad| TokensError::Content(path.to_owned(), bad))?;
    Ok((text, book))
}

/// Puts what `change` makes of the file's text in its place; where there is no file, the text is empty. It keeps mode and
/// owner; a new one is its owner's alone.
///
/// # Errors
/// What `change` says, or that the file cannot be read, written, or would mean nothing.
pub fn change<T, E: From<TokensError>>(
    path: &Path,
    change: impl FnOnce(&str, &Book) -> Result<(String, T), E>,
) -> Result<T, E> {
    let failed = |e| TokensError::Io(path.to_owned(), e);
    // What a link leads to is replaced, and not the link.
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let parent = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let dir = File::open(parent).map_err(failed)?;
    flock(&dir, FlockOperation::LockExclusive).map_err(|e| failed(e.into()))?;
    let (text, book) = match read(path) {
        Err(TokensError::Io(_, e)) if e.kind() == io::ErrorKind::NotFound => (String::new(), Book::default()),
        read => read?,
    };
    let (text, told) = change(&text, &book)?;
    Book::parse(&text).map_err(|bad| TokensError::Content(path.clone(), bad))?;
    replace(path, &text).and_then(|()| dir.sync_all()).map_err(failed)?;
    Ok(told)
}

fn replace(path: &Path, text: &str) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(".new");
    let new = path.with_file_name(hidden);
    // One that an interrupted command has left may have another mode.
    let _ = fs::remove_file(&new);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(&new)?;
    if let Ok(before) = fs::metadata(path) {
        let made = file.metadata()?;
        if (before.uid(), before.gid()) != (made.uid(), made.gid()) {
            std::os::unix::fs::fchown(&file, Some(before.uid()), Some(before.gid()))?;
        }
        file.set_permissions(fs::Permissions::from_mode(before.mode() & 0o777))?;
    }
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: &str = "[[rule]]\ngroup = \"ml\"\nmay = [\"read\"]\n";

    fn set(path: &Path, text: &str) -> Result<(), TokensError> {
        change(path, |_, _| Ok((text.to_owned(), ())))
    }

    #[test]
    fn it_is_replaced_as_a_whole_and_keeps_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens.toml");
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        set(&path, RULE).unwrap();
        assert_eq!((mode(&path), read(&path).unwrap().1.rules.len()), (0o600, 1));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        change(&link, |text, _| Ok::<_, TokensError>((format!("{text}{RULE}"), ()))).unwrap();
        assert!(link.is_symlink() && mode(&path) == 0o640);
        assert_eq!(read(&path).unwrap().1.rules.len(), 2);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "nothing is left beside it");
    }

    #[test]
    fn what_would_mean_nothing_is_not_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens.toml");
        set(&path, RULE).unwrap();
        assert!(matches!(set(&path, "[[rule]]\n"), Err(TokensError::Content(..))));
        assert_eq!(read(&path).unwrap().0, RULE);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o620)).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("its mode is 620"));
        assert!(matches!(read(&dir.path().join("none")), Err(TokensError::Io(..))));
    }
}
