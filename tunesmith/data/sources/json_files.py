"""Records of .jsonl and .json files, one at a time: reading needs only the memory of the longest record."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from tunesmith.data.sources.files import BYTE_ORDER_MARK, InputFile, blocks
from tunesmith.data.sources.records import ParsedRecord, file_error, too_long
from tunesmith.data.sources.strict_json import (
    RECORD_LIMIT,
    RecordError,
    decode_at,
    find_invisible,
    is_truncated,
    parse_record,
    syntax_error,
    type_name,
)
from tunesmith.data.sources.text_files import not_utf8, pieces
from tunesmith.errors import DataError

ADVICE = "every record is one JSON object"
COMMAS = "separate the records of a list with commas"
SPACE = re.compile(r"[ \t\r\n]*")


def jsonl_records(file: InputFile) -> Iterator[ParsedRecord]:
    """One object a line; a line ends at ``\\n`` and nowhere else, blank lines are skipped.

    The error of a wrong line is yielded in its place, so that the caller can list several.
    Raises DataError where the file cannot be read on.
    """
    for number, start, line in _lines(file):
        text = line.removeprefix(BYTE_ORDER_MARK) if start == 0 else line
        if text.strip(b" \t\r\n"):
            yield ParsedRecord(number, _parse_line(text, start + len(line) - len(text)), start + len(line))


def _parse_line(line: bytes, start: int) -> dict[str, Any] | RecordError:
    """The object of one line. start: the offset of the line in the file, in bytes."""
    if len(line) > RECORD_LIMIT:
        return too_long()
    try:
        return parse_record(line.decode())
    except UnicodeDecodeError as error:
        return not_utf8(error.object[error.start], start + error.start)
    except RecordError as error:
        return error


def _lines(file: InputFile) -> Iterator[tuple[int, int, bytes]]:
    """Number (from 1), offset and bytes of every line, without its ``\\n``."""
    number, start, rest = 1, 0, b""
    for block in blocks(file):
        *whole, rest = (rest + block).split(b"\n")
        for line in whole:
            yield number, start, line
            number, start = number + 1, start + len(line) + 1
        if len(rest) > RECORD_LIMIT:
            raise file_error(file, number, too_long())
    yield number, start, rest


def array_records(file: InputFile) -> Iterator[ParsedRecord]:
    """The objects of one top-level list; ``number`` is the line on which a record starts, ``item`` its index.

    Raises DataError at the first error, since nothing after it can be read.
    """
    window = _Window(file)
    first = window.next_character()
    if not first:
        return
    if error := find_invisible(first, f"line {window.line}"):
        raise file_error(file, window.line, error)
    if first != "[":
        advice = "one object a line? then name it .jsonl" if first == "{" else "a .json file is one list of objects"
        raise file_error(file, window.line, RecordError("the file is not a list", advice))
    window.skip()
    while window.next_character() != "]" or window.records:
        number, index = window.line, window.records
        yield ParsedRecord(number, window.record(), window.position, index)
        follows = window.next_character()
        if follows == "]":
            break
        if follows and (error := find_invisible(follows, f"line {window.line}")):
            raise file_error(file, window.line, error)
        if follows != ",":
            what = f"a comma or ] is missing before {follows!r}" if follows else "the list is never closed with ]"
            advice = COMMAS if follows else "the file is truncated; download it again"
            raise file_error(file, window.line, RecordError(what, advice))
        window.skip()
    window.skip()
    if window.next_character():
        error = RecordError("there is text after the closing ]", "write one list a file and nothing else")
        raise file_error(file, window.line, error)


class _Window:
    """The part of the text that is in memory.

    line: of the next character, from 1.
    position: how many characters come before it.
    """

    def __init__(self, file: InputFile) -> None:
        self.file, self.pieces = file, pieces(file)
        self.text, self.start, self.line, self.position, self.records = "", 0, 1, 0, 0

    def _more(self) -> bool:
        """Read at least as much again as is in memory, and drop what was used; False at the end of the file."""
        wanted, gathered = len(self.text) - self.start, [self.text[self.start :]]
        while (piece := next(self.pieces, None)) is not None:
            gathered.append(piece)
            if (wanted := wanted - len(piece)) <= 0:
                break
        self.text, self.start = "".join(gathered), 0
        return len(gathered) > 1

    def _move(self, end: int) -> None:
        self.line += self.text.count("\n", self.start, end)
        self.position += end - self.start
        self.start = end

    def skip(self) -> None:
        """Skip one character."""
        self._move(self.start + 1)

    def next_character(self) -> str:
        """The next character that is not white space, or nothing at the end of the file."""
        while True:
            found = SPACE.match(self.text, self.start)
            self._move(found.end() if found else self.start)
            if self.start < len(self.text):
                return self.text[self.start]
            if not self._more():
                return ""

    def record(self) -> dict[str, Any]:
        """The object that starts at the next character. Raises DataError."""
        if self.next_character() == "]":
            raise self._error(RecordError("a comma before the closing ]", "remove it"))
        while True:
            try:
                value, end = decode_at(self.text, self.start)
            except json.JSONDecodeError as error:
                if is_truncated(error) and len(self.text) - self.start <= RECORD_LIMIT and self._more():
                    continue
                line = self.line + self.text.count("\n", self.start, error.pos)
                raise self._error(self._syntax_error(error, line)) from None
            except RecordError as error:
                raise self._error(error) from None
            if not isinstance(value, dict):
                what = f"the list has {type_name(value)} in it, not an object"
                raise self._error(RecordError(what, ADVICE))
            if self._bytes(end) > RECORD_LIMIT:
                raise self._error(too_long())
            self._move(end)
            self.records += 1
            return value

    def _error(self, error: RecordError) -> DataError:
        """The error of the record that starts at the next character."""
        return file_error(self.file, f"{self.line}[{self.records}]", error)

    def _syntax_error(self, error: json.JSONDecodeError, line: int) -> RecordError:
        return too_long() if len(self.text) - self.start > RECORD_LIMIT else syntax_error(error, f"line {line}")

    def _bytes(self, end: int) -> int:
        """Bytes of the text up to ``end``; counted only if it could matter."""
        length = end - self.start
        return length if length <= RECORD_LIMIT // 4 else len(self.text[self.start : end].encode())
