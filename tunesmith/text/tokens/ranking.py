"""Ranked replies: which messages of a tree are compared, and what is left of the comparison after truncation."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from tunesmith.text.targets import RankedReply
from tunesmith.text.tokens.token_tree import Integers, Scores, TokenTree


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
