//! Certificates: the authority's, those that are given, and who trusts what the authority issues.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, RootCertStore};
use rustls_native_certs::{load_certs_from_paths, load_native_certs};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::super::environment::Environment;
use super::super::holds::Holds;
use super::super::policies::{Policies, Said};
use super::super::trust::{Trust, Unusable, VARIABLES, Validity, Variable};
use crate::cli::exit::certificate_trouble;
use crate::config::Config;
use crate::listen::Given;
use crate::listen::authority::{self, Authority, CaError, Leaf};
use crate::model::{Hub, Timestamp};

/// Where systems keep what they trust in one file.
const BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
/// Where Firefox looks for certificates that its policies name without a directory.
const FIREFOX_CERTIFICATES: [&str; 2] = ["/usr/lib/mozilla/certificates", "/usr/lib64/mozilla/certificates"];
/// Longest policies that are read, in bytes.
const MAX_POLICIES: u64 = 1 << 20;

/// Who trusts what; `intercepts` says whether tunnels are intercepted, `runs` whether a server runs.
pub fn trust(
    config: &Config,
    environment: &Environment,
    intercepts: bool,
    runs: bool,
    policies: Vec<PathBuf>,
) -> Trust {
    let intercept = &config.listen.intercept;
    let files = &intercept.files;
    let opened = files.exist().then(|| Authority::open(files));
    // What clients would be shown; none where there is no authority, and then nobody trusts it.
    let leaf = opened.as_ref().and_then(|opened| opened.as_ref().ok()?.issue(host(), SystemTime::now()).ok());
    let leaf = leaf.as_ref();
    let authority = opened.as_ref().map(|opened| match opened {
        Ok(_) => validity(&files.certificate),
        Err(error) => Err(unusable(error)),
    });
    let tls = config.listen.tls.as_ref();
    let variable = |name: &'static str| {
        let file = PathBuf::from(environment.get(name)?);
        Some(Variable { name, holds: holds(&file, leaf), file })
    };
    Trust {
        intercepts,
        runs,
        certificate: files.certificate.clone(),
        is_own: intercept.is_own,
        authority,
        tls: tls.map(|tls| match Given::open(tls.clone()) {
            Ok(_) => validity(&tls.certificate),
            Err(error) => Err(unusable(&error)),
        }),
        system: leaf.is_some_and(|leaf| takes(of_system(environment), leaf)),
        variables: VARIABLES.into_iter().filter_map(variable).collect(),
        policies: policies.iter().filter_map(|file| read_policies(file, environment, leaf)).collect(),
        has_firefox: false,
    }
}

fn host() -> &'static str {
    Hub::Mozilla.hosts()[0]
}

fn unusable(error: &CaError) -> Unusable {
    let (text, remedy) = certificate_trouble(error);
    (text, if remedy.is_empty() { "correct the file".to_owned() } else { remedy })
}

fn validity(file: &Path) -> Result<Validity, Unusable> {
    let chain = authority::read_chain(file).map_err(|error| unusable(&error))?;
    let (_, parsed) = x509_parser::parse_x509_certificate(&chain[0]).map_err(|error| {
        (format!("{} cannot be read: {error}", file.display()), "correct the file".to_owned())
    })?;
    let time = |time: x509_parser::time::ASN1Time| {
        Timestamp(u64::try_from(time.timestamp()).unwrap_or_default().saturating_mul(1000))
    };
    Ok(Validity { from: time(parsed.validity().not_before), until: time(parsed.validity().not_after) })
}

/// What the system trusts, whatever the environment says: its variables are looked at one by one.
fn of_system(environment: &Environment) -> Vec<CertificateDer<'static>> {
    if environment.first(&["SSL_CERT_FILE", "SSL_CERT_DIR"]).is_none() {
        return load_native_certs().certs;
    }
    let bundle = BUNDLES.iter().map(Path::new).find(|bundle| bundle.exists());
    bundle.map_or_else(Vec::new, |bundle| load_certs_from_paths(Some(bundle), None).certs)
}

