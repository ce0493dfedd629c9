"""Collects the text runs of many trees, so that the tokenizer encodes each distinct run once and all in two calls."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

from tunesmith.text.tokenizer.tokenizer import Tokenizer


@dataclass(slots=True, eq=False)
class TextRun:
    """Text that the tokenizer encodes as one string.

    text: the characters.
    continuing: whether it is the continuation of other text; see ``Tokenizer.encode_many``.
    ids: its token ids; empty until ``RunCollector.encode`` was called.
    """

    text: str
    continuing: bool
    ids: list[int] = field(default_factory=list)


Unit: TypeAlias = int | TextRun
"""A control token by its id, or a text run."""


class RunCollector:
    """The distinct text runs of many trees.

    tokenizer: encodes them.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._runs: dict[tuple[str, bool], TextRun] = {}

    def add(self, text: str, continuing: bool) -> TextRun:
        """Return the run of this text; the same object for the same text."""
        key = (text, continuing and not self._tokenizer.continues_alike)
        if key not in self._runs:
            self._runs[key] = TextRun(*key)
        return self._runs[key]

    def encode(self) -> None:
        """Set the ids of all runs. Raises DataError."""
        for continuing in (False, True):
            runs = [run for run in self._runs.values() if run.continuing is continuing]
            if runs:
                encoded = self._tokenizer.encode_many([run.text for run in runs], continuing=continuing)
                for run, ids in zip(runs, encoded, strict=True):
                    run.ids = ids


@dataclass(slots=True)
class OpenRun:
    """Text at the end of a path of messages that may still be extended by the next piece.

    runs: the collector that gets the run when it is closed.
    text: the text so far.
    continuing: whether it is the continuation of a run that was closed before.
    """

    runs: RunCollector
    text: str = ""
    continuing: bool = False

    def close(self, units: list[Unit]) -> None:
        """Append the text so far to ``units`` as a run; text that follows is its continuation."""
        if self.text:
            units.append(self.runs.add(self.text, self.continuing))
            self.text, self.continuing = "", True

    def close_before_control(self, units: list[Unit], control: int) -> None:
        """Append the text so far and a control token to ``units``; text that follows begins a new run."""
        self.close(units)
        self.continuing = False
        units.append(control)

    def branch(self) -> OpenRun:
        """Return a copy for one of several messages that follow."""
        return OpenRun(self.runs, self.text, self.continuing)


def join_ids(units: Iterable[Unit]) -> list[int]:
    """Return the token ids of units whose runs are encoded."""
    found: list[int] = []
    for unit in units:
        if isinstance(unit, TextRun):
            found.extend(unit.ids)
        else:
            found.append(unit)
    return found
