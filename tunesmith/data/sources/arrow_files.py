"""Records of .arrow files, which the package ``datasets`` writes: streams or files of Arrow batches."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing

import pyarrow
import pyarrow.ipc

from tunesmith.data.sources.files import InputFile, read_errors
from tunesmith.data.sources.parquet_files import ROWS_AT_ONCE, arrow_errors, check_columns, row_objects
from tunesmith.data.sources.records import ParsedRecord, checked_record
from tunesmith.data.sources.strict_json import RECORD_LIMIT
from tunesmith.errors import DataError

FILE_MARK = b"ARROW1"  # at both ends of the form that has a footer; the other form is a stream
END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"


def arrow_records(file: InputFile) -> Iterator[ParsedRecord]:
    """The rows of a file as objects; ``number`` is the row, from 1. One batch is in memory at a time.

    Raises DataError where the file is broken, or has types that other code defines.
    """
    row = 0
    with closing(_batches(file)) as batches:
        while True:
            with read_errors(file.path), arrow_errors(file):
                batch, position = next(batches, (None, 0))
                if batch is None:
                    return
            for start in range(0, batch.num_rows, ROWS_AT_ONCE):
                part = batch.slice(start, ROWS_AT_ONCE)
                for value in row_objects(part):
                    row += 1
                    yield ParsedRecord(row, checked_record(value, part.nbytes > RECORD_LIMIT), position)


def _batches(file: InputFile) -> Generator[tuple[pyarrow.RecordBatch, int]]:
    """(batch, bytes of the file that have been read) of every batch.

    A batch is validated before anything is asked of it: wrong offsets or buffers that are missing would be read outside
    of the memory, also to count its bytes.
    """
    with file.path.open("rb") as source:
        is_file = source.read(len(FILE_MARK)) == FILE_MARK
        source.seek(max(0, file.size - len(END_OF_STREAM)))
        if not is_file and source.read() != END_OF_STREAM:
            advice = "download or write it again"
            raise DataError("the Arrow stream breaks off before its end", where=file.path, advice=advice)
        source.seek(0)
        reader = pyarrow.ipc.open_file(source) if is_file else pyarrow.ipc.open_stream(source)
        check_columns(file, reader.schema)
        if is_file:
            count = reader.num_record_batches
            for index in range(count):
                batch = reader.get_batch(index)
                batch.validate(full=True)
                yield batch, file.size * (index + 1) // count
        else:
            position = 0
            for batch in reader:
                batch.validate(full=True)
                position += batch.nbytes  # nearly the bytes of the file, for showing progress
                yield batch, min(position, file.size)
