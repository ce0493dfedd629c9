"""Tokens of several texts as one tree, in which every common beginning is stored once.

The answers to one question have the question in common, and answers may begin with the same tokens. The last token of a
text is only predicted and never read, so the tree does not contain it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from tunesmith.text.tokens.token_tree import Integers, TokenTree

NO_SPANS: Integers = np.zeros((0, 5), np.int32)


@dataclass(frozen=True, slots=True)
class ScoredRow:
    """One text, whose tokens from ``start`` on are scored.

    ids: token ids of the whole text.
    start: index of the first token that is scored; at least 1, since a token is predicted from the one before it.
    """

    ids: tuple[int, ...]
    start: int


@dataclass(frozen=True, slots=True, eq=False)
class Trie:
    """The tokens that are read to score some rows, and what is predicted from them.

    tree: the tokens that are read; it has no spans.
    sources: index of the token in the tree that predicts, for each of its N targets.
    targets: the token ids that are predicted. Rows that agree up to a target share it.
    places: for each row its targets, as indices into ``targets``.
    """

    tree: TokenTree
    sources: tuple[int, ...]
    targets: tuple[int, ...]
    places: tuple[tuple[int, ...], ...]


def build_trie(rows: Sequence[ScoredRow]) -> Trie:
    """The trie of the rows. Raises ValueError for a row without a token before the first that is scored."""
    for row in rows:
        if not 1 <= row.start < len(row.ids):
            raise ValueError(f"a row of {len(row.ids)} tokens cannot be scored from token {row.start} on")
    order = sorted(range(len(rows)), key=lambda index: rows[index].ids[:-1])
    texts = [rows[index].ids[:-1] for index in order]
    common = [0, *(shared_length(before, text) for before, text in pairwise(texts))]
    places, ids, segments = _lay_out(texts, common)
    found: dict[tuple[int, int], int] = {}
    read: list[tuple[int, ...]] = [()] * len(rows)
    for index, path in zip(order, places, strict=True):
        row = rows[index]
        read[index] = tuple(
            found.setdefault((path[place - 1], row.ids[place]), len(found)) for place in range(row.start, len(row.ids))
        )
    tree = TokenTree(
        np.array(ids, np.int32), np.array(segments, np.int32).reshape(-1, 3), NO_SPANS, threads=len(set(texts))
    )
    return Trie(tree, tuple(source for source, _ in found), tuple(target for _, target in found), tuple(read))


def shared_length(one: Sequence[int], other: Sequence[int]) -> int:
    """The number of tokens at the beginning that two texts have in common."""
    shorter = min(len(one), len(other))
    if one[:shorter] == other[:shorter]:
        return shorter
    low, high = 0, shorter  # the texts agree up to ``low`` and differ before ``high``
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if one[low:middle] == other[low:middle] else (low, middle)
    return low


def _lay_out(
    texts: Sequence[tuple[int, ...]], common: Sequence[int]
) -> tuple[list[list[int]], list[int], list[tuple[int, int, int]]]:
    """(for every text the places of its tokens, all tokens, the segments: start, end, parent).

    texts: in alphabetical order, so that texts with a common beginning are neighbours.
    common: for each text the number of tokens that it has in common with the one before it.
    """
    places: list[list[int]] = []
    ids: list[int] = []
    ends: list[tuple[int, int]] = []  # (depth, segment) of the segments on the path to the last text
    segments: list[list[int]] = []
    branches = [_branch_depths(texts, common, index) for index in range(len(texts))]
    for text, shared, depths in zip(texts, common, branches, strict=True):
        while ends and ends[-1][0] > shared:
            ends.pop()
        path = places[-1][:shared] if places else []
        depth = shared
        for end in depths:
            parent = ends[-1][1] if ends else -1
            segments.append([len(ids), len(ids) + end - depth, parent])
            path = [*path, *range(len(ids), len(ids) + end - depth)]
            ids.extend(text[depth:end])
            ends.append((end, len(segments) - 1))
            depth = end
        places.append(path)
    return places, ids, [(start, end, parent) for start, end, parent in segments]


def _branch_depths(texts: Sequence[tuple[int, ...]], common: Sequence[int], index: int) -> list[int]:
    """The depths at which the new segments of a text end: where a later text leaves it, and its own end."""
    depths: set[int] = set()
    least = len(texts[index])
    for later in range(index + 1, len(texts)):
        least = min(least, common[later])
        if least <= common[index]:
            break
        depths.add(least)
    return sorted(depths | ({len(texts[index])} if len(texts[index]) > common[index] else set()))
