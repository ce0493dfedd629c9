"""Lists of turns: objects with a role and a text become messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tunesmith.data.readers.reader import as_text
from tunesmith.data.sources.strict_json import kind
from tunesmith.errors import DataError
from tunesmith.text.tree import Message, Role

TURN_LIMIT = 2000
UNSUPPORTED = (
    "name",
    "tool_calls",
    "tool_call_id",
    "function_call",
    "audio",
    "refusal",
)  # of a message in OpenAI's form
PLAIN_ROLES: Mapping[str, Role] = {"system": "system", "user": "user", "assistant": "assistant"}


class Speech(NamedTuple):
    """How turns are written. role, content: possible names of these two keys. roles: what the data call each role."""

    role: Sequence[str]
    content: Sequence[str]
    roles: Mapping[str, Role]


def turns_of(value: Any, place: str, speech: Speech) -> list[Message]:
    """The messages of a list that is not empty; a text may be blank, see ``check_full``. place: ``messages``.

    Raises DataError that names the place and key of what it cannot use.
    """
    if not isinstance(value, list) or not value:
        raise DataError(f"field {place!r} is " + ("empty" if value == [] else f"{kind(value)}, not a list of messages"))
    if len(value) > TURN_LIMIT:
        raise DataError(f"field {place!r} has {len(value):,} messages", advice=f"{TURN_LIMIT:,} is the most; split it")
    return [turn_of(turn, f"{place}[{index}]", speech) for index, turn in enumerate(value)]


def turn_of(turn: Any, place: str, speech: Speech) -> Message:
    """One message; its text may be blank. place: ``messages[3]``. Raises DataError."""
    if not isinstance(turn, dict):
        raise DataError(f"{place} is {kind(turn)}, not an object with {speech.role[0]} and {speech.content[0]}")
    for key in UNSUPPORTED:
        if turn.get(key):
            raise DataError(
                f"{place} has {key!r}, which is not supported", advice="only plain text from user and assistant is"
            )
    role_key = next((key for key in speech.role if key in turn), speech.role[0])
    content_key = next((key for key in speech.content if key in turn), speech.content[0])
    named = turn.get(role_key)
    if not isinstance(named, str) or named not in speech.roles:
        shown = repr(named[:40]) if isinstance(named, str) else kind(named)
        advice = f"known are {', '.join(speech.roles)}; options can rename them"
        raise DataError(f"{place}: role {shown} is unknown", advice=advice)
    text, role = as_text(turn.get(content_key), f"{place}.{content_key}"), speech.roles[named]
    weight = turn.get("weight")
    if weight not in (None, 0, 1) or isinstance(weight, bool):
        raise DataError(f"{place}: weight {weight!r} is neither 0 nor 1")
    return Message(role, text, trained=None if weight is None or role != "assistant" else weight == 1)


def check_full(messages: Sequence[Message], place: str) -> None:
    """Every message says something. Raises DataError."""
    for index, message in enumerate(messages):
        if not message.text.strip():
            raise DataError(f"{place}[{index}] ({message.role}) is empty", advice="mend or remove the record")


def check_answered(messages: Sequence[Message], place: str) -> None:
    """There is an assistant message. Raises DataError."""
    if not any(message.role == "assistant" for message in messages):
        advice = "there is nothing to learn from it; remove it"
        raise DataError(f"field {place!r} has no assistant message", advice=advice)
