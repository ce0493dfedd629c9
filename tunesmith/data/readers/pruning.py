"""Taking messages out of a tree: what fails goes with everything below it, and so does a question that nobody answered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from tunesmith.data.readers.reader import Outcome, Pruned, Rejected
from tunesmith.text.tree import Tree

UNANSWERED = "not answered"


def spread(parents: Sequence[int], own: Sequence[str], answers: Sequence[bool]) -> list[str]:
    """For every message why it goes, or nothing.

    parents: as in ``Tree``, -1 for the root. own: why a message goes by itself, or nothing. answers: which messages are by
    the assistant; one that has none of these in or below it, once all that fail are gone, is not answered.
    """
    reasons: list[str] = []
    for parent, reason in zip(parents, own, strict=True):
        reasons.append((reasons[parent] if parent >= 0 else "") or reason)
    answered = [False] * len(reasons)
    for index in range(len(reasons) - 1, -1, -1):
        if not reasons[index] and (answered[index] or answers[index]):
            answered[index] = True
            if index:
                answered[parents[index]] = True
    return [reason or ("" if stays else UNANSWERED) for reason, stays in zip(reasons, answered, strict=True)]


def prune(tree: Tree, own: Sequence[str]) -> Outcome:
    """The tree without the messages that fail. own: why each goes, or nothing.

    A tree in which no message fails is left as it is. One without an answer left is rejected for the first reason.
    """
    if not any(own):
        return tree
    reasons = spread(tree.parents, own, [message.role == "assistant" for message in tree.messages])
    kept = [index for index, reason in enumerate(reasons) if not reason]
    if not kept:
        return Rejected(next(reason for reason in own if reason))
    place = {index: position for position, index in enumerate(kept)} | {-1: -1}
    shorter = replace(
        tree,
        messages=tuple(tree.messages[index] for index in kept),
        parents=tuple(place[tree.parents[index]] for index in kept),
    )
    return Pruned(shorter, Counter(reason for reason in reasons if reason))
