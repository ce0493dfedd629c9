"""One real command in a forked child: how it ended, what it printed, what it cost, and what it must never touch."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.campaigns.exit_codes import exit_code_of
from tunesmith.cli.main import main as run_command

CODES = frozenset({0, 64, 65, 66, 70, 74, 75, 76, 78, 130})
"""The documented exit codes."""
MOST_SECONDS, MOST_BYTES = 30.0, 1 << 30
STOPPED_AT = 3 << 30  # bytes; a child is killed before it takes the memory of the machine
FORBIDDEN = {"pickle.find_class", "socket.connect", "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn"}
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
TRACEBACK = re.compile(
    r"Traceback \(most recent call last\)|panicked at|Fatal Python error|RuntimeError: |Exception in"
)
CANARY = "canary"
IN_OPEN, IN_NONBLOCK = 0x20, 0x800


@dataclass(frozen=True, slots=True)
class Ending:
    """How a command ended.

    code: exit code, negative for a signal.
    output: what it printed to standard output and standard error.
    seconds: of CPU time; of time on the clock if it did nothing but wait.
    grown: bytes of memory in addition to those that it began with.
    events: attempts to unpickle, connect, or start a program.
    opened: whether a file of the directory outside was opened.
    """

    code: int
    output: str
    seconds: float
    grown: int
    events: tuple[str, ...]
    opened: bool

    def faults(self, root: Path, usual: Collection[str]) -> Iterator[str]:
        """What must not happen, in a word or two.

        root: of the trial.
        usual: events of the same command with a sound model.
        """
        if self.opened:
            yield "opened outside"
        if set(self.events) - set(usual):
            yield "code, socket or process"
        if any(root.rglob(CANARY)):
            yield "canary written"
        if TRACEBACK.search(self.output):
            yield "traceback"
        if self.seconds > MOST_SECONDS:
            yield "slow"
        if self.grown > MOST_BYTES:
            yield "memory"
        if CONTROL.search(self.output):
            yield "control characters"
        if self.code not in CODES:
            yield "exit code"
        elif self.code and not self.output.strip():
            yield "no message"


class OutsideWatch:
    """Sees whether any file of a directory is opened, by any process (inotify)."""

    def __init__(self, directory: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = libc.inotify_init1(IN_NONBLOCK)
        if libc.inotify_add_watch(self._descriptor, os.fsencode(directory), IN_OPEN) < 0:
            raise OSError(ctypes.get_errno(), "inotify")

    def opened(self) -> bool:
        """Whether a file was opened since the watch began. It ends the watch."""
        try:
            return bool(os.read(self._descriptor, 1 << 16))
        except BlockingIOError:
            return False
        finally:
            os.close(self._descriptor)


def run_forked(words: Sequence[str], root: Path, outside: Path, given: str) -> Ending:
    """Run a command of Tunesmith in a copy of this process, which has imported everything already.

    words: of the command line.
    root: the working directory, which gets the output.
    outside: a directory that must stay unopened.
    given: standard input.
    """
    (root / "stdin").write_text(given)
    watch = OutsideWatch(outside)
    before = _resident(os.getpid())
    child = os.fork()
    if child == 0:
        os._exit(_run_here(words, root))
    code, seconds, peak = _wait(child, before)
    output = (root / "output").read_bytes().decode(errors="backslashreplace")
    events = (root / "events").read_text().splitlines() if (root / "events").exists() else ()
    return Ending(code, output, seconds, max(peak - before, 0), tuple(events), watch.opened())


def _wait(child: int, before: int) -> tuple[int, float, int]:
    """(exit code, seconds, largest memory in bytes) of a child, which is killed when it exceeds what is allowed."""
    began = last = time.monotonic()
    used, peak = 0.0, 0
    while True:
        found, status, usage = os.wait4(child, os.WNOHANG)
        now = time.monotonic()
        if found:
            seconds = usage.ru_utime + usage.ru_stime
            waited = now - last if now - last > MOST_SECONDS else 0.0
            return os.waitstatus_to_exitcode(status), max(seconds, waited), max(usage.ru_maxrss * 1024, peak)
        peak = max(peak, _resident(child))
        if (spent := _processor_seconds(child)) > used + 0.01:
            used, last = spent, now
        if spent > MOST_SECONDS + 1 or now - last > MOST_SECONDS + 1 or peak - before > STOPPED_AT:
            with suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)
        time.sleep(0.01 if now - began < 2 else 0.05)


def _run_here(words: Sequence[str], root: Path) -> int:
    """Run the command in this process; returns its exit code."""
    os.setsid()
    os.chdir(root)
    for number, name, flags in ((0, "stdin", os.O_RDONLY), (1, "output", os.O_WRONLY | os.O_CREAT | os.O_APPEND)):
        os.dup2(os.open(name, flags, 0o600), number)
    os.dup2(1, 2)
    events = os.open("events", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def watch(event: str, details: tuple[Any, ...]) -> None:
        if event in FORBIDDEN:
            os.write(events, f"{event} {details[:2]!a}\n".encode())

    sys.addaudithook(watch)
    sys.argv = ["tunesmith", *words]
    sys.stdin = os.fdopen(0, encoding="utf-8")
    sys.stdout, sys.stderr = (os.fdopen(number, "w", encoding="utf-8", buffering=1) for number in (1, 2))
    return exit_code_of(run_command)


def _resident(process: int) -> int:
    """Bytes of memory of a process; 0 if there is none."""
    with suppress(OSError, IndexError):
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
    return 0


def _processor_seconds(process: int) -> float:
    with suppress(OSError, IndexError):
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0
