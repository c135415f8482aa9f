//! The TLS listener: its certificate, and those of its clients.
//!
//! **States.** It has one configuration at any time, made of files: the certificate with its chain, the key, and the
//! authorities that vouch for clients. When a file changes, or on SIGHUP, all are read again. Handshakes that begin from
//! then on have the new configuration; connections that are open keep theirs.
//!
//! **Who owns what.** The shell of the program decides when to read; each handshake takes the configuration of its moment.
//!
//! **What can fail.** A file that cannot be read, or files that do not belong together: the configuration before stays,
//! and why is logged and told by `hubcache status`. At the start there is none before, and the program does not start.
//!
//! Where clients have certificates no session is resumed: a resumed one would not be checked against the authorities and
//! the clock of the moment.

use std::sync::{Arc, PoisonError, RwLock};

use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::authority::{CaError, content, read_chain, read_key};
use super::tls::{ALPN, builder, tickets};
use super::{ClientCertificates, Tls};
use crate::policy::access::Certificate;

/// TLS with a certificate that is given.
pub struct Given {
    settings: Tls,
    config: RwLock<Arc<ServerConfig>>,
}

impl Given {
    /// Reads the files.
    ///
    /// # Errors
    /// When one cannot be used, or they do not belong together.
    pub fn open(settings: Tls) -> Result<Self, CaError> {
        let config = RwLock::new(Arc::new(config(&settings)?));
        Ok(Self { settings, config })
    }

    /// Reads the files again; what was read before stays where that fails.
    ///
    /// # Errors
    /// As [`Given::open`].
    pub fn reload(&self) -> Result<(), CaError> {
        let read = Arc::new(config(&self.settings)?);
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = read;
        Ok(())
    }

    /// The files that it is made of.
    pub fn settings(&self) -> &Tls {
        &self.settings
    }

    pub(super) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner))
    }
}

fn config(settings: &Tls) -> Result<ServerConfig, CaError> {
    let Tls { certificate, key, clients, .. } = settings;
    let chain = read_chain(certificate)?;
    let private = PrivateKeyDer::from_pem_slice(read_key(key)?.as_bytes()).map_err(|e| content(key, &e))?;
    let refused = |e: rustls::Error| content(certificate, &e);
    let builder = builder().map_err(refused)?;
    let mut config = match clients {
        None => builder.with_no_client_auth().with_single_cert(chain, private).map_err(refused)?,
        Some(clients) => {
            let verifier = verifier(clients)?;
            builder.with_client_cert_verifier(verifier).with_single_cert(chain, private).map_err(refused)?
        }
    };
    config.alpn_protocols = ALPN.map(<[u8]>::to_vec).into();
    match clients {
        None => config.ticketer = tickets().map_err(refused)?,
        Some(_) => config.session_storage = Arc::new(NoServerSessionStorage {}),
    }
    Ok(config)
}

fn verifier(clients: &ClientCertificates) -> Result<Arc<dyn ClientCertVerifier>, CaError> {
    let ClientCertificates { authorities, required } = clients;
    let mut roots = RootCertStore::empty();
    for authority in read_chain(authorities)? {
        roots.add(authority).map_err(|e| content(authorities, &e))?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let builder = if *required { builder } else { builder.allow_unauthenticated() };
    builder.build().map_err(|e| content(authorities, &e))
}

/// What of a client's certificate counts here; nothing if it cannot be read.
pub(super) fn certificate(shown: &CertificateDer<'_>) -> Option<Certificate> {
    let (_, parsed) = x509_parser::parse_x509_certificate(shown).ok()?;
    let subject = parsed.subject();
    let texts = |of: &mut dyn Iterator<Item = &x509_parser::x509::AttributeTypeAndValue<'_>>| -> Vec<String> {
        of.filter_map(|value| value.as_str().ok()).map(str::to_owned).collect()
    };
    let mut groups = texts(&mut subject.iter_organizational_unit());
    if groups.is_empty() {
        groups = texts(&mut subject.iter_organization());
    }
    Some(Certificate { subject: subject.to_string(), groups })
}
