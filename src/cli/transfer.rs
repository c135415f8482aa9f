//! What `lock` and `preload` have in common: which files are meant, and bringing them here with somebody watching.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _};
use std::ops::Range;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::exit::{Exit, Failure};
use super::print;
use super::reach::{self, Event};
use crate::admin::control::{Brought, Command, Found, Listed, MAX_FOUND, MAX_WANTED, Moving, Wanted};
use crate::config::Config;
use crate::model::{Commit, Hub};
use crate::transfer::{Class, DTYPES, ModelName, Selection, candidates};

const INCLUDE: &str = "include";
const EXCLUDE: &str = "exclude";
const FILE: &str = "file";
const LIKE: &str = "like";
const DTYPE: &str = "dtype";
const QUIET: &str = "quiet";

/// What to write about models below a command's help.
pub const EXPLAINED: &str = "\
A MODEL is hf:ID[@REVISION] or moz:ORG/MODEL[@REVISION]:
  hf:openai-community/gpt2         a model of Hugging Face, at main
  hf:datasets/acme/d@v1            a data set, at a branch, a tag or a commit; a slash in it is written %2F
  moz:Mozilla/distilvit@v0.5.0     a model of the hub of Firefox

The hub of Firefox has no list of files. Which ones are meant is said with --file, with --like (those that a model of
Hugging Face has), or with --dtype (those that Transformers.js asks for with weights of that kind). Without any of these
it is the model of the same name at Hugging Face, and where there is none, --dtype q8.

With --dtype of a model that has a list: its weights of that kind in ONNX, with the files that they keep tensors in, and what
describes them; no weights of other kinds or for other frameworks, nothing of the training, and no model card.";

/// The arguments that say which files of models are meant.
pub fn choice_args() -> Vec<Arg> {
    let many = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).action(ArgAction::Append).help(help).display_order(0)
    };
    let kinds: Vec<&str> = DTYPES.iter().map(|(name, _)| *name).collect();
    vec![
        many(INCLUDE, "GLOB", "Only files whose path fits, as in `hf download`"),
        many(EXCLUDE, "GLOB", "No files whose path fits"),
        many(FILE, "PATH", "Of the hub of Firefox: this file"),
        Arg::new(LIKE)
            .long(LIKE)
            .value_name("MODEL")
            .help("Of the hub of Firefox: the files that this model of Hugging Face has")
            .display_order(0),
        Arg::new(DTYPE)
            .long(DTYPE)
            .value_name("DTYPE")
            .value_parser(kinds)
            .help("Only what a runtime reads that has such weights: these, configuration, tokenizer, pre-processing")
            .display_order(0),
    ]
}

/// The flag that turns off everything but results.
pub fn quiet_arg() -> Arg {
    Arg::new(QUIET)
        .long(QUIET)
        .short('q')
        .action(ArgAction::SetTrue)
        .help("Say nothing on stderr but what went wrong")
        .display_order(0)
}

/// Which files of models are meant.
pub struct Choice {
    selection: Selection,
    files: Vec<String>,
    like: Option<ModelName>,
    dtype: Option<String>,
}

impl Choice {
    /// Reads the arguments.
    pub fn of(matches: &ArgMatches) -> Result<Self, Failure> {
        let many = |name: &str| matches.get_many::<String>(name).into_iter().flatten().cloned().collect();
        let usage = |why: String| Failure::new(Exit::Usage, why);
        let selection = Selection::new(many(INCLUDE), many(EXCLUDE)).map_err(|e| usage(e.to_string()))?;
        let like = matches.get_one::<String>(LIKE).map(|text| model(text)).transpose()?;
        if like.as_ref().is_some_and(|like| like.hub != Hub::HuggingFace) {
            return Err(usage("--like takes a model of Hugging Face: hf:ID[@REVISION]".to_owned()));
        }
        let dtype = matches.get_one::<String>(DTYPE).cloned();
        Ok(Self { selection, files: many(FILE), like, dtype })
    }

    /// Whether a file is meant.
    pub fn has(&self, path: &str) -> bool {
        let is_used = |dtype: &String| Class::of(path).is_used_with(dtype);
        let is_named = self.files.iter().any(|file| file == path);
        self.selection.has(path) && (is_named || self.dtype.as_ref().is_none_or(is_used))
    }

    /// The patterns by which the same files, which were chosen of a list, are chosen again: those that must fit, and
    /// those that must not.
    pub fn patterns<'a>(&self, chosen: impl Iterator<Item = &'a str>) -> (Vec<String>, Vec<String>) {
        match self.dtype {
            Some(_) => (chosen.map(globset::escape).collect(), Vec::new()),
            None => (self.selection.include().to_vec(), self.selection.exclude().to_vec()),
        }
    }

    /// What was chosen already: by patterns, or of the hub of Firefox by names.
    pub fn these(selection: Selection, files: Vec<String>) -> Self {
        Self { selection, files, like: None, dtype: None }
    }
}

