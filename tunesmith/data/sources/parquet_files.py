"""Records of a parquet file, some hundred at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow
import pyarrow.parquet

from tunesmith.data.sources.files import BLOCK, GROWTH_FREE, GROWTH_LIMIT, InputFile, reading, too_large
from tunesmith.data.sources.json_files import Record
from tunesmith.data.sources.strict_json import RECORD_LIMIT, SHOWN, RecordFault, check_record
from tunesmith.errors import DataError

ROWS_AT_ONCE = 256
CONVERSION = (ValueError, OverflowError, LookupError)  # what arrow's values raise when Python has no such value
LONGEST_REASON = 160  # characters of what arrow says


def parquet_records(file: InputFile) -> Iterator[Record]:
    """The rows of a file as objects; ``number`` is the row, from 1. Page checksums are compared where the file has them.

    A file that was cut is always refused, and never are rows left out. A changed byte inside a value is seen only where
    the pages have checksums (most writers leave them out), one in the name of a column only if a reader wants that column.
    Raises DataError where the file is broken, unpacks to far more than its size, or holds extension types.
    """
    row = 0
    with reading(file.path), _arrow_errors(file):
        content = pyarrow.parquet.ParquetFile(  # without these two it holds whole row groups in memory
            file.path, pre_buffer=False, buffer_size=BLOCK, page_checksum_verification=True
        )
        total = _check_whole(file, content.metadata)
        _check_columns(file, content.schema_arrow)
    batches = content.iter_batches(batch_size=ROWS_AT_ONCE, use_threads=False)
    while True:
        with reading(file.path), _arrow_errors(file):
            batch = next(batches, None)
        if batch is None:
            break
        for value in _objects(batch):
            row += 1
            yield Record(row, _checked(value, batch.nbytes > RECORD_LIMIT), file.size * row // max(1, total))
    if row != total:
        raise _wrong_count(file, row, total)


def _check_whole(file: InputFile, footer: pyarrow.parquet.FileMetaData) -> int:
    """How many rows there are, if the footer agrees with itself and promises no more than a file of that size may hold."""
    groups = [footer.row_group(index) for index in range(footer.num_row_groups)]
    held = sum(int(group.num_rows) for group in groups)
    unpacked = sum(int(group.total_byte_size) for group in groups)
    if held != footer.num_rows:
        raise _wrong_count(file, held, footer.num_rows)
    if unpacked > max(GROWTH_FREE, GROWTH_LIMIT * file.size):
        raise too_large(file)
    return held


def _check_columns(file: InputFile, schema: pyarrow.Schema) -> None:
    """Refuse columns of one name, of which only the last would be read, and types that other code defines."""
    for column in schema:
        name = repr(column.name[:SHOWN])
        if schema.names.count(column.name) > 1:
            raise DataError(f"has two columns {name}", where=file.path, advice="keep one of the two")
        if isinstance(column.type, pyarrow.BaseExtensionType):
            what = f"column {name} has an extension type ({column.type})"
            raise DataError(what, where=file.path, advice="write plain text and numbers")


def _wrong_count(file: InputFile, found: int, total: int) -> DataError:
    what = f"broken parquet file: it has {found:,} rows, and says that it has {total:,}"
    return DataError(what, where=file.path, advice="fetch or write it again")


def _objects(batch: pyarrow.RecordBatch) -> list[dict[str, Any] | RecordFault]:
    """The rows of a batch as Python values; if there is one that Python cannot hold, row by row."""
    try:
        values: list[dict[str, Any] | RecordFault] = batch.to_pylist()
    except CONVERSION:
        return [_object(batch.slice(index, 1)) for index in range(batch.num_rows)]
    return values


def _object(row: pyarrow.RecordBatch) -> dict[str, Any] | RecordFault:
    """One row, or the column that cannot be converted: bytes that are not UTF-8, a date after the year 9999, ..."""
    value: dict[str, Any] = {}
    for name, column in zip(row.schema.names, row.columns, strict=True):
        try:
            (value[name],) = column.to_pylist()
        except UnicodeDecodeError as error:
            return RecordFault(
                f"column {name[:SHOWN]!r}: byte 0x{error.object[error.start]:02x} is not UTF-8", "write it again"
            )
        except CONVERSION as error:
            return RecordFault(f"column {name[:SHOWN]!r} cannot be read: {_first_line(error)}", "write it as text")
    return value


def _checked(value: dict[str, Any] | RecordFault, measure: bool) -> dict[str, Any] | RecordFault:
    """measure: whether the record could be longer than the limit."""
    if isinstance(value, RecordFault):
        return value
    try:
        check_record(value)
    except RecordFault as fault:
        return fault
    if measure and len(repr(value)) > RECORD_LIMIT:
        return RecordFault(f"the record is longer than {RECORD_LIMIT // 2**20} MiB", "split it")
    return value


@contextmanager
def _arrow_errors(file: InputFile) -> Iterator[None]:
    """Turn what arrow says about broken data into one clear line."""
    try:
        yield
    except (pyarrow.ArrowException, *CONVERSION, OSError) as error:
        raise DataError(
            f"broken parquet file: {_first_line(error)}", where=file.path, advice="fetch or write it again"
        ) from error


def _first_line(error: Exception) -> str:
    """What an error says, as one line of printable characters, not too long."""
    line = next(iter(str(error).splitlines()), type(error).__name__)[:LONGEST_REASON]
    return "".join(letter if letter.isprintable() else "?" for letter in line)
