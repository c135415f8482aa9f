//! What a Firefox needs of models, by the word of signed records.

use serde::{Deserialize, Serialize};

/// For what a record names a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The model.
    Model,
    /// Its tokenizer.
    Tokenizer,
    /// Its processor.
    Processor,
}

/// A repository at a revision that records name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Needed {
    /// The repository.
    pub repo: String,
    /// The revision.
    pub revision: String,
    /// For what it is needed, in the order of the records.
    pub uses: Vec<Use>,
    /// The record of the deny list that forbids it all the same.
    pub denied: Option<String>,
}

/// For what a record names a repository, and with what Firefox runs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Use {
    /// The record.
    pub record: String,
    /// As what it names the repository.
    pub role: Role,
    /// The feature of Firefox that the record is for.
    pub feature: Option<String>,
    /// The task that it is for.
    pub task: Option<String>,
    /// The kinds of weights that it names, each once; none where it leaves that to Firefox.
    pub dtypes: Vec<String>,
    /// What runs the model, where the record says so.
    pub backend: Option<String>,
}

impl Use {
    /// What it is for: the feature, or where the record has none the task.
    pub fn purpose(&self) -> &str {
        self.feature.as_deref().or(self.task.as_deref()).unwrap_or(&self.record)
    }

    /// Whether it is for what is called so: a feature or a task.
    pub fn is_for(&self, name: &str) -> bool {
        self.purpose() == name || self.task.as_deref() == Some(name)
    }
}

impl Needed {
    /// The same for some purposes only; none where it is for none of them.
    pub fn only_for(&self, is_meant: impl Fn(&Use) -> bool) -> Option<Self> {
        let uses: Vec<Use> = self.uses.iter().filter(|of| is_meant(of)).cloned().collect();
        (!uses.is_empty()).then(|| Self { uses, ..self.clone() })
    }
}