/// Whether only results are wanted.
pub fn is_quiet(matches: &ArgMatches) -> bool {
    matches.get_flag(QUIET)
}

/// A model as it was written.
pub fn model(text: &str) -> Result<ModelName, Failure> {
    text.parse().map_err(|why| {
        Failure::new(
            Exit::Usage,
            format!("{text:?} is no model: {why}; expected hf:ID[@REVISION] or moz:ORG/MODEL[@REVISION]"),
        )
    })
}

/// A model as its hub has it.
pub struct Surveyed {
    /// The commit; the hub of Firefox has none.
    pub commit: Option<Commit>,
    /// All files that there may be.
    pub files: Vec<Listed>,
    /// Whether these are all, and all of them are there.
    pub is_complete: bool,
}

/// Asks which files a model has.
pub fn survey(
    config: &Config,
    name: &ModelName,
    choice: &Choice,
    say: &dyn Fn(&str),
) -> Result<Surveyed, Failure> {
    if name.hub == Hub::HuggingFace {
        return listed(config, name);
    }
    let unlisted = |paths: Vec<String>| Surveyed {
        commit: None,
        files: paths.into_iter().map(|path| Listed { path, size: None, digest: None, held: None }).collect(),
        is_complete: false,
    };
    let of_kind = |dtype: &str| candidates(dtype).expect("clap takes only kinds that are known");
    match (&choice.files, &choice.like, &choice.dtype) {
        (files, None, None) if !files.is_empty() => {
            Ok(Surveyed { is_complete: true, ..unlisted(files.clone()) })
        }
        (files, Some(like), _) => {
            let twin = listed(config, like)?.files.into_iter().map(|file| file.path);
            Ok(unlisted(twin.chain(files.iter().cloned()).collect()))
        }
        (files, None, Some(dtype)) => {
            Ok(unlisted(of_kind(dtype).into_iter().chain(files.iter().cloned()).collect()))
        }
        (_, None, None) => {
            let twin = ModelName { hub: Hub::HuggingFace, revision: "main".to_owned(), ..name.clone() };
            match listed(config, &twin) {
                Ok(found) => {
                    say(&format!("{name}: the hub has no list of files; {twin} is taken for it"));
                    Ok(unlisted(found.files.into_iter().map(|file| file.path).collect()))
                }
                Err(_) => {
                    say(&format!(
                        "{name}: the hub has no list of files; what Transformers.js asks for with --dtype q8 is taken"
                    ));
                    Ok(unlisted(of_kind("q8")))
                }
            }
        }
    }
}

/// Asks Hugging Face which files a model has.
pub fn listed(config: &Config, name: &ModelName) -> Result<Surveyed, Failure> {
    let mut found = Surveyed { commit: None, files: Vec::new(), is_complete: true };
    let command = Command::Survey { repo: name.repo.clone(), revision: name.revision.clone() };
    reach::execute(config, command, |event| match event {
        Event::Resolved(commit) => found.commit = Some(commit),
        Event::Listed(file) => found.files.push(file),
        _ => {}
    })?;
    Ok(found)
}

/// Brings files here; what became of each, in their order.
pub fn bring(config: &Config, files: &[Wanted], watcher: &mut Watcher) -> Result<Vec<Brought>, Failure> {
    let command = |batch: Range<usize>| Command::Bring { files: files[batch].to_vec() };
    in_batches(config, files, MAX_WANTED, command, watcher)
}

/// Takes files in that lie on the disk; what became of each, in their order.
pub fn take(config: &Config, found: &[Found], watcher: &mut Watcher) -> Result<Vec<Brought>, Failure> {
    let files: Vec<Wanted> = found.iter().map(|found| found.file.clone()).collect();
    let command = |batch: Range<usize>| Command::Take { files: found[batch].to_vec() };
    in_batches(config, &files, MAX_FOUND, command, watcher)
}

