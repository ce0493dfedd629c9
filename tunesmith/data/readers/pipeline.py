"""The trees of a recipe's sources once more, as messages: for proofs and statistics that token trees no longer allow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice

from tunesmith.data.readers.filters import filtered
from tunesmith.data.readers.groups import grouped
from tunesmith.data.readers.reader import Pruned, Rejected
from tunesmith.data.readers.registry import group_column, open_reader
from tunesmith.data.readers.source_config import SourceConfig
from tunesmith.data.sources.source import entries, find_source
from tunesmith.errors import DataError
from tunesmith.text.tokens.prompts import NO_USER, make_prompt_tree
from tunesmith.text.tree import Tree


def read_trees(sources: Sequence[SourceConfig], most: int | None = None) -> Iterator[Tree]:
    """Every tree that readers and filters leave of the sources, in order; of each source at most ``most``.

    Rows that are wrong or turned away are passed over: preparing the data has counted them.
    Raises what makes reading on pointless: MissingInputError, or DataError for a whole file.
    """
    for spec in sources:
        trees = (outcome for outcome in outcomes(spec) if isinstance(outcome, Tree))
        for tree in islice(trees, most):
            yield replace(tree, source=spec.name)


def outcomes(spec: SourceConfig) -> Iterator[Tree | Rejected | DataError]:
    """What becomes of every row of a source, or group of rows, in order; errors have their place. Raises as ``read_trees``."""
    read = open_reader(spec.reader, spec.fields, spec.options, where=f"data source {spec.name}")
    column = group_column(spec.reader, spec.fields)
    found = entries(find_source(spec.path, spec.split))
    for entry in found if column is None else grouped(found, column):
        if isinstance(entry, DataError):
            yield entry
            continue
        try:
            outcome = filtered(read(entry.value), spec.filters)
        except DataError as error:
            yield DataError(error.what, where=error.where or entry.place, advice=error.advice)
            continue
        if isinstance(outcome, Rejected):
            yield outcome
            continue
        tree = outcome.tree if isinstance(outcome, Pruned) else outcome
        asked = tree if spec.prompts is None else make_prompt_tree(tree, spec.prompts)
        yield Rejected(NO_USER) if asked is None else replace(asked, place=entry.place)
