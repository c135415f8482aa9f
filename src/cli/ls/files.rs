//! One line for each file, below its model and revision.

use super::super::holdings::{Holdings, revision_of};
use super::super::print::{self, Table};
use super::short;
use crate::model::{EntryKey, Timestamp};

/// Digits of a digest that tell files apart.
const DIGITS: usize = 12;

/// The lines.
pub fn table(held: &Holdings, now: Timestamp) -> Table {
    let mut table = Table::new(&["PATH", "SIZE", "SHA-256", "STANDING", "LAST USE"], &[1]);
    let mut above: Option<EntryKey> = None;
    for row in &held.files {
        let revision = revision_of(&row.key);
        if above.as_ref() != Some(&revision) {
            table.heading(heading(held, &revision));
            above = Some(revision);
        }
        table.row(vec![
            format!("  {}", row.key.path),
            print::size(row.entry.size),
            row.entry.blob.to_string()[..DIGITS].to_owned(),
            row.entry.standing.as_str().to_owned(),
            print::ago(row.last_used, now),
        ]);
    }
    table
}

fn heading(held: &Holdings, key: &EntryKey) -> String {
    let EntryKey { hub, root, repo, revision, .. } = key;
    let mut text = format!("{hub}:{repo}@{}", short(revision));
    if !held.names(key).is_empty() {
        text.push_str(&format!(" ({})", held.names(key).join(", ")));
    }
    if root.as_str() != hub.default_root() {
        text.push_str(&format!(" from {root}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::tests::{COMMIT, reference, row};
    use crate::model::Standing;

    #[test]
    fn a_line_is_a_file_below_its_revision() {
        let files = [
            ("acme/tiny", COMMIT, "config.json", Standing::Verified),
            ("acme/tiny", COMMIT, "onnx/model.onnx", Standing::Recorded),
            ("acme/tiny", "v1", "a", Standing::Verified),
        ];
        let files: Vec<_> = files.map(|(repo, at, path, standing)| row(repo, at, path, standing)).into();
        let held = Holdings::of(files, vec![reference("acme/tiny", "main")]);
        let mut out = Vec::new();
        table(&held, Timestamp(3_600_000)).write(&mut out).unwrap();
        let want = "\
PATH                  SIZE  SHA-256       STANDING  LAST USE
huggingface:acme/tiny@8fa5a4e2f9ec (main)
  config.json      1.0 KiB  070707070707  verified  1 h ago
  onnx/model.onnx  1.0 KiB  070707070707  recorded  1 h ago
huggingface:acme/tiny@v1
  a                1.0 KiB  070707070707  verified  1 h ago
";
        assert_eq!(String::from_utf8(out).unwrap(), want);
    }
}
