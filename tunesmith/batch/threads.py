"""A token tree cut into its root-to-leaf threads, each a tree of one segment: what the tree has to be equal to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tunesmith.text.tokens.token_tree import TokenTree


@dataclass(frozen=True, slots=True)
class Thread:
    """tree: the thread alone. targets: int64, the numbers of its targets in the list of targets of the whole tree."""

    tree: TokenTree
    targets: NDArray[np.int64]


def linear_threads(tree: TokenTree, *, once: bool = False) -> list[Thread]:
    """Every root-to-leaf thread, in depth-first order.

    The targets of a shared message occur in each thread through it, so training all of them once is what the weighting
    "threads" does in one pass. once: a shared message is a target only in the first thread through it (the weighting
    "messages"), and a thread without targets is left out.
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
        thread, spans = _thread(tree, _path(parents, leaf), begins, sizes, used)
        if once:
            used.update(spans)
        if spans or not once:
            threads.append(thread)
    return threads


def _path(parents: list[int], leaf: int) -> list[int]:
    path = [leaf]
    while parents[path[-1]] >= 0:
        path.append(parents[path[-1]])
    return path[::-1]


def _thread(
    tree: TokenTree, path: list[int], begins: NDArray[np.int64], sizes: NDArray[np.int64], used: set[int]
) -> tuple[Thread, list[int]]:
    """One thread and the numbers of its spans, without those in ``used``."""
    where = np.concatenate([np.arange(*tree.segments[s, :2]) for s in path])
    place = np.full(len(tree.ids), -1, np.int64)
    place[where] = np.arange(len(where))
    chosen = [n for n, span in enumerate(tree.spans) if place[span[0]] >= 0 and n not in used]
    spans = tree.spans[chosen].copy()
    spans[:, 1] = place[spans[:, 1] - 1] + 1
    spans[:, 0], spans[:, 2], spans[:, 4] = place[spans[:, 0]], place[spans[:, 2]], 1
    segments = np.array([[0, len(where), -1]], np.int32)
    targets = [np.arange(begins[n], begins[n] + sizes[n]) for n in chosen]
    joined = np.concatenate(targets) if targets else np.empty(0, np.int64)
    return Thread(TokenTree(tree.ids[where], segments, spans, 1, 0), joined), chosen
