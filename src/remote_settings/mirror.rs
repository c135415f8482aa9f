//! What clients are told of Remote Settings, from what is held. Pure.
//!
//! Values that are signed are never touched. Where something is, is not signed: the base of attachments and the URLs of
//! chains (`x5u`) are rewritten to where this client reaches them.

use serde_json::{Map, Value, json};

use super::held::{Held, path_of};
use super::snapshot::last_modified;
use super::text_of;
use super::wire::ChangeList;
use crate::model::{Collection, SettingsPart, Snapshot};
use crate::request::{Filter, SETTINGS_PREFIX, Window};

/// Where a client reaches the parts of Remote Settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bases {
    /// The attachments, with a slash at the end.
    pub attachments: String,
    /// The chains, without one.
    pub chains: String,
}

impl Bases {
    /// By the public hosts, for clients that name these.
    pub fn public() -> Self {
        let at = |part: SettingsPart| format!("https://{}", part.host());
        Self { attachments: format!("{}/", at(SettingsPart::Attachments)), chains: at(SettingsPart::Chains) }
    }

    /// Below this server, which the client reaches at `here`.
    pub fn below(here: &str) -> Self {
        let below = |part: &str| format!("{here}{SETTINGS_PREFIX}/{part}");
        Self { attachments: format!("{}/", below("attachments")), chains: below("chains") }
    }
}

/// What is answered about a collection.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// This, as it was at this moment.
    Json(Value, u64),
    /// Ask for all of it: what was deleted since is not known.
    Whole,
}

/// What has changed in a collection since the window begins. A moment that is not before the one held is answered with
/// no changes, and with 200, because a client of which more is known than of us would take 204 for an error.
pub fn changeset(snapshot: &Snapshot, window: Window, bases: &Bases) -> Answer {
    let since = window.since;
    if since.is_some_and(|since| since < snapshot.complete_since.min(snapshot.timestamp)) {
        return Answer::Whole;
    }
    let is_new = |at: u64| since.is_none_or(|since| at > since);
    let live = snapshot.records.values().filter(|record| is_new(last_modified(record))).cloned();
    let dead = snapshot.tombstones.iter().filter(|(_, at)| since.is_some() && is_new(**at));
    let dead = dead.map(|(id, at)| json!({"id": id, "deleted": true, "last_modified": at}));
    let mut changes: Vec<Value> = match since {
        Some(since) if since >= snapshot.timestamp => Vec::new(),
        _ => live.chain(dead).collect(),
    };
    changes.sort_by_key(|change| std::cmp::Reverse(last_modified(change)));
    let mut metadata = snapshot.metadata.clone();
    rewrite_chains(&mut metadata, bases);
    Answer::Json(
        json!({"metadata": metadata, "timestamp": snapshot.timestamp, "changes": changes}),
        snapshot.timestamp,
    )
}

/// The list of changes: `listed` as the server has it, but the collections in `watched` at the moments at which they
/// are held, whatever moment the client has seen. It keeps the moment of the list, and would never hear of one of them
/// that changes here later.
pub fn changes<'a>(
    listed: Option<&Value>,
    watched: impl IntoIterator<Item = &'a Snapshot>,
    filter: &Filter,
    host: &str,
) -> Value {
    let mut entries: Vec<Value> = Vec::new();
    let mut timestamp = listed.and_then(|list| list.get("timestamp")?.as_u64()).unwrap_or(0);
    let mut ours = Vec::new();
    for snapshot in watched {
        let Collection { bucket, name } = &snapshot.collection;
        timestamp = timestamp.max(if listed.is_none() { snapshot.timestamp } else { 0 });
        ours.push(&snapshot.collection);
        if filter.has(&snapshot.collection) {
            entries.push(json!({
                "id": id_of(&snapshot.collection),
                "bucket": bucket,
                "collection": name,
                "host": host,
                "last_modified": snapshot.timestamp,
            }));
        }
    }
    let theirs = listed.and_then(|list| list.get("changes")?.as_array()).into_iter().flatten();
    for entry in theirs {
        let text = |name: &str| text_of(entry, &[name]).unwrap_or_default();
        let is_ours = ours.iter().any(|c| c.bucket == text("bucket") && c.name == text("collection"));
        if !is_ours {
            entries.push(entry.clone());
        }
    }
    entries.sort_by_key(|entry| std::cmp::Reverse(last_modified(entry)));
    let metadata = listed.and_then(|list| list.get("metadata").cloned()).unwrap_or_else(|| json!({}));
    json!({"metadata": metadata, "timestamp": timestamp, "changes": entries})
}

