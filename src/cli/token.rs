//! `hubcache token`: the tokens by which clients are known.

mod list;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::{Value, json};

use super::exit::{Exit, Failure, output};
use super::flags::{self, Scope};
use super::ls::json_arg;
use super::print;
use crate::app::tokens;
use crate::model::{Timestamp, quantity};
use crate::policy::ModelPattern;
use crate::policy::access::{Book, Grant, NewToken, Right, Token, entry, without};

pub const TOKEN: &str = "token";

const NAME: &str = "name";
const MAY: &str = "may";
const MODELS: &str = "models";
const EXPIRES: &str = "expires";
const QUIET: &str = "quiet";
/// Longest name of a token, in characters.
const MAX_NAME: usize = 64;

const LONG_ABOUT: &str = "\
Make, list and revoke the tokens of a server that asks its clients who they are (`hubcache serve --access token`, or mtls).

A token is 256 random bits. It is printed once; the file keeps its SHA-256, by which nobody can make it again. The server \
reads the file within a second after it changed: no restart is needed, and a token that is revoked is good for nothing from \
then on, in open connections too.

A client that uses the server as its proxy shows the token as the password of the proxy. One that names the server itself \
sends it in X-Hubcache-Token, or in the field that access.header names; with access.header = \"Authorization\" it is what \
clients of Hugging Face send as HF_TOKEN.

