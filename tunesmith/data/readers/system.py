"""What the system says, where the data have it as a column of the row and not as a message."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tunesmith.data.readers.meanings import NAMES, holds_something
from tunesmith.data.readers.reader import Filtered, ReadResult, ReadTree, as_text, find_value
from tunesmith.errors import DataError
from tunesmith.text.tree import Message

SYSTEM = "system"


def system_columns(column: str) -> tuple[str, ...]:
    """The columns that may hold it. column: by the recipe; unless it has another name there, any usual name counts."""
    return NAMES["system"] if column == SYSTEM else (column,)


def add_system(result: ReadResult, rows: Sequence[Mapping[str, Any]], column: str) -> ReadResult:
    """The tree with the system's text of its rows as the first message.

    rows: those that make the record.
    column: the name of the field ``system`` in the data.
    Raises DataError where two columns, two rows, or a column and the first message differ.
    """
    if isinstance(result, Filtered):
        return result
    found: dict[str, str] = {}  # text -> the column that has it
    for row in rows:
        for name in system_columns(column):
            _, value = find_value(row, name)
            if holds_something(value):
                found.setdefault(as_text(value, f"field {name!r}"), name)
    if not found:
        return result
    text, name = next(iter(found.items()))
    if len(found) > 1:
        where = " and ".join(repr(other) for other in dict.fromkeys(found.values()))
        raise DataError(f"field {where} has two different texts of the system", advice="a record has one; keep one")
    return _with_system(result, text, name)


def _with_system(result: ReadTree, text: str, name: str) -> ReadTree:
    first = result.tree.messages[0]
    if first.role == "system":
        if first.text.strip() != text.strip():
            what = f"field {name!r} differs from the first message, which is of the system, too"
            raise DataError(what, advice=f"keep one of the two; ignore: [{name}] in the data source leaves it out")
        return result
    tree = replace(
        result.tree,
        # The definitions of tools belong to the first message, whatever it is.
        messages=(Message("system", text, tools=first.tools), replace(first, tools=""), *result.tree.messages[1:]),
        parents=(-1, *(parent + 1 for parent in result.tree.parents)),
    )
    return replace(result, tree=tree)
