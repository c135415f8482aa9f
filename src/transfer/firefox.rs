//! Which files of a model Firefox reads, by what the records say that name it.
//!
//! Of a model in ONNX it reads weights of the kind that the record names, or q8, which is what Transformers.js takes for
//! WebAssembly, and what describes them. Of a repository that is only a tokenizer or a processor it reads no weights. Other
//! backends have weights of their own, and no kind of them to choose.

use std::collections::BTreeSet;

use super::class::Class;
use super::select::{DTYPES, candidates};
use crate::model::{Needed, Role, Use};

/// What is taken where a record names no kind of weights.
const DEFAULT: &str = "q8";
/// A backend that is a service: nothing of its models is a file.
const SERVICE: &str = "openai";
/// Backends with how the names of their weights end, where these would be those of other frameworks.
const OWN_WEIGHTS: [(&str, &str); 4] = [
    ("wllama", ".gguf"),
    ("best-llama", ".gguf"),
    ("llama.cpp", ".gguf"),
    ("static-embeddings", ".safetensors"),
];

/// What of a repository is read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reads {
    /// Whether it is read at all.
    any: bool,
    /// Kinds of weights in ONNX.
    kinds: BTreeSet<&'static str>,
    /// Kinds of weights that are not known: those of all kinds are read.
    unknown: BTreeSet<String>,
    /// Backends that have other weights.
    backends: BTreeSet<String>,
}

impl Reads {
    /// What is read for all uses of a repository.
    pub fn of(needed: &Needed) -> Self {
        let mut reads = Self::default();
        needed.uses.iter().for_each(|of| reads.add(of));
        reads
    }

    fn add(&mut self, of: &Use) {
        let backend = of.backend.as_deref().unwrap_or("onnx");
        if backend == SERVICE {
            return;
        }
        self.any = true;
        if of.role != Role::Model {
            return;
        }
        // onnx, onnx-native, best-onnx.
        if !backend.contains("onnx") {
            self.backends.insert(backend.to_owned());
            return;
        }
        let default = [DEFAULT.to_owned()];
        for named in if of.dtypes.is_empty() { &default[..] } else { &of.dtypes } {
            match DTYPES.iter().find(|(name, _)| name == named) {
                Some((name, _)) => drop(self.kinds.insert(name)),
                None => drop(self.unknown.insert(named.clone())),
            }
        }
        if !self.unknown.is_empty() {
            self.kinds.extend(DTYPES.iter().map(|(name, _)| *name));
        }
    }

    /// Whether it reads a file of this name.
    pub fn has(&self, path: &str) -> bool {
        self.any
            && match Class::of(path) {
                Class::Configuration | Class::Tokenizer | Class::Processor => true,
                Class::Onnx(kind) => self.kinds.contains(kind) || !self.backends.is_empty(),
                Class::OtherWeights => self.backends.iter().any(|backend| is_own(backend, path)),
                Class::Training | Class::Card => false,
                Class::Other => !self.backends.is_empty(),
            }
    }

    /// Whether weights in ONNX are read, of which there is no other choice than by kind.
    pub fn has_weights(&self) -> bool {
        !self.kinds.is_empty()
    }

    /// What it may ask for, where nobody lists what there is; none where only its own code knows.
    pub fn candidates(&self) -> Option<Vec<String>> {
        if !self.backends.is_empty() {
            return None;
        }
        // What describes weights is the same for each kind of them.
        let kinds = if self.kinds.is_empty() { BTreeSet::from([DEFAULT]) } else { self.kinds.clone() };
        let mut seen = BTreeSet::new();
        let all = kinds.into_iter().filter_map(candidates).flatten();
        Some(all.filter(|path| self.has(path) && seen.insert(path.clone())).collect())
    }

    /// Kinds of weights that are not known, for which those of all kinds are read.
    pub fn unknown(&self) -> impl Iterator<Item = &str> {
        self.unknown.iter().map(String::as_str)
    }

    /// Whether nothing of it is a file.
    pub fn is_nothing(&self) -> bool {
        !self.any
    }
}

