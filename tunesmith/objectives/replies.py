"""What losses over ranked replies share: the log-probability of a reply and the margins of preference pairs.

Shapes: N targets, R replies, P preference pairs in a batch.
"""

from __future__ import annotations

import torch
from torch import Tensor


def reply_log_probabilities(log_probability: Tensor, owner: Tensor, replies: int) -> tuple[Tensor, Tensor]:
    """(sums, lengths) over the targets of each reply.

    sums: [R] in the format of ``log_probability``, added up in float64; 0 for a reply without targets. They are
        rounded to that format because the sums of the reference are stored so: a policy that is its own reference
        differs from it by exactly 0.
    lengths: float64 [R], the number of targets, at least 1.

    log_probability: [N].
    owner: int64 [N], the reply of each target.
    replies: R.
    """
    sums = torch.zeros(replies, dtype=torch.float64, device=owner.device)
    lengths = sums.index_add(0, owner, torch.ones_like(owner, dtype=torch.float64))
    return sums.index_add(0, owner, log_probability.double()).to(log_probability.dtype), lengths.clamp(min=1.0)


def score_margins(score: Tensor, chosen: Tensor, rejected: Tensor, scale: float) -> Tensor:
    """float64 [P], ``scale`` times the difference of the scores in the data; 0 for scale 0, whatever the scores.

    score: float32 [R], NaN where there is none.
    chosen, rejected: int64 [P], the replies of each pair.
    """
    if not scale:
        return torch.zeros(len(chosen), dtype=torch.float64, device=score.device)
    return scale * (score[chosen].double() - score[rejected].double())
