"""What can be wrong with a record, field by field, made from one good row of a reader."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tunesmith.text.targets import Targets

Path = tuple[str | int, ...]  # ("messages", 1, "content")
Row = Mapping[str, Any]
Values = dict[str, tuple[Any, str]]  # name -> value, what the message says of it

MISSING = object()
ANY_TYPE: Values = {
    "missing": (MISSING, "missing"),
    "null": (None, "null"),
    "true": (True, "true or false"),
    "an object": ({"text": "a"}, "an object"),
}
NOT_TEXT: Values = {
    **ANY_TYPE,
    "a number": (12, "a number"),
    "a fraction": (0.5, "a number"),
    "a list": (["a"], "a list"),
}
NOT_A_LIST: Values = {
    **ANY_TYPE,
    "a number": (12, "a number"),
    "text": ("a", "text"),
    "an empty list": ([], "empty"),
    "a list of texts": (["a"], "[0] is text"),
    "a list of lists": ([["a"]], "[0] is a list"),
    "a list of nothing": ([None], "[0] is null"),
}
NOT_A_NUMBER: Values = {
    **ANY_TYPE,
    "text": ("five", "text"),
    "a list": ([1], "a list"),
    "too large": (1e301, "a usual size"),
}
BLANK: Values = {
    "empty": ("", "empty"),
    "spaces": ("  ", "empty"),
    "white space": ("\n\t\u00a0\u2003\r\n", "empty"),
}
TEXT_LIKE = (
    "2023-01-01",
    "2023-01-01T00:00:00Z",
    "12",
    "true",
    "null",
    "NaN",
    "[]",
    "{}",
    "=1+1",
    "\ufeffx",
    "x\u2028y",
)


@dataclass(frozen=True)
class Shape:
    """A good row and what may be done to it.

    texts: fields that must hold text which is not blank. typed: fields that must hold text of a certain form. optional:
    fields that hold text, or null, or nothing. numbers, lists: fields that must hold a number, a list of objects.
    also_lists: texts that may be a list instead. special: further bad rows, each with what is said. good: further rows
    that must be read.
    """

    row: Row
    texts: Sequence[Path] = ()
    typed: Sequence[Path] = ()
    optional: Sequence[Path] = ()
    numbers: Sequence[Path] = ()
    lists: Sequence[Path] = ()
    also_lists: bool = False
    special: Mapping[str, tuple[Row, str]] = field(default_factory=dict)
    good: Mapping[str, Row] = field(default_factory=dict)
    fields: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    format: str = "chatml"
    targets: Targets = "assistant"


@dataclass(frozen=True)
class GroupShape:
    """Rows that make one tree together. special: further sets of rows, the number of the row at fault, what is said."""

    rows: Sequence[Row]
    special: Mapping[str, tuple[Sequence[Row], int, str]]
    good: Mapping[str, Sequence[Row]]
    fields: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    format: str = "chatml"
    targets: Targets = "assistant"


def changed(row: Row, path: Path, value: Any) -> dict[str, Any]:
    """The row with another value, or without a value, at that path."""
    if not path:
        return {"value": value}
    result: dict[str, Any] = json.loads(json.dumps(row))  # a copy in which nothing is shared
    inside: Any = result
    for step in path[:-1]:
        inside = inside[step]
    if value is MISSING:
        del inside[path[-1]]
    else:
        inside[path[-1]] = value
    return result


def bad_rows(shape: Shape) -> Iterator[tuple[str, Row, tuple[str, ...]]]:
    """Name, row and words of the message for every way in which a row of this shape can be wrong."""
    for paths, values in (
        (shape.texts, {**NOT_TEXT, **BLANK}),
        (shape.typed, NOT_TEXT),
        (shape.numbers, NOT_A_NUMBER),
        (shape.lists, NOT_A_LIST),
        (shape.optional, {name: found for name, found in NOT_TEXT.items() if name not in ("missing", "null")}),
    ):
        for path in paths:
            for name, (value, says) in values.items():
                if shape.also_lists and name == "a list":
                    continue
                # A value inside a message is named by that message, and is null to it whether it is there or not.
                inside = "null" if says == "missing" and len(path) > 1 else says
                words = (inside,) if says == "empty" and len(path) > 1 else (str(path[-1]), inside)
                yield f"{named(path)} {name}", changed(shape.row, path, value), words
    for name, (row, says) in shape.special.items():
        yield name, row, (says,)


def good_rows(shape: Shape) -> Iterator[tuple[str, Row]]:
    """Name and row of everything that must be read."""
    yield "the row itself", shape.row
    yield from shape.good.items()
    for path in (*shape.texts, *shape.optional):
        for text in TEXT_LIKE:
            yield f"{named(path)} {text!r}", changed(shape.row, path, text)
    for path in shape.optional:
        for name, value in (("null", None), ("missing", MISSING), ("empty", ""), ("spaces", "  ")):
            yield f"{named(path)} {name}", changed(shape.row, path, value)
    for path in shape.numbers:
        for number in (0, 1.5, -3, 1e6):
            yield f"{named(path)} {number}", changed(shape.row, path, number)


def named(path: Path) -> str:
    return ".".join(map(str, path))
