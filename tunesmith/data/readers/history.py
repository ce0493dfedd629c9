"""Earlier turns of a conversation, where the data have them in a separate column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tunesmith.data.readers.reader import Settings, as_text, find_value
from tunesmith.data.readers.turns import PLAIN_ROLES, TURN_KEYS, TurnFormat, check_not_empty, parse_turns
from tunesmith.data.sources.strict_json import type_name
from tunesmith.errors import DataError
from tunesmith.text.tree import Message

HISTORY = "history"
FORM = TurnFormat(("role",), ("content",), PLAIN_ROLES)
HISTORY_KEYS = TURN_KEYS


def read_history(settings: Settings, row: Mapping[str, Any], *, trained: bool) -> list[Message]:
    """The earlier turns of a row: a list of pairs [question, reply], or of messages with role and content.

    trained: whether the replies in it are trained on like the last one.
    Raises DataError.
    """
    column = settings.columns[HISTORY]
    _, value = find_value(row, column)
    if value is None or value in ("", []):
        return []
    if not isinstance(value, list | tuple):
        raise DataError(
            f"field {column!r} is {type_name(value)}, not a list of earlier turns",
            advice='it is written as [["question", "reply"], ..]',
        )
    if all(isinstance(item, Mapping) for item in value):
        turns = parse_turns(list(value), column, FORM)
    else:
        turns = [turn for index, item in enumerate(value) for turn in _pair(item, f"{column}[{index}]")]
    check_not_empty(turns, column)
    _check_alternation(turns, column)
    if trained:
        return turns
    if any(turn.trained for turn in turns):
        what = f"field {column!r} has a reply that is to be trained on by its mask, and the history is not trained on"
        raise DataError(what, advice="set the mask to false, or use a reader of one list of all turns")
    return [replace(turn, trained=False) if turn.role == "assistant" else turn for turn in turns]


def _pair(value: Any, place: str) -> Sequence[Message]:
    if not isinstance(value, list | tuple) or len(value) != 2:
        found = f"a list of {len(value)}" if isinstance(value, list | tuple) else type_name(value)
        raise DataError(f"{place} is {found}, not a question and its reply")
    question, reply = (as_text(text, f"{place}[{index}]") for index, text in enumerate(value))
    return Message("user", question), Message("assistant", reply)


def _check_alternation(turns: Sequence[Message], column: str) -> None:
    """Raises DataError unless the last turn is a reply, so that the question of the row can follow."""
    if turns[-1].role != "assistant":
        raise DataError(f"field {column!r} does not end with a reply", advice="the question of the row follows it")
