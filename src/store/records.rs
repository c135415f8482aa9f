//! The rows of the index: what they say, and how they are written down.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::error::StoreError;
use crate::model::{
    Commit, Decided, Entry, Expectation, Happening, Openness, Pin, Promise, Renewal, Representation, Sha256,
    Standing, Superseded, Timestamp,
};
use crate::policy::evict::Rank;

/// The internal name of a blob's chunks; never used twice in one store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BlobId(pub u64);

/// A fill that is under way, or was when the program ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartialRecord {
    /// What the bytes must be.
    pub expectation: Expectation,
    /// When the fill began.
    pub started_at: Timestamp,
    /// When it last made progress; it expires some time after that.
    pub touched_at: Timestamp,
    /// Whether a caller's own credentials are needed for it; then only such a caller's fill takes it up.
    pub restricted: bool,
}

/// What a branch or tag was last seen to name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefRecord {
    /// The commit.
    pub commit: Commit,
    /// When the hub last said so.
    pub checked_at: Timestamp,
    /// Commits that it named before, newest first.
    pub previous: Vec<Commit>,
}

/// Previous commits that a [`RefRecord`] remembers.
pub(super) const PREVIOUS_COMMITS: usize = 16;

/// What is known of the bytes of one or more entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobInfo {
    /// Where the chunks are.
    pub id: BlobId,
    /// The volume that holds them.
    pub volume: u32,
    /// Length in bytes.
    pub size: u64,
    /// How many entries name it.
    pub refs: u64,
    /// When it was last stored or served.
    pub last_used: Timestamp,
    /// Where it stands among what can go.
    pub rank: Rank,
}

/// The row of a blob.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct BlobRow {
    pub id: BlobId,
    pub volume: u32,
    pub size: u64,
    pub refs: u64,
    pub last_used: Timestamp,
    /// The git blob id of the same bytes, once an entry that promised it was verified.
    pub git: Option<[u8; 20]>,
    /// Where it stands among what can go; `since` is in milliseconds, as a [`Timestamp`] is.
    pub rank: Rank,
}

impl BlobRow {
    /// Of bytes that are new.
    pub(super) fn new(id: BlobId, volume: u32, size: u64, now: Timestamp) -> Self {
        let rank = Rank { since: now.0, ..Rank::default() };
        Self { id, volume, size, refs: 0, last_used: now, git: None, rank }
    }

    pub(super) fn info(&self) -> BlobInfo {
        let Self { id, volume, size, refs, last_used, git: _, rank } = *self;
        BlobInfo { id, volume, size, refs, last_used, rank }
    }
}

/// The row of a blob as version 1 has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct BlobRow1 {
    id: BlobId,
    volume: u32,
    size: u64,
    refs: u64,
    last_used: Timestamp,
    git: Option<[u8; 20]>,
}

impl From<BlobRow1> for BlobRow {
    /// How often it was used is not known; it is new since it was used last.
    fn from(row: BlobRow1) -> Self {
        let BlobRow1 { id, volume, size, refs, last_used, git } = row;
        Self { refs, git, ..Self::new(id, volume, size, last_used) }
    }
}

/// The row of a revision as version 1 has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Decided1 {
    pinned_at: Option<Timestamp>,
    superseded: Option<Superseded>,
}

impl From<Decided1> for Decided {
    fn from(Decided1 { pinned_at, superseded }: Decided1) -> Self {
        Self { pinned: pinned_at.map(|at| Pin::lasting(at, "")), superseded }
    }
}

/// The row of a partial fill.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PartialRow {
    pub id: BlobId,
    pub volume: u32,
    pub expectation: Expectation,
    pub started_at: Timestamp,
    pub touched_at: Timestamp,
    pub restricted: bool,
}

impl PartialRow {
    pub(super) fn new(id: BlobId, volume: u32, record: PartialRecord) -> Self {
        let PartialRecord { expectation, started_at, touched_at, restricted } = record;
        Self { id, volume, expectation, started_at, touched_at, restricted }
    }

    pub(super) fn record(self) -> PartialRecord {
        let Self { expectation, started_at, touched_at, restricted, .. } = self;
        PartialRecord { expectation, started_at, touched_at, restricted }
    }
}

/// The row of a mark: until when it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct MarkRow {
    pub until: Timestamp,
}

/// The row of a blob whose chunks are to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DeletionRow {
    pub volume: u32,
}

/// The row of a repository of which all revisions are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct HoldRow {
    pub since: Timestamp,
}

/// The row of a blob that was hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ScrubRow {
    pub at: Timestamp,
}

/// The row of a blob that is on its way from one volume to another: which one its new chunks are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct MoveRow {
    pub volume: u32,
}

/// The row of a volume. It says only that the volume belongs to this store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct VolumeRow {}

/// A row with a version of its own. Changing what a row says means a new version and a migration of the old.
pub(super) trait Row: Serialize + DeserializeOwned {
    const NAME: &'static str;
    const VERSION: u8 = 1;

