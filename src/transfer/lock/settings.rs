//! What a lock file says of Remote Settings.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};

use serde::Deserialize;

use super::{BadLock, quoted};
use crate::model::{
    Attachment, Collection, HubRoot, LockedAttachment, LockedPart, LockedSettings, LockedSnapshot, Sha256,
    Timestamp,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    server: String,
    root: Option<LockedPart>,
    startup: Option<LockedPart>,
    #[serde(default)]
    snapshots: Vec<WrittenSnapshot>,
    #[serde(default)]
    chains: Vec<WrittenChain>,
    #[serde(default)]
    attachments: Vec<WrittenAttachment>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenSnapshot {
    collection: Collection,
    timestamp: u64,
    size: u64,
    sha256: Sha256,
    verified_at: Timestamp,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenChain {
    url: String,
    size: u64,
    sha256: Sha256,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenAttachment {
    collection: Collection,
    location: String,
    size: u64,
    sha256: Sha256,
}

pub(super) fn read(written: Written) -> Result<LockedSettings, BadLock> {
    let server = HubRoot::parse(&written.server).map_err(|why| BadLock::Settings(format!("server {why}")))?;
    let mut settings = LockedSettings::of(server);
    (settings.root, settings.startup) = (written.root, written.startup);
    for WrittenSnapshot { collection, timestamp, size, sha256, verified_at } in written.snapshots {
        let snapshot = LockedSnapshot { timestamp, verified_at, part: LockedPart { size, sha256 } };
        once(&mut settings.snapshots, collection, snapshot)?;
    }
    for WrittenChain { url, size, sha256 } in written.chains {
        if url.contains(char::is_control) {
            return Err(BadLock::Settings(format!("{url:?} is no URL")));
        }
        once(&mut settings.chains, url, LockedPart { size, sha256 })?;
    }
    for WrittenAttachment { collection, location, size, sha256 } in written.attachments {
        if !Attachment::is_location(&location) {
            return Err(BadLock::Settings(format!("{location:?} is no location of an attachment")));
        }
        let attached = LockedAttachment { collection, part: LockedPart { size, sha256 } };
        once(&mut settings.attachments, location, attached)?;
    }
    Ok(settings)
}

fn once<K: Ord + fmt::Display, V>(all: &mut BTreeMap<K, V>, key: K, value: V) -> Result<(), BadLock> {
    let shown = key.to_string();
    match all.insert(key, value) {
        None => Ok(()),
        Some(_) => Err(BadLock::Twice(shown)),
    }
}

pub(super) fn write(out: &mut String, settings: &LockedSettings) -> fmt::Result {
    let part = |part: &LockedPart| format!("size = {}, sha256 = \"{}\"", part.size, part.sha256);
    writeln!(out, "\n[settings]\nserver = {}", quoted(settings.server.as_str()))?;
    for (field, of) in [("root", &settings.root), ("startup", &settings.startup)] {
        if let Some(of) = of {
            writeln!(out, "{field} = {{ {} }}", part(of))?;
        }
    }
    writeln!(out, "snapshots = [")?;
    for (collection, LockedSnapshot { timestamp, verified_at, part: of }) in &settings.snapshots {
        let (name, at) = (quoted(&collection.to_string()), verified_at.0);
        writeln!(
            out,
            "    {{ collection = {name}, timestamp = {timestamp}, {}, verified_at = {at} }},",
            part(of)
        )?;
    }
    writeln!(out, "]\nchains = [")?;
    for (url, of) in &settings.chains {
        writeln!(out, "    {{ url = {}, {} }},", quoted(url), part(of))?;
    }
    writeln!(out, "]\nattachments = [")?;
    for (location, LockedAttachment { collection, part: of }) in &settings.attachments {
        let (name, location) = (quoted(&collection.to_string()), quoted(location));
        writeln!(out, "    {{ collection = {name}, location = {location}, {} }},", part(of))?;
    }
    writeln!(out, "]")
}

/// What is pinned of Remote Settings by a digest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Piece {
    /// What the server says of itself.
    Root,
    /// The bundle that a new Firefox begins with.
    Startup,
    /// A collection.
    Snapshot(Collection),
    /// A chain of certificates, by its URL.
    Chain(String),
    /// An attachment, by its location.
    Attachment(String),
}

impl fmt::Display for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => f.write_str("root of the server"),
            Self::Startup => f.write_str("startup bundle"),
            Self::Snapshot(collection) => collection.fmt(f),
            Self::Chain(url) => write!(f, "chain {url}"),
            Self::Attachment(location) => write!(f, "attachment {location}"),
        }
    }
}

/// As what a piece is pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PinnedPiece {
    /// Of a collection its moment.
    pub timestamp: Option<u64>,
    /// Its bytes.
    pub part: LockedPart,
}

/// A piece that is not the same in two locks: as what it is pinned in the first, and in the second.
pub type Difference = (Piece, Option<PinnedPiece>, Option<PinnedPiece>);

/// In what two states of Remote Settings differ.
pub fn differences(before: Option<&LockedSettings>, after: Option<&LockedSettings>) -> Vec<Difference> {
    let (before, after) = (pieces(before), pieces(after));
    let all: BTreeSet<&Piece> = before.keys().chain(after.keys()).collect();
    let pair = |piece: &Piece| (piece.clone(), before.get(piece).copied(), after.get(piece).copied());
    all.into_iter().map(pair).filter(|(_, old, new)| old != new).collect()
}

