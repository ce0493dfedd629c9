"""Sources of rows: a file, a directory of files, or a hub name. Every row has its place; nothing is guessed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tunesmith.data.sources.files import InputFile, check_unchanged, find_file, read_errors
from tunesmith.data.sources.hub import hub_digest, hub_records, load_hub_rows
from tunesmith.data.sources.json_files import array_records, jsonl_records
from tunesmith.data.sources.kinds import BINARY, FileKind, file_kind, is_named_like_a_file
from tunesmith.data.sources.paragraphs import paragraph_records
from tunesmith.data.sources.parquet_files import parquet_records
from tunesmith.data.sources.records import ParsedRecord
from tunesmith.data.sources.rows import PlainRow, SourceRow
from tunesmith.data.sources.strict_json import RecordError
from tunesmith.data.sources.tables import table_records
from tunesmith.errors import DataError, MissingInputError, RecipeError
from tunesmith.files import fingerprint, looks_like_path, sha256

HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
PARSERS: Mapping[FileKind, Callable[[InputFile], Iterator[ParsedRecord]]] = {
    "json": array_records,
    "jsonl": jsonl_records,
    "csv": table_records,
    "tsv": table_records,
    "txt": paragraph_records,
    "parquet": parquet_records,
}


@dataclass(frozen=True, slots=True)
class OpenedSource:
    """A source that was found.

    path: a file, a directory or a hub name.
    split: of a hub dataset.
    files: as they were when the source was opened; empty for a hub name.
    hub: the rows of a hub name, as a ``datasets.Dataset``.
    digest: of the whole content.
    """

    path: str
    split: str | None
    files: tuple[InputFile, ...]
    hub: Any
    digest: str


def open_source(path: str, split: str | None = None) -> OpenedSource:
    """Find a source and read it once for its digest.

    Raises MissingInputError, DataError or RecipeError.
    """
    found = find_source(path, split)
    if not found.files:
        return replace(found, digest=hub_digest(found.hub))
    with read_errors(Path(path)):
        digest = fingerprint([(file.kind, sha256(file.path)) for file in found.files])
    for file in found.files:
        check_unchanged(file)
    return replace(found, digest=digest)


def find_source(path: str, split: str | None = None) -> OpenedSource:
    """Find a source without reading it; its digest is empty.

    Raises MissingInputError, DataError or RecipeError.
    """
    local = _expanded(path)
    if not _exists(local):
        if looks_like_path(path) or is_named_like_a_file(local) or not HUB_NAME.fullmatch(path):
            raise MissingInputError(
                "the path does not exist", where=path, advice="check it; it is relative to the current directory"
            )
        return OpenedSource(path, split, (), load_hub_rows(path, split), "")
    if split is not None:
        raise RecipeError(f"a split is given, but {path} is a local path", advice="remove split")
    return OpenedSource(path, split, _data_files(local) if local.is_dir() else (find_file(local),), None, "")


def _expanded(path: str) -> Path:
    """The path with the home directory in place of ``~``. Raises MissingInputError."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        what = "the path names a user without a home directory"
        raise MissingInputError(what, where=path, advice="write the directory out") from error


def _exists(path: Path) -> bool:
    """Whether there is anything of that name, a broken link included."""
    with read_errors(path):
        return path.is_symlink() or path.exists()


def _data_files(path: Path) -> tuple[InputFile, ...]:
    """The data files directly in a directory, sorted by name; other files (licences, cards) and folders are ignored."""
    with read_errors(path):
        names = sorted(item for item in path.iterdir() if file_kind(item) and not item.name.startswith("."))
    if not names:
        raise MissingInputError(
            "the directory has no data files",
            where=path,
            advice="they end in .json, .jsonl, .gz of these, or .parquet",
        )
    return tuple(find_file(name) for name in names)


def read_rows(source: OpenedSource) -> Iterator[PlainRow | DataError]:
    """Every row of a source in order, or the error of a row that cannot be parsed.

    At the end the files are compared with what they were when they were opened.
    Raises DataError where nothing after it can be read, such as a broken file.
    """
    if not source.files:
        label = source.path + (f"[{source.split}]" if source.split else "")
        total = max(1, len(source.hub))
        for record in hub_records(source.hub):
            yield _row(f"{label}:row {record.number}", record.value, record.end / total)
        return
    total, before = sum(file.size for file in source.files), 0
    for file in source.files:
        check_unchanged(file)
        word = "row " if file.kind in BINARY else ""
        for record in PARSERS[file.kind](file):
            share = (before + file.size * min(1.0, record.end / file.length)) / total
            yield _row(f"{file.path}:{word}{record.name}", record.value, share)
        check_unchanged(file)
        before += file.size


def _row(place: str, value: dict[str, Any] | RecordError, share: float) -> PlainRow | DataError:
    if isinstance(value, RecordError):
        return DataError(value.what, where=place, advice=value.advice)
    return SourceRow(place, value, share)


def rows(path: str, split: str | None = None) -> Iterator[PlainRow]:
    """The rows of a source, none of which may be wrong.

    Raises the first error, and MissingInputError if there is no row at all.
    """
    found = False
    for row in read_rows(open_source(path, split)):
        if isinstance(row, DataError):
            raise row
        found = True
        yield row
    if not found:
        raise MissingInputError("the source has no records", where=path, advice="check what was exported")