    /// The row that an earlier version has written, and what lies behind it; `None` if there never was such a version.
    fn migrate(_version: u8, _fields: &[u8]) -> Option<postcard::Result<(Self, &[u8])>> {
        None
    }

    /// The version, then the fields in postcard.
    fn encode(&self) -> Vec<u8> {
        postcard::to_extend(self, vec![Self::VERSION])
            .expect("rows hold only numbers, strings, options and lists, and memory is the only limit")
    }

    /// Never panics: the bytes may be damaged or written by a newer version.
    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        Self::decode_front(bytes).map(|(row, _)| row)
    }

    /// As [`Row::decode`], and what lies behind the fields.
    fn decode_front(bytes: &[u8]) -> Result<(Self, &[u8]), StoreError> {
        let Some((&version, fields)) = bytes.split_first() else {
            return Err(StoreError::Damaged(format!("the row of a {} is empty", Self::NAME)));
        };
        let read = match version {
            version if version == Self::VERSION => Some(postcard::take_from_bytes(fields)),
            version => Self::migrate(version, fields),
        };
        match read {
            Some(read) => read
                .map_err(|e| StoreError::Damaged(format!("the row of a {} is unreadable: {e}", Self::NAME))),
            None => Err(StoreError::Damaged(format!(
                "the row of a {} has version {version}; this program knows version {}",
                Self::NAME,
                Self::VERSION
            ))),
        }
    }
}

impl Row for Entry {
    const NAME: &'static str = "file";
    const VERSION: u8 = 2;

    /// Version 1 had no access: everything that it names had been read without credentials.
    fn migrate(version: u8, fields: &[u8]) -> Option<postcard::Result<(Self, &[u8])>> {
        #[derive(Deserialize)]
        struct First {
            blob: Sha256,
            size: u64,
            representation: Representation,
            validator: Option<String>,
            promises: Vec<Promise>,
            standing: Standing,
            stored_at: Timestamp,
            checked_at: Timestamp,
        }
        (version == 1).then(|| {
            let (first, rest) = postcard::take_from_bytes::<First>(fields)?;
            let First { blob, size, representation, validator, promises, standing, stored_at, checked_at } =
                first;
            let access = Openness::Public { confirmed_at: checked_at };
            let entry = Self {
                blob,
                size,
                representation,
                validator,
                promises,
                standing,
                stored_at,
                checked_at,
                access,
            };
            Ok((entry, rest))
        })
    }
}
impl Row for BlobRow {
    const NAME: &'static str = "blob";
    const VERSION: u8 = 2;

    fn migrate(version: u8, fields: &[u8]) -> Option<postcard::Result<(Self, &[u8])>> {
        let read = || postcard::take_from_bytes::<BlobRow1>(fields).map(|(row, rest)| (row.into(), rest));
        (version == 1).then(read)
    }
}
impl Row for PartialRow {
    const NAME: &'static str = "partial fill";
    const VERSION: u8 = 2;

    /// Version 1 knew no other fills than those without credentials.
    fn migrate(version: u8, fields: &[u8]) -> Option<postcard::Result<(Self, &[u8])>> {
        type First = (BlobId, u32, Expectation, Timestamp, Timestamp);
        (version == 1).then(|| {
            let ((id, volume, expectation, started_at, touched_at), rest) =
                postcard::take_from_bytes::<First>(fields)?;
            Ok((Self { id, volume, expectation, started_at, touched_at, restricted: false }, rest))
        })
    }
}
impl Row for RefRecord {
    const NAME: &'static str = "reference";
}
impl Row for MarkRow {
    const NAME: &'static str = "mark";
}
impl Row for DeletionRow {
    const NAME: &'static str = "deletion";
}
impl Row for Decided {
    const NAME: &'static str = "revision";
    const VERSION: u8 = 2;

    fn migrate(version: u8, fields: &[u8]) -> Option<postcard::Result<(Self, &[u8])>> {
        let read = || postcard::take_from_bytes::<Decided1>(fields).map(|(row, rest)| (row.into(), rest));
        (version == 1).then(read)
    }
}
impl Row for Renewal {
    const NAME: &'static str = "renewal";
}
impl Row for HoldRow {
    const NAME: &'static str = "hold";
}
impl Row for ScrubRow {
    const NAME: &'static str = "hashed blob";
}
impl Row for Happening {
    const NAME: &'static str = "happening";
}
impl Row for MoveRow {
    const NAME: &'static str = "move";
}
impl Row for VolumeRow {
    const NAME: &'static str = "volume";
}

