"""Readers of conversations: lists of messages in OpenAI's form and in that of ShareGPT."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import takewhile
from typing import Any

from tunesmith.data.readers.reader import (
    EMPTY,
    Option,
    Outcome,
    Pruned,
    Reader,
    Rejected,
    Settings,
    choice,
    flag,
    required,
)
from tunesmith.data.readers.turns import PLAIN_ROLES, Speech, check_answered, check_full, turns_of
from tunesmith.errors import DataError
from tunesmith.text.tree import Message, Role, Tree

SHAREGPT_ROLES: Mapping[str, Role] = {
    **dict.fromkeys(("human", "user"), "user"),
    **dict.fromkeys(("gpt", "assistant", "chatgpt", "bing", "bard"), "assistant"),
    "system": "system",
}
SHAREGPT = Speech(("from", "role"), ("value", "content"), SHAREGPT_ROLES)
ESCAPED = re.compile(r"\\([_*])")
CITATION = re.compile(r"\[ ?\d+ ?\]")


def messages(settings: Settings, row: Mapping[str, Any]) -> Outcome:
    """A list of messages with role and content; ``weight`` 0 of an assistant message keeps it out of training.

    Options ``system``, ``user``, ``assistant``: what the data call these roles.
    """
    columns, place = settings.columns, settings.columns["messages"]
    for key in ("tools", "functions"):
        if row.get(key):
            what = f"field {key!r} is not supported"
            raise DataError(what, advice="only plain text from system, user and assistant is; remove the record")
    roles: dict[str, Role] = {settings.options[role]: role for role in PLAIN_ROLES.values()}
    speech = Speech((columns["role"],), (columns["content"],), roles)
    turns = turns_of(required(settings, row, "messages"), place, speech)
    check_full(turns, place)
    check_answered(turns, place)
    return Tree.path(turns)


def sharegpt(settings: Settings, row: Mapping[str, Any]) -> Outcome:
    """A list ``conversations`` (or ``items``) of turns with from and value (or role and content).

    Options: ``leading`` turns of the assistant, before anyone asked: an error, ``cut`` off, or the whole conversation is
    turned away (``drop``). ``same_role`` twice in a row: an error, or ``merge`` them with a line break. ``empty`` turns: an
    error, or the conversation is turned away. ``unescape`` makes ``\\_`` and ``\\*`` single characters again, ``strip`` takes
    white space off both ends of a turn, ``strip_citations`` takes [1] out of what the assistant says.
    """
    place = settings.columns["conversations"]
    if place not in row and "items" in row:
        place, value = "items", row["items"]
    else:
        value = required(settings, row, "conversations")
    turns = [_mended(settings, turn) for turn in turns_of(value, place, SHAREGPT)]
    if not all(turn.text.strip() for turn in turns):
        if settings.options["empty"] == "drop":
            return Rejected("empty turn")
        check_full(turns, place)
    start = len(list(takewhile(lambda turn: turn.role == "system", turns)))
    leading = len(list(takewhile(lambda turn: turn.role == "assistant", turns[start:])))
    if leading and settings.options["leading"] == "drop":
        return Rejected("the assistant speaks first")
    if leading and settings.options["leading"] == "error":
        raise DataError(
            f"{place}: the assistant speaks first", advice="set options.leading to cut or drop, or mend the record"
        )
    turns = turns[:start] + turns[start + leading :]
    if leading and not any(turn.role == "assistant" for turn in turns):
        return Rejected("no answer left")
    check_answered(turns, place)
    tree = Tree.path(_alternating(settings, turns, place))
    return Pruned(tree, {"before the first question": leading}) if leading else tree


def _mended(settings: Settings, turn: Message) -> Message:
    """A turn without what the options take out of it."""
    text = turn.text
    if settings.options["unescape"]:
        text = ESCAPED.sub(r"\1", text)
    if settings.options["strip_citations"] and turn.role == "assistant":
        text = CITATION.sub("", text)
    return replace(turn, text=text.strip() if settings.options["strip"] else text)


def _alternating(settings: Settings, turns: Sequence[Message], place: str) -> list[Message]:
    """No role speaks twice in a row. Raises DataError unless the option says that such turns are merged."""
    found: list[Message] = []
    for index, turn in enumerate(turns):
        if not found or found[-1].role != turn.role:
            found.append(turn)
        elif settings.options["same_role"] == "merge":
            found[-1] = replace(found[-1], text=f"{found[-1].text}\n{turn.text}")
        else:
            raise DataError(
                f"{place}: turns {index - 1} and {index} are both of the {turn.role}",
                advice="set options.same_role to merge, or mend the record",
            )
    return found


RENAMED: dict[str, Option] = {
    role: Option(role, lambda value: isinstance(value, str) and bool(value), "the name of that role in the data")
    for role in PLAIN_ROLES
}

CONVERSATIONS: dict[str, Reader] = {
    "messages": Reader(messages, ("messages", "role", "content"), RENAMED),
    "sharegpt": Reader(
        sharegpt,
        ("conversations",),
        {
            "empty": EMPTY,
            "leading": choice("error", "cut", "drop"),
            "same_role": choice("error", "merge"),
            "unescape": flag(False),
            "strip": flag(False),
            "strip_citations": flag(False),
        },
    ),
}
