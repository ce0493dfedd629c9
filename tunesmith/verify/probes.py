"""What the self-test reads: token trees of all forms, laid out so that every attention kernel of a run is used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tunesmith.batch.example import Example
from tunesmith.batch.packed import PackedBatch, assemble_packed
from tunesmith.batch.threads import split_into_threads
from tunesmith.text.tokens.token_tree import TokenTree


@dataclass(frozen=True, slots=True)
class Probe:
    """A batch and where each root-to-leaf thread of its trees is in it.

    batch: on the host.
    tokens: for every thread int64, the indices of its tokens in the row.
    targets: for every thread int64, the indices of its targets in the list of targets.
    """

    batch: PackedBatch
    tokens: tuple[Tensor, ...]
    targets: tuple[Tensor, ...]


@dataclass(frozen=True, slots=True)
class Probes:
    """The same threads in two layouts.

    threads: each a tree of one segment.
    branching: a batch of the trees that they are of, which branch.
    linear: a batch of the threads one after another, without branches.
    """

    threads: tuple[TokenTree, ...]
    branching: Probe
    linear: Probe


def build_probes(tokens: int, longest: int) -> Probes:
    """A branching tree, and a thread of which only the end is a target, of fixed pseudo-random token ids.

    tokens: the ids are below it.
    longest: tokens of the thread.
    """
    trees = _probe_trees(tokens, longest)
    threads = tuple(thread.tree for tree in trees for thread in split_into_threads(tree))
    return Probes(threads, _lay_out(trees), _lay_out(threads))


def _lay_out(trees: Sequence[TokenTree]) -> Probe:
    batch = assemble_packed([Example(number, tree) for number, tree in enumerate(trees)], "threads")
    tokens, targets = list[Tensor](), list[Tensor]()
    first_token = first_target = 0
    for tree in trees:
        for end, thread in zip(tree.ends(), split_into_threads(tree), strict=True):
            tokens.append(torch.from_numpy(tree.thread(end).astype(np.int64)) + first_token)
            targets.append(torch.from_numpy(thread.targets) + first_target)
        first_token += len(tree.ids)
        first_target += int((tree.spans[:, 1] - tree.spans[:, 0]).sum())
    return Probe(batch, tuple(tokens), tuple(targets))


def _probe_trees(tokens: int, longest: int) -> tuple[TokenTree, TokenTree]:
    draw = np.random.Generator(np.random.Philox(7))
    sizes, parents = [7, 5, 3, 4, 6], [-1, 0, 1, 1, 0]
    ends = np.cumsum(sizes)
    segments = np.stack([ends - sizes, ends, np.array(parents)], axis=1).astype(np.int32)
    threads = [2, 1, 1, 1]
    spans = np.array(
        [
            [segments[s, 0], segments[s, 1], segments[segments[s, 2], 1] - 1, s, threads[s - 1]]
            for s in range(1, len(sizes))
        ],
        np.int32,
    )
    branching = TokenTree(_draw_ids(draw, int(ends[-1]), tokens), segments, spans, 3, 0)
    end = max(longest, 9)
    thread = TokenTree(
        _draw_ids(draw, end, tokens),
        np.array([[0, end, -1]], np.int32),
        np.array([[end - 5, end, end - 6, 0, 1]], np.int32),
        1,
        0,
    )
    return branching, thread


def _draw_ids(draw: np.random.Generator, count: int, tokens: int) -> NDArray[np.int32]:
    return draw.integers(0, tokens, count).astype(np.int32)
