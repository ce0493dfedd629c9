"""How far a run is, in one small file: for the page of the run and for `tunesmith runs`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from tunesmith.errors import TunesmithError
from tunesmith.files import read_object, write_json
from tunesmith.model.names import EXPORT
from tunesmith.train.run.directory import STATUS
from tunesmith.train.run.lock import is_in_use

State = Literal["training", "finished", "stopped", "failed"]
STATES: tuple[State, ...] = ("training", "finished", "stopped", "failed")
KILLED = "the process ended without saving; the same command continues from the last checkpoint"
LARGEST_STATUS = 1 << 22  # bytes
LARGEST_NUMBER = 1 << 53  # of steps and seconds


@dataclass(frozen=True, slots=True)
class RunStatus:
    """The state of a run.

    state: what it does. A process that was killed leaves "training" behind; ``find_status`` corrects this.
    step, steps: optimizer steps that are done, and those of the whole run; 0 if they are not known.
    updated: time of the last change, in ISO 8601 with a time zone; empty if it is not known.
    remaining: seconds that are left at the present rate; None if there is no estimate.
    reason: why the run stopped or failed.
    checks: what was proven before the first step: the name, status and summary of every check.
    """

    state: State
    step: int = 0
    steps: int = 0
    updated: str = ""
    remaining: float | None = None
    reason: str = ""
    checks: Sequence[Mapping[str, str]] = ()

    def write(self, directory: Path) -> None:
        """Write the file in the directory of the run. Raises StorageError."""
        write_json(directory / STATUS, asdict(self))


def present_time() -> str:
    """The present time as ``updated`` has it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def find_status(directory: Path) -> RunStatus:
    """The state of the run in a directory. A run of an earlier version has no status; its files say what is known."""
    recorded = read_status(directory)
    in_use = is_in_use(directory)
    if recorded is None:
        state: State = "training" if in_use else "finished" if (directory / EXPORT).is_dir() else "stopped"
        return RunStatus(state)
    if recorded.state == "training" and not in_use:
        return RunStatus("stopped", recorded.step, recorded.steps, recorded.updated, None, KILLED, recorded.checks)
    return recorded


def read_status(directory: Path) -> RunStatus | None:
    """What the file of a run says; None if there is no such file, or another program wrote it."""
    try:
        content = read_object(directory / STATUS, largest=LARGEST_STATUS)
    except TunesmithError:
        return None
    values: dict[str, Any] = {each.name: content.get(each.name) for each in fields(RunStatus)}
    return RunStatus(**values) if _is_status(values) else None


def _is_status(values: Mapping[str, Any]) -> bool:
    checks = values["checks"]
    return (
        values["state"] in STATES
        and all(type(values[name]) is int and 0 <= values[name] < LARGEST_NUMBER for name in ("step", "steps"))
        and all(isinstance(values[name], str) for name in ("updated", "reason"))
        and (values["remaining"] is None or _is_duration(values["remaining"]))
        and isinstance(checks, list)
        and all(
            isinstance(each, dict) and all(isinstance(each.get(key), str) for key in ("name", "status", "summary"))
            for each in checks
        )
    )


def _is_duration(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < LARGEST_NUMBER  # not true of NaN
