"""The batch of causal models: one packed row of tokens, which token sees which, and the list of targets.

There is no padding, no attention mask and no label shift. Token i attends to token j exactly when ``j <= i <
until[j]``: causal attention within a segment, attention to all tokens of its ancestors, none to siblings or other
examples.

The shift by one between a target and the token that it is predicted from is made here, in ``_find_targets``, only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tunesmith.batch.example import Example, Replies, Weighting, collect_replies, concatenate, concatenate_columns
from tunesmith.batch.moving import Change, move
from tunesmith.text.tokens.token_tree import TokenTree

Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Layout:
    """The segments of a packed row of T tokens, in order and without gaps.

    sizes: tokens of each segment.
    ancestors: for each segment the segments that it attends to apart from itself, root first.
    trees: tokens of each example, for dropout noise that belongs to one example.
    until: int64 [T], token i attends to token j exactly when ``j <= i < until[j]``.
    """

    sizes: tuple[int, ...]
    ancestors: tuple[tuple[int, ...], ...]
    trees: tuple[int, ...]
    until: Tensor

    @property
    def tokens(self) -> int:
        """T, the number of tokens in the row."""
        return sum(self.sizes)

    @property
    def branches(self) -> bool:
        """Whether any segment has ancestors; if none has, every segment is a whole thread."""
        return any(self.ancestors)


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """One micro-batch of T tokens, N targets and R replies, all tensors on one device.

    ids: int64 [T], token ids.
    positions: int64 [T], the position of each token in its thread.
    layout: the segments of the row.
    source: int64 [N], index of the token whose hidden state predicts the target.
    target: int64 [N], the token id to be predicted.
    weight: float32 [N], how often the target counts.
    owner: int64 [N], the reply that the target belongs to, numbered through the batch.
    blocks: int64 [N], the group of replies that each target belongs to; empty without ranked replies. It stays on the
        host.
    examples: number of each example in its store.
    seeds: seed of the dropout noise of each example.
    replies: the ranked replies.
    columns: name -> float32 [N] or [R], known before the step (``batch.columns``).
    """

    ids: Tensor
    positions: Tensor
    layout: Layout
    source: Tensor
    target: Tensor
    weight: Tensor
    owner: Tensor
    blocks: Tensor
    examples: tuple[int, ...]
    seeds: tuple[int, ...]
    replies: Replies
    columns: Mapping[str, Tensor]

    @property
    def tokens(self) -> int:
        """T, the number of tokens."""
        return int(self.ids.numel())

    @property
    def targets(self) -> int:
        """N, the number of targets."""
        return int(self.target.numel())

    def to(self, device: torch.device) -> PackedBatch:
        """The same batch on another device."""
        return self._changed(lambda tensor: move(tensor, device))

    def pinned(self) -> PackedBatch:
        """The same batch in pinned host memory, from which a GPU copies without the processor. It needs CUDA."""
        return self._changed(Tensor.pin_memory)

    def _changed(self, change: Change) -> PackedBatch:
        return replace(
            self,
            ids=change(self.ids),
            positions=change(self.positions),
            layout=replace(self.layout, until=change(self.layout.until)),
            source=change(self.source),
            target=change(self.target),
            weight=change(self.weight),
            owner=change(self.owner),
            replies=self.replies.changed(change),
            columns={name: change(values) for name, values in self.columns.items()},
        )


@dataclass(frozen=True, slots=True)
class _PackedTree:
    """One tree as it is laid out; all numbers count from the beginning of the tree. Fields as in ``PackedBatch``.

    sizes, ancestors, until: as in ``Layout``.
    owners: how many replies own targets.
    """

    sizes: tuple[int, ...]
    ancestors: list[tuple[int, ...]]
    until: Integers
    source: Integers
    target: NDArray[np.int32]
    weight: NDArray[np.float32]
    owner: Integers
    owners: int


def _pack_tree(tree: TokenTree, weighting: Weighting) -> _PackedTree:
    sizes = (tree.segments[:, 1] - tree.segments[:, 0]).astype(np.int64)
    source, target, span = _find_targets(tree.spans)
    weight = tree.spans[span, 4] if weighting == "threads" else np.ones(len(span))
    messages, owner = np.unique(tree.spans[:, 3], return_inverse=True)
    return _PackedTree(
        sizes=tuple(sizes.tolist()),
        ancestors=_find_ancestors(tree.segments),
        until=np.repeat(_find_subtree_ends(tree.segments), sizes),
        source=source,
        target=tree.ids[target],
        weight=weight.astype(np.float32),
        owner=owner[span],
        owners=len(messages),
    )


def _find_ancestors(segments: NDArray[np.int32]) -> list[tuple[int, ...]]:
    """For every segment the segments above it, root first."""
    found: list[tuple[int, ...]] = []
    for parent in segments[:, 2].tolist():
        found.append((*found[parent], parent) if parent >= 0 else ())
    return found


def _find_subtree_ends(segments: NDArray[np.int32]) -> Integers:
    """For every segment the index of the token after the last one of its subtree."""
    ends = segments[:, 1].astype(np.int64)
    for index in range(len(segments) - 1, 0, -1):
        parent = int(segments[index, 2])
        if parent >= 0:
            ends[parent] = max(ends[parent], ends[index])
    return ends


def _find_targets(spans: NDArray[np.int32]) -> tuple[Integers, Integers, Integers]:
    """(index of the source, index of the target, span) of every target, int64 [N] each.

    The first token of a span is predicted from the source of the span, every other one from the token before it.
    """
    sizes = (spans[:, 1] - spans[:, 0]).astype(np.int64)
    span = np.repeat(np.arange(len(spans)), sizes)
    begins = np.cumsum(sizes) - sizes
    target = np.arange(int(sizes.sum())) - begins[span] + spans[span, 0]
    source = target - 1
    source[begins[sizes > 0]] = spans[sizes > 0, 2]
    return source, target, span


def assemble_packed(examples: Sequence[Example], weighting: Weighting) -> PackedBatch:
    """Lay out the trees of the examples one after another in one row.

    weighting: "threads" gives a target the number of root-to-leaf threads through it as its weight, so that its
        gradient is that of training every thread separately; "messages" gives every target weight 1.
    """
    trees = [example.tree for example in examples]
    packed = [_pack_tree(tree, weighting) for tree in trees]
    sizes: list[int] = []
    ancestors: list[tuple[int, ...]] = []
    until, source, owner = list[Integers](), list[Integers](), list[Integers]()
    token_offset = owner_offset = 0
    for tree, each in zip(trees, packed, strict=True):
        segment_offset = len(sizes)
        ancestors.extend(tuple(segment + segment_offset for segment in path) for path in each.ancestors)
        sizes.extend(each.sizes)
        until.append(each.until + token_offset)
        source.append(each.source + token_offset)
        owner.append(each.owner + owner_offset)
        token_offset += len(tree.ids)
        owner_offset += each.owners
    owners, replies = concatenate(owner, np.int64), collect_replies(trees)
    return PackedBatch(
        ids=concatenate([tree.ids for tree in trees], np.int64),
        positions=concatenate([tree.positions() for tree in trees], np.int64),
        layout=Layout(
            sizes=tuple(sizes),
            ancestors=tuple(ancestors),
            trees=tuple(len(tree.ids) for tree in trees),
            until=concatenate(until, np.int64),
        ),
        source=concatenate(source, np.int64),
        target=concatenate([each.target for each in packed], np.int64),
        weight=concatenate([each.weight for each in packed], np.float32),
        owner=owners,
        blocks=replies.blocks(owners),
        examples=tuple(example.number for example in examples),
        seeds=tuple(example.seed for example in examples),
        replies=replies,
        columns=concatenate_columns(examples),
    )


def thread_ends(trees: Sequence[TokenTree]) -> Tensor:
    """int64 [threads]: the index in the packed row of the last token of each root-to-leaf thread, depth-first."""
    ends, token_offset = list[int](), 0
    for tree in trees:
        ends += [token_offset + int(tree.segments[end, 1]) - 1 for end in tree.ends()]
        token_offset += len(tree.ids)
    return torch.tensor(ends, dtype=torch.int64)


def collate_packed(examples: Iterable[Example], weighting: Weighting, tokens: int) -> Iterator[PackedBatch]:
    """Split the examples of a step, in order, into batches of at most ``tokens`` tokens.

    An example with more tokens is a batch alone.
    """
    waiting: list[Example] = []
    filled = 0
    for example in examples:
        size = len(example.tree.ids)
        if waiting and filled + size > tokens:
            yield assemble_packed(waiting, weighting)
            waiting, filled = [], 0
        waiting.append(example)
        filled += size
    if waiting:
        yield assemble_packed(waiting, weighting)
