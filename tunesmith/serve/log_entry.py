"""What the server writes for its operator. No text in an entry can look like another entry."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from tunesmith.text.visible import visible

LogLevel = Literal["info", "error"]


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One event.

    message: one sentence; a line break in it is written out as ``\\n``.
    level: info, or error for what has to be looked at.
    fields: further values by name.
    error: the lines of a traceback.
    """

    message: str
    level: LogLevel = "info"
    fields: Mapping[str, str | int] = field(default_factory=dict)
    error: tuple[str, ...] = ()

    def as_json(self, moment: float) -> str:
        """The entry as one line of JSON in ASCII. moment: seconds since 1970."""
        when = datetime.fromtimestamp(moment).astimezone().isoformat(timespec="milliseconds")
        fields = {**self.fields, **({"traceback": list(self.error)} if self.error else {})}
        return json.dumps({"time": when, "level": self.level, "message": self.message, "fields": fields})

    def as_lines(self, moment: float) -> list[str]:
        """The entry as lines for a terminal, each with the time. moment: as of ``as_json``.

        Only errors show their fields; all other messages have the values already.
        """
        named = ", ".join(f"{name}={value}" for name, value in self.fields.items()) if self.level == "error" else ""
        lines = (f"{self.message} ({named})" if named else self.message, *self.error)
        when = time.strftime("%H:%M:%S", time.localtime(moment))
        return [f"{when} {one_line(line)}" for line in lines]


Log = Callable[[LogEntry], None]


def failure_entry(error: BaseException, message: str = "", **fields: str | int) -> LogEntry:
    """The entry of an error that is not a client's. message: what failed; by default the error itself."""
    return LogEntry(message or _describe(error), "error", fields, tuple(_error_lines(error)))


def one_line(text: str) -> str:
    """The text with everything written out that is invisible or begins a new line."""
    return visible(text).replace("\n", "\\n").replace("\t", "\\t")


def _error_lines(error: BaseException) -> Iterator[str]:
    """The lines of a traceback. The text of the error, which may have any line breaks, is one of them."""
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None:
        yield from _error_lines(cause)
        yield "This error led to the next one:"
    for frame in traceback.format_tb(error.__traceback__):
        yield from frame.rstrip("\n").split("\n")
    yield one_line(_describe(error))


def _describe(error: BaseException) -> str:
    return "".join(traceback.format_exception_only(error)).rstrip("\n")
