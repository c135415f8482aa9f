//! What an archive holds, read and held against itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::de::DeserializeOwned;

use super::manifest::{self, Descriptor, FILEPATH, FileIds, Index, Manifest};
use super::plan::{LOCK_NAME, pinned, written};
use super::signature::{Verifier, signed};
use crate::model::{Digest, LockedPart, LockedSettings, Promise, Promiser, Resource, Revision, Sha256};
use crate::transfer::ModelName;
use crate::transfer::lock::{BadLock, Lock, Locked, LockedFile, Origin};

/// Most bytes of a text in a bundle. A lock file has some 150 for each file.
const MAX_TEXT: u64 = 64 << 20;

/// A part of a bundle, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// The header of a member, which begins at this byte.
    Header(u64),
    /// The zeros that end at this byte.
    Zeros(u64),
    /// The end of the archive.
    End,
    /// A member.
    Member(String),
    /// The manifest of this name.
    Manifest(String),
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(at) => write!(f, "the header at byte {at}"),
            Self::Zeros(at) => write!(f, "the padding before byte {at}"),
            Self::End => f.write_str("the end of the archive"),
            Self::Member(name) => f.write_str(name),
            Self::Manifest(name) => write!(f, "the manifest {name}"),
        }
    }
}

/// Why an archive is no bundle that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadBundle {
    /// It is no archive of this kind.
    Kind,
    /// A part is damaged.
    Damaged(Part),
    /// A part is named and not there.
    Missing(Part),
    /// The lock file in it cannot be read.
    Lock(BadLock),
    /// The manifests and the lock file in it do not say the same of this.
    Disagrees(String),
}

impl fmt::Display for BadBundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kind => f.write_str("it is no bundle: `hubcache export --lock FILE -o BUNDLE` makes one"),
            Self::Damaged(part) => write!(f, "it is damaged: {part} is not as it was written"),
            Self::Missing(part) => write!(f, "it is not whole: {part} is missing"),
            Self::Lock(_) => f.write_str("the lock file in it cannot be read"),
            Self::Disagrees(what) => {
                write!(f, "its manifests and its lock file do not say the same of {what}")
            }
        }
    }
}

impl std::error::Error for BadBundle {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Lock(why) => Some(why),
            _ => None,
        }
    }
}

/// What a bundle holds.
#[derive(Clone, Debug)]
pub struct Contents {
    /// What it pins.
    pub lock: Lock,
    /// What its files hash to beside SHA-256.
    pub ids: FileIds,
    /// Of a delta: the digest of the lock file whose blobs are not in it.
    pub since: Option<Sha256>,
    /// The name of the key with which it is signed.
    pub signed_by: Option<String>,
    /// Whether its index is the one that was written; another program may have packed it anew.
    pub is_as_written: bool,
    signature: Vec<u8>,
    signed: Vec<u8>,
    texts: BTreeSet<Sha256>,
}

impl Contents {
    /// Reads what `index` names. Of a member, `size` is the length, and `text` the bytes, held against their digest.
    ///
    /// # Errors
    /// See [`BadBundle`].
    pub fn read<E: From<BadBundle>>(
        index: &[u8],
        size: impl Fn(&Sha256) -> Option<u64>,
        text: impl Fn(&Sha256) -> Result<Vec<u8>, E>,
    ) -> Result<Self, E> {
        let text_of_index = index;
        let index: Index = json(index, || Part::Member(manifest::INDEX.to_owned()))?;
        let signed = signed(&index.manifests);
        let get = |described: &Descriptor, part: &dyn Fn() -> Part| match size(&described.digest) {
            None => Err(BadBundle::Missing(part()).into()),
            Some(size) if size != described.size || size > MAX_TEXT => Err(BadBundle::Damaged(part()).into()),
            Some(_) => text(&described.digest),
        };
        let (mut models, mut lock, mut since) = (Vec::new(), None, None);
        let (mut signed_by, mut signature, mut settings) = (None, Vec::new(), None);
        for described in &index.manifests {
            let name = described.name().map_or_else(|| format!("sha256:{}", described.digest), str::to_owned);
            let part = || Part::Manifest(name.clone());
            let manifest: Manifest = json(&get(described, &part)?, part)?;
            let first = || manifest.layers.first().ok_or_else(|| BadBundle::Damaged(part()));
            match manifest.artifact_type.as_deref() {
                Some(manifest::MODEL) => models.push(manifest.layers),
                Some(manifest::SETTINGS) => settings = Some(manifest.layers),
                Some(manifest::SIGNATURE) => {
                    signature = get(first()?, &part)?;
                    signed_by = first()?.annotations.get(manifest::KEY).cloned();
                }
                Some(manifest::LOCK) => {
                    lock = Some(read_lock(&get(first()?, &part)?)?);
                    let base = manifest.annotations.get(manifest::SINCE);
                    since = base.and_then(|base| Sha256::parse(base.strip_prefix("sha256:")?));
                }
                // Somebody may have put other things beside.
                _ => {}
            }
        }
        let lock = lock.ok_or_else(|| BadBundle::Missing(Part::Manifest(LOCK_NAME.to_owned())))?;
        let ids = compared(&lock, &models, settings.as_deref())?;
        let again = written(&lock, &ids, since, |_| signed_by.clone().map(|key| (key, signature.clone())));
        let is_as_written = again.index == text_of_index;
        let texts = again.texts.into_keys().collect();
        Ok(Self { lock, ids, since, signed_by, is_as_written, signature, signed, texts })
    }

