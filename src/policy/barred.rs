//! Which models and files the operator has nobody given, whoever asks.
//!
//! A model is known by the name by which it is asked for; one that a hub knows by an older name too is to be listed by
//! both. What is barred is neither served, held or not, nor fetched.

use std::fmt;

use globset::{GlobBuilder, GlobMatcher};

use super::ModelPattern;
use crate::model::{Hub, Repo};

/// The operator's rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelRules {
    /// If there are any, only these.
    pub allow: Vec<ModelPattern>,
    /// None of these.
    pub deny: Vec<ModelPattern>,
    /// No file whose path is like these.
    pub deny_paths: Vec<PathPattern>,
    /// No file of these formats.
    pub deny_formats: Vec<FileFormat>,
}

/// Why something is given to nobody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Barred {
    /// It is none of those that are allowed.
    NotAllowed {
        /// The model.
        model: String,
    },
    /// It is denied.
    Denied {
        /// The model.
        model: String,
        /// By which pattern.
        pattern: String,
    },
    /// Its path is denied.
    Path {
        /// The path.
        path: String,
        /// By which pattern.
        pattern: String,
    },
    /// Its format is denied.
    Format {
        /// The path.
        path: String,
        /// Which one.
        format: FileFormat,
    },
    /// The bytes of any model could come that way, unseen.
    Unseen,
}

impl fmt::Display for Barred {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAllowed { model } => write!(f, "models.allow of this server does not have {model}"),
            Self::Denied { model, pattern } => {
                write!(f, "models.deny of this server has {pattern}, and so {model}")
            }
            Self::Path { path, pattern } => write!(f, "models.deny_paths of this server has {pattern}, and so {path}"),
            Self::Format { path, format } => write!(
                f,
                "models.deny_formats of this server has {}, and {path} is taken for such a file; {}",
                format.name(),
                format.remedy()
            ),
            Self::Unseen => f.write_str(
                "this server has rules for models (models.allow, models.deny), and does not see what passes here; with \
                 intercept.enabled it does",
            ),
        }
    }
}

impl std::error::Error for Barred {}

impl ModelRules {
    /// Whether nothing is barred.
    pub fn is_empty(&self) -> bool {
        self == &Self::default()
    }

    /// Why a model, or a file of it, is given to nobody, if it is not.
    pub fn bar(&self, hub: Hub, repo: &Repo, path: Option<&str>) -> Option<Barred> {
        if !Hub::MODELS.contains(&hub) {
            return None;
        }
        let model = || format!("{hub}:{repo}");
        if let Some(pattern) = self.deny.iter().find(|pattern| pattern.matches(hub, repo)) {
            return Some(Barred::Denied { model: model(), pattern: pattern.to_string() });
        }
        if !self.allow.is_empty() && !self.allow.iter().any(|pattern| pattern.matches(hub, repo)) {
            return Some(Barred::NotAllowed { model: model() });
        }
        self.bar_path(path?)
    }

    fn bar_path(&self, path: &str) -> Option<Barred> {
        if let Some(pattern) = self.deny_paths.iter().find(|pattern| pattern.matches(path)) {
            return Some(Barred::Path { path: path.to_owned(), pattern: pattern.0.clone() });
        }
        let format = *self.deny_formats.iter().find(|format| format.is_of(path))?;
        Some(Barred::Format { path: path.to_owned(), format })
    }
}

/// A pattern of paths, as `hf download` has them: `*` stands for slashes too. Letters are compared without regard to case.
#[derive(Clone, Debug)]
pub struct PathPattern(String, GlobMatcher);

impl PathPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.starts_with('/') {
            return Err("a path in a repository begins with no slash".to_owned());
        }
        let glob = GlobBuilder::new(text).case_insensitive(true).build();
        let glob = glob.map_err(|error| error.kind().to_string())?;
        Ok(Self(text.to_owned(), glob.compile_matcher()))
    }

    fn matches(&self, path: &str) -> bool {
        self.1.is_match(path)
    }
}

