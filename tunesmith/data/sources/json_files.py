"""Records of .jsonl and .json files, one at a time: a file of any size needs the memory of its longest record."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from itertools import chain
from typing import Any, NamedTuple

from tunesmith.data.sources.files import BYTE_ORDER_MARK, InputFile, blocks
from tunesmith.data.sources.strict_json import (
    RECORD_LIMIT,
    RecordFault,
    decode_at,
    is_cut,
    kind,
    parse_record,
    syntax_fault,
)
from tunesmith.errors import DataError

ADVICE = "every record is one JSON object"
COMMAS = "records of a list stand between commas"
SPACE = re.compile(r"[ \t\r\n]*")


class Record(NamedTuple):
    """One record, or what is wrong with it. number: its line. end: how far the file is read, in characters or bytes."""

    number: int
    value: dict[str, Any] | RecordFault
    end: int


def jsonl_records(file: InputFile) -> Iterator[Record]:
    """One object a line; a line ends at ``\\n`` and nowhere else, blank lines are passed over.

    A line that is wrong is given out as its fault, so that the caller can list several.
    """
    for number, start, line in _lines(file):
        text = line.removeprefix(BYTE_ORDER_MARK) if start == 0 else line
        if text.strip(b" \t\r\n"):
            yield Record(number, _parse_line(text, start + len(line) - len(text)), start + len(line))


def _parse_line(line: bytes, start: int) -> dict[str, Any] | RecordFault:
    """start: the offset of the line in the file."""
    if len(line) > RECORD_LIMIT:
        return _too_long()
    try:
        return parse_record(line.decode())
    except UnicodeDecodeError as error:
        return _not_utf8(error.object[error.start], start + error.start)
    except RecordFault as fault:
        return fault


def _lines(file: InputFile) -> Iterator[tuple[int, int, bytes]]:
    """Number (from 1), offset and bytes of every line, without its ``\\n``."""
    number, start, rest = 1, 0, b""
    for block in blocks(file):
        *whole, rest = (rest + block).split(b"\n")
        for line in whole:
            yield number, start, line
            number, start = number + 1, start + len(line) + 1
        if len(rest) > RECORD_LIMIT:
            raise _fatal(file, number, _too_long())
    yield number, start, rest


def array_records(file: InputFile) -> Iterator[Record]:
    """The objects of one top-level list; ``number`` is the line on which a record starts. Any fault ends the reading."""
    window = _Window(file)
    first = window.next_character()
    if not first:
        return
    if first != "[":
        advice = "one object a line? then name it .jsonl" if first == "{" else "a .json file is one list of objects"
        fault = RecordFault("the file is not a list", advice)
        raise _fatal(file, window.line, fault)
    window.skip()
    while window.next_character() != "]" or window.records:
        number = window.line
        yield Record(number, window.record(), window.position)
        follows = window.next_character()
        if follows == "]":
            break
        if follows != ",":
            what = f"a comma or ] is missing before {follows!r}" if follows else "the list is never closed with ]"
            raise _fatal(
                file, window.line, RecordFault(what, COMMAS if follows else "the file was cut short; fetch it again")
            )
        window.skip()
    window.skip()
    if window.next_character():
        raise _fatal(file, window.line, RecordFault("something follows the closing ]", "one list a file, nothing else"))


class _Window:
    """The part of the text that is in memory. line: that of the next character. position: how many came before."""

    def __init__(self, file: InputFile) -> None:
        self.file, self.pieces = file, _pieces(file)
        self.text, self.start, self.line, self.position, self.records = "", 0, 1, 0, 0

    def _more(self) -> bool:
        """Read on, at least as much again as is held, and forget what was used; False at the end of the file."""
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
        """Pass over one character."""
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
            raise _fatal(self.file, self.line, RecordFault("a comma before the closing ]", "remove it"))
        while True:
            try:
                value, end = decode_at(self.text, self.start)
            except json.JSONDecodeError as error:
                if is_cut(error) and len(self.text) - self.start <= RECORD_LIMIT and self._more():
                    continue
                fault_line = self.line + self.text.count("\n", self.start, error.pos)
                raise _fatal(self.file, self.line, self._fault(error, fault_line)) from None
            except RecordFault as fault:
                raise _fatal(self.file, self.line, fault) from None
            if not isinstance(value, dict):
                raise _fatal(self.file, self.line, RecordFault(f"the list holds {kind(value)}, not an object", ADVICE))
            if self._bytes(end) > RECORD_LIMIT:
                raise _fatal(self.file, self.line, _too_long())
            self._move(end)
            self.records += 1
            return value

    def _fault(self, error: json.JSONDecodeError, line: int) -> RecordFault:
        return _too_long() if len(self.text) - self.start > RECORD_LIMIT else syntax_fault(error, f"line {line}")

    def _bytes(self, end: int) -> int:
        """Bytes of the text up to ``end``; counted only if it could matter."""
        length = end - self.start
        return length if length <= RECORD_LIMIT // 4 else len(self.text[self.start : end].encode())


def _pieces(file: InputFile) -> Iterator[str]:
    """The text of a file, block by block. Raises DataError where the bytes are not UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    before, lines = 0, 1  # bytes and lines that the decoder has seen
    for block in chain(blocks(file), (b"",)):
        held = len(decoder.getstate()[0])
        try:
            text = decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            line = lines + error.object.count(b"\n", 0, error.start)
            raise _fatal(file, line, _not_utf8(error.object[error.start], before - held + error.start)) from None
        yield text.removeprefix("\ufeff") if before == 0 else text
        before, lines = before + len(block), lines + block.count(b"\n")


def _too_long() -> RecordFault:
    return RecordFault(f"the record is longer than {RECORD_LIMIT // 2**20} MiB", "split it")


def _not_utf8(byte: int, offset: int) -> RecordFault:
    return RecordFault(f"byte 0x{byte:02x} at offset {offset:,} is not UTF-8", "save the file as UTF-8")


def _fatal(file: InputFile, line: int, fault: RecordFault) -> DataError:
    return DataError(fault.what, where=f"{file.path}:{line}", advice=fault.advice)
