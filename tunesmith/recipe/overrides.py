"""Single values on the command line: ``train.epochs=1``, ``data.sources.0.path=a.jsonl``, ``data.sources+=[...]``."""

from __future__ import annotations

import re

from tunesmith.recipe.layers import is_file, merge
from tunesmith.recipe.problems import COMMAND_LINE, InvalidRecipeError, RecipeProblem
from tunesmith.recipe.reading import LocatedValue, read_text

FIRST = "0"
"""The index with which a list begins that is not there yet; no mapping of a recipe has such a key."""

_KEY = re.compile(r"[^.+=\s]+(\.[^.+=\s]+)*\+?")


def is_override(word: str) -> bool:
    """Whether a word is ``key=value``; the name of a file may contain ``=`` after its first ``/``."""
    key, equals, _ = word.partition("=")
    return bool(equals) and not is_file(key)


def override(base: LocatedValue, word: str) -> LocatedValue:
    """``base`` with one value replaced, or with items appended to a list (``key+=[...]``); the value is read as YAML.

    Raises InvalidRecipeError if the word is not ``key=value``, the value is not YAML, or a list has no such index.
    """
    key, equals, text = word.partition("=")
    if not equals or not _KEY.fullmatch(key):
        message = f"{word!r} is not written as key=value, such as train.epochs=1"
        raise InvalidRecipeError([RecipeProblem(COMMAND_LINE, "", message)])
    value = LocatedValue(read_text(text, f"{COMMAND_LINE} {key}", lines=False).value, COMMAND_LINE)
    return merge(base, _overlay(base, key.split("."), _from_command_line(value), key))


def _from_command_line(located: LocatedValue) -> LocatedValue:
    """The same value with the command line as the origin of all its parts."""
    if isinstance(located.value, dict):
        return LocatedValue({key: _from_command_line(child) for key, child in located.value.items()}, COMMAND_LINE)
    if isinstance(located.value, list):
        return LocatedValue([_from_command_line(child) for child in located.value], COMMAND_LINE)
    return LocatedValue(located.value, COMMAND_LINE)


def _overlay(lower: LocatedValue | None, parts: list[str], value: LocatedValue, key: str) -> LocatedValue:
    """What to merge into ``lower`` so that ``value`` is at ``parts``; a list on the way is given as a whole."""
    if not parts:
        return value
    head, rest = parts[0], parts[1:]
    if head == FIRST and (lower is None or lower.value is None):
        return LocatedValue([_overlay(None, rest, value, key)], COMMAND_LINE)
    if lower is None or not isinstance(lower.value, list):
        child = lower.value.get(head) if lower is not None and isinstance(lower.value, dict) else None
        return LocatedValue({head: _overlay(child, rest, value, key)}, COMMAND_LINE)
    if not head.isdecimal() or int(head) >= len(lower.value):
        has = f"has the indices 0 to {len(lower.value) - 1}" if lower.value else "is empty"
        message = f"{head!r} is not an index of this list, which {has}; key+=[...] appends to it"
        raise InvalidRecipeError([RecipeProblem(COMMAND_LINE, key, message)])
    items = list(lower.value)
    items[int(head)] = merge(items[int(head)], _overlay(items[int(head)], rest, value, key))
    return LocatedValue(items, lower.origin)
