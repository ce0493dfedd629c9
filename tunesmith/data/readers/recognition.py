"""Recognises which reader reads some rows: what their columns suggest is tried, and what reads the rows is taken.

Nothing is guessed. Two readings that would train on different conversations are both named, and none is taken.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, TypeAlias

from tunesmith.data.readers.columns import (
    ABOUT_THE_ROW,
    ANSWER,
    CHOSEN,
    HEADER_ADVICE,
    NO_HEADER,
    QUESTION,
    REJECTED,
    Column,
    find_columns,
    is_about_the_row,
    lack_header,
    named,
    shown_name,
)
from tunesmith.data.readers.forms import OF_MODELS, Reading, exchange, suggest_readings
from tunesmith.data.readers.groups import group_rows
from tunesmith.data.readers.left_out import find_left_out, readings_of_left_out
from tunesmith.data.readers.reader import Filtered, ReadTree
from tunesmith.data.readers.registry import READERS, Purpose, group_column, open_reader, purpose
from tunesmith.data.sources.rows import AnyRow, PlainRow, SourceRow
from tunesmith.data.sources.source import find_source, read_rows
from tunesmith.errors import DataError
from tunesmith.text.tree import Tree

ROWS = 200
"""How many rows are looked at."""

MOST_TRIED = 10 * ROWS
"""How many are tried until so many could be parsed."""

ANY_COLUMN = "COLUMN"
"""In place of a column that nobody knows."""


@dataclass(frozen=True, slots=True)
class Recognised:
    """The reading that was taken.

    reading: the reader with its settings.
    rows: how many rows were looked at.
    """

    reading: Reading
    rows: int

    def description(self) -> str:
        """``reader: sharegpt (recognised from 200 rows: conversations[].from/value)``"""
        rows = f"{self.rows:,} row{'' if self.rows == 1 else 's'}"
        options = "".join(f", {name}: {value}" for name, value in self.reading.options.items())
        return f"reader: {self.reading.reader} (recognised from {rows}: {_shown(self.reading)}{options})"


@dataclass(frozen=True, slots=True)
class NotRecognised:
    """Why no reading was taken.

    what: in one sentence without a full stop.
    nearest: readings that may be meant; a column ``COLUMN`` has to be filled in.
    remedy: what to do with the data; None if they may stay as they are.
    """

    what: str
    nearest: tuple[Reading, ...] = ()
    remedy: str | None = None

    def advice(self, key: str) -> str | None:
        """The remedy, or what to append to the command for the reading that is meant; None if there is none to name.

        key: of the source in the recipe, such as ``data.sources.0``; ``--`` for a command with options.
        """
        if self.remedy is not None:
            return self.remedy
        words = [reading.words(key) for reading in self.nearest]
        return f"append {' or '.join(words)}" if words else None


def _shown(reading: Reading) -> str:
    """The columns of a reading, for messages."""
    return ", ".join(map(shown_name, reading.columns))


Recognition: TypeAlias = Recognised | NotRecognised


@dataclass(frozen=True, slots=True)
class _Trial:
    """What became of the rows with one reading.

    trees: of the records that it reads.
    filtered: for every record that a filter drops, the reason.
    error: of the first record that it cannot read.
    """

    reading: Reading
    trees: tuple[Tree | None, ...]
    filtered: tuple[str, ...]
    error: DataError | None

    @property
    def read(self) -> int:
        """How many records are read."""
        return self.used + len(self.filtered)

    @property
    def used(self) -> int:
        """How many records give a tree."""
        return len(self.trees) - self.trees.count(None)

    @property
    def fits(self) -> bool:
        """Whether most of the records are read."""
        return 2 * self.read > len(self.trees)

    def repeats(self, other: _Trial) -> bool:
        """Whether the other reading gives the same trees and perhaps more."""
        if len(self.trees) != len(other.trees):
            return False
        return all(mine in (None, theirs) for mine, theirs in zip(self.trees, other.trees, strict=True))


def first_rows(
    path: str, split: str | None = None, config: str | None = None, key: str = ""
) -> list[Mapping[str, Any]]:
    """The first rows of a source, at least one; those that cannot be parsed are left out.

    path, split, config, key: see ``find_source``.
    Raises MissingInputError, DataError (also where no row can be parsed, with the first of them) or RecipeError.
    """
    found: list[Mapping[str, Any]] = []
    wrong: DataError | None = None
    for row in islice(read_rows(find_source(path, split, config, key)), MOST_TRIED):
        if isinstance(row, DataError):
            wrong = wrong or row
        else:
            found.append(row.value)
        if len(found) == ROWS:
            break
    if found:
        return found
    if wrong is None:
        raise DataError("there are no records in it", where=path, advice="check what was exported")
    what = f"no row can be read, and the first is wrong: {wrong.what}"
    raise DataError(what, where=wrong.where, advice=wrong.advice)


def recognise(
    rows: Sequence[Mapping[str, Any]], needed: Purpose | None = None, ignore: Collection[str] = (), key: str = ""
) -> Recognition:
    """Which reader reads these rows.

    rows: objects.
    needed: what the objective needs; None if any purpose will do.
    ignore: columns and message keys that are left out on purpose.
    key: of the source in the recipe, for messages.
    """
    columns = {name: column for name, column in find_columns(rows).items() if name not in ignore}
    if not columns:
        return NotRecognised("there are no rows with columns that hold something")
    failed: list[_Trial] = []
    for group in suggest_readings(columns):
        trials = [_try(_suited(reading, needed), rows, ignore, key) for reading in group]
        fitting = _different([trial for trial in trials if trial.fits])
        fitting = [trial for trial in fitting if _purpose(trial) == needed] or fitting
        fitting = [_with_replies_of_models(trial, rows, needed, ignore, key) for trial in fitting]
        if fitting and not any(any(trial.trees) for trial in fitting):
            return _filtered(fitting[0])
        fitting = [trial for trial in fitting if any(trial.trees)]
        if len(fitting) > 1:
            return _ambiguous([trial.reading for trial in fitting])
        if fitting:
            return _accepted(fitting[0].reading, columns, rows, needed, ignore)
        failed += trials
    return _unfit(failed) if failed else _unknown(columns, needed)


def _suited(reading: Reading, needed: Purpose | None) -> Reading:
    """The reading, with the option that makes trees of OpenAssistant what the objective needs."""
    if needed == "rankings" and "keep" in READERS[reading.reader].options:
        return replace(reading, options={**reading.options, "keep": "rankings"})
    return reading


def _try(reading: Reading, rows: Sequence[Mapping[str, Any]], ignore: Collection[str], key: str) -> _Trial:
    read = open_reader(reading.reader, reading.fields, reading.options, ignore=ignore, key=key)
    group = group_column(reading.reader, reading.fields)
    plain: list[PlainRow] = [SourceRow("", row, 0.0) for row in rows]
    records: Sequence[AnyRow | DataError] = plain if group is None else [*group_rows(plain, group)]
    trees: list[Tree | None] = []
    filtered: list[str] = []
    first: DataError | None = None
    for record in records:
        try:
            if isinstance(record, DataError):
                raise record
            result = read(record.value)
        except DataError as error:
            first = first or error
            trees.append(None)
            continue
        filtered += [result.reason] if isinstance(result, Filtered) else []
        trees.append(result.tree if isinstance(result, ReadTree) else None)
    return _Trial(reading, tuple(trees), tuple(filtered), first)


def _with_replies_of_models(
    trial: _Trial, rows: Sequence[Mapping[str, Any]], needed: Purpose | None, ignore: Collection[str], key: str
) -> _Trial:
    """The trial; where it uses few of the records, one that uses more of them with replies of models.

    Such replies are left out by default, but trees of feedback have hardly any other ones. They are compared if half of
    the records have a comparison.
    """
    if "synthetic" not in READERS[trial.reading.reader].options or 2 * trial.used > len(trial.trees):
        return trial
    own = {name: value for name, value in trial.reading.options.items() if name != "keep"}
    readings = [replace(trial.reading, options={**own, **options}) for options in OF_MODELS]
    suited = [each for each in readings if needed in (None, purpose(each.reader, each.options))]
    others = [_try(reading, rows, ignore, key) for reading in suited]
    if all(other.used <= trial.used for other in others):
        return trial
    return next((other for other in others if 2 * other.used >= len(other.trees)), others[-1])


def _purpose(trial: _Trial) -> Purpose:
    return purpose(trial.reading.reader, trial.reading.options)


def _different(trials: Sequence[_Trial]) -> list[_Trial]:
    """The trials without those that another one repeats; of equal ones the first."""
    kept: list[_Trial] = []
    for trial in trials:
        if any(trial.repeats(other) for other in kept):
            continue
        kept = [other for other in kept if not other.repeats(trial)] + [trial]
    return kept


def _accepted(
    reading: Reading,
    columns: Mapping[str, Column],
    rows: Sequence[Mapping[str, Any]],
    needed: Purpose | None,
    ignore: Collection[str],
) -> Recognition:
    """The reading, unless it leaves out what is needed, or what may be part of the conversation."""
    if reading.reader == "prompts":
        others = [name for name, column in columns.items() if _may_be_reply(column) and name not in reading.columns]
        replies = [exchange(reading.columns[0], name) for name in others]
        if needed in ("demonstrations", "rankings"):
            what = f"the rows have prompts in {reading.columns[0]!r} and no column that is known as the reply"
            return NotRecognised(what, tuple(replies) or (exchange(reading.columns[0], ANY_COLUMN),))
        if others and needed is None:
            return _ambiguous([reading, *replies])
    elif left := find_left_out(reading, columns, rows):
        shown = f"{reading.reader} ({', '.join(reading.columns)})"
        what = f"the reader {shown} would leave out {', '.join(map(repr, left))}"
        nearest = readings_of_left_out(reading, left, columns, ignore)
        needs = "" if nearest else ", and the texts of a pair have to be in the columns chosen and rejected"
        return NotRecognised(f"{what}{needs}", nearest)
    return Recognised(reading, len(rows))


def _may_be_reply(column: Column) -> bool:
    return column.kind == "text" and not is_about_the_row(column) and column.word not in QUESTION


def _ambiguous(readings: Sequence[Reading]) -> NotRecognised:
    """Two readings that give different conversations."""
    named_ones = " or as ".join(f"{reading.reader} ({_shown(reading)})" for reading in readings)
    return NotRecognised(f"the rows can be read as {named_ones}", tuple(readings))


def _filtered(trial: _Trial) -> NotRecognised:
    """A reading that reads the rows and uses none of them."""
    reason = Counter(trial.filtered).most_common(1)[0][0]
    what = f"the reader {trial.reading.reader} uses none of the first {len(trial.trees):,} records: {reason}"
    return NotRecognised(what, (trial.reading,))


def _unfit(failed: Sequence[_Trial]) -> NotRecognised:
    """The reading that comes nearest, and what keeps it from reading the rows."""
    best = max(failed, key=lambda trial: (trial.read, _exact_names(trial.reading)))
    assert best.error is not None, "a reading without an error fits"
    count = len(best.trees) - best.read
    advice = f" ({best.error.advice})" if best.error.advice else ""
    what = f"the nearest reader is {best.reading.reader}, which cannot read {count:,} of {len(best.trees):,} records"
    return NotRecognised(f"{what}: {best.error.what}{advice}", (best.reading,))


def _exact_names(reading: Reading) -> int:
    """How many columns a reading has under the names of its reader; none where it reads texts and they are lists."""
    if not READERS[reading.reader].inner and any("[]" in column for column in reading.columns):
        return 0
    return len(reading.columns) - len(reading.fields)


def _unknown(columns: Mapping[str, Column], needed: Purpose | None) -> NotRecognised:
    """No column has a name that is known, or only one part of an exchange has."""
    if lack_header(columns):
        return NotRecognised(NO_HEADER, remedy=HEADER_ADVICE)
    listed = ", ".join(islice(map(repr, columns), 8)) + (", .." if len(columns) > 8 else "")
    texts = [name for name, column in columns.items() if column.kind == "text" and column.word not in ABOUT_THE_ROW]
    if needed == "rankings" or named(columns, (*CHOSEN, *REJECTED)):
        sides = [(named(columns, words) or [ANY_COLUMN])[0] for words in (QUESTION, CHOSEN, REJECTED)]
        found = dict(zip(("prompt", "chosen", "rejected"), sides, strict=True))
        reading = Reading("preference-text", tuple(sides), {key: name for key, name in found.items() if key != name})
        return NotRecognised(
            f"which of the columns {listed} are the prompt and its two replies is not known", (reading,)
        )
    answers = named(columns, ANSWER)
    if answers:
        return NotRecognised(
            f"the reply is in {answers[0]!r}, and which of the columns {listed} is the instruction is not known",
            (exchange(next((name for name in texts if name not in answers), ANY_COLUMN), answers[0]),),
        )
    question, answer = texts if len(texts) == 2 else (ANY_COLUMN, ANY_COLUMN)
    what = f"which of the columns {listed} are the instruction and the response is not known"
    return NotRecognised(what, (exchange(question, answer),))
