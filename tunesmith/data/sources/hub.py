"""Datasets of the Hugging Face hub, through the package ``datasets`` (which runs no code of a repository).

The package is imported where it is used, because that takes two seconds.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tunesmith.data.sources.directories import shown_names
from tunesmith.data.sources.records import ParsedRecord, checked_record
from tunesmith.data.sources.setting_words import setting_words
from tunesmith.errors import MissingInputError, RecipeError
from tunesmith.files import fingerprint, sha256

NAMED = re.compile(r"'([^']+)'")  # names in the lists of an error
CHOICES = (  # how errors of the package begin that list what there is: the setting, and what is said of it
    ("Config name is missing", "config", "the dataset has the configurations"),
    ("BuilderConfig", "config", "the dataset has no such configuration; it has"),
    ("Unknown split", "split", "the dataset has no such split; it has"),
)
CLASS_NAME = re.compile(r"\s*\(\w*(?:Error|Exception|Enabled)\)")
NO_FILE = "there is no file or directory of this name"


def load_hub_rows(name: str, split: str | None, config: str | None = None, key: str = "") -> Any:
    """The rows of one split, memory-mapped from the local cache of ``datasets`` after they were downloaded once.

    name: of the dataset.
    split, config: of the dataset; None where it has only one.
    key: of the source in the recipe, for messages.
    Raises MissingInputError where the repository or the network is missing, RecipeError where the dataset has several
    splits or configurations and none is named, or not the named one.
    """
    import datasets

    try:
        found = datasets.load_dataset(name, config, split=split)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        lines = str(error).splitlines() or [""]
        for beginning, setting, what in CHOICES:
            names = NAMED.findall(" ".join(lines).rpartition("[")[2].partition("]")[0])
            if lines[0].startswith(beginning) and names:
                advice = setting_words(key, setting, names[0])
                raise RecipeError(f"{what} {shown_names(names)}", where=name, advice=advice) from error
        raise _load_error(name, lines[0], error) from error
    if isinstance(found, dict):
        splits = sorted(found, key=lambda split: (split != "train", split))
        if len(found) > 1:
            what = f"the dataset has the splits {shown_names(splits)}"
            raise RecipeError(what, where=name, advice=setting_words(key, "split", splits[0]))
        return found[splits[0]]
    return found


def _load_error(name: str, line: str, error: Exception) -> MissingInputError:
    """What is said of a dataset that cannot be loaded. line: the first of the message of the error."""
    if type(error).__name__ == "DatasetNotFoundError":
        what = f"{NO_FILE}, and no such dataset on the Hugging Face hub that can be read"
        advice = "check the name; a private dataset needs `hf auth login`, and a file needs its suffix, such as .jsonl"
    elif isinstance(error, ConnectionError) or "Couldn't reach" in line:
        what = f"{NO_FILE}, and the Hugging Face hub cannot be reached"
        advice = "check the name and the network; a file needs its suffix, such as .jsonl"
    else:
        what = (
            f"the dataset cannot be loaded from the Hugging Face hub: {CLASS_NAME.sub('', line) or 'no reason given'}"
        )
        advice = "check the name and the split"
    return MissingInputError(what, where=name, advice=advice)


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
