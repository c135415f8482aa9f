//! What a directory has of the models of a lock, where other tools look for it.
//!
//! Paths are below the directory, and no segment of one leads out of it: a lock is somebody's file, so each is checked
//! here. What a file must be called may depend on its bytes; that is said here, and found out by whoever writes it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::ModelName;
use super::layout::{folder_of_repo, repo_of_folder};
use super::lock::{Lock, Locked, Origin, is_path};
use crate::model::{Digest, Hub, Sha256};

/// What a directory is to have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outline {
    /// The models that are in it.
    pub models: Vec<ModelName>,
    /// Those that have no place in such a directory.
    pub left_out: Vec<ModelName>,
    /// The files, in the order of the lock.
    pub files: Vec<Laid>,
    /// What clients have noted, by path: it is true when the files are there.
    pub notes: BTreeMap<String, String>,
}

/// A file in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Laid {
    /// Its name for people: the model and the path, where there are several the first.
    pub name: String,
    /// Its bytes.
    pub sha256: Sha256,
    /// How many these are.
    pub size: u64,
    /// Where it is.
    pub place: Place,
}

/// Where a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// At this path.
    At(String),
    /// Among the blobs of a repository, with links to it.
    Blob {
        /// The folder of the repository.
        folder: String,
        /// What it is called there.
        called: Called,
        /// The links, by their paths in that folder.
        links: BTreeSet<String>,
    },
}

/// What a blob of a cache of Hugging Face is called: as the hub does it in the entity tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Called {
    /// By its SHA-256: a large file.
    Sha256,
    /// By its git blob id, which its bytes tell.
    GitId,
}

/// Why a lock cannot be laid out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadOutline {
    /// No directory can have this.
    Name(String),
    /// Two files would be in this place.
    Twice(String),
}

impl fmt::Display for BadOutline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "{name} cannot be the name of a file in such a directory"),
            Self::Twice(path) => write!(f, "two files would be at {path}"),
        }
    }
}

impl std::error::Error for BadOutline {}

impl Outline {
    /// As the bucket of Mozilla has models: `ORG/MODEL/REVISION/PATH`.
    ///
    /// # Errors
    /// See [`BadOutline`].
    pub fn tree(lock: &Lock) -> Result<Self, BadOutline> {
        let mut outline = Self::of(lock, Hub::Mozilla);
        for (name, locked) in models(lock, Hub::Mozilla) {
            // A slash would be the end of the revision for whoever reads the folders.
            if name.revision.contains('/') {
                return Err(BadOutline::Name(name.to_string()));
            }
            for (path, file) in &locked.files {
                let at = checked(format!("{}/{}/{path}", name.repo.id, name.revision))?;
                outline.files.push(Laid {
                    name: format!("{name}/{path}"),
                    sha256: file.sha256,
                    size: file.size,
                    place: Place::At(at),
                });
            }
        }
        Ok(outline)
    }

    /// As the clients of Hugging Face keep what they have downloaded.
    ///
    /// # Errors
    /// See [`BadOutline`].
    pub fn hf_cache(lock: &Lock) -> Result<Self, BadOutline> {
        let mut outline = Self::of(lock, Hub::HuggingFace);
        let mut blobs = BTreeMap::new();
        let mut linked = BTreeMap::new();
        for (name, locked) in models(lock, Hub::HuggingFace) {
            let folder = folder_of_repo(&name.repo);
            if repo_of_folder(&folder).as_ref() != Some(&name.repo) {
                return Err(BadOutline::Name(name.to_string()));
            }
            let commit = locked.kept_at(name);
            for (path, file) in &locked.files {
                let link = checked(format!("snapshots/{commit}/{path}"))?;
                let called = if file.from == Origin::Lfs { Called::Sha256 } else { Called::GitId };
                let blob = (folder.clone(), called, file.sha256);
                if *linked.entry(format!("{folder}/{link}")).or_insert(file.sha256) != file.sha256 {
                    return Err(BadOutline::Twice(format!("{folder}/{link}")));
                }
                let at = *blobs.entry(blob).or_insert_with(|| {
                    let place = Place::Blob { folder: folder.clone(), called, links: BTreeSet::new() };
                    let name = format!("{name}/{path}");
                    outline.files.push(Laid { name, sha256: file.sha256, size: file.size, place });
                    outline.files.len() - 1
                });
                if let Place::Blob { links, .. } = &mut outline.files[at].place {
                    links.insert(link);
                }
            }
            outline.note(name, locked, &folder)?;
        }
        Ok(outline)
    }

    fn of(lock: &Lock, hub: Hub) -> Self {
        let (models, left_out) = lock.models.keys().cloned().partition(|name| name.hub == hub);
        Self { models, left_out, ..Self::default() }
    }

    /// Notes for what the revision stands, and what the commit does not have.
    fn note(&mut self, name: &ModelName, locked: &Locked, folder: &str) -> Result<(), BadOutline> {
        let commit = locked.kept_at(name);
        if name.revision != commit {
            let reference = checked(format!("{folder}/refs/{}", name.revision))?;
            self.notes.insert(reference, commit.to_owned());
        }
        for path in &locked.absent {
            self.notes.insert(checked(format!("{folder}/.no_exist/{commit}/{path}"))?, String::new());
        }
        Ok(())
    }
}

fn models(lock: &Lock, hub: Hub) -> impl Iterator<Item = (&ModelName, &Locked)> {
    lock.models.iter().filter(move |(name, _)| name.hub == hub)
}

