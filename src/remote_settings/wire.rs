//! What the server sends, read. Pure.

use std::fmt;

use serde_json::{Map, Value};

use crate::model::Collection;

/// Most bytes of one answer of the server.
pub(super) const MAX_ANSWER: usize = 24 << 20;
/// Most bytes of a chain of certificates.
pub(super) const MAX_CHAIN: usize = 256 << 10;
/// Most bytes of the startup bundle.
pub(super) const MAX_BUNDLE: usize = 16 << 20;

/// Why an answer cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// It is no JSON.
    NotJson,
    /// Something is missing in it, or is of another kind.
    Lacks(&'static str),
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotJson => f.write_str("the answer is not JSON"),
            Self::Lacks(what) => write!(f, "the answer has no {what}"),
        }
    }
}

impl std::error::Error for Unreadable {}

/// What has changed in a collection, or all of it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Changeset {
    pub metadata: Map<String, Value>,
    pub timestamp: u64,
    /// Records and tombstones, each with an id.
    pub changes: Vec<(String, Value)>,
}

/// Reads a changeset.
pub(super) fn changeset(body: &[u8]) -> Result<Changeset, Unreadable> {
    changeset_of(json(body)?)
}

/// The same of JSON that was read already.
pub(super) fn changeset_of(value: Value) -> Result<Changeset, Unreadable> {
    let Value::Object(mut object) = value else { return Err(Unreadable::Lacks("changeset")) };
    let Some(Value::Object(metadata)) = object.remove("metadata") else {
        return Err(Unreadable::Lacks("metadata"));
    };
    let timestamp = object.get("timestamp").and_then(Value::as_u64).ok_or(Unreadable::Lacks("timestamp"))?;
    let Some(Value::Array(changes)) = object.remove("changes") else {
        return Err(Unreadable::Lacks("changes"));
    };
    let with_id = |record: Value| match record.get("id").and_then(Value::as_str) {
        Some(id) => Ok((id.to_owned(), record)),
        None => Err(Unreadable::Lacks("id of a record")),
    };
    let changes = changes.into_iter().map(with_id).collect::<Result<_, _>>()?;
    Ok(Changeset { metadata, timestamp, changes })
}

/// The list of collections and when each has changed last.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ChangeList {
    pub timestamp: u64,
    /// Each with the entry as it came.
    pub listed: Vec<(Collection, u64, Value)>,
}

impl ChangeList {
    /// When a collection has changed last.
    pub fn at(&self, collection: &Collection) -> Option<u64> {
        self.listed.iter().find(|(listed, ..)| listed == collection).map(|(_, at, _)| *at)
    }
}

/// Reads the list of changes; entries that name no collection are left out.
pub(super) fn change_list(body: &[u8]) -> Result<ChangeList, Unreadable> {
    let value = json(body)?;
    let timestamp = value.get("timestamp").and_then(Value::as_u64).ok_or(Unreadable::Lacks("timestamp"))?;
    let changes = value.get("changes").and_then(Value::as_array).ok_or(Unreadable::Lacks("changes"))?;
    let entry = |entry: &Value| {
        let text = |name: &str| entry.get(name)?.as_str();
        let collection = Collection::new(text("bucket")?, text("collection")?)?;
        Some((collection, entry.get("last_modified")?.as_u64()?, entry.clone()))
    };
    Ok(ChangeList { timestamp, listed: changes.iter().filter_map(entry).collect() })
}

pub(super) fn json(body: &[u8]) -> Result<Value, Unreadable> {
    serde_json::from_slice(body).map_err(|_| Unreadable::NotJson)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_no_changeset_is_refused() {
        let good = json!({"metadata": {}, "timestamp": 5, "changes": [{"id": "a"}]});
        assert_eq!(changeset_of(good.clone()).unwrap().changes.len(), 1);
        for (field, value) in [
            ("metadata", json!([])),
            ("timestamp", json!("5")),
            ("timestamp", json!(-5)),
            ("changes", json!({})),
            ("changes", json!([{"id": 5}])),
            ("changes", json!([5])),
        ] {
            let mut bad = good.clone();
            bad[field] = value.clone();
            assert!(changeset_of(bad).is_err(), "{field}: {value}");
        }
        assert_eq!(changeset(b"<!doctype html><p>Sign in"), Err(Unreadable::NotJson));
        assert!(changeset(b"null").is_err() && changeset(b"").is_err());
    }

    #[test]
    fn a_list_of_changes_has_a_moment_for_each_collection() {
        let body = json!({"timestamp": 9, "metadata": {}, "changes": [
            {"bucket": "main", "collection": "a", "last_modified": 7, "id": "x", "host": "h"},
            {"bucket": "main", "collection": "../b", "last_modified": 7},
            {"bucket": "main", "collection": "c", "last_modified": "7"},
        ]});
        let list = change_list(body.to_string().as_bytes()).unwrap();
        assert_eq!((list.timestamp, list.listed.len()), (9, 1));
        assert_eq!(list.at(&"a".parse().unwrap()), Some(7));
        assert_eq!(list.at(&"c".parse().unwrap()), None);
    }
}
