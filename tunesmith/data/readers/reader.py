"""What all readers share: their settings, how they take a field from a row, and their two results."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

from tunesmith.data.readers.meanings import Meaning
from tunesmith.data.sources.setting_words import option_words
from tunesmith.data.sources.strict_json import type_name
from tunesmith.errors import DataError
from tunesmith.text.tree import Tree

REFUSED: tuple[Meaning, ...] = (
    *("system", "history", "passage", "tools", "media", "reasoning", "preference", "weight", "mask"),
)
"""What a column may not hold that a reader does not read, unless the reader says otherwise."""

REFUSED_WITHOUT_PREFERENCE = tuple(meaning for meaning in REFUSED if meaning != "preference")
"""The same for readers of prompts and documents: rows with preferences are a usual source of these."""


@dataclass(frozen=True, slots=True)
class ReadTree:
    """The tree of a row.

    tree: what is left of it.
    dropped: how many messages were dropped, by reason.
    """

    tree: Tree
    dropped: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Filtered:
    """A valid row that a filter drops.

    reason: one of few, for counting.
    """

    reason: str


ReadResult: TypeAlias = ReadTree | Filtered


class MissingFieldError(DataError):
    """A row does not have a field that its reader needs.

    field: the name that the reader has for it.
    """

    def __init__(self, field: str, column: str, names: str) -> None:
        super().__init__(f"field {column!r} is missing", advice=f"the row has {names}")
        self.field = field


class Settings(NamedTuple):
    """The settings of a reader in one source.

    columns: field name of the reader -> column of the data.
    options: every option of the reader with its value.
    key: of the source in the recipe, for the advice of messages; see ``sources.setting_words``.
    """

    columns: Mapping[str, str]
    options: Mapping[str, Any]
    key: str = ""

    def words(self, option: str, value: str) -> str:
        """What to do to give an option another value: ``append data.sources.0.options.empty=drop``."""
        return option_words(self.key, option, value)


class Option(NamedTuple):
    """An option of a reader.

    default: its value where the recipe gives none.
    allows: whether a value is valid.
    expected: the valid values in words, for messages.
    """

    default: Any
    allows: Callable[[Any], bool]
    expected: str


Contents: TypeAlias = Mapping[str, "Contents | None"]
"""What is read of an object, or of every object of a list: key -> what is read of its value; None for all of it."""


@dataclass(frozen=True, slots=True)
class Reader:
    """How rows of one format become trees.

    read: the function; it is given the settings and the value of a row.
    columns: the fields that it reads.
    options: its options by name.
    group: the field by whose value rows are grouped; ``read`` is then given a ``RowGroup`` instead of an object.
    inner: for fields with objects in them what is read of these; of all other fields everything is read.
    keys: those of ``columns`` that are keys of a message, and not columns of a row.
    also: columns that it reads and that have no other name.
    refused: what a column that it does not read may not hold.
    system: whether a column with what the system says becomes the first message.
    needed: the fields that every row has.
    """

    read: Callable[[Settings, Any], ReadResult]
    columns: tuple[str, ...]
    options: Mapping[str, Option]
    group: str | None = None
    inner: Mapping[str, Contents] = field(default_factory=dict)
    keys: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    refused: tuple[Meaning, ...] = REFUSED
    system: bool = True
    needed: tuple[str, ...] = ()


def flag(default: bool) -> Option:
    """An option that is true or false."""
    return Option(default, lambda value: isinstance(value, bool), "true or false")


def choice(default: str, *others: str) -> Option:
    """An option that is one of a few words."""
    words = (default, *others)
    return Option(default, lambda value: value in words, " or ".join((", ".join(words[:-1]), words[-1])))


def whole_number(default: int) -> Option:
    """An option that is a whole number from 0."""
    return Option(default, lambda value: type(value) is int and value >= 0, "a whole number from 0")


def text_list(default: tuple[str, ...] | None) -> Option:
    """An option that is a list of texts, or null."""
    return Option(default, _is_text_list, "a list of texts, or null")


def _is_text_list(value: Any) -> bool:
    return value is None or (isinstance(value, list | tuple) and all(isinstance(item, str) for item in value))


EMPTY = choice("error", "drop")


def find_value(row: Mapping[str, Any], column: str) -> tuple[bool, Any]:
    """Whether a column exists, and its value. ``a.b`` is ``b`` in the object ``a``, unless a column has that name."""
    if column in row:
        return True, row[column]
    value: Any = row
    for part in column.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return False, None
        value = value[part]
    return True, value


def required(settings: Settings, row: Mapping[str, Any], name: str) -> Any:
    """The value of a field that must exist. Raises DataError."""
    column = settings.columns[name]
    found, value = find_value(row, column)
    if not found:
        raise MissingFieldError(name, column, field_names(row))
    return value


def field_names(row: Mapping[str, Any]) -> str:
    """The names of the fields of a row, for messages."""
    return ", ".join(sorted(map(str, row))[:12]) or "no fields"


def text_of(settings: Settings, row: Mapping[str, Any], name: str) -> str:
    """The text of a field that must exist; it may be empty, see ``find_empty``. Raises DataError."""
    return as_text(required(settings, row, name), f"field {settings.columns[name]!r}")


def optional_text_of(settings: Settings, row: Mapping[str, Any], name: str) -> str:
    """The text of a field, empty if it is missing or null. Raises DataError."""
    _, value = find_value(row, settings.columns[name])
    return "" if value is None else as_text(value, f"field {settings.columns[name]!r}")


def number_of(settings: Settings, row: Mapping[str, Any], name: str) -> float:
    """The number of a field that must exist. Raises DataError."""
    return as_number(required(settings, row, name), f"field {settings.columns[name]!r}")


def optional_number_of(settings: Settings, row: Mapping[str, Any], name: str) -> float | None:
    """The number of a field, or None if it is missing or null. Raises DataError."""
    _, value = find_value(row, settings.columns[name])
    return None if value is None else as_number(value, f"field {settings.columns[name]!r}")


def objects_of(settings: Settings, row: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """The list of objects of a field that must exist and not be empty. Raises DataError."""
    value, column = required(settings, row, name), settings.columns[name]
    if not isinstance(value, list) or not value:
        found = "empty" if value == [] else f"{type_name(value)}, not a list of objects"
        raise DataError(f"field {column!r} is {found}")
    for index, item in enumerate(value):
        if not isinstance(item, dict):
            raise DataError(f"{column}[{index}] is {type_name(item)}, not an object")
    return value


def as_number(value: Any, what: str) -> float:
    """``value`` as a float if it is a finite number. what: its name in the message. Raises DataError."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DataError(
            f"{what} is {type_name(value)}, not a number", advice="nothing is converted; write a JSON number"
        )
    if abs(value) > 1e300 or not math.isfinite(value):
        raise DataError(f"{what} is not a finite number of a usual size")
    return float(value)


def as_text(value: Any, what: str) -> str:
    """``value`` if it is text; nothing is converted. what: its name in the message. Raises DataError."""
    if not isinstance(value, str):
        raise DataError(
            f"{what} is {type_name(value)}, not text", advice="only plain text is read; nothing is converted"
        )
    return value


def find_empty(settings: Settings, values: Mapping[str, str]) -> Filtered | None:
    """The result of a row in which one of the named texts is empty or white space, or None if none is.

    Raises DataError unless the option ``empty`` says that such rows are dropped.
    """
    for name, value in values.items():
        if not value.strip():
            if settings.options["empty"] == "drop":
                return Filtered(f"empty {name}")
            advice = f"fix the record, or {settings.words('empty', 'drop')}"
            raise DataError(f"field {settings.columns[name]!r} is empty", advice=advice)
    return None
