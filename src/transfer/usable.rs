//! Whether Firefox could use a model, from the names and sizes of its files and from its configuration.
//!
//! Firefox runs ONNX by way of Transformers.js, asks for weights of the kind q8 unless a feature says otherwise, and makes
//! URLs of names as they stand.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;

use super::{Class, DTYPES};
use crate::model::{is_firefox_revision, is_mozilla_version};

/// Bytes that one protocol-buffers message can have at most; a file of ONNX is one.
const PROTOBUF_MAX: u64 = (1 << 31) - 1;
/// The kind of weights that Firefox asks for.
const USUAL: &str = "q8";

/// A model as it is looked at.
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// The revision; a directory has none.
    pub revision: Option<String>,
    /// The files, with their lengths where these are known.
    pub files: BTreeMap<String, Option<u64>>,
    /// What `config.json` says.
    pub config: Option<Value>,
    /// What is to be done with it.
    pub task: Option<Task>,
}

/// What a model is to be used for, as far as that decides which files it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Text comes in: it is cut into tokens.
    Text,
    /// Images or sound come in.
    Signal,
    /// Both do, or text comes out.
    Both,
}

/// The tasks of Transformers.js by what they need.
pub const TASKS: [(&str, Task); 22] = [
    ("feature-extraction", Task::Text),
    ("fill-mask", Task::Text),
    ("question-answering", Task::Text),
    ("summarization", Task::Text),
    ("text-classification", Task::Text),
    ("text-generation", Task::Text),
    ("text2text-generation", Task::Text),
    ("token-classification", Task::Text),
    ("translation", Task::Text),
    ("zero-shot-classification", Task::Text),
    ("text-to-speech", Task::Text),
    ("audio-classification", Task::Signal),
    ("background-removal", Task::Signal),
    ("depth-estimation", Task::Signal),
    ("image-classification", Task::Signal),
    ("image-feature-extraction", Task::Signal),
    ("image-segmentation", Task::Signal),
    ("image-to-image", Task::Signal),
    ("object-detection", Task::Signal),
    ("automatic-speech-recognition", Task::Both),
    ("image-to-text", Task::Both),
    ("zero-shot-image-classification", Task::Both),
];

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Firefox cannot use the model.
    Fails,
    /// It may work, or only in part.
    Warns,
    /// As it should be.
    Good,
}

/// Something that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How much it matters.
    pub level: Level,
    /// What was found.
    pub what: String,
    /// What to do about it.
    pub remedy: Option<String>,
}

impl Finding {
    fn new(level: Level, what: impl Into<String>, remedy: &str) -> Self {
        Self { level, what: what.into(), remedy: Some(remedy.to_owned()).filter(|text| !text.is_empty()) }
    }

    fn good(what: impl Into<String>) -> Self {
        Self::new(Level::Good, what, "")
    }

    fn fails(what: impl Into<String>, remedy: &str) -> Self {
        Self::new(Level::Fails, what, remedy)
    }

    fn warns(what: impl Into<String>, remedy: &str) -> Self {
        Self::new(Level::Warns, what, remedy)
    }
}

/// Everything that is to be said of a model.
pub fn check(model: &Model) -> Vec<Finding> {
    let looks = [revision, names, described, weights, sessions, sizes, external];
    looks.iter().flat_map(|look| look(model)).collect()
}

fn revision(model: &Model) -> Vec<Finding> {
    const SCHEME: &str = "name it main, or [v]MAJOR.MINOR[.PATCH][.(alpha|beta|pre|post|rc)NUMBER]";
    let Some(revision) = &model.revision else { return Vec::new() };
    vec![match (is_firefox_revision(revision), revision == "main" || is_mozilla_version(revision)) {
        (true, true) => Finding::good(format!("Firefox asks for revisions such as {revision}")),
        (true, false) => Finding::warns(
            format!("{revision} is taken by Firefox, but is no version of the documented form"),
            SCHEME,
        ),
        _ => Finding::fails(format!("{revision} is no revision that Firefox asks for"), SCHEME),
    }]
}

/// Names of which an URL would be another one.
fn names(model: &Model) -> Vec<Finding> {
    let is_used = |path: &str| DTYPES.iter().any(|(dtype, _)| Class::of(path).is_used_with(dtype));
    let breaks = |path: &str| {
        let odd = |c: char| "?#%\\".contains(c) || c.is_control();
        path.contains(odd)
            || path
                .split('/')
                .any(|part| part.is_empty() || part == "." || part == ".." || part.trim() != part)
    };
    let broken = model.files.keys().filter(|path| is_used(path) && breaks(path));
    let remedy = "names go into URLs as they stand: use letters, digits, dots, dashes and underscores";
    broken
        .map(|path| Finding::fails(format!("{path:?} does not reach the hub under this name"), remedy))
        .collect()
}