    /// Every file that it pins, by its bytes, whether these are in it or not.
    pub fn blobs(&self) -> BTreeMap<Sha256, u64> {
        pinned(&self.lock)
    }

    /// Every file as it is to be held.
    pub fn files(&self) -> Vec<PinnedFile> {
        let of_model = |(name, locked): (&ModelName, &Locked)| {
            let revision = Revision::parse(name.hub, locked.kept_at(name));
            let at = Resource { hub: name.hub, repo: name.repo.clone(), revision, path: String::new() };
            let of_file = |(path, file): (&String, &LockedFile)| PinnedFile {
                file: Resource { path: path.clone(), ..at.clone() },
                part: LockedPart { size: file.size, sha256: file.sha256 },
                promises: promises(file, &self.ids),
            };
            locked.files.iter().map(of_file).collect::<Vec<_>>()
        };
        let of_models = self.lock.models.iter().flat_map(of_model);
        let of_settings = self.lock.settings.iter().flat_map(LockedSettings::files);
        let of_settings = of_settings.filter_map(|(file, size)| {
            let sha256 = Sha256::parse(file.revision.as_str())?;
            let promises = file.own_promise().into_iter().collect();
            Some(PinnedFile { file, part: LockedPart { size, sha256 }, promises })
        });
        of_models.chain(of_settings).collect()
    }

    /// The blobs that are manifests and other texts.
    pub fn texts(&self) -> &BTreeSet<Sha256> {
        &self.texts
    }

    /// Whether this key has signed it.
    pub fn is_signed_by(&self, key: &Verifier) -> bool {
        key.is_good(&self.signed, &self.signature)
    }
}

/// A file of a bundle as it is to be held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinnedFile {
    /// Which one.
    pub file: Resource,
    /// Its bytes.
    pub part: LockedPart,
    /// What they hash to by the word of its hub.
    pub promises: Vec<Promise>,
}

/// What hubs have promised of a file, as the lock and the manifests have it.
fn promises(file: &LockedFile, ids: &FileIds) -> Vec<Promise> {
    let known = ids.get(&file.sha256).into_iter().flatten().copied();
    let by = |by: Promiser, digests: Vec<Digest>| {
        digests.into_iter().map(|digest| Promise { digest, by }).collect()
    };
    match file.from {
        Origin::Lfs => by(Promiser::LinkedEtag, vec![Digest::Sha256(file.sha256)]),
        Origin::Record => by(Promiser::Record, vec![Digest::Sha256(file.sha256)]),
        Origin::Git => by(Promiser::Etag, known.filter(|d| matches!(d, Digest::GitSha1(_))).collect()),
        Origin::Bucket => by(
            Promiser::GoogHash,
            known.filter(|d| matches!(d, Digest::Md5(_) | Digest::Crc32c(_))).collect(),
        ),
        Origin::FirstDownload => Vec::new(),
    }
}

fn json<T: DeserializeOwned>(text: &[u8], part: impl Fn() -> Part) -> Result<T, BadBundle> {
    serde_json::from_slice(text).map_err(|_| BadBundle::Damaged(part()))
}

fn read_lock(text: &[u8]) -> Result<Lock, BadBundle> {
    let text = std::str::from_utf8(text);
    let text = text.map_err(|_| BadBundle::Damaged(Part::Manifest("hubcache/lock".to_owned())))?;
    Lock::parse(text).map_err(BadBundle::Lock)
}

