//! An explanation for scripts.

use serde_json::{Value, json};

use super::super::print::{self, rfc3339};
use crate::model::{Entry, Standing};
use crate::proxy::explain::{
    Absence, Addressed, Explanation, Facts, Holding, Known, Meaning, Step, Unfinished,
};

/// The same facts as the text tells.
pub fn of(explanation: &Explanation) -> Value {
    let Explanation { method, path, target, steps } = explanation;
    let mut object = match target {
        Addressed::File(facts) | Addressed::Question(facts) => facts_of(facts),
        Addressed::Passed { hub, root } => json!({"target": "passed", "hub": hub, "root": root}),
        Addressed::Preflight => json!({"target": "preflight"}),
        Addressed::Own => json!({"target": "own"}),
        Addressed::Refused => json!({"target": "refused"}),
    };
    object["method"] = json!(method);
    object["path"] = json!(path);
    object["steps"] = steps.iter().map(step).collect();
    object
}

fn facts_of(facts: &Facts) -> Value {
    json!({
        "target": if facts.is_question { "question" } else { "file" },
        "hub": facts.hub,
        "root": facts.root,
        "repo": facts.repo,
        "name": facts.name,
        "revision": facts.revision.as_ref().map(revision),
        "held": facts.held.as_ref().map(holding),
        "older": facts.older.as_ref().map(holding),
        "restricted": facts.restricted.as_ref().map(holding),
        "unfinished": facts.unfinished.as_ref().map(unfinished),
        "known": facts.known.as_ref().map(known),
        "absent": facts.absent.as_ref().map(absent),
        "refused": facts.refused,
    })
}

fn revision(meaning: &Meaning) -> Value {
    json!({
        "name": meaning.name,
        "immutable": meaning.immutable,
        "commit": meaning.commit,
        "checked_at": meaning.checked_at.map(rfc3339),
        "trusted": meaning.trusted,
    })
}

fn holding(holding: &Holding) -> Value {
    match holding {
        Holding::File(entry) => file(entry),
        Holding::Answer { status, size_bytes, learned_at } => {
            json!({"status": status, "size_bytes": size_bytes, "learned_at": rfc3339(*learned_at)})
        }
    }
}

fn file(entry: &Entry) -> Value {
    let compared = entry.standing == Standing::Verified;
    let promise = |promise| {
        let mut value = print::promise(promise);
        value["compared"] = json!(compared);
        value
    };
    json!({
        "sha256": entry.blob,
        "size_bytes": entry.size,
        "standing": entry.standing,
        "access": entry.access.as_str(),
        "promises": entry.promises.iter().map(promise).collect::<Vec<_>>(),
        "stored_at": rfc3339(entry.stored_at),
        "checked_at": rfc3339(entry.checked_at),
    })
}

fn unfinished(unfinished: &Unfinished) -> Value {
    json!({
        "running": unfinished.running,
        "arrived_bytes": unfinished.arrived_bytes,
        "size_bytes": unfinished.size_bytes,
        "started_at": rfc3339(unfinished.started_at),
    })
}

fn known(known: &Known) -> Value {
    json!({
        "size_bytes": known.size_bytes,
        "promises": known.promises.iter().map(print::promise).collect::<Vec<_>>(),
        "learned_at": rfc3339(known.learned_at),
    })
}

fn absent(absence: &Absence) -> Value {
    match absence {
        Absence::Said { learned_at } => json!({"by": "hub", "learned_at": rfc3339(*learned_at)}),
        Absence::NotListed => json!({"by": "list", "learned_at": null}),
    }
}

fn step(step: &Step) -> Value {
    json!({
        "when": step.when,
        "action": step.action,
        "why": step.why,
        "status": step.status,
        "cache_status": step.cache_status,
    })
}
