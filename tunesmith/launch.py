"""Several processes that torchrun or srun has started: what it sets in their environment, and who reports mistakes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from tunesmith.errors import TunesmithError, UsageError

TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
SLURM = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID")
"""The variables for rank, number of processes and local rank. The number is that of the step, which srun sets: a batch
script is one process, however many tasks its job has."""
REPORTING = 5.0
"""Seconds that a process has to report a mistake that others find too."""


@dataclass(frozen=True, slots=True)
class LaunchedProcess:
    """This process among those that were started together; the defaults are those of a process that is alone.

    rank: its number, from 0.
    size: the number of processes.
    local_rank: its number among those of its machine, from 0.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0


def launched_process(environment: Mapping[str, str]) -> LaunchedProcess:
    """Read the variables of torchrun, or else those of srun. Raises UsageError for values that make no sense."""
    names = TORCHRUN if any(name in environment for name in TORCHRUN[:2]) else SLURM
    if environment.get(names[1]) is None:
        return LaunchedProcess(local_rank=_number(environment, TORCHRUN[2], 0))
    found = LaunchedProcess(
        rank=_number(environment, names[0]),
        size=_number(environment, names[1]),
        local_rank=_number(environment, names[2]),
    )
    if not found.rank < found.size:
        raise UsageError(
            f"there is no process {found.rank} of {found.size}",
            where=f"environment variables {names[0]}, {names[1]}",
            advice="start the processes with torchrun or srun, which set both",
        )
    return found


@contextmanager
def reported_once(launched: LaunchedProcess) -> Iterator[None]:
    """In the block, which runs before the processes know each other, an error is reported by the first one that has it.

    The others wait, since the launcher ends them as soon as the first one has ended. One that is still there after that
    time has found something that the first one did not, and reports it.
    """
    try:
        yield
    except TunesmithError:
        time.sleep(waiting_time(launched))
        raise


def waiting_time(launched: LaunchedProcess) -> float:
    """Seconds that a process leaves to the first of all, and then to the first of its machine, to report an error."""
    return REPORTING * ((launched.rank > 0) + (launched.local_rank > 0)) if launched.size > 1 else 0.0


def check_alone(name: str, launched: LaunchedProcess) -> None:
    """Raises UsageError if several processes were started with a command that is not divided among them.

    name: the words of the command after ``tunesmith``.
    """
    if launched.size > 1:
        with reported_once(launched):
            raise UsageError(
                f"`tunesmith {name}` runs in one process, and {launched.size} were started",
                advice="start it without torchrun or srun",
            )


def _number(environment: Mapping[str, str], name: str, default: int | None = None) -> int:
    text = environment.get(name, "" if default is None else str(default))
    if not text.isdecimal():
        raise UsageError(
            f"{text!r} is no number of a process" if text else "is not set",
            where=f"environment variable {name}",
            advice="start the processes with torchrun or srun, which set it",
        )
    return int(text)
