"""The pages in a directory of runs: those of runs, of checks, and of comparisons."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from tunesmith.apps.runs import ListedRun, find_runs, list_run
from tunesmith.data.sources.strict_json import HALF
from tunesmith.errors import TunesmithError
from tunesmith.generate.export_directory import find_export, read_export
from tunesmith.train.run.directory import PAGE

LARGEST = 64 * 2**20
"""Bytes of a page."""

DEPTH = 3
"""Levels of directories below that of the runs in which pages are looked for."""

MOST_PAGES = 200


@dataclass(frozen=True, slots=True)
class ListedPage:
    """A run, or a page that belongs to none.

    name: path relative to the directory.
    run: what is known about the run; None for another page, such as a comparison.
    address: of its page; empty if it has none.
    pages: (name, address) of further pages in its directory.
    model: the name by which it can be chatted with; empty if it cannot.
    """

    name: str
    run: ListedRun | None
    address: str
    pages: tuple[tuple[str, str], ...] = ()
    model: str = ""


def list_pages(directory: Path) -> list[ListedPage]:
    """The runs in a directory, the newest first, and then the pages outside of them."""
    models = {path: name for name, path in chat_models(directory).items()}
    runs = sorted(
        (list_run(path) for path in find_runs(directory) if is_text(str(path))),
        key=lambda each: each.updated,
        reverse=True,
    )
    pages = find_pages(directory)
    found = []
    for run in runs:
        path = Path(run.path)
        own = [page for page in pages if page.is_relative_to(path)]
        further = tuple((page.name, _address(directory, page)) for page in own if page != path / PAGE)
        address = _address(directory, path / PAGE) if path / PAGE in own else ""
        found.append(ListedPage(_name(directory, path), run, address, further, models.get(run.path, "")))
        pages = [page for page in pages if page not in own]
    return [*found, *(ListedPage(_name(directory, page), None, _address(directory, page)) for page in pages)]


def find_pages(directory: Path, depth: int = DEPTH) -> list[Path]:
    """The HTML files in a directory and below it; links are not followed."""
    found: list[Path] = []
    try:
        entries = sorted(os.scandir(directory), key=lambda entry: entry.name)
    except OSError:
        return []
    for entry in entries:
        if entry.name.startswith(".") or not is_text(entry.name):
            continue
        if entry.is_file(follow_symlinks=False) and entry.name.endswith(".html"):
            found.append(Path(entry.path))
        elif depth and entry.is_dir(follow_symlinks=False):
            found += find_pages(Path(entry.path), depth - 1)
    return found[:MOST_PAGES]


def find_page(directory: Path, path: str) -> Path | None:
    """The page at a path relative to the directory, if it is one that ``find_pages`` can find."""
    names, page = path.split("/"), directory
    if not path.endswith(".html") or len(names) > DEPTH + 1 or not is_text(path):
        return None
    for name in names:
        page /= name
        if not name or name.startswith(".") or page.is_symlink():
            return None
    return page if page.is_file() and page.stat().st_size <= LARGEST else None


def chat_models(directory: Path) -> dict[str, str]:
    """Name -> directory of the runs that have an export which writes replies."""
    found = {}
    for path in find_runs(directory):
        if not is_text(str(path)):
            continue
        try:
            info = read_export(find_export(path))
        except TunesmithError:
            continue
        if info is not None and info.kind == "assistant":
            found[_name(directory, path)] = str(path)
    return found


def is_text(name: str) -> bool:
    """Whether a name of a file is UTF-8. Others cannot be in a page or a URL, and are left out."""
    return not HALF.search(name)


def _name(directory: Path, path: Path) -> str:
    return path.relative_to(directory).as_posix() if path != directory else path.name


def _address(directory: Path, page: Path) -> str:
    return "/runs/" + quote(page.relative_to(directory).as_posix())
