"""Lists of turns: objects with a role and a text become messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tunesmith.data.readers.reader import as_text
from tunesmith.data.sources.strict_json import type_name
from tunesmith.errors import DataError
from tunesmith.text.tree import Message, Role

TURN_LIMIT = 2000
# Keys of a message in OpenAI's form.
UNSUPPORTED = ("name", "tool_calls", "tool_call_id", "function_call", "audio", "refusal")
PLAIN_ROLES: Mapping[str, Role] = {"system": "system", "user": "user", "assistant": "assistant"}


class TurnFormat(NamedTuple):
    """How turns are written.

    role, content: the possible names of these two keys.
    roles: name of a role in the data -> role.
    """

    role: Sequence[str]
    content: Sequence[str]
    roles: Mapping[str, Role]


def parse_turns(value: Any, place: str, form: TurnFormat) -> list[Message]:
    """The messages of a list that is not empty; a text may be empty, see ``check_not_empty``.

    value: of the field.
    place: its name, such as ``messages``.
    Raises DataError that names the place and key of what it cannot use.
    """
    if not isinstance(value, list) or not value:
        found = "empty" if value == [] else f"{type_name(value)}, not a list of messages"
        raise DataError(f"field {place!r} is {found}")
    if len(value) > TURN_LIMIT:
        raise DataError(f"field {place!r} has {len(value):,} messages", advice=f"{TURN_LIMIT:,} is the most; split it")
    return [parse_turn(turn, f"{place}[{index}]", form) for index, turn in enumerate(value)]


def parse_turn(turn: Any, place: str, form: TurnFormat) -> Message:
    """One message; its text may be empty.

    turn: the object.
    place: its name, such as ``messages[3]``.
    Raises DataError.
    """
    if not isinstance(turn, dict):
        raise DataError(f"{place} is {type_name(turn)}, not an object with {form.role[0]} and {form.content[0]}")
    for key in UNSUPPORTED:
        if turn.get(key):
            advice = "only plain text from user and assistant is supported"
            raise DataError(f"{place} has {key!r}, which is not supported", advice=advice)
    role_key = next((key for key in form.role if key in turn), form.role[0])
    content_key = next((key for key in form.content if key in turn), form.content[0])
    named = turn.get(role_key)
    if not isinstance(named, str) or named not in form.roles:
        shown = repr(named[:40]) if isinstance(named, str) else type_name(named)
        advice = f"known are {', '.join(form.roles)}; options can rename them"
        raise DataError(f"{place}: role {shown} is unknown", advice=advice)
    text, role = as_text(turn.get(content_key), f"{place}.{content_key}"), form.roles[named]
    weight = turn.get("weight")
    if weight not in (None, 0, 1) or isinstance(weight, bool):
        raise DataError(f"{place}: weight {weight!r} is neither 0 nor 1")
    return Message(role, text, trained=None if weight is None or role != "assistant" else weight == 1)


def check_not_empty(messages: Sequence[Message], place: str) -> None:
    """Raises DataError if the text of a message is empty or white space."""
    for index, message in enumerate(messages):
        if message.is_empty:
            raise DataError(f"{place}[{index}] ({message.role}) is empty", advice="fix the record")


def check_answered(messages: Sequence[Message], place: str) -> None:
    """Raises DataError if there is no assistant message."""
    if not any(message.role == "assistant" for message in messages):
        advice = "there is nothing to learn from it; remove it"
        raise DataError(f"field {place!r} has no assistant message", advice=advice)
