//! What the records of a collection name for the features of Firefox: repositories at revisions. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::announce::{ROLES, named};
use crate::model::{Needed, Records, Use};

/// The collection, of the bucket `main`, whose records say which models the features of Firefox use.
pub const OPTIONS: &str = "ml-inference-options";

/// What records name, each repository at each revision once, denied or not.
pub fn needs(records: &Records) -> Vec<Needed> {
    let mut found: BTreeMap<(&str, &str), Vec<Use>> = BTreeMap::new();
    for (id, record) in records {
        let text = |name: &str| {
            let text = record.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
            text.map(str::to_owned)
        };
        for role in ROLES {
            let Some(names) = named(record, role) else { continue };
            found.entry(names).or_default().push(Use {
                record: id.clone(),
                role,
                feature: text("featureId"),
                task: text("taskName"),
                dtypes: dtypes(record.get("dtype")),
                backend: text("backend"),
            });
        }
    }
    let of = |((repo, revision), uses): ((&str, &str), Vec<Use>)| Needed {
        repo: repo.to_owned(),
        revision: revision.to_owned(),
        uses,
        denied: None,
    };
    found.into_iter().map(of).collect()
}

/// The kinds of weights that a record names: one, or one for each of several files, as an object or as a text of that.
fn dtypes(value: Option<&Value>) -> Vec<String> {
    let of_files = |value: &Value| {
        let kinds = value.as_object()?.values().filter_map(Value::as_str);
        Some(kinds.map(str::to_owned).collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>())
    };
    match value {
        Some(Value::String(text)) if text.is_empty() => Vec::new(),
        Some(Value::String(text)) => {
            let read = serde_json::from_str::<Value>(text).ok();
            read.as_ref().and_then(of_files).unwrap_or_else(|| vec![text.clone()])
        }
        Some(other) => of_files(other).unwrap_or_default(),
        None => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told(records: Value) -> Vec<String> {
        let records = records.as_array().unwrap().iter();
        let records = records.map(|r| (r["id"].as_str().unwrap().to_owned(), r.clone())).collect();
        let of = |of: &Use| {
            let backend = of.backend.as_deref().unwrap_or("-");
            format!("{}/{:?} {} {} {backend}", of.record, of.role, of.purpose(), of.dtypes.join("+"))
        };
        let line = |needed: Needed| {
            let uses: Vec<String> = needed.uses.iter().map(of).collect();
            format!("{}@{}: {}", needed.repo, needed.revision, uses.join(", "))
        };
        needs(&records).into_iter().map(line).collect()
    }

    #[test]
    fn each_revision_of_each_repository_is_named_once_with_all_that_use_it() {
        let records = json!([
            {"id": "a", "featureId": "alt", "taskName": "image-to-text", "modelId": "m/x", "modelRevision": "v1.0",
             "tokenizerId": "m/t", "tokenizerRevision": "v2.0", "processorId": "m/x", "processorRevision": "v1.0",
             "dtype": "q8", "backend": "onnx"},
            {"id": "b", "taskName": "summary", "modelId": "m/x", "modelRevision": "v1.0", "tokenizerId": "m/x"},
            {"id": "c", "taskName": "none of these"},
            {"id": "d", "modelId": "m/x", "modelRevision": "", "tokenizerId": 5},
        ]);
        assert_eq!(
            told(records),
            [
                "m/t@v2.0: a/Tokenizer alt q8 onnx",
                "m/x@main: b/Tokenizer summary  -, d/Model d  -",
                "m/x@v1.0: a/Model alt q8 onnx, a/Processor alt q8 onnx, b/Model summary  -",
            ]
        );
    }

    #[test]
    fn a_kind_of_weights_is_one_or_one_for_each_file() {
        for (value, want) in [
            (json!("q4f16"), &["q4f16"][..]),
            (
                json!({"encoder_model": "q8", "decoder_model_merged": "fp16", "x": "q8", "n": 5}),
                &["fp16", "q8"],
            ),
            (json!("{\"encoder_model\": \"q8\"}"), &["q8"]),
            (json!("{not json"), &["{not json"]),
            (json!(""), &[]),
            (json!(8), &[]),
            (json!(null), &[]),
        ] {
            assert_eq!(dtypes(Some(&value)), want, "{value}");
        }
        assert_eq!(dtypes(None), [""; 0]);
    }
}
