"""What all readers of preferences share: a prompt and ranked replies become a tree, best reply first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from tunesmith.data.readers.reader import EMPTY, Option, Outcome, Pruned, Rejected, Settings, choice, natural
from tunesmith.draws import reply_choice
from tunesmith.errors import DataError
from tunesmith.text.tree import Message, Tree

PAIR_OPTIONS: Mapping[str, Option] = {
    "replies": choice("all", "best"),
    "ties": choice("keep", "drop", "error"),
    "on_equal": choice("error", "drop"),
    "empty": EMPTY,
}
LIST_OPTIONS: Mapping[str, Option] = {
    **PAIR_OPTIONS,
    "replies": choice("all", "best", "pair"),
    "seed": natural(0),
}


class Reply(NamedTuple):
    """One reply. order: the better, the lower; equal for ties. what: its name in messages, such as ``field 'chosen'``."""

    text: str
    order: float
    score: float | None
    what: str


def pair(
    settings: Settings, prompt: Sequence[Message], chosen: Reply, rejected: Reply, margin: float | None = None
) -> Outcome:
    """The tree of a prompt with a chosen and a rejected reply, whose order is that of the columns.

    margin: how much better the chosen one is; kept as the difference of the scores, and as the score of the chosen one (the
    other has 0) where nothing else is known. Options: ``replies`` all, or only the best, as a demonstration; ``ties`` of
    the scores: keep the order of the columns, drop the row, or an error; ``on_equal`` texts and ``empty`` texts: an error, or
    drop the row. Raises DataError also where the scores contradict the columns.
    """
    chosen, rejected = _scored(chosen, rejected, margin)
    for reply in (chosen, rejected):
        if not reply.text.strip():
            if settings.options["empty"] == "drop":
                return Rejected("empty reply")
            raise DataError(f"{reply.what} is empty", advice="mend the record, or set options.empty to drop")
    if chosen.text == rejected.text:
        if settings.options["on_equal"] == "drop":
            return Rejected("equal replies")
        what = f"{chosen.what} and {rejected.what} are equal"
        raise DataError(what, advice="there is nothing to prefer; remove the record, or set options.on_equal to drop")
    if chosen.score is not None and chosen.score == rejected.score and settings.options["ties"] != "keep":
        if settings.options["ties"] == "drop":
            return Rejected("equal scores")
        raise DataError(
            f"both replies have the score {chosen.score:g}",
            advice="set options.ties to keep or drop, or mend the record",
        )
    return _tree(settings, prompt, (chosen, rejected), Counter())


def _scored(chosen: Reply, rejected: Reply, margin: float | None) -> tuple[Reply, Reply]:
    """Both replies with the scores that can be known. Raises DataError where they contradict each other."""
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


def ranking(settings: Settings, prompt: Sequence[Message], replies: Sequence[Reply]) -> Outcome:
    """The tree of a prompt with any number of replies, the best first; replies of the same order share a rank.

    Options as for ``pair``, and: ``replies`` pair keeps the best and one of the worse ones, drawn by a hash of ``seed``, the
    prompt and the best reply; ``ties`` drop keeps the first of the replies that tie, ``on_equal`` drop the best of equal
    texts. A row in which no reply is better than another is turned away.
    """
    dropped: Counter[str] = Counter()
    kept: list[Reply] = []
    texts: dict[str, str] = {}
    for reply in sorted(replies, key=lambda reply: reply.order):
        if not reply.text.strip():
            _forgive(settings, "empty", f"{reply.what} is empty", dropped, "empty reply")
        elif reply.text in texts:
            what = f"{texts[reply.text]} and {reply.what} are equal"
            _forgive(settings, "on_equal", what, dropped, "equal reply")
        elif kept and kept[-1].order == reply.order and settings.options["ties"] != "keep":
            _forgive(settings, "ties", f"{kept[-1].what} and {reply.what} tie", dropped, "tied reply")
        else:
            kept.append(reply)
            texts[reply.text] = reply.what
    if not kept:
        return Rejected("no replies left")
    if settings.options["replies"] == "best":
        return _tree(settings, prompt, kept, dropped)
    if len(kept) < 2:
        return Rejected("fewer than two replies")
    if kept[0].order == kept[-1].order:
        return Rejected("all replies tie")
    if settings.options["replies"] == "pair":
        worse = [reply for reply in kept if reply.order > kept[0].order]
        drawn = worse[
            reply_choice(settings.options["seed"], [*(message.text for message in prompt), kept[0].text], len(worse))
        ]
        if len(kept) > 2:
            dropped["not of the pair"] = len(kept) - 2
        kept = [kept[0], drawn]
    return _tree(settings, prompt, kept, dropped)


def _forgive(settings: Settings, option: str, what: str, dropped: Counter[str], reason: str) -> None:
    """Count a fault if its option says ``drop``. Raises DataError if it does not."""
    if settings.options[option] != "drop":
        raise DataError(what, advice=f"mend the record, or set options.{option} to drop")
    dropped[reason] += 1


def _tree(settings: Settings, prompt: Sequence[Message], replies: Sequence[Reply], dropped: Counter[str]) -> Outcome:
    """The tree of prompt and replies, which are in order; ranks are dense. dropped: replies that are gone already."""
    if settings.options["replies"] == "best" and len(replies) > 1:
        dropped["not the best reply"] += len(replies) - 1
        replies = replies[:1]
    orders = sorted({reply.order for reply in replies})
    messages = [
        Message("assistant", reply.text, rank=orders.index(reply.order), score=reply.score) for reply in replies
    ]
    last = len(prompt) - 1
    tree = Tree((*prompt, *messages), (*range(-1, last), *[last] * len(messages)))
    return Pruned(tree, dropped) if dropped else tree


def asked(prompt: Sequence[Message], what: str) -> None:
    """A prompt that can be replied to: its turns say something and the last is the user's. Raises DataError."""
    for index, message in enumerate(prompt):
        if not message.text.strip():
            which = f"turn {index} ({message.role}) of " if len(prompt) > 1 else ""
            raise DataError(f"{which}{what} is empty", advice="mend or remove the record")
    if not prompt or prompt[-1].role != "user":
        raise DataError(f"{what} does not end with the user", advice="a reply answers the user; mend or remove it")


def stripped(messages: Sequence[Message]) -> list[Message]:
    """The same without white space at the ends of texts, and without messages that are empty then."""
    mended = [replace(message, text=message.text.strip()) for message in messages]
    return [message for message in mended if message.text]
