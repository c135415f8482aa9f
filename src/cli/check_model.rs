//! `hubcache check-model`: whether Firefox could use a model.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Arg, ArgMatches, Command};
use serde_json::{Value, json};

use super::exit::{Exit, Failure, io_failure, output};
use super::flags::{self, Scope};
use super::ls::json_arg;
use super::reach::{self, Event};
use super::transfer::{self, Watcher};
use crate::admin::control::{self, Wanted};
use crate::config::Config;
use crate::model::Hub;
use crate::transfer::ModelName;
use crate::transfer::usable::{Finding, Level, Model, TASKS, check, dtypes};

/// Its name.
pub const NAME: &str = "check-model";
const WHAT: &str = "model";
const TASK: &str = "task";
const REVISION: &str = "revision";
/// The file whose content is looked at.
const CONFIG: &str = "config.json";
/// Most files of a directory that are looked at.
const MAX_FILES: usize = 100_000;

const LONG_ABOUT: &str = "\
Tell whether Firefox could use a model: which weights in ONNX there are, whether an encoder has its decoder, whether files of \
more than 2 GB keep their tensors outside and these are there, whether tokenizer and pre-processing are there, whether the \
revision is one that Firefox asks for, and whether all names reach a hub as they are.

MODEL is a directory, or a model of Hugging Face: ID[@REVISION]. Of that the list of files and config.json are fetched. The \
hub of Firefox has no list of files: look at the directory that is published there.

It ends with 65 when something stands in the way.";

const EXAMPLES: &str = "\
Examples:
  hubcache check-model acme/tiny@v1.0
  hubcache check-model ./build/model --revision v1.0 --task image-to-text";

pub fn command() -> Command {
    let text = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).help(help).display_order(0)
    };
    let model = Arg::new(WHAT)
        .value_name("MODEL")
        .required(true)
        .help("A directory, or ID[@REVISION] of Hugging Face");
    let tasks: Vec<&str> = TASKS.iter().map(|(name, _)| *name).collect();
    let command = Command::new(NAME)
        .about("Tell whether Firefox could use a model")
        .long_about(LONG_ABOUT)
        .after_long_help(EXAMPLES)
        .arg(model)
        .arg(
            text(TASK, "TASK", "What it is to be used for; without it that is told from the files")
                .value_parser(tasks),
        )
        .arg(text(REVISION, "REVISION", "The revision under which a directory is to be published"))
        .arg(transfer::quiet_arg())
        .arg(json_arg("Print an object: ok, dtypes, findings (each with level, what, remedy)"));
    flags::add(command, Scope::Store)
}

pub fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let config = flags::load(matches, Scope::Store)?.config;
    let given: &String = matches.get_one(WHAT).expect("clap requires it");
    let mut model = match Path::new(given).is_dir() {
        true => of_directory(Path::new(given))?,
        false => of_hub(&config, given)?,
    };
    if let Some(revision) = matches.get_one::<String>(REVISION) {
        model.revision = Some(revision.clone());
    }
    let task = matches.get_one::<String>(TASK);
    model.task = task.and_then(|task| TASKS.iter().find(|(name, _)| name == task)).map(|(_, task)| *task);
    let findings = check(&model);
    let fails = findings.iter().filter(|finding| finding.level == Level::Fails).count();
    let mut out = io::BufWriter::new(io::stdout().lock());
    output(match matches.get_flag("json") {
        true => {
            let object = json!({"ok": fails == 0, "dtypes": dtypes(&model), "findings": findings});
            writeln!(out, "{object:#}").and_then(|()| out.flush())
        }
        false => write(&mut out, &findings, transfer::is_quiet(matches)),
    })?;
    match fails {
        0 => Ok(()),
        _ => Err(Failure::new(Exit::Data, "Firefox cannot use it as it is")),
    }
}

fn write(out: &mut dyn Write, findings: &[Finding], quiet: bool) -> io::Result<()> {
    for Finding { level, what, remedy } in findings {
        let mark = match level {
            Level::Good if quiet => continue,
            Level::Good => "good ",
            Level::Warns => "warns",
            Level::Fails => "fails",
        };
        writeln!(out, "{mark}  {what}")?;
        if let Some(remedy) = remedy {
            writeln!(out, "       {remedy}")?;
        }
    }
    out.flush()
}

/// The model that a directory holds; hidden files are none of it.
fn of_directory(root: &Path) -> Result<Model, Failure> {
    let failed =
        |path: &Path, error: &io::Error| io_failure(format_args!("{} cannot be read", path.display()), error);
    let mut model = Model::default();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let here = root.join(&folder);
        for entry in fs::read_dir(&here).map_err(|error| failed(&here, &error))? {
            let entry = entry.map_err(|error| failed(&here, &error))?;
            let path = folder.join(entry.file_name());
            let Some(text) =
                path.to_str().filter(|_| !entry.file_name().as_encoded_bytes().starts_with(b"."))
            else {
                continue;
            };
            let about = fs::metadata(root.join(&path)).map_err(|error| failed(&root.join(&path), &error))?;
            if about.is_dir() {
                folders.push(path);
            } else if model.files.len() < MAX_FILES {
                model.files.insert(text.to_owned(), Some(about.len()));
            } else {
                return Err(Failure::new(
                    Exit::Usage,
                    format!("{} has too many files for a model", root.display()),
                ));
            }
        }
    }
    if model.files.contains_key(CONFIG) {
        let path = root.join(CONFIG);
        let text = fs::read_to_string(&path).map_err(|error| failed(&path, &error))?;
        model.config = Some(parsed(&text)?);
    }
    Ok(model)
}

/// The model that Hugging Face has.
fn of_hub(config: &Config, given: &str) -> Result<Model, Failure> {
    let named = if given.contains(':') { given.to_owned() } else { format!("hf:{given}") };
    let name: ModelName = transfer::model(&named)?;
    if name.hub != Hub::HuggingFace {
        let why = "the hub of Firefox has no list of files: look at the directory that is published there";
        return Err(Failure::new(Exit::Usage, why));
    }
    let found = transfer::listed(config, &name)?;
    let mut model = Model { revision: Some(name.revision.clone()), ..Model::default() };
    model.files = found.files.into_iter().map(|file| (file.path, file.size)).collect();
    if model.files.contains_key(CONFIG) {
        let revision =
            found.commit.as_ref().map_or(name.revision.as_str(), |commit| commit.as_str()).to_owned();
        let (hub, repo, path) = (name.hub, name.repo.clone(), CONFIG.to_owned());
        let wanted = Wanted { hub, repo, revision, path, sha256: None };
        model.config = Some(parsed(&content(config, wanted)?)?);
    }
    Ok(model)
}

/// A small file, brought here and read.
fn content(config: &Config, wanted: Wanted) -> Result<String, Failure> {
    let brought = transfer::bring(config, std::slice::from_ref(&wanted), &mut Watcher::new(true, 0))?;
    if let Some(trouble) = brought.into_iter().find_map(|brought| brought.trouble) {
        return Err(Failure::new(Exit::TryAgain, format!("{CONFIG}: {trouble}")));
    }
    let mut text = None;
    reach::execute(config, control::Command::Read { file: wanted }, |event| {
        if let Event::Text(told) = event {
            text = Some(told);
        }
    })?;
    text.ok_or_else(|| Failure::new(Exit::Software, format!("{CONFIG} was not told")))
}

fn parsed(text: &str) -> Result<Value, Failure> {
    serde_json::from_str(text).map_err(|why| Failure::new(Exit::Data, format!("{CONFIG} is no JSON: {why}")))
}
