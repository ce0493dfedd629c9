"""Megabytes of an installation with the server and without it.

    python -m benchmarks.install_size

Counted are the files of every distribution that Tunesmith needs, with what they need in turn, and the package itself.
Without the server there are neither the packages that only it needs nor ``tunesmith/serve``.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import tunesmith

SERVER = ("fastapi", "starlette", "uvicorn")
PACKAGE = Path(tunesmith.__file__).parent
MEGABYTE = 1e6


def find_distribution(name: str) -> Distribution | None:
    try:
        return distribution(name)
    except PackageNotFoundError:
        return None  # for another system


def required(name: str, extras: Iterable[str]) -> list[Requirement]:
    """What a distribution needs on this computer, with its extras."""
    found = find_distribution(name)
    all_of = [Requirement(line) for line in (found.requires if found is not None else None) or ()]
    wanted = [{"extra": extra} for extra in ("", *extras)]
    return [each for each in all_of if each.marker is None or any(map(each.marker.evaluate, wanted))]


def find_needed(direct: Iterable[Requirement]) -> set[str]:
    """The names of some distributions and of all that they need."""
    found = set[tuple[str, frozenset[str]]]()
    waiting = [(canonicalize_name(each.name), frozenset(each.extras)) for each in direct]
    while waiting:
        name, extras = waiting.pop()
        if (name, extras) not in found:
            found.add((name, extras))
            needed = required(name, extras)
            waiting += [(canonicalize_name(each.name), frozenset(each.extras)) for each in needed]
    return {name for name, _ in found}


def size_of(name: str) -> int:
    """Bytes of the installed files."""
    found = find_distribution(name)
    paths = [Path(str(found.locate_file(file))) for file in found.files or ()] if found is not None else []
    return sum(path.stat().st_size for path in paths if path.is_file())


def size_of_folder(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")


def main() -> None:
    """Print both sizes and what the difference consists of."""
    direct = required("tunesmith", ())
    everything = find_needed(direct)
    only_server = everything - find_needed(each for each in direct if each.name not in SERVER)
    own, serve = size_of_folder(PACKAGE), size_of_folder(PACKAGE / "serve")
    whole = sum(map(size_of, everything)) + own
    added = sum(map(size_of, only_server)) + serve
    print(f"with the server:    {whole / MEGABYTE:8.2f} MB, {len(everything)} distributions")
    print(f"without the server: {(whole - added) / MEGABYTE:8.2f} MB, {len(everything - only_server)} distributions")
    for name in sorted(only_server):
        print(f"  {name}: {size_of(name) / MEGABYTE:.2f} MB")
    print(f"  tunesmith/serve: {serve / MEGABYTE:.2f} MB")


if __name__ == "__main__":
    main()
