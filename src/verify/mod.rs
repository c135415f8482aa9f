//! Is a file what it claims to be. Pure: bytes go in, in file order; a [`Verdict`] comes out.
//!
//! Every digest that anybody promised is computed beside SHA-256, which names the blob. A file that nobody promised
//! a digest of is *recorded*: its SHA-256 is that of the first download.

pub mod signature;

use std::fmt;

use md5::Md5;
use sha1::Sha1;
use sha2::Digest as _;

use crate::model::{Digest, Expectation, Promise, Sha256, Standing};

/// Bytes at the beginning of a file that are looked at to tell pages and pointers from model files.
const SNIFFED: usize = 1024;

/// Computes every digest that was promised, in one pass.
#[derive(Clone)]
pub struct Digester {
    sha256: sha2::Sha256,
    git_sha1: Option<Sha1>,
    md5: Option<Md5>,
    crc32c: Option<u32>,
    length: u64,
    beginning: Vec<u8>,
}

impl Digester {
    /// Whether a digest is promised that cannot be computed before the file's size is known: a git blob id hashes
    /// the size first.
    pub fn needs_size(promises: &[Promise]) -> bool {
        promises.iter().any(|p| matches!(p.digest, Digest::GitSha1(_)))
    }

    /// A digester for these promises; `size` is the length of the file, which must be given where
    /// [`Digester::needs_size`] says so, else a promised git blob id counts as not computed.
    pub fn new(promises: &[Promise], size: Option<u64>) -> Self {
        let promised = |f: fn(&Digest) -> bool| promises.iter().any(|p| f(&p.digest));
        Self {
            git_sha1: size.filter(|_| Self::needs_size(promises)).map(git_blob),
            md5: promised(|d| matches!(d, Digest::Md5(_))).then(Md5::new),
            crc32c: promised(|d| matches!(d, Digest::Crc32c(_))).then_some(0),
            sha256: sha2::Sha256::new(),
            length: 0,
            beginning: Vec::new(),
        }
    }

    /// A digester for a file of this size of which nothing is promised, and which is to be called by its git blob id.
    pub fn naming(size: u64) -> Self {
        Self { git_sha1: Some(git_blob(size)), ..Self::new(&[], None) }
    }

    /// Takes the next bytes of the file.
    pub fn update(&mut self, bytes: &[u8]) {
        let wanted = SNIFFED - self.beginning.len().min(SNIFFED);
        self.beginning.extend_from_slice(&bytes[..bytes.len().min(wanted)]);
        self.length += bytes.len() as u64;
        self.sha256.update(bytes);
        if let Some(hash) = &mut self.git_sha1 {
            hash.update(bytes);
        }
        if let Some(hash) = &mut self.md5 {
            hash.update(bytes);
        }
        if let Some(crc) = &mut self.crc32c {
            *crc = crc32c::crc32c_append(*crc, bytes);
        }
    }

    /// Ends the pass.
    pub fn finish(self) -> Digests {
        Digests {
            sha256: Sha256(self.sha256.finalize().into()),
            git_sha1: self.git_sha1.map(|h| h.finalize().into()),
            md5: self.md5.map(|h| h.finalize().into()),
            crc32c: self.crc32c,
            length: self.length,
            beginning: self.beginning,
        }
    }
}

/// The beginning of what a git blob id hashes.
fn git_blob(size: u64) -> Sha1 {
    let mut hash = Sha1::new();
    hash.update(format!("blob {size}\0"));
    hash
}

/// What a file was found to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digests {
    /// The name of the blob.
    pub sha256: Sha256,
    /// The git blob id, where one was promised.
    pub git_sha1: Option<[u8; 20]>,
    /// MD5, where one was promised.
    pub md5: Option<[u8; 16]>,
    /// CRC32C, where one was promised.
    pub crc32c: Option<u32>,
    /// Number of bytes.
    pub length: u64,
    beginning: Vec<u8>,
}

impl Digests {
    fn found(&self, promised: &Digest) -> Option<Digest> {
        match promised {
            Digest::Sha256(_) => Some(Digest::Sha256(self.sha256)),
            Digest::GitSha1(_) => self.git_sha1.map(Digest::GitSha1),
            Digest::Md5(_) => self.md5.map(Digest::Md5),
            Digest::Crc32c(_) => self.crc32c.map(Digest::Crc32c),
        }
    }
}

/// Whether the bytes may become permanent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// They may, with this standing.
    Good(Standing),
    /// They may not.
    Wrong(Flaw),
}

/// What was wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// Not as long as promised, in bytes.
    Length {
        /// The promised length.
        promised: u64,
        /// The length found.
        found: u64,
    },
    /// A digest differs.
    Digest {
        /// Which, and who promised it.
        promised: Promise,
        /// What the bytes hash to.
        found: Digest,
    },
    /// An HTML page where a model file should be.
    Html,
    /// A pointer of git's large-file storage where the file itself should be.
    LfsPointer,
}

impl Flaw {
    /// A word for the `detail` of `Cache-Status`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Length { .. } => "wrong-length",
            Self::Digest { .. } => "wrong-digest",
            Self::Html => "html-page",
            Self::LfsPointer => "lfs-pointer",
        }
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { promised, found } => {
                write!(f, "{promised} bytes were promised and {found} came")
            }
            Self::Digest { promised, found } => {
                write!(f, "{} was promised and {found} came", promised.digest)
            }
            Self::Html => f.write_str("an HTML page came in place of the file"),
            Self::LfsPointer => f.write_str("a large-file pointer came in place of the file"),
        }
    }
}

impl std::error::Error for Flaw {}

