"""One record as a source has read it, and the errors that all kinds of files have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from tunesmith.data.sources.files import InputFile
from tunesmith.data.sources.strict_json import RECORD_LIMIT, RecordError, check_record
from tunesmith.errors import DataError


class ParsedRecord(NamedTuple):
    """One record of a file or dataset.

    number: its line or row, from 1.
    value: the object, or the error of a record that cannot be used.
    end: how far the source has been read, in characters, bytes or rows.
    item: its index in the list of the file, from 0, since a line may have many; None where a file is no list.
    """

    number: int
    value: dict[str, Any] | RecordError
    end: int
    item: int | None = None

    @property
    def name(self) -> str:
        """Where it is in the file: ``12``, or ``12[37]`` in a list."""
        return str(self.number) if self.item is None else f"{self.number}[{self.item}]"


class SeveralPartsError(Exception):
    """A file has several parts with records, and none is chosen, or one that it does not have.

    what: the error.
    parts: the names of the parts.
    """

    def __init__(self, what: str, parts: Sequence[str]) -> None:
        super().__init__(what)
        self.what, self.parts = what, tuple(parts)


def checked_record(value: dict[str, Any] | RecordError, measure: bool = False) -> dict[str, Any] | RecordError:
    """A record that did not come from JSON text, if it can be used.

    measure: whether it could be longer than the limit.
    """
    if isinstance(value, RecordError):
        return value
    try:
        check_record(value)
    except RecordError as error:
        return error
    return too_long() if measure and len(repr(value)) > RECORD_LIMIT else value


def too_long() -> RecordError:
    """The error of a record that is longer than the limit."""
    return RecordError(f"the record is longer than {RECORD_LIMIT // 2**20} MiB", "split it")


def file_error(file: InputFile, line: int | str, error: RecordError) -> DataError:
    """The error of a record as one after which the file cannot be read on.

    line: the line, or another place in the file.
    """
    return DataError(error.what, where=f"{file.path}:{line}", advice=error.advice)
