"""What distinguishes two runs, in the order in which one thing causes another."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from tunesmith.apps.provenance.recorded_run import RecordedRun

Kind: TypeAlias = Literal[
    "recipe", "seed", "data", "tokenizer", "base weights", "other model", "code", "package", "machine", "hub"
]

ORDER: Mapping[str, Kind] = {
    "data.sources": "data",
    "validation.sources": "data",
    "tokenizer": "tokenizer",
    "format": "tokenizer",
    "model": "base weights",
    "auxiliary": "other model",
    "data": "data",
    "validation": "data",
    "source": "code",
    "code": "code",
    "versions": "package",
    "packages": "package",
    "hardware": "machine",
    "hub": "hub",
}
"""The first part of a key of a manifest -> what it is about; what comes first may be the cause of what follows. Counts
and digests of token trees follow from sources and tokenizer."""
PARTIAL = ("packages.", "source.", "hardware.platform", "hardware.cpu")
"""Facts that a run may lack: packages are recorded if they are loaded, and earlier versions recorded less."""
NAMED_ALONE: tuple[Kind, ...] = ("code", "package", "other model", "machine", "hub")
"""Kinds whose keys are named without their first part."""
ABSENT = object()
"""In place of a value that a run has not recorded."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not the same in two runs.

    kind: what it is about.
    key: of the recipe or the manifest, or the name of a package.
    before, after: the values as text; empty if a run has none.
    before_origin, after_origin: where a value of a recipe was given; empty if that is not known.
    """

    kind: Kind
    key: str
    before: str
    after: str
    before_origin: str = ""
    after_origin: str = ""

    @property
    def title(self) -> str:
        """Kind and key."""
        return self.key if self.kind == self.key else f"{self.kind} {self.key}"

    def __str__(self) -> str:
        return f"{self.title}: {self.before or '(none)'} -> {self.after or '(none)'}"


def find_differences(first: RecordedRun, second: RecordedRun) -> list[Difference]:
    """All differences of two runs, causes first. What only one of them has recorded is one as well."""
    return [*recipe_differences(first, second), *input_differences(first.inputs, second.inputs)]


def recipe_differences(first: RecordedRun, second: RecordedRun) -> Iterator[Difference]:
    """The keys of the recipe that differ, in the order of the first recipe.

    A value that is absent, null or empty says the same: where one run has a section, the other has none of its keys.
    """
    for key in dict.fromkeys((*first.recipe, *second.recipe)):
        before, after = first.recipe.get(key, ABSENT), second.recipe.get(key, ABSENT)
        is_given = any(value is not ABSENT and value not in (None, "", [], {}) for value in (before, after))
        if before != after and is_given:
            texts = (value_text(before), value_text(after))
            yield Difference(recipe_kind(key), key, *texts, first.origin(key), second.origin(key))


def recipe_kind(key: str) -> Kind:
    """What a key of the recipe is about."""
    return "seed" if key == "seed" else "recipe"


def input_differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[Difference]:
    """What differs outside of the recipe, in the ``ORDER``; a package once. first, second: ``RecordedRun.inputs``."""
    found: dict[tuple[Kind, str], tuple[int, Difference]] = {}
    same_code = first.get("code") == second.get("code")
    for key in dict.fromkeys((*first, *second)):
        before, after = first.get(key, ABSENT), second.get(key, ABSENT)
        is_skipped = (before is ABSENT or after is ABSENT) and key.startswith(PARTIAL)
        is_skipped |= same_code and key.startswith("source.")  # a commit that changes other files
        if before == after or is_skipped or (start := _longest_start(key)) is None:
            continue
        kind = ORDER[start]
        name = key.removeprefix(f"{start}.") if kind in NAMED_ALONE else key
        place = list(ORDER).index(start)
        found.setdefault((kind, name), (place, Difference(kind, name, value_text(before), value_text(after))))
    return [difference for _, difference in sorted(found.values(), key=lambda each: each[0])]


def _longest_start(key: str) -> str | None:
    """The longest key of ``ORDER`` that a key is or is below; None if there is none."""
    return max((start for start in ORDER if f"{key}.".startswith(f"{start}.")), key=len, default=None)


def value_text(value: Any) -> str:
    """A value on one line; empty for one that is absent."""
    if value is ABSENT:
        return ""
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False, default=str)
