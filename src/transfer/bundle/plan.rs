//! What an archive is to hold, in which order.

use std::collections::{BTreeMap, BTreeSet};

use super::archive::{BLOCK, blob_name, padding};
use super::manifest::{self, Descriptor, FileIds, Index, Manifest};
use super::signature::{Signer, signed};
use crate::model::{LockedPart, LockedSettings, Sha256};
use crate::transfer::lock::Lock;

/// The name of the manifest of the lock file.
pub(super) const LOCK_NAME: &str = "hubcache/lock";
/// Zeros behind the last member.
const END: u64 = 2 * BLOCK as u64;

/// What an archive is to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The members, in their order.
    pub members: Vec<Member>,
}

/// A member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Its bytes.
    pub content: Content,
}

/// The bytes of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// These.
    Text(Vec<u8>),
    /// Those of a file.
    Blob(LockedPart),
}

impl Member {
    /// How many bytes.
    pub fn size(&self) -> u64 {
        match &self.content {
            Content::Text(text) => text.len() as u64,
            Content::Blob(part) => part.size,
        }
    }

    /// How many bytes of the archive, with the header and the zeros behind it.
    pub fn room(&self) -> u64 {
        BLOCK as u64 + self.size() + padding(self.size()) as u64
    }
}

impl Plan {
    /// How many bytes the archive has.
    pub fn length(&self) -> u64 {
        self.members.iter().map(Member::room).fold(END, u64::saturating_add)
    }

    /// The files in it.
    pub fn blobs(&self) -> impl Iterator<Item = LockedPart> + '_ {
        self.members.iter().filter_map(|member| match member.content {
            Content::Blob(part) => Some(part),
            Content::Text(_) => None,
        })
    }
}

/// Every file that a lock pins, by its bytes.
pub fn pinned(lock: &Lock) -> BTreeMap<Sha256, u64> {
    let of_models = lock.models.values().flat_map(|locked| locked.files.values());
    let of_models = of_models.map(|file| (file.sha256, file.size));
    let of_settings = lock.settings.iter().flat_map(LockedSettings::parts);
    of_models.chain(of_settings.map(|(_, part)| (part.sha256, part.size))).collect()
}

/// What each of these files is, for people.
pub fn names(lock: &Lock) -> BTreeMap<Sha256, String> {
    let of_models = lock.models.iter().flat_map(|(name, locked)| {
        locked.files.iter().map(move |(path, file)| (file.sha256, format!("{name}/{path}")))
    });
    let of_settings = lock.settings.iter().flat_map(LockedSettings::parts);
    let of_settings = of_settings.map(|(title, part)| (part.sha256, format!("Remote Settings: {title}")));
    of_models.chain(of_settings).collect()
}

/// The archive for a lock; `ids` are what files hash to beside SHA-256, and of what `since` pins no bytes are in it.
pub fn plan(lock: &Lock, ids: &FileIds, since: Option<&Lock>, signer: Option<&Signer>) -> Plan {
    let base = since.map(|since| manifest::part_of(since.print().as_bytes()).sha256);
    let sign = |signed: &[u8]| signer.map(|signer| (signer.name(), signer.sign(signed)));
    let Written { index, texts } = written(lock, ids, base, sign);
    let text = |name: &str, text| Member { name: name.to_owned(), content: Content::Text(text) };
    let mut members =
        vec![text(manifest::LAYOUT, manifest::LAYOUT_TEXT.into()), text(manifest::INDEX, index)];
    let elsewhere: BTreeSet<Sha256> = since.map(pinned).unwrap_or_default().into_keys().collect();
    let files = pinned(lock).into_iter();
    // A file can have the bytes of a text.
    let files = files.filter(|(sha256, _)| !texts.contains_key(sha256) && !elsewhere.contains(sha256));
    let files: Vec<LockedPart> = files.map(|(sha256, size)| LockedPart { size, sha256 }).collect();
    members.extend(texts.into_iter().map(|(digest, bytes)| text(&blob_name(&digest), bytes)));
    let of_file = |part: LockedPart| Member { name: blob_name(&part.sha256), content: Content::Blob(part) };
    members.extend(files.into_iter().map(of_file));
    Plan { members }
}

/// What an archive says of itself.
pub(super) struct Written {
    pub index: Vec<u8>,
    pub texts: BTreeMap<Sha256, Vec<u8>>,
}

/// What the archive for a lock says of itself, as a delta to the lock of digest `base` if there is one. `sign` gives the
/// name of the key and the signature.
pub(super) fn written(
    lock: &Lock,
    ids: &FileIds,
    base: Option<Sha256>,
    sign: impl FnOnce(&[u8]) -> Option<(String, Vec<u8>)>,
) -> Written {
    let mut texts = Texts::default();
    let mut manifests = Vec::new();
    for (name, locked) in lock.models.iter().filter(|(_, locked)| !locked.files.is_empty()) {
        let layers = manifest::layers(locked, ids);
        let configuration = manifest::configuration(name, locked, &layers);
        let config = texts.add(manifest::MODEL_CONFIG, configuration);
        let model = Manifest::of(manifest::MODEL, config, layers);
        manifests.push(texts.manifest(&model, &manifest::reference(name)));
    }
    if let Some(settings) = &lock.settings {
        let layers = manifest::settings_layers(settings);
        let settings = Manifest::of(manifest::SETTINGS, texts.empty(), layers);
        manifests.push(texts.manifest(&settings, "hubcache/settings"));
    }
    let layer = texts.add("application/toml", lock.print().into_bytes());
    let mut locked = Manifest::of(manifest::LOCK, texts.empty(), vec![layer]);
    let base = base.map(|base| (manifest::SINCE.to_owned(), format!("sha256:{base}")));
    locked.annotations.extend(base);
    manifests.push(texts.manifest(&locked, LOCK_NAME));
    if let Some((key, signature)) = sign(&signed(&manifests)) {
        let layer = texts.add(manifest::SIGNATURE, signature).with(manifest::KEY, key);
        let signature = Manifest::of(manifest::SIGNATURE, texts.empty(), vec![layer]);
        manifests.push(texts.manifest(&signature, "hubcache/signature"));
    }
    Written { index: manifest::text(&Index::of(manifests)), texts: texts.0 }
}

/// Texts that are blobs of the archive.
#[derive(Default)]
struct Texts(BTreeMap<Sha256, Vec<u8>>);

impl Texts {
    fn add(&mut self, media_type: &str, text: Vec<u8>) -> Descriptor {
        let described = manifest::described(media_type, &text);
        self.0.insert(described.digest, text);
        described
    }

    fn empty(&mut self) -> Descriptor {
        self.add(manifest::EMPTY, b"{}".to_vec())
    }

    fn manifest(&mut self, manifest: &Manifest, name: &str) -> Descriptor {
        let mut described = self.add(manifest::MANIFEST_TYPE, manifest::text(manifest));
        described.artifact_type.clone_from(&manifest.artifact_type);
        described.with(manifest::REF_NAME, name)
    }
}
