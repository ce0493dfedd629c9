"""All keys of the schema as paths, and the one that a wrong key most likely meant."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from tunesmith.recipe.layers import EXTENDS, LAYER
from tunesmith.recipe.schema import Recipe
from tunesmith.recipe.section import Section

ANY = "*"  # stands for the index of a list in a path


@dataclass(frozen=True, slots=True)
class Key:
    """path: where it may stand. kind: the ``kind`` of the mapping it belongs to, if that has one."""

    path: tuple[str, ...]
    kind: str | None
    description: str


@functools.cache
def all_keys() -> tuple[Key, ...]:
    """Every key of a recipe."""
    return tuple(_keys(Recipe, ()))


def _keys(section: type[Section], path: tuple[str, ...]) -> Iterator[Key]:
    kind = section.model_fields["kind"].default if "kind" in section.model_fields else None
    for name, field in section.model_fields.items():
        here = (*path, name)
        yield Key(here, kind, field.description or "")
        for inner, is_list in _sections(field.annotation, False):
            yield from _keys(inner, (*here, ANY) if is_list else here)


def _sections(annotation: Any, in_list: bool) -> Iterator[tuple[type[Section], bool]]:
    """The sections named in a type, and whether they stand in a list."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation, in_list
        return
    for part in get_args(annotation):
        yield from _sections(part, in_list or getattr(annotation, "__origin__", None) is tuple)


def describe(path: Sequence[str]) -> str:
    """What a key is for, or nothing."""
    return next((key.description for key in all_keys() if key.path == _general(path)), "")


def hint(path: Sequence[str]) -> str:
    """What to do about an unknown key: the kind it belongs to, the nearest right name, or nothing."""
    wanted = _general(path)
    kinds = [key.kind for key in all_keys() if key.path == wanted]
    if kinds:
        return f"it belongs to kind {' or '.join(repr(kind) for kind in kinds)}"
    candidates = [*(key.path for key in all_keys()), (EXTENDS,), (LAYER,)]
    best = max(candidates, key=lambda candidate: _likeness(wanted, candidate))
    # A slip in the right place is more likely than a key in the wrong one, so that has to be nearly right to be named.
    if _likeness(wanted, best) < 0.7:
        return ""
    return f"did you mean {_specific(best, path)!r}?"


def _general(path: Sequence[str]) -> tuple[str, ...]:
    return tuple(ANY if part.isdecimal() else part for part in path)


def _specific(candidate: tuple[str, ...], path: Sequence[str]) -> str:
    """The candidate with the indices of the path that it was found for."""
    same = candidate[:-1] == _general(path)[:-1]
    return ".".join((*path[:-1], candidate[-1]) if same else ("0" if part == ANY else part for part in candidate))


def _likeness(wanted: tuple[str, ...], candidate: tuple[str, ...]) -> float:
    """From 0 to 1.1: how alike the last parts are; a neighbour counts a little more, a stranger a little less."""
    alike = difflib.SequenceMatcher(None, wanted[-1].lower(), candidate[-1].lower()).ratio()
    return alike + 0.1 if wanted[:-1] == candidate[:-1] else alike - 0.1
