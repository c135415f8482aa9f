//! Is a collection of Remote Settings what its server signed. Pure: records, a chain of certificates and the time go in.
//!
//! A *content signature* is ECDSA over P-384 with SHA-384, of `Content-Signature:`, a NUL and the canonical JSON of all
//! live records and their moment. The chain that vouches for its key must lead to a root that is known by its SHA-256,
//! be valid now, be for the signing of code, and name the signer. Firefox checks the same.

use std::fmt;
use std::time::Duration;

use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED, UnparsedPublicKey};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use serde_json::{Map, Value, json};
use sha2::Digest as _;
use webpki::{EndEntityCert, KeyUsage};
use x509_parser::prelude::FromDer as _;

use crate::model::{Collection, Sha256, Timestamp};

/// Most certificates of a chain that are looked at.
const MAX_CERTIFICATES: usize = 8;
/// Most signatures of a collection that are tried.
const MAX_SIGNATURES: usize = 4;
/// Before what is signed.
const PREFIX: &[u8] = b"Content-Signature:\0";
/// id-kp-codeSigning (RFC 5280, section 4.2.1.12), 1.3.6.1.5.5.7.3.3.
const CODE_SIGNING: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 3];

/// Why a signature is not good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadSignature {
    /// There is none of a kind that is known.
    None,
    /// It is not base64 of 96 bytes.
    Unreadable,
    /// The chain is not PEM with certificates in it.
    NoChain,
    /// None of the roots that are trusted is in the chain.
    Root,
    /// The chain does not lead from the signer to the root, is not valid now, or is for something else.
    Chain(String),
    /// The certificate is for another signer.
    Signer {
        /// Whom it should name.
        expected: &'static str,
    },
    /// It is of something else.
    Mismatch,
}

impl fmt::Display for BadSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("the collection is not signed"),
            Self::Unreadable => f.write_str("the signature cannot be read"),
            Self::NoChain => f.write_str("the chain of certificates cannot be read"),
            Self::Root => f.write_str("the chain of certificates leads to no root that is trusted"),
            Self::Chain(why) => write!(f, "the chain of certificates is not good: {why}"),
            Self::Signer { expected } => write!(f, "the certificate is not for {expected}"),
            Self::Mismatch => f.write_str("the signature is of other records"),
        }
    }
}

impl std::error::Error for BadSignature {}

/// One signature of a collection, and where the chain for it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// r and s, in base64 for URLs.
    pub value: String,
    /// The URL of the chain.
    pub x5u: String,
}

/// The signatures that the metadata of a collection has, in the order in which they are tried.
pub fn signatures(metadata: &Map<String, Value>) -> Vec<Signature> {
    let listed = metadata.get("signatures").and_then(Value::as_array).into_iter().flatten();
    let known = |signature: &&Value| {
        signature.get("mode").is_none_or(|mode| mode.is_null() || mode.as_str() == Some("p384ecdsa"))
    };
    let read = |signature: &Value| {
        let text = |name: &str| signature.get(name)?.as_str().map(str::to_owned);
        Some(Signature { value: text("signature")?, x5u: text("x5u")? })
    };
    let all = listed.chain(metadata.get("signature")).filter(known).filter_map(read);
    let mut found: Vec<Signature> = Vec::new();
    for signature in all.take(2 * MAX_SIGNATURES) {
        if !found.contains(&signature) && found.len() < MAX_SIGNATURES {
            found.push(signature);
        }
    }
    found
}

/// Whom the certificate of a collection's signature must name.
pub fn signer(collection: &Collection) -> &'static str {
    match collection.bucket.as_str() {
        "security-state" | "security-state-preview" => "onecrl.content-signature.mozilla.org",
        _ => "remote-settings.content-signature.mozilla.org",
    }
}

