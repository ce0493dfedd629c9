"""Single values from the command line: ``train.epochs=1``, ``data.sources.0.path=mine.jsonl``, ``data.sources+=[...]``."""

from __future__ import annotations

import re

from tunesmith.recipe.faults import COMMAND_LINE, Fault, RecipeFaults
from tunesmith.recipe.layers import is_file, merge
from tunesmith.recipe.reading import Marked, read_text

_KEY = re.compile(r"[^.+=\s]+(\.[^.+=\s]+)*\+?")


def is_override(word: str) -> bool:
    """Whether a word is ``key=value``; a file name may hold ``=`` after its first separator."""
    key, equals, _ = word.partition("=")
    return bool(equals) and not is_file(key)


def override(base: Marked, word: str) -> Marked:
    """``base`` with one value replaced, or with a list lengthened (``key+=[...]``); the value is read as YAML.

    Raises RecipeFaults: not ``key=value``, not YAML, or a list has no such place.
    """
    key, equals, text = word.partition("=")
    if not equals or not _KEY.fullmatch(key):
        raise RecipeFaults([Fault(COMMAND_LINE, "", f"{word!r} is not key=value, such as train.epochs=1")])
    value = Marked(read_text(text, f"{COMMAND_LINE} {key}", lines=False).value, COMMAND_LINE)
    return merge(base, _overlay(base, key.split("."), _from_command_line(value), key))


def _from_command_line(marked: Marked) -> Marked:
    """The same value, with every part of it attributed to the command line."""
    if isinstance(marked.value, dict):
        return Marked({key: _from_command_line(child) for key, child in marked.value.items()}, COMMAND_LINE)
    if isinstance(marked.value, list):
        return Marked([_from_command_line(child) for child in marked.value], COMMAND_LINE)
    return Marked(marked.value, COMMAND_LINE)


def _overlay(lower: Marked | None, parts: list[str], value: Marked, key: str) -> Marked:
    """What to lay over ``lower`` so that the place ``parts`` holds ``value``; a list on the way is given whole."""
    if not parts:
        return value
    head, rest = parts[0], parts[1:]
    if lower is None or not isinstance(lower.value, list):
        below = lower.value.get(head) if lower is not None and isinstance(lower.value, dict) else None
        return Marked({head: _overlay(below, rest, value, key)}, COMMAND_LINE)
    if not head.isdecimal() or int(head) >= len(lower.value):
        places = f"0 to {len(lower.value) - 1}" if lower.value else "none: the list is empty"
        advice = "key+=[...] appends"
        raise RecipeFaults([Fault(COMMAND_LINE, key, f"{head!r} is no place in the list; it has {places}; {advice}")])
    items = list(lower.value)
    items[int(head)] = merge(items[int(head)], _overlay(items[int(head)], rest, value, key))
    return Marked(items, lower.origin)
