//! The lock file: every byte of the models that a project uses.
//!
//! It is TOML that is written in one form only, sorted, a line for each file, so that it can be reviewed in a pull
//! request and changes where something has changed and nowhere else:
//!
//! ```toml
//! version = 1
//!
//! [[model]]
//! hub = "huggingface"
//! id = "acme/tiny"
//! revision = "main"
//! commit = "0123456789abcdef0123456789abcdef01234567"
//! files = [
//!     { path = "config.json", size = 2, sha256 = "44136f...", from = "git" },
//! ]
//! left_out = [
//!     "README.md",
//! ]
//! ```
//!
//! `files` are pinned. `left_out` are the other files that the commit has, so that what it does not have can be told
//! from what was not locked; it is there where the hub has a list of all files. Without that list, `absent` are files
//! that the hub was asked for and did not have. `include` and `exclude` are the
//! patterns by which the files were chosen. The Mozilla hub has neither commits nor lists: there the digests stand for
//! both. `features` are those of Firefox for which a model was announced, or tasks where a record names none; a model that a
//! person has named has none, and stays when nothing announces it any more.
//!
//! `[settings]` pins what Firefox needs of Remote Settings: the signed collections, each as it was at a moment, the chains
//! of their signatures, attachments, and what the server says of itself. Its times are in milliseconds since 1970, as
//! those of Remote Settings are.

mod settings;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fmt::Write as _;

use serde::Deserialize;

pub use settings::{Difference, Piece, PinnedPiece, differences};

use super::ModelName;
use crate::model::{
    Commit, Digest, Entry, Hub, LockedSettings, Promiser, Repo, RepoKind, Revision, Sha256, Standing,
};

/// The only version of the format.
const VERSION: u64 = 1;
/// What a lock file begins with.
const HEAD: &str =
    "# Every byte of these models. `hubcache lock` writes this file; `hubcache lock check` compares.\n";

/// What is pinned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lock {
    /// The models, by what was asked for.
    pub models: BTreeMap<ModelName, Locked>,
    /// What goes with them of Remote Settings.
    pub settings: Option<LockedSettings>,
}

/// One model as it is pinned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Locked {
    /// The commit for which the revision stood; the Mozilla hub has none.
    pub commit: Option<Commit>,
    /// The patterns that files had to fit.
    pub include: Vec<String>,
    /// The patterns that they must not.
    pub exclude: Vec<String>,
    /// The files.
    pub files: BTreeMap<String, LockedFile>,
    /// All other files of the commit; none where the hub has no list.
    pub left_out: Option<BTreeSet<String>>,
    /// Files that the commit is known not to have, where there is no list of all.
    pub absent: BTreeSet<String>,
    /// The features of Firefox that it was announced for; none of a model that a person has named.
    pub features: BTreeSet<String>,
}

/// One file as it is pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockedFile {
    /// Its length in bytes.
    pub size: u64,
    /// Its bytes.
    pub sha256: Sha256,
    /// From where the digest is known.
    pub from: Origin,
}

/// From where a digest is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// The hub's large-file storage says it.
    Lfs,
    /// The file was fetched, and its git blob id is what the hub lists.
    Git,
    /// The file was fetched, and the digests of the hub's bucket are those of it.
    Bucket,
    /// A signed record of Remote Settings says it.
    Record,
    /// The file was fetched, and nobody had promised anything of it.
    FirstDownload,
}

impl Origin {
    /// The word in the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lfs => "lfs",
            Self::Git => "git",
            Self::Bucket => "bucket",
            Self::Record => "record",
            Self::FirstDownload => "first-download",
        }
    }

    /// What a promise that was compared makes of a digest.
    pub fn of(promiser: Option<Promiser>, is_sha256: bool) -> Self {
        match promiser {
            None => Self::FirstDownload,
            Some(Promiser::Record) => Self::Record,
            Some(Promiser::GoogHash) => Self::Bucket,
            Some(Promiser::LinkedEtag | Promiser::Etag | Promiser::Tree) if is_sha256 => Self::Lfs,
            Some(Promiser::LinkedEtag | Promiser::Etag | Promiser::Tree) => Self::Git,
        }
    }
}

impl LockedFile {
    /// A file that is held, as it is pinned.
    pub fn of(entry: &Entry) -> Self {
        // The strongest promise that was compared: the first that the bytes were held against.
        let compared = entry.promises.first().filter(|_| entry.standing == Standing::Verified);
        let is_sha256 = compared.is_some_and(|promise| matches!(promise.digest, Digest::Sha256(_)));
        let from = Origin::of(compared.map(|promise| promise.by), is_sha256);
        Self { size: entry.size, sha256: entry.blob, from }
    }
}