fn checked(path: String) -> Result<String, BadOutline> {
    if is_path(&path) { Ok(path) } else { Err(BadOutline::Name(path)) }
}

/// What a link in the folder of a repository says that leads to a blob.
pub fn link_to_blob(link: &str, blob: &str) -> String {
    format!("{}blobs/{blob}", "../".repeat(link.matches('/').count()))
}

/// The git blob id by which the blob is called that such a link leads to.
pub fn git_id_of_link(link: &str, says: &str) -> Option<[u8; 20]> {
    let blob = says.strip_prefix(&link_to_blob(link, ""))?;
    match Digest::git_sha1(blob)? {
        Digest::GitSha1(id) => Some(id),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Commit;
    use crate::transfer::lock::LockedFile;

    /// A path, what its bytes are, and from where that is known.
    type File = (&'static str, u8, Origin);

    fn lock(models: &[(&str, &str, &[File])]) -> Lock {
        let mut lock = Lock::default();
        for (name, commit, files) in models {
            let files = files.iter().map(|(path, n, from)| {
                let file = LockedFile { size: u64::from(*n), sha256: Sha256([*n; 32]), from: *from };
                ((*path).to_owned(), file)
            });
            let locked =
                Locked { commit: Commit::parse(commit), files: files.collect(), ..Locked::default() };
            lock.models.insert(name.parse().unwrap(), locked);
        }
        lock
    }

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

    #[test]
    fn a_cache_has_each_blob_once_in_a_repository_and_a_link_for_each_path() {
        let files: &[_] =
            &[("a/b.bin", 1, Origin::Lfs), ("config.json", 2, Origin::Git), ("same", 2, Origin::Git)];
        let mut lock = lock(&[
            ("hf:acme/tiny@main", A, files),
            ("hf:acme/tiny@refs%2Fpr%2F1", A, files),
            (&format!("hf:datasets/gpt2@{B}"), B, &files[..1]),
            ("moz:acme/tiny@v1", "", files),
        ]);
        lock.models.get_mut(&"hf:acme/tiny@main".parse().unwrap()).unwrap().absent.insert("x/y".to_owned());
        let outline = Outline::hf_cache(&lock).unwrap();
        let found = outline.files.iter().map(|laid| match &laid.place {
            Place::Blob { folder, called, links } => {
                (folder.as_str(), *called, links.len(), laid.sha256.0[0])
            }
            Place::At(path) => panic!("{path}"),
        });
        let want = [
            ("models--acme--tiny", Called::Sha256, 1, 1),
            ("models--acme--tiny", Called::GitId, 2, 2),
            ("datasets--gpt2", Called::Sha256, 1, 1),
        ];
        assert_eq!(found.collect::<Vec<_>>(), want);
        let notes = [
            (format!("models--acme--tiny/.no_exist/{A}/x/y"), String::new()),
            ("models--acme--tiny/refs/main".to_owned(), A.to_owned()),
            ("models--acme--tiny/refs/refs/pr/1".to_owned(), A.to_owned()),
        ];
        assert_eq!(outline.notes.into_iter().collect::<Vec<_>>(), notes);
        assert_eq!((outline.models.len(), outline.left_out.len()), (3, 1));
    }

    #[test]
    fn a_tree_has_organization_model_revision_and_path() {
        let files: &[_] = &[("onnx/model.onnx", 1, Origin::Bucket)];
        let outline =
            Outline::tree(&lock(&[("moz:acme/tiny@v1.0", "", files), ("hf:gpt2", A, files)])).unwrap();
        assert_eq!(outline.files[0].place, Place::At("acme/tiny/v1.0/onnx/model.onnx".to_owned()));
        assert_eq!((outline.files.len(), outline.left_out.len(), outline.notes.len()), (1, 1, 0));
    }

    #[test]
    fn nothing_leads_out_of_the_directory() {
        let files: &[_] = &[("a", 1, Origin::Git)];
        for revision in ["..", ".", "..%2F..%2Fx", "%2Fetc", "a%2F%2Fb", "a\\b"] {
            let of = |hub: &str| lock(&[(&format!("{hub}:acme/tiny@{revision}"), A, files)]);
            assert!(Outline::hf_cache(&of("hf")).is_err(), "{revision}");
            assert!(Outline::tree(&of("moz")).is_err(), "{revision}");
        }
        let mut absent = lock(&[("hf:acme/tiny", A, files)]);
        absent.models.values_mut().for_each(|locked| locked.absent = ["../../x".to_owned()].into());
        assert!(matches!(Outline::hf_cache(&absent), Err(BadOutline::Name(_))));
        // The same folder would be that of another repository.
        assert!(matches!(Outline::hf_cache(&lock(&[("hf:a--b", A, files)])), Err(BadOutline::Name(_))));
        let two: &[_] = &[("a", 2, Origin::Git)];
        let twice = lock(&[("hf:acme/tiny@x", A, files), ("hf:acme/tiny@y", A, two)]);
        assert!(matches!(Outline::hf_cache(&twice), Err(BadOutline::Twice(_))));
    }

    #[test]
    fn links_lead_from_their_folder_to_the_blobs() {
        let link = format!("snapshots/{A}/a/b.txt");
        let says = link_to_blob(&link, B);
        assert_eq!(says, format!("../../../blobs/{B}"));
        assert_eq!(git_id_of_link(&link, &says), Some([0xbb; 20]));
        for other in [format!("../../blobs/{B}"), format!("../../../blobs/x/{B}"), format!("/blobs/{B}")] {
            assert_eq!(git_id_of_link(&link, &other), None, "{other}");
        }
    }
}
