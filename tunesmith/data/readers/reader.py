"""What all readers share: their settings, how they take a field out of a row, and what can come of a row."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from tunesmith.data.sources.strict_json import kind
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


class Group(NamedTuple):
    """Rows that belong together, in the order of the source. places: where each was read, for messages."""

    rows: tuple[Mapping[str, Any], ...]
    places: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Reader:
    """read: the function. columns: what it looks at. options: its switches.

    group: the column by whose value rows are put together; ``read`` then takes a Group instead of a row.
    """

    read: Callable[[Settings, Any], Outcome]
    columns: tuple[str, ...]
    options: Mapping[str, Option]
    group: str | None = None


def flag(default: bool) -> Option:
    """A switch that is on or off."""
    return Option(default, lambda value: isinstance(value, bool), "true or false")


def choice(default: str, *others: str) -> Option:
    """One of a few words."""
    words = (default, *others)
    return Option(default, lambda value: value in words, " or ".join((", ".join(words[:-1]), words[-1])))


def natural(default: int) -> Option:
    """A whole number from 0."""
    return Option(default, lambda value: type(value) is int and value >= 0, "a whole number from 0")


def texts(default: tuple[str, ...] | None) -> Option:
    """A list of texts, or null."""
    return Option(default, _are_texts, "a list of texts, or null")


def _are_texts(value: Any) -> bool:
    return value is None or (isinstance(value, list | tuple) and all(isinstance(item, str) for item in value))


EMPTY = choice("error", "drop")


def look(row: Mapping[str, Any], column: str) -> tuple[bool, Any]:
    """Whether a column is there, and its value. ``a.b`` is ``b`` inside the object ``a``, if no column has that name."""
    if column in row:
        return True, row[column]
    value: Any = row
    for part in column.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return False, None
        value = value[part]
    return True, value


def required(settings: Settings, row: Mapping[str, Any], name: str) -> Any:
    """The value of a field that must be there. Raises DataError."""
    column = settings.columns[name]
    found, value = look(row, column)
    if not found:
        present = ", ".join(sorted(map(str, row))[:12]) or "no fields"
        raise DataError(
            f"field {column!r} is missing", advice=f"the row has {present}; name the right one under fields.{name}"
        )
    return value


def text_of(settings: Settings, row: Mapping[str, Any], name: str) -> str:
    """The text of a field that must be there; it may be empty, see ``blank``. Raises DataError."""
    return as_text(required(settings, row, name), f"field {settings.columns[name]!r}")


def optional_text_of(settings: Settings, row: Mapping[str, Any], name: str) -> str:
    """The text of a field, empty if it is missing or null. Raises DataError."""
    _, value = look(row, settings.columns[name])
    return "" if value is None else as_text(value, f"field {settings.columns[name]!r}")


def number_of(settings: Settings, row: Mapping[str, Any], name: str) -> float:
    """The number of a field that must be there. Raises DataError."""
    return as_number(required(settings, row, name), f"field {settings.columns[name]!r}")


def optional_number_of(settings: Settings, row: Mapping[str, Any], name: str) -> float | None:
    """The number of a field, or None if it is missing or null. Raises DataError."""
    _, value = look(row, settings.columns[name])
    return None if value is None else as_number(value, f"field {settings.columns[name]!r}")


def objects_of(settings: Settings, row: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """The list of objects of a field that must be there and not be empty. Raises DataError."""
    value, column = required(settings, row, name), settings.columns[name]
    if not isinstance(value, list) or not value:
        found = "empty" if value == [] else f"{kind(value)}, not a list of objects"
        raise DataError(f"field {column!r} is {found}")
    for index, item in enumerate(value):
        if not isinstance(item, dict):
            raise DataError(f"{column}[{index}] is {kind(item)}, not an object")
    return value


def as_number(value: Any, what: str) -> float:
    """``value`` as a float if it is a finite number. what: its name in the message. Raises DataError."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DataError(f"{what} is {kind(value)}, not a number", advice="nothing is converted; write a JSON number")
    if abs(value) > 1e300 or not math.isfinite(value):
        raise DataError(f"{what} is not a finite number of a usual size")
    return float(value)


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
