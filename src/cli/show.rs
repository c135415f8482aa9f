//! `hubcache show`: everything that is known of files.

use std::io::{self, Write};

use clap::{ArgMatches, Command};

use super::exit::{Exit, Failure, output};
use super::flags::{self, Scope};
use super::holdings::Holdings;
use super::ls::{self, json_arg};
use super::{print, target};
use crate::admin::control::{self, Answer, Reference, Row};
use crate::model::{EntryKey, Openness, Pin, Standing, Timestamp};
use crate::transfer::Class;

const LONG_ABOUT: &str = "\
Show everything that is known of the files of a model, or of one file: where it was fetched, its digest, what was \
promised of it and by whom, and whether that was compared. Files are grouped by what they are to those who run the model: \
weights in ONNX by their quantization, configuration, tokenizer, and so on. Below the files: what branches and tags stand for, and \
which answers of the hub's API are held, where the TARGET names a whole model.

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
    let config = flags::load(matches, Scope::Store)?.config;
    let whole_model = selector.revision.is_none() && selector.path.is_none();
    let held = Holdings::read(&config, control::Command::Show { selector })?;
    let as_json = matches.get_flag("json");
    if as_json {
        ls::print_json(&held)?;
    }
    if held.files.is_empty() && held.answers.is_empty() {
        return Err(Failure::new(Exit::NoInput, format!("nothing is held of {}", target::text(matches))));
    }
    if as_json {
        return Ok(());
    }
    let mut out = io::BufWriter::new(io::stdout().lock());
    let now = Timestamp::now();
    let write = |out: &mut dyn Write| {
        write_files(out, &held, now)?;
        if whole_model {
            write_around(out, &held, now)?;
        }
        out.flush()
    };
    output(write(&mut out))
}

/// The files of each revision by what they are to those who run the model.
fn write_files(out: &mut dyn Write, held: &Holdings, now: Timestamp) -> io::Result<()> {
    let mut rows: Vec<(EntryKey, Class, &Row)> =
        held.files.iter().map(|row| (row.key.of_revision(), Class::of(&row.key.path), row)).collect();
    rows.sort_by(|(a, a_class, _), (b, b_class, _)| a.cmp(b).then(a_class.cmp(b_class)));
    let mut above = None;
    for (i, (revision, class, row)) in rows.iter().enumerate() {
        if i > 0 {
            writeln!(out)?;
        }
        if rows.len() > 1 && above != Some((revision, class)) {
            writeln!(out, "{class}:")?;
            above = Some((revision, class));
        }
        write_row(out, row, held.names(&row.key), now)?;
    }
    Ok(())
}

/// What leads to the files.
fn write_around(out: &mut dyn Write, held: &Holdings, now: Timestamp) -> io::Result<()> {
    let anything = !held.references.is_empty() || !held.answers.is_empty();
    if anything && !held.files.is_empty() {
        writeln!(out)?;
    }
    held.references.iter().try_for_each(|reference| write_reference(out, reference, now))?;
    held.answers.iter().try_for_each(|answer| write_answer(out, answer, now))
}

fn write_reference(out: &mut dyn Write, reference: &Reference, now: Timestamp) -> io::Result<()> {
    let Reference { key, commit, checked_at } = reference;
    let (at, ago) = (print::rfc3339(*checked_at), print::ago(*checked_at, now));
    writeln!(out, "{}:{}@{} stands for {commit}, confirmed {at} ({ago})", key.hub, key.repo, key.name)
}

fn write_answer(out: &mut dyn Write, answer: &Answer, now: Timestamp) -> io::Result<()> {
    let EntryKey { hub, repo, revision, path, .. } = &answer.key;
    let at = if revision.is_empty() { String::new() } else { format!("@{revision}") };
    write!(out, "API answer {hub}:{repo}{at} {path}")?;
    if let Some(said) = answer.said {
        let what = if said.status == 404 { "not there".to_owned() } else { print::size(said.size_bytes) };
        let (at, ago) = (print::rfc3339(said.learned_at), print::ago(said.learned_at, now));
        write!(out, ": {what}, confirmed {at} ({ago})")?;
    }
    writeln!(out)
}

fn write_row(out: &mut dyn Write, row: &Row, refs: &[String], now: Timestamp) -> io::Result<()> {
    let Row { key, entry, last_used, decided } = row;
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
    line(
        "access",
        &match entry.access {
            Openness::Public { confirmed_at } => {
                format!("public: the hub gave it without credentials, {}", print::rfc3339(confirmed_at))
            }
            Openness::Shared => "shared: the operator lets everybody read it".to_owned(),
            Openness::Restricted => {
                "restricted: for those whose own credentials the hub accepts for it".to_owned()
            }
        },
    )?;
    if let Some(superseded) = &decided.superseded {
        let by = if superseded.by.is_empty() { "" } else { " by " };
        let drop = superseded
            .drop_at
            .map(|at| format!(", dropped after {}", print::rfc3339(at)))
            .unwrap_or_default();
        line("superseded", &format!("{}{by}{}{drop}", print::rfc3339(superseded.at), superseded.by))?;
    }
    if let Some(Pin { at, owner, reason, until }) = decided.pin(now) {
        let by = if owner.is_empty() { String::new() } else { format!(" by {owner}") };
        let until = until.map(|until| format!(", until {}", print::rfc3339(until))).unwrap_or_default();
        let reason = if reason.is_empty() { String::new() } else { format!(": {reason}") };
        line("pinned", &format!("{}{by}{until}{reason}", print::rfc3339(*at)))?;
    }
    for promise in &entry.promises {
        line("promised", &format!("{}, by {}", promise.digest, print::promiser(promise.by)))?;
    }
    let (said, refs) = (&entry.representation, refs.join(", "));
    let optional = [
        ("refs", Some(refs.as_str()).filter(|refs| !refs.is_empty())),
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
        write_row(&mut out, &row, &["main".to_owned()], Timestamp(0)).unwrap();
        let text = String::from_utf8(out).unwrap();
        let blob = "07".repeat(32);
        for line in [
            "huggingface:acme/tiny@main/model.onnx",
            "  size          1.0 KiB (1024 bytes)",
            &format!("  promised      sha256:{blob}, by X-Linked-ETag of the hub"),
            "  promised      crc32c:00000001, by x-goog-hash of the bucket",
            "  refs          main",
            "  stored        1970-01-01T00:00:00Z (just now)",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
        }
    }
}
