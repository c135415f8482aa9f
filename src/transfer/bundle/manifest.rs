//! Manifests of the Open Container Initiative, as bundles have them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use crate::model::{Digest, LockedPart, LockedSettings, Repo, Sha256};
use crate::transfer::lock::{Locked, LockedFile};
use crate::transfer::{Class, ModelName};

/// The name of the index of all manifests.
pub const INDEX: &str = "index.json";
/// The name of the file that says what the archive is.
pub const LAYOUT: &str = "oci-layout";
/// What that says.
pub(super) const LAYOUT_TEXT: &str = "{\"imageLayoutVersion\":\"1.0.0\"}";

pub(super) const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";
pub(super) const EMPTY: &str = "application/vnd.oci.empty.v1+json";
pub(super) const MODEL_CONFIG: &str = "application/vnd.cncf.model.config.v1+json";
/// What the manifests are of.
pub(super) const MODEL: &str = "application/vnd.cncf.model.manifest.v1+json";
pub(super) const LOCK: &str = "application/vnd.hubcache.lock.v1";
pub(super) const SETTINGS: &str = "application/vnd.hubcache.settings.v1";
pub(super) const SIGNATURE: &str = "application/vnd.hubcache.signature.v1";
/// Annotations.
pub(super) const REF_NAME: &str = "org.opencontainers.image.ref.name";
pub(super) const FILEPATH: &str = "org.cncf.model.filepath";
pub(super) const DIGESTS: &str = "org.hubcache.digests";
pub(super) const SINCE: &str = "org.hubcache.since";
pub(super) const KEY: &str = "org.hubcache.key";
const TITLE: &str = "org.opencontainers.image.title";

/// What the bytes of files hash to beside SHA-256, by SHA-256.
pub type FileIds = BTreeMap<Sha256, Vec<Digest>>;

/// Something that is named by its digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    pub media_type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    #[serde(with = "named")]
    pub digest: Sha256,
    pub size: u64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// A manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Manifest {
    schema_version: u32,
    media_type: Option<String>,
    pub artifact_type: Option<String>,
    pub config: Descriptor,
    pub layers: Vec<Descriptor>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// All manifests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Index {
    schema_version: u32,
    media_type: Option<String>,
    pub manifests: Vec<Descriptor>,
}

impl Index {
    pub fn of(manifests: Vec<Descriptor>) -> Self {
        Self { schema_version: 2, media_type: Some(INDEX_TYPE.to_owned()), manifests }
    }
}

impl Descriptor {
    pub fn of(media_type: &str, part: LockedPart) -> Self {
        let LockedPart { size, sha256: digest } = part;
        Self {
            media_type: media_type.to_owned(),
            artifact_type: None,
            digest,
            size,
            annotations: BTreeMap::new(),
        }
    }

    pub fn with(mut self, annotation: &str, value: impl Into<String>) -> Self {
        self.annotations.insert(annotation.to_owned(), value.into());
        self
    }

    pub fn part(&self) -> LockedPart {
        LockedPart { size: self.size, sha256: self.digest }
    }

    /// The name under which other programs ask for it.
    pub fn name(&self) -> Option<&str> {
        self.annotations.get(REF_NAME).map(String::as_str)
    }
}

impl Manifest {
    pub fn of(artifact_type: &str, config: Descriptor, layers: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: Some(MANIFEST_TYPE.to_owned()),
            artifact_type: Some(artifact_type.to_owned()),
            config,
            layers,
            annotations: BTreeMap::new(),
        }
    }
}

/// A text with its descriptor.
pub(super) fn described(media_type: &str, text: &[u8]) -> Descriptor {
    Descriptor::of(media_type, part_of(text))
}

/// A text as it is named.
pub(super) fn part_of(text: &[u8]) -> LockedPart {
    LockedPart { size: text.len() as u64, sha256: Sha256(sha2::Sha256::digest(text).into()) }
}

/// The JSON of something.
pub(super) fn text(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("texts and numbers are JSON")
}

/// The layers of a model, in the order of their paths.
pub(super) fn layers(locked: &Locked, ids: &FileIds) -> Vec<Descriptor> {
    let layer = |(path, file): (&String, &LockedFile)| {
        let part = LockedPart { size: file.size, sha256: file.sha256 };
        let layer = Descriptor::of(media_type(Class::of(path)), part).with(FILEPATH, path);
        match ids.get(&file.sha256).map(Vec::as_slice) {
            None | Some([]) => layer,
            Some(ids) => {
                let ids: Vec<String> = ids.iter().map(Digest::to_string).collect();
                layer.with(DIGESTS, ids.join(" "))
            }
        }
    };
    locked.files.iter().map(layer).collect()
}

fn media_type(class: Class) -> &'static str {
    match class {
        Class::Onnx(_) | Class::OtherWeights => "application/vnd.cncf.model.weight.v1.raw",
        Class::Configuration | Class::Tokenizer | Class::Processor => {
            "application/vnd.cncf.model.weight.config.v1.raw"
        }
        Class::Card => "application/vnd.cncf.model.doc.v1.raw",
        Class::Training | Class::Other => "application/vnd.cncf.model.code.v1.raw",
    }
}

