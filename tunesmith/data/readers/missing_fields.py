"""The error of a row that lacks fields of its reader: all of them, with the words that name the right columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tunesmith.data.readers.columns import (
    ANSWER,
    CHOSEN,
    DOCUMENT,
    HEADER_ADVICE,
    LONGEST_NAME,
    NO_HEADER,
    QUESTION,
    REJECTED,
    column_word,
    lack_header,
    shown_name,
)
from tunesmith.data.readers.reader import Settings, find_value
from tunesmith.data.sources.setting_words import COMMAND_LINE, setting_words
from tunesmith.errors import DataError
from tunesmith.recipe.data import AUTO

SHOWN_COLUMNS = 12
MESSAGES = ("messages", "conversations", "conversation", "dialog", "dialogue", "turns", "chat")
SYNONYMS: Mapping[str, tuple[Sequence[str], type]] = {
    **dict.fromkeys(("instruction", "prompt", "question"), (QUESTION, str)),
    **dict.fromkeys(("response", "output", "completion"), (ANSWER, str)),
    "chosen": (CHOSEN, object),
    "rejected": (REJECTED, object),
    "text": (DOCUMENT, str),
    **dict.fromkeys(("messages", "conversations"), (MESSAGES, list)),
}
"""Field of a reader -> names that columns with the same content often have, and the type of their values."""


def check_fields(needed: Sequence[str], settings: Settings, row: Mapping[str, Any]) -> None:
    """Raises DataError if a row lacks one field or more.

    needed: the fields that a row must have.
    settings: of the reader.
    row: the object.
    """
    fields = [name for name in needed if not find_value(row, settings.columns[name])[0]]
    if fields:
        raise _missing_fields(fields, settings, row)


def _missing_fields(fields: Sequence[str], settings: Settings, row: Mapping[str, Any]) -> DataError:
    """The error of a row that lacks some fields."""
    names = [repr(settings.columns[name]) for name in fields]
    what = f"field {names[0]} is missing"
    if len(names) > 1:
        what = f"the fields {', '.join(names[:-1])} and {names[-1]} are missing"
    columns = [str(name) for name in row]
    shown = ", ".join(shown_name(name[:LONGEST_NAME]) for name in columns[:SHOWN_COLUMNS]) or "none"
    shown += f" and {len(columns) - SHOWN_COLUMNS:,} more" if len(columns) > SHOWN_COLUMNS else ""
    advice = f"the columns are {shown}"
    if lack_header(columns):
        return DataError(NO_HEADER, advice=HEADER_ADVICE)
    guess = guess_columns(fields, settings, row)
    if guess:
        return DataError(what, advice=f"{advice}; {setting_words(settings.key, 'fields', guess)}")
    words = (
        f"{setting_words(settings.key, 'fields', dict.fromkeys(fields, 'COLUMN'))} with the name of the right column"
    )
    if settings.key not in ("", COMMAND_LINE):  # a recipe, whose reader may be that of other data
        words = f"these rows may be for another reader; {setting_words(settings.key, 'reader', AUTO)}, or {words}"
    return DataError(what, advice=f"{advice}; {words}")


def guess_columns(fields: Sequence[str], settings: Settings, row: Mapping[str, Any]) -> dict[str, str]:
    """Field -> column that probably holds it; empty unless there is a different one for every field.

    fields: those that are missing.
    settings: of the reader; what it reads under another name is no candidate.
    row: the object.
    """
    free = {column_word(str(name)): str(name) for name in row}
    for column in settings.columns.values():
        if column in row:
            free = {word: name for word, name in free.items() if name != column}
    found: dict[str, str] = {}
    for field in fields:
        words, kind = SYNONYMS.get(field, ((), object))
        candidates = [free[word] for word in words if word in free and isinstance(row[free[word]], kind)]
        candidates = [name for name in candidates if name not in found.values()]
        if not candidates:
            return {}
        found[field] = candidates[0]
    return found
