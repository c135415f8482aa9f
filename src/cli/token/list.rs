//! `hubcache token list`: what the file of tokens and rules grants to whom.

use std::io::{self, Write};
use std::path::Path;

use serde_json::json;

use super::{models, rights, told};
use crate::app::tokens;
use crate::cli::exit::{Failure, output};
use crate::cli::print::{self, Table};
use crate::model::Timestamp;
use crate::policy::access::{Book, Grant, Rule, Token, Whom};

/// Lists what is in the file.
pub(super) fn list(path: &Path, as_json: bool) -> Result<(), Failure> {
    let (_, book) = tokens::read(path)?;
    let now = Timestamp::now();
    let mut out = io::BufWriter::new(io::stdout().lock());
    let written = if as_json { write_json(&mut out, &book, now) } else { write(&mut out, &book, now) };
    output(written.and_then(|()| out.flush()))
}

fn write_json(out: &mut impl Write, book: &Book, now: Timestamp) -> io::Result<()> {
    let token = |token: &Token| {
        let Token { bearer, created, expires, grant, .. } = token;
        let mut told = told(&bearer.id, &bearer.name, grant, *created, *expires);
        told["expired"] = token.has_expired(now).into();
        told
    };
    let rule = |Rule { whom, grant }: &Rule| {
        let (key, value) = match whom {
            Whom::Group(group) => ("group", group.clone()),
            Whom::Network(network) => ("network", network.to_string()),
        };
        json!({key: value, "may": rights(grant), "models": models(grant)})
    };
    let tokens: Vec<_> = book.tokens.iter().map(token).collect();
    let rules: Vec<_> = book.rules.iter().map(rule).collect();
    writeln!(out, "{:#}", json!({"tokens": tokens, "rules": rules}))
}

fn write(out: &mut impl Write, book: &Book, now: Timestamp) -> io::Result<()> {
    let mut table = Table::new(&["ID", "NAME", "MAY", "MODELS", "CREATED", "EXPIRES"], &[]);
    let granted = |grant: &Grant| {
        let models = models(grant).join(", ");
        [rights(grant).join(", "), if models.is_empty() { "all".to_owned() } else { models }]
    };
    for token in &book.tokens {
        let [may, models] = granted(&token.grant);
        let expires = match token.expires {
            None => "never".to_owned(),
            Some(at) if token.has_expired(now) => format!("{} (expired)", print::rfc3339(at)),
            Some(at) => print::rfc3339(at),
        };
        let (id, name) = (token.bearer.id.clone(), token.bearer.name.clone());
        table.row(vec![id, name, may, models, print::rfc3339(token.created), expires]);
    }
    for Rule { whom, grant } in &book.rules {
        let [may, models] = granted(grant);
        let whom = match whom {
            Whom::Group(group) => format!("group {group}"),
            Whom::Network(network) => format!("network {network}"),
        };
        table.row(vec!["rule".to_owned(), whom, may, models, "-".to_owned(), "never".to_owned()]);
    }
    table.write(out)
}
