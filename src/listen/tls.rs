//! TLS within tunnels: with a certificate for each intercepted host.

use std::sync::Arc;
use std::time::SystemTime;

use moka::sync::Cache;
use rustls::server::ProducesTickets;
use rustls::{ConfigBuilder, ServerConfig, WantsVerifier};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::authority::{Authority, CaError, Files, content};

/// What is spoken within TLS, the better first.
pub(super) const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];
/// Hosts whose certificates are kept; there are as many as hubs have names.
const MAX_HOSTS: u64 = 64;

/// Certificates for the hosts of tunnels that are intercepted.
pub struct Interceptor {
    authority: Authority,
    hosts: Cache<Arc<str>, Arc<Issued>>,
    tickets: Arc<dyn ProducesTickets>,
}

struct Issued {
    config: Arc<ServerConfig>,
    renew_at: SystemTime,
}

impl Interceptor {
    /// One that has the certificates issued by the authority in `files`.
    ///
    /// # Errors
    /// When the authority cannot be used.
    pub fn new(files: &Files) -> Result<Self, CaError> {
        let authority = Authority::open(files)?;
        let tickets = tickets().map_err(|e| content(&files.key, &e))?;
        Ok(Self { authority, hosts: Cache::new(MAX_HOSTS), tickets })
    }

    /// How to speak TLS as `host` at `now`.
    ///
    /// # Errors
    /// When no certificate can be made.
    pub(super) fn config(
        &self,
        host: &Arc<str>,
        now: SystemTime,
    ) -> Result<Arc<ServerConfig>, Box<dyn std::error::Error + Send + Sync>> {
        if let Some(issued) = self.hosts.get(host).filter(|issued| now < issued.renew_at) {
            return Ok(Arc::clone(&issued.config));
        }
        let leaf = self.authority.issue(host, now)?;
        let config = Arc::new(server_config(leaf.chain, leaf.key, Arc::clone(&self.tickets))?);
        let issued = Issued { config: Arc::clone(&config), renew_at: leaf.renew_at };
        self.hosts.insert(Arc::clone(host), Arc::new(issued));
        Ok(config)
    }
}

/// Sessions are resumed by tickets that only this process can read; their keys change every six hours.
pub(super) fn tickets() -> Result<Arc<dyn ProducesTickets>, rustls::Error> {
    rustls::crypto::aws_lc_rs::Ticketer::new()
}

fn server_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    tickets: Arc<dyn ProducesTickets>,
) -> Result<ServerConfig, rustls::Error> {
    let mut config = builder()?.with_no_client_auth().with_single_cert(chain, key)?;
    config.alpn_protocols = ALPN.map(<[u8]>::to_vec).into();
    config.ticketer = tickets;
    Ok(config)
}

/// The beginning of every configuration.
pub(super) fn builder() -> Result<ConfigBuilder<ServerConfig, WantsVerifier>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()
}
