"""Sources of rows: a file, a directory of files, or a hub name. Every row knows its place; nothing is guessed or mended."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tunesmith.data.sources.files import InputFile, check_unchanged, find, kind_of, reading
from tunesmith.data.sources.hub import hub_digest, hub_records, load
from tunesmith.data.sources.json_files import array_records, jsonl_records
from tunesmith.data.sources.parquet_files import parquet_records
from tunesmith.data.sources.strict_json import RecordFault
from tunesmith.errors import DataError, MissingInputError, RecipeError
from tunesmith.files import fingerprint, looks_like_path, sha256

HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
FORMATS = {"json": array_records, "jsonl": jsonl_records, "parquet": parquet_records}


@dataclass(frozen=True, slots=True)
class Row:
    """place: ``file.jsonl:12``, ``file.parquet:row 12``, ``name[train]:row 12``. share: part of the source read so far."""

    place: str
    value: dict[str, Any]
    share: float


@dataclass(frozen=True, slots=True)
class OpenedSource:
    """A source that was found. path: a file, a directory or a hub name. split: of a hub data set. files: as they were; empty for a hub name. hub: the rows of a hub name. digest: of all content."""

    path: str
    split: str | None
    files: tuple[InputFile, ...]
    hub: Any
    digest: str


def open_source(path: str, split: str | None = None) -> OpenedSource:
    """Find a source and read it once for its digest. Raises MissingInputError, DataError or RecipeError."""
    found = find_source(path, split)
    if not found.files:
        return replace(found, digest=hub_digest(found.hub))
    with reading(Path(path)):
        digest = fingerprint([(file.kind, sha256(file.path)) for file in found.files])
    for file in found.files:
        check_unchanged(file)
    return replace(found, digest=digest)


def find_source(path: str, split: str | None = None) -> OpenedSource:
    """Find a source without reading it; its digest is empty. Raises MissingInputError, DataError or RecipeError."""
    local = _expanded(path)
    if not _exists(local):
        if looks_like_path(path) or kind_of(local) or not HUB_NAME.fullmatch(path):
            raise MissingInputError(
                "does not exist", where=path, advice="check the path; it is relative to the current directory"
            )
        return OpenedSource(path, split, (), load(path, split), "")
    if split is not None:
        raise RecipeError(f"data has a split, but {path} is on this machine", advice="remove split")
    return OpenedSource(path, split, _directory(local) if local.is_dir() else (find(local),), None, "")


def _expanded(path: str) -> Path:
    """With the home directory for ``~``. Raises MissingInputError."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise MissingInputError("names a user without a home directory", where=path, advice="write it out") from error


def _exists(path: Path) -> bool:
    """Whether there is anything of that name, a broken link included."""
    with reading(path):
        return path.is_symlink() or path.exists()


def _directory(path: Path) -> tuple[InputFile, ...]:
    """The data files directly in a directory, by name; other files (licences, cards) and folders are left alone."""
    with reading(path):
        names = sorted(item for item in path.iterdir() if kind_of(item) and not item.name.startswith("."))
    if not names:
        raise MissingInputError(
            "is a directory without data files",
            where=path,
            advice="they end in .json, .jsonl, .gz of these, or .parquet",
        )
    return tuple(find(name) for name in names)


def entries(source: OpenedSource) -> Iterator[Row | DataError]:
    """Every row, or what is wrong with it, in order. Raises what makes going on pointless: the fault of a whole file.

    At the end the files are compared with what they were when they were opened.
    """
    if not source.files:
        label = source.path + (f"[{source.split}]" if source.split else "")
        total = max(1, len(source.hub))
        for record in hub_records(source.hub):
            yield _entry(f"{label}:row {record.number}", record.value, record.end / total)
        return
    total, before = sum(file.size for file in source.files), 0
    for file in source.files:
        check_unchanged(file)
        word = "row " if file.kind == "parquet" else ""
        for record in FORMATS[file.kind](file):
            share = (before + file.size * min(1.0, record.end / file.length)) / total
            yield _entry(f"{file.path}:{word}{record.number}", record.value, share)
        check_unchanged(file)
        before += file.size


def _entry(place: str, value: dict[str, Any] | RecordFault, share: float) -> Row | DataError:
    if isinstance(value, RecordFault):
        return DataError(value.what, where=place, advice=value.advice)
    return Row(place, value, share)


def rows(path: str, split: str | None = None) -> Iterator[Row]:
    """The rows of a source; the first fault is raised. Raises MissingInputError if there is none at all."""
    found = False
    for entry in entries(open_source(path, split)):
        if isinstance(entry, DataError):
            raise entry
        found = True
        yield entry
    if not found:
        raise MissingInputError("holds no records", where=path, advice="check what was exported")
