//! What can go when there is no room, and its going.

use std::collections::{BTreeMap, HashMap, HashSet};

use redb::{Database, ReadableDatabase, ReadableTable};

use super::{BLOBS, ENTRIES, HOLDS, PARTIALS, REVISIONS, Tables, entry_key, row};
use crate::model::{Decided, Entry, EntryKey, Event, Happening, Sha256, Timestamp};
use crate::policy::evict::{Candidate, Kind, Rank, Reason};
use crate::store::error::Failure;
use crate::store::records::{BlobId, BlobRow, PartialRow, Row};
use crate::store::settings::weight_of;

/// Something that can go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) enum Subject {
    /// The bytes of files, and all of those.
    Blob(Sha256),
    /// An unfinished file.
    Partial(EntryKey),
}

/// What is to go.
#[derive(Clone, Debug)]
pub(in crate::store) struct Victim {
    pub subject: Subject,
    pub reason: Reason,
    /// The files; of an unfinished one that.
    pub keys: Vec<EntryKey>,
    /// Bytes of it.
    pub size: u64,
    /// Bytes that it takes on disk at most.
    pub weight: u64,
}

/// What can go, as the policy sees it and as the store does.
#[derive(Debug, Default)]
pub(in crate::store) struct Candidates {
    pub rules: Vec<Candidate>,
    pub subjects: Vec<Found>,
}

/// Something that can go, and where it is.
#[derive(Clone, Debug)]
pub(in crate::store) struct Found {
    pub subject: Subject,
    pub id: BlobId,
    pub volume: u32,
    /// Bytes of it; how much there is of an unfinished file only its volume knows.
    pub size: u64,
}

impl Candidates {
    fn push(&mut self, found: Found, rank: Rank, kind: Kind) {
        self.rules.push(Candidate { bytes: weight_of(found.size), rank, kind });
        self.subjects.push(found);
    }
}

/// What entries say of a blob.
#[derive(Clone, Copy)]
struct Named {
    is_kept: bool,
    is_superseded: bool,
}

/// What operators keep, and what was superseded.
struct Kept {
    revisions: HashMap<Vec<u8>, Decided>,
    held: HashSet<String>,
    now: Timestamp,
}

impl Kept {
    fn read(db: &Database, now: Timestamp) -> Result<Self, Failure> {
        let txn = db.begin_read()?;
        let mut revisions = HashMap::new();
        for item in txn.open_table(REVISIONS)?.iter()? {
            let (key, value) = item?;
            revisions.insert(key.value().to_vec(), Decided::decode(value.value())?);
        }
        let holds = txn.open_table(HOLDS)?;
        let held = holds.iter()?.map(|item| Ok(item?.0.value().to_owned()));
        let held = held.collect::<Result<_, Failure>>()?;
        Ok(Self { revisions, held, now })
    }

    fn of(&self, key: &EntryKey) -> Named {
        let decided = self.revisions.get(&key.of_revision().encode());
        let is_pinned = decided.is_some_and(|decided| decided.pin(self.now).is_some());
        Named {
            is_kept: is_pinned || self.held.contains(&key.repo.to_string()),
            is_superseded: decided.is_some_and(|decided| decided.superseded.is_some()),
        }
    }
}

/// Everything that can go at `now` but for what is `in_use` or `spared`: blobs of which no file is kept, and
/// unfinished files. A row that cannot be read is no candidate.
pub(in crate::store) fn candidates(
    db: &Database,
    now: Timestamp,
    in_use: &dyn Fn(BlobId) -> bool,
    spared: &dyn Fn(&EntryKey) -> bool,
) -> Result<Candidates, Failure> {
    let kept = Kept::read(db, now)?;
    let txn = db.begin_read()?;
    let mut named: HashMap<Sha256, Named> = HashMap::new();
    for item in txn.open_table(ENTRIES)?.iter()? {
        let (key, value) = item?;
        let (Ok(key), Ok(entry)) = (entry_key(key.value()), Entry::decode(value.value())) else { continue };
        let mut this = kept.of(&key);
        this.is_kept |= spared(&key);
        named
            .entry(entry.blob)
            .and_modify(|all| {
                all.is_kept |= this.is_kept;
                all.is_superseded &= this.is_superseded;
            })
            .or_insert(this);
    }
    let mut found = Candidates::default();
    for item in txn.open_table(BLOBS)?.iter()? {
        let (sha, value) = item?;
        let sha = Sha256(*sha.value());
        let Ok(blob) = BlobRow::decode(value.value()) else { continue };
        let Some(named) = named.get(&sha).filter(|named| !named.is_kept && !in_use(blob.id)) else {
            continue;
        };
        let kind = if named.is_superseded { Kind::Superseded } else { Kind::Current };
        let BlobRow { id, volume, size, rank, .. } = blob;
        found.push(Found { subject: Subject::Blob(sha), id, volume, size }, rank, kind);
    }
    for item in txn.open_table(PARTIALS)?.iter()? {
        let (key, value) = item?;
        let (Ok(key), Ok(partial)) = (entry_key(key.value()), PartialRow::decode(value.value())) else {
            continue;
        };
        if !in_use(partial.id) && !kept.of(&key).is_kept {
            let rank = Rank { since: partial.touched_at.0, ..Rank::default() };
            let PartialRow { id, volume, .. } = partial;
            found.push(Found { subject: Subject::Partial(key), id, volume, size: 0 }, rank, Kind::Unfinished);
        }
    }
    Ok(found)
}

