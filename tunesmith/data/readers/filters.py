"""Filters that any source may have: what a message must be like to stay, whichever reader it came from."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

from tunesmith.data.readers.pruning import prune
from tunesmith.data.readers.reader import Outcome, Pruned, Rejected
from tunesmith.text.tree import Message, Tree


class LabelRange(NamedTuple):
    """Values of a label that stay, both ends included. None: no bound."""

    name: str
    least: float | None
    most: float | None


@dataclass(frozen=True, slots=True)
class Filters:
    """What stays.

    min_characters: of a reply of the assistant. max_characters: of any message, its context included. max_turns: messages
    of user and assistant on the way from the root. languages: declared ones; a message that declares none goes. labels:
    a message that lacks one of them goes. Messages of the system have no language and no labels, and stay.
    """

    min_characters: int = 0
    max_characters: int | None = None
    max_turns: int | None = None
    languages: tuple[str, ...] | None = None
    labels: tuple[LabelRange, ...] = ()


NO_FILTERS = Filters()


def filtered(outcome: Outcome, filters: Filters) -> Outcome:
    """What is left of the tree that a reader made; see ``pruning.prune``."""
    if isinstance(outcome, Rejected) or filters == NO_FILTERS:
        return outcome
    before, tree = (outcome.dropped, outcome.tree) if isinstance(outcome, Pruned) else ({}, outcome)
    depths = _turns(tree)
    found = prune(tree, [_failure(message, depths[index], filters) for index, message in enumerate(tree.messages)])
    if isinstance(found, Rejected) or not before:
        return found
    if isinstance(found, Pruned):
        return Pruned(found.tree, Counter(before) + Counter(found.dropped))
    return Pruned(found, before)


def _turns(tree: Tree) -> list[int]:
    """For every message how many turns of user and assistant lead to it, itself included."""
    turns: list[int] = []
    for message, parent in zip(tree.messages, tree.parents, strict=True):
        turns.append((turns[parent] if parent >= 0 else 0) + (message.role != "system"))
    return turns


def _failure(message: Message, turns: int, filters: Filters) -> str:
    """Why a message goes, or nothing."""
    if filters.max_characters is not None and len(message.text) + len(message.context) > filters.max_characters:
        return f"over {filters.max_characters:,} characters"
    if message.role == "system":
        return ""
    if message.role == "assistant" and len(message.text.strip()) < filters.min_characters:
        return f"reply under {filters.min_characters:,} characters"
    if filters.max_turns is not None and turns > filters.max_turns:
        return f"over {filters.max_turns:,} turns"
    if filters.languages is not None and message.lang not in filters.languages:
        return "no language" if message.lang is None else f"language {message.lang}"
    return next((failure for label in filters.labels if (failure := _outside(message, label))), "")


def _outside(message: Message, label: LabelRange) -> str:
    value = message.labels.get(label.name)
    if value is None:
        return f"no label {label.name}"
    if label.least is not None and value < label.least:
        return f"{label.name} under {label.least:g}"
    if label.most is not None and value > label.most:
        return f"{label.name} over {label.most:g}"
    return ""
