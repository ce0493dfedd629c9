"""Records of an Excel workbook (.xlsx): the first row of a sheet names the columns, every further row is a record.

As in a .csv file, cells are texts and an empty cell is an empty text. A number is the text that its cell shows where
that is certain: in the formats General, Text and 0. Other numbers, dates and truth values look different in every
program and country. They are kept as what they are, so that a reader that needs their text refuses the record.
"""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from itertools import repeat
from typing import Any

from tunesmith.data.sources.files import (
    BLOCK,
    EXPANSION_FREE,
    EXPANSION_LIMIT,
    InputFile,
    expansion_error,
    read_errors,
)
from tunesmith.data.sources.records import ParsedRecord, SeveralPartsError, checked_record, file_error
from tunesmith.data.sources.strict_json import RecordError
from tunesmith.data.sources.tables import column_names
from tunesmith.errors import DataError, MissingInputError

LAST_ROW = 2**20  # of a sheet in Excel
LONGEST_REASON = 120
SHOWN_SHEETS = 12
PLAIN_FORMATS = ("General", "@", "0")  # number formats in which the text of a whole number is certain
SHEETS = "xl/worksheets/"
FORMULA = re.compile(rb"<(?:\w+:)?f[ />]")
ESCAPE = re.compile(r"_x([0-9A-Fa-f]{4})_")
"""How Excel writes a unit of UTF-16 that XML cannot hold, and ``_`` where a text would look like this (ECMA-376)."""


