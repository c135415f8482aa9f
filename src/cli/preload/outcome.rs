//! What came of a preload: told, and as what the command ends.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::super::exit::{Exit, Failure, output};
use super::super::print;
use super::plan::{Planned, object};
use crate::admin::control::Brought;

/// Something that is not here and should be.
pub struct Trouble {
    /// As what a command ends that has no other trouble.
    pub exit: Exit,
    /// What it is about, and why.
    pub line: String,
}

impl Trouble {
    /// What went wrong for the whole of something.
    pub fn of(what: impl std::fmt::Display, failure: &Failure) -> Self {
        let exit = match failure.code() {
            code if code == Exit::NoInput.code() => Exit::NoInput,
            code if code == Exit::Data.code() => Exit::Data,
            _ => Exit::TryAgain,
        };
        Self { exit, line: format!("{what}: {}", failure.message()) }
    }
}

/// Whether a file is missing that may be.
pub fn is_excused(plan: &[Planned], brought: &Brought) -> bool {
    brought.is_missing && plan[brought.at].is_optional
}

/// What went wrong, file by file.
pub fn troubles(plan: &[Planned], brought: &[Brought]) -> Vec<Trouble> {
    let wrong = brought.iter().filter(|file| file.trouble.is_some() && !is_excused(plan, file));
    let told = wrong.map(|file| {
        let exit = match () {
            () if file.entry.is_some() => Exit::Data,
            () if file.is_missing => Exit::NoInput,
            () => Exit::TryAgain,
        };
        let Planned { model, wanted, .. } = &plan[file.at];
        let trouble = file.trouble.as_deref().unwrap_or_default();
        Trouble { exit, line: format!("{model}/{}: {trouble}", wanted.path) }
    });
    told.collect()
}

/// Fails as the worst of what went wrong says.
pub fn conclude(troubles: &[Trouble]) -> Result<(), Failure> {
    if troubles.is_empty() {
        return Ok(());
    }
    let exit = match () {
        () if troubles.iter().any(|trouble| trouble.exit == Exit::Data) => Exit::Data,
        () if troubles.iter().all(|trouble| trouble.exit == Exit::NoInput) => Exit::NoInput,
        () => Exit::TryAgain,
    };
    let lines: Vec<&str> = troubles.iter().map(|trouble| trouble.line.as_str()).collect();
    Err(Failure::new(exit, lines.join("\n")))
}

/// Tells what was done. Scripts get `beside` with it, an object.
pub fn report(
    plan: &[Planned],
    brought: &[Brought],
    beside: Value,
    as_json: bool,
    quiet: bool,
) -> Result<(), Failure> {
    let sizes = |was_held: bool| -> (u64, u64) {
        let of = brought.iter().filter(|file| file.trouble.is_none() && file.was_held == was_held);
        of.filter_map(|file| file.entry.as_ref())
            .fold((0, 0), |(n, bytes), entry| (n + 1, bytes + entry.size))
    };
    let ((fetched, fetched_bytes), (held, held_bytes)) = (sizes(false), sizes(true));
    let mut out = io::BufWriter::new(io::stdout().lock());
    let write = || {
        if as_json {
            let files = brought.iter().filter(|file| !is_excused(plan, file));
            let files: Vec<Value> = files.map(|file| told(&plan[file.at], file)).collect();
            let mut summary = json!({
                "files": files,
                "fetched": fetched,
                "fetched_bytes": fetched_bytes,
                "held": held,
                "held_bytes": held_bytes,
            });
            if let (Some(summary), Value::Object(beside)) = (summary.as_object_mut(), beside) {
                summary.extend(beside);
            }
            writeln!(out, "{summary:#}")?;
        } else if !quiet {
            let (new, old) = (print::count(fetched, "file"), print::count(held, "file"));
            let (new_size, old_size) = (print::size(fetched_bytes), print::size(held_bytes));
            writeln!(out, "fetched {new}, {new_size}; {old}, {old_size}, were held already")?;
        }
        out.flush()
    };
    output(write())
}

fn told(planned: &Planned, brought: &Brought) -> Value {
    let mut object = object(planned, brought.was_held);
    if let Some(entry) = &brought.entry {
        object["size"] = entry.size.into();
        object["sha256"] = json!(entry.blob);
    }
    object["trouble"] = json!(brought.trouble);
    object
}
