//! `hubcache explain`: what would be answered to a request, and why.

mod json;
mod text;

use std::io::{self, Write};

use clap::{Arg, ArgAction, ArgMatches, Command};

use super::exit::{Exit, Failure, output};
use super::flags::{self, Scope};
use super::ls::json_arg;
use super::reach::{self, Event};
use crate::admin::control::{self, Request};
use crate::model::Timestamp;

const LONG_ABOUT: &str = "\
Explain what would be answered to a request: which file or API question it is, what its revision stands for and \
whether that is still taken for granted, what is held and known, then what would be done now, and why.

It decides with the parts that answer clients. Nothing is fetched and nothing changes. It asks the running server; \
without one it reads the data directory with the same settings.

A URL is one of this server, one of a hub, or only a path.";

const EXAMPLES: &str = "\
Examples:
  hubcache explain http://127.0.0.1:8470/openai-community/gpt2/resolve/main/config.json
  hubcache explain https://huggingface.co/openai-community/gpt2/resolve/main/config.json
  hubcache explain /api/models/openai-community/gpt2
  hubcache explain --method HEAD --header 'Cache-Control: no-cache' /acme/tiny/resolve/main/a.bin
  hubcache explain --json /acme/tiny/resolve/main/a.bin | jq -r '.steps[0].action'";

const JSON_HELP: &str = "\
Print an object: method, path, target, hub, root, repo, name, revision, held, older, unfinished, known, absent, \
refused, and steps, each with when, action, why, status and cache_status; null is what is not known";

/// Fields of which only the presence matters, and whose values are nobody's business.
const SECRET: [&str; 3] = ["authorization", "proxy-authorization", "cookie"];

pub fn command() -> Command {
    let url = Arg::new("url").value_name("URL").required(true).help("What a client would ask for");
    let method = Arg::new("method")
        .long("method")
        .value_name("METHOD")
        .default_value("GET")
        .help("The method of the request")
        .display_order(0);
    let header = Arg::new("header")
        .long("header")
        .short('H')
        .value_name("NAME: VALUE")
        .action(ArgAction::Append)
        .help("A header field of the request; can be given again. Values of credentials are not looked at")
        .display_order(0);
    let command = Command::new("explain")
        .about("Explain what would be answered to a request, and why")
        .long_about(LONG_ABOUT)
        .after_long_help(EXAMPLES)
        .arg(url)
        .arg(method)
        .arg(header)
        .arg(json_arg(JSON_HELP));
    flags::add(command, Scope::Store)
}

pub fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let request = request(matches)?;
    let config = flags::load(matches, Scope::Store)?.config;
    let mut told = None;
    reach::execute(&config, control::Command::Explain { request }, |event| {
        if let Event::Explained(explanation) = event {
            told = Some(explanation);
        }
    })?;
    let Some(explanation) = told else {
        let dir = config.store.dir.display();
        let why = "there is nothing to look at yet: everything would be asked of the hub";
        return Err(Failure::new(Exit::NoInput, format!("{dir} is empty; {why}")));
    };
    let mut out = io::BufWriter::new(io::stdout().lock());
    let written = if matches.get_flag("json") {
        writeln!(out, "{:#}", json::of(&explanation))
    } else {
        text::write(&mut out, &explanation, Timestamp::now())
    };
    output(written.and_then(|()| out.flush()))
}

fn request(matches: &ArgMatches) -> Result<Request, Failure> {
    let text = |name: &str| matches.get_one::<String>(name).cloned().unwrap_or_default();
    let fields = matches.get_many::<String>("header").into_iter().flatten();
    let headers = fields.map(|field| header(field)).collect::<Result<_, _>>()?;
    Ok(Request { method: text("method"), url: text("url"), headers })
}

fn header(field: &str) -> Result<(String, String), Failure> {
    let Some((name, value)) = field.split_once(':') else {
        // Not repeated, since it may be a credential.
        return Err(Failure::new(Exit::Usage, "a header field is written as 'Name: value'"));
    };
    let name = name.trim().to_ascii_lowercase();
    let value = if SECRET.contains(&name.as_str()) { "" } else { value.trim() };
    Ok((name, value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_stays_behind() {
        let sent = |field: &str| header(field).unwrap();
        assert_eq!(sent("Authorization: Bearer hf_x"), ("authorization".into(), String::new()));
        assert_eq!(sent("Cache-Control:no-cache "), ("cache-control".into(), "no-cache".into()));
        assert!(header("Bearer hf_x").is_err());
    }
}
