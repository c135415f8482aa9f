//! What a scripted hub has published: repositories with commits, and the files of the Mozilla layout.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use sha1::Digest as _;

/// Digests in the forms in which hubs state them.
pub mod digests {
    use base64::prelude::{BASE64_STANDARD, Engine as _};
    use md5::Md5;
    use sha1::{Digest as _, Sha1};
    use sha2::Sha256;

    /// SHA-256 in hexadecimal digits.
    pub fn sha256(bytes: &[u8]) -> String {
        hex(&Sha256::digest(bytes))
    }

    /// The id of a git blob with this content.
    pub fn git_sha1(bytes: &[u8]) -> String {
        let mut hash = Sha1::new_with_prefix(format!("blob {}\0", bytes.len()));
        hash.update(bytes);
        hex(&hash.finalize())
    }

    /// MD5 in hexadecimal digits.
    pub fn md5_hex(bytes: &[u8]) -> String {
        hex(&Md5::digest(bytes))
    }

    /// MD5 as `x-goog-hash` states it.
    pub fn md5_base64(bytes: &[u8]) -> String {
        BASE64_STANDARD.encode(Md5::digest(bytes))
    }

    /// CRC32C as `x-goog-hash` states it: big-endian bytes.
    pub fn crc32c_base64(bytes: &[u8]) -> String {
        BASE64_STANDARD.encode(crc32c::crc32c(bytes).to_be_bytes())
    }

    /// Lower-case hexadecimal digits.
    pub fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }
}

/// How Hugging Face keeps a file, and so how it answers for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// 302 to a signed address on the content network.
    Lfs,
    /// The same, and everything that draws clients to the Xet store.
    Xet,
    /// A relative 307 to `/api/resolve-cache/`, which answers with the bytes.
    Small,
    /// The bytes at once.
    Direct,
}

/// One file of a commit.
#[derive(Clone, Debug)]
pub struct File {
    /// Where it stands in the repository, decoded.
    pub path: String,
    /// Its content.
    pub bytes: Bytes,
    /// How it is kept.
    pub storage: Storage,
    pub(super) sha256: String,
    /// Of the content, or of the pointer that git has in its place.
    pub(super) git_sha1: String,
    pub(super) md5: String,
}

impl File {
    /// A file on the content network.
    pub fn lfs(path: &str, bytes: impl Into<Bytes>) -> Self {
        Self::new(path, bytes.into(), Storage::Lfs)
    }

    /// A file in the Xet store, which the content network serves too.
    pub fn xet(path: &str, bytes: impl Into<Bytes>) -> Self {
        Self::new(path, bytes.into(), Storage::Xet)
    }

    /// A file of the git repository.
    pub fn small(path: &str, bytes: impl Into<Bytes>) -> Self {
        Self::new(path, bytes.into(), Storage::Small)
    }

    /// A file of the git repository, served without a redirect.
    pub fn direct(path: &str, bytes: impl Into<Bytes>) -> Self {
        Self::new(path, bytes.into(), Storage::Direct)
    }

    /// `count` little files with contents of their own, in folders of a hundred.
    pub fn many(count: usize) -> Vec<Self> {
        let path = |i: usize| format!("shards/{:02}/part-{i:05}-of-{count:05}.txt", i / 100);
        (0..count).map(|i| Self::direct(&path(i), format!("part {i}"))).collect()
    }

    fn new(path: &str, bytes: Bytes, storage: Storage) -> Self {
        let sha256 = digests::sha256(&bytes);
        let md5 = digests::md5_hex(&bytes);
        let mut file = Self { path: path.to_owned(), bytes, storage, sha256, git_sha1: String::new(), md5 };
        file.git_sha1 = match storage {
            Storage::Lfs | Storage::Xet => digests::git_sha1(file.pointer().as_bytes()),
            Storage::Small | Storage::Direct => digests::git_sha1(&file.bytes),
        };
        file
    }