/// What is signed of records, which come in the order of their ids, at a moment.
pub fn signed_bytes<'a>(records: impl IntoIterator<Item = &'a Value>, timestamp: u64) -> Vec<u8> {
    let data: Vec<&Value> = records.into_iter().collect();
    let whole = json!({"data": data, "last_modified": timestamp.to_string()});
    let canonical = canonical_json::to_string(&whole).expect("values of JSON with text for keys are JSON");
    [PREFIX, canonical.as_bytes()].concat()
}

/// A chain of certificates: the signer's in front, and the root among those behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain(Vec<CertificateDer<'static>>);

impl Chain {
    /// Reads PEM.
    ///
    /// # Errors
    /// When there are no certificates in it, or too many.
    pub fn parse(text: &[u8]) -> Result<Self, BadSignature> {
        let blocks = pem::parse_many(text).map_err(|_| BadSignature::NoChain)?;
        let certificates = blocks.into_iter().filter(|block| block.tag() == "CERTIFICATE");
        let certificates: Vec<CertificateDer<'static>> =
            certificates.map(|block| block.into_contents().into()).collect();
        if certificates.is_empty() || certificates.len() > MAX_CERTIFICATES {
            return Err(BadSignature::NoChain);
        }
        Ok(Self(certificates))
    }

    /// From when until when all certificates that are not the root are valid.
    fn validity(&self, root: usize) -> Option<Validity> {
        let mut all = Validity { from: Timestamp(0), until: Timestamp(u64::MAX) };
        for (at, certificate) in self.0.iter().enumerate() {
            if at != root {
                let (_, read) = x509_parser::certificate::X509Certificate::from_der(certificate).ok()?;
                let ms = |t: x509_parser::time::ASN1Time| {
                    u64::try_from(t.timestamp()).unwrap_or(0).saturating_mul(1000)
                };
                all.from = all.from.max(Timestamp(ms(read.validity().not_before)));
                all.until = all.until.min(Timestamp(ms(read.validity().not_after)));
            }
        }
        Some(all)
    }
}

/// When a chain is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// From then on.
    pub from: Timestamp,
    /// Until then.
    pub until: Timestamp,
}

/// Whether `signature` is one of `signed` by `signer`, for whom `chain` vouches under one of `roots`, at `now`.
///
/// # Errors
/// See [`BadSignature`].
pub fn check(
    signed: &[u8],
    signature: &str,
    chain: &Chain,
    signer: &'static str,
    roots: &[Sha256],
    now: Timestamp,
) -> Result<Validity, BadSignature> {
    let decoded = BASE64_URL_SAFE.decode(signature).map_err(|_| BadSignature::Unreadable)?;
    let (leaf, behind) = chain.0.split_first().ok_or(BadSignature::NoChain)?;
    let is_trusted = |c: &CertificateDer<'_>| roots.contains(&Sha256(sha2::Sha256::digest(c).into()));
    let root = behind.iter().position(is_trusted).ok_or(BadSignature::Root)?;
    let bad = |error: webpki::Error| BadSignature::Chain(error.to_string());
    let anchor = webpki::anchor_from_trusted_cert(&behind[root]).map_err(bad)?;
    let certificate = EndEntityCert::try_from(leaf).map_err(bad)?;
    let time = UnixTime::since_unix_epoch(Duration::from_millis(now.0));
    let usage = KeyUsage::required(CODE_SIGNING);
    let algorithms = webpki::ALL_VERIFICATION_ALGS;
    certificate.verify_for_usage(algorithms, &[anchor], behind, time, usage, None, None).map_err(bad)?;
    let name = ServerName::try_from(signer).expect("the signers are names of hosts");
    certificate
        .verify_is_valid_for_subject_name(&name)
        .map_err(|_| BadSignature::Signer { expected: signer })?;
    let (_, read) =
        x509_parser::certificate::X509Certificate::from_der(leaf).map_err(|_| BadSignature::NoChain)?;
    let key = UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, &read.public_key().subject_public_key.data);
    key.verify(signed, &decoded).map_err(|_| BadSignature::Mismatch)?;
    chain.validity(root + 1).ok_or(BadSignature::NoChain)
}

#[cfg(test)]
pub(crate) mod tests;
