//! What a file of a model is to those who run it, told from its name: by the classes of Firefox's documentation.

use std::fmt;

use super::select::DTYPES;

/// What a file of a model is, in the order in which files are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// Weights in ONNX, with the files that they keep their tensors in; by how they are quantized.
    Onnx(&'static str),
    /// How the model is built and how it generates.
    Configuration,
    /// How text becomes tokens.
    Tokenizer,
    /// How images, sound and the like become tensors.
    Processor,
    /// Weights for another framework.
    OtherWeights,
    /// What is left of the training.
    Training,
    /// What people read about it.
    Card,
    /// None of these.
    Other,
}

impl Class {
    /// What a file of this name is.
    pub fn of(path: &str) -> Self {
        let name = path.rsplit('/').next().unwrap_or(path);
        if let Some(stem) = onnx_stem(name) {
            return Self::Onnx(dtype(stem));
        }
        let lower = name.to_ascii_lowercase();
        let is_one_of = |names: &[&str]| names.contains(&lower.as_str());
        let ends_with = |ends: &[&str]| ends.iter().any(|end| lower.ends_with(end));
        match () {
            () if is_one_of(&TRAINING) || lower.starts_with("events.out.tfevents") => Self::Training,
            () if is_one_of(&TOKENIZER) || ends_with(&["sentencepiece.bpe.model", "spiece.model"]) => {
                Self::Tokenizer
            }
            () if ends_with(&["processor_config.json", "feature_extractor.json"]) => Self::Processor,
            () if ends_with(&OTHER_WEIGHTS) => Self::OtherWeights,
            () if ends_with(&["config.json"]) => Self::Configuration,
            () if is_one_of(&["readme.md", "license", "license.md", "license.txt", "notice"]) => Self::Card,
            () => Self::Other,
        }
    }

    /// Whether a runtime that has weights of this kind reads it.
    pub fn is_used_with(self, dtype: &str) -> bool {
        match self {
            Self::Onnx(own) => own == dtype,
            Self::Configuration | Self::Tokenizer | Self::Processor => true,
            Self::OtherWeights | Self::Training | Self::Card | Self::Other => false,
        }
    }

    /// For scripts.
    pub fn name(self) -> &'static str {
        match self {
            Self::Onnx(_) => "onnx",
            Self::Configuration => "configuration",
            Self::Tokenizer => "tokenizer",
            Self::Processor => "processor",
            Self::OtherWeights => "other-weights",
            Self::Training => "training",
            Self::Card => "card",
            Self::Other => "other",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Onnx(dtype) => write!(f, "ONNX weights, {dtype}"),
            Self::Configuration => f.write_str("configuration"),
            Self::Tokenizer => f.write_str("tokenizer"),
            Self::Processor => f.write_str("pre-processing and feature extraction"),
            Self::OtherWeights => f.write_str("weights for other frameworks"),
            Self::Training => f.write_str("training metadata"),
            Self::Card => f.write_str("model card"),
            Self::Other => f.write_str("other files"),
        }
    }
}

const TOKENIZER: [&str; 10] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "chat_template.json",
    "chat_template.jinja",
    "tokenizer.model",
];
const TRAINING: [&str; 11] = [
    "training_args.bin",
    "trainer_state.json",
    "optimizer.pt",
    "scheduler.pt",
    "scaler.pt",
    "rng_state.pth",
    "all_results.json",
    "train_results.json",
    "eval_results.json",
    "quantize_config.json",
    "training_args.json",
];
/// How the names of weights for other frameworks end: PyTorch, TensorFlow, Flax, Rust, Core ML, GGML, and their indexes.
const OTHER_WEIGHTS: [&str; 14] = [
    ".bin",
    ".pt",
    ".pth",
    ".ckpt",
    ".h5",
    ".msgpack",
    ".safetensors",
    ".ot",
    ".tflite",
    ".mlmodel",
    ".gguf",
    ".ggml",
    ".bin.index.json",
    ".safetensors.index.json",
];

/// The name of a file of ONNX without what says so: `model.onnx`, or where its tensors are, `model.onnx_data`,
/// `model.onnx_data_1` and `model.onnx.data`.
fn onnx_stem(name: &str) -> Option<&str> {
    let (stem, rest) = name.rsplit_once(".onnx")?;
    let is_data = |rest: &str| {
        let number = rest.strip_prefix("_data").or_else(|| rest.strip_prefix(".data"))?;
        let number = number.strip_prefix('_').unwrap_or(number);
        number.bytes().all(|b| b.is_ascii_digit()).then_some(())
    };
    (rest.is_empty() || is_data(rest).is_some()).then_some(stem)
}

/// The kind of weights that a name says, by the longest ending that fits.
fn dtype(stem: &str) -> &'static str {
    let fits = DTYPES.iter().filter(|(_, suffix)| stem.ends_with(suffix));
    fits.max_by_key(|(_, suffix)| suffix.len()).map_or("fp32", |(name, _)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_what_its_name_says() {
        for (path, want) in [
            ("onnx/model.onnx", "ONNX weights, fp32"),
            ("onnx/model_quantized.onnx", "ONNX weights, q8"),
            ("onnx/decoder_model_merged_q4f16.onnx", "ONNX weights, q4f16"),
            ("onnx/model_q4.onnx_data", "ONNX weights, q4"),
            ("onnx/model_fp16.onnx_data_1", "ONNX weights, fp16"),
            ("model_bnb4.onnx.data", "ONNX weights, bnb4"),
            ("onnx/vision_encoder_uint8.onnx", "ONNX weights, uint8"),
            ("model_int8.onnx", "ONNX weights, int8"),
            ("config.json", "configuration"),
            ("generation_config.json", "configuration"),
            ("tokenizer.json", "tokenizer"),
            ("tokenizer_config.json", "tokenizer"),
            ("sentencepiece.bpe.model", "tokenizer"),
            ("preprocessor_config.json", "pre-processing and feature extraction"),
            ("processor_config.json", "pre-processing and feature extraction"),
            ("pytorch_model.bin", "weights for other frameworks"),
            ("pytorch_model.bin.index.json", "weights for other frameworks"),
            ("tf_model.h5", "weights for other frameworks"),
            ("flax_model.msgpack", "weights for other frameworks"),
            ("model-00001-of-00002.safetensors", "weights for other frameworks"),
            ("training_args.bin", "training metadata"),
            ("trainer_state.json", "training metadata"),
            ("quantize_config.json", "training metadata"),
            ("README.md", "model card"),
            ("LICENSE", "model card"),
            (".gitattributes", "other files"),
            ("onnx/model.onnx_database", "other files"),
            ("model.onnx.md", "other files"),
        ] {
            assert_eq!(Class::of(path).to_string(), want, "{path}");
        }
    }

    #[test]
    fn a_runtime_reads_its_own_weights_and_what_describes_them() {
        let files = [
            "config.json",
            "tokenizer.json",
            "preprocessor_config.json",
            "onnx/model.onnx",
            "onnx/model_quantized.onnx",
            "onnx/model_quantized.onnx_data",
            "pytorch_model.bin",
            "README.md",
            "training_args.bin",
        ];
        let used: Vec<&str> = files.into_iter().filter(|path| Class::of(path).is_used_with("q8")).collect();
        let want = [
            "config.json",
            "tokenizer.json",
            "preprocessor_config.json",
            "onnx/model_quantized.onnx",
            "onnx/model_quantized.onnx_data",
        ];
        assert_eq!(used, want);
    }
}
