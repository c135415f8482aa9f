//! The local certificate authority: its files, and the certificates that it issues for hosts of hubs.
//!
//! The authority may vouch for the hosts of the hubs and of Remote Settings, and names below them; its certificate says
//! so in critical name constraints (RFC 5280, section 4.2.1.10), which clients check. Addresses are excluded as well,
//! because a constraint on names says nothing of a certificate for an address. So a stolen key can impersonate nothing
//! else. The key is in a file that only its owner can read, and nowhere else.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, NameConstraints,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::model::{Host, known_hosts};

/// How long an authority lives.
const LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// How long a certificate lives that it issues.
const LEAF_LIFE: Duration = Duration::from_secs(7 * 24 * 3600);
/// How much earlier than now a certificate begins, for clients whose clocks are late.
const EARLIER: Duration = Duration::from_secs(3600);

/// Where the certificate and the key of an authority are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// PEM: the certificate that issues, and behind it those that lead to a root, if there are any.
    pub certificate: PathBuf,
    /// PEM: the key.
    pub key: PathBuf,
}

impl Files {
    /// Those of the authority that belongs to a data directory.
    pub fn of(data: &Path) -> Self {
        let dir = data.join("ca");
        Self { certificate: dir.join("ca.pem"), key: dir.join("ca.key") }
    }

    /// Whether both are there.
    pub fn exist(&self) -> bool {
        self.certificate.exists() && self.key.exists()
    }
}

/// Why there is no authority to issue certificates.
#[derive(Debug)]
pub enum CaError {
    /// There is one already.
    Exists(PathBuf),
    /// A file cannot be read or written.
    Io(PathBuf, io::Error),
    /// Others than its owner can read the key.
    Open(PathBuf, u32),
    /// A file does not have in it what it should.
    Content(PathBuf, String),
    /// A host that it should vouch for is none.
    Host(String),
    /// The library refuses.
    Refused(rcgen::Error),
}

impl fmt::Display for CaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exists(path) => write!(f, "there is a certificate authority already: {}", path.display()),
            Self::Io(path, _) => write!(f, "{} cannot be used", path.display()),
            Self::Open(path, mode) => {
                write!(f, "{} can be read by others than its owner (its mode is {mode:o})", path.display())
            }
            Self::Content(path, why) => write!(f, "{} cannot be used: {why}", path.display()),
            Self::Host(host) => write!(f, "{host:?} is not the name of a host"),
            Self::Refused(_) => f.write_str("no certificate can be made"),
        }
    }
}

impl std::error::Error for CaError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(_, e) => Some(e),
            Self::Refused(e) => Some(e),
            Self::Exists(_) | Self::Open(..) | Self::Content(..) | Self::Host(_) => None,
        }
    }
}

/// Makes an authority that vouches for the hosts of hubs and of Remote Settings, for `more`, and for all below them, and
/// writes its files.
///
/// # Errors
/// When there is one already, or its files cannot be written.
pub fn create(files: &Files, more: &[String], now: SystemTime) -> Result<(), CaError> {
    for path in [&files.certificate, &files.key] {
        if path.exists() {
            return Err(CaError::Exists(path.clone()));
        }
    }
    let key = KeyPair::generate().map_err(CaError::Refused)?;
    let certificate = params_of_authority(more, now)?.self_signed(&key).map_err(CaError::Refused)?;
    if let Some(dir) = files.key.parent() {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.map_err(|e| CaError::Io(dir.to_owned(), e))?;
    }
    // The key first: a certificate without it would look like an authority.
    write_new(&files.key, 0o600, &key.serialize_pem())?;
    write_new(&files.certificate, 0o644, &certificate.pem())
}

