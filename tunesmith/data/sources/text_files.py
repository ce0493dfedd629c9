"""The text of a file, block by block or line by line, decoded strictly."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from itertools import chain
from typing import NamedTuple

from tunesmith.data.sources.files import InputFile, blocks
from tunesmith.data.sources.records import file_error, too_long
from tunesmith.data.sources.strict_json import RECORD_LIMIT, RecordError

OTHER_CONTENT = (  # how texts begin that are no table: what they are, and what to do
    ('{"', "JSON Lines", "let its name end in .jsonl"),
    ("[{", "a JSON list", "let its name end in .json"),
    ("<!doctype", "an HTML page", "download the data again; this may be an error message of the server"),
    ("<html", "an HTML page", "download the data again; this may be an error message of the server"),
    ("<?xml", "XML", "save the table as .csv or .xlsx"),
)


class TextLine(NamedTuple):
    """One line of a file.

    number: from 1.
    text: with its ``\\n``; the last line may have none.
    end: how many characters of the file have been read with it.
    """

    number: int
    text: str
    end: int


def pieces(file: InputFile) -> Iterator[str]:
    """The text of a file, block by block, without a byte order mark. Raises DataError where bytes are not UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    before, lines = 0, 1  # bytes and lines that the decoder has been given
    for block in chain(blocks(file), (b"",)):
        held = len(decoder.getstate()[0])
        try:
            text = decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            line = lines + error.object.count(b"\n", 0, error.start)
            raise file_error(file, line, not_utf8(error.object[error.start], before - held + error.start)) from None
        yield text.removeprefix("\ufeff") if before == 0 else text
        before, lines = before + len(block), lines + block.count(b"\n")


def text_lines(file: InputFile) -> Iterator[TextLine]:
    """The lines of a file; a line ends at ``\\n`` and nowhere else.

    Raises DataError where bytes are not UTF-8, or a line is longer than a record may be.
    """
    number, end, rest = 1, 0, ""
    for piece in pieces(file):
        *whole, rest = (rest + piece).split("\n")
        for line in whole:
            end += len(line) + 1
            yield TextLine(number, line + "\n", end)
            number += 1
        if len(rest) > RECORD_LIMIT:
            raise file_error(file, number, too_long())
    if rest:
        yield TextLine(number, rest, end + len(rest))


def check_content(file: InputFile, first: TextLine, expected: str) -> None:
    """Refuse a file whose first line begins as another kind of text does.

    expected: what the file should be, for the message.
    Raises DataError.
    """
    begin = first.text.lstrip().lower()
    for beginning, name, advice in OTHER_CONTENT:
        if begin.startswith(beginning):
            raise file_error(file, first.number, RecordError(f"the file holds {name}, not {expected}", advice))


def not_utf8(byte: int, offset: int) -> RecordError:
    """The error of a file in another encoding. offset: of the byte in the file."""
    what = f"byte 0x{byte:02x} at offset {offset:,} is not UTF-8"
    return RecordError(what, "save the file as UTF-8: iconv -f WINDOWS-1252 -t UTF-8 OLD > NEW, in Excel 'CSV UTF-8'")