/// What a file, or a directory, of certificates is to those who trust it.
fn holds(file: &Path, leaf: Option<&Leaf>) -> Holds {
    let about = match fs::metadata(file) {
        Ok(about) => about,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Holds::Missing,
        Err(error) => return Holds::Unusable(error.to_string()),
    };
    let loaded = match about.is_dir() {
        true => load_certs_from_paths(None, Some(file)),
        false => load_certs_from_paths(Some(file), None),
    };
    match (loaded.certs, loaded.errors.first()) {
        (certificates, Some(error)) if certificates.is_empty() => Holds::Unusable(error.to_string()),
        (certificates, None) if certificates.is_empty() => {
            Holds::Unusable("it has no certificate in it".to_owned())
        }
        (certificates, _) => match leaf.is_some_and(|leaf| takes(certificates, leaf)) {
            true => Holds::Authority,
            false => Holds::Others,
        },
    }
}

/// Whether who trusts these certificates takes what the authority has issued.
fn takes(trusted: Vec<CertificateDer<'static>>, leaf: &Leaf) -> bool {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(trusted);
    let Ok(verifier) = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build()
    else {
        // There is no root in it.
        return false;
    };
    let name = ServerName::try_from(host()).expect("the host of a hub is a name");
    let Some((own, rest)) = leaf.chain.split_first() else { return false };
    verifier.verify_server_cert(own, rest, &name, &[], UnixTime::now()).is_ok()
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// How a client speaks TLS that trusts these certificates and no others.
pub fn trusting(roots: Vec<CertificateDer<'static>>) -> Result<ClientConfig, rustls::Error> {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(roots);
    let config = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    Ok(config.with_root_certificates(store).with_no_client_auth())
}

/// The policies in a file, if it is there.
fn read_policies(file: &Path, environment: &Environment, leaf: Option<&Leaf>) -> Option<Policies> {
    let about = fs::metadata(file).ok()?;
    let said = match about.len() {
        0..=MAX_POLICIES => {
            fs::read_to_string(file).map_err(|error| error.to_string()).and_then(|text| Said::of(&text))
        }
        _ => Err("it is too long".to_owned()),
    };
    let named = said.as_ref().map(|said| said.install.as_slice()).unwrap_or_default();
    let installed = named.iter().map(|name| holds(&located(name, environment), leaf)).collect();
    Some(Policies { file: file.to_owned(), said, installed })
}

/// The file that policies name: one without a directory is looked for in those of Firefox.
fn located(name: &str, environment: &Environment) -> PathBuf {
    let given = PathBuf::from(name);
    if given.is_absolute() {
        return given;
    }
    let home = environment.get("HOME").map(|home| Path::new(home).join(".mozilla/certificates"));
    let places = home.into_iter().chain(FIREFOX_CERTIFICATES.map(PathBuf::from));
    places.map(|place| place.join(&given)).find(|file| file.exists()).unwrap_or(given)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listen::authority::{Files, create};

    #[test]
    fn a_file_is_judged_by_what_it_makes_a_client_trust() {
        let dir = tempfile::tempdir().unwrap();
        let files = |name: &str| {
            let files = Files::of(&dir.path().join(name));
            create(&files, &[], SystemTime::now()).unwrap();
            files
        };
        let (ours, other) = (files("a"), files("b"));
        let leaf = Authority::open(&ours).unwrap().issue(host(), SystemTime::now()).unwrap();
        let judged = |file: &Path| holds(file, Some(&leaf));
        assert_eq!(judged(&ours.certificate), Holds::Authority);
        assert_eq!(judged(&other.certificate), Holds::Others);
        assert_eq!(judged(&dir.path().join("absent")), Holds::Missing);
        assert!(matches!(judged(&ours.key), Holds::Unusable(_)));
        let both = dir.path().join("both.pem");
        let pem =
            [&other.certificate, &ours.certificate].map(|file| fs::read_to_string(file).unwrap()).concat();
        fs::write(&both, pem).unwrap();
        assert_eq!(judged(&both), Holds::Authority);
        let validity = validity(&ours.certificate).unwrap();
        assert!(validity.from < Timestamp::now() && validity.until > Timestamp::now());
    }

    #[test]
    fn certificates_without_a_directory_are_looked_for_where_firefox_does() {
        let home = tempfile::tempdir().unwrap();
        let place = home.path().join(".mozilla/certificates");
        fs::create_dir_all(&place).unwrap();
        fs::write(place.join("a.pem"), "").unwrap();
        let environment: Environment = [("HOME", home.path().to_str().unwrap())].into_iter().collect();
        assert_eq!(located("a.pem", &environment), place.join("a.pem"));
        assert_eq!(located("/x/a.pem", &environment), Path::new("/x/a.pem"));
        assert_eq!(located("b.pem", &environment), Path::new("b.pem"));
    }
}
