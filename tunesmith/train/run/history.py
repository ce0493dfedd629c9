"""What a run has recorded so far, read step by step from its files while they grow."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunesmith.errors import TunesmithError
from tunesmith.files import READING, storage_errors, write_file
from tunesmith.train.run.curves import Curves
from tunesmith.train.run.directory import METRICS, SHOWN, TIMING
from tunesmith.train.run.metrics import RecordFile, open_records
from tunesmith.train.run.selection import CheckpointSelection, SelectionRule
from tunesmith.train.run.shown import ShownText
from tunesmith.train.run.validation import CHECKPOINT, STEP, VALIDATION

SPEED = "tokens/s"
COUNTS = (STEP, "epoch", "units", "tokens", "targets", "examples")
"""Values of a step in metrics.jsonl that are no metrics."""
TEXTS = "texts"
LONGEST_INTEGER = 300
"""Digits of the integers that are kept; a float has at most 309."""


@dataclass(slots=True)
class RecordTail:
    """The records that were added to a file since they were read last; lines that are no records are left out.

    path: of the file, which need not exist.
    """

    path: Path
    offset: int = 0

    def read(self) -> Iterator[dict[str, Any]]:
        """The new records. Raises StorageError if the file cannot be read."""
        if not self.path.is_file():
            return
        with storage_errors(self.path, READING, action="read"), self.path.open("rb") as file:
            file.seek(self.offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self.offset += len(line)
                if (record := _parse(line)) is not None:
                    yield record


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line, parse_int=_integer)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) and _is_step(record.get(STEP)) else None


def _integer(digits: str) -> int | float:
    """An integer, or infinity for one that no float can hold, as JSON reads 1e999."""
    return int(digits) if len(digits) < LONGEST_INTEGER else float(digits)


def _is_step(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 53


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One evaluation.

    step: optimizer steps that were done.
    saved: whether the step has a checkpoint.
    metrics: source -> metric -> value.
    """

    step: int
    saved: bool
    metrics: Mapping[str, Mapping[str, float]]


@dataclass(slots=True)
class RunHistory:
    """The records of a run so far.

    directory: of the run.
    selection: of the best checkpoint.
    curves: the metrics of all steps, and their speed.
    evaluations: in the order of their steps.
    texts: step -> prompts and replies that were shown after its evaluation.
    last: the record of the last step.
    seconds: that all steps took, also those that were done again after a stop.
    """

    directory: Path
    selection: CheckpointSelection
    curves: Curves = field(default_factory=Curves)
    evaluations: list[Evaluation] = field(default_factory=list)
    texts: dict[int, list[ShownText]] = field(default_factory=dict)
    last: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    _tails: dict[str, RecordTail] = field(default_factory=dict)

    @classmethod
    def of(cls, directory: Path, rule: SelectionRule) -> RunHistory:
        """The history of a run, without any record until ``update``. rule: how its best checkpoint is chosen."""
        tails = {name: RecordTail(directory / name) for name in (METRICS, TIMING, SHOWN)}
        return cls(directory, CheckpointSelection(rule), _tails=tails)

    def update(self) -> None:
        """Add what the files have gained. Raises StorageError."""
        for record in self._tails[METRICS].read():
            if VALIDATION in record:
                self._add_evaluation(record)
            elif record[STEP] > 0:
                self.curves.add(record[STEP], {name: value for name, value in record.items() if name not in COUNTS})
                self.last = record
        for record in self._tails[TIMING].read():
            if record[STEP] > 0 and (speed := step_speed(record)) is not None:
                self.curves.add(record[STEP], {SPEED: speed})
                self.seconds += record["tokens"] / speed
        for record in self._tails[SHOWN].read():
            self.texts[record[STEP]] = list(_shown(record.get(TEXTS)))

    def _add_evaluation(self, record: Mapping[str, Any]) -> None:
        metrics = _numbers(record[VALIDATION])
        if self.evaluations and record[STEP] <= self.evaluations[-1].step:
            return
        found = Evaluation(record[STEP], bool(record.get(CHECKPOINT)), metrics)
        self.evaluations.append(found)
        try:
            self.selection.add(found.step, found.metrics, saved=found.saved)
        except TunesmithError:  # the recipe of another version names other metrics
            return


def _numbers(metrics: Any) -> dict[str, dict[str, float]]:
    """Source -> metric -> value, of the values that are numbers."""
    if not isinstance(metrics, dict):
        return {}
    return {
        source: {name: value for name, value in values.items() if type(value) in (int, float)}
        for source, values in metrics.items()
        if isinstance(values, dict)
    }


def step_speed(record: Mapping[str, Any]) -> float | None:
    """Tokens per second of a step."""
    seconds, tokens = record.get("seconds"), record.get("tokens")
    if not isinstance(seconds, int | float) or not isinstance(tokens, int) or seconds <= 0 or tokens <= 0:
        return None
    return tokens / seconds


def _shown(texts: Any) -> Iterator[ShownText]:
    for each in texts if isinstance(texts, list) else ():
        if isinstance(each, list) and len(each) == 2 and all(isinstance(part, str) for part in each):
            yield ShownText(*each)


def open_shown(path: Path, start: int, *, writes: bool = True) -> AbstractContextManager[RecordFile]:
    """The file for texts that are shown, of a run that continues after ``start`` steps: later lines are removed.

    Nothing reads it back but pages, so that a damaged line is removed as well. Raises StorageError.

    writes: whether this process writes it.
    """
    if writes and path.exists():
        with storage_errors(path, READING, action="read"):
            lines = path.read_bytes().splitlines(keepends=True)
        kept = [line for line in lines if (record := _parse(line)) and start > 0 and record[STEP] <= start]
        if kept != lines:
            write_file(path, b"".join(kept))
    return open_records(path, writes=writes)


def shown_record(step: int, texts: Sequence[ShownText]) -> dict[str, Any]:
    """The line of the texts that are shown after a step."""
    return {STEP: step, TEXTS: [[text.label, text.text] for text in texts]}
