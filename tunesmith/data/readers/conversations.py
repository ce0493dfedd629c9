"""Readers of conversations: lists of messages in the forms of OpenAI and ShareGPT."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import takewhile
from typing import Any

from tunesmith.data.readers.reader import (
    EMPTY,
    Contents,
    Filtered,
    Option,
    Reader,
    ReadResult,
    ReadTree,
    Settings,
    choice,
    flag,
    required,
)
from tunesmith.data.readers.turns import (
    PLAIN_ROLES,
    TURN_KEYS,
    TurnFormat,
    check_answered,
    check_not_empty,
    parse_turns,
)
from tunesmith.errors import DataError
from tunesmith.text.tree import Message, Role, Tree

SHAREGPT_ROLES: Mapping[str, Role] = {
    **dict.fromkeys(("human", "user"), "user"),
    **dict.fromkeys(("gpt", "assistant", "chatgpt", "bing", "bard"), "assistant"),
    "system": "system",
}
SHAREGPT = TurnFormat(("from", "role"), ("value", "content"), SHAREGPT_ROLES)
SHAREGPT_KEYS: Contents = {**TURN_KEYS, "from": None, "value": None}
ESCAPED = re.compile(r"\\([_*])")
CITATION = re.compile(r"\[\s?\d+\s?\]")


def messages(settings: Settings, row: Mapping[str, Any]) -> ReadResult:
    """Fields: messages, a list of objects with role and content; an answer with ``train`` false is not trained on.

    ``masks.MASK_KEYS`` has all names of that key.

    Options:
    system, user, assistant: the names of these roles in the data.
    """
    columns, place = settings.columns, settings.columns["messages"]
    for key in ("tools", "functions"):
        if row.get(key):
            advice = "only plain text from system, user and assistant is supported; remove the record"
            raise DataError(f"field {key!r} is not supported", advice=advice)
    roles: dict[str, Role] = {settings.options[role]: role for role in PLAIN_ROLES.values()}
    form = TurnFormat((columns["role"],), (columns["content"],), roles)
    turns = parse_turns(required(settings, row, "messages"), place, form)
    check_not_empty(turns, place)
    check_answered(turns, place)
    return ReadTree(Tree.path(turns))


def sharegpt(settings: Settings, row: Mapping[str, Any]) -> ReadResult:
    """Fields: conversations (or items), a list of turns with from and value (or role and content).

    Options:
    leading: turns of the assistant before the first of the user are an ``error``, are ``cut`` off, or ``drop`` filters
        the conversation.
    same_role: two turns of the same role in a row are an ``error``, or ``merge`` joins them with a line break.
    empty: an empty turn is an ``error``, or ``drop`` filters the conversation.
    unescape: replace ``\\_`` and ``\\*`` with the single character.
    strip: remove white space from both ends of every turn.
    strip_citations: remove marks such as [1] from every turn, as Open-Assistant did with Vicuna's data.
    """
    place = settings.columns["conversations"]
    if place not in row and "items" in row:
        place, value = "items", row["items"]
    else:
        value = required(settings, row, "conversations")
    turns = [_cleaned(settings, turn) for turn in parse_turns(value, place, SHAREGPT)]
    if not all(turn.text.strip() for turn in turns):
        if settings.options["empty"] == "drop":
            return Filtered("empty turn")
        check_not_empty(turns, place)
    start = len(list(takewhile(lambda turn: turn.role == "system", turns)))
    leading = len(list(takewhile(lambda turn: turn.role == "assistant", turns[start:])))
    if leading and settings.options["leading"] == "drop":
        return Filtered("the assistant speaks first")
    if leading and settings.options["leading"] == "error":
        advice = "set options.leading to cut or drop, or fix the record"
        raise DataError(f"{place}: the assistant speaks first", advice=advice)
    turns = turns[:start] + turns[start + leading :]
    if leading and not any(turn.role == "assistant" for turn in turns):
        return Filtered("no answer left")
    check_answered(turns, place)
    tree = Tree.path(_alternating(settings, turns, place))
    return ReadTree(tree, {"before the first question": leading} if leading else {})


def _cleaned(settings: Settings, turn: Message) -> Message:
    """A turn without what the options remove from it."""
    text = turn.text
    if settings.options["unescape"]:
        text = ESCAPED.sub(r"\1", text)
    if settings.options["strip_citations"]:
        text = CITATION.sub("", text)
    return replace(turn, text=text.strip() if settings.options["strip"] else text)


def _alternating(settings: Settings, turns: Sequence[Message], place: str) -> list[Message]:
    """The turns, merged so that no role speaks twice in a row. Raises DataError unless the option allows it."""
    found: list[Message] = []
    for index, turn in enumerate(turns):
        if not found or found[-1].role != turn.role:
            found.append(turn)
        elif found[-1].trained != turn.trained:
            what = f"{place}: turns {index - 1} and {index} follow each other, and one of them alone is trained on"
            raise DataError(what, advice="give both the same mask")
        elif settings.options["same_role"] == "merge":
            found[-1] = replace(found[-1], text=f"{found[-1].text}\n{turn.text}")
        else:
            raise DataError(
                f"{place}: turns {index - 1} and {index} are both of the {turn.role}",
                advice="set options.same_role to merge, or fix the record",
            )
    return found


ROLE_NAMES: dict[str, Option] = {
    role: Option(role, lambda value: isinstance(value, str) and bool(value), "the name of that role in the data")
    for role in PLAIN_ROLES
}

CONVERSATIONS: dict[str, Reader] = {
    "messages": Reader(
        messages,
        ("messages", "role", "content"),
        ROLE_NAMES,
        inner={"messages": TURN_KEYS},
        keys=("role", "content"),
        also=("tools", "functions"),
    ),
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
        inner={"conversations": SHAREGPT_KEYS, "items": SHAREGPT_KEYS},
        also=("items",),
    ),
}
