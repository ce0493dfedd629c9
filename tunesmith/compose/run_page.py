"""The page of a run, from the files in its directory: it is written while the run trains, and can be at any time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from tunesmith.compose.run_page_content import page_content
from tunesmith.errors import StoppedError
from tunesmith.files import write_file
from tunesmith.report.check import Check
from tunesmith.report.run_page import run_page
from tunesmith.train.loop import StepResult
from tunesmith.train.run.directory import PAGE
from tunesmith.train.run.history import RunHistory
from tunesmith.train.run.selection import SelectionRule
from tunesmith.train.run.shown import ShownMetric
from tunesmith.train.run.status import RunStatus, State, present_time, read_status

SECONDS = 3.0
"""Least time between two pages of a run that trains."""
LARGEST_SHARE = 0.02
"""Largest share of the time of a run that is spent on its page."""


@dataclass(slots=True)
class RunPage:
    """Writes the page and the status of a run while it trains. It reads what the run has recorded and changes nothing.

    A page that cannot be written is a notice and never ends the run.

    history: what the run has recorded.
    shown: the metrics that the method shows.
    warn: prints a warning for the user.
    proof: what was checked before this start.
    gates: what was checked before the first step; None if an earlier start did.
    seconds: least time between two pages.
    writes: false in a process that does not own the run: then there is no page.
    """

    history: RunHistory
    shown: Sequence[ShownMetric]
    warn: Callable[[str], None]
    proof: Sequence[Check] = ()
    gates: Sequence[Check] | None = None
    seconds: float = SECONDS
    writes: bool = True
    _status: RunStatus = field(default_factory=lambda: RunStatus("training"))
    _began: float = 0.0
    _first: int = 0
    _due: float = 0.0
    _failed: bool = False
    _earlier: Sequence[Mapping[str, str]] = field(default_factory=tuple)

    @classmethod
    def of(
        cls,
        directory: Path,
        rule: SelectionRule,
        shown: Sequence[ShownMetric],
        warn: Callable[[str], None],
        proof: Sequence[Check],
        *,
        writes: bool = True,
    ) -> RunPage:
        """The page of an open run. rule: how its best checkpoint is chosen; the others: see the fields."""
        earlier = read_status(directory)
        checks = earlier.checks if earlier is not None else ()
        return cls(RunHistory.of(directory, rule), shown, warn, proof, writes=writes, _earlier=checks)

    @property
    def path(self) -> Path:
        """The file of the page."""
        return self.history.directory / PAGE

    def start(self, total: int, done: int) -> None:
        """The run is ready to train, with ``done`` of ``total`` steps done already."""
        self._began, self._first = time.monotonic(), done
        self._status = RunStatus("training", done, total)
        self.write()

    def __call__(self, result: StepResult) -> None:
        """A step is done; the page is written if that is due."""
        self._status = RunStatus("training", result.done, result.total)
        if time.monotonic() >= self._due:
            self.write()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write the last page: the run is finished, stopped or has failed."""
        stopped = isinstance(error, StoppedError | KeyboardInterrupt)
        state: State = "finished" if error is None else "stopped" if stopped else "failed"
        reason = "" if error is None else str(error) or type(error).__name__
        self._status = RunStatus(state, self._status.step, self._status.steps, reason=reason)
        self.write()

    def write(self) -> None:
        """Write status and page now. Nothing that goes wrong here may end a run that has trained for days."""
        if not self.writes:
            return
        began = time.monotonic()
        try:
            self._status = self._completed(self._status)
            self._status.write(self.history.directory)
            self.history.update()
            write_file(self.path, run_page(page_content(self.history, self._status, self.shown)))
        except Exception as error:
            if not self._failed:
                self.warn(f"the page of the run cannot be written; training goes on: {error}")
            self._failed = True
        cost = time.monotonic() - began
        self._due = time.monotonic() + max(self.seconds, cost / LARGEST_SHARE)

    def _completed(self, status: RunStatus) -> RunStatus:
        """The status with time and checks."""
        done, elapsed = status.step - self._first, time.monotonic() - self._began
        left = elapsed / done * (status.steps - status.step) if done > 0 and status.state == "training" else None
        gates = [] if self.gates is None else [_recorded("gate", each) for each in self.gates]
        if self.gates is None:
            gates = [dict(each) for each in self._earlier if each.get("kind") == "gate"]
        return RunStatus(
            *(status.state, status.step, status.steps, present_time(), left, status.reason),
            checks=[*(_recorded("proof", each) for each in self.proof), *gates],
        )


def _recorded(kind: str, check: Check) -> dict[str, str]:
    return {"kind": kind, "name": check.name, "status": check.status, "summary": check.summary}


def write_run_page(directory: Path, rule: SelectionRule, shown: Sequence[ShownMetric], status: RunStatus) -> Path:
    """Write the page of an existing run again; returns its path. Raises StorageError."""
    history = RunHistory.of(directory, rule)
    history.update()
    write_file(directory / PAGE, run_page(page_content(history, status, shown)))
    return directory / PAGE
