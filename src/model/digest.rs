//! Digests that hubs promise, and the one that names a blob.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The SHA-256 of a blob's bytes: its name in the store.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sha256(pub [u8; 32]);

impl Sha256 {
    /// Reads 64 hexadecimal digits of either case.
    pub fn parse(text: &str) -> Option<Self> {
        parse_hex::<32>(text).map(Self)
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{self}")
    }
}

// Text in JSON for people and scripts, raw bytes in the index.
impl Serialize for Sha256 {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        if s.is_human_readable() { s.collect_str(self) } else { self.0.serialize(s) }
    }
}

impl<'de> Deserialize<'de> for Sha256 {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        if d.is_human_readable() {
            let text = String::deserialize(d)?;
            Self::parse(&text).ok_or_else(|| serde::de::Error::custom("expected 64 hexadecimal digits"))
        } else {
            <[u8; 32]>::deserialize(d).map(Self)
        }
    }
}

/// A digest that somebody promised for the identity-encoded bytes of a resource.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Digest {
    /// SHA-256 of LFS and Xet files.
    Sha256(Sha256),
    /// The id of a git blob: SHA-1 over `blob <size>\0` and the bytes.
    GitSha1([u8; 20]),
    /// MD5 as Google Cloud Storage states it.
    Md5([u8; 16]),
    /// CRC32C (Castagnoli) as Google Cloud Storage states it.
    Crc32c(u32),
}

impl Digest {
    /// The name of the algorithm as shown to people and scripts.
    pub fn algorithm(&self) -> &'static str {
        match self {
            Self::Sha256(_) => "sha256",
            Self::GitSha1(_) => "git-sha1",
            Self::Md5(_) => "md5",
            Self::Crc32c(_) => "crc32c",
        }
    }

    /// The value in lower-case hexadecimal digits.
    pub fn value(&self) -> String {
        match self {
            Self::Sha256(d) => d.to_string(),
            Self::GitSha1(d) => hex(d),
            Self::Md5(d) => hex(d),
            Self::Crc32c(d) => hex(&d.to_be_bytes()),
        }
    }

    /// Reads a git blob id of 40 hexadecimal digits.
    pub fn git_sha1(text: &str) -> Option<Self> {
        parse_hex::<20>(text).map(Self::GitSha1)
    }

    /// Reads an MD5 of 32 hexadecimal digits.
    pub fn md5(text: &str) -> Option<Self> {
        parse_hex::<16>(text).map(Self::Md5)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm(), self.value())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Lower-case hexadecimal digits of `bytes`.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut out = String::with_capacity(bytes.len() * 2);
    for b in bytes {
        out.push(char::from(DIGITS[usize::from(b >> 4)]));
        out.push(char::from(DIGITS[usize::from(b & 15)]));
    }
    out
}

fn parse_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let text = text.as_bytes();
    if text.len() != N * 2 {
        return None;
    }
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(text.chunks_exact(2)) {
        let high = char::from(pair[0]).to_digit(16)?;
        let low = char::from(pair[1]).to_digit(16)?;
        *byte = u8::try_from(high * 16 + low).ok()?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sha256_reads_what_it_prints() {
        let d = Sha256([0xab; 32]);
        assert_eq!(Sha256::parse(&d.to_string()), Some(d));
        assert_eq!(Sha256::parse("zz"), None);
        let odd = format!("{}é", "0".repeat(62));
        assert_eq!(Sha256::parse(&odd), None, "64 bytes that are no digits");
    }

    #[test]
    fn sha256_is_text_in_json_and_bytes_in_postcard() {
        let d = Sha256([7; 32]);
        let json = serde_json::to_string(&d).unwrap();
        assert_eq!(json, format!("\"{d}\""));
        assert_eq!(serde_json::from_str::<Sha256>(&json).unwrap(), d);
        let raw = postcard::to_stdvec(&d).unwrap();
        assert_eq!(raw.len(), 32);
        assert_eq!(postcard::from_bytes::<Sha256>(&raw).unwrap(), d);
    }
}
