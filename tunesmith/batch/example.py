"""What a batch of either kind is made from: examples, their ranked replies and their columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tunesmith.batch.moving import Change
from tunesmith.text.tokens.token_tree import TokenTree

Weighting = Literal["threads", "messages"]
"""How often a target counts: once for every root-to-leaf thread through it, or once."""


@dataclass(frozen=True, slots=True)
class Example:
    """One token tree of a dataset.

    number: its number in the store.
    tree: the tokens, their segments and the spans that are targets.
    seed: seed of its dropout noise.
    columns: name -> float32 values known before the step, one for each target or for each ranked reply, in their order
        (``batch.columns``).
    """

    number: int
    tree: TokenTree
    seed: int = 0
    columns: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Replies:
    """The ranked replies of a batch, in the order of ``owner``; R is 0 for data without ranks.

    group: int64 [R], numbered through the batch; replies to the same message have the same number.
    rank: int64 [R], lower is better.
    score: float32 [R], as given by the data, NaN where there is none.
    end: int64 [R], index of the last token of each reply in the packed row, where a reward model reads its score; zeros
        in padded batches, which reward models do not read.
    chosen, rejected: int64 [P], the replies of every preference pair (``preference_pairs``).
    groups: the number of groups.
    compared: the number of groups with a pair.
    """

    group: Tensor
    rank: Tensor
    score: Tensor
    end: Tensor
    chosen: Tensor
    rejected: Tensor
    groups: int
    compared: int

    def __len__(self) -> int:
        return len(self.group)

    @classmethod
    def of(cls, group: Tensor, rank: Tensor, score: Tensor, end: Tensor) -> Replies:
        """The replies with their pairs, which are found here, on the host: a GPU would be waited for."""
        chosen, rejected = preference_pairs(group, rank)
        groups = int(group.max()) + 1 if len(group) else 0
        return cls(group, rank, score, end, chosen, rejected, groups, len(set(group[chosen].tolist())))

    def changed(self, change: Change) -> Replies:
        """The same replies after a change of every tensor, such as a move to another device."""
        return replace(
            self,
            group=change(self.group),
            rank=change(self.rank),
            score=change(self.score),
            end=change(self.end),
            chosen=change(self.chosen),
            rejected=change(self.rejected),
        )

    def blocks(self, owner: Tensor) -> Tensor:
        """int64 [N], the group of every target; empty where there are no replies. owner: int64 [N]."""
        return self.group[owner] if len(self) else owner.new_empty(0)


def preference_pairs(group: Tensor, rank: Tensor) -> tuple[Tensor, Tensor]:
    """(chosen, rejected), int64 [P] each: all pairs of replies of one group with different ranks.

    The pairs are in the order of the chosen reply, then of the rejected one.
    group: int64 [R], equal for replies to the same message.
    rank: int64 [R], lower is better.
    """
    pairs = (group[:, None] == group[None, :]) & (rank[:, None] < rank[None, :])
    chosen, rejected = pairs.nonzero(as_tuple=True)
    return chosen, rejected


def collect_replies(trees: Sequence[TokenTree], *, packed: bool = True) -> Replies:
    """The ranked replies of the trees of one batch.

    packed: whether the trees are laid out one after another in one row, so that replies have an ``end`` in it.
    """
    groups, ends = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    token_offset = group_offset = 0
    for tree in trees:
        messages, group = np.unique(tree.replies[:, 1], return_inverse=True)
        groups.append(group + group_offset)
        if packed and len(tree.replies):
            last = {message: end - 1 for _, end, _, message, _ in tree.spans.tolist()}  # spans are in order
            ends.append(np.array([token_offset + last[message] for message in tree.replies[:, 0].tolist()], np.int64))
        token_offset, group_offset = token_offset + len(tree.ids), group_offset + len(messages)
    group_numbers = concatenate(groups, np.int64)
    return Replies.of(
        group=group_numbers,
        rank=concatenate([tree.replies[:, 2] for tree in trees], np.int64),
        score=concatenate([tree.scores for tree in trees], np.float32),
        end=concatenate(ends, np.int64) if packed else torch.zeros_like(group_numbers),
    )


def concatenate_columns(examples: Sequence[Example]) -> dict[str, Tensor]:
    """Name -> float32 [N] or [R], the columns of all examples end to end; every example has the same columns."""
    names = examples[0].columns if examples else ()
    return {name: concatenate([example.columns[name] for example in examples], np.float32) for name in names}


def concatenate(parts: Sequence[NDArray[np.generic]], dtype: type[np.generic]) -> Tensor:
    """The arrays end to end along their first axis, as one tensor of ``dtype``."""
    return torch.from_numpy(np.concatenate(parts).astype(dtype, copy=False))