fn params_of_authority(more: &[String], now: SystemTime) -> Result<CertificateParams, CaError> {
    let mut names: Vec<String> = known_hosts().map(str::to_owned).collect();
    for host in more {
        match Host::parse(host) {
            Ok(Host::Name(name)) => names.push(name),
            _ => return Err(CaError::Host(host.clone())),
        }
    }
    let mut params = CertificateParams::default();
    let name = format!("hubcache local CA {:08x}", fastrand::u32(..));
    params.distinguished_name.push(DnType::CommonName, name);
    params.distinguished_name.push(DnType::OrganizationName, "hubcache");
    params.not_before = (now - EARLIER).into();
    params.not_after = (now + LIFE).into();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.name_constraints = Some(NameConstraints {
        permitted_subtrees: names.into_iter().map(GeneralSubtree::DnsName).collect(),
        excluded_subtrees: vec![
            GeneralSubtree::IpAddress(CidrSubnet::from_v4_prefix([0; 4], 0)),
            GeneralSubtree::IpAddress(CidrSubnet::from_v6_prefix([0; 16], 0)),
        ],
    });
    Ok(params)
}

fn write_new(path: &Path, mode: u32, text: &str) -> Result<(), CaError> {
    let fail = |e| CaError::Io(path.to_owned(), e);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(fail)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(fail)?;
    let dir = path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all());
    dir.map_err(fail)
}

/// Issues certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// What clients need beside a certificate of its own: nothing, where the authority is a root.
    chain: Vec<CertificateDer<'static>>,
}

/// A certificate with its chain and its key.
pub struct Leaf {
    /// The certificate first.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its key.
    pub key: PrivateKeyDer<'static>,
    /// From when on there should be another.
    pub renew_at: SystemTime,
}

impl Authority {
    /// Reads the files of an authority.
    ///
    /// # Errors
    /// When they cannot be read, others could read the key, or the two do not belong together.
    pub fn open(files: &Files) -> Result<Self, CaError> {
        let key_text = read_key(&files.key)?;
        let key = KeyPair::from_pem(&key_text).map_err(|e| content(&files.key, &e))?;
        let mut chain = read_chain(&files.certificate)?;
        let own = &chain[0];
        let parsed = x509_parser::parse_x509_certificate(own).map_err(|e| content(&files.certificate, &e))?.1;
        if !parsed.is_ca() {
            return Err(content(&files.certificate, &"it is not the certificate of an authority"));
        }
        if *parsed.public_key().subject_public_key.data != *key.public_key_raw() {
            return Err(content(&files.certificate, &"it belongs to another key"));
        }
        let is_root = parsed.subject() == parsed.issuer();
        let issuer = Issuer::from_ca_cert_der(own, key).map_err(CaError::Refused)?;
        if is_root {
            chain.clear();
        }
        Ok(Self { issuer, chain })
    }

    /// Issues a certificate for `host`.
    ///
    /// # Errors
    /// When the library refuses.
    pub fn issue(&self, host: &str, now: SystemTime) -> Result<Leaf, rcgen::Error> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec![host.to_owned()])?;
        params.distinguished_name.push(DnType::CommonName, host);
        let (begin, end) = (now - EARLIER, now - EARLIER + LEAF_LIFE);
        (params.not_before, params.not_after) = (begin.into(), end.into());
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&key, &self.issuer)?;
        let mut chain = vec![certificate.der().clone()];
        chain.extend(self.chain.iter().cloned());
        let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        Ok(Leaf { chain, key, renew_at: begin + LEAF_LIFE / 2 })
    }
}

/// That a file does not have in it what it should.
pub(super) fn content(path: &Path, why: &dyn fmt::Display) -> CaError {
    CaError::Content(path.to_owned(), why.to_string())
}

/// Reads a file of PEM certificates, one at least.
///
/// # Errors
/// When it cannot be read, or has none in it.
pub fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, CaError> {
    let pem = fs::read(path).map_err(|e| CaError::Io(path.to_owned(), e))?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match chain.map_err(|e| content(path, &e))? {
        chain if chain.is_empty() => Err(content(path, &"it has no certificate in it")),
        chain => Ok(chain),
    }
}

