//! Faults on purpose, as `run` and `serve` are asked for them.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use super::exit::{Exit, Failure, io_failure};
use super::print;
use crate::faults::{MAX_TEXT, Rules, Tally};

/// Reads the rules of a file.
pub fn rules(path: &Path) -> Result<Rules, Failure> {
    let mut text = Vec::new();
    let most = u64::try_from(MAX_TEXT).unwrap_or(u64::MAX).saturating_add(1);
    let read = File::open(path).and_then(|file| file.take(most).read_to_end(&mut text));
    read.map_err(|error| io_failure(format_args!("{} cannot be read", path.display()), &error))?;
    let bad = |why: &dyn std::fmt::Display| Failure::new(Exit::Config, format!("{}: {why}", path.display()));
    let text = String::from_utf8(text).map_err(|_| bad(&"it is not UTF-8"))?;
    Rules::parse(&text).map_err(|why| bad(&why))
}

/// Says which rules never struck: a test that meant to meet them has met nothing.
pub fn tell(path: &Path, tally: &[Tally]) {
    for Tally { rule, fault, path: pattern, met, .. } in tally.iter().filter(|tally| tally.struck == 0) {
        let met = print::count(*met, "request");
        eprintln!(
            "hubcache: rule {rule} of {} ({fault}, {pattern}) never struck; {met} met it",
            path.display()
        );
    }
}
