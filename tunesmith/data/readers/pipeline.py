"""From the rows of a source to its trees: grouping, reader, filters, prompts, and the place of every tree."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

from tunesmith.data.readers.filters import apply_filters
from tunesmith.data.readers.groups import find_group, group_rows
from tunesmith.data.readers.reader import Filtered, ReadResult, ReadTree
from tunesmith.data.readers.registry import contents_of, group_column, open_reader
from tunesmith.data.readers.source_config import SourceConfig
from tunesmith.data.readers.unread import add_column, find_unread, ignoring
from tunesmith.data.sources.rows import AnyRow, PlainRow, RowGroup
from tunesmith.data.sources.source import find_source, read_rows
from tunesmith.errors import DataError
from tunesmith.text.tokens.prompts import NO_USER, make_prompt_tree
from tunesmith.text.tree import Tree


class Pipeline:
    """Turns the rows of one source into trees.

    config: of the source.
    entries: of its filters and of ``ignore``, each with its key; ``find_matches`` finds those that occur.
    Raises RecipeError for an unknown reader, field or option.
    """

    def __init__(self, config: SourceConfig) -> None:
        self.config = config
        where = f"data source {config.name}"
        self._read = open_reader(
            config.reader, config.fields, config.options, ignore=config.ignore, where=where, key=config.key
        )
        self._contents = dict(contents_of(config.reader, config.fields))
        if config.group is not None:
            add_column(self._contents, config.group)
        self._contents = ignoring(self._contents, {name.replace("[]", "") for name in config.ignore})
        self._root_languages: tuple[str, ...] = tuple(config.options.get("lang") or ())
        self.entries: tuple[str, ...] = (
            *(f"options.lang {name}" for name in self._root_languages),
            *(f"filters.languages {name}" for name in config.filters.languages or ()),
            *(f"filters.labels {bounds.name}" for bounds in config.filters.labels),
            *(f"ignore {name}" for name in config.ignore),
        )

    def group(self, rows: Iterable[PlainRow | DataError]) -> Iterable[AnyRow | DataError]:
        """The rows as the reader is given them: as they are, or grouped by the column that it names."""
        column = group_column(self.config.reader, self.config.fields)
        return rows if column is None else group_rows(rows, column)

    def read(self, row: AnyRow) -> ReadResult:
        """The tree of a row, with the place of the row and the name of the source.

        Raises DataError with the place of the row.
        """
        try:
            result = apply_filters(self._read(row.value), self.config.filters)
        except DataError as error:
            raise DataError(error.what, where=error.where or row.place, advice=error.advice) from error
        if isinstance(result, Filtered):
            return result
        prompts = self.config.prompts
        tree = result.tree if prompts is None else make_prompt_tree(result.tree, prompts)
        if tree is None:
            return Filtered(NO_USER)
        found = replace(tree, place=row.place, source=self.config.name, group=self._group(row) or result.tree.group)
        return ReadTree(found, result.dropped)

    def _group(self, row: AnyRow) -> str:
        """The group of the record by the column that the recipe names, or an empty text. Raises DataError."""
        if self.config.group is None:
            return ""
        try:
            found = {find_group(value, self.config.group) for value in _rows(row)}
        except DataError as error:
            raise DataError(error.what, where=row.place, advice=error.advice) from None
        if len(found) > 1:
            what = f"the rows of one record differ in {self.config.group!r}, by which records are grouped"
            raise DataError(what, where=row.place, advice="name a column that they have in common")
        return found.pop()

    def find_matches(self, row: AnyRow, tree: Tree) -> set[str]:
        """Which of ``entries`` occur in a record that is used. tree: of the row."""
        if not self.entries:
            return set()
        languages = {message.lang for message in tree.messages}
        labels = {name for message in tree.messages for name in message.labels}
        found = {f"options.lang {tree.messages[0].lang}", *(f"filters.languages {name}" for name in languages)}
        found.update(f"filters.labels {name}" for name in labels)
        if self.config.ignore:
            found.update(f"ignore {name}" for name in self.find_unread(row))
        return found & {*self.entries}

    def find_unread(self, row: AnyRow) -> Iterator[str]:
        """The full names of the columns and message keys of a row that hold something and are not read."""
        for value in _rows(row):
            yield from (name for name, _, _ in find_unread(value, self._contents))

    def read_all(self, rows: Iterable[PlainRow | DataError]) -> Iterator[ReadResult | DataError]:
        """The result of every row or group of rows, in order. Errors of single rows are yielded, not raised."""
        for row in self.group(rows):
            if isinstance(row, DataError):
                yield row
                continue
            try:
                result = self.read(row)
            except DataError as error:
                yield error
                continue
            yield result


def _rows(row: AnyRow) -> Sequence[Mapping[str, Any]]:
    return row.value.rows if isinstance(row.value, RowGroup) else (row.value,)


def read_source(config: SourceConfig) -> Iterator[ReadResult | DataError]:
    """The result of every row or group of rows of a source, in order; errors have their place.

    Raises MissingInputError, or DataError for a whole file.
    """
    pipeline = Pipeline(config)
    yield from pipeline.read_all(read_rows(find_source(config.path, config.split, config.config, config.key)))


def read_trees(configs: Sequence[SourceConfig], limit: int | None = None) -> Iterator[Tree]:
    """Every tree of the sources, in order, for checks and statistics that token trees do not allow.

    Rows that are wrong or filtered are skipped: preparing the data has counted them.
    limit: the most trees of each source.
    Raises MissingInputError, or DataError for a whole file.
    """
    for config in configs:
        trees = (result.tree for result in read_source(config) if isinstance(result, ReadTree))
        yield from islice(trees, limit)
