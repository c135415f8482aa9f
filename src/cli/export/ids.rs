//! What files hash to beside SHA-256: as the index knows it, and read anew where it does not.

use std::collections::{BTreeMap, BTreeSet};

use super::super::exit::{Exit, Failure};
use super::super::holdings::{Holdings, selector};
use super::super::reach;
use crate::admin::control::Command;
use crate::config::Config;
use crate::model::{Digest, Promise, Promiser, Sha256, Standing};
use crate::transfer::bundle::FileIds;
use crate::transfer::lock::{Lock, LockedFile, Origin};
use crate::verify::{Digester, Digests};

/// A kind of digest, by a digest of it.
const GIT: Digest = Digest::GitSha1([0; 20]);
const MD5: Digest = Digest::Md5([0; 16]);
const CRC32C: Digest = Digest::Crc32c(0);

/// What hubs promise of files from there beside SHA-256. What a lock file says decides, so that one lock makes one bundle.
fn kinds(from: Origin) -> &'static [Digest] {
    match from {
        Origin::Git => &[GIT],
        Origin::Bucket => &[MD5, CRC32C],
        Origin::Lfs | Origin::Record | Origin::FirstDownload => &[],
    }
}

/// The digests of all files of a lock whose hubs promise more than SHA-256.
pub fn ids(config: &Config, lock: &Lock) -> Result<FileIds, Failure> {
    let mut wanted: BTreeMap<Sha256, (u64, Vec<Digest>)> = BTreeMap::new();
    for LockedFile { size, sha256, from } in lock.models.values().flat_map(|locked| locked.files.values()) {
        for kind in kinds(*from) {
            let (_, all) = wanted.entry(*sha256).or_insert((*size, Vec::new()));
            if !all.contains(kind) {
                all.push(*kind);
            }
        }
    }
    let mut found = known(config, lock)?;
    let is_known = |(digest, (_, kinds)): &(&Sha256, &(u64, Vec<Digest>))| {
        let known = found.get(digest);
        kinds.iter().all(|kind| known.is_some_and(|known| known.iter().any(|digest| is_alike(kind, digest))))
    };
    let unknown: Vec<(Sha256, u64, Vec<Digest>)> = wanted
        .iter()
        .filter(|one| !is_known(one))
        .map(|(digest, (size, kinds))| (*digest, *size, kinds.clone()))
        .collect();
    for (digest, digests) in read(config, &unknown)? {
        found.insert(digest, digests);
    }
    let of = |(digest, (_, kinds)): (Sha256, (u64, Vec<Digest>))| {
        let known = found.get(&digest);
        let mut ids: Vec<Digest> = kinds
            .iter()
            .filter_map(|kind| known?.iter().find(|digest| is_alike(kind, digest)).copied())
            .collect();
        ids.sort_by_key(Digest::algorithm);
        (digest, ids)
    };
    Ok(wanted.into_iter().map(of).collect())
}

fn is_alike(kind: &Digest, digest: &Digest) -> bool {
    kind.algorithm() == digest.algorithm()
}

/// What was compared when the files were stored.
fn known(config: &Config, lock: &Lock) -> Result<FileIds, Failure> {
    let mut found: BTreeMap<Sha256, BTreeSet<String>> = BTreeMap::new();
    let mut all = FileIds::new();
    for (name, locked) in &lock.models {
        let held = Holdings::read(config, Command::Ls { selector: selector(name, locked.kept_at(name)) })?;
        for row in held.files.into_iter().filter(|row| row.entry.standing == Standing::Verified) {
            let seen = found.entry(row.entry.blob).or_default();
            // A git blob id was hashed; so was what a bucket promised.
            let compared = row.entry.promises.iter().map(|promise| promise.digest);
            let new = compared.filter(|digest| seen.insert(digest.to_string()));
            all.entry(row.entry.blob).or_default().extend(new);
        }
    }
    Ok(all)
}

/// Reads files and hashes them.
fn read(config: &Config, files: &[(Sha256, u64, Vec<Digest>)]) -> Result<FileIds, Failure> {
    let digester = |size: u64, kinds: &[Digest]| {
        let promises: Vec<Promise> =
            kinds.iter().map(|digest| Promise { digest: *digest, by: Promiser::Etag }).collect();
        Digester::new(&promises, Some(size))
    };
    let mut found = FileIds::new();
    let (empty, files): (Vec<_>, Vec<_>) = files.iter().partition(|(_, size, _)| *size == 0);
    found.extend(
        empty.iter().map(|(digest, size, kinds)| (*digest, digests(&digester(*size, kinds).finish()))),
    );
    let blobs: Vec<Sha256> = files.iter().map(|(digest, ..)| *digest).collect();
    let mut rest = files.iter();
    let mut under = None;
    reach::blobs(config, &blobs, 0, |mut bytes| {
        while !bytes.is_empty() {
            let (digest, left, mut hash) = match under.take() {
                Some(under) => under,
                None => {
                    let (digest, size, kinds) = rest.next().ok_or_else(too_many)?;
                    (*digest, *size, digester(*size, kinds))
                }
            };
            let here = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
            hash.update(&bytes[..here]);
            bytes = &bytes[here..];
            match left - here as u64 {
                0 => drop(found.insert(digest, digests(&hash.finish()))),
                left => under = Some((digest, left, hash)),
            }
        }
        Ok(())
    })?;
    Ok(found)
}

fn too_many() -> Failure {
    Failure::new(Exit::Software, "more bytes came than were asked for")
}

fn digests(found: &Digests) -> Vec<Digest> {
    let git = found.git_sha1.map(Digest::GitSha1);
    let (md5, crc32c) = (found.md5.map(Digest::Md5), found.crc32c.map(Digest::Crc32c));
    git.into_iter().chain(md5).chain(crc32c).collect()
}