/// What has to stand beside the weights.
fn described(model: &Model) -> Vec<Finding> {
    let has = |path: &str| model.files.contains_key(path);
    let mut found = Vec::new();
    let mut need = |path: &str, why: &str| {
        if has(path) {
            found.push(Finding::good(format!("{path} is there")));
        } else {
            found.push(Finding::fails(format!("{path} is missing"), why));
        }
    };
    need("config.json", "Transformers.js reads it first of all");
    let has_tokens =
        ["tokenizer.json", "tokenizer_config.json", "vocab.json", "vocab.txt"].iter().any(|path| has(path));
    let (tokens, signals) = match model.task {
        Some(task) => (task != Task::Signal, task != Task::Text),
        None => (has_tokens || !has("preprocessor_config.json"), has("preprocessor_config.json")),
    };
    if tokens {
        need(
            "tokenizer.json",
            "Transformers.js reads no other form of a tokenizer; transformers writes it with save_pretrained",
        );
        need("tokenizer_config.json", "it says of what class the tokenizer is");
    }
    if signals {
        need("preprocessor_config.json", "it says how images or sound become tensors");
    }
    found
}

/// The kinds of weights that there are.
pub fn dtypes(model: &Model) -> BTreeSet<&'static str> {
    let kinds = model.files.keys().filter_map(|path| match Class::of(path) {
        Class::Onnx(dtype) if path.ends_with(".onnx") => Some(dtype),
        _ => None,
    });
    kinds.collect()
}

fn weights(model: &Model) -> Vec<Finding> {
    let kinds = dtypes(model);
    if kinds.is_empty() {
        let remedy = "convert the model to ONNX, for example with Optimum, into the folder onnx/";
        return vec![Finding::fails("there are no weights in ONNX, and Firefox runs no others", remedy)];
    }
    let listed = kinds.iter().copied().collect::<Vec<_>>().join(", ");
    let mut found = vec![Finding::good(format!("there are weights in ONNX: {listed}"))];
    if !kinds.contains(USUAL) {
        let remedy =
            "add weights whose names end with _quantized, or have the feature ask for another kind (dtype)";
        found.push(Finding::warns(
            "there are no weights of the kind q8, which Firefox asks for unless it is told otherwise",
            remedy,
        ));
    }
    let outside = model.files.keys().filter(|path| path.ends_with(".onnx") && !path.starts_with("onnx/"));
    let remedy = "move it below onnx/, where Transformers.js looks unless it is told otherwise";
    found.extend(outside.map(|path| Finding::warns(format!("{path} is not in the folder onnx/"), remedy)));
    found
}

/// A model that has an encoder and a decoder needs both, of the same kind.
fn sessions(model: &Model) -> Vec<Finding> {
    let says = model.config.as_ref().and_then(|config| config["is_encoder_decoder"].as_bool());
    let has = |stem: &str, suffix: &str| model.files.contains_key(&format!("onnx/{stem}{suffix}.onnx"));
    let begins = |stem: &str| model.files.keys().any(|path| path.starts_with(&format!("onnx/{stem}")));
    if says != Some(true) && !(begins("encoder_model") && begins("decoder_model")) {
        return Vec::new();
    }
    let kinds = dtypes(model);
    let wanted = DTYPES.iter().filter(|(dtype, _)| *dtype == USUAL || kinds.contains(dtype));
    let missing = wanted.flat_map(|(dtype, suffix)| {
        let stems = ["encoder_model", "decoder_model_merged"];
        stems
            .into_iter()
            .filter(|stem| !has(stem, suffix))
            .map(move |stem| (*dtype, format!("onnx/{stem}{suffix}.onnx")))
    });
    let remedy =
        "a model with an encoder and a decoder needs encoder_model and decoder_model_merged of the same kind";
    let found: Vec<Finding> = missing
        .map(|(dtype, path)| {
            let level = if dtype == USUAL && kinds.contains(USUAL) { Level::Fails } else { Level::Warns };
            Finding::new(level, format!("{path} is missing"), remedy)
        })
        .collect();
    if found.is_empty() {
        vec![Finding::good("encoder and decoder are there for every kind of weights")]
    } else {
        found
    }
}

fn sizes(model: &Model) -> Vec<Finding> {
    let large = model
        .files
        .iter()
        .filter(|(path, size)| path.ends_with(".onnx") && size.is_some_and(|size| size > PROTOBUF_MAX));
    let remedy = "save it with external data, which puts the tensors into a file that ends with .onnx_data";
    large
        .map(|(path, _)| {
            Finding::fails(format!("{path} is larger than the 2 GB that a file of ONNX can have"), remedy)
        })
        .collect()
}

