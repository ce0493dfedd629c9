"""The trees of a recipe's sources once more, as messages: for proofs and statistics that token trees no longer allow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from tunesmith.data.filters import filtered
from tunesmith.data.groups import GroupedRows, grouped
from tunesmith.data.readers import group_column, open_reader
from tunesmith.data.reading import Pruned, Rejected
from tunesmith.data.sources import Row, SourceSpec, entries, find_source
from tunesmith.errors import DataError
from tunesmith.text.tree import Tree


def read_trees(sources: Sequence[SourceSpec], most: int | None = None) -> Iterator[Tree]:
    """Every tree that readers and filters make of the sources, in order; of each source at most ``most``.

    Rows that are wrong or turned away are passed over: preparing the data has counted them.
    Raises what makes reading on pointless: MissingInputError, or DataError for a whole file.
    """
    for spec in sources:
        read = open_reader(spec.reader, spec.fields, spec.options, where=f"data source {spec.name}")
        found = 0
        for entry in _entries(spec):
            if found == most:
                break
            if isinstance(entry, DataError):
                continue
            try:
                outcome = filtered(read(entry.value), spec.filters)
            except DataError:
                continue
            if isinstance(outcome, Rejected):
                continue
            found += 1
            tree = outcome.tree if isinstance(outcome, Pruned) else outcome
            yield replace(tree, place=entry.place, source=spec.name)


def _entries(spec: SourceSpec) -> Iterator[Row | GroupedRows | DataError]:
    """The rows of a source, put together if its reader wants that."""
    column, found = group_column(spec.reader, spec.fields), entries(find_source(spec))
    return found if column is None else grouped(found, column)
