"""Ranked replies: which messages of a tree are compared, and what is left of the comparison after truncation."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from tunesmith.text.token_tree import Integers, Scores, TokenTree
from tunesmith.text.tree import Tree


class RankedReply(NamedTuple):
    """message: its number. group: the number of the message that it answers. score: NaN where the data give none."""

    message: int
    group: int
    rank: int
    score: float


def ranked_replies(tree: Tree) -> list[RankedReply]:
    """The assistant messages of a tree that have a rank, each beside one with another rank, in order.

    ``Message.trained = False`` keeps a reply out.
    """
    groups: dict[int, list[RankedReply]] = defaultdict(list)
    for index, (message, parent) in enumerate(zip(tree.messages, tree.parents, strict=True)):
        if message.role == "assistant" and message.rank is not None and message.trained is not False:
            score = float("nan") if message.score is None else message.score
            groups[parent].append(RankedReply(index, parent, message.rank, score))
    compared = [reply for group in groups.values() if len({reply.rank for reply in group}) > 1 for reply in group]
    return sorted(compared)


def reply_table(replies: Sequence[RankedReply]) -> tuple[Integers, Scores]:
    """``TokenTree.replies`` and ``TokenTree.scores``."""
    table = np.array([reply[:3] for reply in replies], np.int32).reshape(-1, 3)
    return table, np.array([reply.score for reply in replies], np.float32)


def still_ranked(tree: TokenTree) -> TokenTree | None:
    """The tree with what can still be compared after truncation, or None if nothing can.

    A reply that lost all its tokens goes; so do replies of one group that read the same (cut to the same beginning, or different
    in white space only) though they have different ranks, since they say nothing; and a group in which no two ranks are left.
    The tokens of what goes are still read.
    """
    contents: dict[int, list[int]] = defaultdict(list)
    for start, end, _, message, _ in tree.spans.tolist():
        contents[message] += tree.ids[start:end].tolist()
    kept = sorted(_comparable(tree, contents))
    if len(kept) == len(tree.replies):
        return tree
    if not kept:
        return None
    messages = tree.replies[kept, 0]
    spans = tree.spans[np.isin(tree.spans[:, 3], messages)]
    return replace(tree, spans=spans, replies=tree.replies[kept], scores=tree.scores[kept])


def _comparable(tree: TokenTree, contents: dict[int, list[int]]) -> Iterator[int]:
    """The rows of ``tree.replies`` that stay."""
    rows: dict[int, list[int]] = defaultdict(list)
    for row, (message, group, _) in enumerate(tree.replies.tolist()):
        if contents.get(message):
            rows[group].append(row)
    for group in rows.values():
        ranks: dict[tuple[int, ...], set[int]] = defaultdict(set)
        for row in group:
            ranks[tuple(contents[int(tree.replies[row, 0])])].add(int(tree.replies[row, 2]))
        clear = [row for row in group if len(ranks[tuple(contents[int(tree.replies[row, 0])])]) == 1]
        if len({int(tree.replies[row, 2]) for row in clear}) > 1:
            yield from clear
