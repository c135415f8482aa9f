//! `huggingface.lock.yaml`, by which hermeto fetches models for builds without a network.
//!
//! ```yaml
//! metadata:
//!   version: "1.0"
//! models:
//!   - repository: acme/tiny
//!     revision: 0123456789abcdef0123456789abcdef01234567
//!     type: model
//!     include_patterns: ["*.safetensors", "config.json"]
//! ```

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;

use super::ModelName;
use crate::model::{Commit, Hub, Repo, RepoKind};

/// The only version of the format.
const VERSION: &str = "1.0";

/// What the file says of one model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pinned {
    /// The commit.
    pub commit: Commit,
    /// The patterns that files have to fit; none for all files.
    pub include: Vec<String>,
}

/// Why a text is no such file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadHermeto {
    /// It is not YAML, or does not have what such a file has.
    Format(String),
    /// It is of another version.
    Version(String),
    /// An entry names no model at a commit.
    Model(String),
    /// Two entries name one branch or tag, and different commits.
    Twice(String),
}

impl fmt::Display for BadHermeto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Format(why) => f.write_str(why.trim_end()),
            Self::Version(version) => write!(f, "it has version {version:?}; known is {VERSION:?}"),
            Self::Model(what) => write!(f, "{what} is no repository at a commit"),
            Self::Twice(what) => write!(f, "{what} is in it with two commits"),
        }
    }
}

impl std::error::Error for BadHermeto {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    metadata: Metadata,
    models: Vec<WrittenModel>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Metadata {
    version: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenModel {
    repository: String,
    revision: String,
    /// The branch or tag that stands for the commit.
    #[serde(rename = "ref")]
    reference: Option<String>,
    #[serde(rename = "type", default)]
    kind: Kind,
    include_patterns: Option<Vec<String>>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    #[default]
    Model,
    Dataset,
}

/// Reads such a file. An entry that names a branch or tag is a model at that, every other one is a model at its commit;
/// of entries of one name the patterns are joined.
///
/// # Errors
/// See [`BadHermeto`].
pub fn read(text: &str) -> Result<BTreeMap<ModelName, Pinned>, BadHermeto> {
    let written: Written =
        serde_saphyr::from_str(text).map_err(|error| BadHermeto::Format(error.to_string()))?;
    if written.metadata.version != VERSION {
        return Err(BadHermeto::Version(written.metadata.version));
    }
    let mut models: BTreeMap<ModelName, Pinned> = BTreeMap::new();
    for model in written.models {
        let (name, pinned) = pinned(model)?;
        match models.get_mut(&name) {
            None => drop(models.insert(name, pinned)),
            Some(other) if other.commit != pinned.commit => return Err(BadHermeto::Twice(name.to_string())),
            // No pattern stands for all files.
            Some(other) if other.include.is_empty() || pinned.include.is_empty() => other.include.clear(),
            Some(other) => other.include.extend(pinned.include),
        }
    }
    Ok(models)
}

fn pinned(model: WrittenModel) -> Result<(ModelName, Pinned), BadHermeto> {
    let bad = || BadHermeto::Model(format!("{}@{}", model.repository, model.revision));
    let commit = Commit::parse(&model.revision).ok_or_else(bad)?;
    let kind = match model.kind {
        Kind::Model => RepoKind::Model,
        Kind::Dataset => RepoKind::Dataset,
    };
    let revision = model.reference.as_deref().unwrap_or(commit.as_str());
    let repo = Repo { kind, id: model.repository.clone() };
    let name = ModelName::new(Hub::HuggingFace, repo, revision).map_err(|_| bad())?;
    let include = model.include_patterns.unwrap_or_default();
    Ok((name, Pinned { commit, include }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    fn file(models: &str) -> String {
        format!("metadata:\n  version: \"1.0\"\nmodels:\n{models}")
    }

    #[test]
    fn entries_are_models_at_commits() {
        let digits = "1".repeat(40);
        let text = file(&format!(
            "  - repository: \"gpt2\"\n    revision: \"{COMMIT}\"\n    type: \"model\"\n\
             \x20 - {{repository: acme/d, revision: {digits}, type: dataset, include_patterns: ['*.json', data/]}}\n\
             \x20 - {{repository: acme/d, revision: {digits}, type: dataset, include_patterns: ['*.csv']}}\n\
             \x20 - {{repository: acme/m, revision: {COMMIT}, ref: v1}}\n"
        ));
        let models = read(&text).unwrap();
        let shown: Vec<String> = models.iter().map(|(n, p)| format!("{n} {:?}", p.include)).collect();
        assert_eq!(
            shown,
            [
                "hf:acme/m@v1 []".to_owned(),
                format!("hf:gpt2@{COMMIT} []"),
                format!("hf:datasets/acme/d@{digits} [\"*.json\", \"data/\", \"*.csv\"]"),
            ]
        );
    }

    #[test]
    fn what_is_no_such_file_is_refused() {
        let one = |fields: &str| file(&format!("  - {{{fields}}}\n"));
        let bad = |text: &str| read(text).unwrap_err();
        assert_eq!(bad("metadata: {version: '2.0'}\nmodels: []"), BadHermeto::Version("2.0".to_owned()));
        assert!(matches!(bad("]["), BadHermeto::Format(_)));
        assert!(matches!(bad("metadata: {version: '1.0'}"), BadHermeto::Format(_)));
        assert!(matches!(bad(&one("repository: gpt2")), BadHermeto::Format(_)));
        assert!(matches!(bad(&one("repository: gpt2, revision: main")), BadHermeto::Model(_)));
        assert!(matches!(bad(&one(&format!("repository: a/b/c, revision: {COMMIT}"))), BadHermeto::Model(_)));
        assert!(matches!(
            bad(&one(&format!("repository: gpt2, revision: {COMMIT}, url: x"))),
            BadHermeto::Format(_)
        ));
        let twice = format!(
            "  - {{repository: gpt2, revision: {COMMIT}, ref: main}}\n  - {{repository: gpt2, revision: {}, ref: main}}\n",
            "a".repeat(40)
        );
        assert_eq!(bad(&file(&twice)), BadHermeto::Twice("hf:gpt2@main".to_owned()));
    }

    #[test]
    fn aliases_are_not_expanded_without_end() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let before = format!("*a{}", level - 1);
            text += &format!("a{level}: &a{level} [{}]\n", [before.as_str(); 10].join(", "));
        }
        assert!(matches!(read(&text), Err(BadHermeto::Format(_))));
    }
}
