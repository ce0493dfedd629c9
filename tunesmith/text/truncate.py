"""Keeping token trees within a length: whole threads dropped, ends cut, or an error. What is cut is counted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from tunesmith.errors import DataError
from tunesmith.text.token_tree import TokenTree

Policy: TypeAlias = Literal["drop", "right", "error"]


@dataclass(frozen=True, slots=True)
class Rejected:
    """A tree that cannot be trained on. too_long: truncation left no target. no_target: it never had one."""

    reason: Literal["too_long", "no_target"]


def truncate(tree: TokenTree, limit: int, policy: Policy, place: str = "") -> TokenTree | Rejected:
    """Make every root-to-leaf thread of ``tree`` at most ``limit`` tokens long.

    drop: longer threads go, and with them the tokens that are on no other thread. right: tokens from position ``limit``
    on go, a target may lose its end. error: DataError that names ``place``. The result's ``cut`` counts tokens lost.
    """
    assert limit > 0, limit
    if not len(tree.spans):
        return Rejected("no_target")
    offsets = np.asarray(tree.offsets())
    lengths = offsets + tree.segments[:, 1] - tree.segments[:, 0]
    longest = int(lengths.max())
    if longest <= limit:
        return tree
    if policy == "error":
        advice = "raise the limit, or let long threads be dropped or cut"
        raise DataError(f"a thread of {longest} tokens; the limit is {limit}", where=place, advice=advice)
    shorter = _drop(tree, lengths > limit) if policy == "drop" else _cut_right(tree, limit - offsets)
    return shorter if shorter is not None and len(shorter.spans) else Rejected("too_long")


def _drop(tree: TokenTree, too_long: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> TokenTree | None:
    """Without the threads that end in a segment marked ``too_long``."""
    parents = tree.segments[:, 2].tolist()
    count = len(parents)
    kept, lost = [0] * count, [0] * count  # threads through every segment
    for end in tree.ends():
        (lost if too_long[end] else kept)[end] = 1
    for index in range(count - 1, -1, -1):
        if parents[index] >= 0:
            kept[parents[index]] += kept[index]
            lost[parents[index]] += lost[index]
    if not any(kept):
        return None
    sizes = tree.segments[:, 1] - tree.segments[:, 0]
    stays = np.repeat(np.asarray(kept) > 0, sizes)
    new_index = np.cumsum(stays) - 1
    owner = np.repeat(np.arange(count), sizes)
    spans = tree.spans[stays[tree.spans[:, 0]]].copy()
    spans[:, 4] -= np.asarray(lost, np.int32)[owner[spans[:, 0]]]
    last = new_index[spans[:, 1] - 1]
    spans[:, 0], spans[:, 1], spans[:, 2] = new_index[spans[:, 0]], last + 1, new_index[spans[:, 2]]
    segments = _merge_only_children(
        [(index, int(sizes[index]), parents[index]) for index in range(count) if kept[index]]
    )
    dropped = sum(lost[index] for index in range(count) if parents[index] < 0)
    ids = tree.ids[stays]
    return TokenTree(ids, segments, spans, tree.threads - dropped, tree.cut + len(tree.ids) - len(ids))


def _merge_only_children(kept: list[tuple[int, int, int]]) -> np.ndarray[tuple[int, int], np.dtype[np.int32]]:
    """The table of the segments that stay, from (old index, size, old parent); an only child becomes part of its parent."""
    children: dict[int, int] = {}
    for _, _, parent in kept:
        children[parent] = children.get(parent, 0) + 1
    rows: list[list[int]] = []
    places: dict[int, int] = {}
    total = 0
    for index, size, parent in kept:
        if parent >= 0 and children[parent] == 1:
            places[index] = places[parent]
            rows[places[index]][1] += size
        else:
            places[index] = len(rows)
            rows.append([total, total + size, places.get(parent, -1)])
        total += size
    return np.array(rows, np.int32).reshape(-1, 3)


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
