//! Signatures of bundles: Ed25519 (RFC 8032), with keys as `openssl genpkey -algorithm ed25519` writes them.

use std::fmt;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use sha2::Digest as _;

use super::manifest::{Descriptor, SIGNATURE};
use crate::model::Sha256;

/// What is in front of the names of what is signed.
const PREFIX: &str = "hubcache bundle 1\n";
/// What a public key of this kind begins with as SubjectPublicKeyInfo (RFC 8410, section 4); 32 bytes follow.
const PUBLIC: [u8; 12] = [0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0];

/// Why a text is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadKey {
    /// It is not PEM with what is looked for.
    NotPem(&'static str),
    /// It is a key of another kind.
    Kind,
}

impl fmt::Display for BadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotPem(what) => write!(f, "it has no {what} in PEM"),
            Self::Kind => f.write_str("its key is not one of Ed25519"),
        }
    }
}

impl std::error::Error for BadKey {}

/// A key that signs.
pub struct Signer(Ed25519KeyPair);

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Signer").field(&self.name()).finish()
    }
}

impl Signer {
    /// Reads a private key: `PRIVATE KEY` (PKCS #8) in PEM.
    ///
    /// # Errors
    /// See [`BadKey`].
    pub fn read(text: &[u8]) -> Result<Self, BadKey> {
        let key = block(text, "PRIVATE KEY")?;
        let pair =
            Ed25519KeyPair::from_pkcs8(&key).or_else(|_| Ed25519KeyPair::from_pkcs8_maybe_unchecked(&key));
        pair.map(Self).map_err(|_| BadKey::Kind)
    }

    /// The name of its public key.
    pub fn name(&self) -> String {
        name(self.0.public_key().as_ref())
    }

    pub(super) fn sign(&self, what: &[u8]) -> Vec<u8> {
        self.0.sign(what).as_ref().to_vec()
    }
}

/// A key that checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verifier([u8; 32]);

impl Verifier {
    /// Reads a public key: `PUBLIC KEY` (SubjectPublicKeyInfo) in PEM.
    ///
    /// # Errors
    /// See [`BadKey`].
    pub fn read(text: &[u8]) -> Result<Self, BadKey> {
        let key = block(text, "PUBLIC KEY")?;
        let bytes = key.strip_prefix(&PUBLIC).and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or(BadKey::Kind)
    }

    /// Its name: the SHA-256 of its bytes.
    pub fn name(&self) -> String {
        name(&self.0)
    }

    pub(super) fn is_good(&self, what: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.0).verify(what, signature).is_ok()
    }
}

/// What is signed: the digest and the name of every manifest but the signature's own.
pub(super) fn signed(manifests: &[Descriptor]) -> Vec<u8> {
    let others = manifests.iter().filter(|m| m.artifact_type.as_deref() != Some(SIGNATURE));
    let mut lines: Vec<String> =
        others.map(|m| format!("sha256:{} {}\n", m.digest, m.name().unwrap_or_default())).collect();
    lines.sort();
    format!("{PREFIX}{}", lines.concat()).into_bytes()
}

fn name(public: &[u8]) -> String {
    Sha256(sha2::Sha256::digest(public).into()).to_string()
}

fn block(text: &[u8], tag: &'static str) -> Result<Vec<u8>, BadKey> {
    let blocks = pem::parse_many(text).map_err(|_| BadKey::NotPem(tag))?;
    let found = blocks.into_iter().find(|block| block.tag() == tag);
    found.map(pem::Pem::into_contents).ok_or(BadKey::NotPem(tag))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    // Made with `openssl genpkey -algorithm ed25519` and `openssl pkey -pubout`.
    pub const PRIVATE: &str = "-----BEGIN PRIVATE KEY-----\n\
        MC4CAQAwBQYDK2VwBCIEILsw0ipYrxt45MW5y+ZmA6ZoUYyrzTKhtOPAMa9wzuv2\n\
        -----END PRIVATE KEY-----\n";
    pub const PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\n\
        MCowBQYDK2VwAyEA10QhTq54N5j82VFkfiSp/lv9HQzARceYWNEu+l+Jmys=\n\
        -----END PUBLIC KEY-----\n";

    #[test]
    fn keys_are_those_that_openssl_writes() {
        let (signer, verifier) =
            (Signer::read(PRIVATE.as_bytes()).unwrap(), Verifier::read(PUBLIC.as_bytes()).unwrap());
        assert_eq!(signer.name(), verifier.name());
        let signature = signer.sign(b"text");
        assert!(verifier.is_good(b"text", &signature));
        assert!(!verifier.is_good(b"test", &signature) && !verifier.is_good(b"text", &signature[1..]));
        assert_eq!(Verifier::read(PRIVATE.as_bytes()), Err(BadKey::NotPem("PUBLIC KEY")));
        assert_eq!(Signer::read(b"x").unwrap_err(), BadKey::NotPem("PRIVATE KEY"));
        let other = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        assert_eq!(Signer::read(other.serialize_pem().as_bytes()).unwrap_err(), BadKey::Kind);
        assert_eq!(Verifier::read(other.public_key_pem().as_bytes()), Err(BadKey::Kind));
    }
}
