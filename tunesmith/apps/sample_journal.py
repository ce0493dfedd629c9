"""The journal of unfinished sampling: every finished reply is a line of a file, so that a killed process can continue.

The first line has the date of the report and what decides its replies. A line that is torn, as the last one may be
after a kill, is removed with all lines after it; their replies are generated again, with the same result.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple, Self

from tunesmith.errors import LockedError, UsageError
from tunesmith.files import flush_to_disk, storage_errors

FORMAT = "tunesmith sample journal"
START = json.dumps({"format": FORMAT}).encode()[:-1]  # how the first line begins
SUFFIX = ".part"
DATE = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+", re.ASCII)
"""A date in a journal; it becomes part of the name of the report."""
ADVICE = "sample with the earlier settings to finish it, delete it, or choose another -o"


class ReplyPlace(NamedTuple):
    """Which reply of a report it is: the indices of its prompt, configuration and sample."""

    prompt: int
    configuration: int
    sample: int


@dataclass(frozen=True, slots=True)
class JournalReply:
    """A finished reply.

    output: its text as the report has it.
    end: characters of the end token at its end; 0 if the model did not end it by itself.
    tokens: how many it has.
    """

    output: str
    end: int
    tokens: int

    @property
    def text(self) -> str:
        """The text without the end token."""
        return self.output[: len(self.output) - self.end]


class ReplyJournal:
    """The journal of one report, open for appending and locked; use it in a ``with`` block.

    path: of its file; its directory exists.
    date: of a new report, in ISO 8601 without a time zone; where the journal exists, its own date is kept.
    inputs: everything that decides the replies.

    replies: the finished replies.
    Raises LockedError if another process has it open, UsageError if it belongs to other inputs, and StorageError.
    """

    def __init__(self, path: Path, date: str, inputs: Mapping[str, Any]) -> None:
        self.path = path
        self.replies: dict[ReplyPlace, JournalReply] = {}
        with storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: BinaryIO = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666), "r+b")
        try:
            self.date = self._read(date, inputs)
        except BaseException:
            self._close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _close(self) -> None:
        # Every line is flushed when it is written, so that closing writes again only what already was an error.
        with suppress(OSError):
            self._file.close()

    def append(self, place: ReplyPlace, reply: JournalReply) -> None:
        """Add a finished reply. Raises StorageError."""
        self.replies[place] = reply
        self._write(json.dumps([*place, reply.output, reply.end, reply.tokens]).encode())

    def remove(self) -> None:
        """Delete the file; the report has all that is in it. Raises StorageError."""
        with storage_errors(self.path):
            self.path.unlink(missing_ok=True)
            flush_to_disk(self.path.parent)

    def _read(self, date: str, inputs: Mapping[str, Any]) -> str:
        """Read what is there, or begin a new journal; returns the date."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            what = "another process is writing this report"
            raise LockedError(what, where=self.path, advice="wait for it, or choose another -o") from error
        with storage_errors(self.path):
            first = self._file.readline()
            header = _parse(first)
            if not _is_header(header):
                self._begin(first, date, inputs)
                return date
            self._check(header.get("inputs"), inputs)
            end = len(first)
            for line in self._file:
                if (found := _as_reply(_parse(line))) is None:
                    break
                self.replies[found[0]] = found[1]
                end += len(line)
            self._file.seek(end)
            self._file.truncate()
        return str(header["date"])

    def _begin(self, first: bytes, date: str, inputs: Mapping[str, Any]) -> None:
        """Begin a new journal in an empty file, or in one whose first line is torn."""
        header = json.dumps({"format": FORMAT, "date": date, "inputs": dict(inputs)}).encode()
        is_torn = START.startswith(first) or (first.startswith(START) and not first.endswith(b"\n"))
        if not is_torn:
            raise UsageError("this file is in the way of an unfinished report", where=self.path, advice="move it away")
        self._file.seek(0)
        self._file.truncate()
        self._write(header)

    def _check(self, recorded: Any, inputs: Mapping[str, Any]) -> None:
        """Raises UsageError if the journal belongs to other inputs."""
        different = changed_inputs(recorded, inputs)
        if different:
            what = f"this unfinished report has other settings ({', '.join(different)})"
            raise UsageError(what, where=self.path, advice=ADVICE)

    def _write(self, line: bytes) -> None:
        with storage_errors(self.path, "free disk space and give the same command again; it continues"):
            self._file.write(line + b"\n")
            self._file.flush()


def changed_inputs(recorded: Any, inputs: Mapping[str, Any]) -> list[str]:
    """The names of the inputs that are not as recorded. recorded: as JSON has it, or anything else."""
    now = json.loads(json.dumps(inputs))
    before = recorded if isinstance(recorded, dict) else {}
    return [name for name in {**now, **before} if before.get(name) != now.get(name)]


def _parse(line: bytes) -> Any:
    """The value of a line; None if it is torn."""
    try:
        return json.loads(line) if line.endswith(b"\n") else None
    except (ValueError, RecursionError):
        return None


def _is_header(value: Any) -> bool:
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        return False
    date = value.get("date")
    return isinstance(date, str) and DATE.fullmatch(date) is not None


def _as_reply(value: Any) -> tuple[ReplyPlace, JournalReply] | None:
    kinds = (int, int, int, str, int, int)
    if not isinstance(value, list) or [type(each) for each in value] != list(kinds):
        return None
    place, reply = ReplyPlace(*value[:3]), JournalReply(*value[3:])
    possible = min(*place, reply.tokens) >= 0 and 0 <= reply.end <= len(reply.output)
    return (place, reply) if possible else None