fn pieces(settings: Option<&LockedSettings>) -> BTreeMap<Piece, PinnedPiece> {
    let Some(settings) = settings else { return BTreeMap::new() };
    let plain = |part: &LockedPart| PinnedPiece { timestamp: None, part: *part };
    let of_server = [(Piece::Root, settings.root), (Piece::Startup, settings.startup)];
    let of_server = of_server.into_iter().filter_map(|(piece, part)| Some((piece, plain(part.as_ref()?))));
    let snapshots = settings.snapshots.iter().map(|(collection, LockedSnapshot { timestamp, part, .. })| {
        (Piece::Snapshot(collection.clone()), PinnedPiece { timestamp: Some(*timestamp), part: *part })
    });
    let chains = settings.chains.iter().map(|(url, part)| (Piece::Chain(url.clone()), plain(part)));
    let attachments = settings.attachments.iter();
    let attachments = attachments.map(|(at, of)| (Piece::Attachment(at.clone()), plain(&of.part)));
    of_server.chain(snapshots).chain(chains).chain(attachments).collect()
}

#[cfg(test)]
mod tests {
    use super::super::Lock;
    use super::*;

    pub fn random(random: &mut fastrand::Rng) -> LockedSettings {
        let part = |random: &mut fastrand::Rng| {
            let mut digest = [0; 32];
            random.fill(&mut digest);
            LockedPart { size: random.u64(..) >> 1, sha256: Sha256(digest) }
        };
        let name = |random: &mut fastrand::Rng| ["main/a", "main/b-c", "security-state/d"][random.usize(..3)];
        let mut settings =
            LockedSettings::of(HubRoot::parse("https://settings.example.org/v1").expect("it is a URL"));
        settings.root = random.bool().then(|| part(random));
        settings.startup = random.bool().then(|| part(random));
        for _ in 0..random.usize(..4) {
            let snapshot = LockedSnapshot {
                timestamp: random.u64(..) >> 1,
                verified_at: Timestamp(random.u64(..) >> 1),
                part: part(random),
            };
            settings.snapshots.insert(name(random).parse().expect("it is a collection"), snapshot);
            let url = format!("https://chains.example.org/é \"{}", random.u8(..));
            settings.chains.insert(url, part(random));
            let collection = name(random).parse().expect("it is a collection");
            let attached = LockedAttachment { collection, part: part(random) };
            settings.attachments.insert(format!("main/x/{}.wasm", random.u8(..)), attached);
        }
        settings
    }

    #[test]
    fn what_is_printed_of_remote_settings_reads_back_as_the_same() {
        let mut rng = fastrand::Rng::with_seed(3);
        for _ in 0..500 {
            let lock = Lock { settings: Some(random(&mut rng)), ..Lock::default() };
            let text = lock.print();
            assert_eq!(Lock::parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}")), lock, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_of_remote_settings_is_refused_with_a_reason() {
        let lock = |more: &str| format!("version = 1\n[settings]\nserver = \"https://x/v1\"\n{more}\n");
        let digest = "ab".repeat(32);
        let attached = |location: &str| {
            format!(
                "attachments = [{{ collection = \"a\", location = {location:?}, size = 1, sha256 = \"{digest}\" }}]"
            )
        };
        assert!(Lock::parse(&lock(&attached("a/b"))).is_ok());
        let snapshot = format!(
            "{{ collection = \"main/a\", timestamp = 1, size = 1, sha256 = \"{digest}\", verified_at = 1 }}"
        );
        for (text, why) in [
            (lock("x = 1"), "unknown field `x`"),
            (lock(&attached("../b")), "no location"),
            (lock(&format!("snapshots = [{snapshot}, {snapshot}]")), "main/a is in it twice"),
            (lock("").replace("https", "gopher"), "server must begin with"),
        ] {
            let error = Lock::parse(&text).unwrap_err().to_string();
            assert!(error.contains(why), "{why}: {error}");
        }
    }

    #[test]
    fn two_states_differ_by_pieces() {
        let part = |n: u8| LockedPart { size: u64::from(n), sha256: Sha256([n; 32]) };
        let of = |at: u64, n: u8, location: &str| {
            let mut settings = LockedSettings::of(HubRoot::parse("https://x/v1").unwrap());
            let snapshot = LockedSnapshot { timestamp: at, verified_at: Timestamp(at), part: part(n) };
            settings.snapshots.insert("a".parse().unwrap(), snapshot);
            settings.root = Some(part(1));
            let attached = LockedAttachment { collection: "a".parse().unwrap(), part: part(9) };
            settings.attachments.insert(location.to_owned(), attached);
            settings
        };
        let told = |before: Option<&LockedSettings>, after: Option<&LockedSettings>| -> Vec<String> {
            let size = |piece: Option<PinnedPiece>| piece.map_or(0, |piece| piece.part.size);
            let line = |(piece, old, new): Difference| format!("{piece}: {} -> {}", size(old), size(new));
            differences(before, after).into_iter().map(line).collect()
        };
        let (old, new) = (of(1, 2, "x/y"), of(2, 3, "x/z"));
        assert_eq!(
            told(Some(&old), Some(&new)),
            ["main/a: 2 -> 3", "attachment x/y: 9 -> 0", "attachment x/z: 0 -> 9"]
        );
        assert_eq!(told(Some(&old), Some(&old)), [""; 0]);
        assert_eq!(
            told(None, Some(&old)),
            ["root of the server: 0 -> 1", "main/a: 0 -> 2", "attachment x/y: 0 -> 9"]
        );
        assert_eq!(told(Some(&old), None).len(), 3);
    }
}
