//! What the difference between two states of a collection announces. Pure.

use serde_json::Value;

use crate::model::{Role, Snapshot};

/// All that a record can name a repository for.
pub(super) const ROLES: [Role; 3] = [Role::Model, Role::Tokenizer, Role::Processor];

/// The fields with the repository and its revision.
fn fields(role: Role) -> (&'static str, &'static str) {
    match role {
        Role::Model => ("modelId", "modelRevision"),
        Role::Tokenizer => ("tokenizerId", "tokenizerRevision"),
        Role::Processor => ("processorId", "processorRevision"),
    }
}

/// The repository and the revision that a record names for something; `main` where it names no revision.
pub fn named(record: &Value, role: Role) -> Option<(&str, &str)> {
    let (id, revision) = fields(role);
    let text = |name: &str| record.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    Some((text(id)?, text(revision).unwrap_or("main")))
}

/// All that a record names.
pub fn all_named(record: &Value) -> impl Iterator<Item = (&str, &str)> {
    ROLES.into_iter().filter_map(|role| named(record, role))
}

/// What is new.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Announcement {
    /// A record names another revision of a repository than before.
    Moved {
        /// The repository.
        repo: String,
        /// The revision before.
        from: String,
        /// The revision now.
        to: String,
        /// The record.
        record: String,
    },
    /// A record has changed, and names the same revision as before.
    Touched {
        /// The repository.
        repo: String,
        /// The revision.
        revision: String,
        /// The record.
        record: String,
    },
}

/// What `after` announces to whoever knows `before`, each thing once.
pub fn announcements(before: &Snapshot, after: &Snapshot) -> Vec<Announcement> {
    let mut found = Vec::new();
    for (record, now) in &after.records {
        let Some(then) = before.records.get(record).filter(|then| *then != now) else { continue };
        for role in ROLES {
            let (Some((old, from)), Some((repo, to))) = (named(then, role), named(now, role)) else {
                continue;
            };
            // Another repository is no other revision of this one.
            if old != repo {
                continue;
            }
            let (repo, record) = (repo.to_owned(), record.clone());
            let announcement = if from == to {
                Announcement::Touched { repo, revision: to.to_owned(), record }
            } else {
                Announcement::Moved { repo, from: from.to_owned(), to: to.to_owned(), record }
            };
            if !found.iter().any(|known| same(known, &announcement)) {
                found.push(announcement);
            }
        }
    }
    found
}

/// Whether two announcements say the same of the same repository, whatever the record.
fn same(one: &Announcement, other: &Announcement) -> bool {
    use Announcement::{Moved, Touched};
    match (one, other) {
        (Moved { repo: a, from: b, to: c, .. }, Moved { repo: x, from: y, to: z, .. }) => {
            (a, b, c) == (x, y, z)
        }
        (Touched { repo: a, revision: b, .. }, Touched { repo: x, revision: y, .. }) => (a, b) == (x, y),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::snapshot::Base;
    use super::super::snapshot::tests::{held, set};
    use super::*;
    use serde_json::json;

    fn compared(before: Value, after: Value) -> Vec<String> {
        let before = held(Base::Whole(None), set(1, before));
        let after = held(Base::Whole(Some(&before)), set(2, after));
        let told = |a: Announcement| match a {
            Announcement::Moved { repo, from, to, record } => format!("{record}: {repo} {from} -> {to}"),
            Announcement::Touched { repo, revision, record } => {
                format!("{record}: {repo} {revision} touched")
            }
        };
        announcements(&before, &after).into_iter().map(told).collect()
    }

    fn model(id: &str, repo: &str, revision: &str) -> Value {
        json!({"id": id, "modelId": repo, "modelRevision": revision})
    }

    #[test]
    fn the_table_of_what_is_announced() {
        let v1 = || model("r", "acme/a", "v1.0");
        let whole = |revisions: [&str; 3]| {
            json!([{"id": "r", "modelId": "acme/a", "modelRevision": revisions[0], "tokenizerId": "acme/t",
                    "tokenizerRevision": revisions[1], "processorId": "acme/p", "processorRevision": revisions[2]}])
        };
        let table: [(&str, Value, Value, &[&str]); 13] = [
            ("nothing new", json!([v1()]), json!([v1()]), &[]),
            (
                "a new revision",
                json!([v1()]),
                json!([model("r", "acme/a", "v2.0")]),
                &["r: acme/a v1.0 -> v2.0"],
            ),
            (
                "of each of three repositories",
                whole(["v1.0", "v1.0", "v1.0"]),
                whole(["v2.0", "v1.0", "main"]),
                &["r: acme/a v1.0 -> v2.0", "r: acme/t v1.0 touched", "r: acme/p v1.0 -> main"],
            ),
            ("back again", json!([model("r", "acme/a", "v2.0")]), json!([v1()]), &["r: acme/a v2.0 -> v1.0"]),
            ("a new record", json!([]), json!([v1()]), &[]),
            ("a record that is gone", json!([v1()]), json!([]), &[]),
            ("another model", json!([v1()]), json!([model("r", "acme/b", "v2.0")]), &[]),
            (
                "touched only",
                json!([v1()]),
                json!([{"id": "r", "modelId": "acme/a", "modelRevision": "v1.0", "dtype": "q8"}]),
                &["r: acme/a v1.0 touched"],
            ),
            (
                "main, touched",
                json!([{"id": "r", "modelId": "acme/a"}]),
                json!([{"id": "r", "modelId": "acme/a", "last_modified": 2}]),
                &["r: acme/a main touched"],
            ),
            (
                "two records that say the same",
                json!([v1(), model("s", "acme/a", "v1.0")]),
                json!([model("r", "acme/a", "v2.0"), model("s", "acme/a", "v2.0")]),
                &["r: acme/a v1.0 -> v2.0"],
            ),
            (
                "two records on different revisions",
                json!([v1(), model("s", "acme/a", "v1.0")]),
                json!([model("r", "acme/a", "v2.0"), model("s", "acme/a", "v1.0")]),
                &["r: acme/a v1.0 -> v2.0"],
            ),
            (
                "a revision is dropped",
                json!([v1()]),
                json!([{"id": "r", "modelId": "acme/a"}]),
                &["r: acme/a v1.0 -> main"],
            ),
            (
                "no models at all",
                json!([{"id": "r", "x": 1}]),
                json!([{"id": "r", "x": 2, "modelId": 5}]),
                &[],
            ),
        ];
        for (what, before, after, want) in table {
            assert_eq!(compared(before, after), want, "{what}");
        }
    }
}
