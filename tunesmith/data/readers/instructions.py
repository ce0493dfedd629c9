"""Readers of single exchanges: an instruction with its response, a prompt with its completion, a plain text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tunesmith.data.readers.history import HISTORY, HISTORY_KEYS, read_history
from tunesmith.data.readers.reader import (
    EMPTY,
    REFUSED_WITHOUT_PREFERENCE,
    Filtered,
    Reader,
    ReadResult,
    ReadTree,
    Settings,
    choice,
    find_empty,
    flag,
    optional_text_of,
    required,
    text_list,
    text_of,
)
from tunesmith.data.readers.tools import TOOLS, add_tools
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

CITATION = re.compile(r"\[(?:\d+(?:,\s*\d+)*|[A-Za-z]|citation needed)\]")
TURNS = TurnFormat(("role",), ("content",), PLAIN_ROLES)


def dolly(settings: Settings, row: Mapping[str, Any]) -> ReadResult:
    """Fields: instruction, context (may be missing, null or empty), response.

    Options:
    strip_citations: remove marks such as [12], [3, 4], [a] and [citation needed] from the context, as Open-Assistant
        did with this dataset.
    """
    instruction, response = text_of(settings, row, "instruction"), text_of(settings, row, "response")
    context = optional_text_of(settings, row, "context")
    if settings.options["strip_citations"]:
        context = CITATION.sub("", context)
    if filtered := find_empty(settings, {"instruction": instruction, "response": response}):
        return filtered
    return ReadTree(Tree.path((Message("user", instruction, context=context), Message("assistant", response))))


def alpaca(settings: Settings, row: Mapping[str, Any]) -> ReadResult:
    """Fields: instruction, input (may be missing, null or empty), output; optional: history, the earlier turns.

    Options:
    train_history: the replies in the history are trained on like the output; ``text.targets`` decides about both.
    join: append the input to the instruction, on a new line, instead of giving it to the format as context.
    drop_phrases: filter rows in which one of them occurs, in upper or lower case, as Open-Assistant did.
    empty: ``keep`` trains on the end of an empty output; see ``find_empty``.
    """
    instruction, output = text_of(settings, row, "instruction"), text_of(settings, row, "output")
    given = optional_text_of(settings, row, "input")
    named = {"instruction": instruction} | ({} if settings.options["empty"] == "keep" else {"output": output})
    if filtered := find_empty(settings, named):
        return filtered
    lowered = [f"{instruction}\n{given}".lower(), output.lower()]
    if any(phrase.lower() in text for phrase in settings.options["drop_phrases"] or () for text in lowered):
        return Filtered("phrase in the row")
    earlier = read_history(settings, row, trained=settings.options["train_history"])
    question = Message("user", instruction, context=given)
    if settings.options["join"] and given:
        question = Message("user", f"{instruction}\n{given}")
    return ReadTree(Tree.path((*earlier, question, Message("assistant", output))))


def prompt_completion(settings: Settings, row: Mapping[str, Any]) -> ReadResult:
    """Fields: prompt and completion, each a text or a list of messages; optional: history, the turns before the prompt.

    Only the completion is trained on: assistant turns of the history and of the prompt are context.
    """
    sides: list[list[Message]] = []
    named: tuple[tuple[str, Role], ...] = (("prompt", "user"), ("completion", "assistant"))
    for name, role in named:
        side = _side(settings, row, name, role)
        if isinstance(side, Filtered):
            return side
        sides.append(side)
    prompt, completion = sides
    column = settings.columns["completion"]
    check_answered(completion, column)
    if completion[0].role != "assistant":
        advice = "move the user's messages to the prompt"
        raise DataError(f"field {column!r} does not begin with the assistant", advice=advice)
    prompt = [*read_history(settings, row, trained=False), *prompt]
    if any(message.trained for message in prompt):
        what = f"field {settings.columns['prompt']!r} or its history has a reply that is to be trained on by its mask"
        raise DataError(what, advice="move it to the completion; only replies there are trained on")
    context = [replace(message, trained=False) if message.role == "assistant" else message for message in prompt]
    return ReadTree(Tree.path(add_tools(settings, row, (*context, *completion))))


def _side(settings: Settings, row: Mapping[str, Any], name: str, role: Role) -> list[Message] | Filtered:
    """The messages of a prompt or a completion. role: of a text."""
    value = required(settings, row, name)
    if isinstance(value, list):
        turns = parse_turns(value, settings.columns[name], TURNS)
        check_not_empty(turns, settings.columns[name])
        return turns
    text = text_of(settings, row, name)
    return find_empty(settings, {name: text}) or [Message(role, text)]


def plain_text(settings: Settings, row: Mapping[str, Any]) -> ReadResult:
    """Fields: text, a document that is read as one message of the assistant without a prompt."""
    text = text_of(settings, row, "text")
    return find_empty(settings, {"text": text}) or ReadTree(Tree.path((Message("assistant", text),)))


INSTRUCTIONS: dict[str, Reader] = {
    "dolly": Reader(
        dolly,
        ("instruction", "context", "response"),
        {"empty": EMPTY, "strip_citations": flag(False)},
        needed=("instruction", "response"),
    ),
    "alpaca": Reader(
        alpaca,
        ("instruction", "input", "output", HISTORY),
        {
            "empty": choice("error", "drop", "keep"),
            "join": flag(False),
            "drop_phrases": text_list(None),
            "train_history": flag(True),
        },
        inner={HISTORY: HISTORY_KEYS},
        needed=("instruction", "output"),
    ),
    "prompt-completion": Reader(
        prompt_completion,
        ("prompt", "completion", HISTORY, TOOLS),
        {"empty": EMPTY},
        inner={"prompt": TURN_KEYS, "completion": TURN_KEYS, HISTORY: HISTORY_KEYS},
        needed=("prompt", "completion"),
    ),
    "text": Reader(
        plain_text,
        ("text",),
        {"empty": EMPTY},
        refused=REFUSED_WITHOUT_PREFERENCE,
        system=False,
    ),
}
