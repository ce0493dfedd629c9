"""Keeping token trees within a length: long threads dropped, cut, or an error. What is cut is counted."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np

from tunesmith.errors import DataError
from tunesmith.text.long_threads import Shortening, extent, thread_lengths, without_threads
from tunesmith.text.token_tree import TokenTree

Policy: TypeAlias = Literal["drop", "right", "left", "window", "error"]


@dataclass(frozen=True, slots=True)
class Rejected:
    """A tree that cannot be trained on. too_long: truncation left no target. no_target: it never had one."""

    reason: Literal["too_long", "no_target"]


def truncate(tree: TokenTree, limit: int, policy: Policy, place: str = "", opening: int = 0) -> TokenTree | Rejected:
    """Make every root-to-leaf thread of ``tree`` at most ``limit`` tokens long.

    drop: longer threads go, and with them the tokens that are on no other thread. right: tokens from position ``limit``
    on go, a target may lose its end. left, window: the tree stays whole, for its long threads are cut as examples of their
    own when it is laid out (``long_threads.shorten``, with the same ``opening``). error: DataError that names ``place``.
    The result's ``cut`` counts tokens lost; for left and window, those that evaluation does not lay out.
    """
    assert limit > 0, limit
    if not len(tree.spans):
        return Rejected("no_target")
    lengths = thread_lengths(tree)
    longest = int(lengths.max())
    if longest <= limit:
        return tree
    if policy == "error":
        advice = "raise the limit, or let long threads be dropped or cut"
        raise DataError(f"a thread of {longest} tokens; the limit is {limit}", where=place, advice=advice)
    if policy == "left" or policy == "window":
        found = extent(tree, Shortening(policy, limit, opening))
        shorter: TokenTree | None = replace(tree, cut=tree.cut + len(tree.ids) - found.kept) if found.targets else None
    elif policy == "drop":
        rest = without_threads(tree, lengths > limit)
        shorter = None if rest is None else rest.tree
    else:
        shorter = _cut_right(tree, limit - np.asarray(tree.offsets()))
    return shorter if shorter is not None and len(shorter.spans) else Rejected("too_long")


def _cut_right(tree: TokenTree, room: np.ndarray[tuple[int], np.dtype[np.int64]]) -> TokenTree:
    """Without the tokens of every segment from ``room`` (its own share of the limit) on."""
    starts, ends, parents = tree.segments.T
    sizes = np.clip(ends - starts, 0, np.maximum(room, 0))
    place = np.arange(len(tree.ids)) - np.repeat(starts, ends - starts)
    stays = place < np.repeat(sizes, ends - starts)
    new_index = np.cumsum(stays) - 1
    lasts = starts + sizes  # where every segment ends now, in old numbers
    spans = tree.spans.copy()
    spans[:, 1] = np.minimum(spans[:, 1], np.repeat(lasts, ends - starts)[spans[:, 0]])
    spans = spans[spans[:, 1] > spans[:, 0]]
    spans[:, 0], spans[:, 1], spans[:, 2] = (
        new_index[spans[:, 0]],
        new_index[spans[:, 1] - 1] + 1,
        new_index[spans[:, 2]],
    )
    filled = sizes > 0
    numbers = np.cumsum(filled) - 1
    totals = np.cumsum(sizes[filled])
    above = np.where(parents[filled] >= 0, numbers[parents[filled]], -1)
    segments = np.stack([totals - sizes[filled], totals, above], axis=1).astype(np.int32)
    ids = tree.ids[stays]
    return TokenTree(ids, segments, spans, tree.threads, tree.cut + len(tree.ids) - len(ids))