/// Holds manifests against the lock, and gathers what they say beyond it.
fn compared(
    lock: &Lock,
    models: &[Vec<Descriptor>],
    settings: Option<&[Descriptor]>,
) -> Result<FileIds, BadBundle> {
    let mut ids = FileIds::new();
    for (name, locked) in lock.models.iter().filter(|(_, locked)| !locked.files.is_empty()) {
        let layers = models.iter().find(|layers| is_of(layers, locked)).ok_or_else(|| disagrees(name))?;
        for layer in layers {
            let digests = layer.annotations.get(manifest::DIGESTS).map_or("", String::as_str);
            let digests: Option<Vec<Digest>> =
                digests.split(' ').filter(|d| !d.is_empty()).map(digest).collect();
            ids.insert(layer.digest, digests.ok_or_else(|| disagrees(name))?);
        }
    }
    if let Some(locked) = &lock.settings {
        let parts: Vec<LockedPart> = locked.parts().into_iter().map(|(_, part)| part).collect();
        let layers: Vec<LockedPart> = settings.into_iter().flatten().map(Descriptor::part).collect();
        if parts != layers {
            return Err(BadBundle::Disagrees("Remote Settings".to_owned()));
        }
    }
    Ok(ids)
}

fn disagrees(name: &ModelName) -> BadBundle {
    BadBundle::Disagrees(name.to_string())
}

fn is_of(layers: &[Descriptor], locked: &Locked) -> bool {
    let pinned = |path: &String| locked.files.get(path).map(|file| (file.size, file.sha256));
    layers.len() == locked.files.len()
        && layers
            .iter()
            .all(|layer| layer.annotations.get(FILEPATH).and_then(pinned) == Some((layer.size, layer.digest)))
}