/// Holds what was found against what was promised.
pub fn judge(path: &str, expected: &Expectation, found: &Digests) -> Verdict {
    if let Some(promised) = expected.representation.size
        && promised != found.length
    {
        return Verdict::Wrong(Flaw::Length { promised, found: found.length });
    }
    let mut standing = Standing::Recorded;
    for promised in &expected.promises {
        match found.found(&promised.digest) {
            Some(d) if d == promised.digest => standing = Standing::Verified,
            Some(found) => return Verdict::Wrong(Flaw::Digest { promised: *promised, found }),
            None => {}
        }
    }
    let sha256_agreed = expected.sha256().is_some();
    // A hub that has lost its large files serves their pointers, under the pointers' own git ids.
    if !sha256_agreed && is_lfs_pointer(&found.beginning, found.length) {
        return Verdict::Wrong(Flaw::LfsPointer);
    }
    if standing == Standing::Recorded && is_misplaced_html(path, expected, &found.beginning) {
        return Verdict::Wrong(Flaw::Html);
    }
    Verdict::Good(standing)
}

/// Whether an answer is a page before a byte of it has come: nobody promised a digest, the type says HTML and the
/// file's name does not.
pub fn is_page(path: &str, expected: &Expectation) -> bool {
    let kind = expected.representation.content_type.as_deref().unwrap_or_default();
    expected.promises.is_empty() && !may_be_html(path) && kind.to_ascii_lowercase().starts_with("text/html")
}

fn is_misplaced_html(path: &str, expected: &Expectation, beginning: &[u8]) -> bool {
    if may_be_html(path) {
        return false;
    }
    let start = beginning.trim_ascii_start();
    let begins = |tag: &[u8]| start.len() >= tag.len() && start[..tag.len()].eq_ignore_ascii_case(tag);
    is_page(path, expected) || begins(b"<!doctype html") || begins(b"<html")
}

fn may_be_html(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path).to_ascii_lowercase();
    [".html", ".htm", ".xhtml", ".md", ".svg"].iter().any(|e| name.ends_with(e))
}

fn is_lfs_pointer(beginning: &[u8], length: u64) -> bool {
    length <= SNIFFED as u64
        && beginning.starts_with(b"version https://git-lfs.github.com/spec/v1\n")
        && beginning.windows(12).any(|w| w == b"\noid sha256:")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Promiser, Representation};

    fn expected(size: Option<u64>, digests: &[Digest]) -> Expectation {
        Expectation {
            representation: Representation { size, ..Representation::default() },
            promises: digests.iter().map(|d| Promise { digest: *d, by: Promiser::GoogHash }).collect(),
            ..Expectation::default()
        }
    }

    fn verdict(path: &str, expected: &Expectation, bytes: &[u8]) -> Verdict {
        let mut d = Digester::new(&expected.promises, expected.representation.size);
        for piece in bytes.chunks(3) {
            d.update(piece);
        }
        judge(path, expected, &d.finish())
    }

    // Known values for the six bytes "hello\n": git hash-object, md5sum, and CRC32C by RFC 3720's polynomial.
    const HELLO: &[u8] = b"hello\n";
    const GIT: &str = "ce013625030ba8dba906f756967f9e9ca394464a";
    const MD5: &str = "b1946ac92492d2347c6235b4d2611184";
    const SHA: &str = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";

    #[test]
    fn every_promised_digest_is_compared() {
        let sha = Digest::Sha256(Sha256::parse(SHA).unwrap());
        let all = [sha, Digest::git_sha1(GIT).unwrap(), Digest::md5(MD5).unwrap()];
        assert_eq!(verdict("a", &expected(Some(6), &all), HELLO), Verdict::Good(Standing::Verified));
        for at in 0..all.len() {
            let mut wrong = all;
            wrong[at] = match wrong[at] {
                Digest::Sha256(_) => Digest::Sha256(Sha256([0; 32])),
                Digest::GitSha1(_) => Digest::GitSha1([0; 20]),
                Digest::Md5(_) => Digest::Md5([0; 16]),
                Digest::Crc32c(c) => Digest::Crc32c(!c),
            };
            let v = verdict("a", &expected(Some(6), &wrong), HELLO);
            assert!(matches!(v, Verdict::Wrong(Flaw::Digest { .. })), "{v:?}");
        }
        // RFC 3720, B.4: 32 bytes of zeros have the CRC 0x8a9136aa.
        let zeros = expected(None, &[Digest::Crc32c(0x8a91_36aa)]);
        assert_eq!(verdict("a", &zeros, &[0; 32]), Verdict::Good(Standing::Verified));
        assert!(matches!(verdict("a", &zeros, &[0; 31]), Verdict::Wrong(_)));
    }

    #[test]
    fn bytes_that_nobody_vouched_for_are_only_recorded() {
        assert_eq!(verdict("a", &expected(None, &[]), HELLO), Verdict::Good(Standing::Recorded));
        let v = verdict("a", &expected(Some(7), &[]), HELLO);
        assert_eq!(v, Verdict::Wrong(Flaw::Length { promised: 7, found: 6 }));
    }

    #[test]
    fn pages_and_pointers_are_no_model_files() {
        let page = b"  <!DOCTYPE html><title>busy</title>";
        assert_eq!(verdict("model.onnx", &expected(None, &[]), page), Verdict::Wrong(Flaw::Html));
        assert_eq!(verdict("index.html", &expected(None, &[]), page), Verdict::Good(Standing::Recorded));
        let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n";
        assert_eq!(verdict("model.onnx", &expected(None, &[]), pointer), Verdict::Wrong(Flaw::LfsPointer));
        let mut typed = expected(None, &[]);
        typed.representation.content_type = Some("text/html; charset=utf-8".into());
        assert!(is_page("model.onnx", &typed) && !is_page("README.md", &typed));
    }
}
