"""Records of a run as JSON lines, cut back on resume so that they are those of a run that was never stopped.

The position in each file is part of a checkpoint. Whatever was written after it belongs to steps that will be done again.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tunesmith.errors import StorageError
from tunesmith.files import flush_to_disk, storage_errors


def jsonable(value: Any) -> Any:
    """``value`` with numbers that are not finite as the strings "NaN", "Infinity" and "-Infinity".

    JSON has no such numbers, and a record must neither hide one nor become unreadable for strict readers.
    """
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {key: jsonable(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(each) for each in value]
    return value


def read_records(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a file that ``JsonLines`` wrote, also while it grows: a last line without its end is left out.

    Numbers that are not finite stay text. Raises StorageError for a line that is no record.
    """
    with storage_errors(path, advice="it cannot be read; check the run's directory"), path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return
            try:
                record = json.loads(line)
            except ValueError as error:
                raise StorageError(
                    f"not a record: {error}", where=f"{path}:{number}", advice="it was edited"
                ) from error
            yield record


class JsonLines:
    """One growing file of records, one JSON object a line, ASCII only.

    Every record reaches the operating system at once, so a killed process loses none; ``sync`` makes them survive a power
    cut and belongs before each checkpoint. A last line without its end, left by a crash, is cut off on opening.
    Errors of the disk are StorageErrors.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            new = not path.exists()
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
            self._offset = self._end_of_last_line(os.fstat(self._descriptor).st_size)
            os.ftruncate(self._descriptor, self._offset)
            if new:
                flush_to_disk(path.parent)  # a file is durable only once its directory knows of it

    def write(self, record: Mapping[str, Any]) -> None:
        """Append one record, with numbers at full precision and keys in the order given."""
        line = json.dumps(jsonable(record), separators=(", ", ": "), allow_nan=False).encode("ascii") + b"\n"
        with storage_errors(self.path):
            written = 0
            while written < len(line):
                written += os.write(self._descriptor, line[written:])
        self._offset += len(line)

    def offset(self) -> int:
        """Bytes written so far: what a checkpoint keeps."""
        return self._offset

    def truncate(self, offset: int) -> None:
        """Drop everything after ``offset`` bytes, which a checkpoint remembered; 0 starts afresh.

        Raises StorageError if the file is shorter than that, or no line ends there.
        """
        if self._end_of_last_line(offset) != offset:
            raise StorageError(
                f"the checkpoint remembers {offset} bytes of whole lines here, the file has {self._offset}",
                where=self.path,
                advice="it was edited or replaced; put it back, or start the run anew in another directory",
            )
        with storage_errors(self.path):
            os.ftruncate(self._descriptor, offset)
        self._offset = offset

    def sync(self) -> int:
        """Wait until all records are on the disk; returns ``offset()``."""
        with storage_errors(self.path):
            os.fsync(self._descriptor)
        return self._offset

    def close(self) -> None:
        """Give the file back; safe to call twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _end_of_last_line(self, size: int) -> int:
        """The largest position up to ``size`` at which a line has just ended (or the file begins)."""
        while size > 0:
            start = max(0, size - (1 << 16))
            block = os.pread(self._descriptor, size - start, start)
            if b"\n" in block:
                return start + block.rindex(b"\n") + 1
            size = start
        return 0