    /// The text that git holds in place of a large file.
    pub(super) fn pointer(&self) -> String {
        pointer(&self.sha256, self.bytes.len())
    }

    pub(super) fn is_large(&self) -> bool {
        matches!(self.storage, Storage::Lfs | Storage::Xet)
    }

    /// The entity tag that clients are told: of the content, whoever delivers it.
    pub(super) fn linked_etag(&self) -> String {
        let digest = if self.is_large() { &self.sha256 } else { &self.git_sha1 };
        format!("\"{digest}\"")
    }

    /// A name in the Xet store: 64 digits that are not the SHA-256.
    pub(super) fn xet_hash(&self) -> String {
        digests::sha256(format!("xet {}", self.sha256).as_bytes())
    }
}

/// The text of a git LFS pointer.
pub(super) fn pointer(sha256: &str, size: usize) -> String {
    format!("version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n")
}

/// Who may read a repository.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Access {
    #[default]
    Public,
    Gated,
    Private,
}

/// One Hugging Face repository.
#[derive(Debug, Default)]
pub(super) struct Repository {
    pub access: Access,
    pub readers: BTreeSet<String>,
    /// Commit to its files, by path.
    pub commits: BTreeMap<String, BTreeMap<String, File>>,
    /// Commits in the order in which they were made.
    pub history: Vec<String>,
    /// Branch, or name below `refs/`, to commit.
    pub branches: BTreeMap<String, String>,
    /// Tag to commit.
    pub tags: BTreeMap<String, String>,
}

impl Repository {
    /// The commit that `revision` names, itself included.
    pub fn resolve(&self, revision: &str) -> Option<&str> {
        if let Some(commit) = self.branches.get(revision).or_else(|| self.tags.get(revision)) {
            return Some(commit);
        }
        self.commits.get_key_value(revision).map(|(commit, _)| commit.as_str())
    }

    /// The commits up to `last`, in the order in which they were made.
    pub fn history_of(&self, last: &str) -> impl DoubleEndedIterator<Item = &str> {
        let end = self.history.iter().position(|commit| commit == last).map_or(0, |at| at + 1);
        self.history[..end].iter().map(String::as_str)
    }

    /// The commit that left the file or directory at `path` as it is in `commit`.
    pub fn last_change<'a>(&'a self, commit: &'a str, path: &str) -> &'a str {
        let state = |commit: &str| -> Vec<(&str, &str)> {
            let below =
                |name: &str| name.strip_prefix(path).is_some_and(|r| r.is_empty() || r.starts_with('/'));
            let files = self.commits[commit].values().filter(|file| below(&file.path));
            files.map(|file| (&*file.path, &*file.sha256)).collect()
        };
        let now = state(commit);
        self.history_of(commit).rev().take_while(|earlier| state(earlier) == now).last().unwrap_or(commit)
    }
}

/// One file of the Mozilla layout.
#[derive(Clone, Debug)]
pub(super) struct Object {
    pub bytes: Bytes,
    pub modified: SystemTime,
    /// Rises with every replacement.
    pub generation: u64,
    /// In quotes.
    pub etag: String,
    /// The values of `x-goog-hash`, one a line as Google Cloud Storage sends them.
    pub hashes: [String; 2],
}

/// A file on the content network.
#[derive(Clone, Debug)]
pub(super) struct Delivered {
    pub file: File,
    /// `repository/path` of the redirect that led here, for fault matching and the journal.
    pub name: String,
}

/// Everything that one hub has published, and the signatures it has issued.
#[derive(Debug, Default)]
pub(super) struct World {
    /// By id, with the `datasets/` or `spaces/` prefix.
    pub repositories: BTreeMap<String, Repository>,
    /// By path on the hub, without the leading slash.
    pub objects: BTreeMap<String, Object>,
    pub tokens: BTreeSet<String>,
    pub renamed: BTreeMap<String, String>,
    /// Entries in one page of a list, where a test has said.
    pub page_size: Option<usize>,
    /// By path on the content network.
    pub delivered: HashMap<String, Delivered>,
    /// The number of the last signed address.
    pub signatures: u64,
    /// Path on the content network to the newest signature that is no longer good there.
    pub expired: HashMap<String, u64>,
    generations: u64,
}

