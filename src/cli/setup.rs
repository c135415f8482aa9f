//! `hubcache setup`: what a client has to be told so that it uses this server.

mod firefox;
mod programs;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgMatches, Command};

use super::exit::{Exit, Failure, io_failure, output};
use super::flags::{self, Scope};
use crate::config::Config;
use crate::model::{Host, Place};

const LONG_ABOUT: &str = "\
Print what a client has to be told so that it uses this server; with --write the files for it are written.

Firefox and the clients of Hugging Face can use it in two ways: as the endpoint that they are told to ask in place of \
the hub (no certificate is needed), or as the proxy of programs that keep naming the hub (`hubcache serve --intercept`, \
and they trust its certificate).";

const EXAMPLES: &str = "\
Examples:
  hubcache setup firefox
  hubcache setup firefox --write ./policies --at cache.example.org:8470
  hubcache setup firefox --mode localhost
  hubcache setup hf
  eval \"$(hubcache setup hf --mode proxy)\"
  hubcache setup transformersjs";

/// A client that can be set up, and its ways to use this server, the usual one first.
struct Client {
    name: &'static str,
    about: &'static str,
    modes: &'static [&'static str],
    guide: fn(&str, &Server) -> Guide,
}

const CLIENTS: [Client; 6] = [
    Client {
        name: "firefox",
        about: "Firefox: as its proxy by enterprise policy, as the hub on localhost, or as the hub in a lab",
        modes: &["proxy", "localhost", "lab"],
        guide: firefox::guide,
    },
    Client {
        name: "hf",
        about: "huggingface_hub, transformers and hf: as their endpoint, or as their proxy",
        modes: &["endpoint", "proxy"],
        guide: programs::hf,
    },
    Client {
        name: "transformersjs",
        about: "transformers.js: as its remote host",
        modes: &["endpoint"],
        guide: programs::transformersjs,
    },
    Client {
        name: "shell",
        about: "Every program that is started from a shell: as their proxy",
        modes: &["proxy"],
        guide: programs::shell,
    },
    Client {
        name: "nodejs",
        about: "Node.js: as the proxy of its fetch, from version 24 on",
        modes: &["proxy"],
        guide: programs::nodejs,
    },
    Client {
        name: "curl",
        about: "curl: as its proxy",
        modes: &["proxy", "endpoint"],
        guide: programs::curl,
    },
];

/// The server as clients reach it.
struct Server {
    at: Place,
    /// Where the certificate is that they have to trust.
    certificate: PathBuf,
    /// What programs are to trust whose variable replaces what they trust otherwise: the certificate, with those of the
    /// system where they were written.
    trusted: PathBuf,
}

impl Server {
    fn url(&self) -> String {
        format!("http://{}", self.at)
    }
}

/// What there is to do.
struct Guide {
    /// What is printed, the lines that are no commands or settings being comments of the client's own form.
    text: String,
    /// What is written with `--write`, beside the certificate.
    files: Vec<(&'static str, String)>,
    /// Whether the client has to trust the certificate.
    needs_certificate: bool,
}

pub fn command() -> Command {
    let command = Command::new("setup")
        .about("Print what a client has to be told to use this server")
        .long_about(LONG_ABOUT)
        .after_long_help(EXAMPLES)
        .subcommand_required(true)
        .arg_required_else_help(true);
    command.subcommands(CLIENTS.iter().map(|client| {
        let mode = Arg::new("mode")
            .long("mode")
            .value_name("MODE")
            .value_parser(PossibleValuesParser::new(client.modes))
            .default_value(client.modes[0])
            .help("How it uses this server")
            .display_order(0);
        let at = at_arg("Where the client reaches this server [default: listen.address]");
        let write = Arg::new("write")
            .long("write")
            .value_name("DIR")
            .value_parser(clap::value_parser!(PathBuf))
            .help("Write the files into this directory, the certificate among them where one is needed")
            .display_order(0);
        let command = Command::new(client.name).about(client.about).after_long_help(EXAMPLES);
        flags::add(command.arg(mode).arg(at).arg(write), Scope::Clients)
    }))
}

pub fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let (name, matches) = matches.subcommand().expect("clap requires one");
    let client = CLIENTS.iter().find(|client| client.name == name).expect("clap accepts only these");
    let config = flags::load(matches, Scope::Clients)?.config;
    let at = at(matches, &config)?;
    let mode: &String = matches.get_one("mode").expect("it has a default");
    let certificate = config.listen.intercept.files.certificate;
    let certificate = std::path::absolute(&certificate).unwrap_or(certificate);
    let Some(dir) = matches.get_one::<PathBuf>("write") else {
        let trusted = certificate.clone();
        let guide = (client.guide)(mode, &Server { at, certificate, trusted });
        return output(io::stdout().write_all(guide.text.as_bytes()));
    };
    let dir = std::path::absolute(dir).map_err(|e| io_failure(dir.display(), &e))?;
    let given = Server { at, certificate: dir.join(CERTIFICATE), trusted: dir.join(BUNDLE) };
    write(&(client.guide)(mode, &given), &dir, &certificate)
}

