"""Tests that need a model: its tokenizer with transformers, and its network in ONNX.

    hubcache run --record -- pytest      once, or when the tests ask for more
    hubcache run -- pytest               from then on, with no network
"""

import os

import onnxruntime
import pytest
from huggingface_hub import hf_hub_download
from transformers import AutoTokenizer

MODEL = os.environ.get("MODEL", "acme/tiny")


@pytest.fixture(scope="session")
def tokenizer():
    return AutoTokenizer.from_pretrained(MODEL)


@pytest.fixture(scope="session")
def network():
    return onnxruntime.InferenceSession(hf_hub_download(MODEL, "onnx/model.onnx"))


def test_words_have_tokens(tokenizer):
    assert len(tokenizer("hello cached world")["input_ids"]) == 3


def test_a_text_becomes_numbers(tokenizer, network):
    tokens = tokenizer("hello cached world", return_tensors="np")["input_ids"]
    (state,) = network.run(None, {"input_ids": tokens})
    assert state.shape[:2] == tokens.shape
    assert state[0, 0].tolist() == [1.0, 1.125, 1.25, 1.375]