/// Reads a key, if only its owner can.
///
/// # Errors
/// When it cannot be read, or others can read it.
pub fn read_key(path: &Path) -> Result<String, CaError> {
    let fail = |e| CaError::Io(path.to_owned(), e);
    let file = File::open(path).map_err(fail)?;
    let mode = file.metadata().map_err(fail)?.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(CaError::Open(path.to_owned(), mode));
    }
    io::read_to_string(file).map_err(fail)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::Arc;

    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier as _;
    use rustls::pki_types::{ServerName, UnixTime};

    use super::*;

    fn made(more: &[&str]) -> (tempfile::TempDir, Files) {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::of(dir.path());
        let more: Vec<_> = more.iter().map(|host| (*host).to_owned()).collect();
        create(&files, &more, SystemTime::now()).unwrap();
        (dir, files)
    }

    /// Whether rustls takes a certificate that the authority has signed for these names, as that of the first.
    fn is_taken(files: &Files, names: &[&str]) -> bool {
        let pem = fs::read(&files.certificate).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::pem_slice_iter(&pem).next().unwrap().unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        let authority = Authority::open(files).unwrap();
        let mut params =
            CertificateParams::new(names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>()).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let leaf = params.signed_by(&KeyPair::generate().unwrap(), &authority.issuer).unwrap();
        let name = ServerName::try_from(names[0].to_owned()).unwrap();
        verifier.verify_server_cert(leaf.der(), &[], &name, &[], UnixTime::now()).is_ok()
    }

    #[test]
    fn it_vouches_for_the_hubs_and_for_nothing_else() {
        let (_dir, files) = made(&["Hub.Example."]);
        for host in
            ["model-hub.mozilla.org", "huggingface.co", "a.huggingface.co", "hub.example", "x.hub.example"]
        {
            assert!(is_taken(&files, &[host]), "{host}");
        }
        for host in known_hosts() {
            assert!(is_taken(&files, &[host]), "{host}");
        }
        for names in [
            &["example.org"][..],
            &["mozilla.org"],
            &["evil-huggingface.co"],
            &["huggingface.co", "example.org"],
            &["127.0.0.1"],
            &["huggingface.co", "127.0.0.1"],
            &["::1"],
        ] {
            assert!(!is_taken(&files, names), "{names:?}");
        }
    }

    #[test]
    fn what_it_issues_is_short_lived_and_for_one_host() {
        let (_dir, files) = made(&[]);
        let now = SystemTime::now();
        let leaf = Authority::open(&files).unwrap().issue("huggingface.co", now).unwrap();
        assert_eq!(leaf.chain.len(), 1);
        let (_, parsed) = x509_parser::parse_x509_certificate(&leaf.chain[0]).unwrap();
        let life = parsed.validity().not_after.timestamp() - parsed.validity().not_before.timestamp();
        assert_eq!(life, 7 * 24 * 3600);
        assert!(leaf.renew_at > now && leaf.renew_at < now + LEAF_LIFE);
    }

    #[test]
    fn a_key_that_others_can_read_is_not_used() {
        let (_dir, files) = made(&[]);
        assert_eq!(fs::metadata(&files.key).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(create(&files, &[], SystemTime::now()), Err(CaError::Exists(_))));
        fs::set_permissions(&files.key, fs::Permissions::from_mode(0o640)).unwrap();
        let error = Authority::open(&files).err().unwrap();
        assert!(error.to_string().contains("its mode is 640"), "{error}");
    }

    #[test]
    fn files_that_do_not_belong_together_are_refused() {
        let ((_a, first), (_b, second)) = (made(&[]), made(&[]));
        let mixed = Files { certificate: first.certificate.clone(), key: second.key };
        assert!(Authority::open(&mixed).err().unwrap().to_string().contains("belongs to another key"));
        assert!(matches!(
            create(&Files::of(&first.key), &["a b".to_owned()], SystemTime::now()),
            Err(CaError::Host(_))
        ));
    }
}