def spreadsheet_records(file: InputFile) -> Iterator[ParsedRecord]:
    """The rows of the only sheet with records, or of ``file.part``; ``number`` is the row in the sheet.

    The whole archive is compared with its checksums before the first row. Rows are read one by one, but all texts of
    the workbook are held in memory, since its sheets refer to one list of texts.
    Raises DataError for what is no workbook or has a wrong header, and SeveralPartsError.
    """
    has_formulas = _check_archive(file)
    with ExitStack() as opened:
        with _workbook_errors(file):
            values = opened.enter_context(closing(_open_workbook(file, saved_values=True)))
            lengths = {sheet.title: sheet.max_row for sheet in values.worksheets}
        sheet, formulas = _choose_sheet(file, values), None
        if has_formulas:
            with _workbook_errors(file):
                formulas = opened.enter_context(closing(_open_workbook(file, saved_values=False)))[sheet]
        total = max(1, lengths[sheet] or 1)  # as the file claims, for showing progress
        for number, value in _sheet_records(file, values[sheet], formulas):
            yield ParsedRecord(number, value, file.size * number // total)


def _sheet_records(
    file: InputFile, values: Any, formulas: Any | None
) -> Iterator[tuple[int, dict[str, Any] | RecordError]]:
    """(row, record) of every row of a sheet that is not empty. formulas: the same sheet with its formulas, if any."""
    originals = repeat((0, ())) if formulas is None else _rows(file, formulas)
    columns = list[str]()
    for (number, row), (_, original) in zip(_rows(file, values), originals, strict=False):
        if error := _find_lost_formula(row, original):
            yield number, error
        elif all(_is_empty(cell.value) for cell in row):
            continue
        elif not columns:
            columns = _header(file, number, row)
        else:
            yield number, _record(columns, row)


def _check_archive(file: InputFile) -> bool:
    """Whether a sheet has formulas, after a look at the whole archive.

    Raises DataError where the archive is damaged, or decompresses to far more than its size.
    """
    found = False
    with read_errors(file.path), _workbook_errors(file), zipfile.ZipFile(file.path) as archive:
        entries = archive.infolist()
        if sum(entry.file_size for entry in entries) > max(EXPANSION_FREE, EXPANSION_LIMIT * file.size):
            raise expansion_error(file)
        for entry in entries:
            before = b""
            with archive.open(entry) as stream:  # compares the checksum at its end
                while block := stream.read(BLOCK):
                    if entry.filename.startswith(SHEETS):
                        found = found or FORMULA.search(before + block) is not None
                        before = block[-64:]
    return found


def _open_workbook(file: InputFile, saved_values: bool) -> Any:
    """The workbook, whose rows are read when they are asked for.

    saved_values: of formulas their values as the program saved them, instead of the formulas.
    """
    import openpyxl

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about styles and extensions that are not read here
        workbook = openpyxl.load_workbook(file.path, read_only=True, data_only=saved_values, keep_links=False)
    return workbook


def _choose_sheet(file: InputFile, workbook: Any) -> str:
    """The name of the sheet that is read. Raises SeveralPartsError, or MissingInputError if there is no record."""
    with _workbook_errors(file):
        sheets = {str(sheet.title): sheet for sheet in workbook.worksheets}
    if file.part is not None:
        if file.part not in sheets:
            raise SeveralPartsError(f"the workbook has no sheet {file.part!r}", [*sheets])
        return file.part
    filled = [name for name, sheet in sheets.items() if _has_records(file, sheet)]
    visible = [name for name in filled if sheets[name].sheet_state == "visible"] or filled
    if len(visible) > 1:
        shown = ", ".join(map(repr, visible[:SHOWN_SHEETS]))
        raise SeveralPartsError(f"the workbook has records in the sheets {shown}", visible)
    if not visible:
        advice = "the first row names the columns, and every further row is a record"
        raise MissingInputError("the workbook has no records", where=file.path, advice=advice)
    return visible[0]


def _has_records(file: InputFile, sheet: Any) -> bool:
    """Whether a sheet has a header and another row."""
    filled = (number for number, row in _rows(file, sheet) if any(not _is_empty(cell.value) for cell in row))
    return next(filled, None) is not None and next(filled, None) is not None


def _rows(file: InputFile, sheet: Any) -> Iterator[tuple[int, Sequence[Any]]]:
    """(number from 1, cells) of every row, up to its last cell. Raises DataError."""
    with _workbook_errors(file):
        sheet.reset_dimensions()  # some programs write them wrong, and cells outside of them would be lost
        rows = iter(sheet.iter_rows())
    number = 0
    while True:
        with _workbook_errors(file):
            row = next(rows, None)
        if row is None:
            return
        number += 1
        if number > LAST_ROW:
            raise file_error(file, f"row {number}", RecordError("a sheet has at most 1,048,576 rows", "write .csv"))
        yield number, row


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _find_lost_formula(row: Sequence[Any], originals: Sequence[Any]) -> RecordError | None:
    """The error of a row with a formula whose value was not saved, which programs without a spreadsheet leave out."""
    for cell, original in zip(row, originals, strict=False):
        # A formula with an empty text as its value has a type of its value.
        if original.data_type == "f" and cell.value is None and cell.data_type == "n":
            what = f"the formula in cell {original.coordinate} has no saved value"
            return RecordError(what, "open the workbook in a spreadsheet program and save it")
    return None


def _header(file: InputFile, number: int, row: Sequence[Any]) -> list[str]:
    """The names of the columns up to the last that has one. Raises DataError."""
    names = ["" if cell.value is None else str(_as_text(cell)) for cell in row]
    while not names[-1].strip():
        names.pop()
    return column_names(file, f"row {number}", names)


def _record(columns: Sequence[str], row: Sequence[Any]) -> dict[str, Any] | RecordError:
    """The row as an object."""
    for position, cell in enumerate(row):
        if cell.data_type == "e":
            return RecordError(f"cell {cell.coordinate} has the error {str(cell.value)[:20]}", "correct its formula")
        if position >= len(columns) and not _is_empty(cell.value):
            return RecordError(
                f"cell {cell.coordinate} is outside of the named columns", "name its column, or empty it"
            )
    values = [_as_text(cell) for cell in row[: len(columns)]]
    values += [""] * (len(columns) - len(values))
    return checked_record(dict(zip(columns, values, strict=True)), measure=True)


def _as_text(cell: Any) -> Any:
    """The text of a cell, or its value where its text is not certain."""
    value = cell.value
    if value is None:
        return ""
    if isinstance(value, str):
        return _decode_escapes(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or cell.number_format not in PLAIN_FORMATS:
        return value
    text = f"{value:.15g}"  # Excel has 15 digits
    certain = "e" not in text and "n" not in text and (cell.number_format != "0" or text.lstrip("-").isdecimal())
    return text if certain else value


def _decode_escapes(text: str) -> str:
    """A text with its escapes replaced by the characters that they encode; the result is not decoded again."""
    if not ESCAPE.search(text):
        return text
    units = ESCAPE.sub(lambda found: chr(int(found[1], 16)), text)
    try:
        return units.encode("utf-16-le", "surrogatepass").decode("utf-16-le")  # two halves become one character
    except UnicodeDecodeError:
        return units  # half a character, which is refused with its record


@contextmanager
def _workbook_errors(file: InputFile) -> Iterator[None]:
    """Turn whatever is raised for a damaged workbook into one clear DataError."""
    advice = "open it in a spreadsheet program and save it again, or save the table as .csv"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (DataError, SeveralPartsError):
        raise
    except Exception as error:
        line = (str(error).splitlines() or [""])[0][:LONGEST_REASON]
        reason = "".join(letter if letter.isprintable() else "?" for letter in line) or type(error).__name__
        raise DataError(f"the Excel workbook is broken: {reason}", where=file.path, advice=advice) from error
