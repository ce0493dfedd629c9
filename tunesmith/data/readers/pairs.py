"""Readers of preference pairs: two replies to one prompt, one of them chosen. Options as in ``ranked.pair_tree``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import takewhile
from typing import Any

from tunesmith.data.readers.conversations import SHAREGPT
from tunesmith.data.readers.ranked import PAIR_OPTIONS, Candidate, check_prompt, pair_tree, strip_messages
from tunesmith.data.readers.reader import (
    Filtered,
    Reader,
    ReadResult,
    ReadTree,
    Settings,
    find_value,
    flag,
    optional_number_of,
    optional_text_of,
    required,
    text_of,
)
from tunesmith.data.readers.tools import TOOLS, add_tools
from tunesmith.data.readers.transcripts import parse_transcript
from tunesmith.data.readers.turns import PLAIN_ROLES, TurnFormat, parse_turn, parse_turns
from tunesmith.errors import DataError
from tunesmith.text.tree import Message

SCORES = ("score_chosen", "score_rejected", "margin")
SIDES = ("chosen", "rejected")


def preference_text(settings: Settings, row: Mapping[str, Any]) -> ReadResult:
    """Fields: prompt, chosen, rejected, all texts; optional: context, system, score_chosen with score_rejected, margin.

    context is a passage that the prompt refers to.
    """
    system = optional_text_of(settings, row, "system")
    prompt = [Message("system", system)] if system.strip() else []
    context = optional_text_of(settings, row, "context")
    prompt.append(Message("user", text_of(settings, row, "prompt"), context=context))
    check_prompt(prompt, f"field {settings.columns['prompt']!r}")
    return _pair(settings, row, prompt, [Message("assistant", text_of(settings, row, side)) for side in SIDES])


def preference(settings: Settings, row: Mapping[str, Any]) -> ReadResult:
    """Fields: chosen and rejected, lists of messages that begin with the same prompt and end with a reply each.

    If ``prompt`` is a list of messages, it comes before both (a prompt that is a text only repeats a turn, and is not
    read). Optional: score_chosen with score_rejected, margin.

    Options:
    clean: strip all texts and drop messages that are then empty.
    """
    columns = settings.columns
    form = TurnFormat((columns["role"],), (columns["content"],), PLAIN_ROLES)
    _, given = find_value(row, columns["prompt"])
    before = parse_turns(given, columns["prompt"], form) if isinstance(given, list) else []
    for side in SIDES:
        if isinstance(row.get(columns[side]), str):
            what = f"field {columns[side]!r} is text, not a list of messages"
            raise DataError(what, advice="if all rows are like that, use the reader preference-text")
    sides = [[*before, *parse_turns(required(settings, row, side), columns[side], form)] for side in SIDES]
    if settings.options["clean"]:
        sides = [strip_messages(side) for side in sides]
    for side, turns in zip(SIDES, sides, strict=True):
        if not turns or turns[-1].role != "assistant":
            raise DataError(f"field {columns[side]!r} does not end with the assistant", advice="fix the record")
    prompt = _shared([side[:-1] for side in sides], columns)
    check_prompt(prompt, "the prompt")
    return _pair(settings, row, add_tools(settings, row, prompt), [side[-1] for side in sides])


def _shared(prompts: Sequence[Sequence[Message]], columns: Mapping[str, str]) -> Sequence[Message]:
    """The prompt of both sides. Raises DataError where the two differ."""
    first, second = prompts
    if len(first) != len(second):
        what = (
            f"{columns['chosen']!r} has {len(first)} messages before its reply, {columns['rejected']!r} {len(second)}"
        )
        raise DataError(what, advice="both sides must answer the same prompt; fix the record")
    for index, (one, other) in enumerate(zip(first, second, strict=True)):
        if (one.role, one.text, one.extra_texts()) != (other.role, other.text, other.extra_texts()):
            what = f"{columns['chosen']}[{index}] and {columns['rejected']}[{index}] differ before the reply"
            raise DataError(what, advice="both sides must answer the same prompt; fix the record")
    return first


def preference_sharegpt(settings: Settings, row: Mapping[str, Any]) -> ReadResult:
    """Fields: conversations (turns with from and value), chosen and rejected (one turn each).

    Options as for ``preference``.
    """
    columns = settings.columns
    prompt = parse_turns(required(settings, row, "conversations"), columns["conversations"], SHAREGPT)
    replies = [parse_turn(required(settings, row, side), columns[side], SHAREGPT) for side in SIDES]
    for side, reply in zip(SIDES, replies, strict=True):
        if reply.role != "assistant":
            raise DataError(f"field {columns[side]!r} is a turn of the {reply.role}, not of the assistant")
    if settings.options["clean"]:
        prompt, replies = strip_messages(prompt), [replace(reply, text=reply.text.strip()) for reply in replies]
    check_prompt(prompt, f"field {columns['conversations']!r}")
    return _pair(settings, row, add_tools(settings, row, prompt), replies)


def hh(settings: Settings, row: Mapping[str, Any]) -> ReadResult:
    """Fields: chosen and rejected, two transcripts ("\\n\\nHuman: ..\\n\\nAssistant: ..").

    The turns before the first that differs are the prompt, and that turn is the reply. What follows it is dropped and
    counted. Rows whose transcripts first differ in a turn of the human, or where one is the beginning of the other, are
    filtered: nothing there compares two replies.

    Options, where they differ from ``preference``:
    empty: ``drop`` also filters rows with an empty turn before the reply.
    """
    sides = [parse_transcript(text_of(settings, row, side), f"field {settings.columns[side]!r}") for side in SIDES]
    if settings.options["clean"]:
        sides = [strip_messages(side) for side in sides]
    chosen, rejected = sides
    if chosen == rejected:
        return _pair(settings, row, chosen[:-1], [chosen[-1] if chosen else Message("assistant", "")] * 2)
    shared = len(list(takewhile(lambda turns: turns[0] == turns[1], zip(chosen, rejected, strict=False))))
    if shared == min(len(chosen), len(rejected)):
        return Filtered("one transcript begins the other")
    if chosen[shared].role != "assistant" or rejected[shared].role != "assistant":
        return Filtered("transcripts part before a reply")
    prompt = chosen[:shared]
    if settings.options["empty"] == "drop" and not all(turn.text.strip() for turn in prompt):
        return Filtered("empty turn")
    if not prompt or prompt[-1].role != "user":
        return Filtered("reply without a question")
    check_prompt(prompt, "the prompt")
    result = _pair(settings, row, prompt, [chosen[shared], rejected[shared]])
    after = len(chosen) + len(rejected) - 2 * (shared + 1)
    if not after or isinstance(result, Filtered):
        return result
    return ReadTree(result.tree, {**result.dropped, "after the compared reply": after})


def shp(settings: Settings, row: Mapping[str, Any]) -> ReadResult:
    """Fields: history, human_ref_A, human_ref_B, labels (1: A is chosen, 0: B), score_A and score_B (upvotes)."""
    columns, label = settings.columns, required(settings, row, "labels")
    if label not in (0, 1) or isinstance(label, bool):
        raise DataError(f"field {columns['labels']!r} is {label!r}", advice="1 means that A is chosen, 0 that B is")
    prompt = [Message("user", text_of(settings, row, "history"))]
    check_prompt(prompt, f"field {columns['history']!r}")
    found: list[Candidate] = []
    for letter in ("A", "B") if label == 1 else ("B", "A"):
        name = f"human_ref_{letter}"
        score = optional_number_of(settings, row, f"score_{letter}")
        found.append(Candidate(text_of(settings, row, name), len(found), score, f"field {columns[name]!r}"))
    return pair_tree(settings, prompt, found[0], found[1])


def _pair(
    settings: Settings, row: Mapping[str, Any], prompt: Sequence[Message], replies: Sequence[Message]
) -> ReadResult:
    """The tree of a chosen and a rejected reply, with the scores of the row if the reader has such fields."""
    scores: list[float | None] = [None, None]
    margin = None
    if "margin" in settings.columns:
        scores = [optional_number_of(settings, row, f"score_{side}") for side in SIDES]
        margin = optional_number_of(settings, row, "margin")
    chosen, rejected = (
        Candidate(reply.text, order, score, f"field {settings.columns[side]!r}", reply)
        for order, (side, reply, score) in enumerate(zip(SIDES, replies, scores, strict=True))
    )
    return pair_tree(settings, prompt, chosen, rejected, margin)


CLEAN = {**PAIR_OPTIONS, "clean": flag(False)}

PAIRS: dict[str, Reader] = {
    "preference": Reader(preference, (*SIDES, "prompt", "role", "content", TOOLS, *SCORES), CLEAN),
    "preference-text": Reader(preference_text, ("prompt", *SIDES, "context", "system", *SCORES), PAIR_OPTIONS),
    "preference-sharegpt": Reader(preference_sharegpt, ("conversations", *SIDES, TOOLS, *SCORES), CLEAN),
    "hh": Reader(hh, SIDES, CLEAN),
    "shp": Reader(shp, ("history", "human_ref_A", "human_ref_B", "labels", "score_A", "score_B"), PAIR_OPTIONS),
}
