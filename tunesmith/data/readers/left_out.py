"""What a recognised reading would leave out of the rows although its name says that it is part of the conversation."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tunesmith.data.readers.columns import (
    ANSWER,
    CHOSEN,
    DOCUMENT,
    PASSAGE,
    QUESTION,
    REJECTED,
    Column,
    is_about_the_row,
)
from tunesmith.data.readers.forms import Reading, exchange
from tunesmith.data.readers.missing_fields import MESSAGES
from tunesmith.data.readers.registry import READERS, contents_of, purpose
from tunesmith.data.sources.message_keys import SPEAKER_KEYS, TEXT_KEYS

PARTS = frozenset((*QUESTION, *ANSWER, *PASSAGE, *CHOSEN, *REJECTED, *DOCUMENT, *MESSAGES))
LABELS = ("label", "labels")
"""Columns next to a document that may be its reply, whatever they hold."""

ONE_OF_SEVERAL = re.compile(r"_?([ab]|[0-9]+)$")
"""The end of the name of one of several columns of a kind: ``response_a``, ``output_2``."""


PASSAGE_FIELDS: Mapping[str, str | None] = {"alpaca": "input", "dolly": "context", "prompt-completion": None}
"""Reader of a question with its answer -> its field for a passage."""


def find_left_out(reading: Reading, columns: Mapping[str, Column], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The columns that may be part of the conversation, hold something else than what is read, and are not read.

    Next to a document every text may be part of one; otherwise the name decides, or that it is a list of turns.
    """
    read = contents_of(reading.reader, reading.fields)
    kept = [name for name in columns if name in read]
    unread = [column for name, column in columns.items() if name not in read and not is_about_the_row(column)]
    if reading.reader == "text":
        labels = [column.name for column in unread if column.word in LABELS]
        others = [column.name for column in unread if column.kind != "other" and _holds_more(column.name, kept, rows)]
        return [column.name for column in unread if column.name in (*labels, *others)]
    parts = [column.name for column in unread if _is_part(column)]
    return [name for name in parts if _holds_more(name, kept, rows)]


def _is_part(column: Column) -> bool:
    """Whether a column may be part of a conversation."""
    turns = column.kind == "objects" and all(column.keys.keys() & {*keys} for keys in (SPEAKER_KEYS, TEXT_KEYS))
    return turns or ONE_OF_SEVERAL.sub("", column.word) in PARTS


def _holds_more(name: str, kept: Collection[str], rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a column holds a text in some row that the columns that are read do not hold in this row.

    A text that contains all of two texts or more is no further one: it is the whole conversation once more.
    """
    for row in rows:
        texts = {*_texts(row.get(name))}
        others = {text for column in kept for text in _texts(row.get(column))} if texts else set()
        for text in texts - others:
            if len(others) < 2 or not all(other in text for other in others):
                return True
    return False


def _texts(value: Any) -> Iterator[str]:
    """Every text in a value that is not blank nor names who speaks, without white space at its ends."""
    if isinstance(value, str):
        yield from [value.strip()] if value.strip() else []
    elif isinstance(value, dict):
        yield from (text for key, inner in value.items() if key not in SPEAKER_KEYS for text in _texts(inner))
    elif isinstance(value, list):
        yield from (text for inner in value for text in _texts(inner))


def readings_of_left_out(
    reading: Reading, left: Sequence[str], columns: Mapping[str, Column], ignored: Collection[str]
) -> tuple[Reading, ...]:
    """The readings that may be meant: the one that leaves columns out on purpose, and those that use the first of them.

    reading: that was found.
    left: the columns that it would leave out, at least one.
    ignored: what is left out already.
    """
    ranked = purpose(reading.reader, reading.options) == "rankings"
    if ranked and any(ONE_OF_SEVERAL.search(columns[name].word) for name in left):
        return ()  # the columns of the pair may hold which of these is preferred
    found = [_leaving_out(reading, left, ignored)]
    for other in _others(reading, columns[left[0]], columns) if columns[left[0]].kind == "text" else ():
        read = contents_of(other.reader, other.fields)
        unread = [name for name in (*_exchange_columns(reading), *left) if name not in read]
        found.append(_leaving_out(other, unread, ignored))
    return tuple(found)


def _leaving_out(reading: Reading, left: Collection[str], ignored: Collection[str]) -> Reading:
    return replace(reading, ignore=(*dict.fromkeys((*ignored, *left)),)) if left else reading


def _exchange_columns(reading: Reading) -> tuple[str, ...]:
    """The columns of the fields that a reader needs."""
    return tuple(reading.fields.get(name, name) for name in READERS[reading.reader].needed)


def _others(reading: Reading, left: Column, columns: Collection[str]) -> Iterator[Reading]:
    """The readings that use a column of text that the reading that was found leaves out.

    left: this column.
    columns: the names of all columns.
    """
    if reading.reader == "text":
        yield exchange(reading.columns[0], left.name)
    if reading.reader not in PASSAGE_FIELDS:
        return
    question, answer = _exchange_columns(reading)
    field = PASSAGE_FIELDS[reading.reader]
    passage = reading.fields.get(field, field) if field else None
    passage = passage if passage in columns else None
    if left.word in (*QUESTION, *DOCUMENT):
        yield exchange(left.name, answer, passage)
    if left.word in ANSWER:
        yield exchange(question, left.name, passage)
    elif passage is None:
        yield exchange(question, answer, left.name)
