"""Work in a child process that is killed after some time."""

from __future__ import annotations

import os
import signal
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import torch

import tests.campaigns.imported_before  # noqa: F401


def finishes(work: Callable[[], object], log: Path, patience: float | None) -> bool:
    """Do the work in a forked child, which is killed after ``patience`` seconds (None: never); whether it ended.

    log: the file that gets what the child prints.
    Raises SystemExit with the end of the log if the work fails by itself.
    """
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setsid()
            output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(output, 1)
            os.dup2(output, 2)
            torch.set_num_threads(1)
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    deadline = None if patience is None else time.monotonic() + patience
    while True:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            if os.waitstatus_to_exitcode(status) != 0:
                raise SystemExit("the work failed by itself:\n" + log.read_text()[-3000:])
            return True
        if deadline is not None and time.monotonic() >= deadline:
            os.killpg(child, signal.SIGKILL) if _leads_group(child) else os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            _wait_for_group(child)
            return False
        time.sleep(0.002)


def _wait_for_group(group: int, seconds: float = 60.0) -> None:
    """Wait until no process of the group is left: between fork and exec, a child's program still has its locks."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.002)


def _leads_group(child: int) -> bool:
    try:
        return os.getpgid(child) == child
    except ProcessLookupError:
        return False
