//! TLS towards the hubs: one named provider, and the roots it trusts.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

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

pub(super) fn client_config(settings: &Settings) -> Result<Arc<ClientConfig>, BuildError> {
    let mut roots = RootCertStore::empty();
    if let Some(file) = &settings.ca_bundle {
        add_bundle(&mut roots, file)?;
    }
    // The system's certificates are read only where a hub is reached by TLS: a test against loopback needs none.
    if settings.roots.any_over_tls() {
        let native = rustls_native_certs::load_native_certs();
        for error in &native.errors {
            tracing::warn!(%error, "some of the system's certificates cannot be read");
        }
        roots.add_parsable_certificates(native.certs);
    }
    // Named, because with a second provider in the build the default is a panic.
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(BuildError::Tls)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
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
