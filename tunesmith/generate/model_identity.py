"""The digest of a model directory that reports and benchmarks record, by which they are found again for a model."""

from __future__ import annotations

from pathlib import Path

from tunesmith.files import fingerprint, sha256
from tunesmith.model.directory import read_directory
from tunesmith.model.names import DESCRIPTION

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", DESCRIPTION)


def model_fingerprint(directory: Path) -> str:
    """Digest of the files that decide what a model writes and scores: weights, configuration, tokenizer and format."""
    others = {name: sha256(directory / name) for name in TOKENIZER_FILES if (directory / name).is_file()}
    return fingerprint([read_directory(directory).digests(), others])