/// Reads a digest as it is shown to people.
fn digest(text: &str) -> Option<Digest> {
    let (algorithm, value) = text.split_once(':')?;
    match algorithm {
        "git-sha1" => Digest::git_sha1(value),
        "md5" => Digest::md5(value),
        "crc32c" if value.len() == 8 => u32::from_str_radix(value, 16).ok().map(Digest::Crc32c),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{BLOCK, Content, Member, Plan, Signer, plan, read_header};
    use super::*;
    use crate::transfer::bundle::signature::tests::{PRIVATE, PUBLIC};

    fn lock(weights: u8) -> Lock {
        let file = |n: u8, from| LockedFile { size: 5, sha256: Sha256([n; 32]), from };
        let tiny = Locked {
            commit: crate::model::Commit::parse(&"ab".repeat(20)),
            files: BTreeMap::from([
                ("config.json".to_owned(), file(1, Origin::Git)),
                ("model.onnx".to_owned(), file(weights, Origin::Lfs)),
            ]),
            left_out: Some(BTreeSet::from(["README.md".to_owned()])),
            ..Locked::default()
        };
        let other = Locked {
            files: BTreeMap::from([("a/b.json".to_owned(), file(1, Origin::FirstDownload))]),
            ..Locked::default()
        };
        let models = [("hf:acme/tiny", tiny), ("moz:acme/tiny@v1.0", other)];
        let models = models.map(|(name, locked)| (name.parse().unwrap(), locked));
        Lock { models: models.into(), ..Lock::default() }
    }

    fn ids() -> FileIds {
        let known = vec![Digest::GitSha1([7; 20])];
        FileIds::from([(Sha256([1; 32]), known.clone())])
    }

    /// What an archive has of texts, and its index.
    fn texts(plan: &Plan) -> (Vec<u8>, BTreeMap<Sha256, Vec<u8>>) {
        let (mut index, mut texts) = (Vec::new(), BTreeMap::new());
        for Member { name, content } in &plan.members {
            match (content, name.strip_prefix("blobs/sha256/").and_then(Sha256::parse)) {
                (Content::Text(text), Some(digest)) => drop(texts.insert(digest, text.clone())),
                (Content::Text(text), None) => index.clone_from(text),
                (Content::Blob(_), _) => {}
            }
        }
        (index, texts)
    }

    fn read(index: &[u8], texts: &BTreeMap<Sha256, Vec<u8>>) -> Result<Contents, BadBundle> {
        let size = |digest: &Sha256| texts.get(digest).map(|text| text.len() as u64);
        Contents::read(index, size, |digest| Ok(texts[digest].clone()))
    }

    #[test]
    fn what_is_planned_reads_back_and_every_change_of_the_index_shows() {
        let plan = plan(&lock(2), &ids(), None, None);
        let (index, texts) = texts(&plan);
        let contents = read(&index, &texts).unwrap();
        assert!(contents.is_as_written && contents.since.is_none() && contents.signed_by.is_none());
        assert_eq!((&contents.lock, &contents.ids[&Sha256([1; 32])]), (&lock(2), &ids()[&Sha256([1; 32])]));
        let files = contents.files();
        assert_eq!(files.len(), 3);
        let git = Promise { digest: Digest::GitSha1([7; 20]), by: Promiser::Etag };
        assert_eq!(files[0].promises, vec![], "of the hub of Firefox nobody has promised anything");
        assert!(files.iter().any(|file| file.promises == [git]), "{files:?}");
        for at in 0..index.len() {
            for flip in [1, 0x10] {
                let mut damaged = index.clone();
                damaged[at] ^= flip;
                let is_found = read(&damaged, &texts).map_or(true, |contents| !contents.is_as_written);
                assert!(is_found, "byte {at} of {}", String::from_utf8_lossy(&index));
            }
        }
    }

    #[test]
    fn a_delta_has_no_bytes_of_its_base() {
        let base = lock(2);
        let delta = plan(&lock(3), &ids(), Some(&base), None);
        let blobs: Vec<Sha256> = delta.blobs().map(|part| part.sha256).collect();
        assert_eq!(blobs, [Sha256([3; 32])]);
        let (index, texts) = texts(&delta);
        let contents = read(&index, &texts).unwrap();
        assert!(contents.is_as_written);
        let digest = super::super::manifest::part_of(base.print().as_bytes()).sha256;
        assert_eq!(contents.since, Some(digest));
        assert_eq!(contents.blobs().len(), 2, "it names what it does not have");
    }

    #[test]
    fn a_signature_is_of_everything_that_is_named() {
        let signer = Signer::read(PRIVATE.as_bytes()).unwrap();
        let key = Verifier::read(PUBLIC.as_bytes()).unwrap();
        let (index, signed) = texts(&plan(&lock(2), &ids(), None, Some(&signer)));
        let contents = read(&index, &signed).unwrap();
        assert!(contents.is_signed_by(&key) && contents.is_as_written);
        assert_eq!(contents.signed_by, Some(key.name()));
        // Everything of another bundle, under the signature of this one.
        let (other, more) = texts(&plan(&lock(3), &ids(), None, Some(&signer)));
        let mut forged: Index = serde_json::from_slice(&other).unwrap();
        let mine: Index = serde_json::from_slice(&index).unwrap();
        *forged.manifests.last_mut().unwrap() = mine.manifests.last().unwrap().clone();
        let all = signed.into_iter().chain(more).collect();
        let forged = read(&super::super::manifest::text(&forged), &all).unwrap();
        assert_eq!(forged.lock, lock(3));
        assert!(!forged.is_signed_by(&key));
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        let (index, mut all) = texts(&plan(&lock(2), &ids(), None, None));
        let (other, more) = texts(&plan(&lock(3), &ids(), None, None));
        all.extend(more);
        let (mut mine, other): (Index, Index) =
            (serde_json::from_slice(&index).unwrap(), serde_json::from_slice(&other).unwrap());
        let is_lock = |m: &&Descriptor| m.name() == Some(LOCK_NAME);
        let lock_of_other = other.manifests.iter().find(is_lock).unwrap().clone();
        let place = mine.manifests.iter().position(|m| is_lock(&m)).unwrap();
        mine.manifests[place] = lock_of_other;
        let text = super::super::manifest::text(&mine);
        assert_eq!(read(&text, &all).unwrap_err(), BadBundle::Disagrees("hf:acme/tiny@main".to_owned()));
        mine.manifests.remove(place);
        let text = super::super::manifest::text(&mine);
        let missing = BadBundle::Missing(Part::Manifest(LOCK_NAME.to_owned()));
        assert_eq!(read(&text, &all).unwrap_err(), missing);
        all.clear();
        assert!(matches!(read(&index, &all), Err(BadBundle::Missing(_))));
    }

    #[test]
    fn members_have_the_room_that_is_planned() {
        let plan = plan(&lock(2), &ids(), None, None);
        let sum: u64 = plan.members.iter().map(Member::room).sum();
        assert_eq!(plan.length(), sum + 2 * BLOCK as u64);
        assert_eq!(read_header(&super::super::header("oci-layout", 3)).unwrap().size, 3);
    }
}