impl PartialEq for PathPattern {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for PathPattern {}

/// Formats of files that can run code where they are loaded, by the ends of their names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileFormat {
    /// Pickled objects of Python: loading one runs what is in it. PyTorch, joblib and dill write such files. The end
    /// `.bin` is among them because PyTorch's weights have it, although others use it too.
    Pickle,
    /// Arrays of NumPy, which can have pickled objects in them; NumPy itself loads these only where it is told to.
    Numpy,
    /// Models of Keras in HDF5, whose Lambda layers are code.
    KerasH5,
    /// Models of Keras in its own archive, with the same layers.
    Keras,
    /// Graphs of TensorFlow, which can read and write files.
    Tensorflow,
    /// Programs of Python, which `trust_remote_code` runs.
    Python,
}

impl FileFormat {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Pickle, Self::Numpy, Self::KerasH5, Self::Keras, Self::Tensorflow, Self::Python];

    /// The word of the setting.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pickle => "pickle",
            Self::Numpy => "numpy",
            Self::KerasH5 => "keras-h5",
            Self::Keras => "keras",
            Self::Tensorflow => "tensorflow",
            Self::Python => "python",
        }
    }

    /// The ends of names, in lower case.
    pub fn ends(self) -> &'static [&'static str] {
        match self {
            Self::Pickle => {
                &[".pkl", ".pickle", ".pt", ".pth", ".pth.tar", ".bin", ".ckpt", ".joblib", ".dill"]
            }
            Self::Numpy => &[".npy", ".npz"],
            Self::KerasH5 => &[".h5", ".hdf5"],
            Self::Keras => &[".keras"],
            Self::Tensorflow => &[".pb"],
            Self::Python => &[".py", ".pyc"],
        }
    }

    fn is_of(self, path: &str) -> bool {
        let path = path.to_ascii_lowercase();
        self.ends().iter().any(|end| path.ends_with(end))
    }

    fn remedy(self) -> &'static str {
        match self {
            Self::Python => "take a model that needs no code of its own",
            _ => "take the model's safetensors, GGUF or ONNX",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::RepoKind;

    fn patterns(texts: &[&str]) -> Vec<ModelPattern> {
        texts.iter().map(|text| ModelPattern::parse(text).unwrap()).collect()
    }

    fn bar(rules: &ModelRules, id: &str, path: Option<&str>) -> String {
        let repo = Repo { kind: RepoKind::Model, id: id.to_owned() };
        rules.bar(Hub::HuggingFace, &repo, path).map_or_else(String::new, |why| why.to_string())
    }

    #[test]
    fn deny_wins_over_allow_and_an_empty_list_allows_all() {
        let none = ModelRules::default();
        assert!(none.is_empty() && bar(&none, "acme/tiny", Some("x.pkl")).is_empty());
        let allow = patterns(&["acme/*", "mozilla:*"]);
        let rules = ModelRules { allow, deny: patterns(&["acme/evil*"]), ..none };
        assert_eq!(bar(&rules, "acme/tiny", None), "");
        assert!(bar(&rules, "other/tiny", None).contains("models.allow"));
        assert!(bar(&rules, "acme/Evil-2", None).contains("models.deny of this server has acme/evil*"));
        let record = Repo { kind: RepoKind::Model, id: "main/x".into() };
        assert_eq!(rules.bar(Hub::Settings, &record, None), None, "collections are no models");
    }

    #[test]
    fn files_are_barred_by_path_and_by_format() {
        let deny_paths =
            vec![PathPattern::parse("original/*").unwrap(), PathPattern::parse("*.exe").unwrap()];
        let deny_formats = vec![FileFormat::Pickle, FileFormat::KerasH5];
        let rules = ModelRules { deny_paths, deny_formats, ..ModelRules::default() };
        for path in
            ["original/x", "original/a/b", "a/b.EXE", "model.PKL", "a/pytorch_model.bin", "x.pth.tar", "w.h5"]
        {
            assert!(!bar(&rules, "a/b", Some(path)).is_empty(), "{path}");
        }
        for path in
            ["model.safetensors", "my-original/x", "config.json", "bin", "x.npy", "pkl.txt", "a.keras"]
        {
            assert_eq!(bar(&rules, "a/b", Some(path)), "", "{path}");
        }
        assert_eq!(bar(&rules, "a/b", None), "", "what is said of the model itself");
        assert!(PathPattern::parse("/x").is_err() && PathPattern::parse("a[").is_err());
    }
}
