//! `hubcache ca`: the local certificate authority.

use std::io::{self, Write};
use std::time::SystemTime;

use clap::{Arg, ArgAction, ArgMatches, Command};
use rustls_pki_types::CertificateDer;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use x509_parser::extensions::{GeneralName, ParsedExtension};

use super::exit::{Failure, output};
use super::flags::{self, Scope};
use super::ls::json_arg;
use super::print;
use crate::listen::authority::{self, CaError, Files};
use crate::model::{Timestamp, hex};

const LONG_ABOUT: &str = "\
Make and show the certificate authority by which `hubcache serve --intercept` answers requests in tunnels to the hubs. \
Clients have to trust its certificate.

The certificate says in critical name constraints for which hosts it may vouch: those of the two hubs and of Firefox's \
Remote Settings, and names below them, and no addresses. So whoever stole the key could impersonate those and nothing \
else. The key is in a file of the data directory that only its owner can read.";

const EXAMPLES: &str = "\
Examples:
  hubcache ca init
  hubcache ca show
  hubcache ca export > hubcache-ca.pem
  hubcache ca export --der > hubcache-ca.der
  REQUESTS_CA_BUNDLE=$(hubcache ca path) HTTPS_PROXY=http://127.0.0.1:8470 hf download openai-community/gpt2
  hubcache ca init --permit hub.example.org";

const INIT_LONG_ABOUT: &str = "\
Make the authority, which `hubcache serve --intercept` also does where there is none. One that was made with --permit \
vouches for more hosts than those of the hubs and of Remote Settings. An authority that is there already is not \
replaced: move its files away first, and install the new certificate wherever the old one was.";

pub fn command() -> Command {
    let permit = Arg::new("permit")
        .long("permit")
        .value_name("HOST")
        .action(ArgAction::Append)
        .help("Also vouch for this host and all below it; can be given several times")
        .display_order(0);
    let der = Arg::new("der")
        .long("der")
        .action(ArgAction::SetTrue)
        .help("Print it in DER instead of PEM")
        .display_order(0);
    let sub = |name: &'static str, about: &'static str| {
        flags::add(Command::new(name).about(about).after_long_help(EXAMPLES), Scope::Authority)
    };
    Command::new("ca")
        .about("The certificate authority for intercepted tunnels")
        .long_about(LONG_ABOUT)
        .after_long_help(EXAMPLES)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands([
            sub("init", "Make the authority").long_about(INIT_LONG_ABOUT).arg(permit),
            sub("show", "Show for which hosts it vouches, and until when").arg(json_arg(
                "Print an object: certificate, key, subject, sha256, not_before, not_after, permitted",
            )),
            sub("export", "Print the certificate that clients have to trust").arg(der),
            sub("path", "Print where the file of the certificate is"),
        ])
}

pub fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let (name, matches) = matches.subcommand().expect("clap requires one");
    let config = flags::load(matches, Scope::Authority)?.config;
    let files = config.listen.intercept.files;
    match name {
        "init" => init(&files, matches),
        "show" => show(&files, matches),
        "export" => export(&files, matches.get_flag("der")),
        "path" => {
            certificate(&files)?;
            output(writeln!(io::stdout(), "{}", files.certificate.display()))
        }
        _ => unreachable!("clap accepts the commands above"),
    }
}

fn init(files: &Files, matches: &ArgMatches) -> Result<(), Failure> {
    let more: Vec<String> = matches.get_many("permit").into_iter().flatten().cloned().collect();
    authority::create(files, &more, SystemTime::now())?;
    let mut text = format!("made {}\n", files.certificate.display());
    if !more.is_empty() {
        text.push_str(
            "it vouches for more than another authority did: install it anew wherever clients trust one\n",
        );
    }
    text.push_str("`hubcache ca export` prints what clients have to trust, and `hubcache setup` how to make them do so\n");
    output(io::stdout().write_all(text.as_bytes()))
}

fn export(files: &Files, der: bool) -> Result<(), Failure> {
    let (pem, own) = certificate(files)?;
    output(io::stdout().write_all(if der { &own } else { &pem }))
}

/// The file of the certificate, and the certificate that issues.
fn certificate(files: &Files) -> Result<(Vec<u8>, CertificateDer<'static>), Failure> {
    let path = &files.certificate;
    let own = authority::read_chain(path)?.swap_remove(0);
    let pem = std::fs::read(path).map_err(|e| CaError::Io(path.clone(), e))?;
    Ok((pem, own))
}

fn show(files: &Files, matches: &ArgMatches) -> Result<(), Failure> {
    let (_, der) = certificate(files)?;
    let parsed = x509_parser::parse_x509_certificate(&der);
    let (_, parsed) = parsed.map_err(|e| CaError::Content(files.certificate.clone(), e.to_string()))?;
    let shown = |time: x509_parser::time::ASN1Time| {
        print::rfc3339(Timestamp(u64::try_from(time.timestamp()).unwrap_or_default().saturating_mul(1000)))
    };
    let (begin, end) = (shown(parsed.validity().not_before), shown(parsed.validity().not_after));
    let permitted = permitted(&parsed);
    let digest = hex(&Sha256::digest(&der));
    let mut out = io::stdout().lock();
    if matches.get_flag("json") {
        let shown = json!({
            "certificate": files.certificate,
            "key": files.key,
            "subject": parsed.subject().to_string(),
            "sha256": digest,
            "not_before": begin,
            "not_after": end,
            "permitted": permitted,
        });
        return output(writeln!(out, "{shown:#}"));
    }
    let permitted = match &permitted {
        Some(names) => format!("{}, and names below them", names.join(", ")),
        None => "every host: this certificate has no name constraints".to_owned(),
    };
    let lines = [
        ("certificate", files.certificate.display().to_string()),
        ("key", files.key.display().to_string()),
        ("subject", parsed.subject().to_string()),
        ("sha256", digest),
        ("valid", format!("{begin} to {end}")),
        ("vouches for", permitted),
    ];
    output(lines.iter().try_for_each(|(name, value)| writeln!(out, "{name:11}  {value}")))
}

/// The hosts to which the certificate is constrained, if it is.
fn permitted(parsed: &x509_parser::certificate::X509Certificate<'_>) -> Option<Vec<String>> {
    let constraints =
        parsed.extensions().iter().find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::NameConstraints(constraints) => Some(constraints),
            _ => None,
        })?;
    let names = constraints.permitted_subtrees.iter().flatten().filter_map(|subtree| match &subtree.base {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    });
    Some(names.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::exit::Exit;

    #[test]
    fn an_authority_that_is_missing_is_said_to_be_and_how_to_make_it() {
        let dir = tempfile::tempdir().unwrap();
        let failure = export(&Files::of(dir.path()), false).unwrap_err();
        assert_eq!(format!("{failure:?}").matches("hubcache ca init").count(), 1, "{failure:?}");
        assert!(format!("{failure:?}").contains(&format!("{:?}", Exit::NoInput)));
    }

    #[test]
    fn what_it_vouches_for_is_read_from_the_certificate() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::of(dir.path());
        authority::create(&files, &["hub.example.org".to_owned()], SystemTime::now()).unwrap();
        let (_, der) = certificate(&files).unwrap();
        let (_, parsed) = x509_parser::parse_x509_certificate(&der).unwrap();
        let names = permitted(&parsed).unwrap();
        assert!(
            names.contains(&"model-hub.mozilla.org".to_owned())
                && names.contains(&"hub.example.org".to_owned())
        );
    }
}
