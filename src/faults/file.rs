//! The file of rules: what it says, and what that means.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use globset::{GlobBuilder, GlobMatcher};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use serde::Deserialize;
use toml::Spanned;

use super::amount::{Lasting, Size, Speed};
use super::rules::{Fault, Rule, Rules};

/// Longest file, in bytes; it bounds the bodies and header fields in it too.
pub const MAX_TEXT: usize = 64 * 1024;
/// Most rules in a file; each request is compared with all of them.
const MAX_RULES: usize = 100;
/// Longest pattern of a path, in bytes.
const MAX_PATTERN: usize = 1024;
/// Longest wait before a head.
const MAX_DELAY: Duration = Duration::from_secs(600);

/// Why a text is no file of rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadRules {
    /// It is longer than [`MAX_TEXT`].
    TooLong,
    /// It has more rules than a request is compared with.
    TooMany(usize),
    /// It is not TOML, or has what such a file does not have. The text says where.
    Format(String),
    /// A rule means nothing.
    Rule {
        /// Its number, from 1 on.
        rule: usize,
        /// The line where it begins, from 1 on.
        line: usize,
        /// What is wrong with it, and what would be right.
        why: String,
    },
}

impl fmt::Display for BadRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "it is longer than {MAX_TEXT} bytes; shorten its bodies"),
            Self::TooMany(count) => write!(f, "it has {count} rules; the most are {MAX_RULES}"),
            Self::Format(why) => f.write_str(why.trim_end()),
            Self::Rule { rule, line, why } => write!(f, "rule {rule}, at line {line}: {why}"),
        }
    }
}

impl std::error::Error for BadRules {}

impl Rules {
    /// Reads a file.
    ///
    /// # Errors
    /// See [`BadRules`].
    pub fn parse(text: &str) -> Result<Self, BadRules> {
        if text.len() > MAX_TEXT {
            return Err(BadRules::TooLong);
        }
        let written: Written = toml::from_str(text).map_err(|e| BadRules::Format(e.to_string()))?;
        if written.fault.len() > MAX_RULES {
            return Err(BadRules::TooMany(written.fault.len()));
        }
        let numbered = written.fault.into_iter().zip(1..);
        let rules = numbered.map(|(written, rule)| {
            let line = 1 + text[..written.span().start].matches('\n').count();
            written.into_inner().read().map_err(|why| BadRules::Rule { rule, line, why })
        });
        Ok(Self { seed: written.seed, rules: rules.collect::<Result<_, _>>()? })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    seed: u64,
    #[serde(default)]
    fault: Vec<Spanned<WrittenRule>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenRule {
    path: String,
    method: Option<String>,
    #[serde(default)]
    skip: u64,
    times: Option<u64>,
    probability: Option<f64>,
    status: Option<u16>,
    headers: Option<BTreeMap<String, String>>,
    body: Option<String>,
    delay: Option<Lasting>,
    slow: Option<Speed>,
    stall: Option<Size>,
    cut: Option<Size>,
    wrong_byte: Option<Size>,
    wrong_length: Option<i64>,
    etag: Option<Etag>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Etag {
    Changes,
}

impl WrittenRule {
    fn read(self) -> Result<Rule, String> {
        let method = self.method.as_ref().map(|name| Method::try_from(name.to_ascii_uppercase().as_str()));
        let probability = self.probability.unwrap_or(1.0);
        if !(probability > 0.0 && probability <= 1.0) {
            return Err("probability is more than 0, and at most 1".to_owned());
        }
        if self.times == Some(0) {
            return Err("times is at least 1; without it there is no end".to_owned());
        }
        Ok(Rule {
            path: pattern(&self.path)?,
            method: method.transpose().map_err(|_| "method is one such as \"GET\"".to_owned())?,
            skip: self.skip,
            times: self.times,
            probability,
            fault: self.fault()?,
        })
    }

    fn fault(self) -> Result<Fault, String> {
        if self.status.is_none() && (self.headers.is_some() || self.body.is_some()) {
            return Err("headers and body are for a status; add one".to_owned());
        }
        if self.wrong_length == Some(0) {
            return Err("wrong_length differs from 0".to_owned());
        }
        if self.delay.as_ref().is_some_and(|Lasting(delay)| *delay > MAX_DELAY) {
            return Err(format!("delay is at most {} s", MAX_DELAY.as_secs()));
        }
        let (headers, body) = (self.headers.unwrap_or_default(), self.body);
        let all = [
            self.status.map(|status| answer(status, headers, body)).transpose()?,
            self.delay.map(|Lasting(delay)| Fault::Delay(delay)),
            self.slow.map(|Speed(bytes_per_second)| Fault::Slow(bytes_per_second)),
            self.stall.map(|Size(after)| Fault::Stall(after)),
            self.cut.map(|Size(after)| Fault::Cut(after)),
            self.wrong_byte.map(|Size(at)| Fault::WrongByte(at)),
            self.wrong_length.map(Fault::WrongLength),
            self.etag.map(|Etag::Changes| Fault::Etag),
        ];
        let mut faults = all.into_iter().flatten();
        match (faults.next(), faults.next()) {
            (Some(fault), None) => Ok(fault),
            (None, _) => Err("it has no fault; add one of status, delay, slow, stall, cut, wrong_byte, \
                              wrong_length and etag"
                .to_owned()),
            (Some(one), Some(other)) => {
                Err(format!("it has both {} and {}; make two rules of it", one.name(), other.name()))
            }
        }
    }
}

/// A pattern with the meaning that patterns of files have everywhere here: `*` stands for slashes too.
fn pattern(text: &str) -> Result<GlobMatcher, String> {
    if text.len() > MAX_PATTERN {
        return Err(format!("path is longer than {MAX_PATTERN} bytes"));
    }
    if !text.starts_with(['/', '*', '?', '[', '{']) {
        return Err(format!("no path begins like {text:?}; it is that of the URL, as in \"*/{text}\""));
    }
    let built = GlobBuilder::new(text).literal_separator(false).backslash_escape(false).build();
    built.map(|glob| glob.compile_matcher()).map_err(|e| format!("{text:?} is no pattern: {}", e.kind()))
}

/// The answer that stands in for the server's.
fn answer(status: u16, headers: BTreeMap<String, String>, body: Option<String>) -> Result<Fault, String> {
    let known = (200..600).contains(&status).then(|| StatusCode::from_u16(status).ok()).flatten();
    let status = known.ok_or_else(|| "status is a number from 200 to 599".to_owned())?;
    let has_no_body =
        matches!(status, StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::NOT_MODIFIED);
    if has_no_body && body.is_some() {
        return Err(format!("an answer with status {} has no body", status.as_u16()));
    }
    let mut fields = HeaderMap::new();
    if !has_no_body {
        fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    }
    for (name, value) in headers {
        let field = HeaderName::try_from(&name).map_err(|_| format!("{name:?} is no name of a header"))?;
        if [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::CONNECTION].contains(&field) {
            return Err(format!("{name} belongs to the connection; leave it out"));
        }
        let value = HeaderValue::try_from(&value).map_err(|_| format!("{name} cannot have that value"))?;
        fields.insert(field, value);
    }
    let text = || if has_no_body { String::new() } else { "a fault on purpose\n".to_owned() };
    let body = Bytes::from(body.unwrap_or_else(text));
    Ok(Fault::Status { status, headers: fields, body })
}

#[cfg(test)]
mod tests;
