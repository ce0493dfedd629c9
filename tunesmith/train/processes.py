"""Joins the processes that torchrun or srun has started to a group, and ends all of them when one has failed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial

import torch
import torch.distributed as distributed

from tunesmith.errors import MissingInputError, StoppedError, UsageError
from tunesmith.launch import LaunchedProcess, reported_once
from tunesmith.train.failures import STARTING, FailureWatch, exit_at_once, explained
from tunesmith.world import Communicator, ProcessGroup, SingleProcess

MEETING = ("MASTER_ADDR", "MASTER_PORT")
"""Environment variables that say where the processes meet."""
COLLECTIVE = timedelta(minutes=30)
"""Longest time of one operation of all processes; waiting for the first process has no limit."""
LEAVING = 10.0
"""Seconds that the first process waits for the others at the end."""


@contextmanager
def joined_processes(
    launched: LaunchedProcess, device: Callable[[], torch.device], *, sharded: bool
) -> Iterator[Communicator]:
    """The processes of a run; they end together.

    An error in the block of one process ends all of them, with its exit code; only this process prints it.

    launched: this process.
    device: chooses that of its model; if there is none for a process, only the first such process reports it.
    sharded: whether the weights are divided among the processes.
    Raises UsageError if the launcher did not say where the processes meet.
    """
    if launched.size == 1:
        yield SingleProcess()
        return
    with reported_once(launched):
        store = _meet(launched)
    watch = FailureWatch(
        distributed.PrefixStore("watch", store.clone()),  # type: ignore[attr-defined]
        launched.rank,
        launched.size,
        os.environ[MEETING[0]],
        partial(exit_at_once, size=launched.size, rank=launched.rank),
    )
    try:
        chosen = device()
        distributed.init_process_group(
            "cpu:gloo,cuda:nccl" if chosen.type == "cuda" else "gloo",
            store=store,
            rank=launched.rank,
            world_size=launched.size,
            timeout=COLLECTIVE,
            device_id=chosen if chosen.type == "cuda" else None,
        )
        group = ProcessGroup(sharded=sharded, store=store, check=watch.check)
        stopped: StoppedError | None = None
        try:
            yield group
        except StoppedError as error:  # all processes have agreed on it
            stopped = error
        group.barrier()
    except BaseException as error:
        raise explained(error, watch) from (error if launched.rank == 0 else None)
    watch.stop()
    _leave(store, launched)
    if stopped is not None:
        raise stopped if launched.rank == 0 else SystemExit(stopped.exit_code)


def _meet(launched: LaunchedProcess) -> distributed.Store:  # type: ignore[name-defined]
    for name in MEETING:
        if not os.environ.get(name):
            raise UsageError(
                f"{launched.size} processes were started, but it is not set where they meet",
                where=f"environment variable {name}",
                advice="set MASTER_ADDR to the name of the first machine and MASTER_PORT to a free port; "
                "torchrun does so itself",
            )
    url = f"env://?rank={launched.rank}&world_size={launched.size}"
    try:
        limit = timedelta(seconds=STARTING)
        store, _, _ = next(distributed.rendezvous(url, timeout=limit))  # type: ignore[attr-defined]
    except RuntimeError as error:
        where = f"{os.environ[MEETING[0]]}:{os.environ[MEETING[1]]}"
        advice = "check that all processes were started, with the same address of the first machine and a free port"
        raise MissingInputError(f"the processes did not meet: {error}", where=where, advice=advice) from error
    return store


def _leave(store: distributed.Store, launched: LaunchedProcess) -> None:  # type: ignore[name-defined]
    """The first process, which may have the store, goes last."""
    distributed.destroy_process_group()
    gone, until = store.add("left", 1), time.monotonic() + LEAVING
    while launched.rank == 0 and gone < launched.size and time.monotonic() < until:
        time.sleep(0.01)
        gone = store.add("left", 0)
