"""Readers of single exchanges: an instruction with its response, a prompt with its completion, a plain text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tunesmith.data.readers.reader import (
    EMPTY,
    Filtered,
    Reader,
    ReadResult,
    ReadTree,
    Settings,
    find_empty,
    flag,
    optional_text_of,
    required,
    text_list,
    text_of,
)
from tunesmith.data.readers.tools import TOOLS, add_tools
from tunesmith.data.readers.turns import PLAIN_ROLES, TurnFormat, check_answered, check_not_empty, parse_turns
from tunesmith.errors import DataError
from tunesmith.text.tree import Message, Role, Tree

CITATION = re.compile(r"\[(?:\d+(?:, ?\d+)*|[A-Za-z]|citation needed)\]")
TURNS = TurnFormat(("role",), ("content",), PLAIN_ROLES)


def dolly(settings: Settings, row: Mapping[str, Any]) -> ReadResult:
    """Fields: instruction, context (may be missing, null or empty), response.

    Options:
    strip_citations: remove marks such as [12], [3, 4], [a] and [citation needed] from context and response, as
        Open-Assistant did with this dataset.
    """
    instruction, response = text_of(settings, row, "instruction"), text_of(settings, row, "response")
    context = optional_text_of(settings, row, "context")
    if settings.options["strip_citations"]:
        context, response = CITATION.sub("", context), CITATION.sub("", response)
    if filtered := find_empty(settings, {"instruction": instruction, "response": response}):
        return filtered
    return ReadTree(Tree.path((Message("user", instruction, context=context), Message("assistant", response))))


def alpaca(settings: Settings, row: Mapping[str, Any]) -> ReadResult:
    """Fields: instruction, input (may be missing, null or empty), output.

    Options:
    join: append the input to the instruction, on a new line, instead of giving it to the format as context.
    drop_phrases: filter rows whose output contains one of them, in upper or lower case.
    """
    instruction, output = text_of(settings, row, "instruction"), text_of(settings, row, "output")
    given = optional_text_of(settings, row, "input")
    if filtered := find_empty(settings, {"instruction": instruction, "output": output}):
        return filtered
    lowered = output.lower()
    if any(phrase.lower() in lowered for phrase in settings.options["drop_phrases"] or ()):
        return Filtered("phrase in output")
    if settings.options["join"] and given:
        return ReadTree(Tree.path((Message("user", f"{instruction}\n{given}"), Message("assistant", output))))
    return ReadTree(Tree.path((Message("user", instruction, context=given), Message("assistant", output))))


def prompt_completion(settings: Settings, row: Mapping[str, Any]) -> ReadResult:
    """Fields: prompt and completion, each a text or a list of messages with role and content.

    Only the completion is trained on: assistant turns of the prompt are context.
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
    "dolly": Reader(dolly, ("instruction", "context", "response"), {"empty": EMPTY, "strip_citations": flag(False)}),
    "alpaca": Reader(
        alpaca,
        ("instruction", "input", "output"),
        {"empty": EMPTY, "join": flag(False), "drop_phrases": text_list(None)},
    ),
    "prompt-completion": Reader(prompt_completion, ("prompt", "completion", TOOLS), {"empty": EMPTY}),
    "text": Reader(plain_text, ("text",), {"empty": EMPTY}),
}
