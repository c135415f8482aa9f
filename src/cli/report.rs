//! The file of `--missing-report`: what was asked for and not served.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::exit::{Failure, io_failure};
use crate::admin::control::Lacking;

/// A report that is open: whether it can be written is better known before the tests than after them.
pub struct Report {
    path: PathBuf,
    file: File,
}

impl Report {
    /// Makes the file, or empties it.
    pub fn create(path: &Path) -> Result<Self, Failure> {
        match File::create(path) {
            Ok(file) => Ok(Self { path: path.to_owned(), file }),
            Err(error) => Err(unwritten(path, &error)),
        }
    }

    /// Writes a line for each: what, how often, why, and what would help; with tabs between.
    pub fn write(self, lacking: &[Lacking]) -> Result<(), Failure> {
        let mut out = io::BufWriter::new(self.file);
        let lines = lacking.iter().try_for_each(|Lacking { what, times, why, remedy }| {
            writeln!(out, "{what}\t{times}\t{why}\t{remedy}")
        });
        lines.and_then(|()| out.flush()).map_err(|error| unwritten(&self.path, &error))
    }
}

fn unwritten(path: &Path, error: &io::Error) -> Failure {
    io_failure(format_args!("{} cannot be written", path.display()), error)
}
