"""Downloads files with huggingface_hub as a program would: fetch.py REPOSITORY PATH...

The endpoint and the home come from HF_ENDPOINT and HF_HOME. Prints the local path of each file, one a line. Refuses
to be another version than CLIENT_VERSION.
"""

import importlib.metadata
import os
import sys

# The tests count on it: with hf_xet at hand, the client prefers the Xet store to HTTP.
import hf_xet  # noqa: F401
from huggingface_hub import hf_hub_download


def main(repository: str, *paths: str) -> None:
    installed, expected = importlib.metadata.version("huggingface_hub"), os.environ["CLIENT_VERSION"]
    if installed != expected:
        sys.exit(f"this is huggingface_hub {installed}, not {expected}")
    for path in paths:
        print(hf_hub_download(repository, path), flush=True)


main(*sys.argv[1:])
