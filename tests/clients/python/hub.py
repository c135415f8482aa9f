"""Uses huggingface_hub and transformers as a program would.

    hub.py fetch REPOSITORY PATH...              downloads files; prints the local path of each, one a line
    hub.py snapshot KIND REPOSITORY [REVISION]   downloads a repository; prints the local folder
    hub.py calls JSON                            calls HfApi for each [METHOD, ARGUMENTS]; prints a list with a
                                                 {"value"} or an {"error", "text", "seconds"} for each
    hub.py load REPOSITORY TEXT                  loads config and tokenizer; prints what they make of the text

The endpoint and the home come from HF_ENDPOINT and HF_HOME. A verb that fails prints {"error", "text", "seconds"} as
the last line of stderr. Refuses to be another version than CLIENT_VERSION.
"""

import dataclasses
import datetime
import importlib.metadata
import json
import os
import sys
import time
import types

# The tests count on it: with hf_xet at hand, the client prefers the Xet store to HTTP.
import hf_xet  # noqa: F401
from huggingface_hub import HfApi, hf_hub_download, snapshot_download


def fetch(repository: str, *paths: str) -> None:
    for path in paths:
        print(hf_hub_download(repository, path), flush=True)


def snapshot(kind: str, repository: str, revision: str | None = None) -> None:
    print(snapshot_download(repository, repo_type=kind, revision=revision))


def calls(listed: str) -> None:
    api = HfApi()
    print(json.dumps([answered(getattr(api, method), arguments) for method, arguments in json.loads(listed)]))


def answered(method, arguments: dict) -> dict:
    begun = time.monotonic()
    try:
        value = method(**arguments)
        # Pages are fetched while the result is read.
        return {"value": plain(list(value) if isinstance(value, types.GeneratorType) else value)}
    except Exception as error:
        return told(error, begun)


def load(repository: str, text: str) -> None:
    from transformers import AutoConfig, AutoTokenizer

    config = AutoConfig.from_pretrained(repository)
    tokenizer = AutoTokenizer.from_pretrained(repository)
    print(json.dumps({"model_type": config.model_type, "tokens": tokenizer(text)["input_ids"]}))


def plain(value):
    """The same in what JSON knows, objects by their fields."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [plain(item) for item in value]
    if isinstance(value, datetime.datetime):
        return value.isoformat()
    if dataclasses.is_dataclass(value) or hasattr(value, "__dict__"):
        return plain(vars(value))
    return value


def told(error: Exception, begun: float) -> dict:
    return {"error": type(error).__name__, "text": str(error), "seconds": time.monotonic() - begun}


def main(verb: str, *arguments: str) -> None:
    installed, expected = importlib.metadata.version("huggingface_hub"), os.environ["CLIENT_VERSION"]
    if installed != expected:
        sys.exit(f"this is huggingface_hub {installed}, not {expected}")
    if verb == "load":
        # Takes longer than what it is to do, and is not to count.
        import transformers  # noqa: F401
    begun = time.monotonic()
    try:
        {"fetch": fetch, "snapshot": snapshot, "calls": calls, "load": load}[verb](*arguments)
    except Exception as error:
        print(json.dumps(told(error, begun)), file=sys.stderr)
        sys.exit(1)


main(*sys.argv[1:])