fn in_batches(
    config: &Config,
    files: &[Wanted],
    most: usize,
    command: impl Fn(Range<usize>) -> Command,
    watcher: &mut Watcher,
) -> Result<Vec<Brought>, Failure> {
    let mut all = Vec::with_capacity(files.len());
    for first in (0..files.len()).step_by(most) {
        let batch = first..files.len().min(first + most);
        let mut brought: BTreeMap<usize, Brought> = BTreeMap::new();
        reach::execute(config, command(batch), |event| match event {
            Event::Moving(moving) => watcher.moves(files, Moving { at: first + moving.at, ..moving }),
            Event::Brought(file) => {
                let file = Brought { at: first + file.at, ..*file };
                watcher.ends(files, &file);
                brought.insert(file.at, file);
            }
            _ => {}
        })?;
        all.extend(brought.into_values());
    }
    watcher.close();
    match all.len() == files.len() {
        true => Ok(all),
        false => Err(Failure::new(
            Exit::TryAgain,
            "not every file is here; the same command goes on with the rest",
        )),
    }
}

/// Shows people how far files are.
pub struct Watcher {
    shown: Shown,
    bars: BTreeMap<usize, ProgressBar>,
    /// What is done to files that are not held.
    done: &'static str,
}

enum Shown {
    /// Bars on a terminal: one for each file that arrives, and one for all.
    Bars(MultiProgress, ProgressBar),
    /// A line for each file.
    Lines,
    Nothing,
}

impl Watcher {
    /// Shows nothing if `quiet`; else bars on a terminal, and lines elsewhere. `total_bytes` is what is to come, as far
    /// as it is known.
    pub fn new(quiet: bool, total_bytes: u64) -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        let shown = match (quiet, io::stderr().is_terminal() && !plain) {
            (true, _) => Shown::Nothing,
            (false, false) => Shown::Lines,
            (false, true) => {
                let bars = MultiProgress::new();
                let total = bars.add(ProgressBar::new(total_bytes).with_style(style("in all")));
                total.enable_steady_tick(Duration::from_millis(200));
                Shown::Bars(bars, total)
            }
        };
        Self { shown, bars: BTreeMap::new(), done: "fetched" }
    }

    /// Says that files are `done` where it would say that they are fetched.
    #[must_use]
    pub fn saying(self, done: &'static str) -> Self {
        Self { done, ..self }
    }

    fn moves(&mut self, files: &[Wanted], moving: Moving) {
        self.is_at(moving.at, &files[moving.at].path, moving.arrived_bytes, moving.size_bytes);
    }

    /// Shows how far the file of this number and name is.
    pub fn is_at(&mut self, number: usize, name: &str, done_bytes: u64, size_bytes: Option<u64>) {
        let Shown::Bars(bars, total) = &self.shown else { return };
        let bar = self.bars.entry(number).or_insert_with(|| {
            let bar = ProgressBar::new(0).with_style(style(name));
            bars.insert_before(total, bar)
        });
        if let Some(size) = size_bytes {
            bar.set_length(size);
        }
        total.inc(done_bytes.saturating_sub(bar.position()));
        bar.set_position(done_bytes);
    }

    fn ends(&mut self, files: &[Wanted], file: &Brought) {
        let size = file.entry.as_ref().map_or(0, |entry| entry.size);
        let how = if file.was_held { "held already" } else { self.done };
        let Wanted { repo, path, .. } = &files[file.at];
        let line = format!("{repo}/{path}: {}, {how}", print::size(size));
        let to_come = if file.was_held { 0 } else { size };
        self.has_ended(file.at, to_come, Some(line).filter(|_| file.trouble.is_none()));
    }

    /// Shows that a file has ended, of which so many bytes were to come; where there are no bars, by this line.
    pub fn has_ended(&mut self, number: usize, to_come_bytes: u64, line: Option<String>) {
        match (&self.shown, line) {
            (Shown::Bars(_, total), _) => {
                let bar = self.bars.remove(&number);
                let seen = bar.as_ref().map_or(0, ProgressBar::position);
                total.inc(to_come_bytes.saturating_sub(seen));
                if let Some(bar) = bar {
                    bar.finish_and_clear();
                }
            }
            (Shown::Lines, Some(line)) => eprintln!("{line}"),
            (Shown::Lines | Shown::Nothing, _) => {}
        }
    }

    /// Shows nothing any more.
    pub fn close(&mut self) {
        if let Shown::Bars(_, total) = &self.shown {
            total.finish_and_clear();
        }
    }
}

fn style(name: &str) -> ProgressStyle {
    // The name stands in the template, where braces have a meaning.
    let name = name.replace('{', "{{").replace('}', "}}");
    let template = format!(
        "{{bytes:>10}} of {{total_bytes:>10}} {{bar:24}} {{binary_bytes_per_sec:>12}} {{eta:>5}}  {name}"
    );
    ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_name_can_stand_in_a_bar() {
        for name in ["onnx/model.onnx", "odd {x} name", "{", "}}", "%", "\u{1f600}"] {
            ProgressBar::hidden().with_style(style(name)).tick();
        }
    }
}
