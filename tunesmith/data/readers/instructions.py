"""Readers of single exchanges: an instruction with its response, a prompt with its completion, a plain text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tunesmith.data.readers.reader import (
    EMPTY,
    Outcome,
    Reader,
    Rejected,
    Settings,
    blank,
    flag,
    optional_text_of,
    required,
    text_of,
    texts,
)
from tunesmith.data.readers.turns import PLAIN_ROLES, Speech, check_answered, check_full, turns_of
from tunesmith.errors import DataError
from tunesmith.text.tree import Message, Role, Tree

CITATION = re.compile(r"\[(?:\d+(?:, ?\d+)*|[A-Za-z]|citation needed)\]")
SPEECH = Speech(("role",), ("content",), PLAIN_ROLES)


def dolly(settings: Settings, row: Mapping[str, Any]) -> Outcome:
    """instruction, context (may be missing, null or empty), response.

    Option ``strip_citations`` takes marks such as [12], [3, 4], [a] and [citation needed] out of context and response,
    as Open-Assistant did with this data set.
    """
    instruction, response = text_of(settings, row, "instruction"), text_of(settings, row, "response")
    context = optional_text_of(settings, row, "context")
    if settings.options["strip_citations"]:
        context, response = CITATION.sub("", context), CITATION.sub("", response)
    if rejected := blank(settings, {"instruction": instruction, "response": response}):
        return rejected
    return Tree.path((Message("user", instruction, context=context), Message("assistant", response)))


def alpaca(settings: Settings, row: Mapping[str, Any]) -> Outcome:
    """instruction, input (may be missing, null or empty), output.

    Options: ``join`` puts the input behind the instruction, on a new line, instead of giving it to the format as context;
    ``drop_phrases`` turns away rows whose output holds one of them, in upper or lower case.
    """
    instruction, output = text_of(settings, row, "instruction"), text_of(settings, row, "output")
    given = optional_text_of(settings, row, "input")
    if rejected := blank(settings, {"instruction": instruction, "output": output}):
        return rejected
    lowered = output.lower()
    if any(phrase.lower() in lowered for phrase in settings.options["drop_phrases"] or ()):
        return Rejected("phrase in output")
    if settings.options["join"] and given:
        return Tree.path((Message("user", f"{instruction}\n{given}"), Message("assistant", output)))
    return Tree.path((Message("user", instruction, context=given), Message("assistant", output)))


def prompt_completion(settings: Settings, row: Mapping[str, Any]) -> Outcome:
    """prompt and completion: each a text, or a list of messages with role and content.

    Only the completion is trained on: assistant turns of the prompt are context.
    """
    sides: list[list[Message]] = []
    named: tuple[tuple[str, Role], ...] = (("prompt", "user"), ("completion", "assistant"))
    for name, role in named:
        side = _side(settings, row, name, role)
        if isinstance(side, Rejected):
            return side
        sides.append(side)
    prompt, completion = sides
    column = settings.columns["completion"]
    check_answered(completion, column)
    if completion[0].role != "assistant":
        advice = "what the user says belongs to the prompt"
        raise DataError(f"field {column!r} does not begin with the assistant", advice=advice)
    context = [replace(message, trained=False) if message.role == "assistant" else message for message in prompt]
    return Tree.path((*context, *completion))


def _side(settings: Settings, row: Mapping[str, Any], name: str, role: Role) -> list[Message] | Rejected:
    """The messages of a prompt or a completion. role: of a text."""
    value = required(settings, row, name)
    if isinstance(value, list):
        turns = turns_of(value, settings.columns[name], SPEECH)
        check_full(turns, settings.columns[name])
        return turns
    text = text_of(settings, row, name)
    return blank(settings, {name: text}) or [Message(role, text)]


def plain_text(settings: Settings, row: Mapping[str, Any]) -> Outcome:
    """text: a document, read as one message of the assistant that nobody asked for."""
    text = text_of(settings, row, "text")
    return blank(settings, {"text": text}) or Tree.path((Message("assistant", text),))


INSTRUCTIONS: dict[str, Reader] = {
    "dolly": Reader(dolly, ("instruction", "context", "response"), {"empty": EMPTY, "strip_citations": flag(False)}),
    "alpaca": Reader(
        alpaca, ("instruction", "input", "output"), {"empty": EMPTY, "join": flag(False), "drop_phrases": texts(None)}
    ),
    "prompt-completion": Reader(prompt_completion, ("prompt", "completion"), {"empty": EMPTY}),
    "text": Reader(plain_text, ("text",), {"empty": EMPTY}),
}
