"""Writes a model small enough to be made here, for the backend `static-embeddings` of Firefox.

    tiny_model.py DIR

Below DIR come the files of one revision: a tokenizer, and a table with a row of numbers for each of its words. What
Firefox makes of a text is the mean of the rows of its words. Prints one line of JSON: the paths that were written, the
options for `createEngine()` but for `modelId` and `modelRevision`, a run, and the vectors that come of it. The same
bytes at every call.
"""

import json
import pathlib
import struct
import sys

FOLDER = "models/tiny"

# The width of the table.
WIDTH = 32

# The words of the text get the tokens 2, 3 and 4; the rest is there so that the files have some size.
WORDS = ["[UNK]", "[PAD]", "hello", "cached", "world", *(f"word{number}" for number in range(5_000))]

TEXT = "hello cached world"


def row(token: int) -> list[float]:
    """A row of the table; each number, and the mean of some in sequence, is exact in 32 bits."""
    return [(token * WIDTH + column) / 8 for column in range(WIDTH)]


def tokenizer() -> bytes:
    def special(token: int) -> dict:
        return {
            "id": token, "content": WORDS[token], "single_word": False, "lstrip": False, "rstrip": False,
            "normalized": False, "special": True,
        }  # fmt: skip

    model = {
        "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
        "vocab": {word: token for token, word in enumerate(WORDS)},
    }  # fmt: skip
    return json.dumps(
        {
            "version": "1.0", "truncation": None, "padding": None, "added_tokens": [special(0), special(1)],
            "normalizer": {"type": "Lowercase"}, "pre_tokenizer": {"type": "Whitespace"},
            "post_processor": None, "decoder": None, "model": model,
        }
    ).encode()  # fmt: skip


def table() -> bytes:
    """The rows as a file of NumPy, format 1.0."""
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({len(WORDS)}, {WIDTH}), }}"
    # Magic, version, length and header fill a multiple of 64 bytes; the header ends with a line feed.
    header += " " * (-(len(header) + 11) % 64) + "\n"
    rows = b"".join(struct.pack(f"<{WIDTH}f", *row(token)) for token in range(len(WORDS)))
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode("latin-1") + rows


def main(folder: str) -> None:
    files = {f"{FOLDER}/tokenizer.json": tokenizer(), f"{FOLDER}/fp32.d{WIDTH}.npy": table()}
    for name, content in files.items():
        path = pathlib.Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    options = {
        "taskName": "static-embeddings",
        "featureId": "simple-text-embedder",
        "backend": "static-embeddings",
        "staticEmbeddingsOptions": {"subfolder": FOLDER, "dtype": "fp32", "dimensions": WIDTH, "compression": False},
    }
    run = {"args": [TEXT], "options": {"pooling": "mean", "normalize": False}}
    tokens = [WORDS.index(word) for word in TEXT.split()]
    mean = [sum(column) / len(tokens) for column in zip(*map(row, tokens))]
    print(json.dumps({"files": list(files), "options": options, "run": run, "vectors": [mean]}))


main(*sys.argv[1:])
