"""Sources of rows: a file, a directory, or a hub name. Every row has its place; nothing is guessed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tunesmith.data.sources.arrow_files import arrow_records
from tunesmith.data.sources.directories import DirectoryFiles, find_directory
from tunesmith.data.sources.files import InputFile, check_unchanged, find_file, read_errors
from tunesmith.data.sources.hub import hub_digest, hub_records, load_hub_rows
from tunesmith.data.sources.json_files import array_records, jsonl_records
from tunesmith.data.sources.kinds import BINARY, PARTS, FileKind, is_named_like_a_file
from tunesmith.data.sources.paragraphs import paragraph_records
from tunesmith.data.sources.parquet_files import parquet_records
from tunesmith.data.sources.records import ParsedRecord, SeveralPartsError
from tunesmith.data.sources.rows import PlainRow, SourceRow
from tunesmith.data.sources.setting_words import setting_words
from tunesmith.data.sources.spreadsheets import spreadsheet_records
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
    "xlsx": spreadsheet_records,
    "arrow": arrow_records,
}


@dataclass(frozen=True, slots=True)
class OpenedSource:
    """A source that was found.

    path: a file, a directory or a hub name.
    split: of a hub dataset or a saved dataset, the sheet of a workbook, or the list of an object of JSON.
    files: as they were when the source was opened; empty for a hub name.
    hub: the rows of a hub name, as a ``datasets.Dataset``.
    digest: of the whole content.
    left_out: names in a directory that are not read.
    key: of the source in the recipe, for messages; see ``setting_words``.
    """

    path: str
    split: str | None
    files: tuple[InputFile, ...]
    hub: Any
    digest: str
    left_out: tuple[str, ...] = ()
    key: str = ""


def open_source(path: str, split: str | None = None, config: str | None = None, key: str = "") -> OpenedSource:
    """Find a source and read it once for its digest.

    path, split, config, key: see ``find_source``.
    Raises MissingInputError, DataError or RecipeError.
    """
    found = find_source(path, split, config, key)
    if not found.files:
        return replace(found, digest=hub_digest(found.hub))
    with read_errors(Path(path)):
        digest = fingerprint([_content(file) for file in found.files])
    for file in found.files:
        check_unchanged(file)
    return replace(found, digest=digest)


def _content(file: InputFile) -> tuple[str, ...]:
    """What decides the rows of a file."""
    return (file.kind, sha256(file.path), *(() if file.part is None else (file.part,)))


def find_source(path: str, split: str | None = None, config: str | None = None, key: str = "") -> OpenedSource:
    """Find a source without reading it; its digest is empty.

    path: a file, a directory or a hub name.
    split: of a dataset, the sheet of a workbook, or the list of an object of JSON; None where there is only one.
    config: the configuration of a hub dataset.
    key: of the source in the recipe, for messages.
    Raises MissingInputError, DataError or RecipeError.
    """
    local = _expanded(path)
    if not _exists(local):
        if looks_like_path(path) or is_named_like_a_file(local) or not HUB_NAME.fullmatch(path):
            place = "" if local.is_absolute() else "; it is relative to the current directory"
            raise MissingInputError("the path does not exist", where=path, advice=f"check it{place}")
        return OpenedSource(path, split, (), load_hub_rows(path, split, config, key), "", key=key)
    if config is not None:
        what = f"a configuration is given, but {path} is a local path"
        raise RecipeError(what, advice=setting_words(key, "config", None))
    with _choices(path, key):
        found = find_directory(local, split) if local.is_dir() else DirectoryFiles((find_file(local, split),))
    if split is not None and any(file.part is not None and file.kind not in PARTS for file in found.files):
        what = f"a split is given, but {path} has no splits"
        raise RecipeError(what, advice=setting_words(key, "split", None))
    return OpenedSource(path, split, found.files, None, "", found.left_out, key)


@contextmanager
def _choices(path: str, key: str) -> Iterator[None]:
    """Turn the error of a choice that has to be made into one with the words to append."""
    try:
        yield
    except SeveralPartsError as error:
        name = error.parts[0] if error.parts else None
        raise RecipeError(error.what, where=path, advice=setting_words(key, "split", name)) from None


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


def read_rows(source: OpenedSource) -> Iterator[PlainRow | DataError]:
    """Every row of a source in order, or the error of a row that cannot be parsed.

    At the end the files are compared with what they were when they were opened.
    Raises DataError where nothing after it can be read, such as a broken file, and RecipeError where a part of a file
    has to be chosen.
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
        with _choices(str(file.path), source.key):
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
