//! How a changeset becomes the whole of a collection, and whether that is signed. Pure.

use std::collections::BTreeMap;

use serde_json::Value;

use super::wire::Changeset;
use crate::model::{Collection, Records, Sha256, Snapshot, Timestamp};
use crate::verify::signature::{self, BadSignature, Chain, Validity};

/// Most deletions that are remembered of a collection.
const MAX_TOMBSTONES: usize = 10_000;

/// What a changeset was asked against.
#[derive(Clone, Copy, Debug)]
pub(super) enum Base<'a> {
    /// It is all of the collection; this was held before.
    Whole(Option<&'a Snapshot>),
    /// It says what has changed since this.
    Since(&'a Snapshot),
}

impl<'a> Base<'a> {
    fn held(self) -> Option<&'a Snapshot> {
        match self {
            Self::Whole(held) => held,
            Self::Since(held) => Some(held),
        }
    }
}

/// All records of a collection after a changeset.
pub(super) fn merged(base: Base<'_>, set: &Changeset) -> Records {
    let mut records = match base {
        Base::Whole(_) => Records::new(),
        Base::Since(held) => held.records.clone(),
    };
    let mut newest: BTreeMap<&str, u64> = BTreeMap::new();
    for (id, change) in &set.changes {
        let at = last_modified(change);
        // Of two changes of one record the newer counts, in whatever order they come.
        if newest.get(id.as_str()).is_some_and(|seen| *seen > at) {
            continue;
        }
        newest.insert(id, at);
        if is_tombstone(change) {
            records.remove(id);
        } else {
            records.insert(id.clone(), change.clone());
        }
    }
    records
}

/// Tries every signature of a collection; `chain` gives the chain at a URL. Until when the first good one lasts, and the
/// URL of its chain.
///
/// # Errors
/// Why the last one is not good, or that there is none.
pub(super) fn judge(
    collection: &Collection,
    records: &Records,
    set: &Changeset,
    chain: impl Fn(&str) -> Result<Chain, BadSignature>,
    roots: &[Sha256],
    now: Timestamp,
) -> Result<(Validity, String), BadSignature> {
    let signed = signature::signed_bytes(records.values(), set.timestamp);
    let signer = signature::signer(collection);
    let mut why = BadSignature::None;
    for signature in signature::signatures(&set.metadata) {
        let judged = chain(&signature.x5u)
            .and_then(|chain| signature::check(&signed, &signature.value, &chain, signer, roots, now));
        match judged {
            Ok(validity) => return Ok((validity, signature.x5u)),
            Err(bad) => why = bad,
        }
    }
    Err(why)
}

/// The collection as it is held after a changeset that was found to be signed.
pub(super) fn snapshot(
    collection: &Collection,
    base: Base<'_>,
    records: Records,
    set: Changeset,
    validity: Validity,
    now: Timestamp,
) -> Snapshot {
    let mut tombstones = base.held().map(|held| held.tombstones.clone()).unwrap_or_default();
    let gone = set.changes.iter().filter(|(_, change)| is_tombstone(change));
    tombstones.extend(gone.map(|(id, change)| (id.clone(), last_modified(change))));
    if let Base::Whole(Some(held)) = base {
        // The server did not say when they were deleted, only that it was before this moment.
        let missing = held.records.keys().filter(|id| !records.contains_key(*id));
        tombstones.extend(missing.map(|id| (id.clone(), set.timestamp)));
    }
    tombstones.retain(|id, _| !records.contains_key(id));
    let mut complete_since = base.held().map_or(set.timestamp, |held| held.complete_since);
    while tombstones.len() > MAX_TOMBSTONES {
        let oldest = tombstones.iter().min_by_key(|(_, at)| **at).map(|(id, at)| (id.clone(), *at));
        if let Some((id, at)) = oldest {
            tombstones.remove(&id);
            complete_since = complete_since.max(at);
        }
    }
    Snapshot {
        collection: collection.clone(),
        timestamp: set.timestamp,
        metadata: set.metadata,
        records,
        tombstones,
        complete_since,
        verified_at: now,
        checked_at: now,
        valid_from: validity.from,
        valid_until: validity.until,
    }
}

/// When a record was changed or deleted.
pub(super) fn last_modified(record: &Value) -> u64 {
    record.get("last_modified").and_then(Value::as_u64).unwrap_or(0)
}

fn is_tombstone(record: &Value) -> bool {
    record.get("deleted").and_then(Value::as_bool).unwrap_or(false)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use serde_json::{Map, json};

    pub fn set(timestamp: u64, changes: Value) -> Changeset {
        let Value::Array(changes) = changes else { panic!("a list") };
        let with_id = |change: Value| (change["id"].as_str().unwrap().to_owned(), change);
        Changeset { metadata: Map::new(), timestamp, changes: changes.into_iter().map(with_id).collect() }
    }

    pub fn held(base: Base<'_>, set: Changeset) -> Snapshot {
        let validity = Validity { from: Timestamp(0), until: Timestamp(u64::MAX) };
        let records = merged(base, &set);
        snapshot(&"x".parse().unwrap(), base, records, set, validity, Timestamp(1))
    }

    fn ids(snapshot: &Snapshot) -> Vec<&str> {
        snapshot.records.keys().map(String::as_str).collect()
    }

    #[test]
    fn changes_are_merged_and_deletions_remembered() {
        let first = held(
            Base::Whole(None),
            set(10, json!([{"id": "b", "last_modified": 9}, {"id": "a", "last_modified": 10}])),
        );
        assert_eq!((ids(&first), first.complete_since), (vec!["a", "b"], 10));
        let second = set(
            20,
            json!([
                {"id": "c", "last_modified": 20},
                {"id": "a", "deleted": true, "last_modified": 19},
                {"id": "b", "n": 2, "last_modified": 18},
                {"id": "b", "n": 1, "last_modified": 17},
            ]),
        );
        let second = held(Base::Since(&first), second);
        assert_eq!(ids(&second), ["b", "c"]);
        assert_eq!(second.records["b"]["n"], 2, "the newer of two changes");
        assert_eq!(second.tombstones, BTreeMap::from([("a".to_owned(), 19)]));
        assert_eq!(second.complete_since, 10);
        let third = held(Base::Since(&second), set(30, json!([{"id": "a", "last_modified": 30}])));
        assert_eq!((ids(&third), third.tombstones.len()), (vec!["a", "b", "c"], 0), "it is back");
    }

    #[test]
    fn what_a_whole_collection_no_longer_has_was_deleted() {
        let first = held(Base::Whole(None), set(10, json!([{"id": "a"}, {"id": "b"}])));
        let second = held(Base::Whole(Some(&first)), set(20, json!([{"id": "b"}])));
        assert_eq!(second.tombstones, BTreeMap::from([("a".to_owned(), 20)]));
        assert_eq!(second.complete_since, 10);
    }

    #[test]
    fn only_so_many_deletions_are_remembered_and_the_oldest_forgotten() {
        let all: Vec<Value> = (0..MAX_TOMBSTONES + 5).map(|i| json!({"id": format!("{i:06}")})).collect();
        let first = held(Base::Whole(None), set(1, Value::Array(all)));
        let deleted = |i: usize| json!({"id": format!("{i:06}"), "deleted": true, "last_modified": 10 + i});
        let gone = (0..MAX_TOMBSTONES + 5).map(deleted).collect();
        let second = held(Base::Since(&first), set(1_000_000, Value::Array(gone)));
        assert_eq!(second.tombstones.len(), MAX_TOMBSTONES);
        assert_eq!(second.complete_since, 14, "those at 10 to 14 were forgotten");
    }
}
