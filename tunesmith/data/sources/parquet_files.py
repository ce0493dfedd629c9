"""Records of a parquet file, some hundred at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow
import pyarrow.parquet

from tunesmith.data.sources.files import (
    BLOCK,
    EXPANSION_FREE,
    EXPANSION_LIMIT,
    InputFile,
    expansion_error,
    read_errors,
)
from tunesmith.data.sources.kinds import NAMES
from tunesmith.data.sources.records import ParsedRecord, checked_record
from tunesmith.data.sources.strict_json import RECORD_LIMIT, SHOWN_CHARACTERS, RecordError
from tunesmith.errors import DataError

ROWS_AT_ONCE = 256
CONVERSION = (ValueError, OverflowError, LookupError)  # what arrow raises for a value that Python does not have
LONGEST_REASON = 160  # characters of an error of arrow


def parquet_records(file: InputFile) -> Iterator[ParsedRecord]:
    """The rows of a file as objects; ``number`` is the row, from 1. Page checksums are compared if there are any.

    A truncated file is always refused, and rows are never left out. A changed byte inside a value is noticed only where
    the pages have checksums (most writers leave them out), one in the name of a column only if a reader uses that
    column. Raises DataError where the file is broken, decompresses to far more than its size, or has extension types.
    """
    row = 0
    with read_errors(file.path), arrow_errors(file):
        content = pyarrow.parquet.ParquetFile(  # without these two it holds whole row groups in memory
            file.path, pre_buffer=False, buffer_size=BLOCK, page_checksum_verification=True
        )
        total = _check_whole(file, content.metadata)
        check_columns(file, content.schema_arrow)
    batches = content.iter_batches(batch_size=ROWS_AT_ONCE, use_threads=False)
    while True:
        with read_errors(file.path), arrow_errors(file):
            batch = next(batches, None)
        if batch is None:
            break
        for value in row_objects(batch):
            row += 1
            yield ParsedRecord(
                row, checked_record(value, batch.nbytes > RECORD_LIMIT), file.size * row // max(1, total)
            )
    if row != total:
        raise _wrong_count(file, row, total)


def _check_whole(file: InputFile, footer: pyarrow.parquet.FileMetaData) -> int:
    """The number of rows, if the footer is consistent and claims no more than a file of that size may hold.

    Raises DataError.
    """
    groups = [footer.row_group(index) for index in range(footer.num_row_groups)]
    rows = sum(int(group.num_rows) for group in groups)
    size = sum(int(group.total_byte_size) for group in groups)
    if rows != footer.num_rows:
        raise _wrong_count(file, rows, footer.num_rows)
    if size > max(EXPANSION_FREE, EXPANSION_LIMIT * file.size):
        raise expansion_error(file)
    return rows


def check_columns(file: InputFile, schema: pyarrow.Schema) -> None:
    """Refuse columns of the same name, of which only the last would be read, and types that other code defines.

    Raises DataError.
    """
    for column in schema:
        name = repr(column.name[:SHOWN_CHARACTERS])
        if schema.names.count(column.name) > 1:
            raise DataError(f"the file has two columns {name}", where=file.path, advice="keep one of the two")
        if isinstance(column.type, pyarrow.BaseExtensionType):
            what = f"column {name} has an extension type ({column.type})"
            raise DataError(what, where=file.path, advice="write plain text and numbers")


def _wrong_count(file: InputFile, found: int, total: int) -> DataError:
    what = f"the parquet file is broken: it has {found:,} rows, but its footer claims {total:,}"
    return DataError(what, where=file.path, advice="download or write it again")


def row_objects(batch: pyarrow.RecordBatch) -> list[dict[str, Any] | RecordError]:
    """The rows of a batch as Python values; if there is one that Python cannot hold, row by row."""
    try:
        values: list[dict[str, Any] | RecordError] = batch.to_pylist()
    except CONVERSION:
        return [_object(batch.slice(index, 1)) for index in range(batch.num_rows)]
    return values


def _object(row: pyarrow.RecordBatch) -> dict[str, Any] | RecordError:
    """One row, or the column that cannot be converted: bytes that are not UTF-8, a date after the year 9999, ..."""
    value: dict[str, Any] = {}
    for name, column in zip(row.schema.names, row.columns, strict=True):
        try:
            (value[name],) = column.to_pylist()
        except UnicodeDecodeError as error:
            return RecordError(
                f"column {name[:SHOWN_CHARACTERS]!r}: byte 0x{error.object[error.start]:02x} is not UTF-8",
                "write it again",
            )
        except CONVERSION as error:
            return RecordError(
                f"column {name[:SHOWN_CHARACTERS]!r} cannot be read: {_first_line(error)}", "write it as text"
            )
    return value


@contextmanager
def arrow_errors(file: InputFile) -> Iterator[None]:
    """Turn errors of arrow into one clear DataError."""
    try:
        yield
    except (pyarrow.ArrowException, MemoryError, *CONVERSION, OSError) as error:
        raise DataError(
            f"the {NAMES[file.kind]} is broken: {_first_line(error)}",
            where=file.path,
            advice="download or write it again",
        ) from error


def _first_line(error: Exception) -> str:
    """The message of an error as one line of printable characters, not too long."""
    if isinstance(error, MemoryError):
        return "it claims more memory than there is"
    line = next(iter(str(error).splitlines()), type(error).__name__)[:LONGEST_REASON]
    return "".join(letter if letter.isprintable() else "?" for letter in line)
