"""What is put into a batch of either kind: examples, their ranked replies and the columns known of them beforehand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tunesmith.text.tokens.token_tree import TokenTree

Weighting = Literal["threads", "messages"]


@dataclass(frozen=True, slots=True)
class Example:
    """A token tree with its number in the store and the seed of its noise.

    columns: what is known beforehand of each of its targets, or of each of its ranked replies, in their order: float32.
    """

    number: int
    tree: TokenTree
    seed: int = 0
    columns: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)


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
    group = tensor_of(groups, np.int64)
    return Replies(
        group=group,
        rank=tensor_of([tree.replies[:, 2] for tree in trees], np.int64),
        score=tensor_of([tree.scores for tree in trees], np.float32),
        end=tensor_of(ends, np.int64) if flat else torch.zeros_like(group),
    )


def joined_columns(examples: Sequence[Example]) -> dict[str, torch.Tensor]:
    """The columns of all examples end to end; every example has the same ones."""
    names = examples[0].columns if examples else ()
    return {name: tensor_of([example.columns[name] for example in examples], np.float32) for name in names}


def tensor_of(parts: Sequence[NDArray[np.generic]], dtype: type[np.generic]) -> torch.Tensor:
    """The arrays end to end as one tensor."""
    return torch.from_numpy(np.concatenate(parts).astype(dtype, copy=False))
