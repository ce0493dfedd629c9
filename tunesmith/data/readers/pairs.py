"""Readers of preference pairs: two replies to one prompt, one of them chosen. See ``ranked.pair`` for their options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Any

from tunesmith.data.readers.conversations import SHAREGPT
from tunesmith.data.readers.ranked import PAIR_OPTIONS, Reply, asked, pair, stripped
from tunesmith.data.readers.reader import (
    Outcome,
    Pruned,
    Reader,
    Rejected,
    Settings,
    flag,
    look,
    optional_number_of,
    optional_text_of,
    required,
    text_of,
)
from tunesmith.data.readers.transcripts import parse_transcript
from tunesmith.data.readers.turns import PLAIN_ROLES, Speech, turn_of, turns_of
from tunesmith.errors import DataError
from tunesmith.text.tree import Message, Tree

SCORES = ("score_chosen", "score_rejected", "margin")
SIDES = ("chosen", "rejected")


def preference_text(settings: Settings, row: Mapping[str, Any]) -> Outcome:
    """prompt, chosen, rejected as texts, and where they are there context (a passage that the prompt refers to), system,
    score_chosen with score_rejected, margin."""
    system = optional_text_of(settings, row, "system")
    prompt = [Message("system", system)] if system.strip() else []
    context = optional_text_of(settings, row, "context")
    prompt.append(Message("user", text_of(settings, row, "prompt"), context=context))
    asked(prompt, f"field {settings.columns['prompt']!r}")
    return _pair(settings, row, prompt, [text_of(settings, row, side) for side in SIDES])


def preference(settings: Settings, row: Mapping[str, Any]) -> Outcome:
    """chosen and rejected as lists of messages that begin with the same prompt and end with a reply each.

    If ``prompt`` is a list of messages, it comes before both (a prompt that is a text only repeats a turn, and is not
    read). Option ``clean`` strips all texts and drops messages that are empty then.
    """
    columns = settings.columns
    speech = Speech((columns["role"],), (columns["content"],), PLAIN_ROLES)
    _, given = look(row, columns["prompt"])
    before = turns_of(given, columns["prompt"], speech) if isinstance(given, list) else []
    for side in SIDES:
        if isinstance(row.get(columns[side]), str):
            what = f"field {columns[side]!r} is text, not a list of messages"
            raise DataError(what, advice="if all are, the reader for these data is preference-text")
    sides = [[*before, *turns_of(required(settings, row, side), columns[side], speech)] for side in SIDES]
    if settings.options["clean"]:
        sides = [stripped(side) for side in sides]
    for side, turns in zip(SIDES, sides, strict=True):
        if not turns or turns[-1].role != "assistant":
            raise DataError(f"field {columns[side]!r} does not end with the assistant", advice="remove the record")
    prompt = _shared([side[:-1] for side in sides], columns)
    asked(prompt, "the prompt")
    return _pair(settings, row, prompt, [side[-1].text for side in sides])


def _shared(prompts: Sequence[Sequence[Message]], columns: Mapping[str, str]) -> Sequence[Message]:
    """The prompt of both sides. Raises DataError where it is not the same."""
    first, second = prompts
    if len(first) != len(second):
        what = (
            f"{columns['chosen']!r} has {len(first)} messages before its reply, {columns['rejected']!r} {len(second)}"
        )
        raise DataError(what, advice="both sides answer the same prompt; mend or remove the record")
    for index, (one, other) in enumerate(zip(first, second, strict=True)):
        if (one.role, one.text) != (other.role, other.text):
            what = f"{columns['chosen']}[{index}] and {columns['rejected']}[{index}] differ before the reply"
            raise DataError(what, advice="both sides answer the same prompt; mend or remove the record")
    return first


def preference_sharegpt(settings: Settings, row: Mapping[str, Any]) -> Outcome:
    """conversations (turns with from and value), chosen and rejected (one turn each). Option ``clean`` as in preference."""
    columns = settings.columns
    prompt = turns_of(required(settings, row, "conversations"), columns["conversations"], SHAREGPT)
    replies = [turn_of(required(settings, row, side), columns[side], SHAREGPT) for side in SIDES]
    for side, reply in zip(SIDES, replies, strict=True):
        if reply.role != "assistant":
            raise DataError(f"field {columns[side]!r} is a turn of the {reply.role}, not of the assistant")
    answers = [reply.text for reply in replies]
    if settings.options["clean"]:
        prompt, answers = stripped(prompt), [answer.strip() for answer in answers]
    asked(prompt, f"field {columns['conversations']!r}")
    return _pair(settings, row, prompt, answers)


def hh(settings: Settings, row: Mapping[str, Any]) -> Outcome:
    """chosen and rejected as transcripts ("\\n\\nHuman: ..\\n\\nAssistant: .."): the turns before the first that differs are
    the prompt, that turn is the reply.

    What follows it is dropped, and counted. Rows whose transcripts first differ in what the human says, or where one is
    the beginning of the other, are turned away: nothing there compares two replies. Option ``clean`` as in preference;
    ``empty`` drop also turns away rows with an empty turn before the reply.
    """
    sides = [parse_transcript(text_of(settings, row, side), f"field {settings.columns[side]!r}") for side in SIDES]
    if settings.options["clean"]:
        sides = [stripped(side) for side in sides]
    chosen, rejected = sides
    if chosen == rejected:
        return _pair(settings, row, chosen[:-1], ["".join(turn.text for turn in chosen[-1:])] * 2)
    shared = len(list(takewhile(lambda turns: turns[0] == turns[1], zip(chosen, rejected, strict=False))))
    if shared == min(len(chosen), len(rejected)):
        return Rejected("one transcript begins the other")
    if chosen[shared].role != "assistant" or rejected[shared].role != "assistant":
        return Rejected("transcripts part before a reply")
    prompt = chosen[:shared]
    if settings.options["empty"] == "drop" and not all(turn.text.strip() for turn in prompt):
        return Rejected("empty turn")
    if not prompt or prompt[-1].role != "user":
        return Rejected("reply without a question")
    asked(prompt, "the prompt")
    outcome = _pair(settings, row, prompt, [chosen[shared].text, rejected[shared].text])
    after = len(chosen) + len(rejected) - 2 * (shared + 1)
    return _dropping(outcome, "after the compared reply", after)


def _dropping(outcome: Outcome, reason: str, count: int) -> Outcome:
    """The outcome with some more messages that were taken away."""
    if not count or isinstance(outcome, Rejected):
        return outcome
    if isinstance(outcome, Tree):
        return Pruned(outcome, {reason: count})
    return Pruned(outcome.tree, {**outcome.dropped, reason: count})


def shp(settings: Settings, row: Mapping[str, Any]) -> Outcome:
    """history, human_ref_A, human_ref_B, labels (1: A is preferred, 0: B), score_A and score_B (upvotes)."""
    columns, label = settings.columns, required(settings, row, "labels")
    if label not in (0, 1) or isinstance(label, bool):
        raise DataError(f"field {columns['labels']!r} is {label!r}", advice="1 means that A is preferred, 0 B")
    prompt = [Message("user", text_of(settings, row, "history"))]
    asked(prompt, f"field {columns['history']!r}")
    found: list[Reply] = []
    for letter in ("A", "B") if label == 1 else ("B", "A"):
        name = f"human_ref_{letter}"
        score = optional_number_of(settings, row, f"score_{letter}")
        found.append(Reply(text_of(settings, row, name), len(found), score, f"field {columns[name]!r}"))
    return pair(settings, prompt, found[0], found[1])


def _pair(settings: Settings, row: Mapping[str, Any], prompt: Sequence[Message], texts: Sequence[str]) -> Outcome:
    """The tree of a chosen and a rejected text, with the scores of the row if the reader has such columns."""
    scores: list[float | None] = [None, None]
    margin = None
    if "margin" in settings.columns:
        scores = [optional_number_of(settings, row, f"score_{side}") for side in SIDES]
        margin = optional_number_of(settings, row, "margin")
    chosen, rejected = (
        Reply(text, order, score, f"field {settings.columns[side]!r}")
        for order, (side, text, score) in enumerate(zip(SIDES, texts, scores, strict=True))
    )
    return pair(settings, prompt, chosen, rejected, margin)


CLEAN = {**PAIR_OPTIONS, "clean": flag(False)}

PAIRS: dict[str, Reader] = {
    "preference": Reader(preference, (*SIDES, "prompt", "role", "content", *SCORES), CLEAN),
    "preference-text": Reader(preference_text, ("prompt", *SIDES, "context", "system", *SCORES), PAIR_OPTIONS),
    "preference-sharegpt": Reader(preference_sharegpt, ("conversations", *SIDES, *SCORES), CLEAN),
    "hh": Reader(hh, SIDES, CLEAN),
    "shp": Reader(shp, ("history", "human_ref_A", "human_ref_B", "labels", "score_A", "score_B"), PAIR_OPTIONS),
}
