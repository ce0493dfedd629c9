"""Readers of comparisons: two replies to one prompt, and a column that names the chosen one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tunesmith.data.readers.masks import check_compared
from tunesmith.data.readers.ranked import PAIR_OPTIONS, Candidate, check_prompt, pair_tree
from tunesmith.data.readers.reader import Filtered, Reader, ReadResult, Settings, optional_text_of, required, text_of
from tunesmith.data.readers.turns import PLAIN_ROLES, TURN_KEYS, TurnFormat, parse_turns
from tunesmith.errors import DataError
from tunesmith.text.tree import Message

WINNERS = ("model_a", "model_b")
TIES = ("tie", "tie (bothbad)")


def arena(settings: Settings, row: Mapping[str, Any]) -> ReadResult:
    """Chatbot Arena. Fields: conversation_a, conversation_b (lists of messages), winner (model_a, model_b or a tie).

    Ties are filtered, and so are conversations of several turns: their replies do not answer the same prompt.
    """
    columns, winner = settings.columns, required(settings, row, "winner")
    if winner in TIES:
        return Filtered("tie")
    if winner not in WINNERS:
        known = ", ".join((*WINNERS, *TIES))
        raise DataError(f"field {columns['winner']!r} is {repr(winner)[:40]}", advice=f"known are {known}")
    form = TurnFormat((columns["role"],), (columns["content"],), PLAIN_ROLES)
    names = ("conversation_a", "conversation_b")
    sides = [parse_turns(required(settings, row, name), columns[name], form) for name in names]
    for name, turns in zip(names, sides, strict=True):
        if turns[-1].role != "assistant":
            raise DataError(f"field {columns[name]!r} does not end with the assistant", advice="fix the record")
        check_compared(turns[-1], f"field {columns[name]!r}")
    prompts = [turns[:-1] for turns in sides]
    if any(turn.role == "assistant" for prompt in prompts for turn in prompt):
        return Filtered("several turns")
    if prompts[0] != prompts[1]:
        advice = "both must answer the same prompt"
        raise DataError("the two conversations begin with different prompts", advice=advice)
    check_prompt(prompts[0], f"field {columns[names[0]]!r}")
    return _pair(settings, prompts[0], names, [turns[-1] for turns in sides], WINNERS.index(winner))


def alpacafarm(settings: Settings, row: Mapping[str, Any]) -> ReadResult:
    """AlpacaFarm. Fields: instruction, input (may be empty), output_1, output_2, preference (1 or 2)."""
    preference = required(settings, row, "preference")
    if preference not in (1, 2) or isinstance(preference, bool):
        raise DataError(f"field {settings.columns['preference']!r} is {preference!r}", advice="it must be 1 or 2")
    context = optional_text_of(settings, row, "input")
    prompt = [Message("user", text_of(settings, row, "instruction"), context=context)]
    check_prompt(prompt, f"field {settings.columns['instruction']!r}")
    names = ("output_1", "output_2")
    texts = [Message("assistant", text_of(settings, row, name)) for name in names]
    return _pair(settings, prompt, names, texts, int(preference) - 1)


def _pair(
    settings: Settings, prompt: Sequence[Message], names: Sequence[str], messages: Sequence[Message], winner: int
) -> ReadResult:
    """The tree of two replies. winner: index of the chosen one."""
    replies = [
        Candidate(message.text, int(index != winner), None, f"field {settings.columns[name]!r}", message)
        for index, (name, message) in enumerate(zip(names, messages, strict=True))
    ]
    return pair_tree(settings, prompt, replies[winner], replies[1 - winner])


COMPARISONS: dict[str, Reader] = {
    "arena": Reader(
        arena,
        ("conversation_a", "conversation_b", "winner", "role", "content"),
        PAIR_OPTIONS,
        inner={"conversation_a": TURN_KEYS, "conversation_b": TURN_KEYS},
        keys=("role", "content"),
    ),
    "alpacafarm": Reader(alpacafarm, ("instruction", "input", "output_1", "output_2", "preference"), PAIR_OPTIONS),
}
