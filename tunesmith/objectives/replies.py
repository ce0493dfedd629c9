"""What losses over ranked replies have in common: the log-probability of a reply, the pairs of a group, their margins."""

from __future__ import annotations

import torch
from torch import Tensor


def ordered_pairs(group: Tensor, rank: Tensor) -> tuple[Tensor, Tensor]:
    """(better, worse): int64 [P] each, the replies of every pair of one group whose ranks differ; ties form no pair.

    group, rank: int64 [R], a lower rank is better. In the order of the better reply, then of the worse one.
    """
    pairs = (group[:, None] == group[None, :]) & (rank[:, None] < rank[None, :])
    better, worse = pairs.nonzero(as_tuple=True)
    return better, worse


def reply_log_probabilities(log_probability: Tensor, owner: Tensor, replies: int) -> tuple[Tensor, Tensor]:
    """(sums [R] in the type of ``log_probability``, added up in double precision; lengths [R], float64, at least 1).

    log_probability: [N], one for each target. owner: int64 [N], its reply. replies: R. A reply without targets has sum 0.
    The sums go back to the given precision because that is how the sums of a reference are kept: a policy that is its
    reference differs from it by nothing.
    """
    sums = torch.zeros(replies, dtype=torch.float64, device=owner.device)
    lengths = sums.index_add(0, owner, torch.ones_like(owner, dtype=torch.float64))
    return sums.index_add(0, owner, log_probability.double()).to(log_probability.dtype), lengths.clamp(min=1.0)


def score_margins(score: Tensor, better: Tensor, worse: Tensor, scale: float) -> Tensor:
    """float64 [P]: ``scale`` times how much higher the data score the better reply; 0 for scale 0, whatever the scores.

    score: [R], NaN where there is none.
    """
    if not scale:
        return torch.zeros(len(better), dtype=torch.float64, device=score.device)
    return scale * (score[better].double() - score[worse].double())
