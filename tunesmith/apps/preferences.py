"""Any data set with preferences becomes one file of pairs, in the one form that the reader ``preference`` reads.

A line is ``{"chosen": [{"role", "content"}, ..], "rejected": [..], "source", "margin"}``: both lists hold the prompt and
end with a reply; ``margin`` is there where both replies have a score. Every reply makes a pair with every reply to the same
message that has a worse rank. What is drawn, and the order of a shuffle, follow from a seed and the content alone.
"""

from __future__ import annotations

import json
import tempfile
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from tunesmith.data.dataset.faults import STRICT, Fault, Faults
from tunesmith.data.dataset.report import reasons
from tunesmith.data.readers.groups import GroupedRows, grouped
from tunesmith.data.readers.prompts import prompt_key
from tunesmith.data.readers.ranked import stripped
from tunesmith.data.readers.reader import Outcome, Pruned, Rejected, look
from tunesmith.data.readers.registry import READERS, group_column, open_reader, purpose
from tunesmith.data.readers.source_config import SourceConfig
from tunesmith.data.sources.source import OpenedSource, Row, entries, find_source
from tunesmith.draws import shuffle_key
from tunesmith.errors import DataError, InternalError, MissingInputError, UsageError
from tunesmith.files import new_file
from tunesmith.text.formats.format import with_context
from tunesmith.text.tree import Message, Tree

# What holds where a reader has the option and the caller is silent: what is left out is counted.
FORGIVING: Mapping[str, Any] = {"empty": "drop", "on_equal": "drop", "keep": "rankings"}

Values = Mapping[str, frozenset[str]]


class Pair(NamedTuple):
    """A prompt with a better and a worse reply."""

    prompt: Sequence[Message]
    chosen: Message
    rejected: Message


@dataclass(frozen=True, slots=True)
class Selection:
    """Which rows become pairs, and how.

    where: column -> texts of which a row must have one there. where_not: texts that it must not have. only, without: keys of
    prompts (``prompt_rows.prompt_key``) that are kept, or left out. clean: take white space off both ends of all texts, and
    leave out messages that are empty then. shuffle: a seed, or None for the order of the sources. limit: at most so many
    pairs, the first in that order.
    """

    where: Values = field(default_factory=dict)
    where_not: Values = field(default_factory=dict)
    only: frozenset[bytes] | None = None
    without: frozenset[bytes] = frozenset()
    clean: bool = True
    shuffle: int | None = None
    limit: int | None = None


@dataclass(slots=True)
class Counts:
    """Of one source: records = used + rejected (by reason) + bad; a record is used if at least one pair came of it.

    pairs: how many came of the used ones. dropped: messages and pairs that were left out of used records, by reason.
    """

    records: int = 0
    used: int = 0
    bad: int = 0
    pairs: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)

    def reject(self, reason: str) -> None:
        self.records += 1
        self.rejected[reason] += 1

    def as_json(self) -> dict[str, Any]:
        plain: dict[str, Any] = {name: getattr(self, name) for name in ("records", "used", "bad", "pairs")}
        return plain | {name: dict(getattr(self, name).most_common()) for name in ("rejected", "dropped")}


@dataclass(frozen=True, slots=True)
class Built:
    """What became of everything. written: pairs in the file; a limit left out the others."""

    sources: Mapping[str, Counts]
    written: int

    @property
    def over_limit(self) -> int:
        return sum(counts.pairs for counts in self.sources.values()) - self.written

    def as_json(self) -> dict[str, Any]:
        sources = {name: counts.as_json() for name, counts in self.sources.items()}
        return {"written": self.written, "over_limit": self.over_limit, "sources": sources}


