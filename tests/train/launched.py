"""Runs a function in processes as torchrun starts them, forked from one that has imported everything."""

from __future__ import annotations

import os
import socket
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from tests.processes import context
from tunesmith.errors import TunesmithError

LONGEST = 240.0
"""Seconds after which processes are killed."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process has ended.

    code: as of ``multiprocessing``. text: what it printed. seconds: from the start of all until its end.
    at: monotonic time of its end.
    """

    code: int | None
    text: str
    seconds: float
    at: float


def run_launched(target: Callable[[int, Path], None], size: int, directory: Path) -> list[Ended]:
    """Call ``target(rank, directory)`` in ``size`` processes, and print errors as the command line does."""
    directory.mkdir(parents=True, exist_ok=True)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    processes = [context().Process(target=_run, args=(target, rank, size, port, directory)) for rank in range(size)]
    for process in processes:
        process.start()
    began = time.monotonic()  # the server of the first processes has imported what they need
    found = []
    for rank, process in enumerate(processes):
        process.join(max(0.1, LONGEST - (time.monotonic() - began)))
        if process.is_alive():
            process.kill()
            process.join()
        at = time.monotonic()
        found.append(Ended(process.exitcode, (directory / f"output-{rank}").read_text(), at - began, at))
    return found


def _run(target: Callable[[int, Path], None], rank: int, size: int, port: int, directory: Path) -> None:
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_RANK": str(rank)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    output = os.open(directory / f"output-{rank}", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    code: int | str | None = 0
    try:
        target(rank, directory)
    except TunesmithError as error:
        print(f"tunesmith: error: {error}", file=sys.stderr, flush=True)
        code = error.exit_code
    except SystemExit as stop:
        code = stop.code
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 1)