/// The files that have one of these blobs.
pub(in crate::store) fn files_of(
    db: &Database,
    blobs: &HashSet<Sha256>,
) -> Result<HashMap<Sha256, Vec<EntryKey>>, Failure> {
    let mut files: HashMap<_, Vec<_>> = HashMap::new();
    for item in db.begin_read()?.open_table(ENTRIES)?.iter()? {
        let (key, value) = item?;
        let (Ok(key), Ok(entry)) = (entry_key(key.value()), Entry::decode(value.value())) else { continue };
        if blobs.contains(&entry.blob) {
            files.entry(entry.blob).or_default().push(key);
        }
    }
    Ok(files)
}

/// What has gone.
#[derive(Debug, Default)]
pub(in crate::store) struct Gone {
    /// Blobs whose chunks are about to be removed.
    pub blobs: Vec<BlobId>,
    /// Files and bytes on disk, by reason.
    pub by_reason: BTreeMap<Reason, (u64, u64)>,
    /// Which of the victims went.
    pub went: Vec<Victim>,
}

impl Tables<'_> {
    /// Removes what still can go of `victims`: what has come to be used, pinned or named meanwhile stays.
    pub(in crate::store) fn evict(
        &mut self,
        victims: &[Victim],
        now: Timestamp,
        in_use: &dyn Fn(BlobId) -> bool,
    ) -> Result<Gone, Failure> {
        let mut gone = Gone::default();
        let mut told: BTreeMap<(Vec<u8>, Reason), (u64, u64)> = BTreeMap::new();
        for victim in victims {
            let Some(id) = self.evict_one(victim, now, in_use)? else { continue };
            gone.blobs.push(id);
            gone.went.push(victim.clone());
            let (files, bytes) = gone.by_reason.entry(victim.reason).or_default();
            *files += victim.keys.len() as u64;
            *bytes += victim.weight;
            for key in &victim.keys {
                let (files, bytes) = told.entry((key.of_revision().encode(), victim.reason)).or_default();
                *files += 1;
                *bytes += victim.size;
            }
        }
        for ((key, reason), (files, bytes)) in told {
            self.note(&happening(&entry_key(&key)?, reason, files, bytes, now))?;
        }
        Ok(gone)
    }

    fn evict_one(
        &mut self,
        victim: &Victim,
        now: Timestamp,
        in_use: &dyn Fn(BlobId) -> bool,
    ) -> Result<Option<BlobId>, Failure> {
        if victim.keys.iter().any(|key| matches!(self.is_kept(key, now), Ok(true) | Err(_))) {
            return Ok(None);
        }
        match &victim.subject {
            Subject::Partial(key) => {
                let partial = row::<PartialRow>(&self.partials, &key.encode())?;
                let Some(PartialRow { id, volume, .. }) = partial.filter(|p| !in_use(p.id)) else {
                    return Ok(None);
                };
                self.partials.remove(key.encode().as_slice())?;
                self.doom(id, volume)?;
                Ok(Some(id))
            }
            Subject::Blob(sha) => {
                let files = victim.keys.len() as u64;
                let Some(blob) = self.blob(sha)?.filter(|b| b.refs == files && !in_use(b.id)) else {
                    return Ok(None);
                };
                for key in &victim.keys {
                    let encoded = key.encode();
                    let is_it = row::<Entry>(&self.entries, &encoded)?.is_some_and(|e| e.blob == *sha);
                    if is_it {
                        self.entries.remove(encoded.as_slice())?;
                        self.effects.report(key.clone());
                        self.release(sha)?;
                    }
                }
                Ok(Some(blob.id))
            }
        }
    }

    fn is_kept(&self, key: &EntryKey, now: Timestamp) -> Result<bool, Failure> {
        let decided = row::<Decided>(&self.revisions, &key.of_revision().encode())?.unwrap_or_default();
        Ok(decided.pin(now).is_some() || self.holds.get(key.repo.to_string().as_str())?.is_some())
    }

    /// Lets blobs stand elsewhere that were passed over.
    pub(in crate::store) fn pass(&mut self, moved: &[(Sha256, Rank)]) -> Result<(), Failure> {
        for (sha, rank) in moved {
            if let Some(mut blob) = self.blob(sha)? {
                blob.rank = *rank;
                self.put_blob(sha, &blob)?;
            }
        }
        Ok(())
    }
}

fn happening(key: &EntryKey, reason: Reason, files: u64, bytes: u64, now: Timestamp) -> Happening {
    let plural = if files == 1 { "" } else { "s" };
    Happening {
        at: now,
        event: Event::Evicted,
        model: key.repo.to_string(),
        hub: Some(key.hub),
        revision: Some(key.revision.clone()),
        to: None,
        detail: format!("{files} file{plural} of {bytes} bytes, for want of room: {}", reason.words()),
    }
}
