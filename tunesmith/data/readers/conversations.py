"""Readers of conversations: lists of messages in the forms of OpenAI and ShareGPT."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from itertools import takewhile
from typing import Any

from tunesmith.data.readers.meanings import holds_something
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
    find_value,
    flag,
    required,
)
from tunesmith.data.readers.tools import TOOLS, add_tools
from tunesmith.data.readers.turns import (
    PLAIN_ROLES,
    TURN_KEYS,
    TurnFormat,
    check_answered,
    check_not_empty,
    merge_turns,
    parse_turns,
)
from tunesmith.errors import DataError
from tunesmith.text.tree import Message, Role, Tree

SHAREGPT_ROLES: Mapping[str, Role] = {
    **dict.fromkeys(("human", "user"), "user"),
    **dict.fromkeys(("gpt", "assistant", "chatgpt", "bing", "bard"), "assistant"),
    "system": "system",
    "function_call": "assistant",
    **dict.fromkeys(("observation", "tool"), "tool"),
}
SHAREGPT = TurnFormat(("from", "role"), ("value", "content"), SHAREGPT_ROLES, ("function_call",))
SHAREGPT_KEYS: Contents = {**TURN_KEYS, "from": None, "value": None}
ESCAPED = re.compile(r"\\([_*])")
CITATION = re.compile(r"\[\s?\d+\s?\]")


def messages(settings: Settings, row: Mapping[str, Any]) -> ReadResult:
    """Fields: messages, a list of objects with role and content; an answer with ``train`` false is not trained on.

    ``masks.MASK_KEYS`` has all names of that key.

    An answer may have reasoning (``reasoning_content``, ``thinking`` or ``reasoning``) and ``tool_calls``, a message of
    the role tool ``tool_call_id`` and ``name``, one of the user ``context``, a passage that it refers to. A content may
    be a list of parts of type text. Optional: tools, the definitions of tools, a list or JSON text of one.

    Options:
    system, user, assistant, tool: the names of these roles in the data.
    same_role: two turns of the same role in a row ``keep`` as they are (most prompt formats refuse them), ``merge``
        joins them with a line break, or they are an ``error``.
    """
    columns, place = settings.columns, settings.columns["messages"]
    if row.get("functions") and columns[TOOLS] != "functions":
        advice = "this is an old form of definitions of tools; name a column in today's form under fields.tools"
        raise DataError("field 'functions' is not supported", advice=advice)
    roles: dict[str, Role] = {settings.options[role]: role for role in PLAIN_ROLES.values()}
    form = TurnFormat((columns["role"],), (columns["content"],), roles)
    turns = parse_turns(required(settings, row, "messages"), place, form)
    check_not_empty(turns, place)
    check_answered(turns, place)
    turns = merge_turns(turns, settings.options["same_role"], place)
    return ReadTree(Tree.path(add_tools(settings, row, turns)))


def sharegpt(settings: Settings, row: Mapping[str, Any]) -> ReadResult:
    """Fields: conversations (or items), a list of turns with from and value (or role and content).

    A turn of ``function_call`` is a tool call of the assistant as JSON, one of ``observation`` or ``tool`` its result.
    Optional: tools, the definitions of tools, a list or JSON text of one.

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
    found, _ = find_value(row, place)
    if found and holds_something(row.get("items")):
        what = f"the row has both {place!r} and 'items'"
        raise DataError(what, advice="name the one that is meant under fields.conversations, and ignore the other")
    if not found and "items" in row:
        place, value = "items", row["items"]
    else:
        value = required(settings, row, "conversations")
    turns = [_cleaned(settings, turn) for turn in parse_turns(value, place, SHAREGPT)]
    if any(turn.is_empty for turn in turns):
        if settings.options["empty"] == "drop":
            return Filtered("empty turn")
        check_not_empty(turns, place)
    start = len(list(takewhile(lambda turn: turn.role == "system", turns)))
    leading = len(list(takewhile(lambda turn: turn.role in ("assistant", "tool"), turns[start:])))
    if leading and settings.options["leading"] == "drop":
        return Filtered("the assistant speaks first")
    if leading and settings.options["leading"] == "error":
        advice = "set options.leading to cut or drop, or fix the record"
        raise DataError(f"{place}: the assistant speaks first", advice=advice)
    turns = turns[:start] + turns[start + leading :]
    if leading and not any(turn.role == "assistant" for turn in turns):
        return Filtered("no answer left")
    check_answered(turns, place)
    turns = merge_turns(turns, settings.options["same_role"], place)
    tree = Tree.path(add_tools(settings, row, turns))
    return ReadTree(tree, {"before the first question": leading} if leading else {})


def _cleaned(settings: Settings, turn: Message) -> Message:
    """A turn without what the options remove from it."""
    text = turn.text
    if settings.options["unescape"]:
        text = ESCAPED.sub(r"\1", text)
    if settings.options["strip_citations"]:
        text = CITATION.sub("", text)
    return replace(turn, text=text.strip() if settings.options["strip"] else text)


ROLE_NAMES: dict[str, Option] = {
    role: Option(role, lambda value: isinstance(value, str) and bool(value), "the name of that role in the data")
    for role in PLAIN_ROLES
}

CONVERSATIONS: dict[str, Reader] = {
    "messages": Reader(
        messages,
        ("messages", "role", "content", TOOLS),
        {**ROLE_NAMES, "same_role": choice("keep", "merge", "error")},
        inner={"messages": TURN_KEYS},
        keys=("role", "content"),
        also=("functions",),
    ),
    "sharegpt": Reader(
        sharegpt,
        ("conversations", TOOLS),
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