impl Locked {
    /// The revision under which files are kept: the commit, where there is one.
    pub fn kept_at<'a>(&'a self, name: &'a ModelName) -> &'a str {
        self.commit.as_ref().map_or(name.revision.as_str(), Commit::as_str)
    }
}

/// Why a text is no lock file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadLock {
    /// It is not TOML, or does not have what a lock file has.
    Format(String),
    /// Another program wrote it.
    Version(u64),
    /// A model in it is none.
    Model(String),
    /// A model or a file is in it twice.
    Twice(String),
    /// What it says of Remote Settings is none.
    Settings(String),
}

impl fmt::Display for BadLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Format(why) => f.write_str(why.trim_end()),
            Self::Version(version) => {
                write!(f, "it has version {version}; this program knows version {VERSION}")
            }
            Self::Model(what) => write!(f, "{what} is not the name of a model at a revision"),
            Self::Twice(what) => write!(f, "{what} is in it twice"),
            Self::Settings(what) => write!(f, "what it pins of Remote Settings cannot be read: {what}"),
        }
    }
}

impl std::error::Error for BadLock {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    version: u64,
    #[serde(default)]
    model: Vec<WrittenModel>,
    settings: Option<settings::Written>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenModel {
    hub: String,
    id: String,
    revision: String,
    commit: Option<String>,
    #[serde(default)]
    include: Vec<String>,
    #[serde(default)]
    exclude: Vec<String>,
    files: Vec<WrittenFile>,
    left_out: Option<Vec<String>>,
    #[serde(default)]
    absent: BTreeSet<String>,
    #[serde(default)]
    features: BTreeSet<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenFile {
    path: String,
    size: u64,
    sha256: Sha256,
    from: Origin,
}

impl Lock {
    /// Reads a lock file.
    ///
    /// # Errors
    /// See [`BadLock`].
    pub fn parse(text: &str) -> Result<Self, BadLock> {
        // An unknown version may have other fields as well.
        #[derive(Deserialize)]
        struct Versioned {
            version: u64,
        }
        let format = |e: toml::de::Error| BadLock::Format(e.to_string());
        let Versioned { version } = toml::from_str(text).map_err(format)?;
        if version != VERSION {
            return Err(BadLock::Version(version));
        }
        let written: Written = toml::from_str(text).map_err(format)?;
        debug_assert_eq!(written.version, VERSION);
        let mut lock =
            Self { settings: written.settings.map(settings::read).transpose()?, ..Self::default() };
        for model in written.model {
            let (name, locked) = read(model)?;
            let shown = name.to_string();
            if lock.models.insert(name, locked).is_some() {
                return Err(BadLock::Twice(shown));
            }
        }
        Ok(lock)
    }

    /// The one form of this lock.
    pub fn print(&self) -> String {
        let mut out = format!("{HEAD}version = {VERSION}\n");
        for (name, locked) in &self.models {
            write_model(&mut out, name, locked).expect("a String takes every write");
        }
        if let Some(settings) = &self.settings {
            settings::write(&mut out, settings).expect("a String takes every write");
        }
        out
    }
}

fn read(model: WrittenModel) -> Result<(ModelName, Locked), BadLock> {
    let bad = || BadLock::Model(format!("{}:{}@{}", model.hub, model.id, model.revision));
    let hub = model.hub.parse::<Hub>().ok().filter(|hub| Hub::MODELS.contains(hub)).ok_or_else(bad)?;
    // The name that people write, so that a lock has no model that could not be asked for.
    let encoded = model.revision.replace('%', "%25");
    let name: ModelName = format!("{hub}:{}@{encoded}", model.id).parse().map_err(|_| bad())?;
    let commit = match &model.commit {
        Some(text) => Some(Commit::parse(text).ok_or_else(bad)?),
        None => None,
    };
    let is_other =
        matches!((name.revision(), &commit), (Revision::Commit(asked), Some(commit)) if asked != *commit);
    if commit.is_some() != (hub == Hub::HuggingFace) || is_other || model.id.contains('@') {
        return Err(bad());
    }
    let mut files = BTreeMap::new();
    for WrittenFile { path, size, sha256, from } in model.files {
        if !is_path(&path) {
            return Err(BadLock::Model(format!("{name}/{path}")));
        }
        if files.insert(path.clone(), LockedFile { size, sha256, from }).is_some() {
            return Err(BadLock::Twice(format!("{name}/{path}")));
        }
    }
    let left_out = model.left_out.map(|paths| paths.into_iter().collect());
    let locked = Locked {
        commit,
        include: model.include,
        exclude: model.exclude,
        files,
        left_out,
        absent: model.absent,
        features: model.features,
    };
    Ok((name, locked))
}

/// Whether a text is the path of a file: segments that a URL can have.
pub fn is_path(text: &str) -> bool {
    let plain = |segment: &str| !segment.is_empty() && segment != "." && segment != "..";
    text.split('/').all(plain) && !text.contains(|c: char| c.is_control() || c == '\\')
}

fn write_model(out: &mut String, name: &ModelName, locked: &Locked) -> fmt::Result {
    let Repo { kind, id } = &name.repo;
    let id = format!("{}{id}", RepoKind::prefix(*kind));
    writeln!(out, "\n[[model]]")?;
    writeln!(out, "hub = {}", quoted(name.hub.name()))?;
    writeln!(out, "id = {}", quoted(&id))?;
    writeln!(out, "revision = {}", quoted(&name.revision))?;
    if let Some(commit) = &locked.commit {
        writeln!(out, "commit = {}", quoted(commit.as_str()))?;
    }
    let features: Vec<String> = locked.features.iter().cloned().collect();
    let texts = [("features", &features), ("include", &locked.include), ("exclude", &locked.exclude)];
    for (field, texts) in texts.into_iter().filter(|(_, texts)| !texts.is_empty()) {
        let texts: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
        writeln!(out, "{field} = [{}]", texts.join(", "))?;
    }
    writeln!(out, "files = [")?;
    for (path, LockedFile { size, sha256, from }) in &locked.files {
        let from = from.name();
        writeln!(
            out,
            "    {{ path = {}, size = {size}, sha256 = \"{sha256}\", from = \"{from}\" }},",
            quoted(path)
        )?;
    }
    writeln!(out, "]")?;
    let absent = Some(&locked.absent).filter(|absent| !absent.is_empty());
    for (field, paths) in [("left_out", locked.left_out.as_ref()), ("absent", absent)] {
        let Some(paths) = paths else { continue };
        writeln!(out, "{field} = [")?;
        paths.iter().try_for_each(|path| writeln!(out, "    {},", quoted(path)))?;
        writeln!(out, "]")?;
    }
    Ok(())
}

/// A basic string of TOML. JSON's escapes are a subset of its, but for DEL, which stands for itself in JSON only.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}

/// How a file differs between two states of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Only the second has it.
    Added(LockedFile),
    /// Only the first has it.
    Removed(LockedFile),
    /// Both have it, with other bytes.
    Changed(LockedFile, LockedFile),
}

/// The files in which two states of a model differ.
pub fn changes(before: &Locked, after: &Locked) -> BTreeMap<String, Change> {
    let mut found = BTreeMap::new();
    for (path, old) in &before.files {
        match after.files.get(path) {
            None => drop(found.insert(path.clone(), Change::Removed(*old))),
            Some(new) if new.sha256 != old.sha256 => {
                found.insert(path.clone(), Change::Changed(*old, *new));
            }
            Some(_) => {}
        }
    }
    let new = after.files.iter().filter(|(path, _)| !before.files.contains_key(*path));
    found.extend(new.map(|(path, file)| (path.clone(), Change::Added(*file))));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(random: &mut fastrand::Rng) -> Lock {
        let mut text = |most: usize| -> String {
            let plain: String = (0..1 + random.usize(..most)).map(|_| random.alphanumeric()).collect();
            plain
        };
        let names: Vec<String> = (0..8).map(|_| text(8)).collect();
        let mut lock = Lock::default();
        for at in 0..random.usize(..4) {
            let hub = if random.bool() { Hub::HuggingFace } else { Hub::Mozilla };
            let odd = ["é", " ", "#", "%2F", "\"", "'", "\u{1f600}", "+", "="];
            let path = |random: &mut fastrand::Rng| {
                let folder = ["", "onnx/", "a b/"][random.usize(..3)];
                format!("{folder}{}{}", names[random.usize(..8)], odd[random.usize(..odd.len())])
            };
            let mut digest = [0; 32];
            random.fill(&mut digest);
            let from = [Origin::Lfs, Origin::Git, Origin::Bucket, Origin::Record, Origin::FirstDownload];
            let file = |random: &mut fastrand::Rng| LockedFile {
                size: random.u64(..) >> 1,
                sha256: Sha256(digest),
                from: from[random.usize(..5)],
            };
            let is_hf = hub == Hub::HuggingFace;
            let locked = Locked {
                commit: is_hf.then(|| Commit::parse(&"ab".repeat(20)).unwrap()),
                include: (0..random.usize(..2)).map(|_| path(random)).collect(),
                exclude: (0..random.usize(..2)).map(|_| path(random)).collect(),
                files: (0..random.usize(..6)).map(|_| (path(random), file(random))).collect(),
                left_out: is_hf.then(|| (0..random.usize(..4)).map(|_| path(random)).collect()),
                absent: (0..random.usize(..2)).map(|_| path(random)).collect(),
                features: (0..random.usize(..3)).map(|_| path(random)).collect(),
            };
            let kind = if is_hf && random.bool() { RepoKind::Dataset } else { RepoKind::Model };
            let repo = Repo { kind, id: format!("acme/{}{at}", names[0]) };
            let revision = ["main", "refs/pr/1", "v1.0", "50%"][random.usize(..4)].to_owned();
            lock.models.insert(ModelName { hub, repo, revision }, locked);
        }
        lock
    }

    #[test]
    fn what_is_printed_reads_back_as_the_same_and_prints_as_the_same() {
        let mut rng = fastrand::Rng::with_seed(7);
        for _ in 0..2_000 {
            let lock = random(&mut rng);
            let text = lock.print();
            let read = Lock::parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
            assert_eq!(read, lock, "{text}");
            assert_eq!(read.print(), text);
        }
    }

    #[test]
    fn a_file_is_a_line() {
        let digest = "ab".repeat(32);
        let commit = "cd".repeat(20);
        let text = format!(
            "{HEAD}version = 1\n\n[[model]]\nhub = \"huggingface\"\nid = \"acme/tiny\"\nrevision = \"main\"\ncommit = \"{commit}\"\n\
             include = [\"*.json\"]\nfiles = [\n    {{ path = \"config.json\", size = 2, sha256 = \"{digest}\", from = \"git\" }},\n]\n\
             left_out = [\n    \"README.md\",\n]\n\n\
             [[model]]\nhub = \"mozilla\"\nid = \"acme/tiny\"\nrevision = \"v1.0\"\nfiles = [\n]\n"
        );
        // Mozilla's hub sorts in front.
        let lock = Lock::parse(&text).unwrap();
        assert_eq!(lock.models.len(), 2);
        let printed = lock.print();
        assert!(printed.contains(&format!(
            "    {{ path = \"config.json\", size = 2, sha256 = \"{digest}\", from = \"git\" }},\n"
        )));
        assert_eq!(Lock::parse(&printed).unwrap(), lock);
    }

    #[test]
    fn what_is_no_lock_is_refused_with_a_reason() {
        let model = |more: &str| {
            format!(
                "version = 1\n[[model]]\nhub = \"mozilla\"\nid = \"acme/tiny\"\nrevision = \"v1.0\"\nfiles = [{more}]\n"
            )
        };
        let file = |path: &str| {
            format!("{{ path = {path:?}, size = 1, sha256 = \"{}\", from = \"lfs\" }}", "ab".repeat(32))
        };
        assert!(Lock::parse(&model(&file("a"))).is_ok());
        for (text, why) in [
            ("version = 2\nmodels = 5".to_owned(), "it has version 2"),
            ("versions = 1".to_owned(), "version"),
            ("version = 1\nx = 1".to_owned(), "unknown field `x`"),
            (model(&file("../a")), "../a is not"),
            (model(&[file("a"), file("a")].join(", ")), "twice"),
            (model("").replace("acme/tiny", "acme/tiny@x"), "mozilla:acme/tiny@x@v1.0 is not"),
            (model("").replace("mozilla", "ollama"), "ollama:acme/tiny@v1.0 is not"),
            (model("").replace("mozilla", "huggingface"), "is not the name"),
            (model("{ path = \"a\", size = 1, sha256 = \"zz\", from = \"lfs\" }"), "64 hexadecimal digits"),
        ] {
            let error = Lock::parse(&text).unwrap_err().to_string();
            assert!(error.contains(why), "{why}: {error}");
        }
    }

    #[test]
    fn two_states_differ_by_files() {
        let file = |n: u8| LockedFile { size: u64::from(n), sha256: Sha256([n; 32]), from: Origin::Lfs };
        let of = |files: &[(&str, u8)]| Locked {
            files: files.iter().map(|(path, n)| ((*path).to_owned(), file(*n))).collect(),
            ..Locked::default()
        };
        let found = changes(&of(&[("a", 1), ("b", 1), ("c", 1)]), &of(&[("a", 1), ("b", 2), ("d", 3)]));
        let want = [
            ("b", Change::Changed(file(1), file(2))),
            ("c", Change::Removed(file(1))),
            ("d", Change::Added(file(3))),
        ];
        assert_eq!(found, want.map(|(path, change)| (path.to_owned(), change)).into());
    }
}
