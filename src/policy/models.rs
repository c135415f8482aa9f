//! Which models a rule means: `[HUB:]GLOB`.
//!
//! The glob is compared with the repository as it is displayed: `acme/tiny`, `datasets/acme/tiny`, or a bare `gpt2`. A
//! star does not stand for a slash, so `acme/*` is every model of acme and none of its data sets; `*` or `**` alone is
//! everything. Letters are compared without regard to case, as Hugging Face does with names, so that no other spelling
//! of a name gets past a rule. Without a hub before the colon the pattern is for every hub of models.

use std::fmt;

use globset::{GlobBuilder, GlobMatcher};

use crate::model::{Hub, Repo};

/// Models that a rule means.
#[derive(Clone, Debug)]
pub struct ModelPattern {
    text: String,
    hub: Option<Hub>,
    /// None: every repository.
    glob: Option<GlobMatcher>,
}

/// A text that is no pattern of models.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadModelPattern {
    /// It is empty, or there is nothing behind the hub.
    Empty,
    /// What is before the colon is the name of no hub of models.
    Hub(String),
    /// A URL was given.
    Url,
    /// It begins or ends with a slash, or has more parts than a repository.
    Parts,
    /// The glob cannot be read.
    Glob(String),
}

impl fmt::Display for BadModelPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("there is no pattern; * is every model"),
            Self::Hub(name) => {
                write!(f, "there is no hub {name:?}; before the colon mozilla or huggingface is expected")
            }
            Self::Url => f.write_str("a URL is given; a pattern is such as acme/* or huggingface:acme/tiny"),
            Self::Parts => f.write_str(
                "a model is ORGANIZATION/MODEL, a data set datasets/ORGANIZATION/NAME; revisions and paths of files are no \
                 part of it",
            ),
            Self::Glob(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for BadModelPattern {}

/// Kind, organization and name.
const MOST_PARTS: usize = 3;

impl ModelPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, BadModelPattern> {
        if text.contains("://") {
            return Err(BadModelPattern::Url);
        }
        let (hub, glob) = match text.split_once(':') {
            Some((name, glob)) => (Some(hub(name)?), glob),
            None => (None, text),
        };
        let glob = match glob {
            "" => return Err(BadModelPattern::Empty),
            "*" | "**" => None,
            glob => Some(matcher(glob)?),
        };
        Ok(Self { text: text.to_owned(), hub, glob })
    }

    /// Whether a repository at a hub is meant.
    pub fn matches(&self, hub: Hub, repo: &Repo) -> bool {
        self.hub.is_none_or(|only| only == hub)
            && Hub::MODELS.contains(&hub)
            && self.glob.as_ref().is_none_or(|glob| glob.is_match(repo.to_string()))
    }
}

/// The hub of that name, which may be short as in lock files.
fn hub(name: &str) -> Result<Hub, BadModelPattern> {
    match name {
        "mozilla" | "moz" => Ok(Hub::Mozilla),
        "huggingface" | "hf" => Ok(Hub::HuggingFace),
        other => Err(BadModelPattern::Hub(other.to_owned())),
    }
}

fn matcher(glob: &str) -> Result<GlobMatcher, BadModelPattern> {
    let parts = glob.split('/');
    if parts.clone().any(str::is_empty) || parts.count() > MOST_PARTS || glob.contains('@') {
        return Err(BadModelPattern::Parts);
    }
    let built = GlobBuilder::new(glob).literal_separator(true).case_insensitive(true).build();
    built.map(|glob| glob.compile_matcher()).map_err(|error| BadModelPattern::Glob(error.kind().to_string()))
}

impl fmt::Display for ModelPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl PartialEq for ModelPattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for ModelPattern {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::RepoKind;

    fn repo(text: &str) -> Repo {
        let (kind, id) = match text.strip_prefix("datasets/") {
            Some(id) => (RepoKind::Dataset, id),
            None => (RepoKind::Model, text),
        };
        Repo { kind, id: id.to_owned() }
    }

    #[test]
    fn a_pattern_means_what_its_glob_fits_at_its_hub() {
        let (moz, hf) = (Hub::Mozilla, Hub::HuggingFace);
        let table = [
            ("acme/*", hf, "acme/tiny", true),
            ("acme/*", moz, "acme/tiny", true),
            ("acme/*", hf, "ACME/Tiny", true),
            ("acme/*", hf, "acme-too/tiny", false),
            ("acme/*", hf, "datasets/acme/tiny", false),
            ("datasets/acme/*", hf, "datasets/acme/tiny", true),
            ("datasets/acme/x", hf, "datasets/acme/y", false),
            ("mozilla:acme/tiny", moz, "acme/tiny", true),
            ("mozilla:acme/tiny", hf, "acme/tiny", false),
            ("huggingface:*", hf, "acme/tiny", true),
            ("hf:*", hf, "gpt2", true),
            ("huggingface:*", moz, "acme/tiny", false),
            ("*", hf, "datasets/acme/tiny", true),
            ("**", hf, "gpt2", true),
            ("*", Hub::Settings, "main/x", false),
            ("**/tiny", hf, "datasets/acme/tiny", true),
            ("gpt?", hf, "gpt2", true),
            ("gpt?", hf, "gpt/", false),
            ("acme/{a,b}-*", hf, "acme/b-1", true),
        ];
        for (pattern, hub, name, want) in table {
            let pattern = ModelPattern::parse(pattern).unwrap();
            assert_eq!(pattern.matches(hub, &repo(name)), want, "{pattern} {hub} {name}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_told_why() {
        let table = [
            ("", BadModelPattern::Empty),
            ("hf:", BadModelPattern::Empty),
            ("settings:*", BadModelPattern::Hub("settings".into())),
            ("huggingfcae:acme/*", BadModelPattern::Hub("huggingfcae".into())),
            ("https://huggingface.co/acme/tiny", BadModelPattern::Url),
            ("/acme/tiny", BadModelPattern::Parts),
            ("acme/", BadModelPattern::Parts),
            ("acme/tiny/resolve/main", BadModelPattern::Parts),
            ("acme/tiny@main", BadModelPattern::Parts),
        ];
        for (text, want) in table {
            assert_eq!(ModelPattern::parse(text).unwrap_err(), want, "{text:?}");
        }
        let open = ModelPattern::parse("acme/[").unwrap_err();
        assert!(matches!(&open, BadModelPattern::Glob(why) if why.contains("unclosed")), "{open}");
    }
}
