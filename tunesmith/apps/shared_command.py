"""Commands whose work is divided among the processes that torchrun or srun has started."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from tunesmith.launch import LaunchedProcess, launched_process, reported_once
from tunesmith.model.devices import best_device
from tunesmith.text.visible import visible
from tunesmith.train.processes import joined_processes
from tunesmith.world import Communicator


@dataclass(frozen=True, slots=True)
class SharedCommand:
    """A command as one of its processes sees it.

    launched: this process.
    world: all of them; each has the whole models.
    screen: where results are printed. log: for notices. Both drop everything in processes other than the first.
    """

    launched: LaunchedProcess
    world: Communicator
    screen: TextIO
    log: TextIO

    def preparation(self) -> AbstractContextManager[None]:
        """A block in which all processes find the same mistakes of the user, so that the first one reports them."""
        return reported_once(self.launched)

    def note(self, *lines: str) -> None:
        """Print notices."""
        for line in lines:
            print(visible(line), file=self.log)


@contextmanager
def shared_command(target: TextIO | None, errors: TextIO | None) -> Iterator[SharedCommand]:
    """Join the processes of a command, which end together.

    target, errors: where the first process prints (standard output, standard error).
    Raises UsageError and MissingInputError if the processes do not find each other.
    """
    launched = launched_process(os.environ)
    with joined_processes(launched, best_device, sharded=False) as world:
        if world.is_first:
            yield SharedCommand(launched, world, target or sys.stdout, errors or sys.stderr)
            return
        with Path(os.devnull).open("w", encoding="utf-8") as nothing:
            yield SharedCommand(launched, world, nothing, nothing)
