"""The digest of a model directory that reports and benchmarks record, by which they are found again for a model."""

from __future__ import annotations

from pathlib import Path

from tunesmith.files import LARGEST_SETTINGS, find_inner_file, fingerprint, read_object, sha256
from tunesmith.model.directory import CONFIG, read_directory
from tunesmith.model.names import DESCRIPTION

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", DESCRIPTION)
PIPELINES = "custom_pipelines"
"""Key of config.json for the code of a pipeline."""


def model_fingerprint(directory: Path) -> str:
    """Digest of the files that decide what a model writes and scores: weights, configuration, tokenizer and format."""
    return fingerprint(_digests(directory))


def plain_fingerprint(directory: Path) -> str:
    """The same of a model without the code of a pipeline, whose name in config.json decides nothing of these."""
    files, others = _digests(directory)
    path = find_inner_file(directory, CONFIG)
    if path is not None:
        content = read_object(path, largest=LARGEST_SETTINGS)
        files = {**files, CONFIG: fingerprint({key: value for key, value in content.items() if key != PIPELINES})}
    return fingerprint([files, others])


def _digests(directory: Path) -> tuple[dict[str, str], dict[str, str]]:
    """SHA-256 of the files of the model, and of those of its tokenizer and format."""
    found = {name: find_inner_file(directory, name) for name in TOKENIZER_FILES}
    return read_directory(directory).digests(), {name: sha256(path) for name, path in found.items() if path is not None}
