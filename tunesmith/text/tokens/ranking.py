"""Ranked replies of a token tree: their table, and which of them can still be compared after truncation."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from tunesmith.text.targets import RankedReply
from tunesmith.text.tokens.token_tree import Integers, Scores, TokenTree


def reply_table(replies: Sequence[RankedReply]) -> tuple[Integers, Scores]:
    """Return ``TokenTree.replies``, int32 [R, 3], and ``TokenTree.scores``, float32 [R]."""
    table = np.array([reply[:3] for reply in replies], np.int32).reshape(-1, 3)
    return table, np.array([reply.score for reply in replies], np.float32)


def drop_incomparable_replies(tree: TokenTree) -> TokenTree | None:
    """Remove the replies that cannot be compared any more from the rankings of a truncated tree.

    Removed are replies that lost all their tokens; replies of one group that have the same tokens but different ranks
    (cut to the same beginning, or different in white space only), because their order contains no information; and
    groups in which all ranks are equal. The tokens of removed replies stay in the tree as context.

    Returns None if no reply can be compared.
    """
    contents: dict[int, list[int]] = defaultdict(list)
    for start, end, _, message, _ in tree.spans.tolist():
        contents[message] += tree.ids[start:end].tolist()
    kept = sorted(_comparable_rows(tree, contents))
    if len(kept) == len(tree.replies):
        return tree
    if not kept:
        return None
    messages = tree.replies[kept, 0]
    spans = tree.spans[np.isin(tree.spans[:, 3], messages)]
    return replace(tree, spans=spans, replies=tree.replies[kept], scores=tree.scores[kept])


def _comparable_rows(tree: TokenTree, contents: Mapping[int, list[int]]) -> Iterator[int]:
    """Yield the rows of ``tree.replies`` that can be compared. contents: the target tokens of every message."""
    groups: dict[int, list[tuple[int, int, tuple[int, ...]]]] = defaultdict(list)  # group -> row, rank, tokens
    for row, (message, group, rank) in enumerate(tree.replies.tolist()):
        if contents.get(message):
            groups[group].append((row, rank, tuple(contents[message])))
    for replies in groups.values():
        ranks: dict[tuple[int, ...], set[int]] = defaultdict(set)
        for _, rank, tokens in replies:
            ranks[tokens].add(rank)
        consistent = [(row, rank) for row, rank, tokens in replies if len(ranks[tokens]) == 1]
        if len({rank for _, rank in consistent}) > 1:
            yield from (row for row, _ in consistent)
