"""What a launcher of several processes, torchrun or srun, sets in the environment of each of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tunesmith.errors import UsageError

TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
SLURM = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID")
"""The variables for rank, number of processes and local rank. The number is that of the step, which srun sets: a batch
script is one process, however many tasks its job has."""


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

    @property
    def prints(self) -> bool:
        """Whether this process reports mistakes that all processes of its machine find alike."""
        return self.local_rank == 0


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


def _number(environment: Mapping[str, str], name: str, default: int | None = None) -> int:
    text = environment.get(name, "" if default is None else str(default))
    if not text.isdecimal():
        raise UsageError(
            f"{text!r} is no number of a process" if text else "is not set",
            where=f"environment variable {name}",
            advice="start the processes with torchrun or srun, which set it",
        )
    return int(text)
