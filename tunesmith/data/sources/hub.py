"""Datasets of the Hugging Face hub, through the optional package ``datasets`` (which runs no code of a repository)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tunesmith.data.sources.records import ParsedRecord, checked_record
from tunesmith.errors import MissingInputError, RecipeError
from tunesmith.files import fingerprint, sha256


def load_hub_rows(name: str, split: str | None) -> Any:
    """The rows of one split, memory-mapped from the local cache of ``datasets`` after they were downloaded once.

    Raises MissingInputError where the package, the repository, the network or the split is missing, RecipeError where
    the dataset has several splits and none is named.
    """
    try:
        import datasets
    except ImportError as error:
        advice = "pip install 'tunesmith[hub]', or give the path of a file"
        raise MissingInputError("a hub name needs the package 'datasets'", where=name, advice=advice) from error
    try:
        found = datasets.load_dataset(name, split=split)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        advice = "check the name, the split and the network; a file needs its suffix, such as .jsonl"
        what = f"this is not a file, and it could not be loaded from the hub: {first_line}"
        raise MissingInputError(what, where=name, advice=advice) from error
    if isinstance(found, dict):
        if len(found) > 1:
            what = f"the dataset has the splits {', '.join(sorted(found))}"
            raise RecipeError(what, where=name, advice="name one with split")
        return next(iter(found.values()))
    return found


def hub_records(rows: Any) -> Iterator[ParsedRecord]:
    """The rows as objects; ``number`` is the row, from 1."""
    for row, value in enumerate(rows, start=1):
        yield ParsedRecord(row, checked_record(value), row)


def hub_digest(rows: Any) -> str:
    """Digest of the files that hold the rows, or of the rows where they are in memory only."""
    files = [Path(entry["filename"]) for entry in rows.cache_files]
    if files:
        return fingerprint([sha256(file) for file in files])
    digest = hashlib.sha256()
    for row in rows:
        digest.update(fingerprint(row).encode())
    return digest.hexdigest()
