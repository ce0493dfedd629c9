"""The library that injects faults into calls that change files, and the faults that it knows."""

from __future__ import annotations

import errno
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

SOURCE = Path(__file__).with_name("system_calls.c")
KILL, SHORT = -1, -2
FAULTS: Mapping[str, tuple[int, bool]] = {
    "none": (0, False),
    "kill": (KILL, False),
    "short": (SHORT, False),
    **{name: (getattr(errno, name), False) for name in ("ENOSPC", "EIO", "EROFS", "EDQUOT", "EINTR")},
    **{f"{name}-stays": (getattr(errno, name), True) for name in ("ENOSPC", "EIO", "EROFS")},
}
"""Fault -> (what happens at a call, whether it happens at every later call too)."""


def compile_library(directory: Path) -> Path:
    """Compile the library that injects faults. Raises SystemExit without a C compiler."""
    target = directory / "system_calls.so"
    if shutil.which("gcc") is None:
        raise SystemExit("this campaign needs gcc")
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", target, SOURCE, "-ldl"], check=True)
    return target
