//! `hubcache show`: everything that is known of files.

use std::io::{self, Write};

use clap::{ArgMatches, Command};

use super::exit::{Exit, Failure, output};
use super::flags::{self, Scope};
use super::ls::json_arg;
use super::{ls, print, target};
use crate::admin::control::{self, Row};
use crate::model::{EntryKey, Standing, Timestamp};

const LONG_ABOUT: &str = "\
Show everything that is known of the files of a model, or of one file: where it was fetched, its digest, what was \
promised of it and by whom, and whether that was compared.

verified: at least one promised digest was compared, and all that could be compared agree.
recorded: nobody had promised a digest; the one of the first download was recorded.";

const EXAMPLES: &str = "\
Examples:
  hubcache show openai-community/gpt2
  hubcache show openai-community/gpt2/config.json
  hubcache show --json openai-community/gpt2 | jq -r '.[] | \"\\(.sha256)  \\(.path)\"'";

pub fn command() -> Command {
    let command = Command::new("show")
        .about("Show everything that is known of files")
        .long_about(LONG_ABOUT)
        .after_long_help(format!("{}\n\n{EXAMPLES}", target::EXPLAINED))
        .arg(target::arg().required(true))
        .arg(json_arg("Print an array with an object for each file, as `hubcache ls --json` does"));
    flags::add(command, Scope::Store)
}

pub fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let selector = target::given(matches)?;
    let settings = flags::load(matches, Scope::Store)?.config.store;
    let rows = ls::rows(&settings, control::Command::Show { selector })?;
    let as_json = matches.get_flag("json");
    if as_json {
        ls::print_json(&rows)?;
    }
    if rows.is_empty() {
        return Err(Failure::new(Exit::NoInput, format!("nothing is held of {}", target::text(matches))));
    }
    if as_json {
        return Ok(());
    }
    let mut out = io::BufWriter::new(io::stdout().lock());
    output(write_rows(&mut out, &rows, Timestamp::now()).and_then(|()| out.flush()))
}

fn write_rows(out: &mut impl Write, rows: &[Row], now: Timestamp) -> io::Result<()> {
    for (i, row) in rows.iter().enumerate() {
        if i > 0 {
            writeln!(out)?;
        }
        write_row(out, row, now)?;
    }
    Ok(())
}

fn write_row(out: &mut impl Write, row: &Row, now: Timestamp) -> io::Result<()> {
    let Row { key, entry, last_used } = row;
    let EntryKey { root, .. } = key;
    writeln!(out, "{key}")?;
    let mut line = |name: &str, value: &str| writeln!(out, "  {name:<12}  {value}");
    line("from", root.as_str())?;
    line("size", &format!("{} ({})", print::size(entry.size), print::count(entry.size, "byte")))?;
    line("sha256", &entry.blob.to_string())?;
    line(
        "standing",
        match entry.standing {
            Standing::Verified => "verified: the bytes are what was promised",
            Standing::Recorded => "recorded: nobody promised a digest that could be compared",
        },
    )?;
    for promise in &entry.promises {
        line("promised", &format!("{}, by {}", promise.digest, print::promiser(promise.by)))?;
    }
    let said = &entry.representation;
    let optional = [
        ("etag", said.etag.as_deref()),
        ("commit", said.commit.as_ref().map(crate::model::Commit::as_str)),
        ("content type", said.content_type.as_deref()),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            line(name, value)?;
        }
    }
    let times = [("stored", entry.stored_at), ("confirmed", entry.checked_at), ("last use", *last_used)];
    for (name, time) in times {
        line(name, &format!("{} ({})", print::rfc3339(time), print::ago(time, now)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::tests::row;
    use crate::model::{Digest, Promise, Promiser};

    #[test]
    fn every_promise_is_shown_with_who_made_it() {
        let mut row = row("acme/tiny", "main", "model.onnx", Standing::Verified);
        row.entry.promises = vec![
            Promise { digest: Digest::Sha256(row.entry.blob), by: Promiser::LinkedEtag },
            Promise { digest: Digest::Crc32c(1), by: Promiser::GoogHash },
        ];
        let mut out = Vec::new();
        write_row(&mut out, &row, Timestamp(0)).unwrap();
        let text = String::from_utf8(out).unwrap();
        let blob = "07".repeat(32);
        for line in [
            "huggingface:acme/tiny@main/model.onnx",
            "  size          1.0 KiB (1024 bytes)",
            &format!("  promised      sha256:{blob}, by X-Linked-ETag of the hub"),
            "  promised      crc32c:00000001, by x-goog-hash of the bucket",
            "  stored        1970-01-01T00:00:00Z (just now)",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
        }
    }
}
