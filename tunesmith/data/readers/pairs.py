"""Readers of preference pairs: two replies to one prompt, one of them chosen. Options as in ``ranked.pair_tree``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import takewhile
from typing import Any

from tunesmith.data.readers.conversations import SHAREGPT, SHAREGPT_KEYS
from tunesmith.data.readers.history import HISTORY, HISTORY_KEYS, read_history
from tunesmith.data.readers.masks import check_compared
from tunesmith.data.readers.ranked import PAIR_OPTIONS, Candidate, check_prompt, pair_tree, strip_messages
from tunesmith.data.readers.reader import (
    Filtered,
    Reader,
    ReadResult,
    ReadTree,
    Settings,
    choice,
    find_value,
    flag,
    optional_number_of,
    optional_text_of,
    required,
    text_of,
)
from tunesmith.data.readers.tools import TOOLS, add_tools
from tunesmith.data.readers.transcripts import parse_transcript
from tunesmith.data.readers.turns import PLAIN_ROLES, TURN_KEYS, TurnFormat, parse_turn, parse_turns
from tunesmith.errors import DataError
from tunesmith.text.tree import Message

SCORES = ("score_chosen", "score_rejected", "margin")
SHORT_PROMPT = 20  # characters; shorter prompts are not looked for at the beginning of replies
SHOWN_TEXT = 60  # characters of a text in a message
SIDES = ("chosen", "rejected")


def preference_text(settings: Settings, row: Mapping[str, Any]) -> ReadResult:
    """Fields: prompt, chosen, rejected, all texts.

    Optional: context, a passage that the prompt refers to; history, the turns before the prompt; score_chosen with
    score_rejected; margin.

    Options:
    prompt_again: where both replies begin with the prompt, it is ``cut`` off from them, or they are left as they are
        (``keep``); by default that is an ``error``.
    """
    text, context = text_of(settings, row, "prompt"), optional_text_of(settings, row, "context")
    prompt = [*read_history(settings, row, trained=False), Message("user", text, context=context)]
    check_prompt(prompt, f"field {settings.columns['prompt']!r}")
    texts = _without_prompt(settings, text, [text_of(settings, row, side) for side in SIDES])
    return _pair(settings, row, prompt, [Message("assistant", reply) for reply in texts])


def _without_prompt(settings: Settings, prompt: str, replies: Sequence[str]) -> Sequence[str]:
    """The replies without the prompt at their beginning. Raises DataError unless the option says what is to be done.

    A short prompt may well be the beginning of a reply to it.
    """
    again = settings.options["prompt_again"]
    start = prompt.strip()
    if again == "keep" or len(start) < SHORT_PROMPT or not all(text.lstrip().startswith(start) for text in replies):
        return replies
    if again == "error":
        names = " and ".join(repr(settings.columns[side]) for side in SIDES)
        advice = "set options.prompt_again to cut, or to keep if the replies repeat it on purpose"
        raise DataError(f"fields {names} begin with the prompt", advice=advice)
    return [text.lstrip().removeprefix(start).lstrip() for text in replies]


def preference(settings: Settings, row: Mapping[str, Any]) -> ReadResult:
    """Fields: chosen and rejected, lists of messages that begin with the same prompt and end with a reply each.

    If ``prompt`` is a list of messages, it comes before both, unless both begin with it. A prompt that is a text is the
    question if the two sides have none; otherwise it must repeat one of their turns, or all turns before the reply.
    Optional: score_chosen with score_rejected, margin.

    Options:
    clean: strip all texts and drop messages that are then empty.
    """
    columns = settings.columns
    form = TurnFormat((columns["role"],), (columns["content"],), PLAIN_ROLES)
    for side in SIDES:
        if isinstance(row.get(columns[side]), str):
            what = f"field {columns[side]!r} is text, not a list of messages"
            raise DataError(what, advice="if all rows are like that, use the reader preference-text")
    sides = [parse_turns(required(settings, row, side), columns[side], form) for side in SIDES]
    before = _given_prompt(settings, row, form, sides)
    sides = [[*before, *_after_prompt(before, side, columns[name])] for name, side in zip(SIDES, sides, strict=True)]
    if settings.options["clean"]:
        sides = [strip_messages(side) for side in sides]
    for side, turns in zip(SIDES, sides, strict=True):
        if not turns or turns[-1].role != "assistant":
            raise DataError(f"field {columns[side]!r} does not end with the assistant", advice="fix the record")
        check_compared(turns[-1], f"field {columns[side]!r}")
    prompt = _shared([side[:-1] for side in sides], columns)
    check_prompt(prompt, "the prompt")
    return _pair(settings, row, add_tools(settings, row, prompt), [side[-1] for side in sides])


def _given_prompt(
    settings: Settings, row: Mapping[str, Any], form: TurnFormat, sides: Sequence[Sequence[Message]]
) -> Sequence[Message]:
    """The messages of the field prompt that come before both sides.

    Raises DataError for a text that the sides do not repeat.
    """
    column = settings.columns["prompt"]
    _, given = find_value(row, column)
    if isinstance(given, list) and given:
        return parse_turns(given, column, form)
    if not isinstance(given, str) or not given.strip():
        return []
    if not any(turn.role == "user" for side in sides for turn in side):
        return [Message("user", given)]
    for name, side in zip(SIDES, sides, strict=True):
        if not _repeats(given, side):
            first = next((turn for turn in side if turn.role == "user"), side[0])
            shown, other = (text.strip()[:SHOWN_TEXT] for text in (given, first.text))
            what = f"field {column!r} is {shown!r}, but field {settings.columns[name]!r} begins with {other!r}"
            advice = f"fix the record, or leave the field out: ignore: [{column}] in the data source"
            raise DataError(what, advice=advice)
    return []


def _repeats(prompt: str, side: Sequence[Message]) -> bool:
    """Whether a text is one of the turns before the reply, or has all of them in it, as a transcript does."""
    turns, end = [turn.text.strip() for turn in side[:-1]], 0
    if prompt.strip() in turns:
        return True
    for turn in turns:
        found = prompt.find(turn, end)
        if found < 0:
            return False
        end = found + len(turn)
    return bool(turns)


def _after_prompt(prompt: Sequence[Message], side: Sequence[Message], column: str) -> Sequence[Message]:
    """The messages of a side without the prompt, if it begins with it; its system message need not be repeated.

    Raises DataError if the side begins with another conversation.
    """
    if not prompt:
        return side
    for repeated in (prompt, [message for message in prompt if message.role != "system"]):
        if repeated and _texts(side[: len(repeated)]) == _texts(repeated):
            return side[len(repeated) :]
    if side[0].role == "assistant":
        return side
    advice = "it has the reply alone, or the whole conversation with the prompt; fix the record"
    raise DataError(f"field {column!r} begins with another prompt than the field of that name", advice=advice)


def _texts(messages: Sequence[Message]) -> list[tuple[str, ...]]:
    return [(message.role, message.text.strip(), *message.extra_texts()) for message in messages]


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
        check_compared(reply, f"field {columns[side]!r}")
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
AGAIN = {**PAIR_OPTIONS, "prompt_again": choice("error", "cut", "keep")}

PAIRS: dict[str, Reader] = {
    "preference": Reader(
        preference,
        (*SIDES, "prompt", "role", "content", TOOLS, *SCORES),
        CLEAN,
        needed=SIDES,
        inner=dict.fromkeys((*SIDES, "prompt"), TURN_KEYS),
        keys=("role", "content"),
    ),
    "preference-text": Reader(
        preference_text,
        ("prompt", *SIDES, "context", HISTORY, *SCORES),
        AGAIN,
        needed=SIDES,
        inner={HISTORY: HISTORY_KEYS},
    ),
    "preference-sharegpt": Reader(
        preference_sharegpt,
        ("conversations", *SIDES, TOOLS, *SCORES),
        CLEAN,
        needed=("conversations", *SIDES),
        inner=dict.fromkeys((*SIDES, "conversations"), SHAREGPT_KEYS),
    ),
    "hh": Reader(hh, SIDES, CLEAN, needed=SIDES),
    "shp": Reader(shp, ("history", "human_ref_A", "human_ref_B", "labels", "score_A", "score_B"), PAIR_OPTIONS),
}
