"""The readers by name. A reader is a small function that turns a row into a tree of messages, or filters it.

Texts are taken as they are: nothing is stripped, repaired or converted unless an option asks for it. For a row that it
cannot use, a reader raises a DataError that names the field; the caller adds the place.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Literal

from tunesmith.data.readers.comparisons import COMPARISONS
from tunesmith.data.readers.conversations import CONVERSATIONS
from tunesmith.data.readers.instructions import INSTRUCTIONS
from tunesmith.data.readers.meanings import check_meanings
from tunesmith.data.readers.missing_fields import check_fields
from tunesmith.data.readers.oasst_forms import OASST
from tunesmith.data.readers.pairs import PAIRS
from tunesmith.data.readers.prompts import PROMPTS
from tunesmith.data.readers.rankings import RANKINGS
from tunesmith.data.readers.reader import Contents, MissingFieldError, Reader, ReadResult, Settings
from tunesmith.data.readers.system import SYSTEM, add_system, system_columns
from tunesmith.data.readers.unread import add_column, find_unread, read_contents, without
from tunesmith.data.sources.rows import RowGroup
from tunesmith.errors import DataError, RecipeError

READERS: dict[str, Reader] = {
    name: replace(reader, columns=(*reader.columns, SYSTEM)) if reader.system else reader
    for readers in (INSTRUCTIONS, CONVERSATIONS, OASST, PAIRS, RANKINGS, COMPARISONS, PROMPTS)
    for name, reader in readers.items()
}
"""Every reader. Those of conversations have the field ``system`` in common."""

Purpose = Literal["demonstrations", "rankings", "prompts"]
PURPOSE_OF_KEEP: Mapping[str, Purpose] = {"threads": "demonstrations", "rankings": "rankings", "prompts": "prompts"}


def open_reader(
    name: str,
    fields: Mapping[str, str],
    options: Mapping[str, Any],
    *,
    ignore: Collection[str] = (),
    where: str | None = None,
    key: str = "",
) -> Callable[[Any], ReadResult]:
    """The function that reads the rows of one source.

    It refuses a row in which something holds a part of the conversation and is not read (``meanings``).

    name: a key of ``READERS``.
    fields: field name of the reader -> column of the data.
    options: options of the reader; the others have their defaults.
    ignore: columns and message keys (``messages[].id``) that are left out on purpose, whatever they hold.
    where: the source, for messages.
    key: of the source in the recipe, for messages.
    Returns a function of an object, or of a ``RowGroup`` if ``group_column`` names a column.
    Raises RecipeError for an unknown reader, field or option, or a value that the option does not allow.
    """
    if name not in READERS:
        raise RecipeError(f"there is no reader {name!r}", where=where, advice=f"known are {', '.join(READERS)}")
    reader = READERS[name]
    for _, what, advice in find_setting_problems(name, fields, options):
        raise RecipeError(what, where=where, advice=advice)
    columns = {column: fields.get(column, column) for column in reader.columns}
    settings = Settings(columns, _values(name, options), key)
    return partial(_read, name, settings, contents_of(name, fields), frozenset(ignore))


def find_setting_problems(
    name: str, fields: Mapping[str, str], options: Mapping[str, Any]
) -> Iterator[tuple[str, str, str]]:
    """(key, what is wrong, advice) of every field or option that a reader does not have or a value that it refuses."""
    reader = READERS[name]
    for given, known, what in ((fields, reader.columns, "fields"), (options, reader.options, "options")):
        for key in given:
            if key not in known:
                yield f"{what}.{key}", f"reader {name} has no {what}.{key}", f"it has {', '.join(known) or 'none'}"
    for key, value in options.items():
        if key in reader.options and not reader.options[key].allows(value):
            expected = reader.options[key].expected
            yield f"options.{key}", f"options.{key} of reader {name} is {value!r}", f"it must be {expected}"


def contents_of(name: str, fields: Mapping[str, str]) -> Contents:
    """What a reader reads of a row of one source, under the names that the data have."""
    reader = READERS[name]
    columns = {column: fields.get(column, column) for column in reader.columns}
    contents = dict(read_contents(reader, columns))
    if reader.system:
        for column in system_columns(columns[SYSTEM]):
            add_column(contents, column)
    return contents


def _read(name: str, settings: Settings, contents: Contents, ignored: Collection[str], value: Any) -> ReadResult:
    """The result of a row or a group of rows. Raises DataError."""
    reader = READERS[name]
    group = value if isinstance(value, RowGroup) else RowGroup((value,), ("",))
    group = RowGroup(tuple(without(row, contents, ignored) for row in group.rows), group.places)
    for row, place in zip(group.rows, group.places, strict=True):
        try:
            check_fields(reader.needed, settings, row)
            check_meanings(find_unread(row, contents), reader.refused, name)
        except DataError as error:
            raise DataError(error.what, where=place or None, advice=error.advice) from None
    try:
        result = reader.read(settings, group if isinstance(value, RowGroup) else group.rows[0])
    except MissingFieldError as error:
        check_fields((error.field,), settings, group.rows[0])
        raise
    return add_system(result, group.rows, settings.columns[SYSTEM]) if reader.system else result


def group_column(name: str, fields: Mapping[str, str]) -> str | None:
    """The column of the data by which a reader wants rows grouped, or None if it reads single rows."""
    group = READERS[name].group
    return None if group is None else fields.get(group, group)


def purpose(name: str, options: Mapping[str, Any]) -> Purpose:
    """What the trees of a reader are used for: replies to imitate, replies to compare, or prompts alone.

    It follows from the options ``replies`` (all, pair, best) and ``keep`` (threads, rankings, prompts) of the reader.
    """
    if name in PROMPTS:
        return "prompts"
    values = _values(name, options)
    if "keep" in values:
        return PURPOSE_OF_KEEP.get(values["keep"], "demonstrations")
    return "rankings" if values.get("replies", "best") != "best" else "demonstrations"


def _values(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Every option of a reader with its value."""
    return {key: options.get(key, option.default) for key, option in READERS[name].options.items()}
