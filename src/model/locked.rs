//! What a lock file pins of Remote Settings: signed states, and what a Firefox needs with them, each by its bytes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Attachment, Collection, Hub, HubRoot, Repo, RepoKind, Resource, Revision, Sha256, Timestamp};

/// With what the repositories begin whose revisions are parts of Remote Settings, and no attachments of a collection.
const LOCKED: &str = "locked/";

/// Whether a repository has parts of Remote Settings that are kept because they are locked.
pub fn is_of_locked(repo: &Repo) -> bool {
    repo.id.starts_with(LOCKED)
}

/// What is pinned of one server of Remote Settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockedSettings {
    /// The server that had it.
    pub server: HubRoot,
    /// What the server says of itself: JSON, as it came.
    pub root: Option<LockedPart>,
    /// The collections that a new Firefox begins with: JSON, a list of those that are signed.
    pub startup: Option<LockedPart>,
    /// The collections, each as the server would tell all of it.
    pub snapshots: BTreeMap<Collection, LockedSnapshot>,
    /// The chains of certificates for their signatures, by URL.
    pub chains: BTreeMap<String, LockedPart>,
    /// The files that are attached to their records, by location.
    pub attachments: BTreeMap<String, LockedAttachment>,
}

/// Bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockedPart {
    /// How many.
    pub size: u64,
    /// Which ones.
    pub sha256: Sha256,
}

/// A collection at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockedSnapshot {
    /// The moment, in milliseconds as the server counts them.
    pub timestamp: u64,
    /// When its signature was found good. Only of this time is it known that the chain was valid.
    pub verified_at: Timestamp,
    /// Its bytes.
    pub part: LockedPart,
}

/// A file that is attached to a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockedAttachment {
    /// The collection of the record.
    pub collection: Collection,
    /// Its bytes.
    pub part: LockedPart,
}

impl LockedSettings {
    /// Nothing of a server yet.
    pub fn of(server: HubRoot) -> Self {
        Self {
            server,
            root: None,
            startup: None,
            snapshots: BTreeMap::new(),
            chains: BTreeMap::new(),
            attachments: BTreeMap::new(),
        }
    }

    /// Every file that these are in a store, with its length. The revision of each is its digest.
    pub fn files(&self) -> Vec<(Resource, u64)> {
        let of_server = [(&self.root, "root.json"), (&self.startup, "startup.json")];
        let of_server = of_server.into_iter().filter_map(|(part, name)| Some((*part.as_ref()?, name)));
        let mut files: Vec<(Resource, u64)> =
            of_server.map(|(part, name)| (part.file("server", name), part.size)).collect();
        files.extend(self.snapshots.iter().map(|(collection, snapshot)| {
            let path = format!("{collection}/{}.json", snapshot.timestamp);
            (snapshot.part.file("snapshots", &path), snapshot.part.size)
        }));
        files.extend(self.chains.values().map(|part| (part.file("chains", "chain.pem"), part.size)));
        files.extend(
            self.attachments.iter().map(|(location, attached)| (attached.file(location), attached.part.size)),
        );
        files
    }

    /// The same as parts, with a name for people.
    pub fn parts(&self) -> Vec<(String, LockedPart)> {
        let named = |(file, size): (Resource, u64)| {
            let sha256 = Sha256::parse(file.revision.as_str()).expect("the revision of each is its digest");
            let of = file.repo.id.strip_prefix(LOCKED).map_or("attachments", |of| of);
            (format!("{of}/{}", file.path), LockedPart { size, sha256 })
        };
        self.files().into_iter().map(named).collect()
    }
}

impl LockedPart {
    /// As what these bytes are kept while they are locked, beside the state that is told to clients: that moves on.
    fn file(&self, of: &str, path: &str) -> Resource {
        Resource {
            hub: Hub::Settings,
            repo: Repo { kind: RepoKind::Model, id: format!("{LOCKED}{of}") },
            revision: Revision::Version(self.sha256.to_string()),
            path: path.to_owned(),
        }
    }
}

impl LockedAttachment {
    fn file(&self, location: &str) -> Resource {
        let LockedPart { size, sha256 } = self.part;
        Attachment { location: location.to_owned(), size, sha256 }.file(&self.collection)
    }
}
