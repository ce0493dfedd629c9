"""The lock file of a run: it is locked by the process that writes to the run, and names it."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

LOCK = "lock"
LARGEST_PID = 2**31 - 1


def write_holder(descriptor: int) -> None:
    """Write this process into the open lock file, which it has locked."""
    own = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
        "boot": _boot(),
    }
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, (json.dumps(own) + "\n").encode(), 0)


def _boot() -> str | None:
    """An id of the present boot of the machine, where the system has one."""
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text(encoding="ascii").strip() if path.is_file() else None


def _parse_lock(content: bytes) -> dict[str, Any] | None:
    """The process that a lock file names: pid, host, since, boot. None if it is empty, torn or somebody else's."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return None
    is_ours = isinstance(found, dict) and type(found.get("pid")) is int and {"host", "since", "boot"} <= found.keys()
    return found if is_ours else None


def read_holder(descriptor: int) -> str | None:
    """The process that a lock file names, or None."""
    found = _parse_lock(os.pread(descriptor, 4096, 0))
    return None if found is None else f"process {found['pid']} on {found['host']} since {found['since']}"


def is_in_use(directory: Path) -> bool:
    """Whether a process writes to the run now; a process on another machine is believed to be alive."""
    try:
        found = _parse_lock((directory / LOCK).read_bytes())
    except OSError:
        return False
    if found is None:
        return False
    if found["host"] != socket.gethostname():
        return True
    number, path = found["pid"], directory / LOCK
    return found["boot"] == _boot() and 0 < number <= LARGEST_PID and _is_alive(number) and _is_locked(path)


def _is_alive(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # the process of another user
    return True


def _is_locked(path: Path) -> bool:
    """Whether a process has locked the file. It is only asked where the file names a process that is alive."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        pass  # it is gone, or cannot be opened
    return False
