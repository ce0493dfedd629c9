"""The row: what every source yields and every reader is given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar


class RowGroup(NamedTuple):
    """Several rows that make one record.

    rows: the objects, in the order of the source.
    places: where each was read, for messages.
    """

    rows: tuple[Mapping[str, Any], ...]
    places: tuple[str, ...]


Value = TypeVar("Value", covariant=True)


@dataclass(frozen=True, slots=True)
class SourceRow(Generic[Value]):
    """One record of a source, as a reader is given it.

    place: where it (or the first row of a group) was read: ``file.jsonl:12``, ``file.json:12[37]`` (line from 1, index
        in the list from 0), ``file.parquet:row 12``, ``name[train]:row 12``.
    value: the object, or a ``RowGroup``.
    share: the fraction of the source that has been read so far, 0 to 1.
    """

    place: str
    value: Value
    share: float


PlainRow: TypeAlias = SourceRow[Mapping[str, Any]]
AnyRow: TypeAlias = SourceRow[Mapping[str, Any] | RowGroup]
