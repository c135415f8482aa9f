//! Patterns of files on the command line: `[HUB:]ORG/MODEL[@REVISION][/PATH]`.

use std::fmt;

use clap::{Arg, ArgMatches};
use percent_encoding::percent_decode_str;

use super::exit::{Exit, Failure};
use crate::admin::control::Selector;
use crate::model::Hub;

const TARGET: &str = "target";

/// What to write about patterns below a command's help.
pub const EXPLAINED: &str = "\
A TARGET is [HUB:]ORG/MODEL[@REVISION][/PATH]:
  openai-community/gpt2                   a model, in every revision, of any hub
  huggingface:openai-community/gpt2       the same, of one hub only
  huggingface:                            everything of one hub
  acme/tiny@main                          one revision; a slash in it is written %2F
  acme/tiny@v1.0/onnx/model.onnx          one file of one revision
  acme/tiny/config.json                   one file in every revision
  datasets/acme/tiny  spaces/acme/tiny    data sets and spaces of Hugging Face
  gpt2@main                               a model without an organization";

/// The argument.
pub fn arg() -> Arg {
    Arg::new(TARGET).value_name("TARGET").help("Which files: [HUB:]ORG/MODEL[@REVISION][/PATH]")
}

/// What was given; everything if nothing was.
///
/// # Errors
/// When it is no pattern.
pub fn given(matches: &ArgMatches) -> Result<Selector, Failure> {
    match matches.get_one::<String>(TARGET) {
        Some(text) => parsed(text),
        None => Ok(Selector::default()),
    }
}

/// The selector that a pattern is.
///
/// # Errors
/// When it is no pattern.
pub fn parsed(text: &str) -> Result<Selector, Failure> {
    parse(text).map_err(|why| {
        let expected = "expected [HUB:]ORG/MODEL[@REVISION][/PATH]";
        Failure::new(Exit::Usage, format!("{text:?} is no target: {why}; {expected}"))
    })
}

/// The pattern as it was given, for messages.
pub fn text(matches: &ArgMatches) -> &str {
    matches.get_one::<String>(TARGET).map_or("anything", String::as_str)
}

/// Why a text is no pattern.
#[derive(Debug, PartialEq, Eq)]
enum NotATarget {
    Hub(String),
    Empty(&'static str),
    Revision,
}

impl fmt::Display for NotATarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hub(name) => {
                write!(f, "there is no hub {name:?}; known are {}", Hub::ALL.map(Hub::name).join(", "))
            }
            Self::Empty(what) => write!(f, "{what} is empty"),
            Self::Revision => write!(f, "the revision is not UTF-8"),
        }
    }
}

fn parse(text: &str) -> Result<Selector, NotATarget> {
    let (hub, rest) = match text.split_once(':') {
        // A colon further back belongs to a path or a revision.
        Some((hub, rest)) if !hub.contains(['/', '@']) => {
            (Some(hub.parse().map_err(|()| NotATarget::Hub(hub.to_owned()))?), rest)
        }
        _ => (None, text),
    };
    if hub.is_some() && rest.is_empty() {
        return Ok(Selector { hub, ..Selector::default() });
    }
    let prefix = ["datasets/", "spaces/"].into_iter().find(|p| rest.starts_with(p)).unwrap_or("");
    let rest = &rest[prefix.len()..];
    // The revision begins at an @ within the first two segments; a later one belongs to the path.
    let second_slash = rest.match_indices('/').nth(1).map_or(rest.len(), |(at, _)| at);
    let (id, revision, path) = match rest[..second_slash].find('@') {
        Some(at) => {
            let (revision, path) = split_path(&rest[at + 1..]);
            (&rest[..at], Some(decode(revision)?), path)
        }
        None if second_slash < rest.len() => (&rest[..second_slash], None, Some(&rest[second_slash + 1..])),
        None => (rest, None, None),
    };
    if id.split('/').any(str::is_empty) {
        return Err(NotATarget::Empty("a part of the model's name"));
    }
    if path == Some("") {
        return Err(NotATarget::Empty("the path"));
    }
    let repo = Some(format!("{prefix}{id}"));
    Ok(Selector { hub, repo, revision, path: path.map(str::to_owned) })
}

fn split_path(text: &str) -> (&str, Option<&str>) {
    text.split_once('/').map_or((text, None), |(revision, path)| (revision, Some(path)))
}

fn decode(revision: &str) -> Result<String, NotATarget> {
    if revision.is_empty() {
        return Err(NotATarget::Empty("the revision"));
    }
    let decoded = percent_decode_str(revision).decode_utf8().map_err(|_| NotATarget::Revision)?;
    Ok(decoded.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selector(hub: Option<Hub>, repo: &str, revision: Option<&str>, path: Option<&str>) -> Selector {
        let own = |text: &str| Some(text.to_owned());
        Selector {
            hub,
            repo: own(repo).filter(|r| !r.is_empty()),
            revision: revision.and_then(own),
            path: path.and_then(own),
        }
    }

    #[test]
    fn a_target_has_up_to_four_parts() {
        let hf = Some(Hub::HuggingFace);
        let cases = [
            ("acme/tiny", selector(None, "acme/tiny", None, None)),
            ("huggingface:acme/tiny", selector(hf, "acme/tiny", None, None)),
            ("huggingface:", selector(hf, "", None, None)),
            ("mozilla:acme/tiny@v1.0", selector(Some(Hub::Mozilla), "acme/tiny", Some("v1.0"), None)),
            ("acme/tiny@main/a/b c.txt", selector(None, "acme/tiny", Some("main"), Some("a/b c.txt"))),
            ("acme/tiny@refs%2Fpr%2F1/x", selector(None, "acme/tiny", Some("refs/pr/1"), Some("x"))),
            ("acme/tiny/config.json", selector(None, "acme/tiny", None, Some("config.json"))),
            ("acme/tiny/a:b@c/d", selector(None, "acme/tiny", None, Some("a:b@c/d"))),
            ("datasets/acme/tiny@main/x", selector(None, "datasets/acme/tiny", Some("main"), Some("x"))),
            ("huggingface:spaces/demo", selector(hf, "spaces/demo", None, None)),
            ("gpt2", selector(None, "gpt2", None, None)),
            ("gpt2@main/config.json", selector(None, "gpt2", Some("main"), Some("config.json"))),
        ];
        for (text, want) in cases {
            assert_eq!(parse(text), Ok(want), "{text}");
        }
    }

    #[test]
    fn what_is_no_target_is_explained() {
        let bad = [
            "",
            "/",
            "acme/",
            "/tiny",
            "acme//x",
            "acme/tiny@",
            "acme/tiny@main/",
            "acme/tiny/",
            "a@%ff",
            "@v",
        ];
        for text in bad {
            assert!(parse(text).is_err(), "{text:?}");
        }
        let error = parse("hugingface:acme/tiny").unwrap_err().to_string();
        assert_eq!(error, "there is no hub \"hugingface\"; known are mozilla, huggingface, settings");
    }
}