def build_preferences(specs: Sequence[SourceConfig], output: Path, wanted: Selection, max_bad: int = 0) -> Built:
    """Write the pairs of all sources, in their order, to a new file that appears when it is complete.

    Rows are read one by one (a reader that puts rows together holds those of its source in memory). max_bad: rows that may
    be unusable. Raises UsageError (a source without rankings, or one that is the output), DataError (more bad rows than
    that, with the first 20 places), MissingInputError (no pair at all), RecipeError, StorageError.
    """
    readers = [_forgiving(spec, wanted) for spec in specs]
    found = [find_source(spec.path, spec.split) for spec in readers]
    for source in found:
        if any(file.path.resolve() == output.resolve() for file in source.files):
            raise UsageError("is a source and the output", where=output, advice="give --output another name")
    counts = {spec.name: Counts() for spec in specs}
    faults = Faults(STRICT)
    with new_file(output) as file:
        lines = (
            line
            for spec, source in zip(readers, found, strict=True)
            for line in _lines(spec, source, wanted, counts[spec.name], faults)
        )
        written = _write(lines, file, output.parent, wanted)
        if faults.kinds.total() > max_bad:
            faults.check(sum(count.records for count in counts.values()))
        built = Built(counts, written)
        _check(built)
    return built


def _forgiving(spec: SourceConfig, wanted: Selection) -> SourceConfig:
    """The source with the options of a builder. Raises RecipeError, or UsageError where it gives no rankings."""
    open_reader(spec.reader, spec.fields, spec.options, where=spec.path)
    known = READERS[spec.reader].options
    defaults = {**FORGIVING, "clean": wanted.clean}
    options = {key: value for key, value in defaults.items() if key in known} | dict(spec.options)
    if (what := purpose(spec.reader, options)) != "rankings":
        settings = " with these options" if {"keep", "replies"} & {*known} else ""
        advice = "its options say what it reads" if settings else "`tunesmith schema` names the readers"
        raise UsageError(f"reader {spec.reader} gives {what}{settings}, no pairs", where=spec.path, advice=advice)
    return replace(spec, options=options)


def _lines(
    spec: SourceConfig, source: OpenedSource, wanted: Selection, counts: Counts, faults: Faults
) -> Iterator[bytes]:
    """The pairs of one source as lines of JSON."""
    read = open_reader(spec.reader, spec.fields, spec.options, where=spec.path)
    column = group_column(spec.reader, spec.fields)
    rows = _selected(entries(source), wanted, counts)
    for entry in rows if column is None else grouped(rows, column):
        outcome = entry if isinstance(entry, DataError) else _outcome(read, entry)
        if isinstance(outcome, DataError):
            counts.records, counts.bad = counts.records + 1, counts.bad + 1
            faults.add([Fault(counts.records, 0, outcome.what, outcome.where, outcome.advice)])
        elif isinstance(outcome, Rejected):
            counts.reject(outcome.reason)
        else:
            pairs = _count(outcome, wanted, counts)
            yield from (pair_line(pair, spec.name) for pair in pairs)


def _outcome(read: Any, entry: Row | GroupedRows) -> Outcome | DataError:
    """What the reader makes of a row; a fault gets the place of the row."""
    try:
        outcome: Outcome = read(entry.value)
    except DataError as error:
        return DataError(error.what, where=error.where or entry.place, advice=error.advice)
    return outcome


def _selected(rows: Iterable[Row | DataError], wanted: Selection, counts: Counts) -> Iterator[Row | DataError]:
    """The rows whose columns hold what is wanted; the others are counted."""
    for row in rows:
        if isinstance(row, Row) and (reason := _unwanted(row.value, wanted)):
            counts.reject(reason)
        else:
            yield row


def _unwanted(row: Mapping[str, Any], wanted: Selection) -> str:
    for values, should in ((wanted.where, True), (wanted.where_not, False)):
        for column, texts in values.items():
            _, value = look(row, column)
            text = value if isinstance(value, str) else json.dumps(value, default=str)
            if (text in texts) != should:
                return f"{column} is not wanted"
    return ""


def _count(outcome: Tree | Pruned, wanted: Selection, counts: Counts) -> list[Pair]:
    """The pairs of a record that are left; the record and what is left out of it are counted."""
    tree, dropped = (outcome.tree, outcome.dropped) if isinstance(outcome, Pruned) else (outcome, {})
    pairs: list[Pair] = []
    left_out: Counter[str] = Counter()
    for pair in pairs_of(tree):
        clean = tidied(pair) if wanted.clean else pair
        if reason := clean if isinstance(clean, str) else _refused(clean, wanted):
            left_out[reason] += 1
        elif isinstance(clean, Pair):
            pairs.append(clean)
    if not pairs:
        counts.reject(next(iter(left_out), "no reply is better than another"))
        return []
    counts.records, counts.used, counts.pairs = counts.records + 1, counts.used + 1, counts.pairs + len(pairs)
    counts.dropped.update(left_out)
    counts.dropped.update(dropped)
    return pairs