/// The list as it came last, as far as a request asks for it.
pub(super) fn listed_before(list: &ChangeList, filter: &Filter, window: Window) -> Value {
    let wanted = list
        .listed
        .iter()
        .filter(|(collection, at, _)| filter.has(collection) && window.since.is_none_or(|since| *at > since));
    let entries: Vec<&Value> = wanted.map(|(_, _, entry)| entry).collect();
    json!({"metadata": {}, "timestamp": list.timestamp, "changes": entries})
}

/// The collections that a new Firefox begins with: those of the server's bundle, and of those that are watched as they
/// are held.
pub(super) fn bundle(held: &Held, bases: &Bases) -> Vec<Value> {
    let of = |set: &Value| {
        let text = |name: &str| text_of(set, &["metadata", name]).unwrap_or_default();
        Collection::new(text("bucket"), text("id"))
    };
    let whole = |snapshot: &Snapshot| match changeset(snapshot, Window::default(), bases) {
        Answer::Json(set, _) => Some(set),
        Answer::Whole => None,
    };
    let Some(sets) = &held.bundle else {
        return held.collections.values().filter_map(|snapshot| whole(snapshot)).collect();
    };
    let told = sets.iter().map(|set| {
        if let Some(snapshot) = of(set).and_then(|collection| held.collections.get(&collection)) {
            return whole(snapshot).unwrap_or_default();
        }
        let mut set = set.clone();
        if let Some(Value::Object(metadata)) = set.get_mut("metadata") {
            rewrite_chains(metadata, bases);
        }
        set
    });
    told.collect()
}

/// What the server says of itself, with where its attachments are for this client.
pub fn server(said: Option<&Value>, bases: &Bases) -> Value {
    let mut said = said.cloned().unwrap_or_else(|| {
        json!({"project_name": "Remote Settings", "http_api_version": "1.22", "capabilities": {"attachments": {}}})
    });
    if let Some(attachments) = said.pointer_mut("/capabilities/attachments").and_then(Value::as_object_mut) {
        attachments.insert("base_url".to_owned(), bases.attachments.clone().into());
    }
    said
}

/// Has every signature of a collection name its chain where this client reaches it.
pub fn rewrite_chains(metadata: &mut Map<String, Value>, bases: &Bases) {
    let listed = match metadata.get_mut("signatures") {
        Some(Value::Array(signatures)) => signatures.iter_mut().collect::<Vec<_>>(),
        _ => Vec::new(),
    };
    listed.into_iter().for_each(|signature| rewrite(signature, bases));
    if let Some(signature) = metadata.get_mut("signature") {
        rewrite(signature, bases);
    }
}

fn rewrite(signature: &mut Value, bases: &Bases) {
    if let Some(Value::String(url)) = signature.get_mut("x5u")
        && let Some(path) = path_of(url)
    {
        *url = format!("{}{path}", bases.chains);
    }
}

/// An id that is always the same for a collection, in the form of those that the server gives.
fn id_of(collection: &Collection) -> String {
    let digest = <sha2::Sha256 as sha2::Digest>::digest(collection.to_string());
    let hex = crate::model::hex(&digest);
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..32])
}

#[cfg(test)]
mod tests {
    use super::super::snapshot::Base;
    use super::super::snapshot::tests::{held, set};
    use super::*;

    fn bases() -> Bases {
        Bases::below("http://localhost:8470")
    }

