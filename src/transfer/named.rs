//! Models as they are named for locks and preloads: `hf:ID@REVISION`, `moz:ID@REVISION`.

use std::fmt;
use std::str::FromStr;

use percent_encoding::percent_decode_str;

use crate::model::{Hub, Repo, RepoKind, Revision};

/// A model at a revision of a hub.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModelName {
    /// The hub.
    pub hub: Hub,
    /// The repository.
    pub repo: Repo,
    /// The revision, as it is asked for.
    pub revision: String,
}

impl ModelName {
    /// The model of these names, if a person could name it.
    ///
    /// # Errors
    /// See [`BadModel`].
    pub fn new(hub: Hub, repo: Repo, revision: &str) -> Result<Self, BadModel> {
        let name = Self { hub, repo, revision: revision.to_owned() };
        // Behind the first @ comes the revision.
        if name.repo.id.contains('@') {
            return Err(BadModel::Repo);
        }
        let read: Self = name.argument().parse()?;
        if read == name { Ok(name) } else { Err(BadModel::Repo) }
    }

    /// The revision, and whether it can change.
    pub fn revision(&self) -> Revision {
        Revision::parse(self.hub, &self.revision)
    }

    /// The text that [`ModelName::from_str`] reads as this.
    pub fn argument(&self) -> String {
        let revision = self.revision.replace('%', "%25").replace('/', "%2F");
        format!("{}:{}@{revision}", self.prefix(), self.repo)
    }

    /// The hub as people write it.
    fn prefix(&self) -> &'static str {
        match self.hub {
            Hub::Mozilla => "moz",
            Hub::HuggingFace => "hf",
            // Only shown: nobody names an attachment as a model.
            Hub::Settings => Hub::Settings.name(),
        }
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}@{}", self.prefix(), self.repo, self.revision)
    }
}

/// Why a text names no model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadModel {
    /// It does not begin with a hub.
    Hub,
    /// What follows is no repository.
    Repo,
    /// What follows the @ is no revision.
    Revision,
}

impl fmt::Display for BadModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hub => "it must begin with hf: or moz:",
            Self::Repo => "the name of the model is none; expected ORG/MODEL, or MODEL",
            Self::Revision => "the revision behind the @ is none; a slash in it is written %2F",
        })
    }
}

impl std::error::Error for BadModel {}

impl FromStr for ModelName {
    type Err = BadModel;

    /// Reads `hf:[datasets/|spaces/]ID[@REVISION]` or `moz:ORG/MODEL[@REVISION]`; without a revision it is `main`.
    fn from_str(text: &str) -> Result<Self, BadModel> {
        let (hub, rest) = text.split_once(':').ok_or(BadModel::Hub)?;
        let hub = match hub {
            "hf" | "huggingface" => Hub::HuggingFace,
            "moz" | "mozilla" => Hub::Mozilla,
            _ => return Err(BadModel::Hub),
        };
        let (name, revision) = rest.split_once('@').unwrap_or((rest, "main"));
        let revision = percent_decode_str(revision).decode_utf8().map_err(|_| BadModel::Revision)?;
        if revision.is_empty() || revision.chars().any(char::is_control) {
            return Err(BadModel::Revision);
        }
        let kinds = [("datasets/", RepoKind::Dataset), ("spaces/", RepoKind::Space)];
        let kind = kinds.into_iter().find_map(|(prefix, kind)| Some((kind, name.strip_prefix(prefix)?)));
        let (kind, id) = kind.filter(|_| hub == Hub::HuggingFace).unwrap_or((RepoKind::Model, name));
        let parts = id.split('/').count();
        let fits = |part: &str| {
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            !part.is_empty() && part.chars().all(plain) && part != "." && part != ".."
        };
        if !(parts == 2 || parts == 1 && hub == Hub::HuggingFace) || !id.split('/').all(fits) {
            return Err(BadModel::Repo);
        }
        Ok(Self { hub, repo: Repo { kind, id: id.to_owned() }, revision: revision.into_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_a_hub_a_name_and_a_revision() {
        for (text, want) in [
            ("hf:acme/tiny", "hf:acme/tiny@main"),
            ("hf:gpt2@v1", "hf:gpt2@v1"),
            ("huggingface:datasets/acme/d@refs%2Fpr%2F1", "hf:datasets/acme/d@refs/pr/1"),
            ("moz:acme/tiny@v1.0", "moz:acme/tiny@v1.0"),
        ] {
            assert_eq!(text.parse::<ModelName>().unwrap().to_string(), want);
        }
        for (text, why) in [
            ("acme/tiny", BadModel::Hub),
            ("ollama:acme/tiny", BadModel::Hub),
            ("hf:", BadModel::Repo),
            ("hf:a/b/c", BadModel::Repo),
            ("hf:../x", BadModel::Repo),
            ("moz:tiny", BadModel::Repo),
            ("moz:datasets/acme/d", BadModel::Repo),
            ("hf:a/b@", BadModel::Revision),
            ("hf:a/b@%ff", BadModel::Revision),
        ] {
            assert_eq!(text.parse::<ModelName>(), Err(why), "{text}");
        }
    }
}