/// What the specification wants to be said of a model.
pub(super) fn configuration(name: &ModelName, locked: &Locked, layers: &[Descriptor]) -> Vec<u8> {
    #[derive(Serialize)]
    struct Configuration<'a> {
        descriptor: About<'a>,
        config: BTreeMap<&'a str, &'a str>,
        modelfs: Layers,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct About<'a> {
        name: &'a str,
        revision: &'a str,
        #[serde(rename = "sourceURL")]
        source_url: String,
        version: &'a str,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Layers {
        diff_ids: Vec<String>,
        r#type: &'static str,
    }
    let Repo { id, .. } = &name.repo;
    let has_onnx = locked.files.keys().any(|path| matches!(Class::of(path), Class::Onnx(_)));
    let about = About {
        name: id,
        revision: locked.kept_at(name),
        source_url: format!("{}/{}", name.hub.default_root(), name.repo),
        version: &name.revision,
    };
    let diff_ids = layers.iter().map(|layer| format!("sha256:{}", layer.digest)).collect();
    let config = has_onnx.then_some(("format", "onnx")).into_iter().collect();
    text(&Configuration { descriptor: about, config, modelfs: Layers { diff_ids, r#type: "layers" } })
}

/// The layers of what is pinned of Remote Settings.
pub(super) fn settings_layers(settings: &LockedSettings) -> Vec<Descriptor> {
    let layer = |(title, part): (String, LockedPart)| {
        let media_type = match () {
            () if title.ends_with(".json") => "application/json",
            () if title.ends_with(".pem") => "application/pem-certificate-chain",
            () => "application/octet-stream",
        };
        Descriptor::of(media_type, part).with(TITLE, title)
    };
    settings.parts().into_iter().map(layer).collect()
}

/// The name of a manifest, from what it is of. The grammar of such names is narrower than that of models: what does not
/// fit is spelled in another way, with a sum behind it that keeps names apart.
pub(super) fn reference(name: &ModelName) -> String {
    let plain = format!("{}/{}:{}", name.hub, name.repo, name.revision);
    if is_reference(&plain) {
        return plain;
    }
    let spelled: String =
        plain.chars().map(|c| if c.is_ascii_alphanumeric() || c == '/' { c } else { '-' }).collect();
    let words = spelled.split('/').map(|word| {
        let parts: Vec<&str> = word.split('-').filter(|part| !part.is_empty()).collect();
        parts.join("-")
    });
    let words: Vec<String> = words.filter(|word| !word.is_empty()).collect();
    let sum = Sha256(sha2::Sha256::digest(&plain).into()).to_string();
    format!("{}-{}", words.join("/"), &sum[..12])
}

/// Whether a text is a name by the grammar of `org.opencontainers.image.ref.name`: words of letters and digits with
/// separators between them, joined by slashes.
pub(super) fn is_reference(text: &str) -> bool {
    let is_component = |component: &str| {
        let mut rest = component;
        loop {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
            if end == 0 {
                return false;
            }
            rest = &rest[end..];
            rest = match rest.strip_prefix("--").or_else(|| rest.strip_prefix(['-', '.', '_', ':', '@', '+']))
            {
                Some(rest) => rest,
                None => return rest.is_empty(),
            };
        }
    };
    text.len() <= 255 && text.split('/').all(is_component)
}

/// Digests as OCI writes them.
mod named {
    use serde::{Deserialize as _, Deserializer, Serializer, de};

    use crate::model::Sha256;

    pub fn serialize<S: Serializer>(digest: &Sha256, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(&format_args!("sha256:{digest}"))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Sha256, D::Error> {
        let text = String::deserialize(d)?;
        let digest = text.strip_prefix("sha256:").and_then(Sha256::parse);
        digest.ok_or_else(|| de::Error::custom("expected sha256: and 64 hexadecimal digits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_manifests_fit_their_grammar_and_are_told_apart() {
        let of = |text: &str| reference(&text.parse().unwrap());
        assert_eq!(of("hf:acme/tiny"), "huggingface/acme/tiny:main");
        assert_eq!(of("moz:Mozilla/distilvit@v0.5.0"), "mozilla/Mozilla/distilvit:v0.5.0");
        assert_eq!(of("hf:datasets/acme/d@refs%2Fpr%2F1"), "huggingface/datasets/acme/d:refs/pr/1");
        let odd = [
            "hf:acme/tiny_",
            "hf:acme/tiny__",
            "hf:acme/-a..b",
            "hf:acme/a@50%25",
            "hf:acme/a@é",
            "hf:acme/a@%2F",
        ];
        let names: std::collections::BTreeSet<String> = odd.iter().map(|name| of(name)).collect();
        assert_eq!(names.len(), odd.len());
        assert!(names.iter().all(|name| is_reference(name)), "{names:?}");
        for bad in ["", "a/", "a..b", "a b", "-a", "a-", &"a".repeat(256)] {
            assert!(!is_reference(bad), "{bad}");
        }
    }
}
