"""Records of a .txt file: every paragraph is one, and blank lines separate them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tunesmith.data.sources.files import InputFile
from tunesmith.data.sources.records import ParsedRecord, too_long
from tunesmith.data.sources.strict_json import RECORD_LIMIT, RecordError, check_texts
from tunesmith.data.sources.text_files import check_content, text_lines

COLUMN = "text"  # the field of the reader ``text``


def paragraph_records(file: InputFile) -> Iterator[ParsedRecord]:
    """``{"text": paragraph}`` for every paragraph; ``number`` is its first line.

    Lines of a paragraph are joined by ``\\n``, however the file ends its lines; everything else is left as it is.
    Raises DataError where bytes are not UTF-8.
    """
    held, number, end, size, seen = list[str](), 0, 0, 0, False
    for line in text_lines(file):
        if line.text.strip():
            if not held:
                if not seen:
                    check_content(file, line, "plain text")
                number, size, seen = line.number, 0, True
            size += len(line.text)
            if size <= RECORD_LIMIT:
                held.append(line.text.removesuffix("\n").removesuffix("\r"))
        elif held:
            yield ParsedRecord(number, _record(held, size), end)
            held = []
        end = line.end
    if held:
        yield ParsedRecord(number, _record(held, size), end)


def _record(lines: Sequence[str], size: int) -> dict[str, Any] | RecordError:
    """The paragraph as an object. size: characters that it has in the file."""
    value = {COLUMN: "\n".join(lines)}
    if size > RECORD_LIMIT:
        return too_long()
    try:
        check_texts(value)
    except RecordError as error:
        return error
    return value
