"""`tunesmith preferences`: any preference dataset becomes one file of pairs, for the reader ``preference``.

A line is ``{"chosen": [{"role", "content"}, ..], "rejected": [..], "source", "margin"}``: both lists have the prompt
and end with a reply; ``margin`` exists where both replies have a score. Every two replies to one message that have
different ranks make a pair. What is drawn, and the order of a shuffle, follow from a seed and the content alone.
"""

from __future__ import annotations

import json
import tempfile
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from tunesmith.apps.preference_pairs import PreferencePair, pair_line, pairs_of, strip_pair
from tunesmith.data.dataset.faults import STRICT, FaultLog, RowFault
from tunesmith.data.dataset.report import reasons
from tunesmith.data.readers.pipeline import Pipeline
from tunesmith.data.readers.prompts import prompt_key
from tunesmith.data.readers.reader import Filtered, ReadTree, find_value
from tunesmith.data.readers.registry import READERS, open_reader, purpose
from tunesmith.data.readers.source_config import SourceConfig
from tunesmith.data.sources.rows import PlainRow
from tunesmith.data.sources.source import OpenedSource, find_source, read_rows
from tunesmith.draws import shuffle_key
from tunesmith.errors import DataError, InternalError, MissingInputError, UsageError
from tunesmith.files import check_no_input, new_file

# Defaults of the options that a reader has and the caller does not give: what is left out is counted.
LENIENT: Mapping[str, Any] = {"empty": "drop", "on_equal": "drop", "keep": "rankings"}

ColumnValues = Mapping[str, frozenset[str]]


@dataclass(frozen=True, slots=True)
class PairSelection:
    """Which rows become pairs, which pairs are written, and in which order.

    where: column -> texts, of which a row must have one in that column.
    where_not: column -> texts that a row must not have in that column.
    only: keys of the prompts (``readers.prompts.prompt_key``) that are kept; None for all.
    without: keys of the prompts that are left out.
    clean: strip white space from both ends of all texts, and leave out messages that are then empty.
    shuffle: a seed, or None for the order of the sources.
    limit: the most pairs, the first in that order; None for all.
    """

    where: ColumnValues = field(default_factory=dict)
    where_not: ColumnValues = field(default_factory=dict)
    only: frozenset[bytes] | None = None
    without: frozenset[bytes] = frozenset()
    clean: bool = True
    shuffle: int | None = None
    limit: int | None = None


@dataclass(slots=True)
class PairCounts:
    """Counts of one source: records = used + rejected + bad.

    records: rows, or groups of rows.
    used: records that have at least one pair.
    bad: records that cannot be used.
    pairs: of the used records.
    rejected: records without pairs, by reason.
    dropped: messages and pairs that were left out of used records, by reason.
    """

    records: int = 0
    used: int = 0
    bad: int = 0
    pairs: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)

    def reject(self, reason: str) -> None:
        """Count a record without pairs."""
        self.records += 1
        self.rejected[reason] += 1

    def as_json(self) -> dict[str, Any]:
        """The counts as plain values."""
        plain: dict[str, Any] = {name: getattr(self, name) for name in ("records", "used", "bad", "pairs")}
        return plain | {name: dict(getattr(self, name).most_common()) for name in ("rejected", "dropped")}


@dataclass(frozen=True, slots=True)
class PairReport:
    """What became of all records.

    sources: the counts of every source by its name.
    written: pairs in the file.
    """

    sources: Mapping[str, PairCounts]
    written: int

    @property
    def over_limit(self) -> int:
        """Pairs that the limit left out."""
        return sum(counts.pairs for counts in self.sources.values()) - self.written

    def as_json(self) -> dict[str, Any]:
        """The report as plain values."""
        sources = {name: counts.as_json() for name, counts in self.sources.items()}
        return {"written": self.written, "over_limit": self.over_limit, "sources": sources}


def build_preferences(
    configs: Sequence[SourceConfig], output: Path, selection: PairSelection, max_bad: int = 0
) -> PairReport:
    """Write the pairs of all sources, in their order, to a new file that appears when it is complete.

    Rows are read one by one, but a reader that groups rows holds those of its source in memory.

    configs: the sources.
    output: the file.
    selection: which pairs are written.
    max_bad: how many records may be unusable.

    Raises UsageError (a source without rankings, or one that is the output), DataError (more bad records than that,
    with the first 20 places), MissingInputError (no pair at all), RecipeError, StorageError.
    """
    lenient = [_lenient(config, selection) for config in configs]
    found = [find_source(config.path, config.split, config.config, config.key) for config in lenient]
    for source in found:
        check_no_input(output, [file.path for file in source.files])
    counts = {config.name: PairCounts() for config in configs}
    faults = FaultLog(STRICT)
    lines = (
        line
        for config, source in zip(lenient, found, strict=True)
        for line in _lines(config, source, selection, counts[config.name], faults)
    )
    return write_pairs(lines, counts, output, selection, faults, max_bad)


def write_pairs(
    lines: Iterable[bytes],
    counts: Mapping[str, PairCounts],
    output: Path,
    selection: PairSelection,
    faults: FaultLog,
    max_bad: int = 0,
) -> PairReport:
    """Write the lines in the selected order to a new file that appears when it is complete.

    counts, faults: of every source; they grow while the lines are read.
    Raises as ``build_preferences`` does.
    """
    with new_file(output) as file:
        written = _write(lines, file, output.parent, selection)
        if faults.kinds.total() > max_bad:
            faults.check(sum(count.records for count in counts.values()))
        report = PairReport(counts, written)
        _check(report)
    return report


