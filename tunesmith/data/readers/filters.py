"""Filters that any source may have: which messages are kept, whichever reader they come from."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

from tunesmith.data.readers.pruning import prune
from tunesmith.data.readers.reader import Filtered, ReadResult, ReadTree
from tunesmith.text.tree import Message, Tree


class LabelBounds(NamedTuple):
    """The values of a label that are kept.

    name: of the label.
    least, most: both included; None for no bound.
    """

    name: str
    least: float | None
    most: float | None


@dataclass(frozen=True, slots=True)
class MessageFilters:
    """Which messages are kept. Messages of the system have no language and no labels, and are kept.

    min_characters: of a reply of the assistant.
    max_characters: of any message, its context included.
    max_turns: messages of user and assistant on the path from the root.
    languages: declared ones; a message that declares none is dropped.
    labels: a message that lacks one of them is dropped.
    """

    min_characters: int = 0
    max_characters: int | None = None
    max_turns: int | None = None
    languages: tuple[str, ...] | None = None
    labels: tuple[LabelBounds, ...] = ()


NO_FILTERS = MessageFilters()


def apply_filters(result: ReadResult, filters: MessageFilters) -> ReadResult:
    """What is left of the tree of a reader; see ``pruning.prune``."""
    if isinstance(result, Filtered) or filters == NO_FILTERS:
        return result
    turns = _turns(result.tree)
    reasons = [_reason(message, turns[index], filters) for index, message in enumerate(result.tree.messages)]
    pruned = prune(result.tree, reasons)
    if isinstance(pruned, Filtered):
        return pruned
    return ReadTree(pruned.tree, Counter(result.dropped) + Counter(pruned.dropped))


def _turns(tree: Tree) -> list[int]:
    """For every message the number of turns of user and assistant up to it, itself included."""
    turns: list[int] = []
    for message, parent in zip(tree.messages, tree.parents, strict=True):
        turns.append((turns[parent] if parent >= 0 else 0) + (message.role != "system"))
    return turns


def _reason(message: Message, turns: int, filters: MessageFilters) -> str:
    """Why a message is dropped, or an empty text."""
    size = sum(map(len, (message.text, message.context, *message.extra_texts())))
    if filters.max_characters is not None and size > filters.max_characters:
        return f"over {filters.max_characters:,} characters"
    if message.role == "system":
        return ""
    short = message.role == "assistant" and len(message.text.strip()) < filters.min_characters
    if short and not message.tool_calls:
        return f"reply under {filters.min_characters:,} characters"
    if filters.max_turns is not None and turns > filters.max_turns:
        return f"over {filters.max_turns:,} turns"
    if filters.languages is not None and message.lang not in filters.languages:
        return "no language" if message.lang is None else f"language {message.lang}"
    return next((reason for label in filters.labels if (reason := _label_reason(message, label))), "")


def _label_reason(message: Message, bounds: LabelBounds) -> str:
    """Why a message is dropped for one of its labels, or an empty text."""
    value = message.labels.get(bounds.name)
    if value is None:
        return f"no label {bounds.name}"
    if bounds.least is not None and value < bounds.least:
        return f"{bounds.name} under {bounds.least:g}"
    if bounds.most is not None and value > bounds.most:
        return f"{bounds.name} over {bounds.most:g}"
    return ""