impl World {
    /// Adds a commit; its name is derived from the content and from how many there were.
    pub fn commit(&mut self, id: &str, files: Vec<File>) -> String {
        let repository = self.repositories.entry(id.to_owned()).or_default();
        let mut hash = sha1::Sha1::new();
        hash.update(format!("commit {} of {id}\n", repository.history.len()));
        for file in &files {
            hash.update(format!("{} {}\n", file.sha256, file.path));
        }
        let commit = digests::hex(&hash.finalize());
        let files = files.into_iter().map(|file| (file.path.clone(), file)).collect();
        repository.commits.insert(commit.clone(), files);
        repository.history.push(commit.clone());
        commit
    }

    pub fn set_branch(&mut self, id: &str, name: &str, commit: &str) {
        let repository = self.repositories.get_mut(id).expect("the repository has a commit");
        assert!(repository.commits.contains_key(commit), "{commit} is a commit of {id}");
        repository.branches.insert(name.to_owned(), commit.to_owned());
    }

    pub fn set_tag(&mut self, id: &str, name: &str, commit: &str) {
        let repository = self.repositories.get_mut(id).expect("the repository has a commit");
        assert!(repository.commits.contains_key(commit), "{commit} is a commit of {id}");
        repository.tags.insert(name.to_owned(), commit.to_owned());
    }

    /// How many entries a page has that has so many at the real hub.
    pub fn page_of(&self, real: usize) -> usize {
        self.page_size.unwrap_or(real)
    }

    pub fn restrict(&mut self, id: &str, access: Access, readers: &[&str]) {
        let repository = self.repositories.entry(id.to_owned()).or_default();
        repository.access = access;
        repository.readers = readers.iter().map(|&t| t.to_owned()).collect();
        self.tokens.extend(repository.readers.iter().cloned());
    }

    pub fn publish_mozilla(&mut self, model: &str, revision: &str, path: &str, bytes: Bytes) -> String {
        self.generations += 1;
        // Dates have whole seconds: one day each keeps the dates of replacements apart.
        let modified =
            SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + 86_400 * self.generations);
        let key = format!("{model}/{revision}/{path}");
        let target = format!("/{key}");
        let etag = format!("\"{}\"", digests::md5_hex(&bytes));
        let hashes = [
            format!("crc32c={}", digests::crc32c_base64(&bytes)),
            format!("md5={}", digests::md5_base64(&bytes)),
        ];
        let object = Object { bytes, modified, generation: self.generations, etag, hashes };
        self.objects.insert(key, object);
        target
    }

    pub fn remove_mozilla(&mut self, model: &str, revision: &str, path: &str) {
        self.objects.remove(&format!("{model}/{revision}/{path}"));
    }

    /// A path on the content network for `file`, and a fresh signature for it.
    pub fn sign(&mut self, id: &str, file: &File) -> (String, u64) {
        let repository = digests::sha256(id.as_bytes());
        let path = match file.storage {
            Storage::Xet => format!("/xet-bridge-us/{}/{}", &repository[..24], file.sha256),
            _ => format!("/repos/{}/{}/{repository}/{}", &repository[..2], &repository[2..4], file.sha256),
        };
        let name = format!("{id}/{}", file.path);
        self.delivered.insert(path.clone(), Delivered { file: file.clone(), name });
        self.signatures += 1;
        (path, self.signatures)
    }

    /// Makes every address signed so far for this path useless.
    pub fn expire(&mut self, path: &str) {
        self.expired.insert(path.to_owned(), self.signatures);
    }
}
