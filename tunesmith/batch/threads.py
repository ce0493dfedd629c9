"""A token tree split into root-to-leaf threads, each a tree of one segment: the reference for proofs of the tree."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tunesmith.text.tokens.token_tree import TokenTree


@dataclass(frozen=True, slots=True)
class Thread:
    """One root-to-leaf thread of a tree.

    tree: the thread as a tree of one segment.
    targets: int64 [n], index of each of its targets in the list of targets of the whole tree.
    """

    tree: TokenTree
    targets: NDArray[np.int64]


def split_into_threads(tree: TokenTree, *, once: bool = False) -> list[Thread]:
    """All root-to-leaf threads, in depth-first order.

    The targets of a shared message are targets of each thread through it. So training all threads once is what the
    weighting "threads" does in one pass.
    once: a shared message is a target only in the first thread through it (the weighting "messages"), and threads
        without targets are left out.
    """
    parents = tree.segments[:, 2].tolist()
    inner = set(parents)
    sizes = (tree.spans[:, 1] - tree.spans[:, 0]).astype(np.int64)
    begins = np.cumsum(sizes) - sizes
    used: set[int] = set()
    threads = []
    for leaf in range(len(parents)):
        if leaf in inner:
            continue
        thread, spans = _thread(tree, _path_to(leaf, parents), begins, sizes, used)
        if once:
            used.update(spans)
        if spans or not once:
            threads.append(thread)
    return threads


def _path_to(leaf: int, parents: list[int]) -> list[int]:
    """The segments from the root to a leaf."""
    path = [leaf]
    while parents[path[-1]] >= 0:
        path.append(parents[path[-1]])
    return path[::-1]


def _thread(
    tree: TokenTree, path: list[int], begins: NDArray[np.int64], sizes: NDArray[np.int64], used: set[int]
) -> tuple[Thread, list[int]]:
    """One thread and the numbers of its spans, without those in ``used``.

    path: its segments, root first.
    begins, sizes: int64 [number of spans], where the targets of each span begin in the list of targets, and how many
        it has.
    """
    indices = np.concatenate([np.arange(*tree.segments[segment, :2]) for segment in path])
    place = np.full(len(tree.ids), -1, np.int64)
    place[indices] = np.arange(len(indices))
    chosen = [number for number, span in enumerate(tree.spans) if place[span[0]] >= 0 and number not in used]
    spans = tree.spans[chosen].copy()
    spans[:, 1] = place[spans[:, 1] - 1] + 1
    spans[:, 0], spans[:, 2], spans[:, 4] = place[spans[:, 0]], place[spans[:, 2]], 1
    segments = np.array([[0, len(indices), -1]], np.int32)
    targets = [np.arange(begins[number], begins[number] + sizes[number]) for number in chosen]
    joined = np.concatenate(targets) if targets else np.empty(0, np.int64)
    return Thread(TokenTree(tree.ids[indices], segments, spans, 1, 0), joined), chosen
