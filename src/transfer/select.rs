//! Which files of a model are meant.

use std::fmt;

use globset::{Glob, GlobBuilder, GlobSet, GlobSetBuilder};

/// Patterns of paths, as `hf download` has them: `*` stands for slashes too, and what ends with a slash is a folder.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// At least one of these must fit, if there are any.
    include: Vec<String>,
    /// None of these may.
    exclude: Vec<String>,
    sets: Option<(GlobSet, GlobSet)>,
}

/// A pattern that cannot be read.
#[derive(Clone, Debug)]
pub struct BadPattern {
    pattern: String,
    source: globset::Error,
}

impl fmt::Display for BadPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is no pattern: {}", self.pattern, self.source.kind())
    }
}

impl std::error::Error for BadPattern {}

impl Selection {
    /// Reads patterns.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn new(include: Vec<String>, exclude: Vec<String>) -> Result<Self, BadPattern> {
        let sets = Some((set(&include)?, set(&exclude)?));
        Ok(Self { include, exclude, sets })
    }

    /// Whether a file is meant.
    pub fn has(&self, path: &str) -> bool {
        let Some((include, exclude)) = &self.sets else { return true };
        (self.include.is_empty() || include.is_match(path)) && !exclude.is_match(path)
    }

    /// The patterns that must fit.
    pub fn include(&self) -> &[String] {
        &self.include
    }

    /// The patterns that must not.
    pub fn exclude(&self) -> &[String] {
        &self.exclude
    }
}

fn set(patterns: &[String]) -> Result<GlobSet, BadPattern> {
    let mut builder = GlobSetBuilder::new();
    for pattern in patterns {
        builder.add(glob(pattern)?);
    }
    builder.build().map_err(|source| BadPattern { pattern: patterns.join(" "), source })
}

fn glob(pattern: &str) -> Result<Glob, BadPattern> {
    let whole = if pattern.ends_with('/') { format!("{pattern}*") } else { pattern.to_owned() };
    let bad = |source| BadPattern { pattern: pattern.to_owned(), source };
    GlobBuilder::new(&whole).literal_separator(false).backslash_escape(false).build().map_err(bad)
}

/// How weights are quantized, with what the names of their files have for it, as Transformers.js does.
pub const DTYPES: [(&str, &str); 9] = [
    ("fp32", ""),
    ("fp16", "_fp16"),
    ("q8", "_quantized"),
    ("int8", "_int8"),
    ("uint8", "_uint8"),
    ("q4", "_q4"),
    ("q4f16", "_q4f16"),
    ("bnb4", "_bnb4"),
    ("q2f16", "_q2f16"),
];

/// What Transformers.js may ask for of a model in ONNX with weights of this kind; `None` for a kind that is not known.
/// Which of them there are only the hub can say.
pub fn candidates(dtype: &str) -> Option<Vec<String>> {
    let (_, suffix) = DTYPES.iter().find(|(name, _)| *name == dtype)?;
    let described = [
        "config.json",
        "generation_config.json",
        "preprocessor_config.json",
        "processor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "vocab.json",
        "merges.txt",
    ];
    let sessions = [
        "model",
        "encoder_model",
        "decoder_model",
        "decoder_model_merged",
        "vision_encoder",
        "prompt_encoder_mask_decoder",
        "embed_tokens",
        "text_model",
        "vision_model",
        "audio_encoder",
    ];
    let weights = sessions.iter().flat_map(|session| {
        let file = format!("onnx/{session}{suffix}.onnx");
        [file.clone(), format!("{file}_data")]
    });
    Some(described.into_iter().map(str::to_owned).chain(weights).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selected(include: &[&str], exclude: &[&str], path: &str) -> bool {
        let own = |patterns: &[&str]| patterns.iter().map(|p| (*p).to_owned()).collect();
        Selection::new(own(include), own(exclude)).unwrap().has(path)
    }

    #[test]
    fn patterns_are_those_of_hf_download() {
        for (include, exclude, path, want) in [
            (&[][..], &[][..], "a/b.bin", true),
            (&["*.json"], &[], "a/b/config.json", true),
            (&["*.json"], &[], "config.jsonl", false),
            (&["onnx/"], &[], "onnx/a/model.onnx", true),
            (&["onnx/*"], &["*_fp16*"], "onnx/model_fp16.onnx", false),
            (&[], &["*.bin"], "pytorch_model.bin", false),
            (&["model-0000[12]*"], &[], "model-00002-of-3", true),
            (&["config.json", "tok*"], &[], "tokenizer.json", true),
        ] {
            assert_eq!(selected(include, exclude, path), want, "{include:?} {exclude:?} {path}");
        }
        let bad = Selection::new(vec!["[".to_owned()], vec![]).unwrap_err().to_string();
        assert!(bad.starts_with("\"[\" is no pattern"), "{bad}");
    }

    #[test]
    fn a_kind_of_weights_is_a_part_of_their_names() {
        let q8 = candidates("q8").unwrap();
        assert!(q8.contains(&"onnx/model_quantized.onnx".to_owned()));
        assert!(q8.contains(&"onnx/decoder_model_merged_quantized.onnx_data".to_owned()));
        assert!(candidates("fp32").unwrap().contains(&"onnx/model.onnx".to_owned()));
        assert_eq!(candidates("q9"), None);
    }
}