def pairs_of(tree: Tree) -> Iterator[Pair]:
    """Every two ranked replies to one message of which one is better, the best first."""
    for parent, children in enumerate(tree.children()):
        replies = [tree.messages[child] for child in children if tree.messages[child].rank is not None]
        replies.sort(key=lambda reply: reply.rank or 0)
        prompt = [tree.messages[index] for index in tree.ancestors(parent)] if len(replies) > 1 else []
        for index, better in enumerate(replies):
            yield from (Pair(prompt, better, worse) for worse in replies[index + 1 :] if worse.rank != better.rank)


def tidied(pair: Pair) -> Pair | str:
    """The pair without white space around its texts and without empty messages, or why there is nothing left of it."""
    prompt = stripped(pair.prompt)
    chosen, rejected = (replace(reply, text=reply.text.strip()) for reply in (pair.chosen, pair.rejected))
    if not prompt or prompt[-1].role != "user":
        return "prompt does not end with the user"
    if not chosen.text or not rejected.text:
        return "empty reply"
    return "equal replies" if chosen.text == rejected.text else Pair(prompt, chosen, rejected)


def _refused(pair: Pair, wanted: Selection) -> str:
    if wanted.only is None and not wanted.without:
        return ""
    key = prompt_key(pair.prompt)
    if key in wanted.without:
        return "prompt is in the list"
    return "prompt is not in the list" if wanted.only is not None and key not in wanted.only else ""


def pair_line(pair: Pair, source: str) -> bytes:
    """A pair as a line of JSON Lines; a passage that a message refers to stands behind its text, after a blank line."""
    before = [{"role": message.role, "content": with_context(message, "keep")} for message in pair.prompt]
    record: dict[str, Any] = {
        side: [*before, {"role": "assistant", "content": reply.text}]
        for side, reply in (("chosen", pair.chosen), ("rejected", pair.rejected))
    }
    record["source"] = source
    better, worse = pair.chosen.score, pair.rejected.score
    if better is not None and worse is not None:
        record["margin"] = better - worse
    return json.dumps(record, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def _write(lines: Iterable[bytes], file: BinaryIO, directory: Path, wanted: Selection) -> int:
    """Write lines in the order that is wanted; returns how many. All are taken, so that all are counted."""
    most, written = wanted.limit, 0
    for line in lines if wanted.shuffle is None else _shuffled(lines, wanted.shuffle, directory):
        if most is None or written < most:
            file.write(line)
            written += 1
    return written


def _shuffled(lines: Iterable[bytes], seed: int, directory: Path) -> Iterator[bytes]:
    """Lines in the order of a hash of seed and line, through a file without a name: in memory are 16 bytes for each."""
    keys, ends = array("Q"), array("Q", [0])
    with tempfile.TemporaryFile(dir=directory) as heap:
        for line in lines:
            heap.write(line)
            ends.append(ends[-1] + len(line))
            keys.append(shuffle_key(seed, line))
        for index in np.argsort(np.frombuffer(keys, dtype=np.uint64), kind="stable").tolist():
            heap.seek(ends[index])
            yield heap.read(ends[index + 1] - ends[index])


def _check(built: Built) -> None:
    """Nothing was lost, and there is something. Raises InternalError or MissingInputError."""
    for name, counts in built.sources.items():
        if counts.records != counts.used + counts.rejected.total() + counts.bad:
            raise InternalError(f"counts of {name} do not add up: {counts.as_json()}")
    if not built.written:
        records = sum(counts.records for counts in built.sources.values())
        rejected = sum((counts.rejected for counts in built.sources.values()), Counter[str]())
        raise MissingInputError(
            f"no pairs come of {records:,} records ({reasons(rejected)})",
            advice="look at the reader, its options and what is selected",
        )
