"""Runs test cases in several gloo processes, which begin and end together.

A case is a function of (rank, size, directory), found by its name, so it is defined at the top of a module. All cases
run in the same processes, one after the other, since starting processes takes longer than most cases.
"""

from __future__ import annotations

import multiprocessing
import os
import time
import traceback
from collections.abc import Callable, Mapping
from datetime import timedelta
from multiprocessing.context import ForkServerContext
from pathlib import Path

import torch
import torch.distributed as distributed

Case = Callable[[int, int, Path], None]
"""(rank, number of processes, a directory that all share) -> None; an exception is a failure."""

PRELOADED = [
    "tests.train.ranks",
    "tunesmith.compose.train",
    "tunesmith.train.run.checkpoint",
    "tunesmith.train.optim.muon",
]
LONGEST = 120.0
"""Seconds that a process waits for the others."""


def context() -> ForkServerContext:
    """Processes are copies of one that has imported what they need and nothing else has happened in."""
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(PRELOADED)
    return found


def run_cases(cases: Mapping[str, Case], size: int, directory: Path, seconds: float = 400.0) -> dict[str, str]:
    """Run every case in ``size`` processes; returns name of a case -> why it failed, the first reason.

    After a failure the processes end, and the cases that follow have not run. seconds: after which they are killed.
    """
    directory.mkdir(parents=True, exist_ok=True)
    processes = [context().Process(target=_run, args=(cases, rank, size, directory)) for rank in range(size)]
    for process in processes:
        process.start()
    end = time.monotonic() + seconds
    for process in processes:
        process.join(max(0.1, end - time.monotonic()))
        if process.is_alive():
            process.kill()
            process.join()
    found: dict[str, str] = {}
    failures = sorted(directory.glob("failed-*"), key=lambda path: path.stat().st_mtime_ns)
    for path in reversed(failures):
        name, reason = path.read_text().split("\n", 1)
        found[name] = f"{path.name}: {reason}"
    for name in cases:
        ends = [directory / f"done-{name}-{rank}" for rank in range(size)]
        if name not in found and not all(path.exists() for path in ends):
            found[name] = f"it did not end in {[path.name for path in ends if not path.exists()]}"
    return found


def _run(cases: Mapping[str, Case], rank: int, size: int, directory: Path) -> None:
    torch.set_num_threads(1)
    meeting = f"file://{directory}/meeting"
    distributed.init_process_group(
        "gloo", init_method=meeting, rank=rank, world_size=size, timeout=timedelta(seconds=LONGEST)
    )
    for name, case in cases.items():
        folder = directory / name
        folder.mkdir(exist_ok=True)
        try:
            case(rank, size, folder)
            distributed.barrier()
        except BaseException:
            (directory / f"failed-{rank}").write_text(f"{name}\n{traceback.format_exc()}")
            os._exit(1)
        (directory / f"done-{name}-{rank}").touch()
    distributed.destroy_process_group()
    os._exit(0)
