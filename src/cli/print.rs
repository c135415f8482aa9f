//! How things look: columns and units for people, JSON for scripts.

use std::io::{self, IsTerminal, Write};

use serde_json::{Value, json};

use crate::admin::control::{Progress, Row};
use crate::model::{Promise, Promiser, Timestamp};
use crate::transfer::Class;

/// Rows of cells under a head, aligned; columns of numbers to the right.
#[derive(Debug)]
pub struct Table {
    head: Vec<&'static str>,
    right: &'static [usize],
    lines: Vec<Line>,
}

#[derive(Debug)]
enum Line {
    Cells(Vec<String>),
    Heading(String),
}

impl Table {
    /// A table whose columns are called `head`, those at the indices `right` being numbers.
    pub fn new(head: &[&'static str], right: &'static [usize]) -> Self {
        Self { head: head.to_vec(), right, lines: Vec::new() }
    }

    /// Adds a row, a cell for each column.
    pub fn row(&mut self, cells: Vec<String>) {
        self.lines.push(Line::Cells(cells));
    }

    /// Adds a line that is not divided into cells.
    pub fn heading(&mut self, text: String) {
        self.lines.push(Line::Heading(text));
    }

    /// Writes it.
    pub fn write(&self, out: &mut (impl Write + ?Sized)) -> io::Result<()> {
        let head = Line::Cells(self.head.iter().map(ToString::to_string).collect());
        let lines = || std::iter::once(&head).chain(&self.lines);
        let width = |i: usize| lines().map(|line| line.width(i)).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.head.len()).map(width).collect();
        for line in lines() {
            match line {
                Line::Cells(cells) => writeln!(out, "{}", self.aligned(cells, &widths))?,
                Line::Heading(text) => writeln!(out, "{text}")?,
            }
        }
        Ok(())
    }

    fn aligned(&self, cells: &[String], widths: &[usize]) -> String {
        let mut line = String::new();
        for (i, (cell, width)) in cells.iter().zip(widths).enumerate() {
            let padded =
                if self.right.contains(&i) { format!("{cell:>width$}") } else { format!("{cell:<width$}") };
            line.push_str(if i > 0 { "  " } else { "" });
            line.push_str(&padded);
        }
        line.trim_end().to_owned()
    }
}

impl Line {
    /// How wide its cell is in column `i`.
    fn width(&self, i: usize) -> usize {
        match self {
            Self::Cells(cells) => cells[i].chars().count(),
            Self::Heading(_) => 0,
        }
    }
}

/// Bytes in binary units: `1.5 GiB`.
pub fn size(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    // Tenths, so that no rounding of floats decides what is shown.
    let (mut tenths, mut unit) = (u128::from(bytes) * 10 / 1024, 0);
    while tenths >= 10_240 {
        tenths /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, units[unit])
}

/// How long ago something was, in the largest unit that fits.
pub fn ago(then: Timestamp, now: Timestamp) -> String {
    let seconds = then.age(now).as_secs();
    match seconds {
        0..60 => "just now".to_owned(),
        60..3_600 => format!("{} min ago", seconds / 60),
        3_600..86_400 => format!("{} h ago", seconds / 3_600),
        _ => format!("{} d ago", seconds / 86_400),
    }
}

/// A point in time as RFC 3339 has it, in UTC, to the second.
pub fn rfc3339(t: Timestamp) -> String {
    t.rfc3339()
}

/// Who made a promise, for people.
pub fn promiser(by: Promiser) -> &'static str {
    match by {
        Promiser::LinkedEtag => "X-Linked-ETag of the hub",
        Promiser::Etag => "ETag of the hub",
        Promiser::GoogHash => "x-goog-hash of the bucket",
        Promiser::Tree => "the list of files of the API",
        Promiser::Record => "a signed record of Remote Settings",
    }
}

