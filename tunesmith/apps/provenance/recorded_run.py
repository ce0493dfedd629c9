"""What the files of a run say about it: its recipe with origins, its data, models, code, packages and machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith.errors import MissingInputError
from tunesmith.files import read_object
from tunesmith.recipe.reading import read_file, to_plain
from tunesmith.train.run.directory import MANIFEST, RECIPE
from tunesmith.train.run.journal import JOURNAL, SEAL, RunJournal, RunStart, parse_journal
from tunesmith.train.run.value_changes import find_leaves

DEEPEST = 20
"""Levels of nested values that are compared key by key; what is deeper is one value."""
LARGEST_MANIFEST = 1 << 26  # bytes
DEFAULT = "default"
EDITED = "recipe.yaml, after the run"
"""Origin of a value that is not the one that the run has recorded."""


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """A run as its files describe it.

    directory: of the run.
    recipe: dotted key -> value, by its recipe.yaml.
    origins: key -> where its value was given; empty for a run of an earlier version.
    inputs: dotted key -> value of what decides the result in addition: data, tokenizer, models, code, versions; and the
        hardware.
    journal: how the run was configured and started, and what has come out.
    """

    directory: Path
    recipe: Mapping[str, Any]
    origins: Mapping[str, str]
    inputs: Mapping[str, Any]
    journal: RunJournal

    @classmethod
    def read(cls, directory: Path) -> RecordedRun:
        """Read the files of a run, whoever wrote them. Raises MissingInputError without them, DataError."""
        written, path = directory / RECIPE, directory / MANIFEST
        if not written.is_file():
            raise MissingInputError("this is no run: it has no recipe", where=written, advice="name its directory")
        if not path.is_file():
            raise MissingInputError("the run has no manifest", where=path, advice="restore it")
        recipe = leaves(to_plain(read_file(written, str(written))))
        manifest = read_object(path, advice="restore the file", largest=LARGEST_MANIFEST)
        journal = parse_journal(manifest, path)
        return cls(directory, recipe, _origins(recipe, journal), manifest_inputs(manifest, journal), journal)

    def origin(self, key: str) -> str:
        """Where a value of the recipe was given; empty if it is not known."""
        if not self.origins or key not in self.recipe:
            return ""
        return self.origins.get(key) or self.origins.get(_list_of(key, self.origins), DEFAULT)


def manifest_inputs(manifest: Mapping[str, Any], journal: RunJournal) -> Mapping[str, Any]:
    """Dotted key -> value of what decides the result of a run, by the content of a manifest and its last start."""
    compared = {key: value for key, value in manifest.items() if key not in (*JOURNAL, SEAL)}
    return {**leaves(compared), **(start_inputs(journal.starts[-1]) if journal.starts else {})}


def start_inputs(start: RunStart) -> Mapping[str, Any]:
    """Dotted key -> value of what a start records in addition to the manifest."""
    machine = {"platform": start.platform, "cpu": start.cpu}
    return leaves({"packages": start.packages, "source": start.code, "hardware": machine})


def leaves(value: Any) -> dict[str, Any]:
    """Dotted key -> value of nested mappings and lists; an empty one is a value."""
    return dict(find_leaves(value, deepest=DEEPEST))


def _origins(recipe: Mapping[str, Any], journal: RunJournal) -> Mapping[str, str]:
    """The recorded origins, corrected where recipe.yaml has other values than the run has recorded."""
    if journal.resolved is None:
        return {}
    recorded = leaves(journal.resolved.values)
    edited = {key: EDITED for key, value in recipe.items() if key not in recorded or recorded[key] != value}
    return {**journal.resolved.origins, **edited}


def _list_of(key: str, origins: Mapping[str, str]) -> str:
    """The key of a list whose item ``key`` is, where the list has one origin; an empty text if there is none."""
    parts = key.split(".")
    candidates = (".".join(parts[:length]) for length in range(len(parts) - 1, 0, -1))
    return next((each for each in candidates if each in origins), "")
