"""What a process runs on: the state of Tunesmith's code, the packages that it has loaded, the system, the processor."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path

from tunesmith import __version__
from tunesmith.files import fingerprint, sha256

SECONDS = 20.0
"""Longest time that git may take; without an answer only the digest of the source files is recorded."""
CPU_INFORMATION = Path("/proc/cpuinfo")


def describe_code(package: Path, digest: str) -> dict[str, str | None]:
    """The version of the code, and of a git checkout its commit and a digest of what is not committed.

    package: the directory of the package ``tunesmith``.
    digest: of the source files that decide the result of a run.
    """
    return {"version": __version__, "sources": digest, **_describe_checkout(package)}


def _describe_checkout(package: Path) -> dict[str, str | None]:
    """``commit``, and ``changes``: None if all files of the package are as in the commit. Empty without a checkout."""
    root = package.parent
    if not (root / ".git").exists():
        return {}
    try:
        commit = _ask_git(root, "rev-parse", "--verify", "HEAD").decode().strip()
        difference = _ask_git(root, "diff", "--no-ext-diff", "--no-textconv", "--binary", "HEAD", "--", package.name)
        listed = _ask_git(root, "ls-files", "-z", "--others", "--exclude-standard", "--", package.name)
        new = {name: sha256(root / name) for name in listed.decode().split("\0") if name}
    except (OSError, ValueError, subprocess.SubprocessError):
        return {}
    changed = bool(difference or new)
    changes = fingerprint({"difference": hashlib.sha256(difference).hexdigest(), "new": new}) if changed else None
    return {"commit": commit, "changes": changes}


def _ask_git(root: Path, *words: str) -> bytes:
    """What git prints. Raises OSError without git, SubprocessError where it fails."""
    # Variables such as GIT_DIR, which git sets for its hooks, name another repository.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-C", str(root), *words]
    return subprocess.run(command, capture_output=True, check=True, timeout=SECONDS, env=environment).stdout


def loaded_packages() -> Mapping[str, str]:
    """Name -> version of every installed package of which a module is loaded."""
    loaded = {name.partition(".")[0] for name in sys.modules}
    names = {name for module, names in _installed().items() if module in loaded for name in names if name}
    found = {name: installed_version(name) for name in sorted(names, key=str.lower)}
    return {name: found_version for name, found_version in found.items() if found_version is not None}


@cache
def installed_version(name: str) -> str | None:
    """The version of a package; None if it is not installed. Read once, as the loaded modules do not change."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


@cache
def _installed() -> Mapping[str, list[str]]:
    """Module -> the packages that install it; reading them takes most of a second."""
    return packages_distributions()


def processor_name() -> str:
    """The model of the processor, or its architecture where the system does not name it."""
    try:
        lines = CPU_INFORMATION.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()


def without_home(text: str) -> str:
    """The text with ``~`` in place of the path of the user's home directory, which often has the name of a person."""
    home = str(Path.home())
    return text if home == "/" else text.replace(f"{home}/", "~/")
