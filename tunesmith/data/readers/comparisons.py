"""Readers of comparisons: two replies to one prompt, and a column that says which of them somebody preferred."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tunesmith.data.readers.ranked import PAIR_OPTIONS, Reply, asked, pair
from tunesmith.data.readers.reader import Outcome, Reader, Rejected, Settings, optional_text_of, required, text_of
from tunesmith.data.readers.turns import PLAIN_ROLES, Speech, turns_of
from tunesmith.errors import DataError
from tunesmith.text.tree import Message

WINNERS = ("model_a", "model_b")
TIES = ("tie", "tie (bothbad)")


def arena(settings: Settings, row: Mapping[str, Any]) -> Outcome:
    """Chatbot Arena: conversation_a, conversation_b (lists of messages), winner (model_a, model_b, tie, tie (bothbad)).

    Ties are turned away, and so are conversations of several turns: their replies do not answer the same prompt.
    """
    columns, winner = settings.columns, required(settings, row, "winner")
    if winner in TIES:
        return Rejected("tie")
    if winner not in WINNERS:
        known = ", ".join((*WINNERS, *TIES))
        raise DataError(f"field {columns['winner']!r} is {repr(winner)[:40]}", advice=f"known are {known}")
    speech = Speech((columns["role"],), (columns["content"],), PLAIN_ROLES)
    names = ("conversation_a", "conversation_b")
    sides = [turns_of(required(settings, row, name), columns[name], speech) for name in names]
    for name, turns in zip(names, sides, strict=True):
        if turns[-1].role != "assistant":
            raise DataError(f"field {columns[name]!r} does not end with the assistant", advice="remove the record")
    prompts = [turns[:-1] for turns in sides]
    if any(turn.role == "assistant" for prompt in prompts for turn in prompt):
        return Rejected("several turns")
    if prompts[0] != prompts[1]:
        raise DataError(
            "the two conversations begin with different prompts", advice="both sides answer the same prompt; remove it"
        )
    asked(prompts[0], f"field {columns[names[0]]!r}")
    return _preferred(settings, prompts[0], names, [turns[-1].text for turns in sides], WINNERS.index(winner))


def alpacafarm(settings: Settings, row: Mapping[str, Any]) -> Outcome:
    """AlpacaFarm: instruction, input (may be empty), output_1, output_2, preference (1 or 2)."""
    preferred = required(settings, row, "preference")
    if preferred not in (1, 2) or isinstance(preferred, bool):
        raise DataError(f"field {settings.columns['preference']!r} is {preferred!r}", advice="it is 1 or 2")
    context = optional_text_of(settings, row, "input")
    prompt = [Message("user", text_of(settings, row, "instruction"), context=context)]
    asked(prompt, f"field {settings.columns['instruction']!r}")
    names = ("output_1", "output_2")
    return _preferred(settings, prompt, names, [text_of(settings, row, name) for name in names], int(preferred) - 1)


def _preferred(
    settings: Settings, prompt: Sequence[Message], names: Sequence[str], texts: Sequence[str], winner: int
) -> Outcome:
    """The pair of two replies. winner: index of the one that is preferred."""
    replies = [
        Reply(text, int(index != winner), None, f"field {settings.columns[name]!r}")
        for index, (name, text) in enumerate(zip(names, texts, strict=True))
    ]
    return pair(settings, prompt, replies[winner], replies[1 - winner])


COMPARISONS: dict[str, Reader] = {
    "arena": Reader(arena, ("conversation_a", "conversation_b", "winner", "role", "content"), PAIR_OPTIONS),
    "alpacafarm": Reader(alpacafarm, ("instruction", "input", "output_1", "output_2", "preference"), PAIR_OPTIONS),
}
