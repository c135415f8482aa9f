//! Tokens as text: what is told to their holder, and what is written down of them.
//!
//! A token is 256 random bits. What is written down is their SHA-256 and nothing slower: a slow hash makes up for
//! secrets that people choose, of which there are few enough to try; nobody tries 2^256.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::Digest as _;

use super::{Book, Grant, Right};
use crate::model::{Sha256, Timestamp, hex};

/// What every token begins with, so that programs that look for lost secrets know it.
const PREFIX: &str = "hct_";
/// Bytes of a token, and behind them those of its id.
const SECRET: usize = 32;
const ID: usize = 5;

/// A token that was just made.
pub struct NewToken {
    /// What its holder is told, once.
    pub text: String,
    /// By which it is revoked.
    pub id: String,
    /// The digest of the text.
    pub sha256: Sha256,
}

impl NewToken {
    /// How many random bytes one is made of.
    pub const BYTES: usize = SECRET + ID;

    /// The token of these bytes, which must be random.
    pub fn of(random: &[u8; Self::BYTES]) -> Self {
        let text = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(&random[..SECRET]));
        let id = format!("t{}", hex(&random[SECRET..]));
        Self { sha256: digest(text.as_bytes()), text, id }
    }
}

/// What is written down of a token that somebody shows.
pub fn digest(shown: &[u8]) -> Sha256 {
    Sha256(sha2::Sha256::digest(shown).into())
}

/// The text of a file without the token of this id, all else being as it was; nothing if it cannot be cut out so.
pub fn without(text: &str, book: &Book, id: &str) -> Option<String> {
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let heads: Vec<usize> = (0..lines.len()).filter(|at| lines[*at].trim_start().starts_with('[')).collect();
    let ends = heads.iter().skip(1).copied().chain([lines.len()]);
    let is_it = |from: usize, to: usize| {
        let part = Book::parse(&lines[from..to].concat());
        part.is_ok_and(|part| part.rules.is_empty() && part.tokens.iter().any(|token| token.bearer.id == id))
    };
    let (from, to) = heads.iter().copied().zip(ends).find(|(from, to)| is_it(*from, *to))?;
    // Comments at the end belong to what follows.
    let is_said = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
    let last = (from..to).rev().find(|at| is_said(&lines[*at]))?;
    let rest = [&lines[..from], &lines[last + 1..]].concat().concat();
    let mut wanted = book.clone();
    wanted.tokens.retain(|token| token.bearer.id != id);
    (Book::parse(&rest).as_ref() == Ok(&wanted)).then_some(rest)
}

/// The part of the file that a new token is.
pub fn entry(
    new: &NewToken,
    name: &str,
    grant: &Grant,
    created: Timestamp,
    expires: Option<Timestamp>,
) -> String {
    // JSON's escapes are a subset of those of TOML's basic strings.
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let list =
        |items: Vec<String>| format!("[{}]", items.iter().map(|i| quoted(i)).collect::<Vec<_>>().join(", "));
    let mut out = format!(
        "[[token]]\nid = {}\nname = {}\nsha256 = \"{}\"\ncreated = {}\n",
        quoted(&new.id),
        quoted(name),
        new.sha256,
        created.rfc3339()
    );
    if let Some(at) = expires {
        let _ = writeln!(out, "expires = {}", at.rfc3339());
    }
    let _ = writeln!(
        out,
        "may = {}",
        list(grant.may.iter().map(|right| Right::name(*right).to_owned()).collect())
    );
    if !grant.models.is_empty() {
        let _ = writeln!(out, "models = {}", list(grant.models.iter().map(ToString::to_string).collect()));
    }
    out
}