/// Whether a file has weights that a backend reads, and that are of another framework for others.
fn is_own(backend: &str, path: &str) -> bool {
    let mut known = OWN_WEIGHTS.iter().filter(|(name, _)| *name == backend).peekable();
    // Of a backend that is not known, what it reads is not known either.
    known.peek().is_none() || known.any(|(_, end)| path.to_ascii_lowercase().ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn using(role: Role, dtypes: &[&str], backend: Option<&str>) -> Use {
        Use {
            record: "r".to_owned(),
            role,
            feature: None,
            task: None,
            dtypes: dtypes.iter().map(|kind| (*kind).to_owned()).collect(),
            backend: backend.map(str::to_owned),
        }
    }

    fn reads(uses: &[Use]) -> Reads {
        Reads::of(&Needed {
            repo: "a/b".to_owned(),
            revision: "v1.0".to_owned(),
            uses: uses.to_vec(),
            denied: None,
        })
    }

    const FILES: [&str; 12] = [
        "README.md",
        "config.json",
        "model.gguf",
        "model.safetensors",
        "models/x.npy.zst",
        "onnx/model.onnx",
        "onnx/model_q4.onnx",
        "onnx/model_quantized.onnx",
        "onnx/model_quantized.onnx_data",
        "pytorch_model.bin",
        "tokenizer.json",
        "training_args.bin",
    ];

    #[test]
    fn what_is_read_follows_from_role_kind_and_backend() {
        use Role::{Model, Processor, Tokenizer};
        let q8 =
            ["config.json", "onnx/model_quantized.onnx", "onnx/model_quantized.onnx_data", "tokenizer.json"];
        let described = ["config.json", "tokenizer.json"];
        let all_onnx = [&FILES[1..2], &FILES[5..9], &FILES[10..11]].concat();
        let table: [(&str, Vec<Use>, &[&str]); 10] = [
            ("no kind", vec![using(Model, &[], None)], &q8),
            ("q8", vec![using(Model, &["q8"], Some("onnx-native"))], &q8),
            (
                "fp32",
                vec![using(Model, &["fp32"], None)],
                &["config.json", "onnx/model.onnx", "tokenizer.json"],
            ),
            ("tokenizer", vec![using(Tokenizer, &["q8"], None), using(Processor, &[], None)], &described),
            ("two kinds", vec![using(Model, &["fp32", "q4"], None), using(Model, &[], None)], &all_onnx),
            ("no known kind", vec![using(Model, &["q9"], None)], &all_onnx),
            (
                "wllama",
                vec![using(Model, &["q8"], Some("wllama"))],
                &[&FILES[1..3], &FILES[4..9], &FILES[10..11]].concat(),
            ),
            (
                "static-embeddings",
                vec![using(Model, &[], Some("static-embeddings"))],
                &[&FILES[1..2], &FILES[3..9], &FILES[10..11]].concat(),
            ),
            ("a new backend", vec![using(Model, &[], Some("new"))], &FILES[1..11]),
            ("a service", vec![using(Model, &[], Some("openai"))], &[]),
        ];
        for (what, uses, want) in table {
            let reads = reads(&uses);
            let found: Vec<&str> = FILES.into_iter().filter(|path| reads.has(path)).collect();
            assert_eq!(found, want, "{what}");
            assert_eq!(reads.is_nothing(), what == "a service", "{what}");
        }
    }

    #[test]
    fn what_may_be_asked_for_is_known_of_onnx_only() {
        use Role::{Model, Tokenizer};
        let q4 = reads(&[using(Model, &["q4"], None)]).candidates().unwrap();
        assert_eq!(Some(q4), candidates("q4"));
        let described = reads(&[using(Tokenizer, &[], None)]).candidates().unwrap();
        assert!(described.contains(&"tokenizer.json".to_owned()));
        assert!(described.iter().all(|path| !path.contains(".onnx")), "{described:?}");
        let unknown = reads(&[using(Model, &["q9"], None)]);
        assert_eq!(unknown.unknown().collect::<Vec<_>>(), ["q9"]);
        let all = unknown.candidates().unwrap();
        assert!(
            all.contains(&"onnx/model_bnb4.onnx".to_owned()) && all.contains(&"onnx/model.onnx".to_owned())
        );
        assert_eq!(all.iter().filter(|path| *path == "config.json").count(), 1);
        assert_eq!(reads(&[using(Model, &[], Some("wllama"))]).candidates(), None);
    }
}
