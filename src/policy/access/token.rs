//! Tokens as text: what is told to their holder, and what is written down of them.
//!
//! A token is 256 random bits. What is written down is their SHA-256 and nothing slower: a slow hash makes up for
//! secrets that people choose, of which there are few enough to try; nobody tries 2^256.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::Digest as _;

use super::{Grant, Right};
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
