"""The one batch: a flat row of tokens, who sees whom, and the list of what is trained.

There is no padding, no attention mask and no label shift. Token i sees token j exactly when ``j <= i < until[j]``:
causal attention within a segment, full sight of all ancestors, no sight of a sibling or of another example.

The shift by one is made here, in ``_targets``, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tunesmith.batch.example import Example, Replies, Weighting, joined_columns, ranked, tensor_of
from tunesmith.text.tokens.token_tree import TokenTree

Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Layout:
    """The segments of a flat row of ``tokens`` tokens, in order and without gaps.

    sizes[s]: tokens in segment s. ancestors[s]: the segments that it sees besides itself, root first.
    trees[k]: tokens in example k, for draws that belong to one example. until: int64 [tokens].
    """

    sizes: tuple[int, ...]
    ancestors: tuple[tuple[int, ...], ...]
    trees: tuple[int, ...]
    until: Tensor

    @property
    def tokens(self) -> int:
        return sum(self.sizes)

    @property
    def branches(self) -> bool:
        """Whether any segment has ancestors; if none has, every segment is one whole thread."""
        return any(self.ancestors)


@dataclass(frozen=True, slots=True)
class Batch:
    """One micro-batch of T tokens and N targets, all tensors on one device.

    ids, positions: int64 [T]. source: int64 [N], the token whose hidden state predicts. target: int64 [N], the id to be
    predicted. weight: float32 [N]. owner: int64 [N], which reply (numbered through the batch) a target belongs to.
    examples: the numbers of the examples in the store. seeds: one for each example, from which its own noise is drawn.
    replies: what is compared. columns: what is known of every target or of every reply beforehand, by name: float32 [N] or [R].
    """

    ids: Tensor
    positions: Tensor
    layout: Layout
    source: Tensor
    target: Tensor
    weight: Tensor
    owner: Tensor
    examples: tuple[int, ...]
    seeds: tuple[int, ...]
    replies: Replies
    columns: Mapping[str, Tensor]

    @property
    def tokens(self) -> int:
        return int(self.ids.numel())

    @property
    def targets(self) -> int:
        return int(self.target.numel())

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device."""
        return replace(
            self,
            ids=self.ids.to(device),
            positions=self.positions.to(device),
            layout=replace(self.layout, until=self.layout.until.to(device)),
            source=self.source.to(device),
            target=self.target.to(device),
            weight=self.weight.to(device),
            owner=self.owner.to(device),
            replies=self.replies.to(device),
            columns={name: values.to(device) for name, values in self.columns.items()},
        )


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
    layout = Layout(
        tuple(sizes), tuple(ancestors), tuple(len(e.tree.ids) for e in examples), tensor_of(until, np.int64)
    )
    return Batch(
        ids=tensor_of(ids, np.int64),
        positions=tensor_of(positions, np.int64),
        layout=layout,
        source=tensor_of(source, np.int64),
        target=tensor_of(target, np.int64),
        weight=tensor_of(weight, np.float32),
        owner=tensor_of(owner, np.int64),
        examples=tuple(example.number for example in examples),
        seeds=tuple(example.seed for example in examples),
        replies=ranked([example.tree for example in examples]),
        columns=joined_columns(examples),
    )


def thread_ends(trees: Sequence[TokenTree]) -> torch.Tensor:
    """int64: where the threads of trees that are laid out one after another end, depth-first: the last token of each."""
    ends, tokens = list[int](), 0
    for tree in trees:
        ends += [tokens + int(tree.segments[end, 1]) - 1 for end in tree.ends()]
        tokens += len(tree.ids)
    return torch.tensor(ends, dtype=torch.int64)


def collate_packed(examples: Iterable[Example], weighting: Weighting, tokens: int) -> Iterator[Batch]:
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
