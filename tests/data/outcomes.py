"""Short ways to read rows and to say what came of them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tunesmith.data.readers.pipeline import Pipeline
from tunesmith.data.readers.reader import Filtered, ReadResult, ReadTree
from tunesmith.data.readers.registry import open_reader
from tunesmith.data.readers.source_config import SourceConfig
from tunesmith.data.sources.rows import RowGroup
from tunesmith.data.sources.source import rows
from tunesmith.errors import DataError
from tunesmith.text.tree import Tree


def read(reader: str, row: Any, fields: dict[str, str] | None = None, **options: Any) -> ReadResult:
    return open_reader(reader, fields or {}, options)(row)


def group(values: Sequence[dict[str, Any]], place: str = "f.jsonl") -> RowGroup:
    """Rows as they are in a file, one a line."""
    return RowGroup(tuple(values), tuple(f"{place}:{line}" for line in range(1, len(values) + 1)))


def tree_of(result: ReadResult) -> Tree:
    assert isinstance(result, ReadTree), result
    return result.tree


def whole_tree_of(result: ReadResult) -> Tree:
    """The tree of a row of which nothing was dropped."""
    assert isinstance(result, ReadTree), result
    assert not result.dropped
    return result.tree


def says(result: ReadResult) -> list[list[str]]:
    """The texts of every thread; none of a row that was filtered."""
    if isinstance(result, Filtered):
        return []
    tree = result.tree
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
    pipeline = Pipeline(SourceConfig("data", str(path), reader, fields=fields or {}, options=options))
    total, trees, rejected, dropped = 0, list[Tree](), Counter[str](), Counter[str]()
    faults = 0
    for result in pipeline.read_all(rows(str(path))):
        total += 1
        if isinstance(result, DataError):
            faults += 1
        elif isinstance(result, Filtered):
            rejected[result.reason] += 1
        else:
            dropped.update(result.dropped)
            trees.append(result.tree)
    threads = sum(1 for tree in trees for _ in tree.threads())
    messages = sum(len(tree.messages) for tree in trees)
    return Counts(total, len(trees), threads, messages, dict(rejected), dict(dropped), faults)


def write_rows(path: Path, values: Sequence[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(value) + "\n" for value in values), encoding="utf-8")
    return path


def chat(*texts: str) -> list[dict[str, str]]:
    """Messages in OpenAI's form, of user and assistant in turn."""
    return [{"role": "user" if index % 2 == 0 else "assistant", "content": text} for index, text in enumerate(texts)]
