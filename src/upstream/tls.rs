//! TLS towards the hubs: one named provider, and the roots it trusts.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::Settings;

/// Why no client could be made.
#[derive(Debug)]
pub enum BuildError {
    /// The file of `--ca-bundle` cannot be read or has no certificate in it.
    CaBundle {
        /// Which file.
        file: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The TLS library refuses its own defaults.
    Tls(rustls::Error),
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CaBundle { file, why } => {
                write!(
                    f,
                    "cannot use the CA bundle {}: {why}; give a file of PEM certificates",
                    file.display()
                )
            }
            Self::Tls(_) => f.write_str("cannot set up TLS"),
        }
    }
}

impl std::error::Error for BuildError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::CaBundle { .. } => None,
            Self::Tls(e) => Some(e),
        }
    }
}

/// Named, because with a second provider in the build the default is a panic.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

pub(super) fn client_config(settings: &Settings) -> Result<Arc<ClientConfig>, BuildError> {
    let mut given = RootCertStore::empty();
    if let Some(file) = &settings.ca_bundle {
        add_bundle(&mut given, file)?;
    }
    let roots = Roots { given, of_system: settings.roots.any_over_tls(), checker: OnceLock::new() };
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(BuildError::Tls)?
        // Dangerous is what this one could do: it hands every question on to the checker of rustls.
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(roots))
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Checks certificates as rustls does, with roots that are read when the first certificate is checked: a start, and most
/// commands, need none, and reading hundreds of files takes longer than all else that they do.
#[derive(Debug)]
struct Roots {
    /// Those of `--ca-bundle`.
    given: RootCertStore,
    /// Whether those of the system are trusted too: where hubs are reached by plain HTTP only, they are not read.
    of_system: bool,
    checker: OnceLock<Result<Arc<WebPkiServerVerifier>, rustls::Error>>,
}

impl Roots {
    fn checker(&self) -> Result<&WebPkiServerVerifier, rustls::Error> {
        let checker = self.checker.get_or_init(|| {
            let mut roots = self.given.clone();
            if self.of_system {
                let native = rustls_native_certs::load_native_certs();
                for error in &native.errors {
                    tracing::warn!(%error, "some of the system's certificates cannot be read");
                }
                roots.add_parsable_certificates(native.certs);
            }
            // Without any root nobody is known.
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
                .build()
                .map_err(|_| rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer))
        });
        checker.as_deref().map_err(Clone::clone)
    }
}

impl ServerCertVerifier for Roots {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.checker()?.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.checker()?.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.checker()?.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

fn add_bundle(roots: &mut RootCertStore, file: &Path) -> Result<(), BuildError> {
    let fail = |why: String| BuildError::CaBundle { file: file.to_owned(), why };
    let pem = std::fs::read(file).map_err(|e| fail(e.to_string()))?;
    let mut added = 0;
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|e| fail(e.to_string()))?;
        roots.add(certificate).map_err(|e| fail(e.to_string()))?;
        added += 1;
    }
    if added == 0 { Err(fail("it has no certificate in it".into())) } else { Ok(()) }
}
