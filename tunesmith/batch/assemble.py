"""From token trees to batches. The shift by one is made here, in ``_targets``, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from tunesmith.batch.layout import Batch, Layout, Replies
from tunesmith.text.render import TokenTree

Weighting = Literal["threads", "messages"]
Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Example:
    """A token tree with its number in the store and the seed of its noise.

    columns: what is known beforehand of each of its targets, or of each of its ranked replies, in their order: float32.
    """

    number: int
    tree: TokenTree
    seed: int = 0
    columns: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)


def _ancestors(segments: NDArray[np.int32]) -> list[tuple[int, ...]]:
    """For every segment the segments above it, root first."""
    found: list[tuple[int, ...]] = []
    for parent in segments[:, 2].tolist():
        found.append((*found[parent], parent) if parent >= 0 else ())
    return found


def _until(segments: NDArray[np.int32]) -> Integers:
    """For every segment the index at which its subtree ends."""
    until = segments[:, 1].astype(np.int64)
    for index in range(len(segments) - 1, 0, -1):
        parent = int(segments[index, 2])
        if parent >= 0:
            until[parent] = max(until[parent], until[index])
    return until


def _targets(spans: NDArray[np.int32]) -> tuple[Integers, Integers, Integers]:
    """(source, target index, span) of every trained token: the first of a span is predicted from the span's source,
    every other one from the token before it."""
    sizes = (spans[:, 1] - spans[:, 0]).astype(np.int64)
    span = np.repeat(np.arange(len(spans)), sizes)
    begins = np.cumsum(sizes) - sizes
    target = np.arange(int(sizes.sum())) - begins[span] + spans[span, 0]
    source = target - 1
    source[begins[sizes > 0]] = spans[sizes > 0, 2]
    return source, target, span


def assemble(examples: Sequence[Example], weighting: Weighting) -> Batch:
    """Lay trees out one after another.

    weighting "threads" gives a target the number of root-to-leaf threads through it (the gradient of training every
    thread on its own), "messages" counts it once.
    """
    ids, positions, until, sizes, source, target, weight, owner = ([] for _ in range(8))  # type: ignore[var-annotated]
    ancestors: list[tuple[int, ...]] = []
    tokens = owners = 0
    for example in examples:
        tree = example.tree
        lengths = (tree.segments[:, 1] - tree.segments[:, 0]).astype(np.int64)
        ancestors.extend(tuple(index + len(sizes) for index in path) for path in _ancestors(tree.segments))
        positions.append(tree.positions())
        until.append(np.repeat(_until(tree.segments), lengths) + tokens)
        ids.append(tree.ids)
        from_token, to_token, span = _targets(tree.spans)
        source.append(from_token + tokens)
        target.append(tree.ids[to_token])
        through = tree.spans[span, 4] if weighting == "threads" else np.ones(len(span))
        weight.append(through.astype(np.float32))
        messages, place = np.unique(tree.spans[:, 3], return_inverse=True)
        owner.append(place[span] + owners)
        sizes.extend(lengths.tolist())
        tokens += len(tree.ids)
        owners += len(messages)
    layout = Layout(tuple(sizes), tuple(ancestors), tuple(len(e.tree.ids) for e in examples), _tensor(until, np.int64))
    return Batch(
        ids=_tensor(ids, np.int64),
        positions=_tensor(positions, np.int64),
        layout=layout,
        source=_tensor(source, np.int64),
        target=_tensor(target, np.int64),
        weight=_tensor(weight, np.float32),
        owner=_tensor(owner, np.int64),
        examples=tuple(example.number for example in examples),
        seeds=tuple(example.seed for example in examples),
        replies=ranked([example.tree for example in examples]),
        columns=joined_columns(examples),
    )


def ranked(trees: Sequence[TokenTree], *, flat: bool = True) -> Replies:
    """The ranked replies of trees that are laid out one after another. flat: in one row, so that they have ends."""
    groups, ends = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    tokens = found = 0
    for tree in trees:
        numbers, places = np.unique(tree.replies[:, 1], return_inverse=True)
        groups.append(places + found)
        if flat and len(tree.replies):
            last = {message: end - 1 for _, end, _, message, _ in tree.spans.tolist()}  # spans are in order
            ends.append(np.array([tokens + last[message] for message in tree.replies[:, 0].tolist()], np.int64))
        tokens, found = tokens + len(tree.ids), found + len(numbers)
    group = _tensor(groups, np.int64)
    return Replies(
        group=group,
        rank=_tensor([tree.replies[:, 2] for tree in trees], np.int64),
        score=_tensor([tree.scores for tree in trees], np.float32),
        end=_tensor(ends, np.int64) if flat else torch.zeros_like(group),
    )


def thread_ends(trees: Sequence[TokenTree]) -> torch.Tensor:
    """int64: where the threads of trees that are laid out one after another end, depth-first: the last token of each."""
    ends, tokens = list[int](), 0
    for tree in trees:
        ends += [tokens + int(tree.segments[end, 1]) - 1 for end in tree.ends()]
        tokens += len(tree.ids)
    return torch.tensor(ends, dtype=torch.int64)


def joined_columns(examples: Sequence[Example]) -> dict[str, torch.Tensor]:
    """The columns of all examples end to end; every example has the same ones."""
    names = examples[0].columns if examples else ()
    return {name: _tensor([example.columns[name] for example in examples], np.float32) for name in names}


def _tensor(parts: Sequence[NDArray[np.generic]], dtype: type[np.generic]) -> torch.Tensor:
    return torch.from_numpy(np.concatenate(parts).astype(dtype, copy=False))


def micro_batches(examples: Iterable[Example], weighting: Weighting, tokens: int) -> Iterator[Batch]:
    """Cut a step's examples, in order, into batches of at most ``tokens`` tokens; a longer example stands alone."""
    waiting: list[Example] = []
    filled = 0
    for example in examples:
        size = len(example.tree.ids)
        if waiting and filled + size > tokens:
            yield assemble(waiting, weighting)
            waiting, filled = [], 0
        waiting.append(example)
        filled += size
    if waiting:
        yield assemble(waiting, weighting)
