"""Records of .jsonl and .json files, one at a time: reading needs only the memory of the longest record."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from tunesmith.data.sources.files import BLOCK, BYTE_ORDER_MARK, InputFile, blocks
from tunesmith.data.sources.message_keys import is_message
from tunesmith.data.sources.records import ParsedRecord, SeveralPartsError, file_error, too_long
from tunesmith.data.sources.strict_json import (
    RECORD_LIMIT,
    SHOWN_CHARACTERS,
    RecordError,
    decode_at,
    find_invisible,
    find_repeated_key,
    is_truncated,
    parse_record,
    syntax_error,
    type_name,
)
from tunesmith.data.sources.text_files import not_utf8, pieces
from tunesmith.errors import DataError

ADVICE = "every record is one JSON object"
COMMAS = "separate the records of a list with commas"
JSON_LINES = "if the file has one object a line, let its name end in .jsonl"
CLOSING = {"[": "]", "{": "}"}
SHOWN_KEYS = 8

SPACE = re.compile(r"[ \t\r\n]*")
NUMBER_GOES_ON = re.compile(r"[-+.eE\d]*")
BEGIN_OF_LIST = re.compile(r"\[[ \t\r\n]*")
LIST_OF_OBJECTS = re.compile(r"\[[ \t\r\n]*\{")


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
    """The objects of one list; ``number`` is the line on which a record starts, ``item`` its index.

    The file is the list, or an object in which one key holds it (``file.part``, or the only list of objects).
    Raises DataError at the first error, since nothing after it can be read, and SeveralPartsError.
    """
    window = _Window(file)
    first = window.next_character()
    if not first:
        return
    if error := find_invisible(first, f"line {window.line}"):
        raise file_error(file, window.line, error)
    if first == "{":
        yield from _records_under_key(file, window)
    elif first == "[":
        if file.part is not None:
            raise SeveralPartsError(f"the file is one list, and has no list {file.part!r:.60}", [])
        yield from _list_records(file, window)
    else:
        advice = "a .json file is a list of objects, or an object with such a list"
        raise file_error(file, window.line, RecordError("the file is not a list", advice))
    if window.next_character():
        error = RecordError(
            f"there is text after the closing {CLOSING[first]}", "write one list a file and nothing else"
        )
        raise file_error(file, window.line, error)


def _list_records(file: InputFile, window: _Window) -> Iterator[ParsedRecord]:
    """The objects of the list that starts at the next character. Raises DataError."""
    window.skip()
    window.records = 0
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


def _records_under_key(file: InputFile, window: _Window) -> Iterator[ParsedRecord]:
    """The objects of the list that a key holds, of the object that starts at the next character.

    Raises DataError, also where no key holds such a list, and SeveralPartsError.
    """
    keys, lists, empty, line = list[str](), list[str](), list[str](), window.line
    _check_first_object(file, window)
    window.skip()
    while True:
        key = window.value()
        if not isinstance(key, str):
            raise file_error(file, window.line, RecordError(f"a key is {type_name(key)}, not text", ADVICE))
        keys.append(key)
        if error := find_repeated_key(keys):
            raise file_error(file, window.line, error)
        _skip_expected(file, window, ":")
        if window.next_character() == "[" and window.starts_list_of_objects():
            lists.append(key)
            chosen = file.part == key or (file.part is None and len(lists) == 1)
            for record in _list_records(file, window):
                _check_not_messages(file, key, record)
                if chosen:
                    yield record
        elif window.value() == []:
            empty.append(key)
        if window.next_character() == "}":
            break
        _skip_expected(file, window, ",")
    window.skip()
    _check_lists(file, lists, empty, keys, line)


def _skip_expected(file: InputFile, window: _Window, expected: str) -> None:
    """Skip a character of an object. Raises DataError if it is another one."""
    found = window.next_character()
    if found != expected:
        what = f"{expected!r} is missing before {found!r}" if found else "the object is never closed with }"
        raise file_error(file, window.line, RecordError(what, "the file is not JSON, or truncated; write it again"))
    window.skip()


def _check_first_object(file: InputFile, window: _Window) -> None:
    """Refuse a file of lines of JSON before its first row, unless its first object is long. Raises as below."""
    found = window.first_object()
    if found is None:
        return
    value, follows = found
    if follows == "{":
        raise file_error(file, window.line, RecordError("the file has several objects, not one list", JSON_LINES))
    lists = [key for key, item in value.items() if isinstance(item, list) and item and isinstance(item[0], dict)]
    empty = [key for key, item in value.items() if item == []]
    _check_lists(file, lists, empty, [*value], window.line)


def _check_lists(file: InputFile, lists: Sequence[str], empty: Sequence[str], keys: Sequence[str], line: int) -> None:
    """Raises SeveralPartsError unless one list is chosen, DataError if there is none.

    lists: the keys that hold lists of objects.
    empty: the keys that hold empty lists.
    keys: all keys of the object.
    line: on which it starts.
    """
    names = [key[:SHOWN_CHARACTERS] for key in lists]
    if file.part is None and len(lists) > 1:
        raise SeveralPartsError(f"the file has several lists of records: {', '.join(names[:SHOWN_KEYS])}", names)
    if file.part in empty or (file.part is None and not lists and empty):
        what = f"the file has no records: its list {(file.part or empty[0])[:SHOWN_CHARACTERS]!r} is empty"
        raise file_error(file, line, RecordError(what, "check what was exported"))
    if file.part is not None and file.part not in lists:
        raise SeveralPartsError(f"the file has no list of records {file.part[:SHOWN_CHARACTERS]!r}", names)
    if not lists:
        shown = ", ".join(key[:SHOWN_CHARACTERS] for key in keys[:SHOWN_KEYS]) or "it has none"
        what = f"the file is one object, and none of its keys ({shown}) holds a list of objects"
        raise file_error(file, line, RecordError(what, JSON_LINES))


def _check_not_messages(file: InputFile, key: str, record: ParsedRecord) -> None:
    """Refuse a file that is one record, whose list holds the messages of a conversation. Raises DataError."""
    value = record.value
    if record.item == 0 and isinstance(value, dict) and is_message(value):
        what = f"the file is one record: its list {key[:SHOWN_CHARACTERS]!r} holds the messages of a conversation"
        raise file_error(
            file, record.name, RecordError(what, "write the records as a list: [ before it and ] after it")
        )


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
        value, end = self._decode(f"[{self.records}]")
        if not isinstance(value, dict):
            what = f"the list has {type_name(value)} in it, not an object"
            raise self._error(RecordError(what, ADVICE))
        self._move(end)
        self.records += 1
        return value

    def value(self) -> Any:
        """The value that starts at the next character. Raises DataError."""
        self.next_character()
        value, end = self._decode("")
        self._move(end)
        return value

    def _decode(self, item: str) -> tuple[Any, int]:
        """The value that starts here, and the index after it. item: added to the line in an error. Raises DataError."""
        while True:
            try:
                value, end = decode_at(self.text, self.start)
            except json.JSONDecodeError as error:
                if is_truncated(error) and len(self.text) - self.start <= RECORD_LIMIT and self._more():
                    continue
                line = self.line + self.text.count("\n", self.start, error.pos)
                raise self._error(self._syntax_error(error, line), item) from None
            except RecordError as error:
                raise self._error(error, item) from None
            if isinstance(value, int | float) and NUMBER_GOES_ON.fullmatch(self.text, end) and self._more():
                continue
            if self._bytes(end) > RECORD_LIMIT:
                raise self._error(too_long(), item)
            return value, end

    def starts_list_of_objects(self) -> bool:
        """Whether the value that starts here is a list whose first item is an object."""
        while True:
            if LIST_OF_OBJECTS.match(self.text, self.start):
                return True
            if not BEGIN_OF_LIST.fullmatch(self.text, self.start) or not self._more():
                return False

    def first_object(self) -> tuple[dict[str, Any], str] | None:
        """The object that starts at the next character with the character after it, if it is not long."""
        while len(self.text) - self.start <= 2 * BLOCK:
            try:
                value, end = decode_at(self.text, self.start)
            except (json.JSONDecodeError, RecordError):
                value, end = None, len(self.text)  # whatever is wrong is found when the object is read key by key
            follows = self.text[end:].lstrip(" \t\r\n")[:1]
            if isinstance(value, dict) and follows:
                return value, follows
            if not self._more():
                return (value, "") if isinstance(value, dict) else None
        return None

    def _error(self, error: RecordError, item: str | None = None) -> DataError:
        """The error of the value that starts at the next character. item: in the list; None for the next one."""
        return file_error(self.file, f"{self.line}{f'[{self.records}]' if item is None else item}", error)

    def _syntax_error(self, error: json.JSONDecodeError, line: int) -> RecordError:
        return too_long() if len(self.text) - self.start > RECORD_LIMIT else syntax_error(error, f"line {line}")

    def _bytes(self, end: int) -> int:
        """Bytes of the text up to ``end``; counted only if it could matter."""
        length = end - self.start
        return length if length <= RECORD_LIMIT // 4 else len(self.text[self.start : end].encode())
