"""Records of a run as JSON lines. A resumed run truncates them, so they equal those of a run that was never stopped.

A checkpoint stores the length of each file and the SHA-256 of its content, because the records are read back: the
choice of the best checkpoint and the KL coefficient of PPO follow from them. What was written after a checkpoint
belongs to steps that are done again.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from tunesmith.errors import StorageError
from tunesmith.files import READING, flush_to_disk, storage_errors


def jsonable(value: Any) -> Any:
    """``value`` with numbers that are not finite replaced by the strings "NaN", "Infinity" and "-Infinity".

    JSON has no such numbers. A record must neither hide one nor become unreadable for strict readers.
    """
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {key: jsonable(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(each) for each in value]
    return value


def read_records(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a file that ``JsonLines`` wrote, also while it grows: an incomplete last line is left out.

    Numbers that are not finite stay text.

    Raises StorageError for a line that is no record.
    """
    with storage_errors(path, READING, action="read"), path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return
            place, advice = f"{path}:{number}", "the file was edited; restore it"
            try:
                record = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise StorageError(f"not a record: {error}", where=place, advice=advice) from error
            if not isinstance(record, dict):
                raise StorageError("not a record: it is no JSON object", where=place, advice=advice)
            yield record


class RecordFile(Protocol):
    """A file of records as ``JsonLines``, or nothing at all in a process that is not the first."""

    path: Path

    def write(self, record: Mapping[str, Any]) -> None: ...

    def digest(self) -> str: ...

    def check(self, offset: int, digest: str) -> None: ...

    def truncate(self, offset: int) -> None: ...

    def sync(self) -> int: ...


class NoRecords:
    """Writes nothing. path: the file that the first process writes."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, record: Mapping[str, Any]) -> None:
        return None

    def digest(self) -> str:
        return ""

    def check(self, offset: int, digest: str) -> None:
        return None

    def truncate(self, offset: int) -> None:
        return None

    def sync(self) -> int:
        return 0


class JsonLines:
    """A file to which records are appended, one JSON object in each line, ASCII only.

    Every record is passed to the operating system at once, so a killed process loses none. ``sync`` makes the records
    survive a power cut and is called before each checkpoint. An incomplete last line, left by a crash, is removed when
    the file is opened. Errors of the disk are raised as StorageError.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            new = not path.exists()
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
            self._offset = self._end_of_last_line(os.fstat(self._descriptor).st_size)
            os.ftruncate(self._descriptor, self._offset)
            self._digest = self._digest_of(self._offset)
            if new:
                flush_to_disk(path.parent)  # a file is durable only once its directory is flushed

    def write(self, record: Mapping[str, Any]) -> None:
        """Append one record, with numbers at full precision and keys in the order given."""
        line = json.dumps(jsonable(record), separators=(", ", ": "), allow_nan=False).encode("ascii") + b"\n"
        with storage_errors(self.path):
            written = 0
            while written < len(line):
                written += os.write(self._descriptor, line[written:])
        self._offset += len(line)
        self._digest.update(line)

    def digest(self) -> str:
        """SHA-256 of all records."""
        return self._digest.hexdigest()

    def check(self, offset: int, digest: str) -> None:
        """Raises StorageError if the first ``offset`` bytes are not those whose ``digest`` a checkpoint stored."""
        with storage_errors(self.path, READING, action="read"):
            found = self._digest_of(offset).hexdigest()
        if found != digest:
            raise StorageError(
                f"the first {offset:,} bytes are not those that the checkpoint was saved with (SHA-256 differs)",
                where=self.path,
                advice="the run reads them back, so it cannot continue with others; restore the file from a copy, or "
                "start a new run in another run.directory",
            )

    def offset(self) -> int:
        """Length of the file in bytes."""
        return self._offset

    def truncate(self, offset: int) -> None:
        """Remove everything after ``offset`` bytes, a length that a checkpoint stored; 0 empties the file.

        Raises StorageError if the file is shorter, or no line ends there.
        """
        if self._end_of_last_line(offset) != offset:
            raise StorageError(
                f"the checkpoint expects {offset} bytes of complete lines, the file has {self._offset}",
                where=self.path,
                advice="it was edited or replaced; restore it, or start a new run in another run.directory",
            )
        with storage_errors(self.path):
            os.ftruncate(self._descriptor, offset)
            self._digest = self._digest_of(offset)
        self._offset = offset

    def sync(self) -> int:
        """Wait until all records are on the disk; returns ``offset()``."""
        with storage_errors(self.path):
            os.fsync(self._descriptor)
        return self._offset

    def close(self) -> None:
        """Close the file. It may be called twice. Raises StorageError."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            with storage_errors(self.path):
                os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with nullcontext() if error is None else suppress(StorageError):  # the first error is the one that matters
            self.close()

    def _digest_of(self, size: int) -> hashlib._Hash:
        """SHA-256 of the first ``size`` bytes, or of the whole file if it is shorter."""
        digest, position = hashlib.sha256(), 0
        while block := os.pread(self._descriptor, min(1 << 20, size - position), position):
            digest.update(block)
            position += len(block)
        return digest

    def _end_of_last_line(self, size: int) -> int:
        """The largest position up to ``size`` at which a line ends; 0 if there is none."""
        while size > 0:
            start = max(0, size - (1 << 16))
            block = os.pread(self._descriptor, size - start, start)
            if b"\n" in block:
                return start + block.rindex(b"\n") + 1
            size = start
        return 0


def open_records(path: Path, *, writes: bool) -> AbstractContextManager[RecordFile]:
    """The records in a file, which is closed when the block ends. writes: whether this process writes it."""
    return JsonLines(path) if writes else nullcontext(NoRecords(path))
