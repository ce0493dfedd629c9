"""The one batch: a flat row of tokens, who sees whom, and the list of what is trained.

There is no padding, no attention mask and no label shift. Token i sees token j exactly when ``j <= i < until[j]``:
causal attention within a segment, full sight of all ancestors, no sight of a sibling or of another example.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor


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
class Replies:
    """What of a batch is ranked, aligned with the numbers of its owners; R is 0 where nothing is.

    group: int64 [R], numbered through the batch: replies to the same message. rank: int64 [R], the lowest is the best.
    score: float32 [R], as the data give it, or NaN. end: int64 [R], the last token of the reply in the flat row, from which
    a reward model reads its score (0 in batches of pairs, which reward models do not read).
    """

    group: Tensor
    rank: Tensor
    score: Tensor
    end: Tensor

    def __len__(self) -> int:
        return len(self.group)

    def to(self, device: torch.device) -> Replies:
        return Replies(self.group.to(device), self.rank.to(device), self.score.to(device), self.end.to(device))


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
