"""The digest of a model directory that reports and benchmarks record, by which they are found again for a model."""

from __future__ import annotations

from pathlib import Path

from tunesmith.files import find_inner_file, fingerprint, sha256
from tunesmith.model.directory import read_directory
from tunesmith.model.names import DESCRIPTION

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", DESCRIPTION)


def model_fingerprint(directory: Path) -> str:
    """Digest of the files that decide what a model writes and scores: weights, configuration, tokenizer and format."""
    found = {name: find_inner_file(directory, name) for name in TOKENIZER_FILES}
    others = {name: sha256(path) for name, path in found.items() if path is not None}
    return fingerprint([read_directory(directory).digests(), others])
