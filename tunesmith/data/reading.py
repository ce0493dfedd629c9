"""What all readers share: their settings, how they take a field out of a row, and what can come of a row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from tunesmith.data.strict_json import kind
from tunesmith.errors import DataError
from tunesmith.text.tree import Tree


@dataclass(frozen=True, slots=True)
class Rejected:
    """A sound row that a filter turns away. reason: one of few, for counting."""

    reason: str


@dataclass(frozen=True, slots=True)
class Pruned:
    """A tree of which a filter took messages away. dropped: how many, by reason."""

    tree: Tree
    dropped: Mapping[str, int]


Outcome = Tree | Pruned | Rejected


class Settings(NamedTuple):
    """columns: name that the reader uses -> name in the data. options: every option of the reader with its value."""

    columns: Mapping[str, str]
    options: Mapping[str, Any]


class Option(NamedTuple):
    """A switch of a reader. expected: in words, for messages."""

    default: Any
    allows: Callable[[Any], bool]
    expected: str


@dataclass(frozen=True, slots=True)
class Reader:
    """read: the function. columns: what it looks at. options: its switches."""

    read: Callable[[Settings, Mapping[str, Any]], Outcome]
    columns: tuple[str, ...]
    options: Mapping[str, Option]


def flag(default: bool) -> Option:
    """A switch that is on or off."""
    return Option(default, lambda value: isinstance(value, bool), "true or false")


def texts(default: tuple[str, ...] | None) -> Option:
    """A list of texts, or null."""
    return Option(default, _are_texts, "a list of texts, or null")


def _are_texts(value: Any) -> bool:
    return value is None or (isinstance(value, list | tuple) and all(isinstance(item, str) for item in value))


EMPTY = Option("error", lambda value: value in ("error", "drop"), "error or drop")


def text_of(settings: Settings, row: Mapping[str, Any], name: str) -> str:
    """The text of a field that must be there; it may be empty, see ``blank``. Raises DataError."""
    column = settings.columns[name]
    if column not in row:
        present = ", ".join(sorted(map(str, row))[:12]) or "no fields"
        raise DataError(
            f"field {column!r} is missing", advice=f"the row has {present}; name the right one under fields.{name}"
        )
    return as_text(row[column], f"field {column!r}")


def optional_text_of(settings: Settings, row: Mapping[str, Any], name: str) -> str:
    """The text of a field, empty if it is missing or null. Raises DataError."""
    value = row.get(settings.columns[name])
    return "" if value is None else as_text(value, f"field {settings.columns[name]!r}")


def as_text(value: Any, what: str) -> str:
    """``value`` if it is text; nothing is converted. what: its name in the message. Raises DataError."""
    if not isinstance(value, str):
        raise DataError(f"{what} is {kind(value)}, not text", advice="only plain text is read; nothing is converted")
    return value


def blank(settings: Settings, values: Mapping[str, str]) -> Rejected | None:
    """Whether one of the named texts is empty or white space: an error, or a rejection if the option ``empty`` says so."""
    for name, value in values.items():
        if not value.strip():
            if settings.options["empty"] == "drop":
                return Rejected(f"empty {name}")
            raise DataError(
                f"field {settings.columns[name]!r} is empty", advice="mend the record, or set options.empty to drop"
            )
    return None
