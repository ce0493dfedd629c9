"""Records of .csv and .tsv files, one at a time: the first line names the columns, and every cell is a text.

Cells are in quotes where they hold the delimiter, quotes (written twice) or line breaks, as RFC 4180 describes. What
other parsers repair is an error: another number of cells than columns, text after a closing quote, an open quote.
"""

from __future__ import annotations

import csv
import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any

from tunesmith.data.sources.files import InputFile
from tunesmith.data.sources.records import ParsedRecord, file_error, too_long
from tunesmith.data.sources.strict_json import (
    RECORD_LIMIT,
    SHOWN_CHARACTERS,
    RecordError,
    check_texts,
    find_invisible,
    find_repeated_key,
)
from tunesmith.data.sources.text_files import TextLine, check_content, text_lines
from tunesmith.errors import DataError

DELIMITERS = (",", ";", "\t", "|")  # of a .csv file; spreadsheets in many countries write ;
DECLARED = re.compile(r"sep=(.)\r?\n?")  # a first line of Excel that names the delimiter
SPACE_BEFORE_QUOTE = re.compile(r' +"')
QUOTE_TWICE = 'a quote inside a cell is written twice ("")'
ERRORS = (  # of the module csv: how they begin, what they mean, and what to do
    ("unexpected end of data", 'a quote (") opens a cell and is never closed', f"close it; {QUOTE_TWICE}"),
    ("'", "there is text after the quote that closes a cell", QUOTE_TWICE),
    ("new-line character", "there is a carriage return outside of quotes", "save the file with usual line ends"),
)

# The module has one limit for the whole process, of 128 KiB.
csv.field_size_limit(max(csv.field_size_limit(), RECORD_LIMIT))


class _Lines:
    """The lines of a file for the module csv, which asks for as many as a record has.

    number: of the last line, from 1.
    end: how many characters of the file have been read.
    start: the same at the start of the record.
    record: the lines of the record.
    """

    def __init__(self, file: InputFile, lines: Iterator[TextLine]) -> None:
        self.file, self.lines = file, lines
        self.number, self.end, self.start, self.first_line = 0, 0, 0, 1
        self.record = list[str]()

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self.lines)
        self.number, self.end = line.number, line.end
        if self.end - self.start > RECORD_LIMIT:
            raise file_error(self.file, self.first_line, too_long())
        self.record.append(line.text)
        return line.text

    def begin(self) -> None:
        """A new record begins with the next line."""
        self.start, self.first_line = self.end, self.number + 1
        self.record.clear()


def table_records(file: InputFile) -> Iterator[ParsedRecord]:
    """The rows of a table as objects of texts; ``number`` is the line on which a row starts.

    An empty cell is an empty text. Rows without any text are skipped, as blank lines are.
    Raises DataError for a wrong header and where it is not certain where the next row starts.
    """
    lines = text_lines(file)
    first = next((line for line in lines if line.text.strip()), None)
    if first is None:
        return
    check_content(file, first, "a table")
    declared = DECLARED.fullmatch(first.text) if file.kind == "csv" else None
    if declared is not None:
        first = next(lines, TextLine(first.number + 1, "", first.end))
    delimiter = declared[1] if declared else "\t" if file.kind == "tsv" else _find_delimiter(file, first)
    waiting = _Lines(file, _chained(first, lines))
    waiting.number = first.number - 1
    cells = _parsed(file, waiting, csv.reader(waiting, delimiter=delimiter, strict=True))
    number, header = next(cells, (first.number, []))
    if error := _find_space_before_quote(header, waiting.record, delimiter):
        raise file_error(file, number, error)
    columns = column_names(file, number, header)
    for number, row in cells:
        if any(cell.strip() for cell in row):
            error = _find_space_before_quote(row, waiting.record, delimiter)
            yield ParsedRecord(number, error or _record(columns, row, delimiter), waiting.end)


def _chained(first: TextLine, lines: Iterator[TextLine]) -> Iterator[TextLine]:
    yield first
    yield from lines


