"""Records of a parquet file, some hundred at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow
import pyarrow.parquet

from tunesmith.data.inputs import BLOCK, InputFile, reading
from tunesmith.data.json_files import Record
from tunesmith.data.strict_json import RECORD_LIMIT, RecordFault, check_record
from tunesmith.errors import DataError

ROWS_AT_ONCE = 256


def parquet_records(file: InputFile) -> Iterator[Record]:
    """The rows of a file as objects; ``number`` is the row, from 1. Page checksums are compared where the file has them.

    Raises DataError where the file is broken or holds extension types.
    """
    row = 0
    with reading(file.path), _arrow_errors(file):
        content = pyarrow.parquet.ParquetFile(  # without these two it holds whole row groups in memory
            file.path, pre_buffer=False, buffer_size=BLOCK, page_checksum_verification=True
        )
        total = content.metadata.num_rows
        for column in content.schema_arrow:
            if isinstance(column.type, pyarrow.BaseExtensionType):
                what = f"column {column.name!r} has an extension type ({column.type})"
                raise DataError(what, where=file.path, advice="write plain text and numbers")
    batches = content.iter_batches(batch_size=ROWS_AT_ONCE, use_threads=False)
    while True:
        with reading(file.path), _arrow_errors(file):
            batch = next(batches, None)
            values: list[dict[str, Any]] = [] if batch is None else batch.to_pylist()
        if batch is None:
            return
        for value in values:
            row += 1
            yield Record(row, _checked(value, batch.nbytes > RECORD_LIMIT), file.size * row // total)


def _checked(value: dict[str, Any], measure: bool) -> dict[str, Any] | RecordFault:
    """measure: whether the record could be longer than the limit."""
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
    except (pyarrow.ArrowException, UnicodeDecodeError, OSError) as error:
        first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"broken parquet file: {first_line}", where=file.path, advice="fetch or write it again"
        ) from error