    /// Records a and b at 10, then a deleted at 19 and c new at 20.
    fn snapshot() -> Snapshot {
        let first = set(10, json!([{"id": "a", "last_modified": 9}, {"id": "b", "last_modified": 10}]));
        let first = held(Base::Whole(None), first);
        let second = set(
            20,
            json!([{"id": "c", "last_modified": 20}, {"id": "a", "deleted": true, "last_modified": 19}]),
        );
        held(Base::Since(&first), second)
    }

    fn told(since: Option<u64>) -> String {
        let window = Window { since, expected: Some(0) };
        match changeset(&snapshot(), window, &bases()) {
            Answer::Whole => "whole".to_owned(),
            Answer::Json(answer, moment) => {
                assert_eq!((moment, &answer["timestamp"]), (20, &json!(20)));
                let word = |change: &Value| {
                    let sign = if change["deleted"] == true { "-" } else { "+" };
                    format!("{sign}{}", change["id"].as_str().unwrap())
                };
                answer["changes"].as_array().unwrap().iter().map(word).collect::<Vec<_>>().join(" ")
            }
        }
    }

    #[test]
    fn a_client_is_told_what_is_new_to_it() {
        for (since, want) in [
            (None, "+c +b"),
            (Some(10), "+c -a"),
            (Some(19), "+c"),
            (Some(20), ""),
            (Some(25), ""),
            (Some(9), "whole"),
            (Some(0), "whole"),
        ] {
            assert_eq!(told(since), want, "{since:?}");
        }
    }

    #[test]
    fn watched_collections_are_always_listed_as_they_are_held() {
        let theirs = json!({"timestamp": 50, "metadata": {}, "changes": [
            {"bucket": "main", "collection": "y", "last_modified": 50},
            {"bucket": "main", "collection": "x", "last_modified": 40},
        ]});
        let told = |listed: Option<&Value>, filter: &Filter| {
            let snapshot = snapshot();
            let list = changes(listed, [&snapshot], filter, "h");
            let timestamp = list["timestamp"].as_u64().unwrap();
            let name = |e: &Value| format!("{}@{}", e["collection"].as_str().unwrap(), e["last_modified"]);
            let names: Vec<_> = list["changes"].as_array().unwrap().iter().map(name).collect();
            (names.join(" "), timestamp)
        };
        let only = |name: &str| Filter { bucket: None, collection: Some(name.into()) };
        assert_eq!(told(Some(&theirs), &Filter::default()), ("y@50 x@20".into(), 50));
        assert_eq!(told(None, &Filter::default()), ("x@20".into(), 20));
        assert_eq!(told(None, &only("y")), (String::new(), 20));
        let nothing_new = json!({"timestamp": 60, "changes": []});
        assert_eq!(told(Some(&nothing_new), &only("x")), ("x@20".into(), 60));
    }

    #[test]
    fn where_things_are_is_rewritten_and_nothing_else() {
        let metadata = json!({
            "id": "x",
            "signatures": [{"signature": "s", "x5u": "https://content-signature-2.cdn.mozilla.net/g/a.pem"}],
            "signature": {"signature": "s", "x5u": "http://127.0.0.1:9/chains/b.pem", "mode": "p384ecdsa"},
        });
        let mut here = metadata.as_object().unwrap().clone();
        rewrite_chains(&mut here, &bases());
        assert_eq!(here["signatures"][0]["x5u"], "http://localhost:8470/rs/chains/g/a.pem");
        assert_eq!(here["signature"]["x5u"], "http://localhost:8470/rs/chains/chains/b.pem");
        assert_eq!(here["signature"]["signature"], "s");
        let mut public = metadata.as_object().unwrap().clone();
        rewrite_chains(&mut public, &Bases::public());
        assert_eq!(public["signatures"], metadata["signatures"]);
        let said =
            json!({"version": "9", "capabilities": {"attachments": {"base_url": "https://cdn/"}, "x": 1}});
        let told = server(Some(&said), &bases());
        assert_eq!(told["capabilities"]["attachments"]["base_url"], "http://localhost:8470/rs/attachments/");
        assert_eq!((&told["version"], &told["capabilities"]["x"]), (&json!("9"), &json!(1)));
        assert!(server(None, &bases())["capabilities"]["attachments"]["base_url"].is_string());
    }
}
