"""All keys of a recipe as paths, and the key that an unknown one probably means."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from tunesmith.recipe.layers import EXTENDS, LAYER
from tunesmith.recipe.other_names import OTHER_NAMES, explain_name
from tunesmith.recipe.schema import Recipe
from tunesmith.recipe.section import Section

ANY_INDEX = "*"
"""Represents every index of a list in a path."""

SMALLEST_SIMILARITY = 0.7
"""Keys less similar than this are not suggested."""


@dataclass(frozen=True, slots=True)
class RecipeKey:
    """One key of the schema.

    path: the parts of the key, with ANY_INDEX for the index of a list.
    kind: the ``kind`` of the section that has the key, if there are several kinds.
    description: what the key is for.
    """

    path: tuple[str, ...]
    kind: str | None
    description: str


@functools.cache
def all_keys() -> tuple[RecipeKey, ...]:
    """Every key of a recipe."""
    return tuple(_section_keys(Recipe, ()))


def _section_keys(section: type[Section], path: tuple[str, ...]) -> Iterator[RecipeKey]:
    kind = section.model_fields["kind"].default if "kind" in section.model_fields else None
    for name, field in section.model_fields.items():
        key_path = (*path, name)
        yield RecipeKey(key_path, kind, field.description or "")
        for inner, is_list in _sections_in(field.annotation, in_list=False):
            yield from _section_keys(inner, (*key_path, ANY_INDEX) if is_list else key_path)


def _sections_in(annotation: Any, *, in_list: bool) -> Iterator[tuple[type[Section], bool]]:
    """The sections that occur in a type, each with whether it is an item of a list."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation, in_list
        return
    for part in get_args(annotation):
        is_list = getattr(annotation, "__origin__", None) is tuple
        yield from _sections_in(part, in_list=in_list or is_list)


def describe(path: Sequence[str]) -> str:
    """The description of a key; empty if the key is unknown."""
    return next((key.description for key in all_keys() if key.path == _without_indices(path)), "")


def advise(path: Sequence[str]) -> str:
    """What to do about an unknown key: the kind that has it, the key that it probably means, or how to see all keys."""
    wanted = _without_indices(path)
    kinds = [key.kind for key in all_keys() if key.path == wanted]
    if kinds:
        return f"it belongs to kind {' or '.join(repr(kind) for kind in kinds)}"
    if (explanation := explain_name(path[-1])) is not None:
        return explanation
    meant = find_meant_key(path)
    return f"did you mean {meant!r}?" if meant else "`tunesmith schema` prints all keys"


def find_meant_key(path: Sequence[str]) -> str | None:
    """The dotted key that an unknown key probably means: what another library calls so, or the most similar key."""
    other = OTHER_NAMES.get(path[-1].lower())
    if other is not None:
        return other
    wanted = _without_indices(path)
    candidates = [*(key.path for key in all_keys()), (EXTENDS,), (LAYER,)]
    best = max(candidates, key=lambda candidate: _similarity(wanted, candidate))
    return _with_indices(best, path) if _similarity(wanted, best) >= SMALLEST_SIMILARITY else None


def find_value_key(path: Sequence[str]) -> str | None:
    """The key that was probably meant by one value for a whole section: ``model`` -> ``model.path``."""
    wanted = _without_indices(path)
    if (*wanted, "kind") in (key.path for key in all_keys()):
        return ".".join((*path, "kind"))
    return OTHER_NAMES.get(path[-1]) if len(path) == 1 else None


def _without_indices(path: Sequence[str]) -> tuple[str, ...]:
    return tuple(ANY_INDEX if part.isdecimal() else part for part in path)


def _with_indices(candidate: tuple[str, ...], path: Sequence[str]) -> str:
    """The candidate as a dotted key with the indices of the path for which it was found."""
    if candidate[:-1] == _without_indices(path)[:-1]:
        return ".".join((*path[:-1], candidate[-1]))
    return ".".join("0" if part == ANY_INDEX else part for part in candidate)


def _similarity(wanted: tuple[str, ...], candidate: tuple[str, ...]) -> float:
    """From -0.1 to 1.1: how similar the last parts are, plus 0.1 in the same section, minus 0.1 in another one.

    A misspelt key in the right section is more probable than a key in the wrong section.
    """
    ratio = difflib.SequenceMatcher(None, wanted[-1].lower(), candidate[-1].lower()).ratio()
    return ratio + 0.1 if wanted[:-1] == candidate[:-1] else ratio - 0.1