const CERTIFICATE: &str = "hubcache-ca.pem";
/// The certificate together with those that the system trusts.
const BUNDLE: &str = "ca-bundle.pem";

fn write(guide: &Guide, dir: &Path, certificate: &Path) -> Result<(), Failure> {
    if guide.files.is_empty() && !guide.needs_certificate {
        return Err(Failure::new(Exit::Usage, "there is nothing to write for this; leave out --write"));
    }
    let failed = |path: &Path, e: io::Error| io_failure(format!("{} cannot be written", path.display()), &e);
    fs::create_dir_all(dir).map_err(|e| failed(dir, e))?;
    let mut files: Vec<(&str, String)> = guide.files.clone();
    if guide.needs_certificate {
        let pem = fs::read_to_string(certificate).map_err(|e| {
            let text = format!(
                "{} cannot be read: {e}\n`hubcache ca init` makes an authority; so does `hubcache serve --intercept`",
                certificate.display()
            );
            Failure::new(Exit::NoInput, text)
        })?;
        files.push((BUNDLE, bundle(&pem)));
        files.push((CERTIFICATE, pem));
    }
    for (name, text) in &files {
        let path = dir.join(name);
        fs::write(&path, text).map_err(|e| failed(&path, e))?;
        output(writeln!(io::stdout(), "wrote {}", path.display()))?;
    }
    output(write!(io::stdout(), "\n{}", guide.text))
}

/// Programs on Unix read lines that end so.
const FORM: pem::EncodeConfig = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);

/// For clients whose variable replaces what they trust by one file.
pub fn bundle(own: &str) -> String {
    let mut text = String::from(own);
    for certificate in rustls_native_certs::load_native_certs().certs {
        text.push_str(&pem::encode_config(&pem::Pem::new("CERTIFICATE", certificate.to_vec()), FORM));
    }
    text
}

/// The argument that says where clients reach the server.
pub fn at_arg(help: &'static str) -> Arg {
    Arg::new("at").long("at").value_name("HOST:PORT").help(help).display_order(0)
}

/// Where clients reach the server, if that was said.
///
/// # Errors
/// When it is no place.
pub fn said_at(matches: &ArgMatches) -> Result<Option<Place>, Failure> {
    let Some(said) = matches.get_one::<String>("at") else { return Ok(None) };
    let place = Place::parse(said, None)
        .map_err(|bad| Failure::new(Exit::Usage, format!("--at {said}: {bad}; give HOST:PORT")))?;
    Ok(Some(place))
}

/// Where clients reach the server.
fn at(matches: &ArgMatches, config: &Config) -> Result<Place, Failure> {
    if let Some(said) = said_at(matches)? {
        return Ok(said);
    }
    let address = config.listen.address;
    if !address.ip().is_unspecified() {
        return Ok(address.into());
    }
    // All of this machine's addresses: its name is the best guess at what others call it.
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let host = Host::parse(&name).unwrap_or(Host::Address(address.ip()));
    Ok(Place { host, port: address.port() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_guide_names_the_server_and_where_needed_the_certificate() {
        let server = Server {
            at: Place::parse("cache.example.org:8470", None).unwrap(),
            certificate: PathBuf::from("/etc/hubcache-ca.pem"),
            trusted: PathBuf::from("/etc/ca-bundle.pem"),
        };
        for client in &CLIENTS {
            for mode in client.modes {
                let guide = (client.guide)(mode, &server);
                let all = guide.files.iter().fold(guide.text.clone(), |all, (_, text)| all + text);
                let port = if *mode == "localhost" { "localhost:8470" } else { "cache.example.org:8470" };
                assert!(all.contains(port), "{} {mode}\n{all}", client.name);
                assert!(guide.text.ends_with('\n'), "{} {mode}", client.name);
                let named = all.contains("/etc/hubcache-ca.pem") || all.contains("/etc/ca-bundle.pem");
                assert_eq!(named, guide.needs_certificate, "{} {mode}\n{all}", client.name);
                assert!(all.lines().all(|line| line.chars().count() <= 120), "{} {mode}\n{all}", client.name);
            }
        }
    }

    #[test]
    fn a_bundle_has_the_certificate_and_those_of_the_system() {
        let text = bundle("first\n");
        assert!(text.starts_with("first\n"));
        let count = text.matches("BEGIN CERTIFICATE").count();
        assert_eq!(count, rustls_native_certs::load_native_certs().certs.len());
    }
}