/// Tensors that are kept outside: the configuration has to say so, and the files have to be there.
fn external(model: &Model) -> Vec<Finding> {
    let said =
        model.config.as_ref().map(|config| &config["transformers.js_config"]["use_external_data_format"]);
    let parts = |stem: &str, file: &str| match said {
        Some(Value::Object(of)) => of.get(stem).or_else(|| of.get(file)).map_or(0, count),
        Some(value) => count(value),
        None => 0,
    };
    let mut found = Vec::new();
    for path in model.files.keys().filter(|path| path.ends_with(".onnx")) {
        let file = path.rsplit('/').next().unwrap_or(path);
        let stem = DTYPES
            .iter()
            .filter_map(|(_, suffix)| file.strip_suffix(&format!("{suffix}.onnx")))
            .min_by_key(|stem| stem.len());
        let wanted = parts(stem.unwrap_or(file), file);
        for part in 0..wanted {
            let data = if part == 0 { format!("{path}_data") } else { format!("{path}_data_{part}") };
            if !model.files.contains_key(&data) {
                let remedy =
                    "use_external_data_format in config.json says that it is there: add it, or correct that";
                found.push(Finding::fails(format!("{data} is missing"), remedy));
            }
        }
        if wanted == 0 && model.files.contains_key(&format!("{path}_data")) {
            let remedy =
                "without transformers.js_config.use_external_data_format in config.json it is not fetched";
            found.push(Finding::warns(
                format!("{path}_data is there, and the configuration does not say so"),
                remedy,
            ));
        }
    }
    found
}

/// How many files of tensors a value stands for.
fn count(value: &Value) -> u64 {
    match value {
        Value::Bool(is_there) => u64::from(*is_there),
        // More than a model has, whatever the file says.
        Value::Number(number) => number.as_u64().unwrap_or(0).min(1000),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn model(files: &[&str]) -> Model {
        Model { files: files.iter().map(|path| ((*path).to_owned(), Some(1))).collect(), ..Model::default() }
    }

    fn said(model: &Model, level: Level) -> Vec<String> {
        check(model)
            .into_iter()
            .filter(|finding| finding.level == level)
            .map(|finding| finding.what)
            .collect()
    }

    const TEXT: [&str; 4] =
        ["config.json", "onnx/model_quantized.onnx", "tokenizer.json", "tokenizer_config.json"];

    #[test]
    fn a_model_that_has_everything_is_good() {
        let mut good = model(&TEXT);
        good.revision = Some("v1.0".to_owned());
        assert_eq!(said(&good, Level::Fails), Vec::<String>::new());
        assert_eq!(said(&good, Level::Warns), Vec::<String>::new());
        assert_eq!(dtypes(&good), BTreeSet::from(["q8"]));
    }

    #[test]
    fn what_is_missing_is_named() {
        let fails = said(&model(&["README.md"]), Level::Fails);
        let want = [
            "config.json is missing",
            "tokenizer.json is missing",
            "tokenizer_config.json is missing",
            "there are no weights in ONNX, and Firefox runs no others",
        ];
        assert_eq!(fails, want);
        let mut image = model(&TEXT);
        image.task = Some(Task::Both);
        assert_eq!(said(&image, Level::Fails), ["preprocessor_config.json is missing"]);
        let warns = said(&model(&["config.json", "model.onnx", "preprocessor_config.json"]), Level::Warns);
        assert_eq!(warns.len(), 2, "no q8, and not in onnx/: {warns:?}");
    }

    #[test]
    fn an_encoder_needs_its_decoder() {
        let mut half = model(&[&TEXT[..], &["onnx/encoder_model_quantized.onnx"]].concat());
        half.config = Some(json!({"is_encoder_decoder": true}));
        assert_eq!(said(&half, Level::Fails), ["onnx/decoder_model_merged_quantized.onnx is missing"]);
        let both = ["onnx/encoder_model_quantized.onnx", "onnx/decoder_model_merged_quantized.onnx"];
        assert_eq!(said(&model(&[&TEXT[..], &both].concat()), Level::Fails), Vec::<String>::new());
    }

    #[test]
    fn tensors_outside_are_said_and_there() {
        let mut large = model(&TEXT);
        large.files.insert(TEXT[1].to_owned(), Some(PROTOBUF_MAX + 1));
        assert_eq!(said(&large, Level::Fails).len(), 1);
        let mut outside = model(&[&TEXT[..], &["onnx/model_quantized.onnx_data"]].concat());
        assert_eq!(said(&outside, Level::Warns).len(), 1, "nobody says so");
        outside.config = Some(json!({"transformers.js_config": {"use_external_data_format": {"model": 2}}}));
        assert_eq!(said(&outside, Level::Fails), ["onnx/model_quantized.onnx_data_1 is missing"]);
        outside.config = Some(json!({"transformers.js_config": {"use_external_data_format": true}}));
        assert_eq!(said(&outside, Level::Fails), Vec::<String>::new());
    }

    #[test]
    fn revisions_and_names_have_to_reach_the_wire() {
        for (revision, level) in [
            ("main", Level::Good),
            ("1.0.0.alpha2", Level::Good),
            ("v1", Level::Warns),
            ("stable", Level::Fails),
            ("refs/pr/1", Level::Fails),
        ] {
            let mut model = model(&TEXT);
            model.revision = Some(revision.to_owned());
            assert_eq!(check(&model)[0].level, level, "{revision}");
        }
        for (path, is_good) in [
            ("onnx/a#b.onnx", false),
            ("onnx/50%.onnx", false),
            ("notes?.txt", true),
            ("onnx/a b.onnx", true),
        ] {
            let broken = said(&model(&[&TEXT[..], &[path]].concat()), Level::Fails);
            assert_eq!(broken.is_empty(), is_good, "{path}: {broken:?}");
        }
    }
}