/// The digest in a key or a row.
pub(super) fn sha(bytes: &[u8; 32]) -> Sha256 {
    Sha256(*bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Digest, Promiser, hex};

    /// Rows as version 2 writes them, and as version 1 did. When this fails, the meaning of what is on people's disks
    /// has changed: give the row a new version and a migration instead of a new expected value.
    #[test]
    fn rows_are_written_as_their_version_says_and_older_ones_are_read() {
        let promises = vec![
            Promise { digest: Digest::Sha256(Sha256([1; 32])), by: Promiser::LinkedEtag },
            Promise { digest: Digest::GitSha1([2; 20]), by: Promiser::Etag },
            Promise { digest: Digest::Md5([3; 16]), by: Promiser::GoogHash },
            Promise { digest: Digest::Crc32c(4), by: Promiser::GoogHash },
        ];
        let representation = Representation {
            size: Some(300),
            etag: Some("\"e\"".into()),
            commit: Commit::parse(&"a".repeat(40)),
            content_type: Some("t".into()),
            last_modified: Some("m".into()),
        };
        let entry = Entry {
            blob: Sha256([1; 32]),
            size: 300,
            representation: representation.clone(),
            validator: Some("v".into()),
            promises: promises.clone(),
            standing: Standing::Recorded,
            stored_at: Timestamp(5),
            checked_at: Timestamp(6),
            access: Openness::Public { confirmed_at: Timestamp(6) },
        };
        let expectation = Expectation {
            representation,
            promises,
            validator: Some("v".into()),
            learned_at: Timestamp(7),
            xet: None,
        };
        let described = format!("01ac0201032265220128{}01017401016d", hex("a".repeat(40).as_bytes()));
        let promised = [
            "04",
            &format!("00{}00", "01".repeat(32)),
            &format!("01{}01", "02".repeat(20)),
            &format!("02{}02", "03".repeat(16)),
            "030402",
        ]
        .concat();
        let fields = format!("{}ac02{described}010176{promised}010506", "01".repeat(32));
        assert_eq!(hex(&entry.encode()), format!("02{fields}0006"));
        assert_eq!(Entry::decode(&bytes(&format!("01{fields}"))).unwrap(), entry);
        for (access, ends) in [(Openness::Shared, "01"), (Openness::Restricted, "02")] {
            let entry = Entry { access, ..entry.clone() };
            assert_eq!(hex(&entry.encode()), format!("02{fields}{ends}"));
        }
        let partial = PartialRow {
            id: BlobId(8),
            volume: 9,
            expectation,
            started_at: Timestamp(10),
            touched_at: Timestamp(11),
            restricted: false,
        };
        let fields = format!("0809{described}{promised}010176070a0b");
        assert_eq!(hex(&partial.encode()), format!("02{fields}00"));
        assert_eq!(PartialRow::decode(&bytes(&format!("01{fields}"))).unwrap(), partial);
        assert_eq!(Entry::decode(&entry.encode()).unwrap(), entry);
        assert_eq!(PartialRow::decode(&partial.encode()).unwrap(), partial);
    }

    fn bytes(digits: &str) -> Vec<u8> {
        let pairs = digits.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
        pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
    }

    /// What lies on people's disks since version 1.
    #[test]
    fn rows_of_version_1_are_read_as_they_were_meant() {
        // Blob 5 in volume 3, 300 bytes, 2 entries, last used at 7, of a verified git blob.
        let blob = bytes(&format!("010503ac02020701{}", "09".repeat(20)));
        let want = BlobRow { refs: 2, git: Some([9; 20]), ..BlobRow::new(BlobId(5), 3, 300, Timestamp(7)) };
        assert_eq!(BlobRow::decode(&blob).unwrap(), want);
        let now = want.encode();
        assert_eq!(hex(&now), format!("020503ac02020701{}000700", "09".repeat(20)));
        assert_eq!(BlobRow::decode(&now).unwrap(), want);

        let by = Superseded { by: "b".into(), at: Timestamp(6), drop_at: None, under: "u".into() };
        let superseded = Some(by);
        let pinned = Some(Pin::lasting(Timestamp(5), ""));
        assert_eq!(Decided::decode(&bytes("01010501016206000175")).unwrap(), Decided { pinned, superseded });
        let (owner, reason) = ("o".to_owned(), "r".to_owned());
        let pin = Pin { at: Timestamp(5), owner, reason, until: Some(Timestamp(9)) };
        let decided = Decided { pinned: Some(pin), superseded: None };
        assert_eq!(hex(&decided.encode()), "020105016f0172010900");
        assert_eq!(Decided::decode(&decided.encode()).unwrap(), decided);
        assert!(BlobRow::decode(&blob[..9]).is_err() && Decided::decode(&[1, 1]).is_err());
    }

    #[test]
    fn an_unknown_version_is_damage_and_not_a_panic() {
        let mut bytes = MarkRow { until: Timestamp(9) }.encode();
        assert_eq!(MarkRow::decode(&bytes).unwrap().until, Timestamp(9));
        bytes[0] = 77;
        for bad in [&bytes[..], &[], &[1], &[1, 0xff]] {
            assert!(matches!(MarkRow::decode(bad), Err(StoreError::Damaged(_))), "{bad:?}");
        }
    }
}