def _lenient(config: SourceConfig, selection: PairSelection) -> SourceConfig:
    """The source with lenient defaults of its options. Raises RecipeError, or UsageError where it gives no rankings."""
    open_reader(config.reader, config.fields, config.options, where=config.path)
    known = READERS[config.reader].options
    defaults = {**LENIENT, "clean": selection.clean}
    options = {key: value for key, value in defaults.items() if key in known} | dict(config.options)
    if (what := purpose(config.reader, options)) != "rankings":
        settings = " with these options" if {"keep", "replies"} & {*known} else ""
        advice = "change its options" if settings else "`tunesmith schema` lists the readers"
        raise UsageError(
            f"reader {config.reader} gives {what}{settings} instead of pairs", where=config.path, advice=advice
        )
    return replace(config, options=options)


def _lines(
    config: SourceConfig, source: OpenedSource, selection: PairSelection, counts: PairCounts, faults: FaultLog
) -> Iterator[bytes]:
    """The pairs of one source as lines of JSON."""
    for result in Pipeline(config).read_all(_selected(read_rows(source), selection, counts)):
        if isinstance(result, DataError):
            counts.records, counts.bad = counts.records + 1, counts.bad + 1
            faults.add([RowFault(result.what, result.where, result.advice)])
        elif isinstance(result, Filtered):
            counts.reject(result.reason)
        else:
            pairs = count_pairs(result, selection, counts)
            yield from (pair_line(pair, config.name) for pair in pairs)


def _selected(
    rows: Iterable[PlainRow | DataError], selection: PairSelection, counts: PairCounts
) -> Iterator[PlainRow | DataError]:
    """The rows that are selected by their columns; the others are counted."""
    for row in rows:
        reason = "" if isinstance(row, DataError) else _column_reason(row.value, selection)
        if reason:
            counts.reject(reason)
        else:
            yield row


def _column_reason(row: Mapping[str, Any], selection: PairSelection) -> str:
    """Why a row is not selected by its columns, or an empty text."""
    for values, expected in ((selection.where, True), (selection.where_not, False)):
        for column, texts in values.items():
            _, value = find_value(row, column)
            text = value if isinstance(value, str) else json.dumps(value, default=str)
            if (text in texts) != expected:
                return f"{column} is not wanted"
    return ""


def count_pairs(result: ReadTree, selection: PairSelection, counts: PairCounts) -> list[PreferencePair]:
    """The pairs of a record that are selected; the record and what is left out of it are counted."""
    pairs: list[PreferencePair] = []
    left_out: Counter[str] = Counter()
    for pair in pairs_of(result.tree):
        clean = strip_pair(pair) if selection.clean else pair
        reason = clean if isinstance(clean, str) else _prompt_reason(clean, selection)
        if reason:
            left_out[reason] += 1
        elif isinstance(clean, PreferencePair):
            pairs.append(clean)
    if not pairs:
        counts.reject(next(iter(left_out), "no reply is better than another"))
        return []
    counts.records, counts.used, counts.pairs = counts.records + 1, counts.used + 1, counts.pairs + len(pairs)
    counts.dropped.update(left_out)
    counts.dropped.update(result.dropped)
    return pairs


def _prompt_reason(pair: PreferencePair, selection: PairSelection) -> str:
    """Why a pair is not selected by its prompt, or an empty text."""
    if selection.only is None and not selection.without:
        return ""
    key = prompt_key(pair.prompt)
    if key in selection.without:
        return "prompt is in the list"
    return "prompt is not in the list" if selection.only is not None and key not in selection.only else ""


def _write(lines: Iterable[bytes], file: BinaryIO, directory: Path, selection: PairSelection) -> int:
    """Write lines in the selected order and return how many. All lines are consumed, so that all are counted."""
    limit, written = selection.limit, 0
    for line in lines if selection.shuffle is None else _shuffled(lines, selection.shuffle, directory):
        if limit is None or written < limit:
            file.write(line)
            written += 1
    return written


def _shuffled(lines: Iterable[bytes], seed: int, directory: Path) -> Iterator[bytes]:
    """Lines in the order of a hash of seed and line, through a temporary file: only 16 bytes of each are in memory."""
    keys, ends = array("Q"), array("Q", [0])
    with tempfile.TemporaryFile(dir=directory) as heap:
        for line in lines:
            heap.write(line)
            ends.append(ends[-1] + len(line))
            keys.append(shuffle_key(seed, line))
        for index in np.argsort(np.frombuffer(keys, dtype=np.uint64), kind="stable").tolist():
            heap.seek(ends[index])
            yield heap.read(ends[index + 1] - ends[index])


def _check(report: PairReport) -> None:
    """Raises InternalError if a record was lost, MissingInputError if there is no pair."""
    for name, counts in report.sources.items():
        if counts.records != counts.used + counts.rejected.total() + counts.bad:
            raise InternalError(f"the counts of {name} do not add up: {counts.as_json()}")
    if not report.written:
        records = sum(counts.records for counts in report.sources.values())
        rejected = sum((counts.rejected for counts in report.sources.values()), Counter[str]())
        raise MissingInputError(
            f"there are no pairs in {records:,} records ({reasons(rejected)})",
            advice="check the reader, its options and what is selected",
        )