Whoever has no token can be known by a client certificate or an address. What these may is for rules in the same file:

  [[rule]]
  group = \"ml\"                # an organizational unit of the certificate, or an organization
  may = [\"read\", \"preload\"]

  [[rule]]
  network = \"10.0.0.0/8\"
  may = [\"read\"]
  models = [\"acme/*\", \"mozilla:*\"]";

const EXAMPLES: &str = "\
Examples:
  hubcache token add ci --tokens /etc/hubcache/tokens.toml
  hubcache serve --listen 0.0.0.0:8470 --access token --tokens /etc/hubcache/tokens.toml
  curl --proxy-user ci:hct_... --proxy http://cache.example.org:8470 https://huggingface.co/...
  hubcache token list
  hubcache token revoke ci";

const ADD: &str = "\
Make a token and print it, once. Without --may it is a right to read; without --models for every model, and for what is no \
model. Where there is no file it is made, for its owner alone.

read is to be given files, answers of the API and the mirror of Remote Settings; preload to have the server fetch by itself, \
as by POST /api/v1/settings/sync at the operators' door; admin is all of it, and whatever else changes something there.";

const ADD_EXAMPLES: &str = "\
Examples:
  hubcache token add ci --expires 90d
  hubcache token add lab --models 'acme/*' --models 'mozilla:*'
  hubcache token add deploy --may read,preload,admin
  hubcache token add ci --json | jq -r .token";

const JSON_TOKEN: &str = "Print an object: id, name, token, may, models, created, expires";
const JSON_LIST: &str = "\
Print an object: tokens (each with id, name, may, models, created, expires, expired) and rules (each with group or network, \
may, models)";
const JSON_REVOKE: &str = "Print an object: id, name";

pub fn command() -> Command {
    let sub = |name: &'static str, about: &'static str, long: &'static str, examples: &'static str| {
        let command = Command::new(name).about(about).long_about(long).after_long_help(examples);
        flags::add(command, Scope::Tokens)
    };
    let add = sub("add", "Make a token", ADD, ADD_EXAMPLES).args(add_args()).arg(json_arg(JSON_TOKEN));
    let list = sub(
        "list",
        "List the tokens and rules",
        "List the tokens with what they grant and until when, and the rules. What a token is cannot be told any more.",
        "Examples:\n  hubcache token list\n  hubcache token list --json | jq '.tokens[] | select(.expired) | .name'",
    );
    let revoke = sub(
        "revoke",
        "Revoke a token",
        "Take a token out of the file, by its id or its name. Everything else in the file stays as it is.",
        "Examples:\n  hubcache token revoke ci\n  hubcache token revoke t3f9a1c20b4",
    );
    let which = Arg::new(NAME).value_name("ID|NAME").required(true).help("Which token");
    Command::new(TOKEN)
        .about("The tokens by which clients are known")
        .long_about(LONG_ABOUT)
        .after_long_help(EXAMPLES)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands([add, list.arg(json_arg(JSON_LIST)), revoke.arg(which).arg(json_arg(JSON_REVOKE))])
}

fn add_args() -> [Arg; 5] {
    [
        Arg::new(NAME)
            .value_name("NAME")
            .required(true)
            .value_parser(name)
            .help("What it is for, in lists and logs"),
        Arg::new(MAY)
            .long(MAY)
            .value_name("RIGHTS")
            .value_delimiter(',')
            .value_parser(Right::ALL.map(Right::name))
            .default_value(Right::Read.name())
            .help("What it grants, with commas between")
            .display_order(0),
        Arg::new(MODELS)
            .long(MODELS)
            .value_name("[HUB:]GLOB")
            .action(ArgAction::Append)
            .value_parser(ModelPattern::parse)
            .help("Only for these models, such as acme/* or mozilla:*; can be given several times")
            .display_order(0),
        Arg::new(EXPIRES)
            .long(EXPIRES)
            .value_name("DURATION")
            .value_parser(quantity::duration)
            .help("After how long it grants nothing any more, such as 90d; without it, never")
            .display_order(0),
        Arg::new(QUIET)
            .long(QUIET)
            .action(ArgAction::SetTrue)
            .help("Print the token and nothing else")
            .display_order(0),
    ]
}

fn name(text: &str) -> Result<String, String> {
    let fits =
        !text.trim().is_empty() && text.chars().count() <= MAX_NAME && !text.chars().any(char::is_control);
    fits.then(|| text.to_owned())
        .ok_or_else(|| format!("a name has 1 to {MAX_NAME} characters, and none that control"))
}

pub fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let (name, matches) = matches.subcommand().expect("clap requires one");
    let path = path(matches)?;
    match name {
        "add" => add(&path, matches),
        "list" => list::list(&path, matches.get_flag("json")),
        "revoke" => revoke(&path, matches),
        _ => unreachable!("clap accepts the commands above and requires one"),
    }
}

fn path(matches: &ArgMatches) -> Result<PathBuf, Failure> {
    let tokens = flags::load(matches, Scope::Tokens)?.config.access.tokens;
    tokens.ok_or_else(|| {
        Failure::new(Exit::Usage, "which file has the tokens? name it with --tokens FILE (access.tokens)")
    })
}

fn add(path: &Path, matches: &ArgMatches) -> Result<(), Failure> {
    let name = matches.get_one::<String>(NAME).expect("clap requires it");
    let rights = matches.get_many::<String>(MAY).into_iter().flatten();
    let grant = Grant {
        may: rights.filter_map(|right| Right::of_name(right)).collect(),
        models: matches.get_many(MODELS).into_iter().flatten().cloned().collect(),
    };
    let now = Timestamp::now();
    // Kept as it is written down, to the second.
    let now = Timestamp(now.0 / 1000 * 1000);
    let expires = matches.get_one::<Duration>(EXPIRES).map(|after| now.plus(*after));
    let mut random = [0; NewToken::BYTES];
    aws_lc_rs::rand::fill(&mut random)
        .map_err(|_| Failure::new(Exit::Unavailable, "the system gives no random bytes"))?;
    let new = NewToken::of(&random);
    let written = entry(&new, name, &grant, now, expires);
    tokens::change(path, |text, book| {
        if book.tokens.iter().any(|token| token.bearer.name == *name) {
            let why = format!("there is a token {name:?} already; revoke it, or take another name");
            return Err(Failure::new(Exit::CantCreate, why));
        }
        let between = if text.is_empty() || text.ends_with("\n\n") { "" } else { "\n" };
        let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
        Ok((format!("{text}{end}{between}{written}"), ()))
    })?;
    let mut out = io::stdout().lock();
    if matches.get_flag("json") {
        let mut told = told(&new.id, name, &grant, now, expires);
        told["token"] = new.text.into();
        return output(writeln!(out, "{told:#}"));
    }
    if !matches.get_flag(QUIET) {
        eprintln!(
            "Token {} ({name}) was added to {}. This is shown once; a running server takes it within a second.",
            new.id,
            path.display()
        );
    }
    output(writeln!(out, "{}", new.text))
}

fn revoke(path: &Path, matches: &ArgMatches) -> Result<(), Failure> {
    let which = matches.get_one::<String>(NAME).expect("clap requires it");
    // So that no file is made where there is none.
    tokens::read(path)?;
    let bearer = tokens::change(path, |text, book| {
        let bearer = named(book, which)?.bearer.clone();
        let rest = without(text, book, &bearer.id).ok_or_else(|| {
            let why = format!(
                "token {} is written in a form of its own; take it out of {} by hand",
                bearer.id,
                path.display()
            );
            Failure::new(Exit::Data, why)
        })?;
        Ok::<_, Failure>((rest, bearer))
    })?;
    let text = match matches.get_flag("json") {
        true => format!("{:#}", json!({"id": bearer.id, "name": bearer.name})),
        false => format!("token {} ({}) is revoked", bearer.id, bearer.name),
    };
    output(writeln!(io::stdout().lock(), "{text}"))
}

fn named<'a>(book: &'a Book, which: &str) -> Result<&'a Token, Failure> {
    if let Some(token) = book.tokens.iter().find(|token| token.bearer.id == which) {
        return Ok(token);
    }
    let mut by_name = book.tokens.iter().filter(|token| token.bearer.name == which);
    match (by_name.next(), by_name.next()) {
        (Some(token), None) => Ok(token),
        (None, _) => Err(Failure::new(
            Exit::NoInput,
            format!("no token has the id or the name {which:?}; `hubcache token list` lists them"),
        )),
        (Some(_), Some(_)) => Err(Failure::new(
            Exit::Usage,
            format!("several tokens are called {which:?}; give the id of one (`hubcache token list`)"),
        )),
    }
}

fn told(id: &str, name: &str, grant: &Grant, created: Timestamp, expires: Option<Timestamp>) -> Value {
    json!({
        "id": id,
        "name": name,
        "may": rights(grant),
        "models": models(grant),
        "created": print::rfc3339(created),
        "expires": expires.map(print::rfc3339),
    })
}

fn rights(grant: &Grant) -> Vec<&'static str> {
    grant.may.iter().map(|right| right.name()).collect()
}

fn models(grant: &Grant) -> Vec<String> {
    grant.models.iter().map(ToString::to_string).collect()
}
