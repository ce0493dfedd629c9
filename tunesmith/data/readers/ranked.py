"""What all readers of preferences share: a prompt and its ranked replies become a tree, the best reply first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from tunesmith.data.readers.reader import EMPTY, Filtered, Option, ReadResult, ReadTree, Settings, choice, whole_number
from tunesmith.draws import reply_choice
from tunesmith.errors import DataError
from tunesmith.text.tree import ASKING_ROLES, Message, Tree

PAIR_OPTIONS: Mapping[str, Option] = {
    "replies": choice("all", "best"),
    "ties": choice("keep", "drop", "error"),
    "on_equal": choice("error", "drop"),
    "empty": EMPTY,
}
LIST_OPTIONS: Mapping[str, Option] = {
    **PAIR_OPTIONS,
    "replies": choice("all", "best", "pair"),
    "seed": whole_number(0),
}


class Candidate(NamedTuple):
    """One reply that is compared with others.

    text: of the reply.
    order: replies are ranked by it, the lowest first; equal for ties.
    score: its rating, higher for a higher rank; None if it has none.
    what: its name in messages, such as ``field 'chosen'``.
    message: the reply with its reasoning and tool calls, if it may have any.
    """

    text: str
    order: float
    score: float | None
    what: str
    message: Message = Message("assistant", "")

    @property
    def is_empty(self) -> bool:
        return not self.text.strip() and not self.message.tool_calls

    @property
    def content(self) -> tuple[str, ...]:
        """The texts of the reply, by which two of them are equal."""
        return self.text, *self.message.extra_texts()


def pair_tree(
    settings: Settings, prompt: Sequence[Message], chosen: Candidate, rejected: Candidate, margin: float | None = None
) -> ReadResult:
    """The tree of a prompt with a chosen and a rejected reply, in the order of the columns.

    prompt: the messages before the replies.
    margin: the difference of the scores. Without scores the chosen reply has it as its score, and the rejected one 0.

    Options:
    replies: ``all``, or only the ``best``, as a demonstration.
    ties: for equal scores ``keep`` the order of the columns, ``drop`` the row, or raise an ``error``.
    on_equal: equal texts are an ``error``, or ``drop`` filters the row.
    empty: an empty text is an ``error``, or ``drop`` filters the row.

    Raises DataError, also where the scores contradict the columns.
    """
    chosen, rejected = _scored(chosen, rejected, margin)
    for reply in (chosen, rejected):
        if reply.is_empty:
            if settings.options["empty"] == "drop":
                return Filtered("empty reply")
            advice = f"fix the record, or {settings.words('empty', 'drop')}"
            raise DataError(f"{reply.what} is empty", advice=advice)
    if chosen.content == rejected.content:
        if settings.options["on_equal"] == "drop":
            return Filtered("equal replies")
        what = f"{chosen.what} and {rejected.what} are equal"
        advice = f"there is nothing to prefer; remove the record, or {settings.words('on_equal', 'drop')}"
        raise DataError(what, advice=advice)
    if chosen.score is not None and chosen.score == rejected.score and settings.options["ties"] != "keep":
        if settings.options["ties"] == "drop":
            return Filtered("equal scores")
        raise DataError(
            f"both replies have the score {chosen.score:g}",
            advice="set options.ties to keep or drop, or fix the record",
        )
    return _tree(settings, prompt, (chosen, rejected), Counter())


def _scored(chosen: Candidate, rejected: Candidate, margin: float | None) -> tuple[Candidate, Candidate]:
    """Both replies with their scores, as far as they follow from the row. Raises DataError where they contradict it."""
    if (chosen.score is None) != (rejected.score is None):
        lacking = chosen if chosen.score is None else rejected
        raise DataError(f"{lacking.what} has no score, the other reply has one", advice="score both, or neither")
    if chosen.score is None or rejected.score is None:
        if margin is not None and margin < 0:
            raise DataError(f"the margin {margin:g} is below 0", advice="are chosen and rejected swapped?")
        return (chosen, rejected) if margin is None else (chosen._replace(score=margin), rejected._replace(score=0.0))
    difference = chosen.score - rejected.score
    if difference < 0:
        what = f"{chosen.what} has the score {chosen.score:g}, below {rejected.score:g} of {rejected.what}"
        raise DataError(what, advice="are chosen and rejected swapped?")
    if margin is not None and abs(margin - difference) > 1e-4 * max(1.0, abs(difference)):
        raise DataError(f"the margin {margin:g} is not the difference of the scores, {difference:g}")
    return chosen, rejected


def ranking_tree(settings: Settings, prompt: Sequence[Message], replies: Sequence[Candidate]) -> ReadResult:
    """The tree of a prompt with any number of replies, the best first; replies of the same order have the same rank.

    A row in which all replies have the same rank is filtered.
    prompt: the messages before the replies.

    Options, where they differ from ``pair_tree``:
    replies: ``pair`` keeps the best and one of a lower rank, drawn by a hash of ``seed``, the prompt and the best
        reply.
    ties: ``drop`` keeps the first of the replies that tie.
    on_equal: ``drop`` keeps the highest ranked of equal texts.

    Raises DataError.
    """
    dropped: Counter[str] = Counter()
    kept: list[Candidate] = []
    texts: dict[tuple[str, ...], str] = {}
    for reply in sorted(replies, key=lambda reply: reply.order):
        if reply.is_empty:
            _drop_or_raise(settings, "empty", f"{reply.what} is empty", dropped, "empty reply")
        elif reply.content in texts:
            what = f"{texts[reply.content]} and {reply.what} are equal"
            _drop_or_raise(settings, "on_equal", what, dropped, "equal reply")
        elif kept and kept[-1].order == reply.order and settings.options["ties"] != "keep":
            _drop_or_raise(settings, "ties", f"{kept[-1].what} and {reply.what} tie", dropped, "tied reply")
        else:
            kept.append(reply)
            texts[reply.content] = reply.what
    if not kept:
        return Filtered("no replies left")
    if settings.options["replies"] == "best":
        return _tree(settings, prompt, kept, dropped)
    if len(kept) < 2:
        return Filtered("fewer than two replies")
    if kept[0].order == kept[-1].order:
        return Filtered("all replies tie")
    if settings.options["replies"] == "pair":
        rejected = [reply for reply in kept if reply.order > kept[0].order]
        texts_before = [*(message.text for message in prompt), kept[0].text]
        drawn = rejected[reply_choice(settings.options["seed"], texts_before, len(rejected))]
        if len(kept) > 2:
            dropped["not of the pair"] = len(kept) - 2
        kept = [kept[0], drawn]
    return _tree(settings, prompt, kept, dropped)


def _drop_or_raise(settings: Settings, option: str, what: str, dropped: Counter[str], reason: str) -> None:
    """Count a reply that cannot be used as dropped if its option is ``drop``. Raises DataError if it is not."""
    if settings.options[option] != "drop":
        raise DataError(what, advice=f"fix the record, or {settings.words(option, 'drop')}")
    dropped[reason] += 1


def _tree(
    settings: Settings, prompt: Sequence[Message], replies: Sequence[Candidate], dropped: Counter[str]
) -> ReadResult:
    """The tree of prompt and replies; ranks are dense.

    replies: in the order of their ranks.
    dropped: how many replies were dropped before, by reason.
    """
    if settings.options["replies"] == "best" and len(replies) > 1:
        dropped["not the best reply"] += len(replies) - 1
        replies = replies[:1]
    orders = sorted({reply.order for reply in replies})
    messages = [
        Message(
            "assistant",
            reply.text,
            rank=orders.index(reply.order),
            score=reply.score,
            reasoning=reply.message.reasoning,
            tool_calls=reply.message.tool_calls,
        )
        for reply in replies
    ]
    last = len(prompt) - 1
    tree = Tree((*prompt, *messages), (*range(-1, last), *[last] * len(messages)))
    return ReadTree(tree, dropped)


def check_prompt(prompt: Sequence[Message], what: str) -> None:
    """Raises DataError unless no turn is empty and the last is of the user or of a tool. what: name in messages."""
    for index, message in enumerate(prompt):
        if message.is_empty:
            which = f"turn {index} ({message.role}) of " if len(prompt) > 1 else ""
            raise DataError(f"{which}{what} is empty", advice="fix the record")
    if not prompt or prompt[-1].role not in ASKING_ROLES:
        raise DataError(f"{what} does not end with the user", advice="a reply answers the user; fix the record")


def strip_messages(messages: Sequence[Message]) -> list[Message]:
    """The messages without white space at the ends of their texts, and without those that are then empty."""
    stripped = [replace(message, text=message.text.strip()) for message in messages]
    return [message for message in stripped if not message.is_empty]
