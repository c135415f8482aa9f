//! A model small enough to be made here: an ONNX graph that looks up one row of a table for each token, with the
//! tokenizer and the settings that transformers.js wants beside it.

use serde_json::json;

/// The words that the tokenizer knows, in the order of their tokens.
const WORDS: [&str; 6] = ["[UNK]", "[PAD]", "hello", "cached", "world", "again"];

/// The width of the table.
const WIDTH: usize = 4;

/// Rows of the table; more than there are words, so that the file has some size.
const ROWS: usize = 20_000;

/// The text that tests run the model on.
pub const TEXT: &str = "hello cached world";

/// The tokens of [`TEXT`].
pub const TOKENS: [u64; 3] = [2, 3, 4];

/// The model's files: path and content.
pub fn files() -> Vec<(&'static str, Vec<u8>)> {
    let vocabulary: serde_json::Map<_, _> =
        WORDS.iter().enumerate().map(|(token, word)| ((*word).to_owned(), token.into())).collect();
    let special = |token: usize| {
        json!({
            "id": token, "content": WORDS[token], "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true
        })
    };
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [special(0), special(1)],
        "normalizer": { "type": "Lowercase" },
        "pre_tokenizer": { "type": "Whitespace" },
        "post_processor": null, "decoder": null,
        "model": { "type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]" }
    });
    let settings = json!({
        "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 64,
        "unk_token": "[UNK]", "pad_token": "[PAD]"
    });
    let config = json!({ "model_type": "bert", "architectures": ["BertModel"], "hidden_size": WIDTH });
    vec![
        ("config.json", config.to_string().into_bytes()),
        ("tokenizer.json", tokenizer.to_string().into_bytes()),
        ("tokenizer_config.json", settings.to_string().into_bytes()),
        ("onnx/model.onnx", onnx()),
    ]
}

/// What the model says of `tokens`: their rows of the table, one after the other.
pub fn expected(tokens: &[u64]) -> Vec<f64> {
    tokens
        .iter()
        .flat_map(|&token| (0..WIDTH).map(move |column| f64::from(value(token as usize, column))))
        .collect()
}

/// One number of the table, exact in `f32`.
fn value(row: usize, column: usize) -> f32 {
    (row * WIDTH + column) as f32 / 8.0
}

/// The model in the ONNX form of protocol buffers; the numbers are the fields' in `onnx.proto`.
fn onnx() -> Vec<u8> {
    const FLOAT: u64 = 1;
    const INT64: u64 = 7;
    let table: Vec<u8> = (0..ROWS)
        .flat_map(|row| (0..WIDTH).flat_map(move |column| value(row, column).to_le_bytes()))
        .collect();
    let initializer = Message::default()
        .number(1, ROWS as u64)
        .number(1, WIDTH as u64)
        .number(2, FLOAT)
        .bytes(8, b"table")
        .bytes(9, &table);
    let gather = Message::default()
        .bytes(1, b"table")
        .bytes(1, b"input_ids")
        .bytes(2, b"last_hidden_state")
        .bytes(4, b"Gather");
    let tensor = |name: &str, of: u64, dimensions: &[&str]| {
        let shape = dimensions.iter().fold(Message::default(), |shape, dimension| {
            shape.message(1, Message::default().bytes(2, dimension.as_bytes()))
        });
        let of = Message::default().message(1, Message::default().number(1, of).message(2, shape));
        Message::default().bytes(1, name.as_bytes()).message(2, of)
    };
    let graph = Message::default()
        .message(1, gather)
        .bytes(2, b"tiny")
        .message(5, initializer)
        .message(11, tensor("input_ids", INT64, &["batch", "length"]))
        .message(12, tensor("last_hidden_state", FLOAT, &["batch", "length", "width"]));
    let operators = Message::default().bytes(1, b"").number(2, 13);
    Message::default().number(1, 8).message(7, graph).message(8, operators).0
}

/// A protocol-buffers message in the making.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn number(mut self, field: u64, value: u64) -> Self {
        self.varint(field << 3);
        self.varint(value);
        self
    }

    fn bytes(mut self, field: u64, value: &[u8]) -> Self {
        self.varint(field << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    fn message(self, field: u64, value: Self) -> Self {
        self.bytes(field, &value.0)
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}