def _find_delimiter(file: InputFile, header: TextLine) -> str:
    """The delimiter of the header line: the one that makes most columns. Raises DataError if two make as many."""
    try:
        counts = {delimiter: len(next(csv.reader([header.text], delimiter=delimiter), [])) for delimiter in DELIMITERS}
    except csv.Error as error:
        raise file_error(file, header.number, _explained(error)) from None
    most = max(counts.values())
    best = [delimiter for delimiter, count in counts.items() if count == most]
    if len(best) > 1 and most > 1:
        what = f"the first line could be divided by {' or by '.join(map(repr, best))}"
        advice = "the names of the columns may have none of , ; | and tabs outside of quotes"
        raise DataError(what, where=f"{file.path}:{header.number}", advice=advice)
    return best[0]


def _parsed(file: InputFile, lines: _Lines, reader: Iterator[list[str]]) -> Iterator[tuple[int, list[str]]]:
    """(line on which it starts, cells) of every row. Raises DataError."""
    while True:
        lines.begin()
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise file_error(file, lines.first_line, _explained(error)) from None
        if row is None:
            return
        yield lines.first_line, row


def _find_space_before_quote(row: Sequence[str], lines: Sequence[str], delimiter: str) -> RecordError | None:
    """The error of a cell in quotes with spaces before it, whose quotes and delimiters would be part of its text.

    row: the cells as they were read.
    lines: of the file, in which the row is.
    """
    if not any(SPACE_BEFORE_QUOTE.match(cell) for cell in row):
        return None
    try:
        meant = next(csv.reader(lines, delimiter=delimiter, strict=True, skipinitialspace=True))
    except csv.Error:
        return None  # the text goes on after the quotation marks, which are a part of it
    for number, cell in enumerate(row):
        # A text that begins with spaces and is in quotes as a whole is the same in both.
        if SPACE_BEFORE_QUOTE.match(cell) and (number >= len(meant) or meant[number] != cell):
            what = f"cell {number + 1} has a space before its quotation mark"
            return RecordError(what, "remove the space before the quotation mark")
    return None


def _explained(error: csv.Error) -> RecordError:
    """An error of the module csv in words that say what to do."""
    for beginning, what, advice in ERRORS:
        if str(error).startswith(beginning):
            return RecordError(what, advice)
    return RecordError(f"the row cannot be read: {error}", QUOTE_TWICE)


def column_names(file: InputFile, place: int | str, header: Sequence[str]) -> list[str]:
    """The names of the columns, without white space around them; one without a name is ``column 3``.

    place: of the header in the file.
    Raises DataError for names that occur twice or have characters that nobody sees.
    """
    names = [name.strip() or f"column {number}" for number, name in enumerate(header, start=1)]
    error = find_repeated_key(names)
    if error is not None:
        raise file_error(file, place, RecordError(error.what.replace("in one object", "in the header"), error.advice))
    try:
        check_texts(names)
    except RecordError as refused:
        raise file_error(file, place, refused) from None
    for name in names:
        for character in name:
            hidden = unicodedata.category(character) in ("Cf", "Zl", "Zp")
            spot = f"in the name of column {name[:SHOWN_CHARACTERS]!a}"
            if hidden and (invisible := find_invisible(character, spot)):
                raise file_error(file, place, invisible)
    return names


def _record(columns: Sequence[str], row: Sequence[str], delimiter: str) -> dict[str, Any] | RecordError:
    """The row as an object."""
    if len(row) != len(columns):
        shown = "tabs" if delimiter == "\t" else f"{delimiter!r}"
        cells = f"{len(row)} cell" + ("s" if len(row) != 1 else "")
        what = f"the row has {cells}, and the header names {len(columns)} columns"
        more = f"put a cell that has {shown} or line breaks in it into quotes"
        return RecordError(what, more if len(row) > len(columns) else "write all cells, the empty ones too")
    value = dict(zip(columns, row, strict=True))
    try:
        check_texts(value)
    except RecordError as error:
        return error
    return value
