"""Rows that belong together are handed on together, for readers that put one tree together from several rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tunesmith.data.readers.reader import Group, look
from tunesmith.data.sources.source import Row
from tunesmith.data.sources.strict_json import kind
from tunesmith.errors import DataError


@dataclass(frozen=True, slots=True)
class GroupedRows:
    """place: of the first row. share: part of the groups that are handed on so far."""

    place: str
    value: Group
    share: float


def grouped(entries: Iterable[Row | DataError], column: str) -> Iterator[GroupedRows | DataError]:
    """The rows of a source put together by the text in ``column``, groups and rows in the order of first appearance.

    Rows of one group may stand anywhere, so all rows of the source are held in memory until the last was read. What is
    wrong with a single row is handed on at once, as is a row whose column is missing or not text.
    """
    groups: dict[str, tuple[list[Mapping[str, Any]], list[str]]] = {}
    for entry in entries:
        if isinstance(entry, DataError):
            yield entry
            continue
        found, key = look(entry.value, column)
        if not isinstance(key, str) or not key:
            what = "missing" if not found else "empty" if key == "" else f"{kind(key)}, not text"
            advice = "rows that belong together have the same text there; name the right field under fields"
            yield DataError(f"field {column!r} is {what}", where=entry.place, advice=advice)
            continue
        rows, places = groups.setdefault(key, ([], []))
        rows.append(entry.value)
        places.append(entry.place)
    count = len(groups)
    for number, key in enumerate(list(groups), start=1):
        rows, places = groups.pop(key)
        yield GroupedRows(places[0], Group(tuple(rows), tuple(places)), number / count)
