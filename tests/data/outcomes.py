"""Short ways to read rows and to say what came of them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tunesmith.data.readers.groups import GroupedRows, grouped
from tunesmith.data.readers.reader import Group, Outcome, Pruned, Rejected
from tunesmith.data.readers.registry import group_column, open_reader
from tunesmith.data.sources.source import Row, rows
from tunesmith.errors import DataError
from tunesmith.text.tree import Tree


def read(reader: str, row: Any, fields: dict[str, str] | None = None, **options: Any) -> Outcome:
    return open_reader(reader, fields or {}, options)(row)


def group(values: Sequence[dict[str, Any]], place: str = "f.jsonl") -> Group:
    """Rows as they stand in a file, one a line."""
    return Group(tuple(values), tuple(f"{place}:{line}" for line in range(1, len(values) + 1)))


def tree_of(outcome: Outcome) -> Tree:
    assert not isinstance(outcome, Rejected), outcome
    return outcome.tree if isinstance(outcome, Pruned) else outcome


def says(outcome: Outcome) -> list[list[str]]:
    """The texts of every thread; none of a row that was turned away."""
    if isinstance(outcome, Rejected):
        return []
    tree = tree_of(outcome)
    return [[tree.messages[index].text for index in path] for path in tree.threads()]


class Counts(NamedTuple):
    """What became of a file. rows: those of the reader, which may be groups."""

    rows: int
    trees: int
    threads: int
    messages: int
    rejected: dict[str, int]
    dropped: dict[str, int]
    faults: int = 0


def read_file(path: Path, reader: str, fields: dict[str, str] | None = None, **options: Any) -> Counts:
    """Every row of a real file. Raises DataError where one cannot be used and ``faults`` were not expected."""
    function = open_reader(reader, fields or {}, options)
    column = group_column(reader, fields or {})
    entries: Any = rows(str(path))
    total, trees, rejected, dropped = 0, list[Tree](), Counter[str](), Counter[str]()
    faults = 0
    for entry in entries if column is None else grouped(entries, column):
        assert isinstance(entry, Row | GroupedRows), entry
        total += 1
        try:
            outcome = function(entry.value)
        except DataError:
            faults += 1
            continue
        if isinstance(outcome, Rejected):
            rejected[outcome.reason] += 1
            continue
        if isinstance(outcome, Pruned):
            dropped.update(outcome.dropped)
        trees.append(tree_of(outcome))
    threads = sum(1 for tree in trees for _ in tree.threads())
    messages = sum(len(tree.messages) for tree in trees)
    return Counts(total, len(trees), threads, messages, dict(rejected), dict(dropped), faults)


def write_rows(path: Path, values: Sequence[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(value) + "\n" for value in values), encoding="utf-8")
    return path