/// A file as scripts get it.
pub fn json(row: &Row) -> Value {
    let Row { key, entry, last_used, decided } = row;
    let superseded = decided.superseded.as_ref();
    let pin = decided.pin(Timestamp::now());
    let class = Class::of(&key.path);
    json!({
        "hub": key.hub,
        "root": key.root,
        "repo": key.repo.id,
        "kind": key.repo.kind,
        "revision": key.revision,
        "path": key.path,
        "size": entry.size,
        "sha256": entry.blob,
        "class": class.name(),
        "dtype": match class {
            Class::Onnx(dtype) => Some(dtype),
            _ => None,
        },
        "standing": entry.standing,
        "access": entry.access.as_str(),
        "state": decided.state(),
        "pinned": pin.is_some(),
        "pinned_at": pin.map(|pin| rfc3339(pin.at)),
        "pinned_by": pin.map(|pin| pin.owner.clone()),
        "pinned_for": pin.map(|pin| pin.reason.clone()),
        "pinned_until": pin.and_then(|pin| pin.until).map(rfc3339),
        "superseded_by": superseded.map(|s| s.by.clone()),
        "superseded_at": superseded.map(|s| rfc3339(s.at)),
        "drop_at": superseded.and_then(|s| s.drop_at).map(rfc3339),
        "promises": entry.promises.iter().map(promise).collect::<Vec<_>>(),
        "etag": entry.representation.etag,
        "commit": entry.representation.commit,
        "content_type": entry.representation.content_type,
        "stored_at": rfc3339(entry.stored_at),
        "checked_at": rfc3339(entry.checked_at),
        "last_used": rfc3339(*last_used),
    })
}

/// A promise as scripts get it.
pub fn promise(promise: &Promise) -> Value {
    json!({"algorithm": promise.digest.algorithm(), "value": promise.digest.value(), "by": promise.by})
}

/// Values as one array of JSON, a line each.
pub fn write_json_array(out: &mut impl Write, values: impl IntoIterator<Item = Value>) -> io::Result<()> {
    let mut values = values.into_iter().peekable();
    if values.peek().is_none() {
        return writeln!(out, "[]");
    }
    writeln!(out, "[")?;
    while let Some(value) = values.next() {
        writeln!(out, "  {value}{}", if values.peek().is_some() { "," } else { "" })?;
    }
    writeln!(out, "]")
}

/// A line on stderr that is written over again and again; nothing where nobody watches.
#[derive(Debug)]
pub struct ProgressLine {
    shown: bool,
    what: &'static str,
}

impl ProgressLine {
    /// A line about `what`, unless `quiet` or the environment says no.
    pub fn new(what: &'static str, quiet: bool) -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        Self { shown: !quiet && !plain && io::stderr().is_terminal(), what }
    }

    /// Shows how far it is.
    pub fn show(&self, progress: Progress) {
        if self.shown {
            let Progress { done_bytes, total_bytes } = progress;
            let percent = u128::from(done_bytes) * 100 / u128::from(total_bytes.max(1));
            // A terminal that is gone is no reason to stop.
            let _ = write!(
                io::stderr(),
                "\r\x1b[K{} {} of {} ({percent} %)",
                self.what,
                size(done_bytes),
                size(total_bytes)
            );
        }
    }
}

impl Drop for ProgressLine {
    fn drop(&mut self) {
        if self.shown {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

/// Plural by number: `1 file`, `2 files`.
pub fn count(n: u64, one: &str) -> String {
    format!("{n} {one}{}", if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339() {
        let cases = [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399_999, "2000-02-28T23:59:59Z"),
            (951_782_400_000, "2000-02-29T00:00:00Z"),
            (951_868_800_000, "2000-03-01T00:00:00Z"),
            (1_735_689_599_000, "2024-12-31T23:59:59Z"),
            (1_767_225_600_000, "2026-01-01T00:00:00Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00Z"),
        ];
        for (ms, text) in cases {
            assert_eq!(rfc3339(Timestamp(ms)), text);
        }
    }

    #[test]
    fn sizes_have_one_digit_behind_the_point() {
        let cases = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            ((1 << 20) - 1, "1023.9 KiB"),
            (5 << 30, "5.0 GiB"),
            (u64::MAX, "15.9 EiB"),
        ];
        for (bytes, text) in cases {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new(&["MODEL", "SIZE", "LAST"], &[1]);
        table.row(vec!["a".into(), "10 B".into(), "now".into()]);
        table.row(vec!["é/long".into(), "1 B".into(), String::new()]);
        let mut out = Vec::new();
        table.write(&mut out).unwrap();
        let want = "MODEL   SIZE  LAST\na       10 B  now\né/long   1 B\n";
        assert_eq!(String::from_utf8(out).unwrap(), want);
    }
}
