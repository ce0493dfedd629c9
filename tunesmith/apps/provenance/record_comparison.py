"""Compares the records of a run, step by step as they are written, with those of the run that it repeats."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tunesmith.apps.provenance.differences import value_text
from tunesmith.apps.provenance.recorded_run import leaves
from tunesmith.train.loop import StepResult
from tunesmith.train.run.history import RecordTail
from tunesmith.train.run.metrics import read_records
from tunesmith.train.run.validation import STEP, VALIDATION


class RecordComparison:
    """A callback of the training loop.

    difference: the first one; None as long as there is none.
    compared: records that were compared.

    original: the file of the run that is repeated.
    repeated: the file that is being written; it need not exist yet.
    notice: prints the first difference when it is found.
    """

    def __init__(self, original: Path, repeated: Path, notice: Callable[[str], None]) -> None:
        self._expected: Iterator[Mapping[str, Any]] = read_records(original)
        self._found, self._notice = RecordTail(repeated), notice
        self.difference: str | None = None
        self.compared = 0

    def __call__(self, result: StepResult) -> None:
        self.compare()

    def compare(self) -> None:
        """Compare the records that were written since the last call. Raises StorageError for one that is damaged."""
        for record in self._found.read():
            expected = next(self._expected, None)
            self.compared += 1
            if self.difference is None and record != expected:
                self.difference = _describe(expected, record)
                self._notice(self.difference)

    def finish(self) -> None:
        """Compare what is left, also what only the original has."""
        self.compare()
        missing = next(self._expected, None)
        if self.difference is None and missing is not None:
            self.difference = f"{_place(missing)} of the original is missing"
            self._notice(self.difference)


def _describe(expected: Mapping[str, Any] | None, found: Mapping[str, Any]) -> str:
    if expected is None:
        return f"{_place(found)} is not in the original"
    if _place(expected) != _place(found):
        return f"{_place(found)} comes where the original has {_place(expected)}"
    before, after = leaves(expected), leaves(found)
    for key in dict.fromkeys((*before, *after)):
        if before.get(key) != after.get(key):
            return f"{_place(found)}: {key} {value_text(before.get(key))} -> {value_text(after.get(key))}"
    return f"{_place(found)} has the same values in another form"


def _place(record: Mapping[str, Any]) -> str:
    step = value_text(record.get(STEP))  # of a record that somebody has edited: anything
    return f"the evaluation after step {step}" if VALIDATION in record else f"step {step}"
