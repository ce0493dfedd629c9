"""Rows that make one record are grouped, for readers that build one tree from several rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tunesmith.data.readers.reader import find_value
from tunesmith.data.sources.rows import PlainRow, RowGroup, SourceRow
from tunesmith.data.sources.strict_json import type_name
from tunesmith.errors import DataError


def find_group(row: Mapping[str, Any], column: str) -> str:
    """The text or whole number in the column by which records are grouped, as text. Raises DataError."""
    found, value = find_value(row, column)
    if (isinstance(value, str) and value) or type(value) is int:
        return str(value)
    what = "missing" if not found else "empty" if value == "" else f"{type_name(value)}, not text"
    raise DataError(f"field {column!r} is {what}", advice="records are grouped by it; see group of the data source")


def group_rows(rows: Iterable[PlainRow | DataError], column: str) -> Iterator[SourceRow[RowGroup] | DataError]:
    """The rows of a source grouped by the text in ``column``, groups and rows in the order of first appearance.

    The rows of one group may be anywhere in the source, so all rows are held in memory until the last was read;
    ``share`` is then the fraction of the groups that were yielded. The error of a single row is yielded at once, as is
    that of a row whose column is missing or not text.
    """
    groups: dict[str, tuple[list[Mapping[str, Any]], list[str]]] = {}
    for row in rows:
        if isinstance(row, DataError):
            yield row
            continue
        found, key = find_value(row.value, column)
        if not isinstance(key, str) or not key:
            what = "missing" if not found else "empty" if key == "" else f"{type_name(key)}, not text"
            advice = "the rows of one record have the same text there; name the right field under fields"
            yield DataError(f"field {column!r} is {what}", where=row.place, advice=advice)
            continue
        values, places = groups.setdefault(key, ([], []))
        values.append(row.value)
        places.append(row.place)
    count = len(groups)
    for number, key in enumerate(list(groups), start=1):
        values, places = groups.pop(key)
        yield SourceRow(places[0], RowGroup(tuple(values), tuple(places)), number / count)
