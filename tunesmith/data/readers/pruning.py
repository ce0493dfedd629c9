"""Dropping messages from a tree, each with everything below it, and with the prompts that are then not answered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from tunesmith.data.readers.reader import Filtered, ReadResult, ReadTree
from tunesmith.text.tree import Tree

UNANSWERED = "not answered"


def drop_reasons(parents: Sequence[int], reasons: Sequence[str], answers: Sequence[bool]) -> list[str]:
    """For every message why it is dropped in the end, or an empty text.

    parents: as in ``Tree``, -1 for the root.
    reasons: why a message is dropped for what it is itself, or an empty text.
    answers: which messages are by the assistant. A message that is not one and has none below it, once all that have a
        reason are dropped, is not answered.
    """
    found: list[str] = []
    for parent, reason in zip(parents, reasons, strict=True):
        found.append((found[parent] if parent >= 0 else "") or reason)
    answered = [False] * len(found)
    for index in range(len(found) - 1, -1, -1):
        if not found[index] and (answered[index] or answers[index]):
            answered[index] = True
            if index:
                answered[parents[index]] = True
    return [reason or ("" if kept else UNANSWERED) for reason, kept in zip(found, answered, strict=True)]


def prune(tree: Tree, reasons: Sequence[str]) -> ReadResult:
    """The tree without some messages, and without what depends on them.

    reasons: for every message why it is dropped, or an empty text.
    A tree in which every message is kept is not changed. One without an answer left is filtered for the first reason.
    """
    if not any(reasons):
        return ReadTree(tree)
    every = drop_reasons(tree.parents, reasons, [message.role == "assistant" for message in tree.messages])
    kept = [index for index, reason in enumerate(every) if not reason]
    if not kept:
        return Filtered(next(reason for reason in reasons if reason))
    position = {index: number for number, index in enumerate(kept)} | {-1: -1}
    smaller = replace(
        tree,
        messages=tuple(tree.messages[index] for index in kept),
        parents=tuple(position[tree.parents[index]] for index in kept),
    )
    return ReadTree(smaller, Counter(reason for reason in every if reason))
