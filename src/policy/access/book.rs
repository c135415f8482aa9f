//! The file of tokens and rules: what it says, and what that means.

use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use toml::Spanned;
use toml::value::Datetime;

use super::{Bearer, Grant, Right, Who};
use crate::model::{Sha256, Timestamp};
use crate::policy::ModelPattern;
use crate::policy::network::Network;

/// Longest file, in bytes; it bounds the tokens and rules that each request is compared with.
pub const MAX_BOOK: usize = 1 << 20;

/// The tokens that there are, and the rules for everybody else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Book {
    /// The tokens.
    pub tokens: Vec<Token>,
    /// The rules.
    pub rules: Vec<Rule>,
}

/// A token, without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// By which it is known, and what it is for.
    pub bearer: Arc<Bearer>,
    /// The digest of the secret.
    pub sha256: Sha256,
    /// Since when there is it.
    pub created: Timestamp,
    /// From when on it grants nothing.
    pub expires: Option<Timestamp>,
    /// What it grants.
    pub grant: Grant,
}

impl Token {
    /// Whether its time is over.
    pub fn has_expired(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|at| at <= now)
    }
}

/// What is granted to whom without a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// To whom.
    pub whom: Whom,
    /// What.
    pub grant: Grant,
}

/// Whom a rule is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whom {
    /// Whose certificate names this group.
    Group(String),
    /// Who comes from there.
    Network(Network),
}

impl Rule {
    fn is_for(&self, who: &Who) -> bool {
        match &self.whom {
            Whom::Group(group) => who.certificate.as_ref().is_some_and(|c| c.groups.contains(group)),
            Whom::Network(network) => network.has(who.address),
        }
    }
}

impl Book {
    /// What is granted to somebody now.
    pub(super) fn grants<'a>(&'a self, who: &'a Who, now: Timestamp) -> impl Iterator<Item = &'a Grant> {
        let shown = who.token.as_ref().and_then(|shown| self.tokens.iter().find(|t| t.bearer.id == shown.id));
        let by_token = shown.filter(|token| !token.has_expired(now)).map(|token| &token.grant);
        let by_rule = self.rules.iter().filter(|rule| rule.is_for(who)).map(|rule| &rule.grant);
        by_token.into_iter().chain(by_rule)
    }

    /// The token whose secret has this digest. All are compared, each to its end, so that the time it takes tells
    /// nothing of how near a guess was.
    pub fn token(&self, sha256: &Sha256) -> Option<&Token> {
        let is_it = |token: &Token| {
            aws_lc_rs::constant_time::verify_slices_are_equal(&token.sha256.0, &sha256.0).is_ok()
        };
        self.tokens.iter().fold(None, |found, token| if is_it(token) { Some(token) } else { found })
    }

    /// Whether a rule is for somebody by the address alone.
    pub fn knows_address(&self, who: &Who) -> bool {
        self.rules.iter().any(|rule| matches!(rule.whom, Whom::Network(_)) && rule.is_for(who))
    }

    /// Reads a file.
    ///
    /// # Errors
    /// See [`BadBook`].
    pub fn parse(text: &str) -> Result<Self, BadBook> {
        if text.len() > MAX_BOOK {
            return Err(BadBook::TooLong);
        }
        let written: Written = toml::from_str(text).map_err(|e| BadBook::Format(e.to_string()))?;
        let line = |at: usize| 1 + text[..at].matches('\n').count();
        let mut book = Self::default();
        for written in written.token {
            let line = line(written.span().start);
            let token = written.into_inner().read().map_err(|why| BadBook::Part { line, why })?;
            if book
                .tokens
                .iter()
                .any(|other| other.bearer.id == token.bearer.id || other.sha256 == token.sha256)
            {
                return Err(BadBook::Part {
                    line,
                    why: "another token has the same id or the same sha256".to_owned(),
                });
            }
            book.tokens.push(token);
        }
        for written in written.rule {
            let line = line(written.span().start);
            book.rules.push(written.into_inner().read().map_err(|why| BadBook::Part { line, why })?);
        }
        Ok(book)
    }
}

/// Why a text is no file of tokens and rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadBook {
    /// It is longer than [`MAX_BOOK`].
    TooLong,
    /// It is not TOML, or has what such a file does not have. The text says where.
    Format(String),
    /// A token or a rule means nothing.
    Part {
        /// The line where it begins, from 1 on.
        line: usize,
        /// What is wrong with it.
        why: String,
    },
}

impl fmt::Display for BadBook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "it is longer than {MAX_BOOK} bytes"),
            Self::Format(why) => f.write_str(why.trim_end()),
            Self::Part { line, why } => write!(f, "line {line}: {why}"),
        }
    }
}

impl std::error::Error for BadBook {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    token: Vec<Spanned<WrittenToken>>,
    #[serde(default)]
    rule: Vec<Spanned<WrittenRule>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenToken {
    id: String,
    name: String,
    sha256: String,
    created: Datetime,
    expires: Option<Datetime>,
    may: Vec<String>,
    #[serde(default)]
    models: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenRule {
    group: Option<String>,
    network: Option<String>,
    may: Vec<String>,
    #[serde(default)]
    models: Vec<String>,
}

impl WrittenToken {
    fn read(self) -> Result<Token, String> {
        let sha256 = Sha256::parse(&self.sha256).ok_or("sha256 must be 64 hexadecimal digits")?;
        let grant = grant(&self.may, &self.models)?;
        let (created, expires) =
            (moment("created", self.created)?, self.expires.map(|at| moment("expires", at)));
        if self.id.is_empty() || self.name.is_empty() {
            return Err("id and name must not be empty".to_owned());
        }
        let bearer = Arc::new(Bearer { id: self.id, name: self.name });
        Ok(Token { bearer, sha256, created, expires: expires.transpose()?, grant })
    }
}

impl WrittenRule {
    fn read(self) -> Result<Rule, String> {
        let whom = match (self.group, self.network) {
            (Some(group), None) => Whom::Group(group),
            (None, Some(network)) => Whom::Network(
                Network::parse(&network).map_err(|why| format!("network = {network:?}: {why}"))?,
            ),
            _ => return Err("a rule is for one group or one network".to_owned()),
        };
        Ok(Rule { whom, grant: grant(&self.may, &self.models)? })
    }
}

fn grant(may: &[String], models: &[String]) -> Result<Grant, String> {
    let right = |name: &String| {
        Right::of_name(name)
            .ok_or_else(|| format!("there is no right {name:?}; known are read, preload and admin"))
    };
    let pattern = |text: &String| ModelPattern::parse(text).map_err(|why| format!("models: {text:?}: {why}"));
    let may: Vec<_> = may.iter().map(right).collect::<Result<_, _>>()?;
    if may.is_empty() {
        return Err("may must name a right: read, preload or admin".to_owned());
    }
    Ok(Grant { may, models: models.iter().map(pattern).collect::<Result<_, _>>()? })
}

fn moment(key: &str, at: Datetime) -> Result<Timestamp, String> {
    let text = at.to_string();
    Timestamp::parse(&text)
        .ok_or_else(|| format!("{key} must be a date, or a time in UTC such as 2027-01-31T12:00:00Z"))
}
