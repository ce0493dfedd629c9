"""The command line in a forked child of a process that has imported everything, so that a trial costs no imports."""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

import tests.campaigns.imported_before  # noqa: F401
from tests.campaigns.exit_codes import exit_code_of
from tunesmith.cli.main import main

TRACEBACK = "Traceback (most recent call last)"
LONGEST = 300.0
"""Seconds after which a command that does not end is killed."""
DOCUMENTED = (0, 64, 65, 66, 70, 74, 75, 76, 78, 130)
"""The exit codes of docs/design.md."""


@dataclass(frozen=True, slots=True)
class EndedCommand:
    """How a command has ended.

    code: its exit code, negative for a signal.
    text: all that it has printed, errors included.
    """

    code: int
    text: str

    def last_line(self) -> str:
        lines = self.text.strip().splitlines()
        return lines[-1][:400] if lines else ""


@dataclass(frozen=True, slots=True)
class ForkedCommand:
    """A command that runs in a child, which leads a session.

    process: its number.
    log: the file that it prints to.
    """

    process: int
    log: Path

    def wait(self, patience: float = LONGEST) -> EndedCommand:
        """Wait for its end; after ``patience`` seconds it is killed."""
        deadline, pause = time.monotonic() + patience, 0.001
        while True:
            found, status = os.waitpid(self.process, os.WNOHANG)
            if found:
                return EndedCommand(os.waitstatus_to_exitcode(status), self.log.read_text(errors="replace"))
            if time.monotonic() >= deadline:
                os.kill(self.process, signal.SIGKILL)
            time.sleep(pause)
            pause = min(pause * 1.5, 0.02)

    def send(self, number: int) -> None:
        """Send a signal to the process, if it has not been waited for."""
        os.kill(self.process, number)

    def others(self, patience: float = 10.0) -> list[int]:
        """The processes of its session that still run after ``patience`` seconds; they are killed then."""
        deadline = time.monotonic() + patience
        while (found := _session(self.process)) and time.monotonic() < deadline:
            time.sleep(0.05)
        for each in found:
            with suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)
        return found


def start_command(words: Sequence[str], log: Path, prepare: Callable[[], object] | None = None) -> ForkedCommand:
    """Start `tunesmith` with some words in a child. prepare: called in the child before, to plant a fault."""
    sys.stdout.flush()
    sys.stderr.flush()
    log.write_text("")
    child = os.fork()
    if child == 0:
        os._exit(exit_code_of(lambda: _run_here(words, log, prepare)))
    return ForkedCommand(child, log)


def run_command(words: Sequence[str], log: Path, prepare: Callable[[], object] | None = None) -> EndedCommand:
    """Run `tunesmith` with some words in a child."""
    return start_command(words, log, prepare).wait()


def start_process(words: Sequence[str], log: Path) -> ForkedCommand:
    """Start `tunesmith` with some words in a new process, which imports everything itself."""
    log.write_text("")
    child = os.fork()
    if child == 0:
        os.setsid()
        output = os.open(log, os.O_WRONLY | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.execv(sys.executable, [sys.executable, "-m", "tunesmith.cli", *words])
    return ForkedCommand(child, log)


def _run_here(words: Sequence[str], log: Path, prepare: Callable[[], object] | None) -> None:
    os.setsid()
    output = os.open(log, os.O_WRONLY | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    for number, name in ((1, "stdout"), (2, "stderr")):  # pytest may have replaced them
        setattr(sys, name, open(number, "w", buffering=1, encoding="utf-8", closefd=False))  # noqa: SIM115
    torch.set_num_threads(1)
    sys.argv = ["tunesmith", *words]
    if prepare is not None:
        prepare()
    main()


def _session(leader: int) -> list[int]:
    """The processes of a session, apart from its leader and from those that have ended."""
    found = []
    for each in Path("/proc").iterdir():
        if each.name.isdecimal() and int(each.name) != leader:
            with suppress(OSError):
                fields = (each / "stat").read_text().rpartition(")")[2].split()
                if int(fields[3]) == leader and fields[0] != "Z":
                    found.append(int(each.name))
    return found


def wait_for_byte(descriptor: int, patience: float) -> bool:
    """Whether a byte came through a pipe; False if its other end was closed, or after ``patience`` seconds."""
    ready, _, _ = select.select([descriptor], [], [], patience)
    return bool(ready) and os.read(descriptor, 1) != b""
